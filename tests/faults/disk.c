/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include "calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define FILES  256 /* that there ever were */
#define NAME   96

typedef enum {
    EVENT_WRITE,
    EVENT_TRUNCATE,
    EVENT_SYNC,
    EVENT_CREATE,
    EVENT_UNLINK,
    EVENT_RENAME,
    EVENT_SYNC_FOLDER,
    EVENT_MARK
} event_kind;

typedef struct {
    event_kind kind;
    int file;
    size_t at, size; /* of a truncate: the new size is `at` */
    unsigned char *bytes;
    char name[NAME], to[NAME];
    int64_t mark;
} event;

typedef struct {
    unsigned char *bytes;
    size_t size, room;
} content;

typedef struct {
    char name[NAME];
    int file;
} entry;

typedef struct {
    entry entries[FILES];
    size_t count;
} folder_names;

disk_skip disk_skipped;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *recorded;
static event *events;
static size_t event_count, event_room;
static ino_t inodes[FILES];
static content starts[FILES];
static int file_count;
static folder_names start_names;

/* Of this harness itself: nothing that it finds could be believed. */
static void require_at(bool met, int line)
{
    if (met)
        return;
    perror("disk.c");
    fprintf(stderr, "disk.c:%d: cannot go on\n", line);
    abort();
}
#define REQUIRE(met) require_at((met), __LINE__)

/* ---- names ---- */

static const char *base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

static entry *names_find(folder_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->entries[i].name, name) == 0)
            return &names->entries[i];
    return NULL;
}

static void names_remove(folder_names *names, const char *name)
{
    entry *found = names_find(names, name);
    if (found != NULL)
        *found = names->entries[--names->count];
}

static void names_put(folder_names *names, const char *name, int file)
{
    names_remove(names, name);
    entry *added = &names->entries[names->count++];
    (void)snprintf(added->name, sizeof added->name, "%s", name);
    added->file = file;
}

static void names_apply(folder_names *names, const event *what)
{
    const entry *from;
    if (what->kind == EVENT_CREATE)
        names_put(names, what->name, what->file);
    else if (what->kind == EVENT_UNLINK)
        names_remove(names, what->name);
    else if ((from = names_find(names, what->name)) != NULL) {
        int file = from->file;
        names_remove(names, what->name);
        names_put(names, what->to, file);
    }
}

/* ---- content ---- */

static void content_size_set(content *file, size_t size)
{
    if (size > file->room) {
        file->room = size * 2;
        file->bytes = realloc(file->bytes, file->room);
        REQUIRE(file->bytes != NULL);
    }
    if (size > file->size)
        memset(file->bytes + file->size, 0, size - file->size);
    file->size = size;
}

static void content_write(content *file, size_t at, const unsigned char *bytes, size_t size)
{
    if (at + size > file->size)
        content_size_set(file, at + size);
    memcpy(file->bytes + at, bytes, size);
}

static void content_apply(content *file, const event *what)
{
    if (what->kind == EVENT_TRUNCATE)
        content_size_set(file, what->at);
    else
        content_write(file, what->at, what->bytes, what->size);
}

static void content_copy(content *to, const content *from)
{
    to->size = 0;
    content_write(to, 0, from->size == 0 ? (const unsigned char *)"" : from->bytes, from->size);
}

/* ---- writing down ---- */

/* With the lock held. */
static event *event_add(event_kind kind)
{
    if (event_count == event_room) {
        event_room = event_room == 0 ? 1024 : event_room * 2;
        events = realloc(events, event_room * sizeof *events);
        REQUIRE(events != NULL);
    }
    events[event_count] = (event){.kind = kind, .file = -1};
    return &events[event_count++];
}

static int file_find(ino_t inode)
{
    int file = file_count - 1;
    while (file >= 0 && inodes[file] != inode)
        file--; /* the latest: the number of a file that is gone may be given again */
    return file;
}

static int file_add(ino_t inode)
{
    REQUIRE(file_count < FILES);
    inodes[file_count] = inode;
    starts[file_count].size = 0;
    return file_count++;
}

static bool is_skipped(const file_call *call)
{
    switch (disk_skipped) {
    case DISK_SKIP_LOG:
        return ends_with(call->path, "-wal");
    case DISK_SKIP_DATABASE:
        return ends_with(call->path, "/usage.db");
    case DISK_SKIP_BACKUP:
        return strstr(call->path, "unfinished") != NULL;
    case DISK_SKIP_FOLDER:
        return file_find(call->inode) < 0;
    default:
        return false;
    }
}

static void bytes_record(const file_call *call, event_kind kind)
{
    int file = file_find(call->inode);
    if (file < 0)
        return;
    event *added = event_add(kind);
    added->file = file;
    added->at = (size_t)call->at;
    added->size = call->size;
    if (kind == EVENT_WRITE) {
        added->bytes = malloc(call->size + 1);
        REQUIRE(added->bytes != NULL);
        memcpy(added->bytes, call->bytes, call->size);
    }
}

static void sync_record(const file_call *call)
{
    if (is_skipped(call))
        return;
    int file = file_find(call->inode);
    event_add(file < 0 ? EVENT_SYNC_FOLDER : EVENT_SYNC)->file = file;
}

static void name_record(const file_call *call, event_kind kind)
{
    event *added = event_add(kind);
    (void)snprintf(added->name, sizeof added->name, "%s", base(call->path));
    if (kind == EVENT_CREATE)
        added->file = file_add(call->inode);
    if (kind == EVENT_RENAME)
        (void)snprintf(added->to, sizeof added->to, "%s", base(call->to));
}

