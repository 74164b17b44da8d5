/* SPDX-License-Identifier: MIT
 *
 * The store, as store.c, pool.c, writer.c, checkpoint.c, fork.c and batch.c share it. Everything
 * in it is protected by `lock` unless a field says otherwise; no SQLite call is made with the lock
 * held, except by fork.c, when nobody else can be inside. */
#ifndef DM_STORE_H
#define DM_STORE_H

#include <stdatomic.h>

#include "dm_internal.h"

/* One caller's writes, applied together or not at all. Lives on the caller's stack. */
typedef enum { DM__JOB_QUEUED, DM__JOB_TAKEN, DM__JOB_DONE } dm__job_state;

typedef struct dm__job {
    struct dm__job *next;
    dm__job_state state;
    bool leads;     /* its thread is to lead the next group */
    bool cancelled; /* its caller has stopped waiting: drop it if it has not begun */
    dm__cond wake;
    int64_t deadline_ns;
    const atomic_bool *closed; /* its handle: then it is not to wait any longer; may be NULL */
    dm_durability durability;
    bool heavy; /* long: goes alone, on its own thread */
    bool
        inside; /* its thread is inside SQLite already, so a fork waits for it, not it for a fork */
    bool looks; /* it does nothing but read, to see what others have done */
    /* The work: changes, or on a store in memory also reads. */
    dm__change **changes;
    size_t change_count;
    dm__read_fn read;
    void *read_argument;
    bool finished; /* rc and err are set */
    dm_status rc;
    dm_error err;
} dm__job;

typedef struct dm__store {
    struct dm__store *next; /* in the process's table; under its lock */
    char *path;             /* absolute; ":memory:" */
    uint64_t device, inode;
    bool in_memory, read_only;
    unsigned references; /* handles not yet freed, and the opener; under the table's lock */
    unsigned fork_generation;

    dm__mutex lock;
    dm__cond changed; /* state, gate, pool or `inside_sqlite` */

    enum { DM__STORE_CLOSED, DM__STORE_OPENING, DM__STORE_OPEN, DM__STORE_CLOSING } state;
    unsigned open_handles;
    bool gate_shut;         /* a fork is coming: begin nothing */
    bool poisoned;          /* forked without quiet: never touch SQLite again */
    unsigned inside_sqlite; /* threads that work in SQLite now */

    /* pool.c */
    dm__conn **idle;
    int idle_count, reader_count, pool_size;

    /* writer.c; used by the leader alone: these four */
    dm__conn *writer, *checkpointer;
    bool writer_suspect; /* an error has been seen: it is to be replaced */
    int log_bearable;    /* frames from which on readers are waited for, to begin it again */
    dm__job *queue_head, *queue_tail;
    unsigned queued;
    bool led;               /* some thread leads */
    uint64_t leader_serial; /* of the one that works; it must not wait for its own turn */
    unsigned expected;      /* callers of the latest group and those queued behind it */
    dm__cond *lingering;    /* of the leader that waits for them to come again */
    int64_t moved_check_ns;
    bool moved;

    /* witness.c */
    dm__cache *cache; /* has a lock of its own */
    _Atomic uint64_t epoch;
    unsigned version; /* of the writer's last look; both are the leader's */
    bool version_known;

    /* stats.c */
    dm__conn *lent; /* to readers */
    dm__counters counters;
    int64_t commits, operations, failed_operations, largest_commit, write_waits, read_waits;
    int64_t checkpoint_held_pages;
} dm__store;

typedef struct {
    uint64_t level; /* by which it is ended */
    size_t count;   /* of the writes before it */
} dm__batch_mark;

typedef struct dm__batch {
    struct dm__batch *next;
    uint64_t thread_serial; /* not pthread_self(): that of a thread that has ended comes again */
    unsigned depth;
    bool dropped;          /* takes no more writes; stays until its other levels have ended */
    dm__batch_mark *marks; /* one a level, the outermost first */
    dm__change **changes;
    size_t count, capacity;
} dm__batch;

struct dm_manager {
    dm__store *store;
    dm_durability durability;
    int64_t busy_timeout_ns;
    /* under the store's lock */
    atomic_bool closed;       /* is read without it, too */
    bool let_go;              /* of the store: the last that close does */
    unsigned fork_generation; /* in which `inside` and `batches` were true */
    unsigned inside;          /* calls on this handle */
    /* Its calls come from inside another store: a fork waits for them, so they must not wait for
     * it at the gate. */
    bool within;
    dm__batch *batches;
    uint64_t batch_levels; /* begun so far */
};

/* Enter a handle: DM_CLOSED, DM_FORKED. Every success needs one dm__leave,
 * which names the file where `rc` is of it and the text does not, and returns `rc`. */
