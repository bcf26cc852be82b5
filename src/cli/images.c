/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static int finish(const struct invocation *invocation, struct era *era, int r, const struct era_error *err,
                  struct era_image *image, const char *done)
{
    int status = r < 0 ? output_error(invocation, err) : output_json(output_image(image, done));
    era_image_free(image);
    era_close(era);
    return status;
}

/* What a VM needs to be a copy: asked for before the image is built, so that a wrong word costs no build. */
static int ask_template(const struct invocation *invocation, struct era_vm_spec **ret_spec, struct era_error *err)
{
    static const char *const of_template[] = {"cpu", "mem", "network", "kernel"};
    if (!option_given(invocation, "template")) {
        for (size_t i = 0; i < sizeof of_template / sizeof of_template[0]; i++)
            if (option_given(invocation, of_template[i]))
                return era_error_invalid(err, of_template[i], "--%s goes with --template", of_template[i]);
        return 0;
    }
    struct era_vm_spec *spec = NULL;
    int r = ask_vm_of(invocation, invocation->positionals[0], &spec, err);
    if (r >= 0)
        r = era_vm_spec_set_launcher(spec, "microvm", err);
    if (r >= 0)
        r = era_vm_spec_set_temporary(spec, true, err);
    if (r < 0) {
        era_vm_spec_free(spec);
        return r;
    }
    *ret_spec = spec;
    return 0;
}

/* The first copy has it made; and shows that it can be copied. */
static int make_template(struct era *era, const struct era_vm_spec *spec, struct era_error *err)
{
    struct era_vm *vm = NULL;
    int r = era_vm_create(era, spec, &vm, err);
    if (r >= 0)
        r = era_vm_clean(era, era_vm_id(vm), false, err);
    era_vm_free(vm);
    return r;
}

int image_build(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_image *image = NULL;
    _cleanup_close_ int signal_fd = -EBADF;
    struct era_vm_spec *spec = NULL;
    int r = ask_template(invocation, &spec, &err);
    if (r >= 0)
        r = session_open_interruptible(invocation, &era, &signal_fd, &err);
    if (r >= 0)
        r = era_image_build(era, invocation->positionals[0], option_given(invocation, "rebuild"), &image, &err);
    if (r >= 0 && spec != NULL)
        r = make_template(era, spec, &err);
    era_vm_spec_free(spec);
    return finish(invocation, era, r, &err, image, "image built");
}

int image_pull(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_image *image = NULL;
    _cleanup_close_ int signal_fd = -EBADF;
    int r = session_open_interruptible(invocation, &era, &signal_fd, &err);
    if (r >= 0)
        r = era_image_pull(era, invocation->positionals[0], &image, &err);
    return finish(invocation, era, r, &err, image, "image pulled");
}

int image_import(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_image *image = NULL;
    _cleanup_close_ int signal_fd = -EBADF;
    int r = session_open_interruptible(invocation, &era, &signal_fd, &err);
    if (r >= 0)
        r = era_image_import(era, invocation->positionals[0], option_value(invocation, "name"), &image, &err);
    return finish(invocation, era, r, &err, image, "image imported");
}

int image_remove(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_image_remove(era, invocation->positionals[0], &err);
    int status = r < 0 ? output_error(invocation, &err)
                       : output_json(json_pack("{s:s, s:s, s:s}", "level", "info", "message", "image removed",
                                               "reference", invocation->positionals[0]));
    era_close(era);
    return status;
}

static json_t *describe(const void *list, size_t i)
{
    return output_image(era_image_list_at(list, i), NULL);
}

static const char *const heads[] = {"REFERENCE", "DIGEST", "SOURCE", "SIZE", "CREATED"};

static void add_row(struct table *table, const void *list, size_t i)
{
    const struct era_image *image = era_image_list_at(list, i);
    char digest[20];
    char size[32];
    char age[64];
    era_str_copy(digest, sizeof digest, era_image_digest(image));
    snprintf(size, sizeof size, "%llu MiB", (unsigned long long)(era_image_size_bytes(image) >> 20));
    table_age(era_image_created_at_ns(image), age, sizeof age);
    const char *const cells[] = {era_image_reference(image), digest, era_image_source(image), size, age};
    _Static_assert(sizeof cells == sizeof heads, "a cell for each column");
    table_add_row(table, cells);
}

static const struct listing listing = {heads, sizeof heads / sizeof heads[0], add_row, describe};

int image_list(const struct invocation *invocation)
{
    int as_table = output_wants_table(invocation);
    if (as_table < 0)
        return EXIT_USAGE;
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_image_list *images = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_image_list(era, &images, &err);
    int status = r < 0 ? output_error(invocation, &err)
                       : listing_print(&listing, images, era_image_list_count(images), as_table);
    era_image_list_free(images);
    era_close(era);
    return status;
}
