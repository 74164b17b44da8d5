/* SPDX-License-Identifier: MIT
 *
 * Call k to the system fails, for k = 0, 1, 2 … until an operation no longer reaches it: with each
 * error that such a call has, once and from then on for ever. The operation must succeed, and what
 * it does be there, or fail and change nothing: in the eyes of the handle that was used, of one
 * that is opened afterwards, and of check(). The handle works on. In the end no descriptor is left.
 *
 * The same with a file system that really is full, where we may mount one.
 *
 * The control: a call that is not made, and says that it was, is what an error is whose code is
 * ignored. It must be seen. */
#include "calls.h"
#include "work.h"

#include "../c/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64] = "/dev/shm/dm-io-XXXXXX", start[80], live[80];
static work w;
static dm_error err;

/* ---- failing ---- */

#define CALLS(...)                                                                                 \
    (const call_kind[])                                                                            \
    {                                                                                              \
        __VA_ARGS__, CALL_KINDS                                                                    \
    }

static const struct {
    const char *name;
    int verdict;
    bool for_ever; /* or only once: who is interrupted tries again, for ever */
    const call_kind *calls;
} errors[] = {
    {"ENOSPC", ENOSPC, true,
     CALLS(CALL_WRITE, CALL_TRUNCATE, CALL_CREATE, CALL_MKDIR, CALL_RENAME, CALL_SYNC)},
    {"EIO", EIO, true,
     CALLS(CALL_OPEN, CALL_READ, CALL_WRITE, CALL_TRUNCATE, CALL_SYNC, CALL_UNLINK, CALL_RENAME,
           CALL_STAT, CALL_LOCK, CALL_MAP, CALL_LIST_FOLDER)},
    {"EACCES", EACCES, true,
     CALLS(CALL_OPEN, CALL_CREATE, CALL_UNLINK, CALL_RENAME, CALL_MKDIR, CALL_STAT, CALL_MODE,
           CALL_MAP, CALL_LIST_FOLDER, CALL_RESOLVE)},
    {"EINTR", EINTR, false,
     CALLS(CALL_OPEN, CALL_CREATE, CALL_READ, CALL_WRITE, CALL_TRUNCATE, CALL_LOCK, CALL_SYNC)},
    {"short", CALL_SHORT, true, CALLS(CALL_READ, CALL_WRITE)},
};
#define ERRORS (sizeof errors / sizeof *errors)

static struct {
    const call_kind *calls;
    int verdict;
    bool for_ever, reached;
    long left;
    char at[WORK_PATH * 2]; /* what failed */
} failing;

static bool is_among(call_kind kind, const call_kind *calls)
{
    while (*calls != CALL_KINDS && *calls != kind)
        calls++;
    return *calls == kind;
}

static int fail_one(const file_call *call)
{
    if (!is_among(call->kind, failing.calls) || (failing.reached && !failing.for_ever))
        return 0;
    if (failing.verdict == CALL_LIE && strstr(call->path, "-shm") != NULL)
        return 0; /* it is mapped: who relies on its size crashes, and sees nothing */
    if (failing.left-- > 0)
        return 0;
    if (!failing.reached)
        (void)snprintf(failing.at, sizeof failing.at, "%s %s", call_names[call->kind], call->path);
    failing.reached = true;
    return failing.verdict;
}

static void arm(const call_kind *calls, int verdict, bool for_ever, long k)
{
    failing.calls = calls;
    failing.verdict = verdict;
    failing.for_ever = for_ever;
    failing.reached = false;
    failing.left = k;
    calls_before = fail_one;
}

static void disarm(void)
{
    calls_before = NULL;
}

/* ---- files ---- */

static void each_file(const char *folder, void (*call)(const char *name))
{
    DIR *found = opendir(folder);
    for (struct dirent *next; found != NULL && (next = readdir(found)) != NULL;)
        if (strcmp(next->d_name, ".") != 0 && strcmp(next->d_name, "..") != 0)
            call(next->d_name);
    if (found != NULL)
        (void)closedir(found);
}

