/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The memory of a clone is a private mapping of a file, so
 * its changed pages are anonymous memory of the QEMU process, and all others are
 * in the file still. While the machine runs the file is copied. Then it stands
 * still, /proc/PID/pagemap tells which pages are changed, and these alone are
 * read out of the process and written over the copy: what a machine that has
 * changed 30 MiB of its 1024 stands still for, is writing 30 MiB. QEMU itself
 * would write all of its private memory, and a snapshot would be no file that
 * others can map.
 *
 * The state of the devices is written by QEMU's xen-save-devices-state, which has
 * nothing to do with Xen but that it needs it: a migration without memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "launcher/microvm/template.h"

enum { ANSWER_MS = 10000, STATE_MS = 30000, PIECE_PAGES = 256, MAPS_MAX = 4 << 20 };

static int64_t deadline(void)
{
    return era_clock_monotonic_ns() + (int64_t)ANSWER_MS * 1000000;
}

int machine_stop(struct qemu *qemu, struct era_error *err)
{
    int r = monitor_ask(qemu, "stop", NULL, deadline(), err);
    if (r < 0) /* it may be about to: it goes on then */
        (void)monitor_send(qemu, "cont", NULL);
    return r;
}

int machine_go_on(struct qemu *qemu, struct era_error *err)
{
    return monitor_ask(qemu, "cont", NULL, deadline(), err);
}

static int fail(struct era_error *err, int r, const char *what)
{
    bool full = r == -ENOSPC || r == -EDQUOT;
    return era_error_set(err, -r, full ? "disk_full" : "snapshot_failed", "cannot save the VM: %s: %s", what,
                         strerror(-r));
}

/* ---- the memory ---------------------------------------------------------- */

static int open_of(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -EBADF : fd;
}

void saved_process_open(struct saved_process *process, pid_t pid)
{
    *process = (struct saved_process){
        .maps_fd = open_of(pid, "maps"), .pagemap_fd = open_of(pid, "pagemap"), .memory_fd = open_of(pid, "mem")};
    if (process->maps_fd < 0 || process->pagemap_fd < 0)
        era_closep(&process->memory_fd);
}

void saved_process_close(struct saved_process *process)
{
    era_closep(&process->maps_fd);
    era_closep(&process->pagemap_fd);
    era_closep(&process->memory_fd);
}

/* A part of QEMU's address space that is a mapping of the machine's memory. */
struct mapping {
    uint64_t start;
    uint64_t end;
    uint64_t offset; /* in the file */
    uint64_t inode;
};

static const char *read_number(const char *p, unsigned base, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (;; p++) {
        unsigned digit = *p >= '0' && *p <= '9'   ? (unsigned)(*p - '0')
                         : *p >= 'a' && *p <= 'f' ? (unsigned)(*p - 'a') + 10
                                                  : 16;
        if (digit >= base)
            break;
        value = value * base + digit;
    }
    *ret_value = value;
    return p;
}

static const char *next_word(const char *p)
{
    p += strcspn(p, " ");
    return p + strspn(p, " ");
}

/* A line of /proc/PID/maps: "start-end rwxp offset dev inode path", see proc(5). */
static void read_mapping(const char *line, struct mapping *to)
{
    const char *p = read_number(line, 16, &to->start);
    if (*p == '-')
        p = read_number(p + 1, 16, &to->end);
    p = next_word(next_word(p));
    p = read_number(p, 16, &to->offset);
    (void)read_number(next_word(next_word(p)), 10, &to->inode);
}

struct reader {
    const struct saved_process *process;
    int to_fd;
    uint64_t size; /* of the memory, in bytes */
    size_t page;
    char *buffer; /* of PIECE_PAGES */
};

static int copy_pages(const struct reader *reader, uint64_t address, uint64_t at, size_t pages)
{
    size_t len = pages * reader->page;
    ssize_t n = pread(reader->process->memory_fd, reader->buffer, len, (off_t)address);
    if (n != (ssize_t)len)
        return n < 0 ? -errno : -EFAULT;
    return era_pwrite_full(reader->to_fd, reader->buffer, len, (int64_t)at);
}

/* Documentation/admin-guide/mm/pagemap.rst: 63 present, 62 swapped, 61 of a file or shared. */
static bool is_changed(uint64_t entry)
{
    return (entry >> 62) != 0 && (entry & (UINT64_C(1) << 61)) == 0;
}

static int copy_changed(const struct reader *reader, const struct mapping *mapping)
{
    uint64_t entries[PIECE_PAGES];
    for (uint64_t address = mapping->start; address < mapping->end;) {
        uint64_t left = (mapping->end - address) / reader->page;
        size_t count = left < PIECE_PAGES ? (size_t)left : PIECE_PAGES;
        ssize_t n = pread(reader->process->pagemap_fd, entries, count * sizeof entries[0],
                          (off_t)(address / reader->page * sizeof entries[0]));
        if (n != (ssize_t)(count * sizeof entries[0]))
            return n < 0 ? -errno : -EIO;
        for (size_t i = 0; i < count;) {
            size_t run = 0;
            while (i + run < count && is_changed(entries[i + run]))
                run++;
            uint64_t skipped = address + i * reader->page - mapping->start;
            int r = run == 0 ? 0 : copy_pages(reader, mapping->start + skipped, mapping->offset + skipped, run);
            if (r < 0)
                return r;
            i += run + 1; /* and the one that ended it */
        }
        address += count * reader->page;
    }
    return 0;
}

