/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idmap.h - ids of a user namespace that an ordinary user makes.
 *
 * Inside, 0 is the caller. Where the system gave the caller a range of ids
 * (/etc/subuid and /etc/subgid, see subuid(5)) and has newuidmap(1) and
 * newgidmap(1), 1..65535 are of that range; otherwise there is id 0 only, and
 * a chown to any other fails with EINVAL.
 */
#ifndef ERA_BASE_IDMAP_H
#define ERA_BASE_IDMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * Writes the maps of the user namespace of `pid`, a child that waits for it.
 * need_range: nothing less than a range will do.
 * Errors: tool_missing, id_range_missing, system_error.
 */
int era_idmap_write(pid_t pid, bool need_range, struct era_error *err);

/*
 * Whether the caller is root of the host, and not merely of a user namespace
 * around us, as in a container without root: that one has an ordinary user's powers.
 */
bool era_idmap_is_host_root(void);

/* The first range of at least min ids that text, in the form of subuid(5), gives to the user; -ENOENT. Pure. */
int era_idmap_parse(const char *text, const char *user_name, uid_t uid, uint32_t min, uint32_t *ret_start,
                    uint32_t *ret_count);

#endif