static void record(const file_call *call)
{
    if (ends_with(call->path, "-shm")) /* memory: no disk has it */
        return;
    (void)pthread_mutex_lock(&lock);
    switch (call->kind) {
    case CALL_WRITE:
        bytes_record(call, EVENT_WRITE);
        break;
    case CALL_TRUNCATE:
        bytes_record(call, EVENT_TRUNCATE);
        break;
    case CALL_SYNC:
        sync_record(call);
        break;
    case CALL_CREATE:
        name_record(call, EVENT_CREATE);
        break;
    case CALL_UNLINK:
        name_record(call, EVENT_UNLINK);
        break;
    case CALL_RENAME:
        name_record(call, EVENT_RENAME);
        break;
    default:
        break;
    }
    (void)pthread_mutex_unlock(&lock);
}

void disk_mark(int64_t value)
{
    (void)pthread_mutex_lock(&lock);
    event_add(EVENT_MARK)->mark = value;
    (void)pthread_mutex_unlock(&lock);
}

static void start_read(const char *folder, const char *name)
{
    char path[512];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(descriptor >= 0 && fstat(descriptor, &status) == 0);
    int file = file_add(status.st_ino);
    content_size_set(&starts[file], (size_t)status.st_size);
    REQUIRE(pread64(descriptor, starts[file].bytes, starts[file].size, 0) == status.st_size);
    (void)close(descriptor);
    names_put(&start_names, name, file);
}

static void each_file(const char *folder, void (*call)(const char *folder, const char *name))
{
    DIR *found = opendir(folder);
    REQUIRE(found != NULL);
    for (struct dirent *next; (next = readdir(found)) != NULL;)
        if (next->d_name[0] != '.' || strstr(next->d_name, "unfinished") != NULL)
            call(folder, next->d_name);
    (void)closedir(found);
}

void disk_record(const char *folder)
{
    for (size_t i = 0; i < event_count; i++)
        free(events[i].bytes);
    event_count = 0;
    file_count = 0;
    start_names.count = 0;
    recorded = folder;
    each_file(folder, start_read);
    calls_after = record;
    calls_watch(recorded);
}

void disk_stop(void)
{
    calls_watch(NULL);
    calls_after = NULL;
}

size_t disk_length(void)
{
    return event_count;
}

/* ---- the cut ---- */

static uint64_t chance;

static uint32_t roll(uint32_t below)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)((chance >> 32) % below);
}

/* Sector by sector: there, not there, or a part of it. */
static void write_lossy(content *file, const event *what, uint32_t percent)
{
    for (size_t done = 0; done < what->size;) {
        size_t at = what->at + done, size = SECTOR - at % SECTOR;
        size_t skip = 0;
        if (size > what->size - done)
            size = what->size - done;
        if (roll(100) < percent) {
            size_t kept = size;
            if (roll(16) == 0) { /* torn, at either end */
                kept = roll((uint32_t)size + 1);
                skip = roll(2) ? size - kept : 0;
            }
            if (kept > 0)
                content_write(file, at + skip, what->bytes + done + skip, kept);
        }
        done += size;
    }
}

static void event_lossy(content *file, const event *what, uint32_t percent)
{
    if (what->kind == EVENT_WRITE)
        write_lossy(file, what, percent);
    else if (roll(100) < percent)
        content_apply(file, what);
}

typedef struct {
    content files[FILES];
    size_t synced[FILES]; /* the event that synced it last */
    folder_names names;
    size_t names_synced;
} image;

static void image_fill(image *disk, size_t cut, void (*take)(int64_t value))
{
    for (int i = 0; i < file_count; i++) {
        content_copy(&disk->files[i], &starts[i]);
        disk->synced[i] = 0;
    }
    disk->names = start_names;
    disk->names_synced = 0;
    for (size_t i = 0; i < cut; i++) {
        const event *at = &events[i];
        if (at->kind == EVENT_MARK && take != NULL)
            take(at->mark);
        if (at->kind == EVENT_SYNC)
            disk->synced[at->file] = i;
        if (at->kind == EVENT_SYNC_FOLDER)
            disk->names_synced = i;
    }
}

static bool changes_names(const event *what)
{
    return what->kind == EVENT_CREATE || what->kind == EVENT_UNLINK || what->kind == EVENT_RENAME;
}

static void image_cut(image *disk, size_t cut)
{
    static const uint32_t percents[] = {0, 25, 50, 90, 100};
    uint32_t percent = percents[roll(5)];
    size_t names_end = disk->names_synced + roll((uint32_t)(cut - disk->names_synced) + 1);
    for (size_t i = 0; i < cut; i++) {
        const event *at = &events[i];
        if (at->kind == EVENT_WRITE || at->kind == EVENT_TRUNCATE) {
            content *file = &disk->files[at->file];
            if (i < disk->synced[at->file])
                content_apply(file, at);
            else
                event_lossy(file, at, percent);
        } else if (changes_names(at) && i < names_end) {
            names_apply(&disk->names, at);
        }
    }
}

static void image_store(const image *disk, const char *folder)
{
    for (size_t i = 0; i < disk->names.count; i++) {
        const content *file = &disk->files[disk->names.entries[i].file];
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", folder, disk->names.entries[i].name);
        int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        REQUIRE(descriptor >= 0);
        REQUIRE(pwrite64(descriptor, file->bytes, file->size, 0) == (ssize_t)file->size);
        (void)close(descriptor);
    }
}

static void file_remove(const char *folder, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    (void)unlink(path);
}

void disk_empty_folder(const char *folder)
{
    each_file(folder, file_remove);
}

void disk_cut(size_t cut, uint64_t seed, const char *folder, void (*take)(int64_t value))
{
    static image disk;
    chance = seed * 0x9e3779b97f4a7c15u | 1;
    (void)roll(2);
    image_fill(&disk, cut, take);
    image_cut(&disk, cut);
    disk_empty_folder(folder);
    image_store(&disk, folder);
}
