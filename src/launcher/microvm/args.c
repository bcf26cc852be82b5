/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "launcher/microvm/internal.h"

/* QEMU's own rule: a comma in a value is written twice. */
static int append_value(struct era_buffer *to, const char *value)
{
    int r = 0;
    for (; r >= 0 && *value != '\0'; value++)
        r = era_buffer_append(to, *value == ',' ? ",," : value, *value == ',' ? 2 : 1);
    return r;
}

static int append_word(struct era_buffer *to, const char *word)
{
    return era_buffer_append(to, word, strlen(word));
}

int qemu_option(struct era_strv *args, const char *flag, const char *first, const struct qemu_pair pairs[])
{
    struct era_buffer text = {0};
    int r = era_strv_add(args, flag);
    if (r >= 0 && first != NULL)
        r = append_value(&text, first);
    for (const struct qemu_pair *pair = pairs; r >= 0 && pair != NULL && pair->key != NULL; pair++) {
        r = era_buffer_len(&text) > 0 ? append_word(&text, ",") : 0;
        if (r >= 0)
            r = append_word(&text, pair->key);
        if (r >= 0)
            r = append_word(&text, "=");
        if (r >= 0)
            r = append_value(&text, pair->value);
    }
    if (r >= 0)
        r = era_buffer_append(&text, "", 1);
    if (r >= 0 && first == NULL && pairs == NULL)
        era_buffer_clear(&text);
    else if (r >= 0)
        r = era_strv_add(args, (const char *)era_buffer_data(&text));
    era_buffer_clear(&text);
    return r;
}

struct numbers {
    char cpus[16];
    char mem[16];
    char control[16];
    char monitor[16];
    char network[16];
    char kernel_line[256];
};

static void write_numbers(const struct machine_spec *spec, struct numbers *to)
{
    snprintf(to->cpus, sizeof to->cpus, "%u", spec->cpu_count);
    snprintf(to->mem, sizeof to->mem, "%uM", spec->mem_mib);
    snprintf(to->control, sizeof to->control, "%d", QEMU_CONTROL);
    snprintf(to->monitor, sizeof to->monitor, "%d", QEMU_MONITOR);
    snprintf(to->network, sizeof to->network, "%d", QEMU_NETWORK);
    /* panic=-1 reboot=t: a kernel that is lost ends its machine at once. */
    snprintf(to->kernel_line, sizeof to->kernel_line,
             "quiet panic=-1 reboot=t random.trust_cpu=on tsc_early_khz=%u tsc=reliable -- microvm mem_mib=%u%s%s",
             spec->tsc_khz, spec->mem_mib, spec->warm != NULL ? " warm=" : "", spec->warm != NULL ? spec->warm : "");
}

/* The machine without its devices. */
static int add_machine(const struct machine_spec *spec, const struct numbers *n, struct era_strv *args)
{
    const struct qemu_pair sandbox[] = {{"obsolete", "deny"},
                                        {"elevateprivileges", "deny"},
                                        {"spawn", "deny"},
                                        {"resourcecontrol", "deny"},
                                        {NULL, NULL}};
    const struct qemu_pair machine[] = {{"acpi", "on"},
                                        {"pit", "off"},
                                        {"pic", "off"},
                                        {"rtc", "on"},
                                        {"isa-serial", "off"},
                                        {"graphics", "off"},
                                        {"memory-backend", "memory"},
                                        {NULL, NULL}};
    /* What tells of the host's bugs cannot be set everywhere, and would end the machine where it cannot. */
    const struct qemu_pair processor[] = {{"arch-capabilities", "off"}, {NULL, NULL}};
    const struct qemu_pair memory[] = {{"id", "memory"},
                                       {"size", n->mem},
                                       {"mem-path", QEMU_MEMORY_PATH},
                                       {"share", spec->clone ? "off" : "on"},
                                       {NULL, NULL}};
    int r = qemu_option(args, "-nodefaults", NULL, NULL);
    if (r >= 0)
        r = qemu_option(args, "-no-user-config", NULL, NULL);
    if (r >= 0)
        r = qemu_option(args, "-no-reboot", NULL, NULL);
    if (r >= 0)
        r = qemu_option(args, "-display", "none", NULL);
    if (r >= 0)
        r = qemu_option(args, "-sandbox", "on", sandbox);
    if (r >= 0)
        r = qemu_option(args, "-machine", "microvm", machine);
    if (r >= 0)
        r = qemu_option(args, "-accel", spec->kvm ? "kvm" : "tcg", NULL);
    if (r >= 0)
        r = qemu_option(args, "-cpu", "max", processor);
    if (r >= 0)
        r = qemu_option(args, "-smp", n->cpus, NULL);
    if (r >= 0)
        r = qemu_option(args, "-m", n->mem, NULL);
    return r < 0 ? r : qemu_option(args, "-object", "memory-backend-file", memory);
}

