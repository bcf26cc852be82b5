/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "guest/guest.h"
#include "sandbox/sandbox.h"

uint64_t machine_oom_kills(const struct machine *machine)
{
    enum { VMSTAT_MAX = 64 * 1024 };
    _cleanup_free_ char *text = NULL;
    if (machine == NULL || era_read_file_at(AT_FDCWD, "/proc/vmstat", VMSTAT_MAX, &text, NULL) < 0)
        return 0;
    char *found = strstr(text, "\noom_kill ");
    if (found == NULL)
        return 0;
    char *number = found + strlen("\noom_kill ");
    number[strcspn(number, "\n")] = '\0';
    uint64_t count = 0;
    return era_parse_u64(number, 0, UINT64_MAX, &count) < 0 ? 0 : count;
}

int machine_confine(const struct machine *machine)
{
    if (machine == NULL)
        return 0; /* init itself has no more than this */
    _cleanup_close_ int procs = openat(machine->cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    int r = procs < 0 ? -errno : era_write_full(procs, "0", 1);
    if (r >= 0)
        r = caps_drop();
    if (r >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = -errno;
    return r;
}

static bool all_frozen(int events_fd)
{
    char text[256];
    ssize_t n = pread(events_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n <= 0 || strstr(text, "frozen 1") != NULL;
}

/* Who does not stop in time is inside of the kernel, and stops on the way out: nothing of the user's runs. */
static void await_frozen(int events_fd)
{
    enum { LOOKS = 50, LOOK_MS = 20 };
    struct pollfd change = {.fd = events_fd, .events = POLLPRI};
    for (int i = 0; i < LOOKS && !all_frozen(events_fd); i++)
        (void)poll(&change, 1, LOOK_MS);
}

void machine_freeze(struct machine *machine, bool freeze)
{
    if (machine == NULL || machine->frozen == freeze)
        return;
    _cleanup_close_ int fd = openat(machine->cgroup_fd, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
    _cleanup_close_ int events = openat(machine->cgroup_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || events < 0 || era_write_full(fd, freeze ? "1" : "0", 1) < 0)
        return;
    machine->frozen = freeze;
    if (freeze)
        await_frozen(events);
}

void machine_save(const struct machine *machine)
{
    if (machine != NULL && machine->volume_fd >= 0)
        (void)syncfs(machine->volume_fd);
}

_Noreturn void machine_end(const struct machine *machine)
{
    if (machine != NULL) {
        machine_save(machine);
        (void)reboot(RB_POWER_OFF);
    }
    _exit(0);
}
