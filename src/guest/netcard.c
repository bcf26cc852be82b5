/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "guest/machine.h"
#include "sandbox/sandbox.h"

/* As the launcher tells passt: src/launcher/microvm/passt.c. */
static const char card[] = "eth0";
static const char address[] = "10.0.2.15";
static const char netmask[] = "255.255.255.0";
static const char gateway[] = "10.0.2.2";

static struct sockaddr ip(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    (void)inet_pton(AF_INET, text, &in.sin_addr);
    struct sockaddr any;
    memcpy(&any, &in, sizeof any);
    return any;
}

static int raise_card(int fd, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

int machine_raise_loopback(void)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : raise_card(fd, "lo");
}

int machine_configure_network(const struct machine *machine, const uint8_t mac[6])
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct ifreq request = {0};
    memcpy(request.ifr_name, card, sizeof card);
    /* One that is up is that of a machine in use, of which this is a copy: with it goes its route. */
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return -errno;
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, mac, 6);
    if (ioctl(fd, SIOCSIFHWADDR, &request) < 0)
        return -errno;
    request.ifr_addr = ip(address);
    if (ioctl(fd, SIOCSIFADDR, &request) < 0)
        return -errno;
    request.ifr_netmask = ip(netmask);
    if (ioctl(fd, SIOCSIFNETMASK, &request) < 0)
        return -errno;
    int r = raise_card(fd, card);
    if (r < 0)
        return r;
    struct rtentry route = {.rt_dst = ip("0.0.0.0"),
                            .rt_genmask = ip("0.0.0.0"),
                            .rt_gateway = ip(gateway),
                            .rt_flags = RTF_UP | RTF_GATEWAY};
    if (ioctl(fd, SIOCADDRT, &route) < 0)
        return -errno;
    return tree_write_resolver(machine->root_fd);
}
