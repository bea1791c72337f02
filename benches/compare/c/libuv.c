/* Echo and fan-out on libuv: `libuv echo|fanout HOST:PORT|PATH`.
 *
 * How it is written:
 * - One buffer of 64 KiB is lent to every read; libuv itself does not read again after a short one.
 * - `uv_try_write` first: what the kernel takes at once needs no request and no copy. Only the rest goes by `uv_write`,
 *   from the connection's own memory.
 * - While output waits, the connection is not read (`uv_read_stop`). So an echo holds one read's bytes at most.
* - Fan-out: the lines of one pass of the loop are appended to each receiver's buffer, as if not
 *   everybody got the same lines; a `uv_check` handle, which runs right after the polling, sends each buffer in one piece. A
 *   member with 16 MiB of unsent output is dropped.
 * - An end of stream is only seen while no output waits: the echo has sent everything by then, and closing is enough.
 */

#include "common.h"

#include <uv.h>

struct client {
    struct client_base base;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    uv_write_t request; /* Of what waits. */
};

static uv_loop_t loop;
static bool fanout, unix_streams;
static char input[READ_BYTES];

static void read_on(struct client *client);

static void closed(uv_handle_t *handle) {
    struct client *client = handle->data;
    release_all(&client->base);
    free(client);
}

static void leave(struct client *client) {
    if (uv_is_closing(&client->handle)) return;
    if (fanout) part(&client->base);
    uv_close(&client->handle, closed);
}

static void written(uv_write_t *request, int status) {
    struct client *client = request->data;
    release(&client->base.waiting);
    if (status < 0 || client->base.ended) {
        leave(client);
    } else if (!uv_is_closing(&client->handle)) {
        any_gathered = true;
        read_on(client);
    }
}

/* Sends all of it, now or when there is room; must not be called while output waits. */
static void send_all(struct client *client, char *bytes, size_t count) {
    uv_buf_t piece = uv_buf_init(bytes, (unsigned)count);
    int sent = uv_try_write(&client->stream, &piece, 1);
    if (sent == UV_EAGAIN) sent = 0;
    if (sent < 0) {
        leave(client);
    } else if ((size_t)sent < count) {
        append(&client->base.waiting, bytes + sent, count - (size_t)sent);
        uv_read_stop(&client->stream);
        piece = uv_buf_init(client->base.waiting.bytes, (unsigned)client->base.waiting.used);
        client->request.data = client;
        if (uv_write(&client->request, &client->stream, &piece, 1, written) < 0) leave(client);
    } else if (client->base.ended) {
        leave(client);
    }
}

static void send_gathered(uv_check_t *check) {
    (void)check;
    if (!any_gathered) return;
    any_gathered = false;
    for (size_t n = member_count; n-- > 0;) {
        struct buffer *gathered = &members[n].gathered;
        struct client *client = (struct client *)members[n].client;
        if (client->base.waiting.used > 0) {
            if (gathered->used > OUTPUT_BYTES_MAX) leave(client);
        } else if (gathered->used > 0) {
            size_t count = gathered->used;
            gathered->used = 0;
            send_all(client, gathered->bytes, count);
        }
    }
}

static void lend(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(input, sizeof input);
}

static void received(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct client *client = stream->data;
    if (count == UV_EOF && fanout && has_gathered(&client->base)) {
        client->base.ended = true;
        uv_read_stop(stream);
    } else if (count < 0) {
        leave(client);
    } else if (count > 0 && !fanout) {
        send_all(client, buffer->base, (size_t)count);
    } else if (count > 0) {
        if (!gather(&client->base, buffer->base, (size_t)count)) leave(client);
    }
}

static void read_on(struct client *client) {
    if (uv_read_start(&client->stream, lend, received) < 0) leave(client);
}

static void accepted(uv_stream_t *listener, int status) {
    if (status < 0) return;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) return;
    if (unix_streams) {
        uv_pipe_init(&loop, &client->pipe, 0);
    } else {
        uv_tcp_init(&loop, &client->tcp);
    }
    client->handle.data = client;
    if (fanout) join(&client->base);
    if (uv_accept(listener, &client->stream) < 0) {
        leave(client);
    } else {
        read_on(client);
    }
}

int main(int argc, char **argv) {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listener;
    uv_check_t check;
    fanout = is_fanout(argc, argv);
    unix_streams = is_unix(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    int fd = bound(argv[2]);
    uv_loop_init(&loop);
    if (unix_streams) {
        uv_pipe_init(&loop, &listener.pipe, 0);
        uv_pipe_open(&listener.pipe, fd);
    } else {
        uv_tcp_init(&loop, &listener.tcp);
        uv_tcp_open(&listener.tcp, fd);
    }
    if (uv_listen(&listener.stream, BACKLOG, accepted) < 0) fail("listen");
    if (fanout) {
        uv_check_init(&loop, &check);
        uv_check_start(&check, send_gathered);
    }
    announce(argv[2], fd);
    return uv_run(&loop, UV_RUN_DEFAULT);
}
