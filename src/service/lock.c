/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "service/service.h"

enum { LOOK_FIRST_NS = 100000, LOOK_LAST_NS = 5000000 };

bool lock_is_held_at(int dirfd, const char *name, int64_t at)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at < 0 ? 0 : at, .l_len = at < 0 ? 0 : 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool lock_is_held(int dirfd, const char *name)
{
    return lock_is_held_at(dirfd, name, -1);
}

/* The kernel waits for a lock without end, or not at all: between is looking again, ever more seldom. */
static int lock_within(int fd, const struct flock *lock, int wait_ms)
{
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)wait_ms * 1000000;
    struct timespec pause = {.tv_nsec = LOOK_FIRST_NS};
    while (fcntl(fd, F_OFD_SETLK, lock) < 0) {
        if (errno != EINTR && errno != EAGAIN && errno != EACCES)
            return -errno;
        if (era_clock_monotonic_ns() >= deadline_ns)
            return -EAGAIN;
        (void)ppoll(NULL, 0, &pause, NULL);
        if (pause.tv_nsec < LOOK_LAST_NS)
            pause.tv_nsec *= 2;
    }
    return 0;
}

int lock_take(int dirfd, const char *name, short type, int wait_ms)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    const struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    int r = lock_within(fd, &lock, wait_ms);
    return r < 0 ? r : era_take_fd(&fd);
}

int lock_narrow(int fd, int64_t at)
{
    struct flock before = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = at};
    struct flock behind = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = at + 1};
    if ((at > 0 && fcntl(fd, F_OFD_SETLK, &before) < 0) || fcntl(fd, F_OFD_SETLK, &behind) < 0)
        return -errno;
    return 0;
}
