/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - the one protocol, end to end: client to shim, shim to guest.
 *
 * A connection carries frames, each a header of 12 bytes and a payload:
 *
 *     0       4       6       8               12
 *     | length | type  | zero  | stream        | payload …
 *
 * All numbers are little-endian. `length` counts the payload alone and is at
 * most ERA_FRAME_PAYLOAD_MAX. `stream` tells the runs of one connection apart;
 * a client has one run on its connection and uses stream 0 towards the shim,
 * the shim numbers the streams towards the guest.
 *
 * Both ends treat the other as hostile: a frame that breaks a rule ends the
 * connection. Pure functions, no I/O, no state.
 */
#ifndef ERA_WIRE_FRAME_H
#define ERA_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"

enum {
    ERA_FRAME_HEADER_SIZE = 12,
    ERA_FRAME_PAYLOAD_MAX = 256 * 1024, /* bytes; a run request with its whole environment fits */
    ERA_FRAME_DATA_MAX = 32 * 1024,     /* bytes of output or input that one frame carries */
    ERA_WINDOW_INITIAL = 256 * 1024,    /* bytes a sender may have under way on one channel of a stream */
};

enum era_frame_type {
    /* service → shim, on the launch channel; the shim answers LAUNCHED or ERROR */
    ERA_FRAME_LAUNCH = 1, /* struct era_launch */
    ERA_FRAME_LAUNCHED,   /* struct era_launched */
    ERA_FRAME_COMMIT,     /* empty: the record is written, the VM may outlive the caller */

    /* guest → shim, once */
    ERA_FRAME_READY, /* empty: init serves */

    /* client → shim → guest */
    ERA_FRAME_RUN,       /* struct era_run_request */
    ERA_FRAME_GO,        /* str run id: a run that was held may start, and this is its name. To the guest: empty */
    ERA_FRAME_STDIN,     /* bytes */
    ERA_FRAME_STDIN_END, /* empty */
    ERA_FRAME_RESIZE,    /* u16 columns, u16 rows */
    ERA_FRAME_SIGNAL,    /* u32 signal number, to the process group of the command */

    /* shim → guest */
    ERA_FRAME_KILL,     /* empty: end the run with all its descendants */
    ERA_FRAME_SHUTDOWN, /* u32 grace in milliseconds: SIGTERM everything, then exit */

    /* guest → shim → client */
    ERA_FRAME_STDOUT, /* bytes */
    ERA_FRAME_STDERR, /* bytes */

    /* guest → shim; the shim judges and tells its client EXIT */
    ERA_FRAME_ENDED, /* struct era_run_ended */
    ERA_FRAME_EXIT,  /* struct era_run_outcome */

    /* either way: the receiver of data gives the sender room again */
    ERA_FRAME_WINDOW, /* u8 channel (0 stdin, 1 stdout, 2 stderr), u32 bytes */

    /* shim → client or service: the request came to nothing */
    ERA_FRAME_ERROR, /* struct era_error */

    /* client → shim */
    ERA_FRAME_STOP,    /* u32 grace in milliseconds; the shim answers STOPPED when the guest is gone */
    ERA_FRAME_STOPPED, /* empty */

    /* shim → guest of a kernel of its own, which takes no RUN before it; answered by READY */
    ERA_FRAME_IDENTITY, /* struct era_identity */

    ERA_FRAME_CLOCK, /* u64 nanoseconds since 1970: what time it is; answered by READY, as often as it is said */

    /* shim → service, before LAUNCHED */
    ERA_FRAME_PROGRESS, /* bytes: a line that says what takes long, for people */

    /* client → shim, which answers DONE or ERROR */
    ERA_FRAME_PAUSE,    /* empty: the guest stands still */
    ERA_FRAME_RESUME,   /* empty: it goes on */
    ERA_FRAME_SNAPSHOT, /* bytes: an absolute path of a folder, in which the guest is saved as it is */
    ERA_FRAME_DONE,     /* empty */

    /* shim → guest: it says no more from STILL, its answer, to the next frame, so that nothing is under way */
    ERA_FRAME_HOLD,  /* empty */
    ERA_FRAME_STILL, /* empty; guest → shim */
    ERA_FRAME_GO_ON, /* i64 the time, nanoseconds since 1970; 0: it did not stand still */

    ERA_FRAME_TYPE_COUNT,
};

struct era_frame {
    enum era_frame_type type;
    uint32_t stream;
    const uint8_t *payload; /* borrowed from the input */
    uint32_t len;
};

/*
 * Looks for a frame at the start of data. Returns the bytes it takes, 0 when
 * more are needed, -EBADMSG when these can never become a frame.
 */
ssize_t era_frame_decode(const void *data, size_t len, struct era_frame *ret_frame);

/* Appends a frame. len <= ERA_FRAME_PAYLOAD_MAX. -EMSGSIZE, -ENOMEM. */
int era_frame_append(struct era_buffer *to, enum era_frame_type type, uint32_t stream, const void *payload, size_t len);

#endif