/* From the start, however often: it is another text each time. */
static int read_maps(int fd, char **ret_text)
{
    _cleanup_free_ char *text = malloc(MAPS_MAX + 1);
    if (text == NULL)
        return -ENOMEM;
    ssize_t n = lseek(fd, 0, SEEK_SET) < 0 ? -errno : era_read_full(fd, text, MAPS_MAX);
    if (n < 0 || n == MAPS_MAX)
        return n < 0 ? (int)n : -EFBIG;
    text[n] = '\0';
    *ret_text = era_take_ptr(text);
    return 0;
}

/* All of its mappings of this file, which together are the machine's memory. */
static int copy_memory(struct reader *reader, uint64_t inode)
{
    _cleanup_free_ char *maps = NULL;
    int r = read_maps(reader->process->maps_fd, &maps);
    uint64_t found = 0;
    for (char *line = maps; r >= 0 && line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        if (end != NULL)
            *end = '\0';
        struct mapping mapping = {0};
        read_mapping(line, &mapping);
        if (mapping.inode == inode && mapping.end > mapping.start) {
            uint64_t len = mapping.end - mapping.start;
            r = mapping.offset > reader->size || len > reader->size - mapping.offset ? -EBADMSG
                                                                                     : copy_changed(reader, &mapping);
            found += len;
        }
        line = end == NULL ? NULL : end + 1;
    }
    return r < 0 ? r : found == reader->size ? 0 : -EBADMSG;
}

static int save_memory(const struct saved_parts *parts, int dirfd)
{
    struct stat st;
    _cleanup_close_ int memory = openat(dirfd, "memory", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (parts->process->memory_fd < 0)
        return -EACCES;
    if (memory < 0 || fstat(parts->memory_fd, &st) < 0)
        return -errno;
    struct reader reader = {.process = parts->process,
                            .to_fd = memory,
                            .size = (uint64_t)st.st_size,
                            .page = (size_t)sysconf(_SC_PAGESIZE)};
    _cleanup_free_ char *buffer = malloc(PIECE_PAGES * reader.page);
    reader.buffer = buffer;
    return buffer == NULL ? -ENOMEM : copy_memory(&reader, (uint64_t)st.st_ino);
}

/* ---- the steps ------------------------------------------------------------ */

static int copy_to(int from_fd, int dirfd, const char *name)
{
    _cleanup_close_ int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : era_copy_sparse(from_fd, fd);
}

static int save_state(struct qemu *qemu, int dirfd, struct era_error *err)
{
    static const struct qmp_member set[] = {{.key = "fdset-id", .raw = "7"}, {.key = NULL}};
    static const struct qmp_member target[] = {
        {.key = "filename", .text = "/dev/fdset/7"}, {.key = "live", .raw = "false"}, {.key = NULL}};
    int64_t deadline_ns = era_clock_monotonic_ns() + (int64_t)STATE_MS * 1000000;
    _cleanup_close_ int state = openat(dirfd, "state", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (state < 0)
        return fail(err, -errno, "state");
    int r = monitor_pass(qemu, "add-fd", set, state, deadline_ns, err);
    if (r < 0)
        return r;
    r = monitor_ask(qemu, "xen-save-devices-state", target, deadline_ns, err);
    int removed = monitor_ask(qemu, "remove-fd", set, deadline_ns, r < 0 ? NULL : err);
    return r < 0 ? r : removed;
}

static int save_still(struct qemu *qemu, const struct saved_parts *parts, int dirfd, struct era_error *err)
{
    int r = save_state(qemu, dirfd, err);
    if (r < 0) {
        /* QEMU does not say why a file could not be written. */
        struct era_error why = {0};
        if (err != NULL)
            why = *err;
        return era_error_set(err, EIO, "snapshot_failed", "cannot save the VM: %s", why.message);
    }
    r = save_memory(parts, dirfd);
    if (r < 0)
        return fail(err, r, "memory");
    r = parts->volume_fd >= 0 ? copy_to(parts->volume_fd, dirfd, "volume.img") : 0;
    return r < 0 ? fail(err, r, "volume") : 0;
}

int snapshot_save(struct qemu *qemu, const struct saved_parts *parts, int dirfd, enum era_save_step step,
                  struct era_error *err)
{
    int r = 0;
    switch (step) {
    case ERA_SAVE_BEFORE:
        r = copy_to(parts->memory_fd, dirfd, "memory");
        return r < 0 ? fail(err, r, "memory") : 0;
    case ERA_SAVE_STILL:
        return save_still(qemu, parts, dirfd, err);
    case ERA_SAVE_AFTER:
        r = manifest_write(dirfd, parts->key);
        return r < 0 ? fail(err, r, "manifest") : 0;
    }
    return -EINVAL;
}

int snapshot_open(const char *path, const struct template_key *key, struct template *ret_template,
                  struct era_error *err)
{
    _cleanup_close_ int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return era_error_set(err, errno, "snapshot_not_found", "the snapshot is gone");
    int r = manifest_check(dirfd, key, ret_template);
    return r < 0 ? era_error_set(err, EBADMSG, "snapshot_corrupt",
                                 "the snapshot is damaged, or was made with another QEMU, kernel or processor")
                 : 0;
}
