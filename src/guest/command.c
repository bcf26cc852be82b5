/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "guest/guest.h"
#include "guest/plain.h"

/*
 * So that the kernel, short of memory, ends a command rather than init. One's
 * own file can be written only by who is dumpable. That is for a moment: until
 * exec makes it so for good, no other command may reach for our report pipe.
 */
static void offer_to_oom_killer(void)
{
    (void)prctl(PR_SET_DUMPABLE, 1);
    _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)era_write_full(fd, "500", 3);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL); /* the one that init ignores; exec resets what is caught */
}

static void set_default(const char *name, const char *value)
{
    setenv(name, value, 0);
}

static int take_stdio(const struct era_run_request *request, const int fds[CHANNELS])
{
    for (int i = 0; i < CHANNELS; i++)
        if (dup2(fds[i], i) < 0)
            return -errno;
    if (setsid() < 0)
        return -errno;
    if ((request->flags & ERA_RUN_TTY) != 0 && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
        return -errno;
    return 0;
}

/* Returns when the command may start. Who holds it may also be gone. */
static void await_go(int go_fd)
{
    char go;
    if (era_read_full(go_fd, &go, 1) != 1)
        _exit(1);
}

/* A plain command is run at once; the shell is left to say why it cannot be, and to do all the rest. */
static _Noreturn void become_shell(char *line, int status_fd)
{
    char **words = plain_words(line);
    char workdir[PATH_MAX];
    if (words != NULL && getcwd(workdir, sizeof workdir) != NULL) {
        (void)setenv("PWD", workdir, 1); /* as the shell does */
        execvp(words[0], words);
    }
    char *argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", line, NULL};
    execv(argv[0], argv);
    report_failure(status_fd, errno, argv[0], errno == ENOENT ? 127 : 126);
}

/* The command: becomes what was asked for, or says why not. */
static _Noreturn void become_command(const struct era_run_request *request, const struct stdio *stdio)
{
    int status_fd = stdio->status[1];
    reset_signals();
    offer_to_oom_killer();
    (void)setpriority(PRIO_PROCESS, 0, 0); /* init is before all others */
    int r = take_stdio(request, stdio->theirs);
    if (r < 0)
        report_failure(status_fd, -r, "cannot set up stdin, stdout and stderr", 126);

    for (size_t i = 0; i < request->env.count; i++) /* over the VM's own, which init was started with */
        (void)putenv(request->env.items[i]);
    set_default("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set_default("HOME", "/root");
    set_default("USER", "root");
    set_default("LANG", "C.UTF-8");
    if (chdir(request->workdir) < 0)
        report_failure(status_fd, errno, "cannot enter the working directory", 126);
    umask(022);
    if (stdio->go[0] >= 0)
        await_go(stdio->go[0]);
    const struct report ready = {.kind = REPORT_READY, .value = getpid()};
    report_write(status_fd, &ready);
    ERA_POINT("inside.exec");
    if (request->kind != ERA_RUN_COMMAND)
        worker_run(request, status_fd);

    if ((request->flags & ERA_RUN_SHELL) != 0)
        become_shell(request->argv.items[0], status_fd);
    char **argv = request->argv.items;
    execvp(argv[0], argv);
    report_failure(status_fd, errno, argv[0], errno == ENOENT ? 127 : 126);
}

static uint64_t cpu_us_of(const struct rusage *usage)
{
    return (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

/* The leader: parent of the command, subreaper of all that descends from it. */
static _Noreturn void lead(const struct guest *guest, const struct era_run_request *request, const struct stdio *stdio)
{
    const int *fds = stdio->theirs;
    int status_fd = stdio->status[1];
    (void)prctl(PR_SET_NAME, "era-run");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        report_failure(status_fd, errno, "cannot become a subreaper", 126);
    int r = machine_confine(guest->machine);
    if (r < 0)
        report_failure(status_fd, -r, "cannot confine the command", 126);
    const int keep[] = {fds[0], fds[1], fds[2], status_fd, stdio->go[0]};
    era_close_all_but(keep, sizeof keep / sizeof keep[0]); /* other runs' pipes, the shim */
    ERA_POINT("inside.leading");

    pid_t command = fork();
    if (command < 0)
        report_failure(status_fd, errno, "cannot fork", 126);
    if (command == 0)
        become_command(request, stdio);
    for (int i = 0; i < CHANNELS; i++)
        close(fds[i]);
    if (stdio->go[0] >= 0)
        close(stdio->go[0]);

    ERA_POINT("inside.forked");
    struct report report = {.kind = REPORT_STARTED, .value = command};
    report_write(status_fd, &report);
    int wait_status = 0;
    for (pid_t pid = 0; pid != command;) {
        /* Seen first, and only then reaped: a command that killed its leader and ends leaves its status to init. */
        siginfo_t ended;
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOWAIT) == 0)
            pid = waitpid(ended.si_pid, &wait_status, 0);
        else if (errno != EINTR)
            _exit(1);
    }
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    report = (struct report){
        .kind = REPORT_ENDED,
        .value = wait_status,
        .cpu_us = cpu_us_of(&usage),
        .peak_mem_kib = (uint64_t)usage.ru_maxrss,
    };
    report_write(status_fd, &report);
    ERA_POINT("inside.reported");
    _exit(0);
}

pid_t command_fork(const struct guest *guest, const struct era_run_request *request, const struct stdio *stdio)
{
    pid_t leader = fork();
    if (leader == 0)
        lead(guest, request, stdio);
    return leader < 0 ? -errno : leader;
}
