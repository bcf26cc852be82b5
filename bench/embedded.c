/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedded - what a run costs a program that has libera in it and stays: for
 * each line of stdin, a VM's id, runs the command there and answers by a line.
 *
 * Usage: embedded COMMAND…
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <era/era.h>

int main(int argc, char **argv)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_run_spec *spec = NULL;
    char *line = NULL;
    size_t size = 0;
    if (argc < 2)
        return 2;
    int r = era_open(getenv("AGENT_STATE_DIR"), &era, &err);
    if (r >= 0)
        r = era_run_spec_new_argv((const char *const *)(argv + 1), &spec, &err);
    while (r >= 0 && getline(&line, &size, stdin) > 1) {
        struct era_result *result = NULL;
        line[strcspn(line, "\n")] = '\0';
        r = era_vm_run(era, line, spec, &result, &err);
        if (r >= 0)
            printf("%d\n", era_result_exit_code(result));
        fflush(stdout);
        era_result_free(result);
    }
    if (r < 0)
        fprintf(stderr, "%s: %s\n", err.code, err.message);
    era_run_spec_free(spec);
    era_close(era);
    free(line);
    return r < 0;
}
