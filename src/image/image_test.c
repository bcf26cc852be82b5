/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include "image/internal.h"

#define HEX  "0123456789abcdef"
#define SHA  "sha256:" HEX HEX HEX HEX
#define SHA2 "sha256:" HEX HEX HEX "fedcba9876543210"

static void references_become_names_that_are_no_paths(void **state)
{
    char name[ERA_IMAGE_NAME_MAX];
    assert_int_equal(era_image_name_encode("agent/python:3.11", name), 0);
    assert_string_equal(name, "agent%2Fpython%3A3.11");
    assert_int_equal(era_image_name_encode("a%b@c", name), 0);
    assert_string_equal(name, "a%25b%40c");

    char longest[300];
    memset(longest, 'a', 255);
    longest[255] = '\0';
    assert_int_equal(era_image_name_encode(longest, name), 0);
    longest[254] = '/'; /* three bytes in the name */
    assert_int_equal(era_image_name_encode(longest, name), -ENAMETOOLONG);
}

static void references_that_could_be_paths_are_refused(void **state)
{
    static const char *const good[] = {"a", "agent/python:3.11", "localhost:5000/a_b/c-d@" SHA, "A:1"};
    static const char *const bad[] = {"",   ".",   "..",   "/",    "/a",   "a/",  "a//b", "a/../b", ".work-1",
                                      "-a", "a b", "a\n",  "a\\b", "a%2F", "a?b", "é",    "a\x7f",  "@a",
                                      ":a", "_a",  "a/..", "a*",   "a$b",  "a;b", "a=b",  "a+b"};
    struct era_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (era_image_reference_check(good[i], &err) < 0)
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (era_image_reference_check(bad[i], &err) >= 0)
            fail_msg("taken: %s", bad[i]);
    assert_string_equal(err.code, "invalid_argument");
}

