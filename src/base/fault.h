/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - marked points, at which a test has a program die, stop or fail.
 *
 * Only builds with -Dfault_injection=true have them; in all others nothing is
 * left of this header. Each point has one name, stands at one place, and is in
 * the table of fault.c, by which tests/crash finds it: see docs/crashes.md.
 *
 * The environment says what happens where, as a list of POINT[@N]=ACTION with
 * commas between; N: not before the Nth time that this process comes by.
 *     ERA_FAULT=create.recorded=kill,shim.run.result=ENOSPC
 *   kill    the process ends itself by SIGKILL
 *   stop    it stops until SIGCONT comes, and is called "era-fault" meanwhile
 *   E…      the call that the point stands around is not made, and fails so
 * era-shim, era-init and era-unpack get the variable from who starts them.
 *     ERA_FAULT_CLOCK=-86400
 * lets the real-time clock of this process be off by so many seconds.
 *
 * Async-signal-safe, without allocation: good between clone and exec as well.
 */
#ifndef ERA_BASE_FAULT_H
#define ERA_BASE_FAULT_H

#include <stdint.h>

#ifdef ERA_FAULT_INJECTION

/* Does what is planned for a point: 0, or the -errno that the call shall fail with. */
int era_fault(const char *point);
/* "ERA_FAULT=…" for the environment of a program that is started, or NULL. */
char *era_fault_variable(void);
int64_t era_fault_clock_ns(void);

#define ERA_POINT(name)          ((void)era_fault(name))
#define ERA_POINT_OR(name, call) (era_fault(name) < 0 ? -errno : (call)) /* errno is set, too */
#define ERA_FAULT_VARIABLE       era_fault_variable()
#define ERA_FAULT_CLOCK_NS       era_fault_clock_ns()
/* Adds the variable, when there is one, to the environment of a program that is started. */
#define ERA_FAULT_HAND_ON(env) ((void)(era_fault_variable() != NULL && era_strv_add((env), era_fault_variable()) < 0))

#else

#define ERA_POINT(name)          ((void)0)
#define ERA_POINT_OR(name, call) (call)
#define ERA_FAULT_VARIABLE       NULL
#define ERA_FAULT_CLOCK_NS       INT64_C(0)
#define ERA_FAULT_HAND_ON(env)   ((void)0)

#endif
#endif
