/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/message.h"

#include <errno.h>
#include <string.h>

#include "wire/field.h"

static int writer_result(const struct era_writer *w)
{
    return w->failed ? -ENOMEM : 0;
}

/* An enumeration on the wire: a u8 below `count`. */
static unsigned read_enum(struct era_reader *r, unsigned count)
{
    unsigned value = era_read_u8(r);
    if (value >= count)
        r->failed = true;
    return r->failed ? 0 : value;
}

static void read_text(struct era_reader *r, char *to, size_t size)
{
    era_str_copy(to, size, era_read_str(r, size));
}

int era_launch_encode(struct era_buffer *to, const struct era_launch *launch)
{
    struct era_writer w = {.to = to};
    era_write_str(&w, launch->id);
    era_write_u8(&w, (uint8_t)launch->launcher);
    era_write_u8(&w, (uint8_t)launch->network);
    era_write_u8(&w, (uint8_t)launch->volume_kind);
    era_write_u32(&w, launch->cpu_count);
    era_write_u32(&w, launch->mem_mib);
    era_write_u32(&w, launch->disk_mib);
    era_write_u32(&w, launch->pids);
    era_write_u32(&w, launch->uid_slot);
    era_write_u8(&w, launch->best_effort);
    era_write_str(&w, launch->image_path);
    era_write_str(&w, launch->volume_path);
    era_write_str(&w, launch->image_file);
    era_write_str(&w, launch->image_digest);
    era_write_str(&w, launch->kernel_path);
    era_write_str(&w, launch->templates_path);
    era_write_u32(&w, launch->template_budget_mib);
    era_write_str(&w, launch->snapshot_path);
    era_write_strv(&w, &launch->env);
    return writer_result(&w);
}

int era_launch_decode(const struct era_frame *frame, struct era_launch *ret_launch)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_launch launch = {0};
    read_text(&r, launch.id, sizeof launch.id);
    launch.launcher = (enum era_launcher_kind)read_enum(&r, ERA_LAUNCHER_MICROVM + 1);
    launch.network = (enum era_network)read_enum(&r, ERA_NETWORK_ALLOW_ALL + 1);
    launch.volume_kind = (enum era_volume_kind)read_enum(&r, ERA_VOLUME_FOLDER + 1);
    launch.cpu_count = era_read_u32(&r);
    launch.mem_mib = era_read_u32(&r);
    launch.disk_mib = era_read_u32(&r);
    launch.pids = era_read_u32(&r);
    launch.uid_slot = era_read_u32(&r);
    launch.best_effort = read_enum(&r, 2) != 0;
    read_text(&r, launch.image_path, sizeof launch.image_path);
    read_text(&r, launch.volume_path, sizeof launch.volume_path);
    read_text(&r, launch.image_file, sizeof launch.image_file);
    read_text(&r, launch.image_digest, sizeof launch.image_digest);
    read_text(&r, launch.kernel_path, sizeof launch.kernel_path);
    read_text(&r, launch.templates_path, sizeof launch.templates_path);
    launch.template_budget_mib = era_read_u32(&r);
    read_text(&r, launch.snapshot_path, sizeof launch.snapshot_path);
    int result = era_read_strv(&r, 2 * ERA_ENV_MAX, &launch.env); /* the image's and the caller's */
    if (result >= 0)
        result = era_reader_finish(&r);
    if (result >= 0 && !era_vm_id_valid(launch.id))
        result = -EBADMSG;
    if (result < 0) {
        era_launch_clear(&launch);
        return result;
    }
    *ret_launch = launch;
    return 0;
}

void era_launch_clear(struct era_launch *launch)
{
    era_strv_clear(&launch->env);
}

int era_launched_encode(struct era_buffer *to, const struct era_launched *launched)
{
    struct era_writer w = {.to = to};
    era_write_u8(&w, (uint8_t)launched->launcher);
    era_write_str(&w, launched->unenforced);
    return writer_result(&w);
}

int era_launched_decode(const struct era_frame *frame, struct era_launched *ret_launched)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_launched launched = {.launcher = (enum era_launcher_kind)read_enum(&r, ERA_LAUNCHER_MICROVM + 1)};
    read_text(&r, launched.unenforced, sizeof launched.unenforced);
    if (era_reader_finish(&r) < 0)
        return -EBADMSG;
    *ret_launched = launched;
    return 0;
}