static void live_remove(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", live, name);
    if (unlink(path) != 0)
        (void)rmdir(path);
}

static void start_copy(const char *name)
{
    static char bytes[1 << 20];
    char from[512], to[512];
    (void)snprintf(from, sizeof from, "%s/%s", start, name);
    (void)snprintf(to, sizeof to, "%s/%s", live, name);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t size = pread64(in, bytes, sizeof bytes, 0);
    if (size < 0 || pwrite64(out, bytes, (size_t)size, 0) != size)
        abort();
    (void)close(in);
    (void)close(out);
}

static long descriptor_count;

static void descriptor_add(const char *name)
{
    (void)name;
    descriptor_count++;
}

static long descriptors(void)
{
    descriptor_count = 0;
    each_file("/proc/self/fd", descriptor_add);
    return descriptor_count;
}

/* ---- one operation ---- */

typedef struct {
    const char *name;
    void (*before)(void);   /* to the files */
    bool opened;            /* is there a handle at first? */
    dm_status (*run)(void); /* NULL: that of work_operations[index] */
    size_t index;
    uint64_t random; /* so that each time the same is done */
    uint64_t hash_before, hash_after, usage;
} subject;

static void without_files(void)
{
    each_file(live, live_remove);
}
static void with_older(void)
{
    each_file(live, live_remove);
    work_make_older(&w);
}
static dm_status open_it(void)
{
    return work_open(&w);
}

static subject subjects[32] = {
    {"open", NULL, false, open_it, 0, 1, 0, 0, 0},
    {"open a fresh file", without_files, false, open_it, 0, 1, 0, 0, 0},
    {"adopt an older file", with_older, false, open_it, 0, 1, 0, 0, 0},
};
static size_t subject_count = 3;

static void make_ready(const subject *s)
{
    each_file(live, live_remove);
    each_file(start, start_copy);
    if (s->before != NULL)
        s->before();
    w.serial = 5000;
    w.random = s->random;
    if (s->opened) {
        CHECK_OK(work_open(&w));
        dm_fork_before(1000); /* every connection is closed: the operation opens what it needs */
        dm_fork_parent();
    }
}

static dm_status run_subject(const subject *s)
{
    dm_status rc = s->run != NULL ? s->run() : work_run(&w, s->index);
    err = w.err;
    return rc;
}

static uint64_t hash_now(void)
{
    uint64_t hash = 0;
    if (w.m != NULL)
        CHECK_OK(work_hash(w.m, &hash, &err));
    return hash;
}

static uint64_t usage_now(void)
{
    uint64_t hash = 0;
    if (w.m != NULL)
        CHECK_OK(work_usage_hash(w.m, &hash, &err));
    return hash;
}

static void put_away(void)
{
    work_end(&w);
    w.backup_hash = 1; /* the copy in `start` */
}

/* The hashes, and whether anything is done at all. */
static bool learn(subject *s)
{
    make_ready(s);
    s->hash_before = s->opened ? hash_now() : 0;
    s->usage = s->opened ? usage_now() : 0;
    dm_status rc = run_subject(s);
    CHECK_OK(rc);
    s->hash_after = hash_now();
    put_away();
    return rc == DM_OK;
}

/* ---- what is there afterwards ---- */

static struct {
    long trials, failed, wrong;
} seen;

/* Every eighth time with all values and indexes: that takes longer than all the rest. */
static bool sound(void)
{
    dm_findings findings = {0};
    dm_status rc = dm_check(w.m, seen.trials % 8 != 0, false, &findings, &err);
    for (size_t i = 0; rc == DM_OK && i < findings.count; i++)
        if (findings.findings[i].severity == DM_SEVERITY_ERROR) {
            (void)snprintf(err.text, sizeof err.text, "%s", findings.findings[i].text);
            rc = DM_DAMAGED;
        }
    dm_findings_reset(&findings);
    return rc == DM_OK;
}

