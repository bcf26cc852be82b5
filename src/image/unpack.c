/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of era-unpack: see unpack.h. */
#include "image/unpack.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/str.h"

/* Far above any image that is meant well. */
#define BYTES_LIMIT   (UINT64_C(32) << 30)
#define ENTRIES_LIMIT UINT64_C(2000000)

enum { LAYERS_LIMIT = 128 };

struct request {
    const char *work_dir;
    uint64_t bytes;
    uint64_t entries;
    char **words; /* what follows the options and the directory */
    size_t count;
};

static int parse_fd(const char *text, int *ret_fd, struct era_error *err)
{
    uint64_t fd = 0;
    if (era_parse_u64(text, 0, 65535, &fd) < 0 || fcntl((int)fd, F_GETFD) < 0)
        return era_error_invalid(err, "fd", "%s is no open descriptor", text);
    *ret_fd = (int)fd;
    return 0;
}

/* rootfs or layout, made when absent. */
static int open_tree(const struct request *request, const char *name, mode_t mode, struct era_tree *ret_tree,
                     struct era_error *err)
{
    int r = era_ensure_dir_at(AT_FDCWD, name, mode);
    if (r < 0)
        return era_entry_system_error(err, -r, "make", name);
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return era_error_errno(err, errno, "cannot open %s", name);
    *ret_tree = (struct era_tree){.root_fd = fd, .bytes_left = request->bytes, .entries_left = request->entries};
    return 0;
}

/* Prints the size, after all that was written has reached the disk. */
static int report_size(const struct era_tree *tree, struct era_error *err)
{
    uint64_t bytes = 0;
    uint64_t entries = 0;
    int r = era_unpack_measure(tree, &bytes, &entries, err);
    if (r < 0)
        return r;
    if (syncfs(tree->root_fd) < 0)
        return era_entry_system_error(err, errno, "write", "the image to disk");
    printf("size %llu\nentries %llu\n", (unsigned long long)bytes, (unsigned long long)entries);
    return 0;
}

/* "FD,DIGEST,DIFF_ID", either digest may be empty. */
static int parse_layer(char *word, struct era_layer *ret_layer, struct era_error *err)
{
    char *digest = strchr(word, ',');
    char *diff_id = digest != NULL ? strchr(digest + 1, ',') : NULL;
    if (diff_id == NULL)
        return era_error_invalid(err, "layer", "%s is no layer", word);
    *digest++ = '\0';
    *diff_id++ = '\0';
    if (!era_str_copy(ret_layer->digest, sizeof ret_layer->digest, digest) ||
        !era_str_copy(ret_layer->diff_id, sizeof ret_layer->diff_id, diff_id))
        return era_error_invalid(err, "layer", "a digest is too long");
    return parse_fd(word, &ret_layer->fd, err);
}

static int run_layers(const struct request *request, struct era_error *err)
{
    if (request->count > LAYERS_LIMIT)
        return era_error_invalid(err, "layer", "more than %d layers", (int)LAYERS_LIMIT);
    _cleanup_(era_tree_close) struct era_tree tree = {.root_fd = -EBADF};
    int r = open_tree(request, "rootfs", 0755, &tree, err);
    for (size_t i = 0; r >= 0 && i < request->count; i++) {
        struct era_layer layer = {.fd = -EBADF};
        r = parse_layer(request->words[i], &layer, err);
        if (r < 0)
            break;
        printf("progress unpacking layer %zu of %zu\n", i + 1, request->count);
        fflush(stdout);
        r = era_unpack_layer(&tree, &layer, err);
        if (r < 0)
            era_error_prefix(err, "layer %zu", i + 1);
    }
    return r < 0 ? r : report_size(&tree, err);
}

static int run_package(const struct request *request, struct era_error *err)
{
    _cleanup_(era_tree_close) struct era_tree tree = {.root_fd = -EBADF};
    int fd = -EBADF;
    if (request->count < 2)
        return era_error_invalid(err, "package", "usage: package DIR FD INTEGRITY RULE…");
    int r = parse_fd(request->words[0], &fd, err);
    if (r >= 0)
        r = open_tree(request, "rootfs", 0755, &tree, err);
    if (r < 0)
        return r;
    return era_unpack_package(&tree, fd, request->words[1], request->words + 2, request->count - 2, err);
}

static int run_archive(const struct request *request, struct era_error *err)
{
    _cleanup_(era_tree_close) struct era_tree tree = {.root_fd = -EBADF};
    int fd = -EBADF;
    if (request->count != 1)
        return era_error_invalid(err, "archive", "usage: archive DIR FD");
    int r = parse_fd(request->words[0], &fd, err);
    if (r >= 0)
        r = open_tree(request, "layout", 0700, &tree, err);
    return r < 0 ? r : era_unpack_archive(&tree, fd, err);
}

