/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
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

static int add_unreachable(int netlink_fd, int family, const char *address, unsigned char prefix)
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
    if (inet_pton(family, address, request.address) != 1)
        return -EINVAL;
    if (send(netlink_fd, &request, request.header.nlmsg_len, 0) < 0)
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

int network_forbid_metadata(void)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        int r = add_unreachable(fd, forbidden[i].family, forbidden[i].address, forbidden[i].prefix);
        bool no_ipv6 = forbidden[i].family == AF_INET6 && (r == -EOPNOTSUPP || r == -EAFNOSUPPORT);
        if (r < 0 && !no_ipv6)
            return r;
    }
    return 0;
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
