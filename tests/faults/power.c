/* SPDX-License-Identifier: MIT
 *
 * Power loss. A run of operations is written down call by call (disk.h); then the power is cut at
 * random moments of it, and what is left of the files is opened again. With durability full what is
 * there must be what the last operation that had returned has left, or the one that was under way,
 * and nothing between; the same with the backup, and with the file that a restore keeps. Where
 * threads write at once, each acknowledged row must be there, once, and each batch whole.
 *
 *     run     | op 1 | op 2 | op 3 …          cuts    op 1 op 2|        → S2 or S3
 *             S0     S1     S2     S3                 op 1 o|           → S1 or S2
 *
 * Each run begins with what a cut of the run before has left, so recovery is cut as well.
 *
 * The controls: "normal" must lose operations, yet be a state that was, and never damaged; without
 * the syncs of the log, of the backup or of the folder, the loss must be seen. */
#include "calls.h"
#include "disk.h"
#include "work.h"

#include "../c/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OPERATIONS 25
#define STATES     (OPERATIONS + 2)
#define CUTS       200 /* of each run */
#define CHAIN      6   /* runs that go on from each other */

typedef struct {
    uint64_t hash, usage_hash, backup_hash;
    bool in_steps;        /* what has led to it */
    char kept[WORK_PATH]; /* by a restore; with what content */
    uint64_t kept_hash;
} state;

static char root[64] = "/dev/shm/dm-power-XXXXXX", live[80], cut_folder[80];
static state states[STATES];
static size_t state_count;
static uint64_t seed = 1;
static bool threaded;

typedef struct {
    long cuts, lost, damaged, wrong, missing;
} counts;
static counts seen;
static bool loud; /* a finding is an error: print it */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void report(long *count, size_t cut, const char *what)
{
    (*count)++;
    if (loud)
        printf("seed %llu, cut at %zu: %s\n", (unsigned long long)seed, cut, what);
}

/* ---- one thread: states ---- */

static void state_add(const work *w, const char *new_kept, bool in_steps)
{
    state *now = &states[state_count];
    uint64_t before = state_count == 0 ? 0 : states[state_count - 1].hash;
    *now = state_count == 0 ? (state){0} : states[state_count - 1];
    dm_error err;
    CHECK_OK(work_hash(w->m, &now->hash, &err));
    CHECK_OK(work_usage_hash(w->m, &now->usage_hash, &err));
    now->in_steps = in_steps;
    now->backup_hash = w->backup_hash;
    if (new_kept != NULL) {
        (void)snprintf(now->kept, sizeof now->kept, "%s", base_name(new_kept));
        now->kept_hash = before;
    }
    disk_mark((int64_t)state_count++);
}

static void run_operations(work *w)
{
    dm_error err;
    state_count = 0;
    CHECK_OK((err = w->err, work_open(w)));
    if (w->m == NULL)
        return;
    state_add(w, NULL, false);
    for (size_t i = 0; i < OPERATIONS && w->m != NULL; i++) {
        const char *kept = w->kept;
        size_t operation = work_choose(w);
        dm_status rc = work_run(w, operation);
        err = w->err;
        CHECK_OK(rc);
        if (rc != DM_OK)
            printf("that was %s\n", work_operations[operation].name);
        if (w->m != NULL)
            state_add(w, w->kept == kept ? NULL : w->kept, work_operations[operation].in_steps);
    }
}

/* ---- several threads: rows ---- */

#define THREADS 4
#define SERIALS 4096

static atomic_llong next_serial;
static bool acknowledged[SERIALS];

static void acknowledge(int64_t first, int64_t count)
{
    for (int64_t i = first; i < first + count; i++)
        disk_mark(i);
}

static void add_one(dm_manager *m)
{
    dm_error err;
    int64_t id, serial = atomic_fetch_add(&next_serial, 1);
    dm_request one = {5, serial, 0, 1, 0};
    dm_status rc = dm_request_add(m, DM_STR("a"), &one, NULL, &id, &err);
    if (rc == DM_OK)
        acknowledge(serial, 1);
}

/* Its rows say how many they are, and which is the first. */
static void add_batch(dm_manager *m)
{
    enum { ROWS = 5 };
    dm_error err;
    int64_t id, first = atomic_fetch_add(&next_serial, ROWS);
    dm_ids *ids = NULL;
    size_t count;
    uint64_t level = 0;
    dm_status rc = dm_batch_begin(m, &level, &err);
    for (int64_t i = 0; i < ROWS && rc == DM_OK; i++) {
        dm_request one = {5, first + i, first, ROWS, 0};
        rc = dm_request_add(m, i % 2 ? DM_STR("a") : DM_STR("b"), &one, NULL, &id, &err);
    }
    dm_status ended = dm_batch_end(m, level, rc == DM_OK, &ids, &count, &err);
    dm_ids_free(ids);
    if (rc == DM_OK && ended == DM_OK)
        acknowledge(first, ROWS);
}