static const char *wrong_before_close(const subject *s, dm_status rc, uint64_t *hash)
{
    if (w.m == NULL) /* an open that failed */
        return work_open(&w) != DM_OK || work_hash(w.m, hash, &err) != DM_OK ? "cannot be opened"
               : s->opened && *hash != s->hash_before ? "failed, and has changed something"
                                                      : NULL;
    if (work_hash(w.m, hash, &err) != DM_OK)
        return "cannot be read";
    if (*hash == (rc == DM_OK ? s->hash_after : s->hash_before))
        return NULL;
    if (!s->opened && *hash == s->hash_after)
        return NULL;
    if (rc != DM_OK && s->run == NULL && work_operations[s->index].in_steps &&
        usage_now() == s->usage)
        return NULL;
    return rc == DM_OK ? "succeeded, but is not there" : "failed, but is there";
}

static const char *wrong(const subject *s, dm_status rc)
{
    uint64_t before = 0, after = 0;
    const char *what = wrong_before_close(s, rc, &before);
    if (what != NULL)
        return what;
    dm_free(w.m);
    w.m = NULL;
    if (work_open(&w) != DM_OK) {
        err = w.err;
        return "cannot be opened again";
    }
    if (work_hash(w.m, &after, &err) != DM_OK)
        return "cannot be read again";
    if (before != after)
        return "is another when it is opened again";
    if (!sound())
        return "is not sound";
    return work_run(&w, 0) == DM_OK ? NULL : "does not work on";
}

static void tell(const subject *s, const char *error, long k, dm_status rc, const char *what)
{
    static int told;
    if (told++ < 40)
        printf("%s, call %ld (%s) has %s%s: it %s; first: %s, now: %s\n", s->name, k, failing.at,
               error, failing.for_ever ? " for ever" : "", what, dm_status_name(rc), err.text);
}

static void try_it(const subject *s, const char *error, long k)
{
    calls_watch(live);
    dm_status rc = run_subject(s);
    disarm();
    const char *what = wrong(s, rc);
    calls_watch(NULL);
    put_away();
    seen.trials++;
    seen.failed += rc != DM_OK;
    seen.wrong += what != NULL;
    if (what != NULL && error != NULL)
        tell(s, error, k, rc, what);
}

static void fail_at_each(const subject *s, size_t error, bool for_ever)
{
    long k = 0;
    do {
        make_ready(s);
        arm(errors[error].calls, errors[error].verdict, for_ever, k);
        try_it(s, errors[error].name, k++);
    } while (failing.reached);
}

static void fail_everywhere(void)
{
    for (size_t i = 0; i < subject_count; i++) {
        memset(&seen, 0, sizeof seen);
        for (size_t error = 0; error < ERRORS; error++) {
            fail_at_each(&subjects[i], error, false);
            if (errors[error].for_ever)
                fail_at_each(&subjects[i], error, true);
        }
        printf("%-22s %5ld calls failed: %ld operations failed, %ld wrong\n", subjects[i].name,
               seen.trials, seen.failed, seen.wrong);
        CHECK_INT(seen.wrong, 0);
        CHECK_INT(seen.failed > 0, 1);
    }
}

static void ignore_errors(void)
{
    static const call_kind calls[] = {CALL_WRITE, CALL_TRUNCATE, CALL_RENAME, CALL_KINDS};
    memset(&seen, 0, sizeof seen);
    for (size_t i = 0; i < subject_count; i++)
        for (long k = 0; k == 0 || failing.reached; k++) {
            make_ready(&subjects[i]);
            arm(calls, CALL_LIE, true, k);
            try_it(&subjects[i], NULL, k);
        }
    printf("ignored (control)      %5ld calls ignored: %ld wrong\n", seen.trials, seen.wrong);
    CHECK_INT(seen.wrong > 0, 1);
}

/* ---- a restore over a file that is too damaged to be opened ---- */

static const char damage[8192] = "no database", damaged_log[] = "its log";

