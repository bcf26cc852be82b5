/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - `agent serve`: libera (era/era.h) spoken over HTTP. See internal.h for how it works.
 */
#ifndef ERA_HTTP_HTTP_H
#define ERA_HTTP_HTTP_H

/*
 * The whole program. argv: "--name=value" for each of the settings of settings.c, as `agent serve` has them; keys
 * come by the environment (AGENT_API_KEY), where other users cannot read them. Returns the exit status.
 */
int http_main(int argc, char **argv);

#endif
