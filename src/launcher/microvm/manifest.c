/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/microvm/template.h"

enum { STATE_MAX = 64 << 20, MANIFEST_MAX = 4096 };

/*
 * The key, then of the memory its size, time of change and place on the disk, for it is too large to be read; of the
 * state its size and a sum. Neither is a secret or signed: who can write here is whom templates belong to.
 */
static int describe(int memory_fd, int state_fd, const struct template_key *key, char to[MANIFEST_MAX])
{
    struct stat memory;
    struct stat state;
    if (fstat(memory_fd, &memory) < 0 || fstat(state_fd, &state) < 0)
        return -errno;
    if (!S_ISREG(memory.st_mode) || !S_ISREG(state.st_mode) || state.st_size > STATE_MAX)
        return -EBADMSG;
    _cleanup_free_ char *data = malloc((size_t)state.st_size + 1);
    if (data == NULL)
        return -ENOMEM;
    ssize_t n = pread(state_fd, data, (size_t)state.st_size, 0);
    if (n != state.st_size)
        return -EBADMSG;
    return era_str_format(to, MANIFEST_MAX, "%smemory %lld %lld.%09ld %llu\nstate %lld %016llx\n", key->text,
                          (long long)memory.st_size, (long long)memory.st_ctim.tv_sec, memory.st_ctim.tv_nsec,
                          (unsigned long long)memory.st_ino, (long long)state.st_size,
                          (unsigned long long)template_hash(data, (size_t)n));
}

static int open_files(int dirfd, struct template *template)
{
    template->memory_fd = openat(dirfd, "memory", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    template->state_fd = openat(dirfd, "state", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return template->memory_fd < 0 || template->state_fd < 0 ? -errno : 0;
}

int manifest_write(int dirfd, const struct template_key *key)
{
    char text[MANIFEST_MAX];
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    int r = open_files(dirfd, &template);
    if (r >= 0)
        r = describe(template.memory_fd, template.state_fd, key, text);
    return r < 0 ? r : era_write_file_atomic_at(dirfd, "manifest", text, strlen(text), 0600);
}

int manifest_sync(int dirfd)
{
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    int r = open_files(dirfd, &template);
    return r < 0 ? r : fsync(template.memory_fd) < 0 || fsync(template.state_fd) < 0 ? -errno : 0;
}

int manifest_check(int dirfd, const struct template_key *key, struct template *ret_template)
{
    char text[MANIFEST_MAX];
    _cleanup_free_ char *written = NULL;
    _cleanup_(template_close) struct template template = {-EBADF, -EBADF, -EBADF};
    int r = era_read_file_at(dirfd, "manifest", MANIFEST_MAX, &written, NULL);
    if (r >= 0)
        r = open_files(dirfd, &template);
    if (r >= 0)
        r = describe(template.memory_fd, template.state_fd, key, text);
    if (r < 0)
        return r;
    if (!era_str_eq(text, written))
        return -EBADMSG;
    /* The time of its last use: see evict() in template.c. */
    (void)utimensat(dirfd, "manifest", NULL, 0);
    ret_template->memory_fd = era_take_fd(&template.memory_fd);
    ret_template->state_fd = era_take_fd(&template.state_fd);
    return 0;
}
