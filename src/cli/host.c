/* SPDX-License-Identifier: Apache-2.0 */
/* doctor, version, completion */
#include <stdio.h>

#include "base/error.h"
#include "base/str.h"
#include "cli/cli.h"

static int print_table(const struct era_report *report)
{
    struct table table = {.columns = 3};
    for (size_t i = 0; i < era_report_count(report); i++) {
        (void)table_add(&table, era_report_state(report, i));
        (void)table_add(&table, era_report_name(report, i));
        (void)table_add(&table, era_report_detail(report, i));
    }
    table_print(&table);
    table_clear(&table);
    const char *launcher = era_report_launcher(report);
    printf("\nauto picks: %s (%s)\n", launcher[0] != '\0' ? launcher : "nothing", era_report_reason(report));
    return output_flush();
}

static int print_json(const struct era_report *report)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < era_report_count(report); i++)
        json_array_append_new(checks, json_pack("{s:s, s:s, s:o}", "name", era_report_name(report, i), "state",
                                                era_report_state(report, i), "detail",
                                                output_string(era_report_detail(report, i))));
    const char *launcher = era_report_launcher(report);
    return output_json(json_pack("{s:o, s:o, s:s}", "launcher",
                                 launcher[0] != '\0' ? json_string(launcher) : json_null(), "checks", checks, "reason",
                                 era_report_reason(report)));
}

int doctor(const struct invocation *invocation)
{
    int as_table = output_wants_table(invocation);
    if (as_table < 0)
        return EXIT_USAGE;
    struct era_error err = {0};
    struct era *era = NULL;
    struct era_report *report = NULL;
    int r = session_open(invocation, &era, &err);
    if (r >= 0)
        r = era_doctor(era, &report, &err);
    int status = EXIT_OK;
    if (r < 0)
        status = output_error(invocation, &err);
    else if (as_table)
        status = print_table(report);
    else
        status = print_json(report);
    if (r >= 0 && era_report_launcher(report)[0] == '\0')
        status = EXIT_FAILED;
    era_report_free(report);
    era_close(era);
    return status;
}

int version(const struct invocation *invocation)
{
    (void)invocation;
    return output_json(json_pack("{s:s, s:s}", "name", "agent", "version", era_version()));
}

int completion(const struct invocation *invocation)
{
    struct era_error err = {0};
    if (!era_str_eq(invocation->positionals[0], "bash")) {
        era_error_invalid(&err, "arguments", "there is completion for bash only");
        return output_error(invocation, &err);
    }
    completion_print();
    return output_flush();
}
