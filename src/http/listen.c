/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server listens, and whether it may. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "http/listen.h"
#include "http/systemd.h"

static int bind_to(const char *text, struct era_error *err)
{
    struct sockaddr_storage address;
    socklen_t len = 0;
    if (address_parse(text, &address, &len) < 0) {
        int r = era_error_set(err, EINVAL, "usage",
                              "cannot listen at %s; it is written ADDR:PORT or [ADDR]:PORT, ADDR in numbers", text);
        era_str_copy(err->field, sizeof err->field, "listen");
        return r;
    }
    _cleanup_close_ int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, SOMAXCONN) < 0) {
        era_error_set(err, errno, "address_unusable", "cannot listen at %s: %s", text, strerror(errno));
        return -err->errnum;
    }
    return era_take_fd(&fd);
}

/* An option wins over what was passed to us, that over the environment. */
static int open_socket(const struct settings *settings, struct era_error *err)
{
    const char *port = getenv("PORT");
    char text[64] = "127.0.0.1:8787";
    int fd = settings->listen == NULL ? systemd_socket() : -ENOENT;
    if (fd >= 0)
        return fd;
    if (fd != -ENOENT)
        return era_error_set(err, -fd, "usage", "more than one socket was passed by the service manager");
    if (settings->listen != NULL)
        return bind_to(settings->listen, err);
    if (port != NULL && port[0] != '\0')
        (void)era_str_format(text, sizeof text, "127.0.0.1:%.32s", port);
    return bind_to(text, err);
}

int listen_open(const struct settings *settings, bool has_key, int *ret_fd, bool *ret_loopback, char *address,
                size_t size, struct era_error *err)
{
    _cleanup_close_ int fd = open_socket(settings, err);
    if (fd < 0)
        return fd;
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0 || era_set_nonblock(fd, true) < 0)
        return era_error_errno(err, errno, "cannot use the socket to listen at");
    address_format((struct sockaddr *)&bound, address, size);
    *ret_loopback = address_is_loopback((struct sockaddr *)&bound);
    if (!*ret_loopback && !has_key && !settings->insecure_no_auth)
        return era_error_set(err, EACCES, "key_missing",
                             "%s can be reached from elsewhere, and there is no key: set AGENT_API_KEY or "
                             "--api-key-file, or, at your own risk, --insecure-no-auth",
                             address);
    if (!has_key && settings->insecure_no_auth)
        era_log(ERA_LOG_WARN, "serving without authentication: whoever reaches %s can run commands here", address);
    *ret_fd = era_take_fd(&fd);
    return 0;
}
