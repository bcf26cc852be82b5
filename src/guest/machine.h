/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - the devices of a machine that is the guest's own. 0 or -errno. */
#ifndef ERA_GUEST_MACHINE_H
#define ERA_GUEST_MACHINE_H

#include <stdint.h>

#include "guest/guest.h"

/* Serial numbers by which the launcher tells the disks apart. */
#define DISK_IMAGE  "era-image"
#define DISK_VOLUME "era-volume"

/* disk.c: the path of a disk's node, "/dev/…" of devtmpfs; -ENODEV. */
int machine_find_disk(const struct machine *machine, const char *serial, char ret_path[64]);
/* Mounts the volume of a copy; the template had an empty disk in its place. */
int machine_mount_volume(struct machine *machine);

/* identity.c: makes the file that the machine's id will be written to. */
int machine_make_id(struct machine *machine);

/* netcard.c */
int machine_raise_loopback(void);
int machine_configure_network(const struct machine *machine, const uint8_t mac[6]);

#endif
