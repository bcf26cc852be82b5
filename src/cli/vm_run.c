/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static json_t *describe(const char *vm_id, const struct era_result *result)
{
    char duration[32];
    uint64_t wall_ms = era_result_wall_us(result) / 1000;
    snprintf(duration, sizeof duration, "%llu.%03llus", (unsigned long long)(wall_ms / 1000),
             (unsigned long long)(wall_ms % 1000));
    const char *verdict = era_result_verdict(result);
    uint64_t dropped[2] = {era_result_stdout_dropped(result), era_result_stderr_dropped(result)};
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:s, s:s, s:b, s:b, s:I, s:I}", "level", "info", "message", "vm run", "vm",
        vm_id, "run", era_result_run_id(result), "exit_code", era_result_exit_code(result), "stdout",
        output_string(era_result_stdout_path(result)), "stderr", output_string(era_result_stderr_path(result)),
        "duration", duration, "verdict", verdict, "timed_out", era_str_eq(verdict, "timed_out"), "truncated",
        dropped[0] > 0 || dropped[1] > 0, "cpu_ms", (json_int_t)(era_result_cpu_us(result) / 1000), "peak_memory_kib",
        (json_int_t)era_result_peak_mem_kib(result));
    if (era_str_eq(verdict, "signaled"))
        json_object_set_new(object, "signal", json_integer(era_result_exit_code(result) - 128));
    if (dropped[0] > 0)
        json_object_set_new(object, "stdout_dropped_bytes", json_integer((json_int_t)dropped[0]));
    if (dropped[1] > 0)
        json_object_set_new(object, "stderr_dropped_bytes", json_integer((json_int_t)dropped[1]));
    return object;
}

int vm_run(const struct invocation *invocation)
{
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_run_spec *spec = NULL;
    const char *id = option_value(invocation, "vm");
    struct live_run live = {.vm_id = id};
    _cleanup_close_ int signal_fd = signals_block_with_resize();
    const struct live_options options = {.forward_stdin = option_given(invocation, "stdin"), .signal_fd = signal_fd};

    int r = ask_run(invocation, &spec, &err);
    if (r >= 0)
        r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_run_start(era, id, spec, &live.run, &err);
    if (r >= 0)
        r = live_loop(&live, 1, &options, &err);
    int status = r;
    const struct era_result *result = r >= 0 ? era_run_result(live.run) : NULL;
    if (r < 0)
        status = output_error(invocation, &err);
    else if (result == NULL || output_json(describe(id, result)) != EXIT_OK)
        status = EXIT_AGENT;
    era_run_free(live.run);
    era_run_spec_free(spec);
    era_close(era);
    return status;
}
