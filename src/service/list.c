/* SPDX-License-Identifier: Apache-2.0 */
/* Several VMs at once, or page by page. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "service/service.h"

enum { PAGE_MAX = 1000, CURSOR_MAX = ERA_VM_ID_MAX + 24 };

/* The last VM of a page, in the order of the list: the next begins behind it, also when it is gone. */
struct cursor {
    int64_t created_at_ns;
    char id[ERA_VM_ID_MAX];
};

struct era_vm_list {
    struct era_vm *vms; /* owned */
    size_t count;
    size_t capacity;
    char cursor[CURSOR_MAX]; /* where the next page begins; "" at the end */
};

int vm_list_add(struct era_vm_list **list, struct era_vm *vm)
{
    if (*list == NULL && (*list = calloc(1, sizeof **list)) == NULL)
        return -ENOMEM;
    struct era_vm *grown = reallocarray((*list)->vms, (*list)->count + 1, sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    (*list)->vms = grown;
    (*list)->capacity = (*list)->count + 1;
    grown[(*list)->count++] = *vm;
    *vm = (struct era_vm){.owner_lock = -EBADF, .owner_fd = -EBADF};
    return 0;
}

static void cursor_write(const struct era_vm_record *record, char to[CURSOR_MAX])
{
    (void)era_str_format(to, CURSOR_MAX, "%lld.%s", (long long)record->created_at_ns, record->id);
}

static int cursor_parse(const char *text, struct cursor *ret_cursor)
{
    char number[24] = "";
    uint64_t created_at_ns = 0;
    size_t digits = strcspn(text, ".");
    if (digits >= sizeof number || text[digits] != '.' || !era_vm_id_valid(text + digits + 1))
        return -EINVAL;
    memcpy(number, text, digits);
    if (era_parse_u64(number, 1, INT64_MAX, &created_at_ns) < 0)
        return -EINVAL;
    ret_cursor->created_at_ns = (int64_t)created_at_ns;
    era_str_copy(ret_cursor->id, sizeof ret_cursor->id, text + digits + 1);
    return 0;
}

/* Room for so many more. */
static int reserve(struct era_vm_list *list, size_t count)
{
    if (list->capacity - list->count >= count)
        return 0;
    struct era_vm *grown = reallocarray(list->vms, list->count + count, sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    list->vms = grown;
    list->capacity = list->count + count;
    return 0;
}

/* Keeps those of the wanted status, max of them at most; the others' memory is freed. */
static int fill_list(struct era *era, struct era_vm_list *list, struct era_vm_record *records, size_t count,
                     const enum era_vm_status *status, size_t max, struct era_error *err)
{
    int r = reserve(list, count + 1) < 0 ? era_error_oom(err) : 0;
    for (size_t i = 0; i < count; i++) {
        struct era_error gone = {0};
        bool full = list->count == max;
        int reconciled = r < 0 || full ? -ENOENT : reconcile_vm(era, &records[i], &gone);
        if (reconciled < 0 && r >= 0 && !full && !era_error_is(&gone, "vm_not_found")) {
            r = reconciled;
            if (err != NULL)
                *err = gone;
        }
        if (reconciled >= 0 && (status == NULL || records[i].status == *status)) {
            cursor_write(&records[i], list->cursor);
            list->vms[list->count++] = (struct era_vm){records[i], .owner_lock = -EBADF, .owner_fd = -EBADF};
        } else {
            era_vm_record_clear(&records[i]);
        }
    }
    return r;
}

static int parse_status(const char *status, enum era_vm_status *ret_status, struct era_error *err)
{
    if (status != NULL && era_vm_status_parse(status, ret_status) < 0)
        return era_error_invalid(err, "status",
                                 "unknown status; it is provisioning, ready, running, stopped or failed");
    return 0;
}

int era_vm_list(struct era *era, const char *status, struct era_vm_list **ret_list, struct era_error *err)
{
    enum era_vm_status wanted = ERA_VM_READY;
    int r = parse_status(status, &wanted, err);
    if (r < 0)
        return r;
    reconcile_folders(era);
    reconcile_volumes(era);
    reconcile_snapshots(era);
    reconcile_templates(era);
    if (service_images(era, NULL) >= 0)
        era_image_sweep(era->images); /* what killed builds left */
    _cleanup_free_ struct era_vm_record *records = NULL;
    size_t count = 0;
    r = era_store_vm_list(era->store, &records, &count, err);
    if (r < 0)
        return r;
    struct era_vm_list *list = calloc(1, sizeof *list);
    if (list == NULL) {
        for (size_t i = 0; i < count; i++)
            era_vm_record_clear(&records[i]);
        return era_error_oom(err);
    }
    r = fill_list(era, list, records, count, status != NULL ? &wanted : NULL, SIZE_MAX, err);
    if (r < 0) {
        era_vm_list_free(list);
        return r;
    }
    list->cursor[0] = '\0';
    *ret_list = list;
    return 0;
}

/* Pages of records until there are enough of the wanted status, or no more. */
static int fill_page(struct era *era, struct era_vm_list *list, struct cursor at, const enum era_vm_status *status,
                     size_t max, struct era_error *err)
{
    for (;;) {
        _cleanup_free_ struct era_vm_record *records = NULL;
        size_t count = 0;
        /* One more than asked for: to know whether another page follows. */
        int r = era_store_vm_page(era->store, at.created_at_ns, at.id, max + 1, &records, &count, err);
        if (r < 0)
            return r;
        bool last = count <= max;
        if (count > 0) {
            at.created_at_ns = records[count - 1].created_at_ns;
            era_str_copy(at.id, sizeof at.id, records[count - 1].id);
        }
        r = fill_list(era, list, records, count, status, max, err);
        if (r < 0)
            return r;
        if (last && (list->count < max || era_str_eq(list->vms[max - 1].record.id, at.id)))
            list->cursor[0] = '\0';
        if (last || list->count == max)
            return 0;
    }
}

int era_vm_list_page(struct era *era, const char *status, size_t max, const char *cursor, struct era_vm_list **ret_list,
                     struct era_error *err)
{
    enum era_vm_status wanted = ERA_VM_READY;
    struct cursor at = {0};
    int r = parse_status(status, &wanted, err);
    if (r < 0)
        return r;
    if (max == 0 || max > PAGE_MAX)
        return era_error_invalid(err, "limit", "limit must be a whole number from 1 to %d", PAGE_MAX);
    if (cursor != NULL && cursor_parse(cursor, &at) < 0)
        return era_error_invalid(err, "cursor", "this is no cursor that a list ended with");
    struct era_vm_list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return era_error_oom(err);
    r = fill_page(era, list, at, status != NULL ? &wanted : NULL, max, err);
    if (r < 0) {
        era_vm_list_free(list);
        return r;
    }
    *ret_list = list;
    return 0;
}

const char *era_vm_list_cursor(const struct era_vm_list *list)
{
    return list->cursor;
}

size_t era_vm_list_count(const struct era_vm_list *list)
{
    return list->count;
}

const struct era_vm *era_vm_list_at(const struct era_vm_list *list, size_t index)
{
    return index < list->count ? &list->vms[index] : NULL;
}

void era_vm_list_free(struct era_vm_list *list)
{
    if (list == NULL)
        return;
    for (size_t i = 0; i < list->count; i++)
        era_vm_record_clear(&list->vms[i].record);
    free(list->vms);
    free(list);
}
