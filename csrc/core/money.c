/* SPDX-License-Identifier: MIT
 *
 * Exact money. Doubles come in and go out as decimals, through digits and an exponent without a
 * decimal point ("86464e-6"): no locale changes what they mean. */
#include "dm.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 uint128;

#define AMOUNT_MAX       ((dm_amount)(~(uint128)0 >> 1))
#define AMOUNT_PLACES    18
#define PRICE_PLACES     12
#define PRICE_IN_AMOUNTS 1000000 /* one 1e-12 in 1e-18 */
#define SECONDS_MAX      0x1p63

DM_PRINTF(2, 3)
static dm_status refuse(dm_error *err, const char *format, ...)
{
    if (err == NULL)
        return DM_INVALID;
    *err = (dm_error){.code = DM_INVALID};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    return DM_INVALID;
}

static dm_status refuse_cost(dm_error *err)
{
    return refuse(err, "a cost must be at most 1.7e20 currency units; this one is above");
}

/* ---- decimals ---- */

#define DIGITS_MAX 39 /* of 128 bits */

/* The digits of `number` up to `end`; returns where they begin. 64 bits are faster to divide. */
static char *digits_put(char *end, uint128 number)
{
    const uint64_t part = 10000000000000000000u; /* 19 zeros */
    for (; number > UINT64_MAX; number /= part) {
        uint64_t rest = (uint64_t)(number % part);
        for (int i = 0; i < 19; i++, rest /= 10)
            *--end = (char)('0' + (int)(rest % 10));
    }
    uint64_t rest = (uint64_t)number;
    do {
        *--end = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest > 0);
    return end;
}

static double decimal_to_double(uint128 digits, int exponent)
{
    char text[DIGITS_MAX + 16];
    (void)snprintf(text + DIGITS_MAX, 16, "e%d", exponent);
    return strtod(digits_put(text + DIGITS_MAX, digits), NULL);
}

/* The shortest decimal that reads back as `value`, which is not negative: its digits, and the
 * power of ten that they count. 15 digits are enough for what was written with as many, and give
 * the shorter ones with zeros at their end; 17 are always enough. */
static uint64_t shortest_decimal(double value, int *exponent_out)
{
    for (int count = DBL_DIG;; count++) {
        char text[40], *at = text;
        (void)snprintf(text, sizeof text, "%.*e", count - 1, value);
        uint64_t digits = 0;
        for (; *at != 'e'; at++)
            if (*at >= '0' && *at <= '9') /* not the decimal point, whatever it looks like */
                digits = digits * 10 + (uint64_t)(*at - '0');
        *exponent_out = (int)strtol(at + 1, NULL, 10) - (count - 1);
        if (count == DBL_DIG + 2 || decimal_to_double(digits, *exponent_out) == value)
            return digits;
    }
}

static uint64_t drop_places(uint64_t digits, int places)
{
    if (places > 18) /* 17 digits are far less than half of the unit */
        return 0;
    uint64_t unit = 1;
    for (int i = 0; i < places; i++)
        unit *= 10;
    uint64_t whole = digits / unit, rest = digits % unit;
    return whole + (rest > unit / 2 || (rest == unit / 2 && whole % 2 == 1));
}

dm_status dm_price_parse(const char *field, double price, dm_amount *price_out, dm_error *err)
{
    if (!(price >= 0 && price <= DM_PRICE_MAX))
        return refuse(err, "%s must be a price from 0 to 1e26, not %g", field, price);
    int exponent = 0;
    uint64_t digits = shortest_decimal(price, &exponent);
    int places = -(exponent + PRICE_PLACES);
    uint128 value = places > 0 ? drop_places(digits, places) : digits;
    for (; places < 0; places++)
        value *= 10;
    *price_out = (dm_amount)value;
    return DM_OK;
}

double dm_price_to_double(dm_amount price)
{
    return decimal_to_double((uint128)price, -PRICE_PLACES);
}

static uint128 magnitude(dm_amount amount)
{
    return amount < 0 ? -(uint128)amount : (uint128)amount;
}

double dm_amount_to_double(dm_amount amount)
{
    double value = decimal_to_double(magnitude(amount), -AMOUNT_PLACES);
    return amount < 0 ? -value : value;
}

