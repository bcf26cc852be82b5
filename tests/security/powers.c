/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powers - uses each capability for what it is good for and prints "NAME
 * ERRNO"; 0: it worked. What cannot be seen to work is not here: NET_BROADCAST
 * is unused, BLOCK_SUSPEND is ignored silently.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define PLACE "/tmp/powers"

static long call(long number, long a, long b, long c)
{
    return syscall(number, a, b, c, 0, 0, 0);
}

static int fresh_file(uid_t owner)
{
    unlink(PLACE);
    int fd = open(PLACE, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0 && owner != 0 && fchown(fd, owner, owner) < 0)
        return -1;
    return fd;
}

static int use_chown(void)
{
    return fresh_file(1000) < 0 ? -1 : 0;
}

static int use_dac_override(void)
{
    int fd = fresh_file(1000) < 0 ? -1 : open(PLACE, O_RDWR);
    return fd;
}

static int use_fowner(void)
{
    return fresh_file(1000) < 0 ? -1 : chmod(PLACE, 0644);
}

static int use_setfcap(void)
{
    static const struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2};
    return fresh_file(0) < 0 ? -1 : setxattr(PLACE, "security.capability", &data, sizeof data, 0);
}

static int use_setuid(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(setgid(1000) < 0 || setuid(1000) < 0 ? errno : 0);
    int status = 0;
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status);
    return errno == 0 ? 0 : -1;
}

static int use_bind(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

static int use_chroot(void)
{
    return chroot("/"); /* what it is at */
}

static int use_dac_read_search(void)
{
    struct {
        struct file_handle head;
        unsigned char bytes[128];
    } handle = {.head.handle_bytes = 8, .head.handle_type = 1};
    return (int)call(SYS_open_by_handle_at, AT_FDCWD, (long)&handle, O_RDONLY);
}

static int use_setpcap(void)
{
    return prctl(PR_CAPBSET_DROP, CAP_CHOWN, 0, 0, 0);
}

static int use_immutable(void)
{
    int fd = open("/dev/shm/powers", O_RDWR | O_CREAT, 0600);
    int flags = FS_IMMUTABLE_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static int use_net_admin(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = 0};
    return ioctl(fd, SIOCSIFFLAGS, &request);
}

static int use_net_raw(void)
{
    return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

static int use_ipc_lock(void)
{
    static char page[8192];
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) < 0)
        return 0;
    return mlock(page, sizeof page);
}

static int use_ipc_owner(void)
{
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT); /* mode 0 */
    void *at = shmat(id, NULL, 0);
    int saved = errno;
    shmctl(id, IPC_RMID, NULL);
    errno = saved;
    return at == (void *)-1 ? -1 : 0;
}

static int use_module(void)
{
    return (int)call(SYS_init_module, 0, 0, (long)"");
}

static int use_rawio(void)
{
    return (int)call(SYS_iopl, 3, 0, 0);
}

static int use_ptrace(void)
{
    return (int)call(SYS_ptrace, 0x4206, 1, 0); /* SEIZE */
}

static int use_pacct(void)
{
    return (int)call(SYS_acct, 0, 0, 0);
}

static int use_admin(void)
{
    return (int)syscall(SYS_mount, "era", "/tmp", "tmpfs", 0, NULL);
}

static int use_boot(void)
{
    return (int)call(SYS_reboot, (long)0xfee1deadu, 672274793, 0); /* CAD off */
}

static int use_nice(void)
{
    return setpriority(PRIO_PROCESS, 0, -5);
}

static int use_nice_real_time(void)
{
    const struct sched_param param = {.sched_priority = 1};
    return (int)call(SYS_sched_setscheduler, 0, SCHED_FIFO, (long)&param);
}