static void *write_some(void *m)
{
    for (int i = 0; i < 8; i++) {
        add_one(m);
        add_batch(m);
    }
    return NULL;
}

static void run_threads(work *w)
{
    pthread_t threads[THREADS];
    dm_error err;
    atomic_store(&next_serial, 1);
    CHECK_OK((err = w->err, work_open(w)));
    for (int i = 0; i < THREADS; i++)
        (void)pthread_create(&threads[i], NULL, write_some, w->m);
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
}

static void rows_read(dm_manager *m, dm_str model, int *found, int *batch)
{
    dm_window all = DM_WINDOW_ALL;
    dm_request_columns rows = {0};
    dm_error err;
    dm_status rc = dm_requests_get(m, model, &all, &rows, &err);
    if (rc != DM_OK && rc != DM_MODEL_NOT_FOUND)
        seen.damaged++;
    for (size_t i = 0; rc == DM_OK && i < rows.count; i++) {
        found[rows.input_tokens[i] % SERIALS]++;
        if (rows.cache_n[i] > 1)
            batch[rows.output_tokens[i] % SERIALS]++;
    }
    if (rc == DM_OK)
        dm_request_columns_reset(&rows);
}

static void rows_verify(dm_manager *m, size_t cut)
{
    static int found[SERIALS], batch[SERIALS];
    memset(found, 0, sizeof found);
    memset(batch, 0, sizeof batch);
    rows_read(m, DM_STR("a"), found, batch);
    rows_read(m, DM_STR("b"), found, batch);
    for (int i = 0; i < SERIALS; i++) {
        if (acknowledged[i] && found[i] == 0)
            report(&seen.lost, cut, "an acknowledged row is lost");
        if (found[i] > 1)
            report(&seen.wrong, cut, "a row is there twice");
        if (batch[i] != 0 && batch[i] != 5)
            report(&seen.wrong, cut, "half a batch is there");
    }
}

/* ---- after a cut ---- */

static int64_t latest_mark;

static void take_mark(int64_t value)
{
    latest_mark = value;
    if (threaded)
        acknowledged[value % SERIALS] = true;
}

static bool copy_hash(const char *name, uint64_t *hash)
{
    char path[WORK_PATH * 2];
    dm_options options = {.read_only = true, .cache_bytes = -1};
    dm_manager *m = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", cut_folder, name);
    if (dm_open(path, &options, &m, NULL) != DM_OK)
        return false;
    dm_status rc = work_hash(m, hash, NULL);
    dm_free(m);
    return rc == DM_OK;
}

/* `last` is the latest that had returned; the next one may have been under way. */
static void copies_verify(size_t cut, const state *last, const state *next)
{
    uint64_t hash = 0;
    bool there = copy_hash("backup.db", &hash);
    if (last->backup_hash != 0 && !there)
        report(&seen.missing, cut, "the backup is not there, or damaged");
    else if (there && hash != last->backup_hash && hash != next->backup_hash)
        report(&seen.missing, cut, "the backup holds something else");
    if (*last->kept != '\0' && (!copy_hash(last->kept, &hash) || hash != last->kept_hash))
        report(&seen.missing, cut, "what a restore keeps is not there");
}

static bool is_between(dm_manager *m, const state *last, const state *next)
{
    uint64_t hash = 0;
    return next->in_steps && work_usage_hash(m, &hash, NULL) == DM_OK && hash == last->usage_hash &&
           hash == next->usage_hash;
}

static void states_verify(dm_manager *m, size_t cut)
{
    size_t last = latest_mark < 0 ? 0 : (size_t)latest_mark;
    size_t next = latest_mark < 0 || last + 1 == state_count ? last : last + 1;
    uint64_t hash = 0;
    dm_error err;
    if (work_hash(m, &hash, &err) != DM_OK) {
        report(&seen.damaged, cut, err.text);
        return;
    }
    bool older = false;
    for (size_t i = 0; i < last; i++)
        older |= states[i].hash == hash;
    if (hash != states[last].hash && hash != states[next].hash &&
        !is_between(m, &states[last], &states[next]))
        report(older ? &seen.lost : &seen.wrong, cut,
               older ? "what was acknowledged is lost" : "this was never so");
    copies_verify(cut, &states[last], &states[next]);
}

static void integrity_verify(dm_manager *m, size_t cut)
{
    dm_findings findings = {0};
    dm_error err;
    if (dm_check(m, false, false, &findings, &err) != DM_OK)
        report(&seen.damaged, cut, err.text);
    for (size_t i = 0; i < findings.count; i++)
        if (findings.findings[i].severity == DM_SEVERITY_ERROR)
            report(&seen.damaged, cut, findings.findings[i].text);
    dm_findings_reset(&findings);
}

