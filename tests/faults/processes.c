/* SPDX-License-Identifier: MIT */
#include "processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

pid_t process_start(const char *role, int number, const char *folder)
{
    char text[16];
    (void)snprintf(text, sizeof text, "%d", number);
    char *arguments[] = {"faults", (char *)role, text, (char *)folder, NULL};
    pid_t pid = -1;
    if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ) != 0)
        abort();
    return pid;
}

int process_wait(pid_t pid)
{
    int status = 0;
    (void)waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int process_kill(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    return process_wait(pid);
}

static int gate = -1;

static int gate_file(const char *folder)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/gate", folder);
    return open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void gate_shut(const char *folder)
{
    gate = gate_file(folder);
    if (gate < 0 || ftruncate(gate, 0) != 0 || flock(gate, LOCK_EX) != 0)
        abort();
}

void gate_open(void)
{
    (void)close(gate);
}

void gate_wait(const char *folder, int number)
{
    char byte = (char)number;
    int waiting = gate_file(folder);
    if (write(waiting, &byte, 1) != 1 || flock(waiting, LOCK_SH) != 0)
        abort();
    (void)close(waiting);
}

void gate_await(int count)
{
    struct stat status;
    do
        (void)poll(NULL, 0, 1);
    while (fstat(gate, &status) == 0 && status.st_size < count);
}

void folder_empty(const char *folder)
{
    DIR *found = opendir(folder);
    for (struct dirent *next; found != NULL && (next = readdir(found)) != NULL;) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", folder, next->d_name);
        if (strcmp(next->d_name, ".") != 0 && strcmp(next->d_name, "..") != 0)
            (void)unlink(path);
    }
    if (found != NULL)
        (void)closedir(found);
}
