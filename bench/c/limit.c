/* SPDX-License-Identifier: MIT
 *
 * What SQLite itself can do: prepared statements, one connection, nothing else. Each run prints
 * the seconds of the work alone.
 *
 *     limit rows FILE TABLE full|normal N    a commit for each row
 *     limit bulk FILE TABLE N                one transaction
 *     limit scan FILE TABLE                  newest first, into six arrays
 *     limit open FILE TABLE                  open, and read one row
 *     limit sums FILE TABLE                  count(*) and four sum()
 */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static sqlite3 *db;

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(int code, int wanted)
{
    if (code == wanted)
        return;
    (void)fprintf(stderr, "%s\n", sqlite3_errmsg(db));
    exit(1);
}

static void open_file(const char *path)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    check(sqlite3_open_v2(path, &db, flags, NULL), SQLITE_OK);
}

static sqlite3_stmt *prepare(const char *format, const char *table)
{
    sqlite3_stmt *stmt = NULL;
    char *sql = sqlite3_mprintf(format, table);
    check(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL), SQLITE_OK);
    sqlite3_free(sql);
    return stmt;
}

static void insert_rows(const char *table, int64_t count)
{
    sqlite3_stmt *stmt = prepare("INSERT INTO \"%w\"(timestamp,input_tokens,output_tokens,cache_n,"
                                 "prompt_n) VALUES(?,?,?,?,?)",
                                 table);
    for (int64_t i = 0; i < count; i++) {
        (void)sqlite3_bind_double(stmt, 1, 1.7e9 + (double)i);
        (void)sqlite3_bind_int64(stmt, 2, i % 30000);
        (void)sqlite3_bind_int64(stmt, 3, i % 2000);
        (void)sqlite3_bind_int64(stmt, 4, i % 10000);
        (void)sqlite3_bind_int64(stmt, 5, i % 20000);
        check(sqlite3_step(stmt), SQLITE_DONE);
        (void)sqlite3_reset(stmt);
    }
    (void)sqlite3_finalize(stmt);
}

static void run_rows(const char *table, const char *durability, int64_t count)
{
    char *pragma = sqlite3_mprintf("PRAGMA synchronous=%s", durability);
    check(sqlite3_exec(db, pragma, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(pragma);
    insert_rows(table, count);
}

static void run_bulk(const char *table, int64_t count)
{
    check(sqlite3_exec(db, "PRAGMA synchronous=FULL; BEGIN IMMEDIATE", NULL, NULL, NULL),
          SQLITE_OK);
    insert_rows(table, count);
    check(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
}

static void run_scan(const char *table)
{
    sqlite3_stmt *stmt = prepare("SELECT id,timestamp,input_tokens,output_tokens,cache_n,prompt_n"
                                 " FROM \"%w\" ORDER BY id DESC",
                                 table);
    size_t count = 0, room = 256;
    int64_t *columns[6] = {NULL};
    for (int c = 0; c < 6; c++)
        columns[c] = malloc(room * 8);
    int code;
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (count == room) {
            room *= 2;
            for (int c = 0; c < 6; c++)
                columns[c] = realloc(columns[c], room * 8);
        }
        for (int c = 0; c < 6; c++) {
            double real = c == 1 ? sqlite3_column_double(stmt, c) : 0;
            if (c == 1)
                memcpy(&columns[c][count], &real, 8);
            else
                columns[c][count] = sqlite3_column_int64(stmt, c);
        }
        count++;
    }
    check(code, SQLITE_DONE);
    (void)sqlite3_finalize(stmt);
    for (int c = 0; c < 6; c++)
        free(columns[c]);
}

static void run_one(const char *format, const char *table)
{
    sqlite3_stmt *stmt = prepare(format, table);
    check(sqlite3_step(stmt), SQLITE_ROW);
    (void)sqlite3_finalize(stmt);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    const char *what = argv[1], *table = argv[3];
    double begin_s = now_s();
    open_file(argv[2]);
    if (strcmp(what, "open") == 0) {
        run_one("SELECT * FROM \"%w\" LIMIT 1", table);
        (void)sqlite3_close(db);
        printf("%.9f\n", now_s() - begin_s);
        return 0;
    }
    run_one("SELECT count(*) FROM (SELECT 1 FROM \"%w\" LIMIT 1)", table); /* reads the schema */
    begin_s = now_s();
    if (strcmp(what, "rows") == 0 && argc == 6)
        run_rows(table, argv[4], atoll(argv[5]));
    else if (strcmp(what, "bulk") == 0 && argc == 5)
        run_bulk(table, atoll(argv[4]));
    else if (strcmp(what, "scan") == 0)
        run_scan(table);
    else if (strcmp(what, "sums") == 0)
        run_one("SELECT count(*),sum(input_tokens),sum(output_tokens),sum(cache_n),sum(prompt_n)"
                " FROM \"%w\"",
                table);
    else
        return 2;
    double seconds = now_s() - begin_s;
    (void)sqlite3_close(db);
    printf("%.9f\n", seconds);
    return 0;
}
