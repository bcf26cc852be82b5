/* SPDX-License-Identifier: Apache-2.0 */
/* vm stop, pause, resume and clean: the same walk over VMs with another end. */
#include "cli/cli.h"

static int stop_one(struct era *era, const struct invocation *invocation, const char *id, struct era_error *err)
{
    (void)invocation;
    return era_vm_stop(era, id, err);
}

static int clean_one(struct era *era, const struct invocation *invocation, const char *id, struct era_error *err)
{
    return era_vm_clean(era, id, option_given(invocation, "keep-persist"), err);
}

static int pause_one(struct era *era, const struct invocation *invocation, const char *id, struct era_error *err)
{
    (void)invocation;
    return era_vm_pause(era, id, err);
}

static int resume_one(struct era *era, const struct invocation *invocation, const char *id, struct era_error *err)
{
    (void)invocation;
    return era_vm_resume(era, id, err);
}

/* Goes on after a failure; the last failure's status is the answer. */
static int each(const struct invocation *invocation, const char *done,
                int (*act)(struct era *, const struct invocation *, const char *, struct era_error *))
{
    struct era_error err = {0};
    struct era *era = NULL;
    char **ids = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = ask_targets(invocation, era, false, &ids, &err);
    int status = r < 0 ? output_error(invocation, &err) : EXIT_OK;
    for (size_t i = 0; r >= 0 && ids[i] != NULL; i++) {
        if (act(era, invocation, ids[i], &err) < 0)
            status = output_error(invocation, &err);
        else if (output_json(json_pack("{s:s, s:s, s:s}", "level", "info", "message", done, "id", ids[i])) != EXIT_OK)
            status = EXIT_FAILED;
    }
    ask_targets_free(ids);
    era_close(era);
    return status;
}

int vm_stop(const struct invocation *invocation)
{
    return each(invocation, "vm stopped", stop_one);
}

int vm_clean(const struct invocation *invocation)
{
    return each(invocation, "vm cleaned", clean_one);
}

int vm_pause(const struct invocation *invocation)
{
    return each(invocation, "vm paused", pause_one);
}

int vm_resume(const struct invocation *invocation)
{
    return each(invocation, "vm resumed", resume_one);
}
