/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tree streams of a hostile guest, on their way to a folder of the host. The
 * first byte says in pieces of what size it comes; the rest is a script, one
 * entry a line, "KIND NAME[\tCONTENT]", from which proper headers are made:
 * f file, d directory, s symlink, e end; anything else stands for its own bytes.
 * Whatever comes, nothing beside the copy may change, and all of it can be removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "base/str.h"
#include "files/files.h"
#include "fuzz/fuzz.h"
#include "wire/tree.h"

static char scratch_path[] = "/dev/shm/files-fuzz-XXXXXX";
static int scratch = -EBADF; /* of the process: a folder with `canary` and, for each input, `work` */

static void remove_scratch(void)
{
    (void)era_remove_tree_at(AT_FDCWD, scratch_path);
}

static void open_scratch(void)
{
    FUZZ_ASSERT(mkdtemp(scratch_path) != NULL && atexit(remove_scratch) == 0);
    scratch = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_ASSERT(scratch >= 0 && era_write_file_atomic_at(scratch, "canary", "alive", 5, 0600) == 0);
    umask(0);
}

static void check_scratch(void)
{
    _cleanup_free_ char *text = NULL;
    struct stat st;
    FUZZ_ASSERT(era_read_file_at(scratch, "canary", 100, &text, NULL) == 0 && strcmp(text, "alive") == 0);
    FUZZ_ASSERT(fstatat(scratch, "canary", &st, AT_SYMLINK_NOFOLLOW) == 0);
    FUZZ_ASSERT(st.st_nlink == 1 && st.st_mode == (S_IFREG | 0600));
    FUZZ_ASSERT(fstat(scratch, &st) == 0 && st.st_nlink == 3); /* "." and "work" */
}

static void add_entry(struct era_buffer *stream, char *line)
{
    static struct era_tree_entry entry;
    uint8_t bytes[ERA_TREE_ENTRY_MAX];
    const char *kinds = "efds";
    const char *kind = line[0] != '\0' ? strchr(kinds, line[0]) : NULL;
    if (kind == NULL || line[1] != ' ') {
        FUZZ_ASSERT(era_buffer_append(stream, line, strlen(line)) == 0);
        return;
    }
    char *content = strchr(line, '\t');
    if (content != NULL)
        *content++ = '\0';
    entry = (struct era_tree_entry){
        .kind = (enum era_tree_kind)(kind - kinds + ERA_TREE_END),
        .mode = *kind == 'e' ? 0 : 0777,
        .size = content != NULL && *kind != 'd' && *kind != 'e' ? strlen(content) : 0,
    };
    era_str_copy(entry.name, sizeof entry.name, line + 2);
    ssize_t n = era_tree_encode(&entry, bytes);
    FUZZ_ASSERT(n > 0 && era_buffer_append(stream, bytes, (size_t)n) == 0);
    FUZZ_ASSERT(entry.size == 0 || era_buffer_append(stream, content, (size_t)entry.size) == 0);
}

/* In pieces of `piece` bytes. */
static void copy(int work, const struct era_buffer *stream, size_t piece)
{
    struct era_error err = {0};
    struct era_tree_sink *sink = NULL;
    const uint8_t *data = era_buffer_data(stream);
    size_t len = era_buffer_len(stream);
    FUZZ_ASSERT(era_tree_sink_open(work, "copy", "copy", true, &sink, &err) == 0);
    int r = 0;
    for (size_t at = 0; r >= 0 && at < len; at += piece)
        r = era_tree_sink_feed(sink, data + at, piece < len - at ? piece : len - at, &err);
    if (r >= 0)
        r = era_tree_sink_finish(sink, &err);
    FUZZ_ASSERT(r >= 0 || (err.errnum > 0 && err.code[0] != '\0'));
    era_tree_sink_free(sink);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (scratch < 0)
        open_scratch();
    if (size == 0 || size > 64 * 1024)
        return 0;
    struct era_buffer stream = {0};
    _cleanup_free_ char *script = fuzz_text(data + 1, size - 1);
    char *rest = script;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        add_entry(&stream, line);

    FUZZ_ASSERT(mkdirat(scratch, "work", 0700) == 0);
    int work = openat(scratch, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_ASSERT(work >= 0);
    copy(work, &stream, data[0] + 1u);
    close(work);
    era_buffer_clear(&stream);
    check_scratch();
    FUZZ_ASSERT(era_remove_tree_at(scratch, "work") == 0);
    return 0;
}
