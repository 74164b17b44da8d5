/* SPDX-License-Identifier: MIT
 *
 * Other processes of the same program: PROGRAM ROLE NUMBER FOLDER. They are executed, not only
 * forked, so that they share nothing of SQLite's. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <sys/types.h>

pid_t process_start(const char *role, int number, const char *folder);
/* Its exit code, or minus the signal that ended it. */
int process_wait(pid_t pid);
int process_kill(pid_t pid);

/* A gate that opens for all who wait at it at once; `folder` is shared. */
void gate_shut(const char *folder);
void gate_open(void);
void gate_wait(const char *folder, int number); /* in the other processes */
void gate_await(int count);                     /* until so many are there */

/* Removes the files of a folder. */
void folder_empty(const char *folder);

#endif
