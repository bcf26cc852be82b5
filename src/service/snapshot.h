/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.h - what snapshot.c and snapshot_file.c share. */
#ifndef ERA_SERVICE_SNAPSHOT_H
#define ERA_SERVICE_SNAPSHOT_H

#include "service/service.h"

struct snapshot_facts {
    char vm_id[ERA_VM_ID_MAX]; /* of which it is */
    struct era_vm_ask ask;     /* what that was; env owned */
    int64_t volume_bytes;      /* 0: it had none */
    int64_t volume_changed_ns; /* of its copy */
    int64_t created_at_ns;
};

/* 0 or -errno; -EBADMSG: this is none. ret_facts->ask is to be cleared. */
int snapshot_file_write(int dirfd, const struct snapshot_facts *facts);
int snapshot_file_read(int dirfd, struct snapshot_facts *ret_facts);

#endif
