/* SPDX-License-Identifier: MIT
 *
 * What a disk holds after a power cut. All that happens to the files of one folder is written down;
 * for any moment of that the folder can then be made as a disk may have it that has promised
 * nothing but its syncs:
 *
 *     of each file, each 512 bytes that were written since its last sync are there, not there, or
 *     torn; whatever the order; the same with its size;
 *     of the folder, what was made, renamed and removed since its last sync is there up to some
 *     point: file systems keep that in order.
 *
 * A disk never loses what was synced, and never changes bytes that were not written ("powersafe
 * overwrite", which SQLite takes for granted everywhere). */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Begin with what is in the folder, which is taken as synced. */
void disk_record(const char *folder);
/* No more. What was written down stays, until it is begun again. */
void disk_stop(void);
/* Something of the caller's happens now. */
void disk_mark(int64_t value);

/* A control: a sync that is not made. */
typedef enum {
    DISK_SKIP_NONE,
    DISK_SKIP_LOG,
    DISK_SKIP_DATABASE,
    DISK_SKIP_BACKUP,
    DISK_SKIP_FOLDER
} disk_skip;
extern disk_skip disk_skipped;

size_t disk_length(void); /* moments */
/* Make what is left when the power fails before moment `cut`, in `folder`, which is emptied first.
 * `take` is called for each mark before it. */
void disk_cut(size_t cut, uint64_t seed, const char *folder, void (*take)(int64_t value));

void disk_empty_folder(const char *folder);

#endif
