/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pasta(1) gives a network namespace an interface of its own. No port is
 * forwarded in either direction, and the gateway's address is not mapped to the
 * host: there is no way to the host's loopback.
 */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "launcher/namespace/internal.h"

static const char *const argv[] = {
    "pasta",
    "--quiet",
    "--foreground",
    "--netns-only",
    "--netns",
    "/proc/self/fd/3",
    "--runas",
    "0",
    "--config-net",
    "--no-map-gw",
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
    "--dns-forward",
    SANDBOX_RESOLVER,
    "--pid",
    "/proc/self/fd/4",
    NULL,
};

_Static_assert(KEEPER_NETNS == 3 && KEEPER_READY == 4, "as the arguments say");

int pasta_start(pid_t child, int *ret_pid_fd, struct era_error *err)
{
    static const char *const candidates[] = {"/usr/bin/pasta", "/usr/local/bin/pasta", "/bin/pasta"};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
        if (access(candidates[i], X_OK) == 0) {
            const struct net_helper pasta = {.path = candidates[i], .argv = argv, .wire_fd = -EBADF};
            return keeper_start(child, &pasta, ret_pid_fd, err);
        }
    return era_error_set(err, ENOENT, "network_unavailable",
                         "--network allow_all needs pasta; install the package passt");
}
