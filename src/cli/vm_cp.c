/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

/* "ID:/path": copies the id and yields the path, or NULL when the word is a path of the host. */
static const char *split(const char *word, char *id, size_t size)
{
    const char *colon = strchr(word, ':');
    if (colon == NULL || memchr(word, '/', (size_t)(colon - word)) != NULL || (size_t)(colon - word) >= size)
        return NULL;
    memcpy(id, word, (size_t)(colon - word));
    id[colon - word] = '\0';
    return colon + 1;
}

int vm_cp(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    const char *from = invocation->positionals[0];
    const char *to = invocation->positionals[1];
    char from_id[64];
    char to_id[64];
    const char *from_guest = split(from, from_id, sizeof from_id);
    const char *to_guest = split(to, to_id, sizeof to_id);
    int r = 0;
    if ((from_guest == NULL) == (to_guest == NULL))
        r = era_error_invalid(&err, "arguments", "exactly one of SRC and DST is written ID:/path");
    if (r >= 0)
        r = session_open(invocation, &era, &err);
    if (r >= 0 && to_guest != NULL)
        r = era_vm_copy_in(era, to_id, from, to_guest, &err);
    else if (r >= 0)
        r = era_vm_copy_out(era, from_id, from_guest, to, &err);
    int status = EXIT_OK;
    if (r < 0)
        status = output_error(invocation, &err);
    else
        status = output_json(json_pack("{s:s, s:s, s:s, s:o, s:o}", "level", "info", "message", "copied", "vm",
                                       to_guest != NULL ? to_id : from_id, "from", output_string(from), "to",
                                       output_string(to)));
    era_close(era);
    return status;
}
