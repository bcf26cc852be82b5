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
 * Theory of operation: a guest may bind a socket to its interface, without any
 * privilege, and the kernel then takes a route for advice: where the tables
 * say "unreachable", IPv4 assumes that the address is on that link, and IPv6
 * passes over routes that do not name the interface. So
 *   IPv4: what is forbidden is made the guest's own address on each of its
 *         interfaces. The local table comes first, for bound sockets as well,
 *         and what is local never leaves.
 *   IPv6: a rule says unreachable. Rules are asked whatever the socket is
 *         bound to. The kernel's search for neighbours asks none, so that a
 *         gateway with a link-local address still works.
 * Without CAP_NET_ADMIN a guest changes neither.
 */
static const struct {
    int family;
    const char *address;
    unsigned char prefix;
} forbidden[] = {
    /* Where clouds hand out their machines' credentials. */
    {AF_INET, "169.254.0.0", 16},     /* link-local: AWS, Google, Azure, OpenStack, DigitalOcean, … */
    {AF_INET, "100.100.100.200", 32}, /* Alibaba */
    {AF_INET, "168.63.129.16", 32},   /* Azure's wire server */
    {AF_INET6, "fd00:ec2::254", 128}, /* AWS */
    {AF_INET6, "fd20:ce::254", 128},  /* Google */
    /* What is the host's own on any host; a socket that is bound to an interface looks for it there. */
    {AF_INET, "127.0.0.0", 8},
    {AF_INET6, "::1", 128},
    {AF_INET6, "fe80::", 10},
};

enum { INTERFACES_MAX = 64 };

struct route_request {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr address_attribute;
    struct in_addr address;
    struct rtattr interface_attribute;
    int interface;
};

struct rule_request {
    struct nlmsghdr header;
    struct fib_rule_hdr rule;
    struct rtattr attribute;
    struct in6_addr address;
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

/* The address is the guest's own, on this interface. */
static int make_local(int netlink_fd, const struct in_addr *address, unsigned char prefix, int interface)
{
    const struct route_request request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = RTM_NEWROUTE,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND},
        .route = {.rtm_family = AF_INET,
                  .rtm_dst_len = prefix,
                  .rtm_table = RT_TABLE_LOCAL,
                  .rtm_protocol = RTPROT_STATIC,
                  .rtm_scope = RT_SCOPE_HOST,
                  .rtm_type = RTN_LOCAL},
        .address_attribute = {.rta_len = RTA_LENGTH(sizeof *address), .rta_type = RTA_DST},
        .address = *address,
        .interface_attribute = {.rta_len = RTA_LENGTH(sizeof interface), .rta_type = RTA_OIF},
        .interface = interface,
    };
    int r = order(netlink_fd, &request.header);
    /* APPEND: beside the route of the same prefix that loopback has. EEXIST: it is already. ENETDOWN: nothing leaves by
     * that one, and the guest cannot raise it. */
    return r == -EEXIST || r == -ENETDOWN ? 0 : r;
}

static int forbid_ipv4(int netlink_fd, const struct in_addr *address, unsigned char prefix)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    for (int i = 1; i <= INTERFACES_MAX; i++) {
        struct ifreq request = {.ifr_ifindex = i};
        bool there = ioctl(fd, SIOCGIFNAME, &request) == 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
        if (!there || (request.ifr_flags & IFF_LOOPBACK) != 0)
            continue;
        int r = make_local(netlink_fd, address, prefix, i);
        if (r < 0)
            return r;
    }
    return 0;
}

static int forbid_ipv6(int netlink_fd, const struct in6_addr *address, unsigned char prefix)
{
    const struct rule_request request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = RTM_NEWRULE,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
        .rule = {.family = AF_INET6, .dst_len = prefix, .action = FR_ACT_UNREACHABLE},
        .attribute = {.rta_len = RTA_LENGTH(sizeof *address), .rta_type = FRA_DST},
        .address = *address,
    };
    int r = order(netlink_fd, &request.header);
    if (r != -EOPNOTSUPP && r != -EAFNOSUPPORT)
        return r == -EEXIST ? 0 : r;
    /* Well when there is no IPv6; without rules for it there is no way to keep the guest in. */
    _cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? 0 : r;
}

static int forbid_host_address(int netlink_fd, const struct sockaddr *address)
{
    if (address != NULL && address->sa_family == AF_INET)
        return forbid_ipv4(netlink_fd, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 32);
    if (address != NULL && address->sa_family == AF_INET6)
        return forbid_ipv6(netlink_fd, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 128);
    return 0;
}

int network_forbid(const struct ifaddrs *host)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        union {
            struct in_addr ipv4;
            struct in6_addr ipv6;
        } address;
        if (inet_pton(forbidden[i].family, forbidden[i].address, &address) != 1)
            return -EINVAL;
        int r = forbidden[i].family == AF_INET ? forbid_ipv4(fd, &address.ipv4, forbidden[i].prefix)
                                               : forbid_ipv6(fd, &address.ipv6, forbidden[i].prefix);
        if (r < 0)
            return r;
    }
    for (; host != NULL; host = host->ifa_next) {
        int r = forbid_host_address(fd, host->ifa_addr);
        if (r < 0)
            return r;
    }
    return 0;
}
