/* SPDX-License-Identifier: Apache-2.0 */
#include "http/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

enum { FIRST_FD = 3 };

void systemd_notify(const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path)
        return;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* abstract */
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, len);
}

int systemd_socket(void)
{
    uint64_t pid = 0;
    uint64_t count = 0;
    const char *pid_text = getenv("LISTEN_PID");
    const char *count_text = getenv("LISTEN_FDS");
    if (pid_text == NULL || count_text == NULL || era_parse_u64(pid_text, 1, INT32_MAX, &pid) < 0 ||
        (pid_t)pid != getpid() || era_parse_u64(count_text, 0, 1024, &count) < 0 || count == 0)
        return -ENOENT;
    if (count > 1)
        return -EINVAL;
    if (fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return FIRST_FD;
}
