/* SPDX-License-Identifier: MIT
 *
 * A database and its log, changed in some places, is opened, read and checked. Whatever is in it:
 * no crash, no hang; what is read obeys the rules; a file that is refused is not touched, nor its
 * log, and none is left beside it; and no error is without a text that can be shown.
 *
 *     input    flags, then for each change: where (2 bytes, as a share of what is not zero),
 *              how many bytes (1), the bytes
 */
#include "dm_internal.h"

#include "fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_ ((size_t)1 << 20)

enum { WITH_LOG = 1, READ_ONLY = 2, REPAIR = 4, CUT = 8, MODELS = 16 };

typedef struct {
    uint8_t bytes[SIZE_MAX_];
    size_t size;
    uint32_t filled[SIZE_MAX_]; /* where there is something but a zero */
    size_t filled_count;
} image;

static image database, changed_log;
static char folder[64] = "/dev/shm/dm-fuzz-XXXXXX", path[80], log_path[84], shared_path[84];
static dm_error err;

static void file_read(const char *name, image *to)
{
    int descriptor = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(descriptor, to->bytes, SIZE_MAX_);
    (void)close(descriptor);
    MUST(size > 0 && (size_t)size < SIZE_MAX_);
    to->size = (size_t)size;
    for (size_t i = 0; i < to->size; i++)
        if (to->bytes[i] != 0)
            to->filled[to->filled_count++] = (uint32_t)i;
}

static void file_write(const char *name, const uint8_t *bytes, size_t size)
{
    int descriptor = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(write(descriptor, bytes, size) == (ssize_t)size);
    (void)close(descriptor);
}

static void files_remove(void)
{
    (void)unlink(path);
    (void)unlink(log_path);
    (void)unlink(shared_path);
}

/* ---- the database that is changed ---- */

static void fill(dm_manager *m, int requests)
{
    const dm_timing timing = {2.5, 0.5};
    const dm_tier tier = {1, 0, 1000, 1.5, 2.5, true, 0.5};
    int64_t id;
    for (int i = 0; i < requests; i++) {
        dm_request request = {1000 + i, 200 + i, 300, 40, 50};
        char name[16];
        int length = snprintf(name, sizeof name, "id %d", i);
        MUST(dm_request_add_once(m, DM_STR("a"), &request, &timing, (dm_str){name, (size_t)length},
                                 &id, &err) == DM_OK);
    }
    MUST(dm_tier_put(m, DM_STR("a"), &tier, DM_TIER_SET, NAN, &err) == DM_OK);
    MUST(dm_program_start(m, 5, &id, &err) == DM_OK);
    MUST(dm_model_start(m, DM_STR("a"), 5, &id, &err) == DM_OK);
}

static void folder_remove(void)
{
    files_remove();
    (void)rmdir(folder);
}

/* The file as it is when it is closed, and the log that comes after it. */
static void images_make(void)
{
    dm_options options = {.durability = DM_DURABILITY_NORMAL};
    dm_manager *m = NULL;
    MUST(mkdtemp(folder) != NULL || mkdtemp(strcpy(folder, "/tmp/dm-fuzz-XXXXXX")) != NULL);
    (void)atexit(folder_remove);
    (void)snprintf(path, sizeof path, "%s/a.db", folder);
    (void)snprintf(log_path, sizeof log_path, "%s-wal", path);
    (void)snprintf(shared_path, sizeof shared_path, "%s-shm", path);
    MUST(dm_open(path, &options, &m, &err) == DM_OK);
    fill(m, 20);
    dm_free(m);
    m = NULL;
    MUST(dm_open(path, &options, &m, &err) == DM_OK);
    int64_t id;
    dm_request request = {2000, 1, 2, 3, 4};
    MUST(dm_request_add(m, DM_STR("b"), &request, NULL, &id, &err) == DM_OK);
    dm_fork_before(1000); /* closes every connection, and leaves the log */
    file_read(path, &database);
    file_read(log_path, &changed_log);
    dm_fork_parent();
    dm_free(m);
}

/* ---- changes ---- */

static void change(fuzz *f, const image *from, uint8_t *bytes)
{
    uint16_t where = (uint16_t)(fuzz_byte(f) | fuzz_byte(f) << 8);
    size_t at = from->filled[(size_t)where * from->filled_count >> 16];
    size_t count = fuzz_byte(f) % 8 + 1;
    for (size_t i = 0; i < count && at + i < from->size; i++)
        bytes[at + i] = fuzz_byte(f);
}

