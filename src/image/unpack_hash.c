/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes by nettle, which libarchive brings along anyway. */
#include <errno.h>
#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/unpack.h"

struct era_hash {
    bool sha512;
    union {
        struct sha256_ctx sha256;
        struct sha512_ctx sha512;
    } context;
};

struct era_hash *era_hash_new(bool sha512)
{
    struct era_hash *hash = calloc(1, sizeof *hash);
    if (hash == NULL)
        return NULL;
    hash->sha512 = sha512;
    if (sha512)
        sha512_init(&hash->context.sha512);
    else
        sha256_init(&hash->context.sha256);
    return hash;
}

void era_hash_free(struct era_hash *hash)
{
    free(hash);
}

void era_hash_update(struct era_hash *hash, const void *data, size_t len)
{
    if (hash->sha512)
        sha512_update(&hash->context.sha512, len, data);
    else
        sha256_update(&hash->context.sha256, len, data);
}

void era_hash_digest(struct era_hash *hash, char ret_text[ERA_DIGEST_MAX])
{
    uint8_t digest[SHA256_DIGEST_SIZE] = {0};
    sha256_digest(&hash->context.sha256, sizeof digest, digest);
    char *at = ret_text + snprintf(ret_text, ERA_DIGEST_MAX, "sha256:");
    for (size_t i = 0; i < sizeof digest; i++)
        at += snprintf(at, 3, "%02x", digest[i]);
}

void era_hash_integrity(struct era_hash *hash, char ret_text[ERA_INTEGRITY_MAX])
{
    uint8_t digest[SHA512_DIGEST_SIZE] = {0};
    sha512_digest(&hash->context.sha512, sizeof digest, digest);
    memcpy(ret_text, "sha512-", 7);
    base64_encode_raw(ret_text + 7, sizeof digest, digest);
    ret_text[7 + BASE64_ENCODE_RAW_LENGTH(SHA512_DIGEST_SIZE)] = '\0';
}

int era_hash_fd(struct era_hash *hash, int fd)
{
    for (;;) {
        char data[65536];
        ssize_t n = read(fd, data, sizeof data);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        era_hash_update(hash, data, (size_t)n);
    }
}
