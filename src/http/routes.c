/* SPDX-License-Identifier: Apache-2.0 */
/* The one table: dispatch, Allow, metrics and the description of the API are made from it. */
#include "http/internal.h"

const struct route routes[] = {
    {"health", "GET", "/health", handle_health, true, BODY_NONE, "", "whether the server answers", NULL, "Health", NULL,
     200, ""},
    {"createVm", "POST", "/api/vm", handle_vm_create, false, BODY_JSON, "", "create a VM", "CreateVm", "Vm", NULL, 201,
     "404 409 411 413 415 429"},
    {"runInTemporaryVm", "POST", "/api/vm/temp", handle_temp, false, BODY_JSON, "",
     "create a VM, run a command in it, remove it", "Temp", "Result", NULL, 200, "404 409 411 413 415 429"},
    {"getVm", "GET", "/api/vm/{id}", handle_vm_get, false, BODY_NONE, "", "one VM", NULL, "Vm", NULL, 200, "404"},
    {"deleteVm", "DELETE", "/api/vm/{id}", handle_vm_delete, false, BODY_NONE, "keep_persist", "remove a VM", NULL,
     "Done", NULL, 200, "404 409"},
    {"listVms", "GET", "/api/vms", handle_vm_list, false, BODY_NONE, "status limit cursor",
     "VMs, oldest first, page by page", NULL, "VmList", NULL, 200, ""},
    {"run", "POST", "/api/vm/{id}/run", handle_run, false, BODY_JSON, "stream", "run a command", "Run", "Result",
     "text/event-stream", 200, "404 409 411 413 415 429"},
    {"stopVm", "POST", "/api/vm/{id}/stop", handle_vm_stop, false, BODY_NONE, "", "stop a VM", NULL, "Done", NULL, 200,
     "404 409"},
    {"pauseVm", "POST", "/api/vm/{id}/pause", handle_vm_pause, false, BODY_NONE, "", "have a VM stand still", NULL,
     "Done", NULL, 200, "404 409"},
    {"resumeVm", "POST", "/api/vm/{id}/resume", handle_vm_resume, false, BODY_NONE, "", "have a paused VM go on", NULL,
     "Done", NULL, 200, "404 409"},
    {"snapshotVm", "POST", "/api/vm/{id}/snapshot", handle_vm_snapshot, false, BODY_JSON, "", "save a VM as it is",
     "Snapshot", "Done", NULL, 201, "404 409 411 413 415"},
    {"forkVm", "POST", "/api/vm/{id}/fork", handle_vm_fork, false, BODY_JSON, "", "create VMs that go on where one is",
     "Fork", "VmList", NULL, 201, "404 409 411 413 415 429"},
    {"shell", "GET", "/api/vm/{id}/shell", handle_shell, false, BODY_NONE, "cols rows command",
     "a terminal, as a WebSocket", NULL, NULL, NULL, 101, "404 409 426 429"},
    {"getFile", "GET", "/api/vm/{id}/files/{path}", handle_file_get, false, BODY_NONE, "",
     "a file, or the names in a folder", NULL, "Folder", "application/octet-stream", 200, "404 409"},
    {"putFile", "PUT", "/api/vm/{id}/files/{path}", handle_file_put, false, BODY_BYTES, "mode", "write a file", NULL,
     "Written", NULL, 201, "404 409 411 413"},
    {"deleteFile", "DELETE", "/api/vm/{id}/files/{path}", handle_file_delete, false, BODY_NONE, "",
     "remove a file or folder", NULL, "Done", NULL, 200, "404 409"},
    {"metrics", "GET", "/metrics", handle_metrics, false, BODY_NONE, "", "counts, for Prometheus", NULL, NULL,
     "text/plain", 200, ""},
    {"describe", "GET", "/openapi.json", handle_openapi, false, BODY_NONE, "", "this description", NULL, NULL,
     "application/json", 200, ""},
    {0},
};

_Static_assert(sizeof routes / sizeof routes[0] <= ROUTES_MAX, "metrics have room for each route");

size_t route_index(const struct route *route)
{
    return (size_t)(route - routes);
}
