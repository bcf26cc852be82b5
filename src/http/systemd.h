/* SPDX-License-Identifier: Apache-2.0 */
/* systemd.h - what a service manager and its service say to each other: sd_notify(3), sd_listen_fds(3). */
#ifndef ERA_HTTP_SYSTEMD_H
#define ERA_HTTP_SYSTEMD_H

/* "READY=1", …: a datagram to $NOTIFY_SOCKET, when there is one. */
void systemd_notify(const char *state);

/* The socket that was passed to us, CLOEXEC; -ENOENT when there is none, -EINVAL when there are several. */
int systemd_socket(void);

#endif
