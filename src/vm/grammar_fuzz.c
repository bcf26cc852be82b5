/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammars of vm.h against a second reading of them: each is written down
 * once more as a regular expression, and the two must agree on every input.
 * Beside that stands what the rest of the program relies on when it builds
 * paths and command lines from a name that was found valid.
 */
#include <regex.h>

#include "fuzz/fuzz.h"
#include "vm/vm.h"

#define DOMAIN_PART "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
#define PORT        ":[0-9]{1,5}"
#define HOST        "(" DOMAIN_PART "(\\." DOMAIN_PART ")+(" PORT ")?|" DOMAIN_PART "(\\." DOMAIN_PART ")*" PORT "|localhost)"
#define PATH_PART   "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"

static const struct {
    bool (*valid)(const char *text);
    const char *pattern;
    size_t size; /* of a buffer that takes every valid text; 0: not bounded by the grammar */
} grammars[] = {
    {era_vm_id_valid, "^(python|node)-[0-9]{1,20}$", ERA_VM_ID_MAX},
    {era_run_id_valid, "^r[0-9]{1,20}$", ERA_RUN_ID_MAX},
    {era_volume_name_valid, "^[a-z0-9][a-z0-9._-]{0,62}$", ERA_NAME_MAX},
    {era_env_valid, "^[A-Za-z_][A-Za-z0-9_]*=", 0},
    {era_reference_valid,
     "^(" HOST "/)?" PATH_PART "(/" PATH_PART ")*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$",
     ERA_REFERENCE_MAX},
};

enum { GRAMMARS = sizeof grammars / sizeof *grammars };

/* Compiled once; a fuzzer's process has no end to free them at. */
static const regex_t *pattern_of(size_t i)
{
    static regex_t compiled[GRAMMARS];
    static bool done[GRAMMARS];
    if (!done[i])
        FUZZ_ASSERT(regcomp(&compiled[i], grammars[i].pattern, REG_EXTENDED | REG_NOSUB) == 0);
    done[i] = true;
    return &compiled[i];
}

static void check_agreement(const char *text)
{
    for (size_t i = 0; i < GRAMMARS; i++) {
        bool fits = grammars[i].size == 0 || strlen(text) < grammars[i].size;
        bool expected = fits && regexec(pattern_of(i), text, 0, NULL, 0) == 0;
        if (grammars[i].valid(text) != expected)
            fprintf(stderr, "\"%s\" against %s: expected %d\n", text, grammars[i].pattern, expected);
        FUZZ_ASSERT(grammars[i].valid(text) == expected);
    }
}

/* A text that is to be one component of a path, or an argument of a program. */
static void check_component(const char *text)
{
    FUZZ_ASSERT(text[0] != '\0' && text[0] != '-' && text[0] != '.');
    for (const char *p = text; *p != '\0'; p++)
        FUZZ_ASSERT(*p > ' ' && *p < 0x7F && *p != '/' && *p != '%' && *p != ':');
}

static void check_reference(const char *text)
{
    FUZZ_ASSERT(text[0] != '\0' && text[0] != '/' && text[0] != '-' && text[0] != '.');
    FUZZ_ASSERT(strstr(text, "//") == NULL);
    FUZZ_ASSERT(text[strlen(text) - 1] != '/');
    for (const char *p = text; *p != '\0'; p++)
        FUZZ_ASSERT(*p > ' ' && *p < 0x7F && *p != '%' && *p != '\\' && *p != '"');
    /* A tag may hold two dots ("x:1..2"): they then stand behind a colon, in the last component. */
    const char *dots = strstr(text, "..");
    if (dots != NULL) {
        FUZZ_ASSERT(strchr(dots, '/') == NULL);
        FUZZ_ASSERT(memchr(text, ':', (size_t)(dots - text)) != NULL);
    }
}

/* A valid path of a file in a VM has plain names only, between single slashes. */
static void check_guest_path(const char *text)
{
    char framed[ERA_PATH_MAX + 2];
    FUZZ_ASSERT(text[0] != '\0' && strlen(text) < ERA_PATH_MAX);
    snprintf(framed, sizeof framed, "%s%s/", text[0] == '/' ? "" : "/", text);
    FUZZ_ASSERT(strstr(framed, "//") == NULL && strstr(framed, "/./") == NULL && strstr(framed, "/../") == NULL);
    for (const char *p = framed; p[1] != '\0'; p += strcspn(p + 1, "/") + 1)
        FUZZ_ASSERT(strcspn(p + 1, "/") <= 255);
}

static void check_names(const char *text)
{
    enum era_language language;
    enum era_vm_status status;
    enum era_verdict verdict;
    enum era_volume_kind kind;
    if (era_language_parse(text, &language) == 0 && !era_str_starts_with(text, "j"))
        FUZZ_ASSERT(era_str_eq(era_language_name(language), text));
    if (era_vm_status_parse(text, &status) == 0)
        FUZZ_ASSERT(era_str_eq(era_vm_status_name(status), text));
    if (era_verdict_parse(text, &verdict) == 0)
        FUZZ_ASSERT(era_str_eq(era_verdict_name(verdict), text));
    if (era_volume_kind_parse(text, &kind) == 0)
        FUZZ_ASSERT(era_str_eq(era_volume_kind_name(kind), text));
}

/* What is made is valid, whatever the clock says after 1970. */
static void check_made(const uint8_t *data, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, data, size < sizeof bits ? size : sizeof bits);
    int64_t now_ns = (int64_t)(bits >> 1);
    char id[ERA_VM_ID_MAX];
    char run[ERA_RUN_ID_MAX];
    era_vm_id_make(bits % 2 == 0 ? ERA_LANGUAGE_PYTHON : ERA_LANGUAGE_NODE, now_ns, id);
    era_run_id_make(now_ns, run);
    FUZZ_ASSERT(era_vm_id_valid(id));
    FUZZ_ASSERT(era_run_id_valid(run));

    int exit_code = era_exit_code_of_wait((int)(bits & 0xFFFF));
    FUZZ_ASSERT(exit_code >= 0 && exit_code <= 255);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    check_agreement(text);
    if (era_vm_id_valid(text) || era_run_id_valid(text) || era_volume_name_valid(text))
        check_component(text);
    if (era_reference_valid(text))
        check_reference(text);
    if (era_guest_path_valid(text))
        check_guest_path(text);
    check_names(text);
    check_made(data, size);
    free(text);
    return 0;
}
