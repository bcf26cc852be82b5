/* SPDX-License-Identifier: Apache-2.0 */
/* References and the names of folders. Pure. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "image/internal.h"

#define DIGITS "0123456789"
#define ALNUM                                                                                                          \
    "abcdefghijklmnopqrstuvwxyz"                                                                                       \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS
#define LITERAL ALNUM "._-" /* written as themselves in a folder's name */

int era_image_reference_check(const char *reference, struct era_error *err)
{
    size_t len = strlen(reference);
    char name[ERA_IMAGE_NAME_MAX];
    /* No dot in front: such names in images/ are ours. The grammar itself is the registries' to judge. */
    bool valid = len > 0 && strchr(ALNUM, reference[0]) != NULL && strspn(reference, LITERAL "/:@") == len &&
                 strstr(reference, "..") == NULL && strstr(reference, "//") == NULL && reference[len - 1] != '/';
    if (!valid)
        return era_error_invalid(err, "image", "not an image reference: %.200s", reference);
    if (era_image_name_encode(reference, name) < 0)
        return era_error_invalid(err, "image", "the image reference is too long: %.100s…", reference);
    return 0;
}

int era_image_name_encode(const char *reference, char ret_name[ERA_IMAGE_NAME_MAX])
{
    size_t used = 0;
    for (const char *c = reference; *c != '\0'; c++) {
        bool literal = strchr(LITERAL, *c) != NULL;
        if (used + (literal ? 1 : 3) >= ERA_IMAGE_NAME_MAX)
            return -ENAMETOOLONG;
        if (literal)
            ret_name[used++] = *c;
        else
            used += (size_t)snprintf(ret_name + used, 4, "%%%02X", (unsigned char)*c);
    }
    ret_name[used] = '\0';
    return 0;
}

bool era_image_digest_valid(const char *text)
{
    return era_str_starts_with(text, "sha256:") && strspn(text + 7, DIGITS "abcdef") == 64 && text[7 + 64] == '\0';
}
