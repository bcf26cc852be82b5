/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#ifdef ERA_FAULT_INJECTION

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char variable[] = "ERA_FAULT=";
static const char clock_variable[] = "ERA_FAULT_CLOCK=";

/*
 * Every point, in the order of the way through the programs. What is before the
 * first dot says by which scenario of tests/crash a point is reached; the name
 * says what is done by then.
 */
static const char *const points[] = {
    /* service: create */
    "create.locked",
    "create.recorded",
    "create.folder",
    "create.launched",
    "create.ready",
    "create.committed",
    "undo.begun",
    "undo.folder",
    "undo.record",
    /* service: a shim is started, for create and for a VM that is down */
    "launch.locked",
    "launch.spawned",
    "launch.sent",
    "launch.answered",
    "start.seized",
    "start.launched",
    "start.ready",
    "start.committed",
    /* service: volumes */
    "volume.recorded",
    "volume.sized",
    "volume.formatted",
    "volume.named",
    "discard.forgotten",
    "discard.removed",
    /* service: run, copies */
    "run.staged",
    "run.connected",
    "run.opened",
    "run.sent",
    "run.recorded",
    "run.gone",
    "run.ended",
    "run.finished",
    "copy.opened",
    "copy.fed",
    /* service: stop, clean, reconcile */
    "stop.seized",
    "stop.asked",
    "stop.answered",
    "stop.down",
    "stop.recorded",
    "clean.seized",
    "clean.down",
    "clean.forgotten",
    "clean.removed",
    "abandon.swept",
    "abandon.folder",
    "abandon.record",
    "reconcile.swept",
    "reconcile.socket",
    /* shim: launch; the launcher's parent */
    "shim.started",
    "shim.ordered",
    "shim.prepared",
    "guest.mounts",
    "guest.volume",
    "guest.cgroup",
    "guest.born",
    "guest.mapped",
    "guest.network",
    "guest.root",
    "guest.go",
    "guest.exec",
    "shim.guest",
    "shim.listening",
    "shim.answered",
    "shim.committed",
    "shim.confined",
    /* the launcher's child: before each step of its table; the keepers of a network */
    "child.step",
    "child.exec",
    "network.entered",
    "network.kept",
    /* a guest with a kernel of its own: the launcher's parent, QEMU's jail before each step, templates */
    "machine.bounded",
    "machine.born",
    "machine.lent",
    "machine.jailed",
    "machine.remembers",
    "machine.loaded",
    "machine.told",
    "jail.step",
    "jail.exec",
    "template.locked",
    "template.begun",
    "template.booted",
    "template.saved",
    "template.written",
    "template.cleared",
    "template.placed",
    /* service and shim: such a guest is saved, forked, paused */
    "snapshot.folder",
    "still.copied",
    "still.held",
    "still.saved",
    "still.over",
    "snapshot.saved",
    "snapshot.described",
    "snapshot.named",
    "fork.saved",
    "fork.made",
    "fork.removed",
    "pause.told",
    /* shim: runs, stop */
    "keep.begun",
    "keep.folder",
    "keep.logs",
    "keep.gone",
    "keep.ended",
    "keep.result",
    "keep.published",
    "end.asked",
    "end.dead",
    "end.unlinked",
    "end.freed",
    /* guest */
    "init.begun",
    "init.ready",
    "inside.taken",
    "inside.started",
    "inside.leading",
    "inside.forked",
    "inside.exec",
    "inside.reported",
    "inside.over",
    "worker.begun",
    "init.stopping",
    /* images */
    "image.work",
    "image.archive",
    "image.unpacked",
    "image.locked",
    "image.assembled",
    "image.placed",
    "image.synced",
    "build.begun",
    "build.root",
    "pull.fetched",
    "remove.moved",
    "remove.removed",
    "unpack.begun",
    "unpack.sandboxed",
    "unpack.done",
};

/* The names of errors that a call can be made to fail with. */
static const struct {
    const char *name;
    int number;
} errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM},
              {"EACCES", EACCES}, {"EAGAIN", EAGAIN}, {"EROFS", EROFS}};

/* Entries that a plan may have. */
enum { ENTRIES_MAX = 4 };

static _Noreturn void refuse(const char *plan)
{
    static const char says[] = "no such point or action in ";
    (void)!write(STDERR_FILENO, says, sizeof says - 1);
    (void)!write(STDERR_FILENO, plan, strlen(plan));
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(99);
}

static _Noreturn void die(void)
{
    (void)kill(getpid(), SIGKILL);
    _exit(128 + SIGKILL); /* the first process of a pid namespace is deaf to itself */
}

/* By SIGSTOP; the first process of a pid namespace, which is deaf to that as well, waits instead. */
static void stop(void)
{
    sigset_t go;
    sigset_t before;
    sigemptyset(&go);
    sigaddset(&go, SIGCONT);
    char name[16] = "";
    (void)prctl(PR_GET_NAME, name);
    (void)prctl(PR_SET_NAME, "era-fault");
    if (getpid() != 1) {
        (void)kill(getpid(), SIGSTOP);
    } else {
        (void)sigprocmask(SIG_BLOCK, &go, &before);
        (void)sigwaitinfo(&go, NULL);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
    }
    (void)prctl(PR_SET_NAME, name);
}

static bool same(const char *text, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(text, name, len) == 0;
}

static bool is_point(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        if (same(name, len, points[i]))
            return true;
    return false;
}

static int act(const char *action, size_t len, const char *plan)
{
    if (same(action, len, "kill"))
        die();
    if (same(action, len, "stop")) {
        stop();
        return 0;
    }
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (same(action, len, errors[i].name)) {
            errno = errors[i].number;
            return -errno;
        }
    refuse(plan);
}

int era_fault(const char *point)
{
    static unsigned passed[ENTRIES_MAX];
    const char *variable_now = era_fault_variable();
    if (variable_now == NULL)
        return 0;
    const char *entry = variable_now + sizeof variable - 1;
    for (size_t i = 0; entry[0] != '\0'; i++) {
        size_t len = strcspn(entry, ",");
        size_t name = strcspn(entry, "@=,");
        if (i == ENTRIES_MAX || !is_point(entry, name))
            refuse(variable_now);
        const char *at = entry + name;
        unsigned wanted = 0;
        for (at += *at == '@'; *at >= '0' && *at <= '9'; at++)
            wanted = wanted * 10 + (unsigned)(*at - '0');
        if (*at != '=')
            refuse(variable_now);
        if (same(entry, name, point) && ++passed[i] == (wanted > 0 ? wanted : 1))
            return act(at + 1, (size_t)(entry + len - at) - 1, variable_now);
        entry += len;
        entry += *entry == ',';
    }
    return 0;
}

static char *find_variable(const char *name)
{
    for (char **at = environ; at != NULL && *at != NULL; at++)
        if (strncmp(*at, name, strlen(name)) == 0)
            return *at;
    return NULL;
}

char *era_fault_variable(void)
{
    return find_variable(variable);
}

int64_t era_fault_clock_ns(void)
{
    const char *text = find_variable(clock_variable);
    if (text == NULL)
        return 0;
    text += sizeof clock_variable - 1;
    bool back = *text == '-';
    int64_t seconds = 0;
    for (text += back; *text >= '0' && *text <= '9'; text++)
        seconds = seconds * 10 + (*text - '0');
    return (back ? -seconds : seconds) * INT64_C(1000000000);
}

#endif
