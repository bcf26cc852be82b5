/* SPDX-License-Identifier: Apache-2.0 */
/*
 * era-shim - the keeper of one VM; started by the service and not by hand.
 *   era-shim           launches a guest as the frame on descriptor 3 says
 *   era-shim --sweep ID  removes what a killed shim left on the host
 *   era-shim --probe TEMPLATES  says on stdout what this host can do
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "launcher/launcher.h"
#include "shim/shim.h"

/* name TAB state TAB detail, a line each; the last one: "launcher", what auto picks or "", and why. */
static int probe(const char *templates_path)
{
    struct era_check checks[32];
    struct era_choice choice;
    int count = era_launcher_probe(templates_path, checks, (int)(sizeof checks / sizeof checks[0]), &choice);
    for (int i = 0; i < count; i++)
        printf("%s\t%s\t%s\n", checks[i].name, checks[i].state, checks[i].detail);
    printf("launcher\t%s\t%s\n", choice.name, choice.reason);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int sweep(const char *id)
{
    if (!era_vm_id_valid(id))
        return 2;
    era_namespace_launcher.sweep(id);
    era_microvm_launcher.sweep(id);
    return 0;
}

/* Leaves behind what it has of whoever started it: the session, the signals, the descriptors. */
static void leave_starter(void)
{
    setsid();
    sigset_t none; /* the mask of whoever started us */
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    const int keep[] = {SHIM_FD_LAUNCH, SHIM_FD_LOCK, SHIM_FD_IMAGE};
    era_close_all_but(keep, sizeof keep / sizeof keep[0]);
    for (size_t i = 0; i < sizeof keep / sizeof keep[0]; i++)
        fcntl(keep[i], F_SETFD, FD_CLOEXEC);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--sweep") == 0)
        return sweep(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--probe") == 0)
        return probe(argv[2]);
    if (argc != 1 || fcntl(SHIM_FD_LOCK, F_GETFD) < 0) {
        fputs("era-shim is started by agent and libera, not by hand\n", stderr);
        return 2;
    }
    leave_starter();
    ERA_POINT("shim.started");
    static struct shim shim = {.listen.fd = -EBADF, .runs_dir = -EBADF, .out_dir = -EBADF};
    shim_launch(&shim); /* comes back with a guest, or not at all */
    if (shim.guest == NULL)
        return 1;
    if (shim_confine(shim.launcher, shim.guest) < 0) {
        shim.guest->ops->free(shim.guest);
        return 1;
    }
    ERA_POINT("shim.confined");
    shim_loop(&shim);
}