static size_t size_left(fuzz *f, size_t size)
{
    return (size_t)fuzz_byte(f) * size / 255;
}

/* ---- what is read ---- */

static dm_status shown(dm_status rc)
{
    if (rc != DM_OK) {
        MUST(err.code == rc && err.text[0] != '\0');
        MUST(rc != DM_INTERNAL && rc != DM_MISUSE);
        MUST(dm__is_utf8((dm_str){err.text, strlen(err.text)}));
    }
    return rc;
}

static void read_model(dm_manager *m, dm_str name)
{
    const dm_window all = DM_WINDOW_ALL;
    dm_request_columns rows = {0};
    dm_runs runs = {0};
    dm_tariffs tariffs = {0};
    if (shown(dm_requests_get(m, name, &all, &rows, &err)) == DM_OK)
        for (size_t i = 0; i < rows.count; i++) {
            MUST(isfinite(rows.timestamp_s[i]) && rows.timestamp_s[i] >= 0);
            MUST(rows.input_tokens[i] >= 0 && rows.input_tokens[i] <= DM_TOKENS_MAX);
            MUST(rows.output_tokens[i] >= 0 && rows.output_tokens[i] <= DM_TOKENS_MAX);
        }
    (void)shown(dm_model_runs(m, name, &all, &runs, &err));
    (void)shown(dm_price_history(m, name, &tariffs, &err));
    dm_request_columns_reset(&rows);
    dm_runs_reset(&runs);
    dm_tariffs_reset(&tariffs);
}

static void read_all(dm_manager *m, bool repair)
{
    static const double edges_s[] = {-INFINITY, 1005, INFINITY};
    const dm_usage_query query = {
        .edges_s = edges_s, .edge_count = 3, .periods_s = edges_s + 1, .period_count = 1};
    dm_model_names names = {0};
    dm_usage usage = {0};
    dm_findings findings = {0};
    if (shown(dm_models_get(m, &names, &err)) == DM_OK)
        for (size_t i = 0; i < names.count; i++)
            read_model(m, (dm_str){names.models[i].original_name, names.models[i].original_length});
    (void)shown(dm_usage_get(m, &query, &usage, &err));
    (void)shown(dm_check(m, false, repair, &findings, &err));
    for (size_t i = 0; i < findings.count; i++) {
        const char *text = findings.findings[i].text;
        MUST(text[0] != '\0' && dm__is_utf8((dm_str){text, strlen(text)}));
    }
    dm_model_names_reset(&names);
    dm_usage_reset(&usage);
    dm_findings_reset(&findings);
}

static void must_hold(const char *name, const uint8_t *bytes, size_t size)
{
    static image now;
    now.filled_count = 0;
    file_read(name, &now);
    MUST(now.size == size && memcmp(now.bytes, bytes, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t file[SIZE_MAX_], log[SIZE_MAX_];
    fuzz f = {bytes, size};
    if (database.size == 0)
        images_make();
    uint8_t flags = fuzz_byte(&f);
    memcpy(file, database.bytes, database.size);
    memcpy(log, changed_log.bytes, changed_log.size);
    size_t file_size = flags & CUT ? size_left(&f, database.size) : database.size;
    for (int i = 0; f.left > 0 && i < 16; i++)
        if (flags & WITH_LOG && i % 2 == 1)
            change(&f, &changed_log, log);
        else
            change(&f, &database, file);
    files_remove();
    file_write(path, file, file_size);
    if (flags & WITH_LOG)
        file_write(log_path, log, changed_log.size);
    const dm_str models[] = {DM_STR("a"), DM_STR("new")};
    dm_options options = {.busy_timeout_ms = 50,
                          .read_only = (flags & READ_ONLY) != 0,
                          .cache_bytes = -1,
                          .models = models,
                          .model_count = flags & MODELS ? 2 : 0};
    dm_manager *m = NULL;
    if (shown(dm_open(path, &options, &m, &err)) == DM_OK) {
        read_all(m, (flags & (REPAIR | READ_ONLY)) == REPAIR);
        dm_free(m);
    } else if (file_size > 0) {
        must_hold(path, file, file_size);
        if (flags & WITH_LOG)
            must_hold(log_path, log, changed_log.size);
        else if (!(flags & READ_ONLY)) /* that must leave one: it cannot take the lock for it */
            MUST(access(log_path, F_OK) != 0 && access(shared_path, F_OK) != 0);
    }
    return 0;
}
