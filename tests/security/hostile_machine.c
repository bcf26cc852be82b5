/* SPDX-License-Identifier: Apache-2.0 */
/* hostile_machine - the part of hostile_init.c for a kernel of its own, as src/guest/boot.c does it for era-init. */
#include "hostile_init.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int machine_is_ours(void)
{
    return getpid() == 1 && access("/modules", F_OK) == 0;
}

static void load_modules(void)
{
    char path[32];
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "/modules/%02d", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        syscall(SYS_finit_module, fd, "", 0);
        close(fd);
    }
}

static int find_port(void)
{
    int port = -1;
    DIR *dir = opendir("/dev");
    for (struct dirent *entry; port < 0 && (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, "vport", 5) == 0)
            port = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
    closedir(dir);
    return port;
}

int machine_open(void)
{
    mkdir("/dev", 0755);
    if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) < 0)
        _exit(1);
    load_modules();
    int port;
    while ((port = find_port()) < 0)
        poll(NULL, 0, 1);
    return port;
}

const char *machine_deed(const uint8_t *payload, size_t len)
{
    static const char name[] = "HOSTILE=";
    static char deed[64];
    const uint8_t *found = memmem(payload, len, name, sizeof name - 1);
    if (found == NULL || found - payload < 4)
        return "";
    size_t size = found[-4] - (sizeof name - 1); /* text is counted: four bytes before it */
    if (size >= sizeof deed)
        return "";
    memcpy(deed, found + sizeof name - 1, size);
    deed[size] = '\0';
    return deed;
}

void machine_hold(const char *deed)
{
    static const uint8_t still[12] = {[4] = 29};
    static const uint8_t behind[13] = {1, [4] = 13, [8] = 1, [12] = 'x'};
    if (strcmp(deed, "never_still") == 0)
        return;
    if (strcmp(deed, "half_still") == 0) {
        say(still, 5);
        return;
    }
    if (strcmp(deed, "dead_when_still") == 0)
        _exit(0);
    say(still, sizeof still);
    if (strcmp(deed, "more_behind_still") == 0)
        say(behind, sizeof behind);
    if (strcmp(deed, "still_twice") == 0)
        say(still, sizeof still);
}
