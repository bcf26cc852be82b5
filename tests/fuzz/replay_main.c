/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay_main.c - runs a fuzz target over the files of a corpus, once each.
 *
 * Usage: <name>_replay FILE|DIRECTORY…
 * Not recursive; hidden files are left out. Prints how many it replayed; none
 * at all is a failure, so that a corpus that went missing is noticed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "fuzz/fuzz.h"

enum { INPUT_MAX = 16 << 20 };

static int replay_file(int dirfd, const char *name)
{
    _cleanup_free_ char *data = NULL;
    size_t len = 0;
    int r = era_read_file_at(dirfd, name, INPUT_MAX, &data, &len);
    if (r < 0)
        return r;
    /* Memory of just this size: reading on behind it is what ASan shall see. */
    _cleanup_free_ uint8_t *exact = malloc(len > 0 ? len : 1);
    if (exact == NULL)
        return -ENOMEM;
    memcpy(exact, data, len);
    fprintf(stderr, "replay %s\n", name); /* the last line names what crashed */
    (void)LLVMFuzzerTestOneInput(exact, len);
    return 1;
}

/* The number of files replayed. */
static int replay_directory(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    int count = 0;
    int r = 0;
    struct dirent *entry;
    while (r >= 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        r = replay_file(dirfd(dir), entry->d_name);
        if (r == -EISDIR)
            r = 0;
        else if (r >= 0)
            count += r;
        else
            fprintf(stderr, "%s/%s: %s\n", path, entry->d_name, strerror(-r));
    }
    closedir(dir);
    return r < 0 ? r : count;
}

int main(int argc, char *argv[])
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int r = replay_directory(argv[i]);
        if (r == -ENOTDIR)
            r = replay_file(AT_FDCWD, argv[i]);
        if (r < 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
            return 1;
        }
        total += r;
    }
    printf("replayed %d inputs\n", total);
    return total > 0 ? 0 : 1;
}