static bool holds(const char *path, const char *bytes, size_t size)
{
    static char found[sizeof damage + 1];
    int file = open(path, O_RDONLY);
    bool same = file >= 0 && pread64(file, found, sizeof found, 0) == (ssize_t)size &&
                memcmp(found, bytes, size) == 0;
    (void)close(file);
    return same;
}

static void with_damage(void)
{
    char log[WORK_PATH + 8];
    (void)snprintf(log, sizeof log, "%s-wal", w.path);
    each_file(live, live_remove);
    each_file(start, start_copy);
    live_remove("usage.db-shm");
    int file = open(w.path, O_WRONLY | O_TRUNC), beside = open(log, O_WRONLY | O_CREAT, 0600);
    CHECK_INT(pwrite64(file, damage, sizeof damage, 0), sizeof damage);
    CHECK_INT(pwrite64(beside, damaged_log, sizeof damaged_log, 0), sizeof damaged_log);
    (void)close(file);
    (void)close(beside);
}

static char kept_found[512];

static void kept_note(const char *name)
{
    if (strstr(name, ".before-restore-") == NULL)
        return;
    (void)snprintf(kept_found, sizeof kept_found, "%s/%.400s", live, name);
    char *log = strstr(kept_found, "-wal");
    if (log != NULL)
        *log = '\0';
}

static bool opens(void)
{
    bool opened = work_open(&w) == DM_OK;
    put_away();
    return opened;
}

/* Which of the two is at the name; the old one is here or there. A kill may have parted it from its
 * log, and so may an error that keeps it from being undone, which then says where that is. */
static const char *wrong_over_damage(dm_status rc, bool killed)
{
    char here[WORK_PATH + 8], there[520];
    *kept_found = '\0';
    each_file(live, kept_note);
    (void)snprintf(here, sizeof here, "%s-wal", w.path);
    (void)snprintf(there, sizeof there, "%s-wal", kept_found);
    bool old = holds(w.path, damage, sizeof damage);
    bool kept = holds(kept_found, damage, sizeof damage);
    bool log_here = holds(here, damaged_log, sizeof damaged_log);
    bool log_kept = holds(there, damaged_log, sizeof damaged_log);
    if (access(w.path, F_OK) != 0)
        return "has left nothing at the name";
    if (old ? kept || (!killed && rc == DM_OK) || !(log_here || log_kept) : !kept || !log_kept)
        return "has mixed the two";
    if (log_kept && rc != DM_OK && !killed && strstr(err.text, kept_found) == NULL)
        return "does not say where the old one is";
    return old || opens() ? NULL : "has left what cannot be opened";
}

static dm_status restore_run(void)
{
    char *kept = NULL;
    dm_status rc = dm_restore(w.backup, w.path, 1, NULL, &kept, &err);
    if (rc == DM_OK)
        dm_text_free(kept);
    return rc;
}

static int die(const file_call *call)
{
    if (call->kind == CALL_OPEN || call->kind == CALL_STAT || call->kind == CALL_READ ||
        failing.left-- > 0)
        return 0;
    _exit(9);
}

/* Killed before each call that changes something. */
static void kill_over_damage(void)
{
    int status = 0;
    long k = 0, wrong_ones = 0;
    do {
        with_damage();
        failing.left = k++;
        pid_t child = fork();
        if (child == 0) {
            calls_watch(live);
            calls_before = die;
            _exit(restore_run() == DM_OK ? 0 : 1);
        }
        CHECK_INT(waitpid(child, &status, 0), child);
        const char *what = wrong_over_damage(DM_OK, status != 0);
        if (what != NULL)
            printf("killed before call %ld, it %s\n", k - 1, what);
        wrong_ones += what != NULL;
    } while (WIFEXITED(status) && WEXITSTATUS(status) == 9);
    printf("kills over damage      %5ld, %ld wrong\n", k - 1, wrong_ones);
    CHECK_INT(status, 0);
    CHECK_INT(k > 10, 1);
    CHECK_INT(wrong_ones, 0);
}