int era_run_request_encode(struct era_buffer *to, const struct era_run_request *request)
{
    struct era_writer w = {.to = to};
    era_write_str(&w, request->id);
    era_write_u8(&w, (uint8_t)request->kind);
    era_write_u32(&w, request->flags);
    era_write_u32(&w, request->timeout_ms);
    era_write_u64(&w, request->output_cap);
    era_write_u16(&w, request->cols);
    era_write_u16(&w, request->rows);
    era_write_str(&w, request->workdir);
    era_write_strv(&w, &request->argv);
    era_write_strv(&w, &request->env);
    return writer_result(&w);
}

static bool run_request_valid(const struct era_run_request *request)
{
    return era_run_id_valid(request->id) && (request->flags & ~(uint32_t)ERA_RUN_FLAGS_ALL) == 0 &&
           request->timeout_ms <= ERA_TIMEOUT_MS_MAX && request->output_cap <= ERA_OUTPUT_CAP_MAX &&
           request->argv.count >= 1 && request->workdir[0] == '/';
}

int era_run_request_decode(const struct era_frame *frame, struct era_run_request *ret_request)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_run_request request = {0};
    read_text(&r, request.id, sizeof request.id);
    request.kind = (enum era_run_kind)read_enum(&r, ERA_RUN_REMOVE + 1);
    request.flags = era_read_u32(&r);
    request.timeout_ms = era_read_u32(&r);
    request.output_cap = era_read_u64(&r);
    request.cols = era_read_u16(&r);
    request.rows = era_read_u16(&r);
    read_text(&r, request.workdir, sizeof request.workdir);
    int result = era_read_strv(&r, ERA_ARGV_MAX, &request.argv);
    if (result >= 0)
        result = era_read_strv(&r, 3 * ERA_ENV_MAX, &request.env);
    if (result >= 0)
        result = era_reader_finish(&r);
    if (result >= 0 && !run_request_valid(&request))
        result = -EBADMSG;
    if (result < 0) {
        era_run_request_clear(&request);
        return result;
    }
    *ret_request = request;
    return 0;
}

void era_run_request_clear(struct era_run_request *request)
{
    era_strv_clear(&request->argv);
    era_strv_clear(&request->env);
}

int era_go_append(struct era_buffer *to, const char *run_id)
{
    struct era_buffer payload = {0};
    struct era_writer w = {.to = &payload};
    era_write_str(&w, run_id);
    int r = writer_result(&w);
    if (r >= 0)
        r = era_frame_append(to, ERA_FRAME_GO, 0, era_buffer_data(&payload), (uint32_t)era_buffer_len(&payload));
    era_buffer_clear(&payload);
    return r;
}

int era_go_decode(const struct era_frame *frame, char ret_run_id[ERA_RUN_ID_MAX])
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    char id[ERA_RUN_ID_MAX] = "";
    read_text(&r, id, sizeof id);
    if (era_reader_finish(&r) < 0 || !era_run_id_valid(id))
        return -EBADMSG;
    era_str_copy(ret_run_id, ERA_RUN_ID_MAX, id);
    return 0;
}

int era_run_ended_encode(struct era_buffer *to, const struct era_run_ended *ended)
{
    struct era_writer w = {.to = to};
    era_write_u32(&w, (uint32_t)ended->wait_status);
    era_write_u64(&w, ended->cpu_us);
    era_write_u64(&w, ended->peak_mem_kib);
    era_write_u64(&w, ended->oom_kills);
    era_write_u32(&w, (uint32_t)ended->errnum);
    era_write_str(&w, ended->message);
    return writer_result(&w);
}

int era_run_ended_decode(const struct era_frame *frame, struct era_run_ended *ret_ended)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_run_ended ended = {.wait_status = (int32_t)era_read_u32(&r)};
    ended.cpu_us = era_read_u64(&r);
    ended.peak_mem_kib = era_read_u64(&r);
    ended.oom_kills = era_read_u64(&r);
    ended.errnum = (int32_t)era_read_u32(&r);
    read_text(&r, ended.message, sizeof ended.message);
    if (era_reader_finish(&r) < 0 || ended.errnum < 0 || ended.errnum > 4095 || ended.wait_status < 0 ||
        ended.wait_status > 0xFFFF || ended.cpu_us > INT64_MAX || ended.peak_mem_kib > INT64_MAX)
        return -EBADMSG;
    *ret_ended = ended;
    return 0;
}

int era_outcome_encode(struct era_buffer *to, const struct era_run_outcome *outcome)
{
    struct era_writer w = {.to = to};
    era_write_u8(&w, (uint8_t)outcome->verdict);
    era_write_u8(&w, (uint8_t)outcome->exit_code);
    era_write_u64(&w, outcome->wall_us);
    era_write_u64(&w, outcome->cpu_us);
    era_write_u64(&w, outcome->peak_mem_kib);
    era_write_u64(&w, outcome->dropped[0]);
    era_write_u64(&w, outcome->dropped[1]);
    return writer_result(&w);
}