static void cut_verify(uint64_t cut_seed)
{
    size_t cut = (size_t)(cut_seed * 0x9e3779b97f4a7c15u >> 20) % (disk_length() + 1);
    char path[WORK_PATH];
    dm_options options = {.cache_bytes = -1};
    dm_manager *m = NULL;
    dm_error err;
    latest_mark = -1;
    memset(acknowledged, 0, sizeof acknowledged);
    disk_cut(cut, cut_seed, cut_folder, take_mark);
    seen.cuts++;
    (void)snprintf(path, sizeof path, "%s/usage.db", cut_folder);
    if (dm_open(path, &options, &m, &err) != DM_OK) {
        report(&seen.damaged, cut, err.text);
        return;
    }
    if (threaded)
        rows_verify(m, cut);
    else
        states_verify(m, cut);
    integrity_verify(m, cut);
    dm_free(m);
}

/* ---- runs ---- */

/* The next run goes on where a cut of the one before has ended: with its database and log. */
static void carry_over(void)
{
    static const char *const names[] = {"usage.db", "usage.db-wal"};
    disk_cut(disk_length() / 2 + seed % (disk_length() / 2 + 1), seed, cut_folder, NULL);
    disk_empty_folder(live);
    for (size_t i = 0; i < 2; i++) {
        char from[WORK_PATH], to[WORK_PATH];
        (void)snprintf(from, sizeof from, "%s/%s", cut_folder, names[i]);
        (void)snprintf(to, sizeof to, "%s/%s", live, names[i]);
        (void)rename(from, to);
    }
}

static void run_once(dm_durability durability, long cuts, bool first)
{
    work w;
    work_init(&w, live, durability, seed);
    w.options.cache_bytes = -1;
    if (first || threaded || disk_skipped) { /* what a control has damaged is no beginning */
        disk_empty_folder(live);
        if (!threaded && seed % 3 == 0)
            work_make_older(&w);
    } else {
        carry_over();
    }
    w.serial = (int64_t)seed * 1000;
    disk_record(live);
    if (threaded)
        run_threads(&w);
    else
        run_operations(&w);
    work_end(&w);
    disk_stop();
    for (long i = 0; i < cuts; i++)
        cut_verify(seed * 1000003u + (uint64_t)i);
}

/* In a process of its own: what it found, and how many checks passed, go through the pipe. */
typedef struct {
    counts seen;
    int passed, failed;
} share;

static void folders_make(int number)
{
    (void)snprintf(live, sizeof live, "%s/live%d", root, number);
    (void)snprintf(cut_folder, sizeof cut_folder, "%s/cut%d", root, number);
    if (mkdir(live, 0700) != 0 || mkdir(cut_folder, 0700) != 0)
        abort();
}

static void folders_remove(void)
{
    disk_empty_folder(live);
    disk_empty_folder(cut_folder);
    (void)rmdir(live);
    (void)rmdir(cut_folder);
}

static void run_share(int number, dm_durability durability, long cuts, int to)
{
    share done = {0};
    folders_make(number);
    seed += (uint64_t)number * 1000000;
    check_passed = check_failed = 0;
    for (long run = 0; seen.cuts < cuts; run++, seed++) {
        long link = run % CHAIN; /* the last is one of threads */
        threaded = link == CHAIN - 1;
        run_once(durability, cuts - seen.cuts < CUTS ? cuts - seen.cuts : CUTS, link == 0);
    }
    folders_remove();
    done = (share){seen, check_passed, check_failed};
    (void)fflush(stdout);
    _exit(write(to, &done, sizeof done) != sizeof done);
}

static void share_add(const share *done)
{
    seen.cuts += done->seen.cuts;
    seen.lost += done->seen.lost;
    seen.damaged += done->seen.damaged;
    seen.wrong += done->seen.wrong;
    seen.missing += done->seen.missing;
    check_passed += done->passed;
    check_failed += done->failed;
}

