/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tree.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static uint64_t get_le(const uint8_t *p, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static void put_le(uint8_t *p, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

/* Plain components joined by single slashes; the empty name is the root's. */
static bool name_valid(const char *name)
{
    while (*name != '\0') {
        size_t len = strcspn(name, "/");
        if (len == 0 || len > 255 || (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
            return false;
        name += len;
        if (*name == '/' && *++name == '\0')
            return false;
    }
    return true;
}

ssize_t era_tree_encode(const struct era_tree_entry *entry, uint8_t to[ERA_TREE_ENTRY_MAX])
{
    size_t len = strlen(entry->name);
    if (len > ERA_TREE_NAME_MAX)
        return -ENAMETOOLONG;
    to[0] = (uint8_t)entry->kind;
    to[1] = 0;
    put_le(to + 2, len, 2);
    put_le(to + 4, entry->mode & 0777, 4);
    put_le(to + 8, entry->size, 8);
    memcpy(to + ERA_TREE_HEADER_SIZE, entry->name, len);
    return (ssize_t)(ERA_TREE_HEADER_SIZE + len);
}

static bool header_valid(const struct era_tree_entry *entry)
{
    switch (entry->kind) {
    case ERA_TREE_END:
        return entry->size == 0 && entry->mode == 0 && entry->name[0] == '\0';
    case ERA_TREE_FILE:
        return entry->size <= INT64_MAX;
    case ERA_TREE_FOLDER:
        return entry->size == 0;
    case ERA_TREE_SYMLINK:
        return entry->size >= 1 && entry->size <= ERA_TREE_NAME_MAX;
    }
    return false;
}

ssize_t era_tree_decode(const void *data, size_t len, struct era_tree_entry *ret_entry)
{
    const uint8_t *p = data;
    if (len < ERA_TREE_HEADER_SIZE)
        return 0;
    size_t name_len = (size_t)get_le(p + 2, 2);
    uint32_t mode = (uint32_t)get_le(p + 4, 4);
    if (p[0] < ERA_TREE_END || p[0] > ERA_TREE_SYMLINK || p[1] != 0 || name_len > ERA_TREE_NAME_MAX || mode > 0777)
        return -EBADMSG;
    if (len - ERA_TREE_HEADER_SIZE < name_len)
        return 0;
    ret_entry->kind = (enum era_tree_kind)p[0];
    ret_entry->mode = mode;
    ret_entry->size = get_le(p + 8, 8);
    memcpy(ret_entry->name, p + ERA_TREE_HEADER_SIZE, name_len);
    ret_entry->name[name_len] = '\0';
    if (strlen(ret_entry->name) != name_len || !name_valid(ret_entry->name) || !header_valid(ret_entry))
        return -EBADMSG;
    return (ssize_t)(ERA_TREE_HEADER_SIZE + name_len);
}

_Bool era_tree_link_inside(const char *name, const char *target)
{
    if (target[0] == '/' || name[0] == '\0')
        return false;
    int depth = 0; /* of the directory that the link is in */
    for (const char *p = name; *p != '\0'; p++)
        depth += *p == '/';
    bool descended = false;
    while (*target != '\0') {
        size_t len = strcspn(target, "/");
        if (len == 2 && target[0] == '.' && target[1] == '.') {
            if (descended || --depth < 0)
                return false;
        } else if (len > 0 && !(len == 1 && target[0] == '.')) {
            descended = true;
        }
        target += len + (target[len] == '/');
    }
    return true;
}
