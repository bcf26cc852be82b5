/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers of strangers. The first byte says what the rest is:
 *   'r'  the bytes of a layer, as they would come from a registry;
 *   's'  a script, one entry a line, "KIND PATH[\tTARGET]", from which a proper tar
 *        file is made, so that the fuzzer needs to know no checksums. "---"
 *        begins the next layer. KIND: f file, d directory, s symlink, h hard link.
 * Whatever comes, nothing beside the root may change, and nothing of it may be left
 * in the way of removing it.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "fuzz/fuzz.h"
#include "image/unpack.h"

enum { ENTRIES = 200, BYTES = 1 << 20 };

static int scratch = -EBADF; /* of the process: a folder with `canary` and, for each input, `work` */

static int open_scratch(void)
{
    static char path[] = "/dev/shm/unpack-fuzz-XXXXXX";
    FUZZ_ASSERT(mkdtemp(path) != NULL);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_ASSERT(fd >= 0 && era_write_file_atomic_at(fd, "canary", "alive", 5, 0600) == 0);
    return fd;
}

static void remove_scratch(void)
{
    char path[64];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", scratch);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 0) {
        path[n] = '\0';
        (void)era_remove_tree_at(AT_FDCWD, path);
    }
}

static void check_scratch(void)
{
    _cleanup_free_ char *text = NULL;
    struct stat st;
    FUZZ_ASSERT(era_read_file_at(scratch, "canary", 100, &text, NULL) == 0 && strcmp(text, "alive") == 0);
    FUZZ_ASSERT(fstatat(scratch, "canary", &st, AT_SYMLINK_NOFOLLOW) == 0);
    FUZZ_ASSERT(st.st_nlink == 1 && (st.st_mode & 07777) == 0600 && S_ISREG(st.st_mode));
    /* "." and "work" */
    FUZZ_ASSERT(fstat(scratch, &st) == 0 && st.st_nlink == 3);
}

static void unpack(struct era_tree *tree, const void *data, size_t size)
{
    struct era_layer layer = {.fd = memfd_create("layer", MFD_CLOEXEC)};
    FUZZ_ASSERT(layer.fd >= 0 && era_write_full(layer.fd, data, size) == 0);
    FUZZ_ASSERT(lseek(layer.fd, 0, SEEK_SET) == 0);
    struct era_error err = {0};
    int r = era_unpack_layer(tree, &layer, &err);
    close(layer.fd);
    FUZZ_ASSERT(r >= 0 || (err.errnum > 0 && err.code[0] != '\0'));
}

/* One line of a script becomes an entry. */
static void write_entry(struct archive *tar, const char *line)
{
    if (line[0] == '\0' || line[1] != ' ')
        return;
    _cleanup_free_ char *path = strdup(line + 2);
    FUZZ_ASSERT(path != NULL);
    char *target = strchr(path, '\t');
    if (target != NULL)
        *target++ = '\0';
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_perm(entry, 0755);
    archive_entry_set_filetype(entry, line[0] == 'd' ? AE_IFDIR : line[0] == 's' ? AE_IFLNK : AE_IFREG);
    if (line[0] == 's')
        archive_entry_set_symlink(entry, target != NULL ? target : "");
    else if (line[0] == 'h')
        archive_entry_set_hardlink(entry, target != NULL ? target : "");
    else if (line[0] == 'f')
        archive_entry_set_size(entry, 1);
    if (archive_write_header(tar, entry) >= ARCHIVE_WARN && line[0] == 'f')
        (void)archive_write_data(tar, "x", 1);
    archive_entry_free(entry);
}

static void run_script(struct era_tree *tree, char *script)
{
    static char buffer[BYTES];
    char *line = script;
    while (line != NULL) {
        size_t used = 0;
        struct archive *tar = archive_write_new();
        FUZZ_ASSERT(tar != NULL && archive_write_set_format_gnutar(tar) == ARCHIVE_OK);
        FUZZ_ASSERT(archive_write_open_memory(tar, buffer, sizeof buffer, &used) == ARCHIVE_OK);
        while (line != NULL) {
            char *next = strchr(line, '\n');
            if (next != NULL)
                *next++ = '\0';
            bool end = strcmp(line, "---") == 0;
            if (!end)
                write_entry(tar, line);
            line = next;
            if (end)
                break;
        }
        (void)archive_write_close(tar);
        archive_write_free(tar);
        unpack(tree, buffer, used);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (scratch < 0) {
        scratch = open_scratch();
        FUZZ_ASSERT(atexit(remove_scratch) == 0);
        umask(0);
    }
    if (size == 0 || size > BYTES / 4)
        return 0;
    FUZZ_ASSERT(mkdirat(scratch, "work", 0700) == 0 && mkdirat(scratch, "work/rootfs", 0755) == 0);
    int root = openat(scratch, "work/rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_ASSERT(root >= 0);
    struct era_tree tree = {.root_fd = root, .bytes_left = BYTES, .entries_left = ENTRIES};
    if (data[0] == 's') {
        _cleanup_free_ char *script = fuzz_text(data + 1, size - 1);
        run_script(&tree, script);
    } else {
        unpack(&tree, data + 1, size - 1);
    }
    uint64_t bytes = 0;
    uint64_t entries = 0;
    FUZZ_ASSERT(era_unpack_measure(&tree, &bytes, &entries, NULL) == 0);
    FUZZ_ASSERT(entries <= ENTRIES);
    era_tree_close(&tree);
    check_scratch();
    FUZZ_ASSERT(era_remove_tree_at(scratch, "work") == 0);
    return 0;
}