static void run_shares(dm_durability durability, long cuts, int jobs)
{
    int ends[2], status;
    share done;
    if (pipe(ends) != 0)
        abort();
    (void)fflush(stdout);
    for (int i = 0; i < jobs; i++)
        if (fork() == 0)
            run_share(i, durability, (cuts + jobs - 1) / jobs, ends[1]);
    for (int i = 0; i < jobs; i++) {
        CHECK_INT(wait(&status) > 0 && status == 0, 1);
        if (status == 0 && read(ends[0], &done, sizeof done) == sizeof done)
            share_add(&done);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void run_many(const char *what, dm_durability durability, long cuts)
{
    struct timespec begun, ended;
    memset(&seen, 0, sizeof seen);
    (void)clock_gettime(CLOCK_MONOTONIC, &begun);
    run_shares(durability, cuts, (int)sysconf(_SC_NPROCESSORS_ONLN));
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%-28s %7ld cuts: lost %ld, damaged %ld, never so %ld, copies lost %ld; %.1f s\n", what,
           seen.cuts, seen.lost, seen.damaged, seen.wrong, seen.missing,
           (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) * 1e-9);
    (void)fflush(stdout);
}

/* ---- folders ---- */

static ino_t unsynced[16]; /* folders in which one was made */
static size_t unsynced_count, folders_made;

static bool is_unsynced(ino_t inode)
{
    size_t i = 0;
    while (i < unsynced_count && unsynced[i] != inode)
        i++;
    return i < unsynced_count;
}

static void parent_note(const file_call *call)
{
    char parent[WORK_PATH * 2];
    struct stat status;
    (void)snprintf(parent, sizeof parent, "%s", call->path);
    *strrchr(parent, '/') = '\0';
    if (call->kind == CALL_MKDIR && stat(parent, &status) == 0) {
        unsynced[unsynced_count++] = status.st_ino;
        folders_made++;
    }
    for (size_t i = 0; call->kind == CALL_SYNC && i < unsynced_count; i++)
        if (unsynced[i] == call->inode)
            unsynced[i--] = unsynced[--unsynced_count];
}

/* A control: says that it has synced the folder that holds the latest. */
static int lie_of_parent(const file_call *call)
{
    return call->kind == CALL_SYNC && folders_made == 2 && is_unsynced(call->inode) ? CALL_LIE : 0;
}

/* A folder that was made is lost with all that is in it, unless the one that holds it is synced. */
static void new_folders(int (*before)(const file_call *call))
{
    char path[WORK_PATH];
    dm_options options = {0};
    dm_manager *m = NULL;
    dm_error err;
    (void)snprintf(path, sizeof path, "%s/new/newer/usage.db", live);
    unsynced_count = folders_made = 0;
    calls_before = before;
    calls_after = parent_note;
    calls_watch(live);
    CHECK_OK(dm_open(path, &options, &m, &err));
    dm_free(m);
    disk_stop();
    calls_before = NULL;
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/new/newer", live);
    (void)rmdir(path);
    *strrchr(path, '/') = '\0';
    (void)rmdir(path);
}

static void test_new_folders(void)
{
    new_folders(NULL);
    CHECK_INT(folders_made, 2);
    CHECK_INT(unsynced_count, 0);
    printf("%zu new folders: %zu not synced\n", folders_made, unsynced_count);
    new_folders(lie_of_parent);
    CHECK_INT(folders_made, 2);
    CHECK_INT(unsynced_count > 0, 1);
    printf("one is not synced (control): %zu seen\n", unsynced_count);
}

/* ---- controls ---- */

#define CONTROL_CUTS 600

static const struct {
    const char *what;
    disk_skip skipped;
    long *count; /* what must be seen */
} controls[] = {
    {"log not synced (control)", DISK_SKIP_LOG, &seen.lost},
    {"database not synced (control)", DISK_SKIP_DATABASE, &seen.damaged},
    {"backup not synced (control)", DISK_SKIP_BACKUP, &seen.missing},
    {"folder not synced (control)", DISK_SKIP_FOLDER, &seen.missing},
};

static void run_controls(void)
{
    loud = false;
    run_many("normal (control)", DM_DURABILITY_NORMAL, CONTROL_CUTS);
    CHECK_INT(seen.damaged + seen.wrong + seen.missing, 0);
    CHECK_INT(seen.lost > 0, 1);
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        disk_skipped = controls[i].skipped;
        run_many(controls[i].what, DM_DURABILITY_FULL, CONTROL_CUTS);
        CHECK_INT(*controls[i].count > 0, 1);
    }
    disk_skipped = DISK_SKIP_NONE;
}

int main(void)
{
    const char *wanted = getenv("DM_CUTS"), *begin = getenv("DM_SEED");
    long cuts = wanted == NULL ? 20000 : atol(wanted);
    if (begin != NULL)
        seed = strtoull(begin, NULL, 10);
    if (mkdtemp(root) == NULL && mkdtemp(strcpy(root, "/tmp/dm-power-XXXXXX")) == NULL)
        return 2;
    loud = true;
    run_many("full", DM_DURABILITY_FULL, cuts);
    CHECK_INT(seen.lost + seen.damaged + seen.wrong + seen.missing, 0);
    run_controls();
    folders_make(0);
    test_new_folders();
    folders_remove();
    (void)rmdir(root);
    return check_report();
}
