/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames, every message, and tree entries from hostile bytes. What decodes must
 * encode to the same bytes: no two payloads mean one message.
 */
#include <errno.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/message.h"
#include "wire/tree.h"

static void expect_same(const struct era_frame *frame, struct era_buffer *again)
{
    FUZZ_ASSERT(era_buffer_len(again) == frame->len);
    FUZZ_ASSERT(frame->len == 0 || memcmp(era_buffer_data(again), frame->payload, frame->len) == 0);
    era_buffer_clear(again);
}

static void try_run(const struct era_frame *frame)
{
    struct era_run_request request;
    struct era_buffer again = {0};
    if (era_run_request_decode(frame, &request) < 0)
        return;
    FUZZ_ASSERT(request.argv.count >= 1 && request.workdir[0] == '/' && era_run_id_valid(request.id));
    FUZZ_ASSERT(era_run_request_encode(&again, &request) == 0);
    expect_same(frame, &again);
    era_run_request_clear(&request);
}

static void try_others(const struct era_frame *frame)
{
    struct era_buffer again = {0};
    struct era_launch launch;
    struct era_launched launched;
    struct era_run_ended ended;
    struct era_run_outcome outcome;
    struct era_error error;
    struct era_window window;
    char run_id[ERA_RUN_ID_MAX];
    if (era_go_decode(frame, run_id) >= 0)
        FUZZ_ASSERT(era_run_id_valid(run_id));
    if (era_launch_decode(frame, &launch) >= 0) {
        if (era_launch_encode(&again, &launch) == 0)
            expect_same(frame, &again);
        era_launch_clear(&launch);
    }
    if (era_launched_decode(frame, &launched) >= 0 && era_launched_encode(&again, &launched) == 0)
        expect_same(frame, &again);
    if (era_run_ended_decode(frame, &ended) >= 0 && era_run_ended_encode(&again, &ended) == 0)
        expect_same(frame, &again);
    if (era_outcome_decode(frame, &outcome) >= 0 && era_outcome_encode(&again, &outcome) == 0)
        expect_same(frame, &again);
    if (era_error_decode(frame, &error) >= 0 && era_error_encode(&again, &error) == 0)
        expect_same(frame, &again);
    struct era_identity identity;
    if (era_identity_decode(frame, &identity) >= 0) {
        if (era_identity_encode(&again, &identity) == 0)
            expect_same(frame, &again);
        era_identity_clear(&identity);
    }
    if (era_window_decode(frame, &window) >= 0)
        FUZZ_ASSERT(window.channel <= 2 && window.bytes <= ERA_WINDOW_INITIAL);
}

static void try_tree(const uint8_t *data, size_t size)
{
    struct era_tree_entry entry;
    uint8_t again[ERA_TREE_ENTRY_MAX];
    ssize_t taken = era_tree_decode(data, size, &entry);
    if (taken <= 0)
        return;
    FUZZ_ASSERT(entry.name[0] != '/' && strstr(entry.name, "//") == NULL && !era_str_starts_with(entry.name, "../"));
    FUZZ_ASSERT(era_tree_encode(&entry, again) == taken && memcmp(again, data, (size_t)taken) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct era_frame frame;
    try_tree(data, size);
    for (size_t at = 0; at < size;) {
        ssize_t taken = era_frame_decode(data + at, size - at, &frame);
        if (taken <= 0)
            break;
        try_run(&frame);
        try_others(&frame);
        at += (size_t)taken;
    }
    return 0;
}
