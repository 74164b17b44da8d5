/* SPDX-License-Identifier: MIT
 *
 * A VFS around the real one that calls us at two moments of a checkpoint. */
#ifndef SHIM_H
#define SHIM_H

#include <sqlite3.h>
#include <stddef.h>

typedef struct {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct, in the same allocation */
} shim_file;

static sqlite3_vfs *real_vfs;
static void (*after_read)(void);    /* when a connection gives a read lock back */
static void (*in_checkpoint)(void); /* between a checkpoint's header and its work */

static void call_once(void (**hook)(void))
{
    void (*call)(void) = *hook;
    *hook = NULL;
    if (call != NULL)
        call();
}

#define REAL(file) (((shim_file *)(file))->real)

static int shim_close(sqlite3_file *f)
{
    return REAL(f)->pMethods->xClose(REAL(f));
}
static int shim_read(sqlite3_file *f, void *to, int size, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xRead(REAL(f), to, size, at);
}
static int shim_write(sqlite3_file *f, const void *from, int size, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xWrite(REAL(f), from, size, at);
}
static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return REAL(f)->pMethods->xTruncate(REAL(f), size);
}
static int shim_sync(sqlite3_file *f, int flags)
{
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int shim_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), size);
}
static int shim_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}
static int shim_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}
static int shim_reserved(sqlite3_file *f, int *reserved)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), reserved);
}
static int shim_control(sqlite3_file *f, int op, void *argument)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, argument);
}
static int shim_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int shim_device(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int shim_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **at)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, at);
}
static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    int code = REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
    if (flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED))
        call_once(&after_read);
    return code;
}
static void shim_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int shim_shm_unmap(sqlite3_file *f, int remove)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), remove);
}
static int shim_fetch(sqlite3_file *f, sqlite3_int64 at, int size, void **page)
{
    (void)f, (void)at, (void)size;
    *page = NULL;
    return SQLITE_OK;
}
static int shim_unfetch(sqlite3_file *f, sqlite3_int64 at, void *page)
{
    (void)f, (void)at;
    if (page == NULL)
        call_once(&in_checkpoint);
    return SQLITE_OK;
}

static const sqlite3_io_methods shim_methods = {
    3,           shim_close,   shim_read,     shim_write,       shim_truncate,  shim_sync,
    shim_size,   shim_lock,    shim_unlock,   shim_reserved,    shim_control,   shim_sector,
    shim_device, shim_shm_map, shim_shm_lock, shim_shm_barrier, shim_shm_unmap, shim_fetch,
    shim_unfetch};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    shim_file *shim = (shim_file *)file;
    shim->real = (sqlite3_file *)(shim + 1);
    int code = real_vfs->xOpen(real_vfs, name, shim->real, flags, out);
    shim->base.pMethods = shim->real->pMethods == NULL ? NULL : &shim_methods;
    return code;
}

/* Whether this SQLite has the race that the second of them is there to show. */
static inline bool has_race(void)
{
    dm_sqlite_info info;
    dm_sqlite_info_get(&info);
    return info.wal_reset_race;
}

static void shim_install(void)
{
    static sqlite3_vfs shim;
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "shim";
    shim.szOsFile = (int)sizeof(shim_file) + real_vfs->szOsFile;
    shim.xOpen = shim_open;
    shim.pNext = NULL;
    (void)sqlite3_vfs_register(&shim, 1);
}

#endif
