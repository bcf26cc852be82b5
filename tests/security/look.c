/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look PATH… - for images that hold nothing else: says what each path is
 * ("folder", "file", "link TARGET", "device MAJOR MINOR", …), and whether a
 * byte can be written to it, or a file be made in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *written(const char *path, int is_folder)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", path, is_folder ? "/looked" : "");
    int fd = open(name, O_WRONLY | O_NONBLOCK | (is_folder ? O_CREAT : 0), 0600);
    if (fd < 0)
        return "kept";
    int r = (int)write(fd, "x", 1);
    close(fd);
    if (is_folder)
        unlink(name);
    return r == 1 ? "written" : "kept";
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat st;
        char target[256] = "";
        if (lstat(argv[i], &st) < 0)
            printf("%s\tnothing\n", argv[i]);
        else if (S_ISLNK(st.st_mode))
            printf("%s\tlink %.*s\n", argv[i], (int)readlink(argv[i], target, sizeof target), target);
        else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
            printf("%s\tdevice %u %u\n", argv[i], major(st.st_rdev), minor(st.st_rdev));
        else if (S_ISDIR(st.st_mode))
            printf("%s\tfolder %s\n", argv[i], written(argv[i], 1));
        else
            printf("%s\t%s %s\n", argv[i], S_ISREG(st.st_mode) ? "file" : "other", written(argv[i], 0));
    }
    return 0;
}