static void fail_over_damage(void)
{
    memset(&seen, 0, sizeof seen);
    for (size_t error = 0; error < ERRORS; error++)
        for (int for_ever = 0; for_ever <= errors[error].for_ever; for_ever++)
            for (long k = 0; k == 0 || failing.reached; k++) {
                with_damage();
                arm(errors[error].calls, errors[error].verdict, for_ever != 0, k);
                calls_watch(live);
                dm_status rc = restore_run();
                disarm();
                calls_watch(NULL);
                const char *what = wrong_over_damage(rc, false);
                seen.trials++;
                seen.failed += rc != DM_OK;
                seen.wrong += what != NULL;
                if (what != NULL)
                    printf("restore over damage, call %ld (%s) has %s%s: %s; %s\n", k, failing.at,
                           errors[error].name, for_ever ? " for ever" : "", what, err.text);
            }
    printf("restore over damage    %5ld calls failed: %ld operations failed, %ld wrong\n",
           seen.trials, seen.failed, seen.wrong);
    CHECK_INT(seen.wrong, 0);
    CHECK_INT(seen.failed > 0, 1);
}

/* ---- two calls at random ---- */

static struct {
    int first, second;
    long left_first, left_second;
} pair;

static int fail_two(const file_call *call)
{
    if (is_among(call->kind, errors[pair.first].calls) && pair.left_first-- == 0)
        return errors[pair.first].verdict;
    if (is_among(call->kind, errors[pair.second].calls) && pair.left_second-- == 0)
        return errors[pair.second].verdict;
    return 0;
}

static void fail_pairs(long count)
{
    memset(&seen, 0, sizeof seen);
    for (long i = 0; i < count; i++) {
        uint64_t kept = w.random = (uint64_t)i * 2654435761u + 1;
        const subject *s = &subjects[work_random(&w, (uint32_t)subject_count)];
        pair.first = (int)work_random(&w, ERRORS);
        pair.second = (int)work_random(&w, ERRORS);
        pair.left_first = work_random(&w, 60);
        pair.left_second = work_random(&w, 60);
        (void)snprintf(failing.at, sizeof failing.at, "pair %llu", (unsigned long long)kept);
        make_ready(s);
        calls_before = fail_two;
        try_it(s, "two errors", i);
    }
    printf("pairs                  %5ld: %ld operations failed, %ld wrong\n", seen.trials,
           seen.failed, seen.wrong);
    CHECK_INT(seen.wrong, 0);
}

/* ---- a file system that is full ---- */

static bool file_says(const char *path, const char *text)
{
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    bool said = write(descriptor, text, strlen(text)) == (ssize_t)strlen(text);
    return descriptor >= 0 && close(descriptor) == 0 && said;
}

/* Who is not root becomes that of a namespace of its own, where the system lets everybody. */
static bool become_root(void)
{
    char users[32], groups[32];
    (void)snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    (void)snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    return geteuid() == 0 ||
           (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
            file_says("/proc/self/setgroups", "deny") && file_says("/proc/self/uid_map", users) &&
            file_says("/proc/self/gid_map", groups));
}

static bool mounted(void)
{
    return become_root() && mount("tmpfs", live, "tmpfs", 0, "size=2m") == 0;
}

/* Leave only so many bytes. */
static bool fill(long left)
{
    char path[WORK_PATH];
    static const char zeros[4096];
    (void)snprintf(path, sizeof path, "%s/ballast", live);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    off_t at = 0;
    while (pwrite64(descriptor, zeros, sizeof zeros, at) == (ssize_t)sizeof zeros)
        at += (off_t)sizeof zeros;
    bool made = ftruncate64(descriptor, at > left ? at - left : 0) == 0;
    (void)close(descriptor);
    return made;
}