int era_outcome_decode(const struct era_frame *frame, struct era_run_outcome *ret_outcome)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_run_outcome outcome = {.verdict = (enum era_verdict)read_enum(&r, ERA_VERDICT_VM_LOST + 1)};
    outcome.exit_code = era_read_u8(&r);
    outcome.wall_us = era_read_u64(&r);
    outcome.cpu_us = era_read_u64(&r);
    outcome.peak_mem_kib = era_read_u64(&r);
    outcome.dropped[0] = era_read_u64(&r);
    outcome.dropped[1] = era_read_u64(&r);
    if (era_reader_finish(&r) < 0 || outcome.verdict == ERA_VERDICT_NONE)
        return -EBADMSG;
    *ret_outcome = outcome;
    return 0;
}

int era_error_encode(struct era_buffer *to, const struct era_error *err)
{
    struct era_writer w = {.to = to};
    era_write_u32(&w, (uint32_t)err->errnum);
    era_write_str(&w, err->code);
    era_write_str(&w, err->field);
    era_write_str(&w, err->message);
    return writer_result(&w);
}

int era_error_decode(const struct era_frame *frame, struct era_error *ret_err)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_error err = {.errnum = (int)era_read_u32(&r)};
    read_text(&r, err.code, sizeof err.code);
    read_text(&r, err.field, sizeof err.field);
    read_text(&r, err.message, sizeof err.message);
    if (era_reader_finish(&r) < 0 || err.errnum <= 0 || err.errnum > 4095)
        return -EBADMSG;
    *ret_err = err;
    return 0;
}

int era_window_decode(const struct era_frame *frame, struct era_window *ret_window)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    struct era_window window = {.channel = (uint8_t)read_enum(&r, 3)};
    window.bytes = era_read_u32(&r);
    if (era_reader_finish(&r) < 0 || window.bytes == 0 || window.bytes > ERA_WINDOW_INITIAL)
        return -EBADMSG;
    *ret_window = window;
    return 0;
}

int era_resize_decode(const struct era_frame *frame, uint16_t *ret_cols, uint16_t *ret_rows)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    uint16_t cols = era_read_u16(&r);
    uint16_t rows = era_read_u16(&r);
    if (era_reader_finish(&r) < 0)
        return -EBADMSG;
    *ret_cols = cols;
    *ret_rows = rows;
    return 0;
}

int era_u32_decode(const struct era_frame *frame, uint32_t *ret_value)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    uint32_t value = era_read_u32(&r);
    if (era_reader_finish(&r) < 0)
        return -EBADMSG;
    *ret_value = value;
    return 0;
}

static int encode_window(struct era_buffer *to, const struct era_window *window)
{
    struct era_writer w = {.to = to};
    era_write_u8(&w, window->channel);
    era_write_u32(&w, window->bytes);
    return writer_result(&w);
}

int era_window_append(struct era_buffer *to, uint32_t stream, uint8_t channel, uint32_t bytes)
{
    const struct era_window window = {.channel = channel, .bytes = bytes};
    return era_message_append(to, ERA_FRAME_WINDOW, stream, encode_window, &window);
}

int era_resize_append(struct era_buffer *to, uint32_t stream, uint16_t cols, uint16_t rows)
{
    const uint8_t payload[4] = {(uint8_t)cols, (uint8_t)(cols >> 8), (uint8_t)rows, (uint8_t)(rows >> 8)};
    return era_frame_append(to, ERA_FRAME_RESIZE, stream, payload, sizeof payload);
}

int era_u32_append(struct era_buffer *to, enum era_frame_type type, uint32_t stream, uint32_t value)
{
    const uint8_t payload[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    return era_frame_append(to, type, stream, payload, sizeof payload);
}

int era_go_on_append(struct era_buffer *to, int64_t realtime_ns)
{
    struct era_buffer payload = {0};
    struct era_writer w = {.to = &payload};
    era_write_u64(&w, (uint64_t)realtime_ns);
    int r = writer_result(&w);
    if (r >= 0)
        r = era_frame_append(to, ERA_FRAME_GO_ON, 0, era_buffer_data(&payload), era_buffer_len(&payload));
    era_buffer_clear(&payload);
    return r;
}

int era_go_on_decode(const struct era_frame *frame, int64_t *ret_realtime_ns)
{
    struct era_reader r = era_reader(frame->payload, frame->len);
    uint64_t value = era_read_u64(&r);
    int result = era_reader_finish(&r);
    if (result >= 0 && value > INT64_MAX)
        result = -EBADMSG;
    if (result >= 0)
        *ret_realtime_ns = (int64_t)value;
    return result;
}