static void digests_are_of_one_form(void **state)
{
    assert_true(era_image_digest_valid(SHA));
    static const char *const bad[] = {"",
                                      "sha256:",
                                      "sha256:" HEX,
                                      SHA "0",
                                      "sha512:" HEX HEX HEX HEX,
                                      "SHA256:" HEX HEX HEX HEX,
                                      "sha256:" HEX HEX HEX "0123456789ABCDEF",
                                      "sha256:../../../../../../../../../../../../../../../../../../../../etc/p"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(era_image_digest_valid(bad[i]));
}

static void what_is_written_of_an_image_is_read_back(void **state)
{
    char reference[] = "x:1";
    char digest[] = SHA;
    char source[] = "archive";
    struct era_image_info info = {.reference = reference,
                                  .digest = digest,
                                  .source = source,
                                  .size_bytes = 5,
                                  .created_at_ns = INT64_C(1700000000000000000)};
    assert_int_equal(era_strv_add(&info.env, "A=\"quoted\"\n=ü"), 0);
    _cleanup_free_ char *json = NULL;
    assert_int_equal(era_image_info_format(&info, &json), 0);
    era_strv_clear(&info.env);

    _cleanup_(era_image_info_freep) struct era_image_info *back = NULL;
    struct era_error err;
    assert_int_equal(era_image_info_parse(json, strlen(json), &back, &err), 0);
    assert_string_equal(back->reference, "x:1");
    assert_string_equal(back->digest, SHA);
    assert_string_equal(back->source, "archive");
    assert_int_equal(back->size_bytes, 5);
    assert_true(back->created_at_ns == INT64_C(1700000000000000000));
    assert_int_equal(back->env.count, 1);
    assert_string_equal(back->env.items[0], "A=\"quoted\"\n=ü");
}

static void an_index_leads_to_the_manifest_of_this_machine(void **state)
{
#define ENTRY(digest, more)                                                                                            \
    "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"" digest "\",\"size\":7" more "}"
#define FOR(arch) ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" arch "\"}"
    static const struct {
        const char *manifests;
        const char *digest; /* NULL: refused */
        const char *code;
    } cases[] = {
        {ENTRY(SHA, ""), SHA, NULL},
        {ENTRY(SHA, FOR("arm64")) "," ENTRY(SHA2, FOR("amd64")), SHA2, NULL},
        {ENTRY(SHA, "") "," ENTRY(SHA2, FOR("amd64")), SHA2, NULL},
        {ENTRY(SHA, FOR("arm64")), NULL, "invalid_argument"},
        {ENTRY(SHA, "") "," ENTRY(SHA2, ""), NULL, "invalid_argument"},
        {ENTRY(SHA, "") "," ENTRY(SHA, ""), SHA, NULL},
        {"", NULL, "image_corrupt"},
        {"{}", NULL, "image_corrupt"},
        {"1,null,[]", NULL, "image_corrupt"},
        {ENTRY("sha256:1", ""), NULL, "image_corrupt"},
        {"{\"mediaType\":\"application/x\",\"digest\":\"" SHA "\",\"size\":7}", NULL, "image_corrupt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1024];
        snprintf(json, sizeof json, "{\"manifests\":[%s]}", cases[i].manifests);
        struct era_oci_blob blob;
        bool is_index = true;
        char name[ERA_IMAGE_NAME_MAX];
        struct era_error err = {0};
        int r = era_oci_parse_index(json, strlen(json), "amd64", &blob, &is_index, name, &err);
        if (cases[i].digest == NULL) {
            assert_true(r < 0);
            assert_string_equal(err.code, cases[i].code);
            continue;
        }
        assert_int_equal(r, 0);
        assert_string_equal(blob.digest, cases[i].digest);
        assert_int_equal(blob.size, 7);
        assert_false(is_index);
    }
}

static void names_in_an_index_are_references_or_nothing(void **state)
{
    static const struct {
        const char *annotation;
        const char *name;
    } cases[] = {{"a/b:1", "a/b:1"}, {"latest", ""}, {"../../x:1", ""}, {"a b:1", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1024];
        snprintf(json, sizeof json, "{\"manifests\":[" ENTRY(SHA, ",\"annotations\":{\"%s\":\"%s\"}") "]}",
                 "org.opencontainers.image.ref.name", cases[i].annotation);
        struct era_oci_blob blob;
        bool is_index = true;
        char name[ERA_IMAGE_NAME_MAX] = "unset";
        assert_int_equal(era_oci_parse_index(json, strlen(json), "amd64", &blob, &is_index, name, NULL), 0);
        assert_string_equal(name, cases[i].name);
    }
}

static void manifest_and_configuration_must_agree(void **state)
{
    static const char manifest[] =
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" SHA
        "\",\"size\":2},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"" SHA2
        "\",\"size\":3}]}";
    static const char config[] = "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=b\"]},"
                                 "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" SHA "\"]}}";
    static const char short_config[] = "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[]}}";
    struct era_error err;
    struct era_oci_image *image = calloc(1, sizeof *image);
    assert_non_null(image);
    assert_int_equal(era_oci_parse_manifest(manifest, sizeof manifest - 1, image, &err), 0);
    assert_int_equal(image->layer_count, 1);
    assert_string_equal(image->layers[0].digest, SHA2);
    assert_int_equal(era_oci_parse_config(short_config, sizeof short_config - 1, "amd64", image, &err), -EBADMSG);
    assert_int_equal(era_oci_parse_config(config, sizeof config - 1, "arm64", image, &err), -EINVAL);
    assert_int_equal(era_oci_parse_config(config, sizeof config - 1, "amd64", image, &err), 0);
    assert_string_equal(image->diff_ids[0], SHA);
    assert_string_equal(image->env.items[0], "A=b");
    era_oci_image_clear(image);
    free(image);
}

static void recipes_pin_what_they_fetch(void **state)
{
    static const char *const languages[] = {"python", "node"};
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++) {
        const struct era_image_recipe *recipe = era_image_recipe_find(languages[i]);
        assert_non_null(recipe);
        assert_int_equal(era_image_reference_check(recipe->reference, NULL), 0);
        for (const struct era_image_pin *pin = recipe->pins; pin != NULL && pin->package != NULL; pin++) {
            assert_int_equal(strlen(pin->integrity), strlen("sha512-") + 88);
            assert_true(era_str_starts_with(pin->integrity, "sha512-"));
        }
        for (const char *const *variable = recipe->env; *variable != NULL; variable++)
            assert_true(era_image_env_valid(*variable));
    }
    assert_null(era_image_recipe_find("ruby"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_become_names_that_are_no_paths),
        cmocka_unit_test(references_that_could_be_paths_are_refused),
        cmocka_unit_test(digests_are_of_one_form),
        cmocka_unit_test(what_is_written_of_an_image_is_read_back),
        cmocka_unit_test(an_index_leads_to_the_manifest_of_this_machine),
        cmocka_unit_test(names_in_an_index_are_references_or_nothing),
        cmocka_unit_test(manifest_and_configuration_must_agree),
        cmocka_unit_test(recipes_pin_what_they_fetch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