/* A disk on a descriptor. It stands in a set, where QEMU finds it under a name of its own. */
static int add_disk(struct era_strv *args, const char *node, const char *serial, int fd, bool writable)
{
    char number[16];
    char path[32];
    snprintf(number, sizeof number, "%d", fd);
    snprintf(path, sizeof path, "/dev/fdset/%d", fd);
    const struct qemu_pair set[] = {{"fd", number}, {"set", number}, {NULL, NULL}};
    const struct qemu_pair file[] = {{"driver", "file"},
                                     {"node-name", node},
                                     {"filename", path},
                                     {"read-only", writable ? "off" : "on"},
                                     {"locking", "off"},
                                     /* what leaves the guest is with the host's kernel, as it is of a process */
                                     {"cache.no-flush", "on"},
                                     {NULL, NULL}};
    const struct qemu_pair empty[] = {
        {"driver", "null-co"}, {"node-name", node}, {"size", "1048576"}, {"read-zeroes", "on"}, {NULL, NULL}};
    const struct qemu_pair device[] = {{"drive", node}, {"serial", serial}, {NULL, NULL}};
    int r = fd < 0 ? 0 : qemu_option(args, "-add-fd", NULL, set);
    if (r >= 0)
        r = qemu_option(args, "-blockdev", NULL, fd < 0 ? empty : file);
    return r < 0 ? r : qemu_option(args, "-device", "virtio-blk-device", device);
}

static int add_port(const struct numbers *n, struct era_strv *args)
{
    const struct qemu_pair channel[] = {{"id", "control"}, {"fd", n->control}, {NULL, NULL}};
    const struct qemu_pair port[] = {{"chardev", "control"}, {"name", "era"}, {NULL, NULL}};
    int r = qemu_option(args, "-chardev", "socket", channel);
    if (r >= 0)
        r = qemu_option(args, "-device", "virtio-serial-device", NULL);
    return r < 0 ? r : qemu_option(args, "-device", "virtserialport", port);
}

static int add_card(const struct numbers *n, struct era_strv *args)
{
    const struct qemu_pair backend[] = {{"id", "net"}, {"addr.type", "fd"}, {"addr.str", n->network}, {NULL, NULL}};
    const struct qemu_pair card[] = {{"netdev", "net"}, {NULL, NULL}};
    int r = qemu_option(args, "-netdev", "stream", backend);
    return r < 0 ? r : qemu_option(args, "-device", "virtio-net-device", card);
}

static int add_monitor(const struct numbers *n, struct era_strv *args)
{
    const struct qemu_pair channel[] = {{"id", "monitor"}, {"fd", n->monitor}, {NULL, NULL}};
    const struct qemu_pair monitor[] = {{"chardev", "monitor"}, {"mode", "control"}, {NULL, NULL}};
    int r = qemu_option(args, "-chardev", "socket", channel);
    return r < 0 ? r : qemu_option(args, "-mon", NULL, monitor);
}

/* "-global driver.property=value" */
static int add_global(struct era_strv *args, const char *driver, const struct qemu_pair *property)
{
    const struct qemu_pair pairs[] = {
        {"driver", driver}, {"property", property->key}, {"value", property->value}, {NULL, NULL}};
    return qemu_option(args, "-global", NULL, pairs);
}

/* From where it starts: a clone is told over the monitor. */
static int add_start(const struct machine_spec *spec, const struct numbers *n, struct era_strv *args)
{
    int r = 0;
    if (spec->snapshot) {
        /* It was running and would run at once: before it knows who it is. */
        const struct qemu_pair bare[] = {{"send-configuration", "off"}, {NULL, NULL}};
        r = qemu_option(args, "-S", NULL, NULL);
        if (r >= 0)
            r = add_global(args, "migration", bare);
    }
    if (r >= 0 && spec->clone)
        r = qemu_option(args, "-incoming", "defer", NULL);
    if (r < 0 || spec->clone)
        return r;
    r = qemu_option(args, "-kernel", QEMU_KERNEL_PATH, NULL);
    if (r >= 0)
        r = qemu_option(args, "-initrd", QEMU_INITRAMFS_PATH, NULL);
    /* The one option whose value QEMU takes as it is. */
    if (r >= 0)
        r = era_strv_add(args, "-append");
    return r < 0 ? r : era_strv_add(args, n->kernel_line);
}

int machine_args(const struct machine_spec *spec, struct era_strv *ret_args)
{
    struct numbers numbers = {0};
    write_numbers(spec, &numbers);
    struct era_strv args = {0};
    int r = era_strv_add(&args, "qemu-system-x86_64");
    if (r >= 0)
        r = add_machine(spec, &numbers, &args);
    if (r >= 0)
        r = add_disk(&args, "image", "era-image", QEMU_IMAGE, false);
    if (r >= 0)
        r = add_disk(&args, "volume", "era-volume", spec->volume ? QEMU_VOLUME : -1, true);
    if (r >= 0)
        r = add_port(&numbers, &args);
    if (r >= 0 && spec->network)
        r = add_card(&numbers, &args);
    if (r >= 0)
        r = add_monitor(&numbers, &args);
    if (r >= 0)
        r = add_start(spec, &numbers, &args);
    if (r < 0) {
        era_strv_clear(&args);
        return r;
    }
    *ret_args = args;
    return 0;
}
