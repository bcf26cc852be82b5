/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that stand still, are saved, and go on as others. */
#include "http/internal.h"

static void reply_done(struct request *request, unsigned code, const char *status, const char *message)
{
    reply_json(request, code,
               json_pack("{s:s, s:s, s:s}", "status", status, "vm_id", request->params.id, "message", message));
}

static void pause_vm(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    if (era_vm_pause(era, request->params.id, &err) < 0)
        reply_error(request, &err);
    else
        reply_done(request, 200, "paused", "the VM stands still");
}

static void resume_vm(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    if (era_vm_resume(era, request->params.id, &err) < 0)
        reply_error(request, &err);
    else
        reply_done(request, 200, "resumed", "the VM goes on");
}

static void save(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    struct ask ask = {0};
    if (ask_read(request, ASK_SNAPSHOT, &ask) < 0)
        return;
    if (era_vm_snapshot(era, request->params.id, ask.name, &err) < 0)
        reply_error(request, &err);
    else
        reply_done(request, 201, "saved", "a VM that is created from the snapshot goes on from here");
    ask_clear(&ask);
}

static void fork_vm(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    struct ask ask = {0};
    struct era_vm_list *vms = NULL;
    if (ask_read(request, ASK_FORK, &ask) < 0)
        return;
    if (era_vm_fork(era, request->params.id, ask.count, &vms, &err) < 0) {
        reply_error(request, &err);
    } else {
        json_t *items = json_array();
        for (size_t i = 0; i < era_vm_list_count(vms); i++)
            json_array_append_new(items, vm_json(era_vm_list_at(vms, i)));
        reply_json(request, 201, json_pack("{s:o, s:i}", "vms", items, "count", (int)era_vm_list_count(vms)));
    }
    era_vm_list_free(vms);
    ask_clear(&ask);
}

void handle_vm_pause(struct request *request)
{
    request_submit(request, POOL_SLOW, pause_vm, NULL);
}

void handle_vm_resume(struct request *request)
{
    request_submit(request, POOL_SLOW, resume_vm, NULL);
}

void handle_vm_snapshot(struct request *request)
{
    request_submit(request, POOL_SLOW, save, NULL);
}

void handle_vm_fork(struct request *request)
{
    request_submit(request, POOL_SLOW, fork_vm, NULL);
}