static int use_resource(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -1;
    limit.rlim_max++;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static int use_time(void)
{
    struct timespec now = {0};
    return (int)call(SYS_clock_settime, CLOCK_REALTIME, (long)&now, 0);
}

static int use_tty_config(void)
{
    return (int)call(SYS_vhangup, 0, 0, 0);
}

static int use_mknod(void)
{
    unlink(PLACE);
    return mknod(PLACE, S_IFCHR | 0600, makedev(1, 3));
}

static int use_mknod_block(void)
{
    unlink(PLACE);
    return mknod(PLACE, S_IFBLK | 0600, makedev(7, 0));
}

static int use_lease(void)
{
    int fd = fresh_file(1000);
    return fcntl(fd, F_SETLEASE, F_WRLCK);
}

static int use_audit(void)
{
    return socket(AF_NETLINK, SOCK_RAW, 9);
}

static int use_mac(void)
{
    return fresh_file(0) < 0 ? -1 : setxattr(PLACE, "security.SMACK64", "_", 1, 0);
}

static int use_syslog(void)
{
    char text[256];
    return (int)call(SYS_syslog, 3, (long)text, sizeof text);
}

static int use_wake_alarm(void)
{
    return timerfd_create(CLOCK_REALTIME_ALARM, 0);
}

static int use_perfmon(void)
{
    unsigned char attributes[128] = {1, 0, 0, 0, 128};
    return (int)syscall(SYS_perf_event_open, attributes, -1, 0, -1, 0);
}

static int use_bpf(void)
{
    char attributes[64] = {2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1};
    return (int)call(SYS_bpf, 0, (long)attributes, sizeof attributes);
}

static int use_checkpoint_restore(void)
{
    return prctl(PR_SET_MM, PR_SET_MM_START_CODE, (unsigned long)use_bpf, 0, 0);
}

/* ---- ways to get one back ------------------------------------------------ */

static int take_all_back(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{~0u, ~0u, 0}, {~0u, ~0u, 0}};
    return (int)call(SYS_capset, (long)&header, (long)data, 0);
}

static int raise_ambient(void)
{
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0);
}

static int lose_no_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

static int leave_the_filter(void)
{
    return prctl(PR_SET_SECCOMP, 0, 0, 0, 0);
}

static const struct {
    const char *name;
    int (*use)(void);
} powers[] = {
    {"CHOWN", use_chown},
    {"DAC_OVERRIDE", use_dac_override},
    {"FOWNER", use_fowner},
    {"SETUID", use_setuid},
    {"NET_BIND_SERVICE", use_bind},
    {"SYS_CHROOT", use_chroot},
    {"SETFCAP", use_setfcap},
    {"DAC_READ_SEARCH", use_dac_read_search},
    {"SETPCAP", use_setpcap},
    {"LINUX_IMMUTABLE", use_immutable},
    {"NET_ADMIN", use_net_admin},
    {"NET_RAW", use_net_raw},
    {"IPC_LOCK", use_ipc_lock},
    {"IPC_OWNER", use_ipc_owner},
    {"SYS_MODULE", use_module},
    {"SYS_RAWIO", use_rawio},
    {"SYS_PTRACE", use_ptrace},
    {"SYS_PACCT", use_pacct},
    {"SYS_ADMIN", use_admin},
    {"SYS_BOOT", use_boot},
    {"SYS_NICE", use_nice},
    {"SYS_NICE real time", use_nice_real_time},
    {"SYS_RESOURCE", use_resource},
    {"SYS_TIME", use_time},
    {"SYS_TTY_CONFIG", use_tty_config},
    {"MKNOD", use_mknod},
    {"MKNOD block", use_mknod_block},
    {"LEASE", use_lease},
    {"AUDIT", use_audit},
    {"MAC_ADMIN", use_mac},
    {"SYSLOG", use_syslog},
    {"WAKE_ALARM", use_wake_alarm},
    {"PERFMON", use_perfmon},
    {"BPF", use_bpf},
    {"CHECKPOINT_RESTORE", use_checkpoint_restore},
    {"back by capset", take_all_back},
    {"back by the ambient set", raise_ambient},
    {"without no_new_privs", lose_no_new_privileges},
    {"without filter", leave_the_filter},
};

int main(void)
{
    for (size_t i = 0; i < sizeof powers / sizeof powers[0]; i++) {
        errno = 0;
        int r = powers[i].use();
        printf("%s\t%d\n", powers[i].name, r < 0 ? errno : 0);
    }
    unlink(PLACE);
    unlink("/dev/shm/powers");
    return 0;
}
