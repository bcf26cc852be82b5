/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmp.h - the little that is needed of QEMU's monitor protocol: a line of JSON
 * each way. Pure.
 *
 * Theory of operation: a QEMU that its guest has taken over says what it likes,
 * so nothing it says is trusted: a line is looked at for its kind and for one
 * word, and what is neither is passed over or ends the machine.
 */
#ifndef ERA_LAUNCHER_MICROVM_QMP_H
#define ERA_LAUNCHER_MICROVM_QMP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"

enum { QMP_LINE_MAX = 16 * 1024, QMP_WORD_MAX = 64, QMP_TEXT_MAX = 160, QMP_ID_MAX = 999999999 };

enum qmp_kind {
    QMP_OTHER,    /* a well-formed object of no interest */
    QMP_GREETING, /* {"QMP": …} */
    QMP_RETURN,   /* {"return": …} */
    QMP_ERROR,    /* {"error": {"class": …, "desc": …}}; text: desc */
    QMP_EVENT,    /* {"event": …}; word: which */
};

struct qmp_line {
    enum qmp_kind kind;
    uint32_t id;               /* of the command that is answered; 0: of none */
    char word[QMP_WORD_MAX];   /* the event's name */
    char status[QMP_WORD_MAX]; /* "status" of an event's data, or of what is returned; "" without */
    char text[QMP_TEXT_MAX];   /* why: of an error, or of an event that says so */
};

/*
 * Looks for a whole line at the start of data. Returns the bytes it takes, 0
 * when more are needed, -EBADMSG when it is no object of JSON, or too long.
 */
ssize_t qmp_decode(const char *data, size_t len, struct qmp_line *ret_line);

/* Members of a command's arguments; both kinds are ended by a NULL key. */
struct qmp_member {
    const char *key;
    const char *text; /* NULL: raw is taken as it is, and must be JSON */
    const char *raw;
};

/*
 * {"execute": "…", "id": 1, "arguments": {…}}. The one place where a command is
 * written: every text is escaped, so that none can end its string. id: 1 to
 * QMP_ID_MAX, with which it is answered. -ENOMEM.
 */
int qmp_append(struct era_buffer *to, const char *command, uint32_t id, const struct qmp_member members[]);

#endif
