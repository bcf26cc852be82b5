/* SPDX-License-Identifier: Apache-2.0 */
/* What a template was made of, as text: two machines of the same text are the same machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "launcher/microvm/template.h"

/* Goes up whenever what era-init and QEMU are told changes in a way that the rest of the text does not show. */
enum { FORMAT = 1, CPUINFO_MAX = 1 << 20 };

uint64_t template_hash(const void *data, size_t len)
{
    /* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
    const uint8_t *p = data;
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* A program or a kernel by its size and the time of its last change. */
static int append_file(char *to, size_t size, const char *name, const char *path)
{
    struct stat st;
    size_t used = strlen(to);
    if (stat(path, &st) < 0)
        return -errno;
    return era_str_format(to + used, size - used, "%s %lld %lld.%09ld\n", name, (long long)st.st_size,
                          (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* Those beside it, when there are any. */
static int append_modules(char *to, size_t size, const char *kernel_file)
{
    char path[ERA_PATH_MAX];
    const char *slash = strrchr(kernel_file, '/');
    if (slash == NULL || era_str_format(path, sizeof path, "%.*s/modules", (int)(slash - kernel_file), kernel_file) < 0)
        return -ENAMETOOLONG;
    int r = append_file(to, size, "modules", path);
    return r == -ENOENT ? 0 : r;
}

/* The processor's name: a saved machine goes on only on its like. */
static void read_processor(char to[128])
{
    static const char name[] = "model name\t: ";
    to[0] = '\0';
    _cleanup_free_ char *text = NULL;
    if (era_read_file_at(AT_FDCWD, "/proc/cpuinfo", CPUINFO_MAX, &text, NULL) < 0)
        return;
    char *found = strstr(text, name);
    if (found == NULL)
        return;
    found += strlen(name);
    found[strcspn(found, "\n")] = '\0';
    era_str_copy(to, 128, found);
}

int template_key(const struct era_guest_config *config, const struct machine_spec *spec, const char *kernel_file,
                 struct template_key *ret_key)
{
    struct template_key key = {0};
    char processor[128];
    read_processor(processor);
    int r =
        era_str_format(key.text, sizeof key.text,
                       "format %d\nimage %s\naccelerator %s\nprocessor %s\ncpus %u\nmem_mib %u\nnetwork %d\nwarm %s\n",
                       FORMAT, config->image_digest, spec->kvm ? "kvm" : "tcg", processor, spec->cpu_count,
                       spec->mem_mib, spec->network, spec->warm != NULL ? spec->warm : "");
    if (r >= 0)
        r = append_file(key.text, sizeof key.text, "kernel", kernel_file);
    if (r >= 0)
        r = append_modules(key.text, sizeof key.text, kernel_file);
    /* The machine remembers where in this very file things are. */
    if (r >= 0)
        r = append_file(key.text, sizeof key.text, "disk", config->image_file);
    if (r >= 0)
        r = append_file(key.text, sizeof key.text, "init", config->init_path);
    if (r >= 0)
        r = append_file(key.text, sizeof key.text, "qemu", qemu_find());
    if (r < 0)
        return r;
    snprintf(key.name, sizeof key.name, "%016llx", (unsigned long long)template_hash(key.text, strlen(key.text)));
    *ret_key = key;
    return 0;
}
