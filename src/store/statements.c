/* SPDX-License-Identifier: Apache-2.0 */
/* The text of every statement, beside each other so that the schema can be read against them. */
#include "store/store_internal.h"

/* In the order in which vms.c reads them. */
#define VM_COLUMNS                                                                                                     \
    "vms.id, language, cpu_count, mem_mib, disk_mib, pids, network, asked_launcher, persist, best_effort, image, env," \
    " launcher, status, uid_slot, unenforced, vms.created_at_ns, last_run_at_ns, paused, kernel, volumes.name"         \
    " FROM vms LEFT JOIN volumes ON volumes.vm_id = vms.id"

/* In the order in which runs.c reads them. */
#define RUN_COLUMNS                                                                                                    \
    "id, vm_id, started_at_ns, verdict, exit_code, wall_us, cpu_us, peak_mem_kib, stdout_dropped, stderr_dropped"      \
    " FROM runs"
#define RUN_ORDER " ORDER BY started_at_ns DESC, id DESC"

/* In the order in which volumes.c reads them. */
#define VOLUME_COLUMNS "name, kind, size_mib, created_at_ns, vm_id FROM volumes"

const char *const era_store_sql[ERA_SQL_COUNT] = {
    [ERA_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [ERA_SQL_COMMIT] = "COMMIT",
    [ERA_SQL_ROLLBACK] = "ROLLBACK",

    [ERA_SQL_VM_SLOTS] = "SELECT uid_slot FROM vms ORDER BY uid_slot",
    [ERA_SQL_VM_INSERT] =
        "INSERT INTO vms (id, language, cpu_count, mem_mib, disk_mib, pids, network, asked_launcher, persist,"
        " best_effort, image, env, launcher, status, uid_slot, unenforced, created_at_ns, last_run_at_ns, kernel)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    [ERA_SQL_VM_GET] = "SELECT " VM_COLUMNS " WHERE vms.id = ?",
    [ERA_SQL_VM_LIST] = "SELECT " VM_COLUMNS " ORDER BY vms.created_at_ns, vms.id",
    [ERA_SQL_VM_PAGE] = "SELECT " VM_COLUMNS " WHERE (vms.created_at_ns, vms.id) > (?, ?)"
                        " ORDER BY vms.created_at_ns, vms.id LIMIT ?",
    [ERA_SQL_VM_SET_STATUS] = "UPDATE vms SET status = ?, paused = 0 WHERE id = ?",
    [ERA_SQL_VM_SET_READY] = "UPDATE vms SET status = 'ready', paused = 0, launcher = ?, unenforced = ?"
                             " WHERE id = ?",
    [ERA_SQL_VM_SET_PAUSED] = "UPDATE vms SET paused = ? WHERE id = ?",
    [ERA_SQL_VM_SET_LAST_RUN] = "UPDATE vms SET last_run_at_ns = max(last_run_at_ns, ?) WHERE id = ?",
    [ERA_SQL_VM_DELETE] = "DELETE FROM vms WHERE id = ?",

    [ERA_SQL_KEY_FORGET] = "DELETE FROM creation_keys WHERE created_at_ns < ?",
    [ERA_SQL_KEY_GET] = "SELECT vm_id FROM creation_keys WHERE key = ?",
    [ERA_SQL_KEY_INSERT] = "INSERT INTO creation_keys (key, vm_id, created_at_ns) VALUES (?, ?, ?)",

    [ERA_SQL_RUN_INSERT] =
        "INSERT INTO runs (vm_id, id, started_at_ns) VALUES (?, ?, ?) ON CONFLICT (vm_id, id) DO NOTHING",
    /* ?2: how many are kept. An open run is never forgotten. */
    [ERA_SQL_RUN_PRUNE] = "DELETE FROM runs WHERE vm_id = ?1 AND verdict IS NOT NULL AND id <"
                          " (SELECT id FROM runs WHERE vm_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2 - 1)",
    [ERA_SQL_RUN_FINISH] =
        "UPDATE runs SET verdict = ?, exit_code = ?, wall_us = ?, cpu_us = ?, peak_mem_kib = ?, stdout_dropped = ?,"
        " stderr_dropped = ? WHERE vm_id = ? AND id = ? AND verdict IS NULL",
    [ERA_SQL_RUN_LIST] = "SELECT " RUN_COLUMNS RUN_ORDER,
    [ERA_SQL_RUN_LIST_OPEN] = "SELECT " RUN_COLUMNS " WHERE verdict IS NULL" RUN_ORDER,
    [ERA_SQL_RUN_LIST_OF_VM] = "SELECT " RUN_COLUMNS " WHERE vm_id = ?" RUN_ORDER,
    [ERA_SQL_RUN_LIST_OPEN_OF_VM] = "SELECT " RUN_COLUMNS " WHERE vm_id = ? AND verdict IS NULL" RUN_ORDER,

    [ERA_SQL_VOLUME_INSERT] = "INSERT INTO volumes (name, kind, size_mib, created_at_ns, vm_id) VALUES (?, ?, ?, ?, ?)",
    [ERA_SQL_VOLUME_GET] = "SELECT " VOLUME_COLUMNS " WHERE name = ?",
    [ERA_SQL_VOLUME_LIST] = "SELECT " VOLUME_COLUMNS " ORDER BY name",
    [ERA_SQL_VOLUME_CLAIM] = "UPDATE volumes SET vm_id = ? WHERE name = ? AND vm_id IS NULL",
    [ERA_SQL_VOLUME_DELETE] = "DELETE FROM volumes WHERE name = ? AND vm_id IS NULL",
};
