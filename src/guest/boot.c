/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a kernel of the guest's own starts era-init from the
 * initramfs that the microvm launcher wrote (launcher/microvm/initramfs.c).
 * From there to the main loop leads one table of steps. They make what the
 * namespace launcher makes on the host, by the same functions: the image below
 * an overlay on bounded memory, /dev, /proc, /workspace. The machine is then
 * saved as a template; which VM a copy of it is, comes by the IDENTITY frame.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "guest/guest.h"
#include "guest/machine.h"
#include "sandbox/sandbox.h"

enum { MODULES_MAX = 32, MEM_MIB_LEAST = 16, PORT_TIMEOUT_MS = 20000 };

struct boot {
    uint64_t mem_mib; /* of which the kernel has taken its part already: what is left to commands */
    const char *warm; /* NULL: nothing */
    int control_fd;
    struct machine *machine;
};

/* ---- the initramfs ------------------------------------------------------ */

static int mount_at(const char *type, const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    return mount(type, path, type, MS_NOSUID | MS_NOEXEC, NULL) < 0 ? -errno : 0;
}

static int mount_kernels(struct boot *boot)
{
    int r = mount_at("devtmpfs", "/dev");
    if (r >= 0)
        r = mount_at("proc", "/proc");
    if (r >= 0)
        r = mount_at("sysfs", "/sys");
    if (r < 0)
        return r;
    boot->machine->dev_fd = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    boot->machine->sys_fd = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return boot->machine->dev_fd < 0 || boot->machine->sys_fd < 0 ? -errno : 0;
}

/* The kernel gives its first process no console: so nothing that is opened later may become one. */
static int take_stdio(struct boot *boot)
{
    int fd = openat(boot->machine->dev_fd, "null", O_RDWR);
    if (fd < 0)
        return -errno;
    for (int i = 0; i < 3; i++)
        if (fd != i && dup2(fd, i) < 0)
            return -errno;
    if (fd > 2)
        close(fd);
    return 0;
}

/* In the order of their names, which is the order that they need. Their files are memory, given back here. */
static int load_modules(struct boot *boot)
{
    (void)boot;
    for (int i = 0; i < MODULES_MAX; i++) {
        char path[32];
        snprintf(path, sizeof path, "/modules/%02d", i);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return errno == ENOENT ? 0 : -errno;
        if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
            return -errno;
        (void)unlink(path);
    }
    return -E2BIG;
}

/* The one port there is: /dev/vport<device>p<port>. -ENOENT: not yet. */
static int find_port(const struct boot *boot)
{
    int fd = openat(boot->machine->dev_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL)
        return -errno;
    int port = -ENOENT;
    for (struct dirent *entry; port == -ENOENT && (entry = readdir(dir)) != NULL;)
        if (era_str_starts_with(entry->d_name, "vport"))
            port = openat(fd, entry->d_name, O_RDWR | O_CLOEXEC);
    int r = port == -1 ? -errno : port;
    closedir(dir);
    return r;
}

/* The device tells its ports some time after it was found: waits for the node. */
static int open_port(struct boot *boot)
{
    if (faccessat(boot->machine->sys_fd, "bus/virtio/drivers/virtio_console", F_OK, 0) < 0)
        return -ENODEV; /* a kernel of the user's, without it. Nobody can hear of it, but that the machine ends */
    _cleanup_close_ int watch = inotify_init1(IN_CLOEXEC);
    if (watch < 0 || inotify_add_watch(watch, "/dev", IN_CREATE | IN_ATTRIB) < 0)
        return -errno;
    int port;
    /* The node is there a moment before the driver knows of it (ENXIO), and nothing tells when it does. */
    while ((port = find_port(boot)) == -ENOENT || port == -ENXIO) {
        char events[4096];
        struct pollfd poller = {.fd = watch, .events = POLLIN};
        int n = poll(&poller, 1, port == -ENXIO ? 1 : PORT_TIMEOUT_MS);
        if (n > 0 && read(watch, events, sizeof events) < 0)
            return -errno;
        if (n == 0 && port == -ENOENT)
            return -ENODEV;
    }
    boot->control_fd = port;
    return port < 0 ? port : 0;
}

/* ---- the root ----------------------------------------------------------- */

