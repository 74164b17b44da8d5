/* SPDX-License-Identifier: MIT
 *
 * Checks and copies of databases, whole and in parts. A part of dm_internal.h, which includes it.
 */
#ifndef DM_INTERNAL_CARE_H
#define DM_INTERNAL_CARE_H

#include "dm_internal.h"

/* ---- eras.c ---- */

typedef struct {
    char word[DM__STORE_VALUE_SIZE]; /* "": none is known */
    int64_t last_row;
} dm__era;

dm_status dm__eras_create(dm__conn *conn, dm_error *err) DM_CHECKED;
/* Of a model that begins, or begins anew. */
dm_status dm__era_begin(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
dm_status dm__eras_forget(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
dm_status dm__eras_move(dm__conn *conn, const char *from, const char *to, dm_error *err) DM_CHECKED;
/* That of a row, after a statement of this transaction. */
dm_status dm__era_find(dm__conn *conn, const char *safe, int64_t row_id, dm__era *era_out,
                       dm_error *err) DM_CHECKED;
/* The file has become a copy: what comes from now on is of this one alone. In a transaction of its
 * own. */
dm_status dm__eras_renew(dm__conn *conn, int64_t deadline_ns, dm_error *err) DM_CHECKED;

/* ---- request_ids.c, for export.c ---- */

#define DM__EXPORTED_ID_SIZE 64

/* Of rows as they are exported: the ids that they have, and for a row without one an id that stands
 * for it, which this file finds again. */
typedef struct {
    dm__conn *conn;
    sqlite3_stmt *stmt; /* NULL: no row has one */
    const char *safe;   /* the model's */
    char table[DM_SAFE_NAME_SIZE + 16];
    dm__era era;    /* of the last row */
    int64_t row_id; /* where the statement is */
    char text[DM__EXPORTED_ID_SIZE];
} dm__request_ids;

/* To be closed after a success, in the same transaction. */
dm_status dm__request_ids_open(dm__conn *conn, dm__model *model, dm__request_ids *ids,
                               dm_error *err) DM_CHECKED;
/* Row ids must ascend from call to call; the text is there until the next. */
dm_status dm__request_ids_find(dm__request_ids *ids, int64_t row_id, const dm_request *request,
                               dm_str *id_out, dm_error *err) DM_CHECKED;
void dm__request_ids_close(dm__request_ids *ids);

/* ---- checksums.c ---- */

dm_status dm__checksums_install(dm__conn *conn, dm_error *err) DM_CHECKED;
bool dm__checksums_exist(dm__conn *conn, const char *safe);
dm_status dm__checksums_create(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
/* Of a model that has them: of its rows from `first_id` on. Never DM__STALE. */
dm_status dm__checksums_add(dm__conn *conn, dm__model *model, int64_t first_id,
                            dm_error *err) DM_CHECKED;
/* Set has_checksums by the tables that `insert` was prepared for. A restore may have put another
 * database in the place of that one: SQLite then prepares it again while it runs. */
void dm__checksums_look(dm__conn *conn, dm__model *model, sqlite3_stmt *insert);
/* Of a model that has them: is the row no longer what was stored? */
dm_status dm__checksum_differs(dm__conn *conn, dm__model *model, int64_t row_id, bool *differs,
                               dm_error *err) DM_CHECKED;
/* The same, or one that every time is on the same side of: SQL text has no infinity. */
double dm__sql_time(double time_s);
/* How many rows of the window are not; 0 where the model has none. */
dm_status dm__checksums_differing(dm__conn *conn, const char *safe, double start_s, double end_s,
                                  int64_t *count, dm_error *err) DM_CHECKED;
/* Was the database made with them? */
dm_status dm__checksums_wanted(dm__conn *conn, bool *wanted, dm_error *err) DM_CHECKED;
/* Make it so, in the caller's transaction; DM_INVALID where it has models without them. */
dm_status dm__checksums_begin(dm__conn *conn, const char *path, dm_error *err) DM_CHECKED;

/* ---- schema.c ---- */

dm_status dm__program_table_create(dm__conn *conn, dm_error *err) DM_CHECKED;
dm_status dm__mapping_create(dm__conn *conn, dm_error *err) DM_CHECKED;

/* datamanager_store: what is said of the database as a whole, words of letters and digits. */
dm_status dm__store_table_create(dm__conn *conn, dm_error *err) DM_CHECKED;
/* Empty where it is none. */
void dm__word_copy(sqlite3_stmt *stmt, int column, char word[DM__STORE_VALUE_SIZE]);
/* Empty where it is not said, or others have dropped the table. */
dm_status dm__store_value_read(dm__conn *conn, const char *name, char value[DM__STORE_VALUE_SIZE],
                               dm_error *err) DM_CHECKED;

/* ---- verify.c ---- */

/* Unchecked: an index or a rule of the table needs what only another program has. */
typedef enum {
    DM__VERDICT_DAMAGED,
    DM__VERDICT_UNCHECKED,
    DM__VERDICT_UNCHECKED_FOREIGN /* no table of ours */
} dm__verdict;

/* `table` NULL: of the file. An error ends the check. */
typedef dm_status (*dm__verdict_fn)(void *argument, dm__verdict verdict, const char *table,
                                    const char *text, dm_error *err);
/* What SQLite finds wrong in its file, at most `limit` things; of tables that it must check one by
 * one, of each as many as it likes. `quick` leaves out the indexes. */
dm_status dm__file_verify(dm__conn *conn, bool quick, int limit, dm__verdict_fn tell,
                          void *argument, dm_error *err) DM_CHECKED;
/* DM_DAMAGED with the first of them; DM_CORRUPT_DATA where a table of ours cannot be checked. */
dm_status dm__integrity_verify(dm__conn *conn, bool quick, dm_error *err) DM_CHECKED;

/* ---- integrity.c ---- */

typedef struct {
    char name[128];
} dm__index_name;

#define DM__DECLARATION_SIZE   1024 /* more than any table of ours takes */
#define DM__FINDINGS_PER_TABLE 100  /* errors, and as many warnings */

typedef struct {
    dm__conn *conn;
    dm__conn *ours; /* in memory: our tables as they should be, those of DM__MODEL_SAFE */
    dm_error *err;
    dm_findings *found;
    size_t capacity;
    size_t kept;      /* findings of before */
    size_t told[2];   /* and since then, by severity */
    char full[2][64]; /* the latest table that had its most */
    bool quick;
    bool mend_models, mend_tables; /* there is something to mend */
    dm__index_name *indexes;       /* that are damaged */
    size_t index_count, index_capacity;
    bool seen;
    sqlite3_stmt *keep; /* while declarations are read */
    char declared[DM__DECLARATION_SIZE];
    const char *like; /* the table among `ours` that one is compared with */
    dm_manager *m;
    size_t lone_entries; /* of the index that was looked at last: their rows are not in the table */
} dm__audit;

#define DM__MODEL_SAFE "model"

/* Nothing has been told yet. */
void dm__audit_begin(dm__audit *audit);
/* `table` NULL: of the file. What is too much of one kind is left out. */
dm_status dm__found(dm__audit *audit, dm_severity severity, const char *table, int64_t row_id,
                    const char *format, ...) DM_PRINTF(5, 6) DM_CHECKED;
/* An error that says that something is wrong in the file becomes a finding; others stay. */
dm_status dm__found_error(dm__audit *audit, dm_status rc, const char *table,
                          int64_t row_id) DM_CHECKED;
typedef dm_status (*dm__audit_row_fn)(dm__audit *audit, sqlite3_stmt *stmt, const char *table);
/* Call `each` for the rows of a query. */
dm_status dm__audit_each(dm__audit *audit, const char *table, dm__audit_row_fn each,
                         const char *format, ...) DM_CHECKED;

/* shape.c */
/* First, once there are `ours`. */
dm_status dm__declarations_read(dm__audit *audit) DM_CHECKED;
/* Is `table` as `like` is among `ours`? `usable` becomes false where it cannot be read. */
dm_status dm__table_audit(dm__audit *audit, const char *table, const char *like,
                          bool *usable) DM_CHECKED;
/* The same of one that need not be there: then it is not usable either. */
dm_status dm__side_table_audit(dm__audit *audit, const char *table, const char *like,
                               bool *usable) DM_CHECKED;

/* rules.c */
dm_status dm__runs_audit(dm__audit *audit, const char *table) DM_CHECKED;
dm_status dm__model_audit(dm__audit *audit, dm_str name, const char *safe) DM_CHECKED;

/* request_ids.c: is each the id of a row that is, or was? At most `most` findings. */
dm_status dm__row_ids_audit(dm__audit *audit, const char *safe, int most) DM_CHECKED;

/* mend.c: for dm__write_alone; the findings become what was done. */
dm_status dm__mend_run(dm__conn *conn, void *audit, dm_error *err) DM_CHECKED;

/* ---- steps.c: a long job as short transactions, between which others write ---- */

typedef struct {
    dm_manager *m;
    const dm_progress *progress; /* may be NULL */
    int64_t done, total;         /* as they are told */
    dm__stop stop;
    /* of the step that runs, and for the next */
    dm__read_fn work;
    void *argument;
    int64_t deadline_ns, until_ns, work_ns;
} dm__steps;

/* `work` in a transaction of its own; it is to end when no time is left. */
dm_status dm__step_take(dm__steps *steps, dm__read_fn work, void *argument,
                        dm_error *err) DM_CHECKED;
bool dm__step_time_left(const dm__steps *steps);
/* Others write meanwhile. DM_INTERRUPTED, with what becomes of the rest. */
dm_status dm__step_pause(dm__steps *steps, const char *rest, dm_error *err) DM_CHECKED;
/* All is done, and told. */
dm_status dm__steps_end(dm__steps *steps, dm_error *err) DM_CHECKED;

/* ---- storage.c vacuum.c ---- */

dm_status dm__file_bytes_read(dm__conn *conn, int64_t *bytes, dm_error *err) DM_CHECKED;
/* What is free, where that goes in steps. */
dm_status dm__room_return(dm_manager *m, dm_error *err) DM_CHECKED;

/* ---- backup.c restore.c ---- */

typedef struct {
    const dm_progress *progress; /* may be NULL */
    int64_t before, after;       /* pages of other copies of the same call */
    dm__stop stop;
} dm__copying;

/* All pages, from a connection that is in a read transaction. Adds their number to `before`. */
dm_status dm__pages_copy(sqlite3_backup *backup, sqlite3 *to, dm__copying *copying,
                         dm_error *err) DM_CHECKED;

typedef struct {
    bool check;
    bool replace;      /* what is there */
    const char *aside; /* or move it, with its log, to this name; NULL: do not */
} dm__snapshot;

/* All of it to a file that is empty, and open nowhere; `renew`: as a copy that may go on. */
dm_status dm__file_fill(const char *path, dm__conn *from, bool renew, dm__copying *copying,
                        dm_error *err) DM_CHECKED;

/* To a new file at `dest`, as dm_backup says. */
dm_status dm__snapshot_write(dm__conn *from, const char *dest, const dm__snapshot *how,
                             dm__copying *copying, dm_error *err) DM_CHECKED;
/* Give a whole and synced file its name, and sync that. */
dm_status dm__file_put(dm__unfinished *file, const char *dest, const dm__snapshot *how,
                       dm_error *err) DM_CHECKED;
/* DM_INVALID where SQLite would take what is at the resolved `path` for its own. A database that
 * has none yet is no better: when it is made, SQLite deletes the file. */
dm_status dm__dest_name_check(const char *path, dm_error *err) DM_CHECKED;
/* The path that a snapshot would go to, for free(), where it may go there. */
dm_status dm__dest_resolve(const char *dest, bool replace, char **path_out,
                           dm_error *err) DM_CHECKED;

#endif
