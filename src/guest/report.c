/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/guest.h"

void report_write(int status_fd, const struct report *report)
{
    (void)era_write_full(status_fd, report, sizeof *report);
}

_Noreturn void report_failure(int status_fd, int errnum, const char *what, int exit_code)
{
    struct report report = {.kind = REPORT_FAILED, .value = errnum};
    snprintf(report.message, sizeof report.message, "%s", what);
    report_write(status_fd, &report);
    _exit(exit_code);
}
