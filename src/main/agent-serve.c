/* SPDX-License-Identifier: Apache-2.0 */
/* agent-serve - the HTTP server; `agent serve` becomes it. */
#include "http/http.h"

int main(int argc, char **argv)
{
    return http_main(argc, argv);
}
