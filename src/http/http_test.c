/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: targets, headers, keys, base64, addresses, statuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/internal.h"
#include "http/websocket.h"

static void patterns_match_whole_paths(void **state)
{
    (void)state;
    struct params params;
    assert_int_equal(target_match("/api/vms", "/api/vms?limit=1", &params), 1);
    assert_int_equal(target_match("/api/vms", "/api/vms/", &params), 0);
    assert_int_equal(target_match("/api/vms", "/api/vm", &params), 0);
    assert_int_equal(target_match("/api/vm/{id}", "/api/vm/python-1", &params), 1);
    assert_string_equal(params.id, "python-1");
    assert_int_equal(target_match("/api/vm/{id}", "/api/vm/", &params), 0);
    assert_int_equal(target_match("/api/vm/{id}", "/api/vm/a/b", &params), 0);
    assert_int_equal(target_match("/api/vm/{id}/run", "/api/vm/p%79thon-1/run", &params), 1);
    assert_string_equal(params.id, "python-1");
    assert_true(target_match("/api/vm/{id}", "/api/vm/..", &params) < 0);
    assert_true(target_match("/api/vm/{id}", "/api/vm/a%2fb", &params) < 0);
    assert_true(target_match("/api/vm/{id}", "/api/vm/a%00b", &params) < 0);
}

static void paths_are_of_plain_names(void **state)
{
    (void)state;
    static const char pattern[] = "/f/{path}";
    struct params params;
    assert_int_equal(target_match(pattern, "/f/a/b%20c/?x=/..", &params), 1);
    assert_string_equal(params.path, "/a/b c");
    assert_int_equal(target_match(pattern, "/f/", &params), 1);
    assert_string_equal(params.path, "/");
    assert_int_equal(target_match(pattern, "/f/..a/.b/c..", &params), 1);
    assert_string_equal(params.path, "/..a/.b/c..");
    static const char *const bad[] = {"/f/..",      "/f/a/../b", "/f/./a", "/f//a",  "/f/a//",   "/f/%2e%2e/x",
                                      "/f/a%2fb/c", "/f/%00",    "/f/a%2", "/f/%g1", "/f/x/%2E", "/f/%2f"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(target_match(pattern, bad[i], &params) < 0);
}

static void queries_are_read(void **state)
{
    (void)state;
    char value[TARGET_VALUE_MAX];
    char name[8];
    assert_int_equal(target_query("/x?a=1&b=two+words%21", "b", value), 1);
    assert_string_equal(value, "two words!");
    assert_int_equal(target_query("/x?a", "a", value), 1);
    assert_string_equal(value, "");
    assert_int_equal(target_query("/x", "a", value), 0);
    assert_int_equal(target_query("/x?ab=1", "a", value), 0);
    assert_true(target_query("/x?a=1&a=2", "a", value) < 0);
    assert_true(target_query("/x?a=%", "a", value) < 0);
    assert_false(target_query_unknown("/x?a=1&bc=2&", "a bc", name, sizeof name));
    assert_true(target_query_unknown("/x?a=1&surprising=2", "a bc", name, sizeof name));
    assert_string_equal(name, "surpris");
}

static void keys_are_compared_whole(void **state)
{
    (void)state;
    struct keys keys = {0};
    struct era_error err = {0};
    assert_int_equal(keys_load(" one ,two,", NULL, &keys, &err), 0);
    assert_int_equal(keys.count, 2);
    assert_true(keys_accept(&keys, "one"));
    assert_true(keys_accept(&keys, "two"));
    static const char *const wrong[] = {"", "on", "onee", "one ", "One", "onetwo", "tw", "one,two"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(keys_accept(&keys, wrong[i]));
    assert_false(keys_accept(&keys, NULL));
    keys_clear(&keys);
    assert_false(keys_accept(&keys, "one"));
}

static void base64_is_strict(void **state)
{
    (void)state;
    char bytes[8];
    char text[13] = "";
    base64_encode("light w", 7, text);
    assert_string_equal(text, "bGlnaHQgdw==");
    assert_int_equal(base64_decode("AAEC", 4, bytes), 3);
    assert_memory_equal(bytes, "\0\1\2", 3);
    static const char *const bad[] = {"A", "AA", "AAA", "AB==AAAA", "AB==", "AAB=", "A===", "====", "AA-_", "AA\nA"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(base64_decode(bad[i], strlen(bad[i]), bytes) < 0);
}

static void the_handshake_is_that_of_the_rfc(void **state)
{
    (void)state;
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
    char accept[WEBSOCKET_ACCEPT_MAX];
    websocket_accept(key, accept);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_true(websocket_asked("WebSocket", "keep-alive, Upgrade", "13", key));
    assert_false(websocket_asked("websockets", "upgrade", "13", key));
    assert_false(websocket_asked("websocket", "close", "13", key));
    assert_false(websocket_asked("websocket", "upgrade", "8", key));
    assert_false(websocket_asked("websocket", "upgrade", "13", "c2hvcnQ="));
    assert_false(websocket_asked("websocket", "upgrade", "13", NULL));
}

static void addresses_are_numbers(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    socklen_t len = 0;
    char text[64];
    static const struct {
        const char *text;
        bool loopback;
    } good[] = {
        {"127.0.0.1:80", true}, {"127.9.9.9:1", true}, {"0.0.0.0:0", false}, {"[::1]:8787", true}, {"[::]:1", false}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(address_parse(good[i].text, &address, &len), 0);
        address_format((struct sockaddr *)&address, text, sizeof text);
        assert_string_equal(text, good[i].text);
        assert_int_equal(address_is_loopback((struct sockaddr *)&address), good[i].loopback);
    }
    assert_int_equal(address_parse("[::ffff:127.0.0.1]:1", &address, &len), 0);
    assert_true(address_is_loopback((struct sockaddr *)&address));
    static const char *const bad[] = {
        "", ":1", "1", "127.0.0.1", "::1:80", "[127.0.0.1]:1", "example.org:80", "[::1]:65536", "127.0.0.1:-1", "[]:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(address_parse(bad[i], &address, &len) < 0);
}

static void codes_have_statuses(void **state)
{
    (void)state;
    assert_int_equal(status_of_code("vm_not_found"), 404);
    assert_int_equal(status_of_code("vm_busy"), 409);
    assert_int_equal(status_of_code("launcher_unavailable"), 503);
    assert_int_equal(status_of_code("too_many_vms"), 429);
    assert_int_equal(status_of_code("something_new"), 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_whole_paths), cmocka_unit_test(paths_are_of_plain_names),
        cmocka_unit_test(queries_are_read),           cmocka_unit_test(keys_are_compared_whole),
        cmocka_unit_test(base64_is_strict),           cmocka_unit_test(the_handshake_is_that_of_the_rfc),
        cmocka_unit_test(addresses_are_numbers),      cmocka_unit_test(codes_have_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
