/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command line in a VM of its own and prints what it wrote.
 *
 *   cc run.c $(pkg-config --cflags --libs era) -o run
 *   ./run python 'python -V'
 */
#include <stdio.h>
#include <stdlib.h>

#include <era/era.h>

static int fail(const struct era_error *err)
{
    fprintf(stderr, "%s: %s\n", err->code, err->message);
    return 1;
}

static void show(const char *path)
{
    FILE *file = fopen(path, "r");
    int c;
    while (file != NULL && (c = getc(file)) != EOF)
        putchar(c);
    if (file != NULL)
        fclose(file);
}

int main(int argc, char **argv)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_vm_spec *vm_spec = NULL;
    struct era_run_spec *run_spec = NULL;
    struct era_vm *vm = NULL;
    struct era_result *result = NULL;

    if (argc != 3) {
        fprintf(stderr, "usage: run python|node COMMAND\n");
        return 2;
    }
    int r = era_open(getenv("AGENT_STATE_DIR"), &era, &err);
    if (r >= 0)
        r = era_vm_spec_new(argv[1], &vm_spec, &err);
    if (r >= 0)
        r = era_run_spec_new_shell(argv[2], &run_spec, &err);
    if (r >= 0)
        r = era_vm_create(era, vm_spec, &vm, &err);
    if (r >= 0)
        r = era_vm_run(era, era_vm_id(vm), run_spec, &result, &err);
    int status = r < 0 ? fail(&err) : era_result_exit_code(result);
    if (result != NULL) {
        show(era_result_stdout_path(result));
        printf("%s %d\n", era_result_verdict(result), era_result_exit_code(result));
    }
    if (vm != NULL && era_vm_clean(era, era_vm_id(vm), false, &err) < 0)
        status = fail(&err);
    era_result_free(result);
    era_vm_free(vm);
    era_run_spec_free(run_spec);
    era_vm_spec_free(vm_spec);
    era_close(era);
    return status;
}
