/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "launcher/namespace/internal.h"

int network_raise_loopback(void)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/*
 * Where clouds hand out their machines' credentials. An unreachable route
 * holds whatever else the table says, and a guest without CAP_NET_ADMIN cannot
 * change it.
 */
static const struct {
    int family;
    const char *address;
    unsigned char prefix;
} forbidden[] = {
    {AF_INET, "169.254.0.0", 16},     /* link-local: AWS, Google, Azure, OpenStack, DigitalOcean, … */
    {AF_INET, "100.100.100.200", 32}, /* Alibaba */
    {AF_INET, "168.63.129.16", 32},   /* Azure's wire server */
    {AF_INET6, "fd00:ec2::254", 128}, /* AWS */
    {AF_INET6, "fd20:ce::254", 128},  /* Google */
};

struct route_request {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr attribute;
    unsigned char address[16];
};

struct rule_request {
    struct nlmsghdr header;
    struct fib_rule_hdr rule;
    struct rtattr attribute;
    unsigned char address[16];
};

/* One order to the kernel, and its answer: 0 or -errno. */
static int order(int netlink_fd, const struct nlmsghdr *request)
{
    if (send(netlink_fd, request, request->nlmsg_len, 0) < 0)
        return -errno;
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char more[512];
    } answer;
    ssize_t n = recv(netlink_fd, &answer, sizeof answer, 0);
    if (n < 0)
        return -errno;
    if ((size_t)n < NLMSG_LENGTH(sizeof answer.error) || answer.header.nlmsg_type != NLMSG_ERROR)
        return -EBADMSG;
    return answer.error.error;
}

/* address: 4 or 16 bytes, as the family has them. */
static int add_unreachable(int netlink_fd, int family, const void *address, unsigned char prefix)
{
    size_t size = family == AF_INET ? 4 : 16;
    struct route_request request = {
        .header = {.nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
        .route = {.rtm_family = (unsigned char)family,
                  .rtm_dst_len = prefix,
                  .rtm_table = RT_TABLE_MAIN,
                  .rtm_protocol = RTPROT_STATIC,
                  .rtm_scope = RT_SCOPE_UNIVERSE,
                  .rtm_type = RTN_UNREACHABLE},
        .attribute = {.rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = RTA_DST},
    };
    request.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof request.route) + RTA_LENGTH(size));
    memcpy(request.address, address, size);
    int r = order(netlink_fd, &request.header);
    bool no_ipv6 = family == AF_INET6 && (r == -EOPNOTSUPP || r == -EAFNOSUPPORT);
    return no_ipv6 ? 0 : r;
}

/*
 * All of fe80::/10: the host's own addresses of that kind among it. A rule,
 * because a route that names no interface does not hold for an address that
 * does. The kernel's search for neighbours asks no rules, so that a gateway of
 * that kind still works.
 */
static int forbid_link_local(int netlink_fd)
{
    struct rule_request request = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof request.rule) + RTA_LENGTH(sizeof request.address),
                   .nlmsg_type = RTM_NEWRULE,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
        .rule = {.family = AF_INET6, .dst_len = 10, .action = FR_ACT_UNREACHABLE},
        .attribute = {.rta_len = RTA_LENGTH(sizeof request.address), .rta_type = FRA_DST},
        .address = {0xFE, 0x80},
    };
    int r = order(netlink_fd, &request.header);
    if (r != -EOPNOTSUPP && r != -EAFNOSUPPORT)
        return r;
    /* Well when there is no IPv6; without rules for it there is no way to keep the guest in. */
    _cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? 0 : r;
}

static int forbid_host_address(int netlink_fd, const struct sockaddr *address)
{
    if (address == NULL)
        return 0;
    if (address->sa_family == AF_INET) {
        const struct in_addr *in = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
        bool loopback = ntohl(in->s_addr) >> 24 == IN_LOOPBACKNET;
        return loopback ? 0 : add_unreachable(netlink_fd, AF_INET, in, 32);
    }
    if (address->sa_family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        bool covered = IN6_IS_ADDR_LOOPBACK(in6) || IN6_IS_ADDR_LINKLOCAL(in6);
        return covered ? 0 : add_unreachable(netlink_fd, AF_INET6, in6, 128);
    }
    return 0;
}

int network_forbid(const struct ifaddrs *host)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        unsigned char address[16];
        int r = inet_pton(forbidden[i].family, forbidden[i].address, address) == 1 ? 0 : -EINVAL;
        if (r >= 0)
            r = add_unreachable(fd, forbidden[i].family, address, forbidden[i].prefix);
        if (r < 0)
            return r;
    }
    for (; host != NULL; host = host->ifa_next) {
        int r = forbid_host_address(fd, host->ifa_addr);
        if (r < 0)
            return r;
    }
    return forbid_link_local(fd);
}

int network_write_resolver(int root_fd)
{
    static const char text[] = "nameserver " NETWORK_RESOLVER "\n";
    int r = mount_point_at(root_fd, "etc", 0755);
    if (r < 0)
        return r;
    _cleanup_close_ int etc = openat(root_fd, "etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (etc < 0)
        return -errno;
    if (unlinkat(etc, "resolv.conf", 0) < 0 && errno != ENOENT)
        return -errno;
    _cleanup_close_ int fd = openat(etc, "resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : era_write_full(fd, text, sizeof text - 1);
}
