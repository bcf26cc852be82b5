/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher/microvm/qmp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum { DEPTH_MAX = 16 };

/* ---- reading ------------------------------------------------------------ */

struct scanner {
    const char *at;
    const char *end;
    bool failed;
};

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
}

/* Takes the character when it is the next one. */
static bool take(struct scanner *s, char c)
{
    skip_space(s);
    if (s->failed || s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static void expect(struct scanner *s, char c)
{
    if (!take(s, c))
        s->failed = true;
}

/* A string, cut to size. Escapes are left as they are: no word that is looked for has any. */
static void read_string(struct scanner *s, char *to, size_t size)
{
    size_t len = 0;
    expect(s, '"');
    while (!s->failed && s->at < s->end && *s->at != '"') {
        bool escape = *s->at == '\\';
        for (int i = 0; i < 1 + escape && s->at < s->end; i++, s->at++) {
            if ((unsigned char)*s->at < 0x20)
                s->failed = true;
            if (len + 1 < size)
                to[len++] = *s->at;
        }
    }
    to[len] = '\0';
    expect(s, '"');
}

/* A number, true, false or null: only its extent matters. */
static void skip_word(struct scanner *s)
{
    const char *from = s->at;
    while (s->at < s->end && *s->at != '\0' && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *s->at) != NULL)
        s->at++;
    if (s->at == from)
        s->failed = true;
}

/* One of ours: another one answers nothing that was asked. */
static uint32_t read_id(struct scanner *s)
{
    uint64_t id = 0;
    for (skip_space(s); s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
        id = id * 10 + (uint64_t)(*s->at - '0');
        if (id > QMP_ID_MAX)
            s->failed = true;
        if (s->failed)
            return 0;
    }
    return (uint32_t)id;
}

/* A member's name, before its value; elements of an array have none. */
static void skip_key(struct scanner *s, char closing)
{
    char ignored[2];
    if (closing != '}')
        return;
    read_string(s, ignored, sizeof ignored);
    expect(s, ':');
}

/* Opens an object or an array: false when it is empty, and so over already. */
static bool enter(struct scanner *s, char closing)
{
    if (take(s, closing))
        return false;
    skip_key(s, closing);
    return true;
}

/* Any value. What is open is kept in a stack of what will close it. */
static void skip_value(struct scanner *s)
{
    char closing[DEPTH_MAX];
    char ignored[2];
    int depth = 0;
    do {
        char opened = '\0';
        if (take(s, '{'))
            opened = '}';
        else if (take(s, '['))
            opened = ']';
        if (opened != '\0' && depth == DEPTH_MAX)
            s->failed = true;
        else if (opened != '\0' && enter(s, opened)) {
            closing[depth++] = opened;
            continue;
        } else if (opened == '\0' && s->at < s->end && *s->at == '"')
            read_string(s, ignored, sizeof ignored);
        else if (opened == '\0')
            skip_word(s);
        /* A value is over: another one follows, or what holds it is over as well. */
        while (!s->failed && depth > 0 && !take(s, ','))
            expect(s, closing[--depth]);
        if (depth > 0)
            skip_key(s, closing[depth - 1]);
    } while (!s->failed && depth > 0);
}

/* The members of an object one level down: its "status", and its "desc" or "reason". */
static void read_details(struct scanner *s, struct qmp_line *line)
{
    char key[QMP_WORD_MAX];
    if (!take(s, '{')) {
        skip_value(s);
        return;
    }
    if (take(s, '}'))
        return;
    do {
        read_string(s, key, sizeof key);
        expect(s, ':');
        skip_space(s);
        bool text = s->at < s->end && *s->at == '"';
        if (text && era_str_eq(key, "status"))
            read_string(s, line->status, sizeof line->status);
        else if (text && (era_str_eq(key, "desc") || era_str_eq(key, "reason")))
            read_string(s, line->text, sizeof line->text);
        else
            skip_value(s);
    } while (!s->failed && take(s, ','));
    expect(s, '}');
}

static void read_line(struct scanner *s, struct qmp_line *line)
{
    static const struct {
        const char *key;
        enum qmp_kind kind;
    } kinds[] = {{"QMP", QMP_GREETING}, {"return", QMP_RETURN}, {"error", QMP_ERROR}, {"event", QMP_EVENT}};
    char key[QMP_WORD_MAX];
    expect(s, '{');
    if (s->failed || take(s, '}'))
        return;
    do {
        read_string(s, key, sizeof key);
        expect(s, ':');
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            if (!era_str_eq(key, kinds[i].key))
                continue;
            s->failed |= line->kind != QMP_OTHER; /* it is of one kind */
            line->kind = kinds[i].kind;
        }
        if (era_str_eq(key, "event")) {
            read_string(s, line->word, sizeof line->word);
        } else if (era_str_eq(key, "id")) {
            line->id = read_id(s);
        } else {
            read_details(s, line);
        }
    } while (!s->failed && take(s, ','));
    expect(s, '}');
}

ssize_t qmp_decode(const char *data, size_t len, struct qmp_line *ret_line)
{
    const char *newline = len == 0 ? NULL : memchr(data, '\n', len);
    if (newline == NULL)
        return len > QMP_LINE_MAX ? -EBADMSG : 0;
    if (newline - data > QMP_LINE_MAX)
        return -EBADMSG;
    struct scanner s = {.at = data, .end = newline};
    struct qmp_line line = {0};
    read_line(&s, &line);
    skip_space(&s);
    if (s.failed || s.at != s.end)
        return -EBADMSG;
    *ret_line = line;
    return newline + 1 - data;
}

/* ---- writing ------------------------------------------------------------ */

static int append_text(struct era_buffer *to, const char *text)
{
    return era_buffer_append(to, text, strlen(text));
}

static int append_string(struct era_buffer *to, const char *text)
{
    int r = append_text(to, "\"");
    for (; r >= 0 && *text != '\0'; text++) {
        char escaped[8];
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F)
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        else
            snprintf(escaped, sizeof escaped, "%c", c);
        r = append_text(to, escaped);
    }
    return r < 0 ? r : append_text(to, "\"");
}

int qmp_append(struct era_buffer *to, const char *command, uint32_t id, const struct qmp_member members[])
{
    char number[24];
    snprintf(number, sizeof number, ", \"id\": %" PRIu32, id);
    int r = append_text(to, "{\"execute\": ");
    if (r >= 0)
        r = append_string(to, command);
    if (r >= 0)
        r = append_text(to, number);
    for (const struct qmp_member *member = members; r >= 0 && member != NULL && member->key != NULL; member++) {
        r = append_text(to, member == members ? ", \"arguments\": {" : ", ");
        if (r >= 0)
            r = append_string(to, member->key);
        if (r >= 0)
            r = append_text(to, ": ");
        if (r >= 0)
            r = member->text != NULL ? append_string(to, member->text) : append_text(to, member->raw);
    }
    if (r >= 0 && members != NULL && members[0].key != NULL)
        r = append_text(to, "}");
    return r < 0 ? r : append_text(to, "}\r\n");
}
