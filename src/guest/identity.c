/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that was copied from a booted one is told who it is: until then it
 * would draw the same random numbers as every other copy. The order matters:
 * randomness first, since what follows may draw from it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/machine.h"
#include "sandbox/sandbox.h"

enum { SLOWED_US = 10000 }; /* what is slowed down by 500 ppm is right after 20 s at most */

static int reseed(struct machine *machine, const struct era_identity *identity)
{
    /* struct rand_pool_info: bits of entropy, bytes, and then these. */
    uint32_t pool[2 + ERA_IDENTITY_SEED / 4] = {8 * ERA_IDENTITY_SEED, ERA_IDENTITY_SEED};
    _Static_assert(offsetof(struct rand_pool_info, buf) == 2 * sizeof pool[0], "as linux/random.h has it");
    memcpy(pool + 2, identity->seed, sizeof identity->seed);
    _cleanup_close_ int fd = openat(machine->dev_fd, "urandom", O_WRONLY | O_CLOEXEC);
    bool failed = fd < 0 || ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0;
    int r = failed ? -errno : 0;
    explicit_bzero(pool, sizeof pool);
    return r;
}

/*
 * What is said arrives late, so a clock that seems to be ahead by little may be right. It is slowed until it is, for
 * time that goes back is a surprise to programs; else it is set at once.
 */
int machine_set_clock(int64_t realtime_ns)
{
    int64_t ahead_us = (era_clock_realtime_ns() - realtime_ns) / 1000;
    const struct timeval slow = {.tv_usec = -ahead_us};
    if (ahead_us >= 0 && ahead_us < SLOWED_US)
        return adjtime(&slow, NULL) < 0 ? -errno : 0;
    const struct timespec now = {.tv_sec = (time_t)(realtime_ns / 1000000000),
                                 .tv_nsec = (long)(realtime_ns % 1000000000)};
    return clock_settime(CLOCK_REALTIME, &now) < 0 ? -errno : 0;
}

static int set_clock(struct machine *machine, const struct era_identity *identity)
{
    (void)machine;
    return machine_set_clock(identity->realtime_ns);
}

static int name_host(struct machine *machine, const struct era_identity *identity)
{
    (void)machine;
    return sethostname(identity->id, strlen(identity->id)) < 0 ? -errno : 0;
}

static int open_etc(const struct machine *machine)
{
    return openat(machine->root_fd, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * A copy of a template writes into a file that is there and open: to make one takes an emulated processor, which
 * has seen none of that code before, half of the time that a copy needs to become a VM.
 */
int machine_make_id(struct machine *machine)
{
    static const char none[] = "00000000000000000000000000000000\n";
    _cleanup_close_ int etc = open_etc(machine);
    int r = etc < 0 ? 0 : era_write_file_atomic_at(etc, "machine-id", none, strlen(none), 0444);
    if (etc >= 0 && r >= 0)
        machine->machine_id_fd = openat(etc, "machine-id", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    return r;
}

/* As systemd has it: 32 digits and a newline. An image whose /etc is none keeps what it has. */
static int name_machine(struct machine *machine, const struct era_identity *identity)
{
    char line[ERA_MACHINE_ID_MAX + 1];
    int len = snprintf(line, sizeof line, "%s\n", identity->machine_id);
    if (machine->machine_id_fd >= 0) {
        int r = era_pwrite_full(machine->machine_id_fd, line, (size_t)len, 0);
        era_closep(&machine->machine_id_fd);
        return r;
    }
    _cleanup_close_ int etc = open_etc(machine);
    return etc < 0 ? 0 : era_write_file_atomic_at(etc, "machine-id", line, (size_t)len, 0444);
}

static int limit_pids(struct machine *machine, const struct era_identity *identity)
{
    char text[16];
    int len = snprintf(text, sizeof text, "%u", identity->pids);
    _cleanup_close_ int fd = openat(machine->cgroup_fd, "pids.max", O_WRONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : era_write_full(fd, text, (size_t)len);
    return r < 0 ? r : rlimits_set(identity->pids);
}

/* What the VM was created with is what init, and so every command, finds in its environment. */
static int take_environment(struct machine *machine, const struct era_identity *identity)
{
    (void)machine;
    if (clearenv() != 0)
        return -ENOMEM;
    for (size_t i = 0; i < identity->env.count; i++) {
        char *equals = strchr(identity->env.items[i], '=');
        if (equals == NULL)
            return -EBADMSG;
        *equals = '\0';
        if (setenv(identity->env.items[i], equals + 1, 1) < 0)
            return -errno;
    }
    return 0;
}

static const struct {
    const char *what;
    int (*run)(struct machine *machine, const struct era_identity *identity);
} steps[] = {
    {"randomness", reseed},       {"clock", set_clock},   {"hostname", name_host},
    {"machine id", name_machine}, {"limits", limit_pids}, {"environment", take_environment},
};

int machine_identify(struct machine *machine, const struct era_frame *frame, const char **what)
{
    _cleanup_(era_identity_clear) struct era_identity identity;
    int r = era_identity_decode(frame, &identity);
    if (r < 0)
        return r;
    for (size_t i = 0; r >= 0 && i < sizeof steps / sizeof steps[0]; i++) {
        *what = steps[i].what;
        r = steps[i].run(machine, &identity);
    }
    if (r >= 0 && identity.volume && machine->volume_fd < 0) {
        *what = "volume";
        r = machine_mount_volume(machine);
    }
    if (r >= 0 && identity.network) {
        *what = "network";
        r = machine_configure_network(machine, identity.mac);
    }
    if (r >= 0)
        machine->identified = true;
    return r;
}