/* finish DIR DIGESTED SALT EDIT…: edits, then "digest" of a file of the tree and a text. */
static int run_finish(const struct request *request, struct era_error *err)
{
    _cleanup_(era_tree_close) struct era_tree tree = {.root_fd = -EBADF};
    if (request->count < 2)
        return era_error_invalid(err, "finish", "usage: finish DIR FILE TEXT EDIT…");
    int r = open_tree(request, "rootfs", 0755, &tree, err);
    if (r < 0)
        return r;
    _cleanup_(era_hash_freep) struct era_hash *hash = era_hash_new(false);
    if (hash == NULL)
        return era_error_oom(err);
    _cleanup_close_ int fd = era_open_beneath(tree.root_fd, request->words[0], O_RDONLY | O_NONBLOCK, 0);
    r = fd < 0 ? fd : era_hash_fd(hash, fd);
    if (r < 0)
        return era_error_errno(err, -r, "cannot read %s of the image", request->words[0]);
    era_hash_update(hash, request->words[1], strlen(request->words[1]));
    for (size_t i = 2; i < request->count; i += (size_t)r) {
        r = era_unpack_edit(&tree, request->words + i, err);
        if (r < 0)
            return r;
    }
    char digest[ERA_DIGEST_MAX];
    era_hash_digest(hash, digest);
    printf("digest %s\n", digest);
    return report_size(&tree, err);
}

static int run_hash(const struct request *request, struct era_error *err)
{
    int fd = -EBADF;
    if (request->count != 1)
        return era_error_invalid(err, "hash", "usage: hash FD");
    int r = parse_fd(request->words[0], &fd, err);
    if (r < 0)
        return r;
    _cleanup_(era_hash_freep) struct era_hash *hash = era_hash_new(false);
    if (hash == NULL)
        return era_error_oom(err);
    r = era_hash_fd(hash, fd);
    if (r < 0)
        return era_error_errno(err, -r, "cannot read what to hash");
    char digest[ERA_DIGEST_MAX];
    era_hash_digest(hash, digest);
    printf("digest %s\n", digest);
    return 0;
}

/* For the owner of a tree with files of ids that only a user namespace has. */
static int run_remove(const struct request *request, struct era_error *err)
{
    for (size_t i = 0; i < request->count; i++) {
        int r = strchr(request->words[i], '/') != NULL ? -EINVAL : era_remove_tree_at(AT_FDCWD, request->words[i]);
        if (r < 0)
            return era_error_errno(err, -r, "cannot remove %s", request->words[i]);
    }
    return 0;
}

static const struct command {
    const char *name;
    bool has_dir;
    int (*run)(const struct request *request, struct era_error *err);
} commands[] = {
    {"layers", true, run_layers}, {"package", true, run_package}, {"archive", true, run_archive},
    {"finish", true, run_finish}, {"hash", false, run_hash},      {"remove", true, run_remove},
};

/* [--max-bytes N] [--max-entries N] [DIR] WORD… */
static int parse_request(const struct command *command, int argc, char *argv[], struct request *ret_request,
                         struct era_error *err)
{
    struct request request = {.bytes = BYTES_LIMIT, .entries = ENTRIES_LIMIT};
    int at = 2;
    for (; at + 1 < argc && era_str_starts_with(argv[at], "--"); at += 2) {
        uint64_t *limit = era_str_eq(argv[at], "--max-bytes")     ? &request.bytes
                          : era_str_eq(argv[at], "--max-entries") ? &request.entries
                                                                  : NULL;
        if (limit == NULL || era_parse_u64(argv[at + 1], 0, INT64_MAX, limit) < 0)
            return era_error_invalid(err, "option", "%s %s is no option", argv[at], argv[at + 1]);
    }
    if (command->has_dir) {
        if (at >= argc || argv[at][0] != '/')
            return era_error_invalid(err, "directory", "an absolute directory is needed");
        request.work_dir = argv[at++];
    }
    request.words = argv + at;
    request.count = (size_t)(argc - at);
    *ret_request = request;
    return 0;
}

static int run(int argc, char *argv[], struct era_error *err)
{
    const struct command *command = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (era_str_eq(argv[1], commands[i].name))
            command = &commands[i];
    if (command == NULL)
        return era_error_invalid(err, "command", "usage: era-unpack layers|package|archive|finish|hash|remove …");
    struct request request;
    int r = parse_request(command, argc, argv, &request, err);
    ERA_POINT("unpack.begun");
    if (r >= 0)
        r = era_sandbox_enter(request.work_dir, err);
    ERA_POINT("unpack.sandboxed");
    if (r >= 0)
        r = command->run(&request, err);
    ERA_POINT("unpack.done");
    return r;
}

int era_unpack_main(int argc, char *argv[])
{
    struct era_error err = {0};
    int r = run(argc, argv, &err);
    if (r < 0) {
        /* One line, whatever an archive put into it. */
        for (char *c = err.message; *c != '\0'; c++)
            if (iscntrl((unsigned char)*c))
                *c = '?';
        printf("error %s %d %s\n", err.code, err.errnum, err.message);
    }
    if (fflush(stdout) != 0)
        r = -errno;
    return r < 0 ? 1 : 0;
}
