/* SPDX-License-Identifier: Apache-2.0 */
/* VMs: create, look, list, stop, delete. */
#include <string.h>

#include "base/clock.h"
#include "http/internal.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };

void handle_health(struct request *request)
{
    reply_json(request, 200, json_pack("{s:s, s:o}", "status", "healthy", "time", time_json(era_clock_realtime_ns())));
}

json_t *time_json(int64_t realtime_ns)
{
    if (realtime_ns == 0)
        return json_null();
    char text[ERA_TIME_MAX];
    era_clock_format(realtime_ns, text);
    return json_string(text);
}

/* "memory,cpu" as a list. */
static json_t *words_json(const char *words)
{
    json_t *words_list = json_array();
    for (const char *p = words; *p != '\0';) {
        size_t len = strcspn(p, ",");
        json_array_append_new(words_list, json_stringn(p, len));
        p += len + (p[len] == ',');
    }
    return words_list;
}

json_t *vm_json(const struct era_vm *vm)
{
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:b, s:s, s:s, s:o, s:o}", "id", era_vm_id(vm), "language",
                  era_vm_language(vm), "rootfs_image", era_vm_image(vm), "cpu_count", (int)era_vm_cpu(vm), "memory_mib",
                  (int)era_vm_mem_mib(vm), "network_mode", era_vm_network(vm), "persist", era_vm_persist(vm),
                  "launcher", era_vm_launcher(vm), "status", era_vm_status(vm), "created_at",
                  time_json(era_vm_created_at_ns(vm)), "last_run_at", time_json(era_vm_last_run_at_ns(vm)));
    if (object != NULL && era_vm_volume(vm)[0] != '\0')
        json_object_set_new(object, "volume", json_string(era_vm_volume(vm)));
    if (object != NULL && era_vm_unenforced(vm)[0] != '\0')
        json_object_set_new(object, "unenforced", words_json(era_vm_unenforced(vm)));
    return object;
}

/* ---- create ------------------------------------------------------------------- */

static void create(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    struct ask ask = {0};
    struct era_vm *vm = NULL;
    if (ask_read(request, ASK_VM, &ask) < 0)
        return;
    const char *key = request_header(request, "Idempotency-Key");
    int64_t began_ns = era_clock_monotonic_ns();
    int r = key != NULL ? era_vm_spec_set_key(ask.vm, key, &err) : 0;
    if (r >= 0)
        r = era_vm_create(era, ask.vm, &vm, &err);
    request->create_seconds = (double)(era_clock_monotonic_ns() - began_ns) / 1e9;
    if (r < 0)
        reply_error(request, &err);
    else
        reply_json(request, 201, vm_json(vm));
    if (vm != NULL) {
        char location[96];
        (void)era_str_format(location, sizeof location, "/api/vm/%s", era_vm_id(vm));
        reply_header(request, MHD_HTTP_HEADER_LOCATION, location);
    }
    era_vm_free(vm);
    ask_clear(&ask);
}

static void created(struct request *request)
{
    if (request->status == 201)
        metrics_observe(&request->server->metrics.create_seconds, request->create_seconds);
    request_resume(request);
}

void handle_vm_create(struct request *request)
{
    const char *key = request_header(request, "Idempotency-Key");
    if (key != NULL && !creation_key_valid(key))
        reply_refusal(request, 400, "invalid_argument", "field: Idempotency-Key",
                      "an Idempotency-Key is 1 to 255 printable characters of ASCII");
    else
        request_submit(request, POOL_SLOW, create, created);
}

/* ---- look ----------------------------------------------------------------------- */

static void get(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    struct era_vm *vm = NULL;
    if (era_vm_get(era, request->params.id, &vm, &err) < 0)
        reply_error(request, &err);
    else
        reply_json(request, 200, vm_json(vm));
    era_vm_free(vm);
}

void handle_vm_get(struct request *request)
{
    request_submit(request, POOL_QUICK, get, NULL);
}

static void list(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    struct era_vm_list *vms = NULL;
    char status[TARGET_VALUE_MAX];
    char cursor[TARGET_VALUE_MAX];
    char text[TARGET_VALUE_MAX];
    uint64_t limit = LIMIT_DEFAULT;
    int has_status = target_query(request->target, "status", status);
    int has_cursor = target_query(request->target, "cursor", cursor);
    int has_limit = target_query(request->target, "limit", text);
    int r = 0;
    if (has_status < 0 || has_cursor < 0 || has_limit < 0)
        r = era_error_invalid(&err,
                              has_status < 0   ? "status"
                              : has_cursor < 0 ? "cursor"
                                               : "limit",
                              "a parameter of the query is broken, too long or given twice");
    else if (has_limit > 0 && era_parse_u64(text, 1, LIMIT_MAX, &limit) < 0)
        r = era_error_invalid(&err, "limit", "limit must be a whole number from 1 to %d", LIMIT_MAX);
    if (r >= 0)
        r = era_vm_list_page(era, has_status > 0 ? status : NULL, (size_t)limit, has_cursor > 0 ? cursor : NULL, &vms,
                             &err);
    if (r < 0) {
        reply_error(request, &err);
        return;
    }
    json_t *items = json_array();
    for (size_t i = 0; i < era_vm_list_count(vms); i++)
        json_array_append_new(items, vm_json(era_vm_list_at(vms, i)));
    json_t *body = json_pack("{s:o, s:i}", "vms", items, "count", (int)era_vm_list_count(vms));
    if (body != NULL && era_vm_list_cursor(vms)[0] != '\0')
        json_object_set_new(body, "next_cursor", json_string(era_vm_list_cursor(vms)));
    reply_json(request, 200, body);
    era_vm_list_free(vms);
}

void handle_vm_list(struct request *request)
{
    request_submit(request, POOL_QUICK, list, NULL);
}

/* ---- stop, delete ------------------------------------------------------------------ */

static void reply_done(struct request *request, int r, const struct era_error *err, const char *status,
                       const char *message)
{
    if (r < 0)
        reply_error(request, err);
    else
        reply_json(request, 200,
                   json_pack("{s:s, s:s, s:s}", "status", status, "vm_id", request->params.id, "message", message));
}

static void stop(struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    int r = era_vm_stop(era, request->params.id, &err);
    reply_done(request, r, &err, "stopped", "the VM is stopped; a run starts it again");
}

void handle_vm_stop(struct request *request)
{
    request_submit(request, POOL_SLOW, stop, NULL);
}

static void delete (struct job *job, struct era *era)
{
    struct request *request = request_of(job);
    struct era_error err = {0};
    char keep[TARGET_VALUE_MAX] = "false";
    int has_keep = target_query(request->target, "keep_persist", keep);
    bool yes = era_str_eq(keep, "true") || era_str_eq(keep, "1");
    int r = has_keep < 0 || (!yes && !era_str_eq(keep, "false") && !era_str_eq(keep, "0"))
                ? era_error_invalid(&err, "keep_persist", "keep_persist is true or false")
                : era_vm_clean(era, request->params.id, yes, &err);
    reply_done(request, r, &err, "deleted",
               yes ? "the VM is gone; its volume, when it had one, is kept" : "the VM and all of it is gone");
}

void handle_vm_delete(struct request *request)
{
    request_submit(request, POOL_SLOW, delete, NULL);
}