dm_status dm__enter(dm_manager *m, dm_error *err) DM_CHECKED;
dm_status dm__leave(dm_manager *m, dm_status rc, dm_error *err);
int64_t dm__deadline_ns(const dm_manager *m);

/* Drop a reference; frees the store after the last. */
void dm__store_release(dm__store *store);

/* About to use SQLite: waits at the gate. With the lock held, which it gives up meanwhile. */
void dm__sqlite_begin(dm__store *store);
void dm__sqlite_end(dm__store *store);

/* pool.c */
/* A new connection to the store's file; DM_MOVED where its path leads to another, or nowhere. */
dm_status dm__store_conn_open(dm__store *store, int64_t deadline_ns, dm__conn **conn_out,
                              dm_error *err) DM_CHECKED;
/* A new connection for a read of this thread, beside the pool's. */
dm_status dm__conn_lend(dm__store *store, int64_t deadline_ns, dm__conn **conn_out,
                        dm_error *err) DM_CHECKED;
void dm__conn_give_back(dm__store *store, dm__conn *conn); /* NULL is fine */
dm_status dm__pool_get(dm__store *store, int64_t deadline_ns, dm__conn **conn_out,
                       dm_error *err) DM_CHECKED;
void dm__pool_put(dm__store *store, dm__conn *conn, bool broken);
/* The same without waiting; NULL where there is none to be had. */
dm__conn *dm__pool_try(dm__store *store);
/* One that is idle, for good; NULL where there is none. With the lock held. */
dm__conn *dm__pool_take(dm__store *store);
void dm__pool_close(dm__store *store);

/* prepare.c */
/* For the write lock, to store prices of another program: nobody waits longer for that. */
#define DM__FOREIGN_WAIT_NS (50 * DM__MS)
/* Make what `conn` has just opened ours. */
dm_status dm__store_prepare(const dm__store *store, dm__conn *conn, const dm_options *options,
                            int64_t deadline_ns, dm_error *err) DM_CHECKED;
/* What the file is to have by `options`, all or nothing. */
dm_status dm__options_store(dm_manager *m, const dm_options *options, dm_error *err) DM_CHECKED;

/* writer.c */
dm_status dm__submit(dm__store *store, dm__job *job, dm_error *err) DM_CHECKED;
void dm__writer_close(dm__store *store, bool checkpoint);
/* The file is no longer at its path. Asks the system at most every 100 ms unless `now`. */
bool dm__store_moved(dm__store *store, bool now);
dm_status dm__store_moved_fail(const dm__store *store, dm_error *err); /* DM_MOVED */

/* witness.c */
typedef struct {
    dm__store *store;
    dm__read_fn read;
    void *argument;
    bool many; /* models: a partner is of use, whatever is in memory */
} dm__witnessed;
/* A dm__read_fn of a dm__witnessed: its read, with leave to use the memory of rows where that is
 * true for the transaction that the connection has just begun, and a partner. */
dm_status dm__witnessed_read(dm__conn *conn, void *witnessed, dm_error *err) DM_CHECKED;
/* The leader, at the end of each turn. `rewritten`: rows may be other than they were. */
void dm__witness_look(dm__store *store, bool rewritten);
/* The writer's connection is another. */
void dm__witness_forget(dm__store *store);

/* checkpoint.c */
/* A log of less than the journal_size_limit of conn.c: a log that is cut off at each turn has to
 * grow again, and then each sync writes the file's size as well. */
#define DM__CHECKPOINT_FRAMES 900
/* One guarded checkpoint: see the top of checkpoint.c. DM_BUSY: not this time. */
dm_status dm__checkpoint_run(dm__conn *writer, dm__conn *checkpointer, dm_error *err) DM_CHECKED;
/* The leader's turn: when the log has grown, or `now`. Errors are left to the next commit. */
void dm__store_checkpoint(dm__store *store, bool now);

/* stats.c; with the store's lock held */
void dm__counters_fold(dm__counters *sum, dm__counters *counters);
/* A reader has it from now on, and no more. */
void dm__lend(dm__store *store, dm__conn *conn);
void dm__lend_end(dm__store *store, dm__conn *conn);

/* batch.c; but for the second with the store's lock held */
dm__batch *dm__batch_of_thread(dm_manager *m);
/* To the batch of this thread. */
dm_status dm__batch_append(dm_manager *m, const dm__change *change, dm_error *err) DM_CHECKED;
size_t dm__batches_drop(dm_manager *m); /* how many writes were in them */

/* backup.c */
/* SQLite has put the file beside a database that is open here: closing a descriptor of it drops
 * this process's locks on that. */
bool dm__is_beside_open(const dm__file_id *file);

/* store.c, for fork.c: the process's table */
extern dm__mutex dm__stores_lock;
extern dm__store *dm__stores;

#endif