/* Files may hold a share of what is left, and not of what the kernel itself lies in: of a small machine that is half.
 */
static int measure_memory(struct boot *boot)
{
    struct sysinfo info;
    if (sysinfo(&info) < 0)
        return -errno;
    uint64_t free_mib = (uint64_t)info.freeram * info.mem_unit >> 20;
    if (free_mib < boot->mem_mib)
        boot->mem_mib = free_mib > MEM_MIB_LEAST ? free_mib : MEM_MIB_LEAST;
    return 0;
}

/* What is written is memory: at most half of it. As on the host: launcher/namespace/root.c. */
static int make_scratch(struct boot *boot)
{
    char size[32];
    char inodes[32];
    snprintf(size, sizeof size, "%um", (unsigned)boot->mem_mib / 2);
    snprintf(inodes, sizeof inodes, "%u", (unsigned)boot->mem_mib * 128);
    const struct mount_option options[] = {{"size", size}, {"nr_inodes", inodes}, {"mode", "0755"}, {NULL, NULL}};
    _cleanup_close_ int scratch = mount_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (scratch < 0)
        return scratch;
    if (mkdir("/scratch", 0755) < 0 && errno != EEXIST)
        return -errno;
    int r = mount_attach(scratch, AT_FDCWD, "/scratch");
    if (r < 0)
        return r;
    static const char *const folders[] = {"/scratch/upper", "/scratch/work", "/scratch/lower"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (mkdir(folders[i], 0755) < 0)
            return -errno;
    return 0;
}

static int mount_image(struct boot *boot)
{
    char source[64];
    int r = machine_find_disk(boot->machine, DISK_IMAGE, source);
    if (r < 0)
        return r;
    const struct mount_option options[] = {{"source", source}, {"ro", NULL}, {NULL, NULL}};
    _cleanup_close_ int image = mount_new("erofs", options, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return image < 0 ? image : mount_attach(image, AT_FDCWD, "/scratch/lower");
}

static int mount_root(struct boot *boot)
{
    const struct mount_option options[] = {
        {"lowerdir", "/scratch/lower"},
        {"upperdir", "/scratch/upper"},
        {"workdir", "/scratch/work"},
        {"source", "era"},
        {"xino", "off"},
        {"redirect_dir", "nofollow"},
        {NULL, NULL},
    };
    boot->machine->root_fd = mount_new("overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return boot->machine->root_fd < 0 ? boot->machine->root_fd : mount_attach(boot->machine->root_fd, AT_FDCWD, "/");
}

static int make_dev(struct boot *boot)
{
    return dev_mount(boot->machine->root_fd, (uint32_t)boot->mem_mib);
}

static int make_proc(struct boot *boot)
{
    return proc_mount(boot->machine->root_fd);
}

static int make_workspace(struct boot *boot)
{
    return tree_make_workspace(boot->machine->root_fd, -EBADF);
}

static int make_machine_id(struct boot *boot)
{
    return machine_make_id(boot->machine);
}

/* Held by descriptor alone: commands cannot reach it. */
static int make_group(struct boot *boot)
{
    _cleanup_close_ int tree = mount_new("cgroup2", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (tree < 0)
        return tree;
    _cleanup_close_ int control = openat(tree, "cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
    int r = control < 0 ? -errno : era_write_full(control, "+pids", 5);
    if (r < 0)
        return r;
    if (mkdirat(tree, "vm", 0755) < 0)
        return -errno;
    boot->machine->cgroup_fd = openat(tree, "vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return boot->machine->cgroup_fd < 0 ? -errno : 0;
}

/* As a host does that bounds a guest by a control group: memory is promised, and who asks for too much is ended. */
static int promise_memory(struct boot *boot)
{
    (void)boot;
    _cleanup_close_ int fd = open("/proc/sys/vm/overcommit_memory", O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : era_write_full(fd, "1", 1);
}

/*
 * A guest that is short of memory could go on for minutes, throwing its programs' pages out and reading them again
 * from the image. The kernel's multi-generational LRU (Documentation/admin-guide/mm/multigen_lru.rst) ends a process
 * instead, when what was in use during the last second does not fit. A kernel without it does what it can.
 */
static int forbid_thrashing(struct boot *boot)
{
    static const struct {
        const char *path;
        const char *value;
    } settings[] = {{"kernel/mm/lru_gen/enabled", "y"}, {"kernel/mm/lru_gen/min_ttl_ms", "1000"}};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        _cleanup_close_ int fd = openat(boot->machine->sys_fd, settings[i].path, O_WRONLY | O_CLOEXEC);
        int r = fd < 0 ? -errno : era_write_full(fd, settings[i].value, strlen(settings[i].value));
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

/* The initramfs cannot be unmounted; it is covered, and empty. */
static int enter_root(struct boot *boot)
{
    (void)unlink("/init");
    return fchdir(boot->machine->root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
}

static int raise_loopback(struct boot *boot)
{
    (void)boot;
    return machine_raise_loopback();
}

/* Brings an interpreter's pages into memory. No process of it stays; that it is there is not promised. */
static int warm_up(struct boot *boot)
{
    if (boot->warm == NULL)
        return 0;
    static const char *const words[][3] = {{"python3", "-c", "pass"}, {"node", "-e", "0"}};
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char *const envp[] = {path, NULL};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!era_str_eq(words[i][0], boot->warm))
            continue;
        char *const argv[] = {(char *)(uintptr_t)words[i][0], (char *)(uintptr_t)words[i][1],
                              (char *)(uintptr_t)words[i][2], NULL};
        (void)putenv(path);
        pid_t pid;
        if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, envp) == 0)
            (void)waitpid(pid, NULL, 0);
    }
    return 0;
}

/* So that init is heard beside hundreds of busy commands, which go back to 0. */
static int go_first(struct boot *boot)
{
    (void)boot;
    return setpriority(PRIO_PROCESS, 0, -20) < 0 ? -errno : 0;
}

static const struct {
    const char *name;
    int (*run)(struct boot *boot);
} steps[] = {
    {"kernel's file systems", mount_kernels},
    {"stdio", take_stdio},
    {"kernel modules", load_modules},
    /* from here on the shim hears what fails */
    {"control port", open_port},
    {"memory that is left", measure_memory},
    {"writable layer", make_scratch},
    {"image", mount_image},
    /* leaves the guest's root on top of the initramfs; paths still lead to the latter */
    {"root", mount_root},
    {"/dev", make_dev},
    {"/proc", make_proc},
    {"/workspace", make_workspace},
    {"machine id", make_machine_id},
    {"control group", make_group},
    {"memory", promise_memory},
    {"shortage of memory", forbid_thrashing},
    {"loopback", raise_loopback},
    {"entering the root", enter_root},
    {"warming up", warm_up},
    {"priority", go_first},
};

_Noreturn void boot_fail(int control_fd, const char *what, int r)
{
    struct era_error err;
    struct era_buffer out = {0};
    era_error_set(&err, -r, "vm_start_failed", "the guest cannot set itself up: %s: %s", what, strerror(-r));
    if (control_fd >= 0 && era_message_append(&out, ERA_FRAME_ERROR, 0, era_error_encode, &err) >= 0) {
        (void)era_set_nonblock(control_fd, false);
        (void)era_write_full(control_fd, era_buffer_data(&out), era_buffer_len(&out));
    }
    _exit(1);
}

static void read_arguments(struct boot *boot, char *const argv[])
{
    for (; *argv != NULL; argv++) {
        if (era_str_starts_with(*argv, "mem_mib="))
            (void)era_parse_u64(*argv + strlen("mem_mib="), MEM_MIB_LEAST, UINT32_MAX, &boot->mem_mib);
        else if (era_str_starts_with(*argv, "warm="))
            boot->warm = *argv + strlen("warm=");
    }
}

int boot_machine(char *const argv[], struct machine *ret_machine)
{
    *ret_machine = (struct machine){.sys_fd = -EBADF,
                                    .dev_fd = -EBADF,
                                    .cgroup_fd = -EBADF,
                                    .root_fd = -EBADF,
                                    .volume_fd = -EBADF,
                                    .machine_id_fd = -EBADF};
    struct boot boot = {.mem_mib = MEM_MIB_LEAST, .control_fd = -EBADF, .machine = ret_machine};
    read_arguments(&boot, argv);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        int r = steps[i].run(&boot);
        if (r < 0)
            boot_fail(boot.control_fd, steps[i].name, r);
    }
    return boot.control_fd;
}
