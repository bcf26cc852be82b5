/* SPDX-License-Identifier: Apache-2.0 */
/* Our side of era-unpack: what it prints was made from hostile data, and is read with that in mind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "image/internal.h"

struct conversation {
    struct era_image_store *images;
    struct era_image_helper_result result;
    struct era_error error;
};

/* What it may report; its errno values are not taken from it. */
static const struct {
    const char *code;
    int errnum;
} known[] = {
    {"image_corrupt", EBADMSG}, {"integrity_mismatch", EBADMSG}, {"disk_full", ENOSPC},
    {"out_of_memory", ENOMEM},  {"system_error", EIO},           {"invalid_argument", EINVAL},
};

/* "CODE ERRNO MESSAGE" */
static void take_error(struct conversation *talk, const char *text)
{
    size_t code = strcspn(text, " ");
    const char *number = text + code + strspn(text + code, " ");
    const char *message = number + strcspn(number, " ");
    message += strspn(message, " ");
    if (!era_str_is_utf8(message, strlen(message)))
        message = "a message that is not text";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].code) == code && memcmp(known[i].code, text, code) == 0)
            era_error_set(&talk->error, known[i].errnum, known[i].code, "%s", message);
}

static void on_line(void *userdata, int stream, const char *line)
{
    struct conversation *talk = userdata;
    if (stream != 1)
        return;
    if (era_str_starts_with(line, "error "))
        take_error(talk, line + 6);
    else if (era_str_starts_with(line, "size "))
        (void)era_parse_u64(line + 5, 0, INT64_MAX, &talk->result.size_bytes);
    else if (era_str_starts_with(line, "digest ") && era_image_digest_valid(line + 7))
        era_str_copy(talk->result.digest, sizeof talk->result.digest, line + 7);
    else if (era_str_starts_with(line, "progress "))
        era_image_progress(talk->images, "%.120s", line + 9);
}

static int run(struct era_image_store *images, const struct era_strv *args, const int *fds, size_t fd_count,
               int cancel_fd, const char *failure, struct era_image_helper_result *ret_result, struct era_error *err)
{
    _cleanup_free_ char *path = era_str_printf("%s/era-unpack", images->helper_dir);
    _cleanup_free_ const char **argv = era_image_argv("era-unpack", args);
    if (path == NULL || argv == NULL)
        return era_error_oom(err);
    if (access(path, X_OK) < 0)
        return era_error_set(err, ENOENT, "tool_missing", "%s is not there: the installation is not complete", path);
    const char *envp[] = {"PATH=/usr/bin:/bin", ERA_FAULT_VARIABLE, NULL};
    struct conversation talk = {.images = images};
    struct era_process_spec spec = {
        .path = path,
        .argv = argv,
        .envp = envp,
        .cwd_fd = -EBADF,
        .fds = fds,
        .fd_count = fd_count,
        .as_root = true,
        .cancel_fd = cancel_fd,
        .on_line = on_line,
        .userdata = &talk,
    };
    struct era_process_result result;
    int r = era_process_run(&spec, &result, err);
    if (r < 0)
        return r;
    if (!era_process_succeeded(&result)) {
        if (talk.error.errnum == 0) {
            char how[64];
            era_process_describe(result.wait_status, how, sizeof how);
            era_error_set(&talk.error, EIO, failure, "era-unpack %s%s%s", how, result.tail[0] != '\0' ? ": " : "",
                          result.tail);
        }
        if (err != NULL)
            *err = talk.error;
        return -talk.error.errnum;
    }
    if (ret_result != NULL)
        *ret_result = talk.result;
    return 0;
}

int era_image_helper_run(struct era_image_store *images, const struct era_strv *args, const int *fds, size_t fd_count,
                         const char *failure, struct era_image_helper_result *ret_result, struct era_error *err)
{
    return run(images, args, fds, fd_count, images->cancel_fd, failure, ret_result, err);
}

int era_image_helper_remove(struct era_image_store *images, const char *name, struct era_error *err)
{
    const char *words[] = {"remove", images->dir, name, NULL};
    struct era_strv args = {0};
    int r = 0;
    for (size_t i = 0; r >= 0 && words[i] != NULL; i++)
        r = era_strv_add(&args, words[i]);
    /* Not cut short: to remove what was begun is what giving up means. */
    r = r < 0 ? era_error_oom(err) : run(images, &args, NULL, 0, -EBADF, "system_error", NULL, err);
    era_strv_clear(&args);
    return r;
}

int era_image_helper_hash(struct era_image_store *images, const char *data, size_t len,
                          char ret_digest[ERA_IMAGE_DIGEST_MAX], struct era_error *err)
{
    _cleanup_close_ int fd = memfd_create("era-hash", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : era_write_full(fd, data, len);
    if (r >= 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r < 0)
        return era_error_errno(err, -r, "cannot hand data to era-unpack");
    struct era_strv args = {0};
    struct era_image_helper_result result = {0};
    r = era_strv_add(&args, "hash");
    if (r >= 0)
        r = era_strv_add(&args, "3");
    r = r < 0 ? era_error_oom(err) : era_image_helper_run(images, &args, &fd, 1, "system_error", &result, err);
    era_strv_clear(&args);
    if (r < 0)
        return r;
    if (result.digest[0] == '\0')
        return era_error_set(err, EIO, "system_error", "era-unpack gave no digest");
    memcpy(ret_digest, result.digest, sizeof result.digest);
    return 0;
}
