/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 of RFC 4648, section 4. */
#include <errno.h>
#include <string.h>

#include "http/internal.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t len, char *to)
{
    const uint8_t *p = data;
    for (; len >= 3; len -= 3, p += 3, to += 4) {
        uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        to[0] = alphabet[bits >> 18];
        to[1] = alphabet[bits >> 12 & 63];
        to[2] = alphabet[bits >> 6 & 63];
        to[3] = alphabet[bits & 63];
    }
    if (len > 0) {
        uint32_t bits = (uint32_t)p[0] << 16 | (len > 1 ? (uint32_t)p[1] << 8 : 0);
        to[0] = alphabet[bits >> 18];
        to[1] = alphabet[bits >> 12 & 63];
        to[2] = to[3] = '=';
        if (len > 1)
            to[2] = alphabet[bits >> 6 & 63];
    }
}

/* The six bits of a character, or -1. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t base64_decode(const char *text, size_t len, void *to)
{
    uint8_t *p = to;
    if (len % 4 != 0)
        return -EINVAL;
    size_t padding = len > 0 && text[len - 1] == '=' ? 1 + (text[len - 2] == '=') : 0;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        size_t have = i + 4 == len ? 4 - padding : 4;
        for (size_t k = 0; k < 4; k++) {
            int value = k < have ? value_of(text[i + k]) : 0;
            if (value < 0)
                return -EINVAL;
            bits = bits << 6 | (uint32_t)value;
        }
        /* What the padding stands for must be zero: one text for one content. */
        if ((have < 4 && (bits & 0xFF) != 0) || (have < 3 && (bits & 0xFFFF) != 0))
            return -EINVAL;
        for (size_t k = 0; k + 1 < have; k++)
            *p++ = (uint8_t)(bits >> (16 - 8 * k));
    }
    return p - (uint8_t *)to;
}