static void fill_up(void)
{
    bool must = geteuid() == 0 || getenv("CI") != NULL;
    if (!mounted()) {
        printf("full file system       %s: none can be mounted: %s\n", must ? "FAILED" : "skipped",
               strerror(errno));
        check_failed += must;
        return;
    }
    memset(&seen, 0, sizeof seen);
    for (size_t i = 0; i < subject_count; i++)
        for (long left = 0; left < 960 << 10; left += 32 << 10) {
            make_ready(&subjects[i]);
            CHECK_INT(fill(left), true);
            (void)snprintf(failing.at, sizeof failing.at, "%ld bytes left", left);
            dm_status rc = run_subject(&subjects[i]);
            live_remove("ballast");
            const char *what = wrong(&subjects[i], rc);
            put_away();
            seen.trials++;
            seen.failed += rc != DM_OK;
            seen.wrong += what != NULL;
            if (what != NULL)
                tell(&subjects[i], "no room", left, rc, what);
        }
    printf("full file system       %5ld trials: %ld operations failed, %ld wrong\n", seen.trials,
           seen.failed, seen.wrong);
    CHECK_INT(seen.wrong, 0);
    CHECK_INT(seen.failed > 0, 1);
    each_file(live, live_remove);
    (void)umount(live);
}

/* ---- */

/* A run that goes on is use of a price only after a minute: what a trial does must not depend on
 * how long after the beginning it is. */
static void prices_age(void)
{
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(w.path, &db), SQLITE_OK);
    CHECK_INT(sqlite3_exec(db,
                           "UPDATE datamanager_price_changes SET changed_at=changed_at-3600;"
                           "UPDATE datamanager_price_changes SET effective_from=effective_from-3600"
                           " WHERE effective_from>1e9",
                           NULL, NULL, NULL),
              SQLITE_OK);
    (void)sqlite3_close(db);
}

/* A database in which each operation finds something to do, and a backup of it. */
static void start_make(void)
{
    dm_str names[] = {DM_STR("a"), DM_STR("b"), DM_STR("模型"), DM_STR("d")};
    work_init(&w, start, DM_DURABILITY_FULL, 1);
    CHECK_OK(work_open(&w));
    CHECK_OK(dm_model_register(w.m, names, 4, &err));
    for (int i = 0; i < 28; i++)
        CHECK_OK(work_run(&w, (size_t)i % 7));
    CHECK_OK(dm_backup(w.m, w.backup, true, NULL, &err));
    for (int i = 0; i < 10; i++)
        CHECK_OK(work_run(&w, (size_t)i % 7));
    work_end(&w);
    prices_age();
}

/* DM_ONLY: the name of one operation. */
static void subjects_add(void)
{
    const char *only = getenv("DM_ONLY");
    subject_count = only == NULL ? subject_count : 0;
    for (size_t i = 0; i < work_operation_count; i++) {
        if (only != NULL && strcmp(only, work_operations[i].name) != 0)
            continue;
        subject added = {work_operations[i].name, NULL, true, NULL, i, 77 + i, 0, 0, 0};
        subjects[subject_count++] = added;
    }
    for (size_t i = 0; i < subject_count; i++)
        CHECK_INT(learn(&subjects[i]), true);
}

int main(void)
{
    const char *pairs = getenv("DM_PAIRS");
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (mkdtemp(root) == NULL && mkdtemp(strcpy(root, "/tmp/dm-io-XXXXXX")) == NULL)
        return 2;
    (void)snprintf(start, sizeof start, "%s/start", root);
    (void)snprintf(live, sizeof live, "%s/live", root);
    if (mkdir(start, 0700) != 0 || mkdir(live, 0700) != 0)
        return 2;
    start_make();
    calls_hurried = true;
    work_init(&w, live, DM_DURABILITY_FULL, 1);
    w.options.busy_timeout_ms = 1;
    w.options.cache_bytes = -1;
    put_away();
    subjects_add();
    long before = descriptors();
    kill_over_damage();
    fail_over_damage();
    fail_everywhere();
    fail_pairs(pairs == NULL ? 500 : atol(pairs));
    fill_up();
    CHECK_INT(descriptors(), before);
    ignore_errors();
    each_file(live, live_remove);
    (void)rmdir(live);
    (void)snprintf(live, sizeof live, "%s", start);
    each_file(live, live_remove);
    (void)rmdir(start);
    (void)rmdir(root);
    return check_report();
}
