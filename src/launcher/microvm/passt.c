/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt(1) speaks Ethernet with a machine's card, over a socket, and makes
 * connections of its own for what the machine asks. It runs in QEMU's network
 * namespace, which pasta connects and which forbids what no guest may reach:
 * what a guest's kernel forbids, a guest can allow.
 */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "launcher/microvm/internal.h"
#include "launcher/namespace/internal.h"

/* The addresses are those of src/guest/netcard.c. */
static const char *const argv[] = {
    "passt",     "--quiet", "--foreground",    "--runas",  "0",           "--fd", "5",    "--address", "10.0.2.15",
    "--netmask", "24",      "--gateway",       "10.0.2.2", "--no-map-gw", "-t",   "none", "-u",        "none",
    "--no-dhcp", "--pid",   "/proc/self/fd/4", NULL,
};

_Static_assert(KEEPER_READY == 4 && KEEPER_WIRE == 5, "as the arguments say");

int passt_start(pid_t child, int wire_fd, int *ret_pid_fd, struct era_error *err)
{
    static const char *const candidates[] = {"/usr/bin/passt", "/usr/local/bin/passt", "/bin/passt"};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
        if (access(candidates[i], X_OK) == 0) {
            const struct net_helper passt = {.path = candidates[i], .argv = argv, .wire_fd = wire_fd, .inside = true};
            return keeper_start(child, &passt, ret_pid_fd, err);
        }
    return era_error_set(err, ENOENT, "network_unavailable",
                         "--network allow_all needs passt; install the package passt");
}