void dm_amount_to_text(dm_amount amount, char text[DM_AMOUNT_TEXT_SIZE])
{
    char digits[DIGITS_MAX + 1], *end = digits + DIGITS_MAX;
    char *at = digits_put(end, magnitude(amount)), *point = end - AMOUNT_PLACES;
    while (at >= point)
        *--at = '0';
    while (end > point && end[-1] == '0')
        end--;
    if (amount < 0)
        *text++ = '-';
    memcpy(text, at, (size_t)(point - at));
    text += point - at;
    if (end > point) {
        *text++ = '.';
        memcpy(text, point, (size_t)(end - point));
        text += end - point;
    }
    *text = '\0';
}

/* By division: where a compiler multiplies 128 bits with a check, it may ask for a library that is
 * not there (clang on Linux). */
dm_status dm_amount_add(dm_amount *sum, dm_amount amount, dm_int128 count, dm_error *err)
{
    if (count > 0 && amount > (AMOUNT_MAX - *sum) / count)
        return refuse_cost(err);
    *sum += amount * count;
    return DM_OK;
}

/* ---- runtime ---- */

/* sum += a * b on 64-bit limbs; false where the highest overflows. */
static bool limbs_add_product(uint64_t sum[4], uint128 a, uint128 b)
{
    uint64_t carry = 0;
    for (int i = 0; i < 2; i++) {
        carry = 0;
        for (int j = 0; i + j < 4; j++) {
            uint64_t factor = j < 2 ? (uint64_t)(b >> 64 * j) : 0;
            uint128 limb = (uint128)(uint64_t)(a >> 64 * i) * factor + sum[i + j] + carry;
            sum[i + j] = (uint64_t)limb;
            carry = (uint64_t)(limb >> 64);
        }
        if (carry != 0)
            return false;
    }
    return true;
}

dm_status dm_runtime_add(dm_runtime_sum *sum, double from_s, double to_s, dm_amount hourly_price,
                         dm_error *err)
{
    if (!(from_s >= 0 && from_s <= to_s && to_s < SECONDS_MAX))
        return refuse(err,
                      "a runtime must begin at 0 or later and end at its begin or later, "
                      "before 2^63 seconds, not go from %.17g to %.17g",
                      from_s, to_s);
    uint128 length = (uint128)(to_s * 0x1p64) - (uint128)(from_s * 0x1p64);
    dm_runtime_sum next = *sum;
    if (!limbs_add_product(next.limbs, length, (uint128)hourly_price))
        return refuse_cost(err);
    *sum = next;
    return DM_OK;
}

/* From the highest bits that a double has room for, the last of them set where others follow. */
double dm_runtime_seconds(const dm_runtime_sum *sum)
{
    int top = 3, scale = -64;
    while (top > 1 && sum->limbs[top] == 0)
        top--;
    uint128 value = (uint128)sum->limbs[top] << 64 | sum->limbs[top - 1];
    scale += 64 * (top - 1);
    for (int i = 0; i < top - 1; i++)
        value |= sum->limbs[i] != 0;
    return ldexp((double)value, scale);
}

dm_status dm_runtime_cost(const dm_runtime_sum *sum, dm_amount *cost_out, dm_error *err)
{
    uint64_t quotient[4], rest = 0;
    for (int i = 3; i >= 0; i--) {
        uint128 dividend = (uint128)rest << 64 | sum->limbs[i];
        quotient[i] = (uint64_t)(dividend / 3600);
        rest = (uint64_t)(dividend % 3600);
    }
    /* The lowest limb, and then the rest, are what lies behind the point. */
    uint128 whole = (uint128)quotient[2] << 64 | quotient[1];
    const uint64_t half = (uint64_t)1 << 63;
    whole += quotient[0] > half || (quotient[0] == half && (rest > 0 || whole % 2 == 1));
    if (quotient[3] != 0 || whole > (uint128)(AMOUNT_MAX / PRICE_IN_AMOUNTS))
        return refuse_cost(err);
    *cost_out = (dm_amount)whole * PRICE_IN_AMOUNTS;
    return DM_OK;
}
