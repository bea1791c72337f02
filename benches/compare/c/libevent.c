/* Echo and fan-out on libevent: `libevent echo|fanout HOST:PORT|PATH`.
 *
 * How it is written:
 * - Raw events, not bufferevents. A bufferevent copies input and output through its evbuffers and waits for the socket
 *   to be writable before each write: three more system calls a message (two changes of registration, one poll). What it
 *   would have given, the flow control, is a page here.
 * - One event a connection, registered once, persistent and level-triggered: no second read after a short one.
 * - One buffer of 64 KiB for every read; what is read is sent at once, from there. Only what the kernel does not take
 *   is copied. While it waits, the same event watches for room instead of input, so an echo holds one read's bytes.
* - Fan-out: the lines of one pass of the loop are appended to each receiver's buffer, as if not
 *   everybody got the same lines, and each buffer is sent in one piece when `event_base_loop` comes back from that pass. A
 *   member with 16 MiB of unsent output is dropped.
 * - An end of stream is only seen while no output waits: the echo has sent everything by then, and closing is enough.
 * - No locks: there is one thread.
 */

#include "common.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/listener.h>

struct client {
    struct client_base base;
    size_t sent; /* Of what waits. */
    struct event event; /* For room while something waits, else for input. */
    int fd;
};

static struct event_base *base;
static bool fanout;
static char input[READ_BYTES];

static void readable(int fd, short what, void *argument);
static void writable(int fd, short what, void *argument);

static void leave(struct client *client) {
    if (fanout) part(&client->base);
    event_del(&client->event);
    close(client->fd);
    release_all(&client->base);
    free(client);
}

static void watch(struct client *client, short what, event_callback_fn callback) {
    event_assign(&client->event, base, client->fd, what | EV_PERSIST, callback, client);
    if (event_add(&client->event, NULL) < 0) leave(client);
}

/* Returns how much the kernel took, or -1 if the connection is gone. */
static ssize_t send_some(struct client *client, const char *bytes, size_t count) {
    ssize_t sent = send(client->fd, bytes, count, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (sent < 0) leave(client);
    return sent;
}

/* Sends all of it, now or when there is room; must not be called while output waits. */
static void send_all(struct client *client, const char *bytes, size_t count) {
    ssize_t sent = send_some(client, bytes, count);
    if (sent < 0) return;
    if ((size_t)sent == count) {
        if (client->base.ended) leave(client);
        return;
    }
    append(&client->base.waiting, bytes + sent, count - (size_t)sent);
    event_del(&client->event);
    watch(client, EV_WRITE, writable);
}

static void writable(int fd, short what, void *argument) {
    struct client *client = argument;
    (void)fd, (void)what;
    const struct buffer *waiting = &client->base.waiting;
    ssize_t sent = send_some(client, waiting->bytes + client->sent, waiting->used - client->sent);
    if (sent < 0) return;
    client->sent += (size_t)sent;
    if (client->sent < waiting->used) return;
    if (client->base.ended) {
        leave(client);
        return;
    }
    release(&client->base.waiting);
    client->sent = 0;
    any_gathered = true;
    event_del(&client->event);
    watch(client, EV_READ, readable);
}

static void send_gathered(void) {
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

static void readable(int fd, short what, void *argument) {
    struct client *client = argument;
    (void)what;
    ssize_t count = recv(fd, input, sizeof input, 0);
    if (count > 0 && fanout) {
        if (!gather(&client->base, input, (size_t)count)) leave(client);
    } else if (count > 0) {
        send_all(client, input, (size_t)count);
    } else if (count == 0 && fanout && has_gathered(&client->base)) {
        client->base.ended = true;
        event_del(&client->event);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        leave(client);
    }
}

static void accepted(struct evconnlistener *listener, int fd, struct sockaddr *peer, int bytes, void *argument) {
    (void)listener, (void)peer, (void)bytes, (void)argument;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        close(fd);
        return;
    }
    client->fd = fd;
    if (fanout) join(&client->base);
    watch(client, EV_READ, readable);
}

int main(int argc, char **argv) {
    fanout = is_fanout(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    struct event_config *config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    base = event_base_new_with_config(config);
    int fd = bound(argv[2]);
    if (evconnlistener_new(base, accepted, NULL, LEV_OPT_CLOSE_ON_EXEC, BACKLOG, fd) == NULL) fail("listen");
    announce(argv[2], fd);
    /* A pass is one poll and the callbacks for its events. */
    while (event_base_loop(base, EVLOOP_ONCE) == 0) {
        if (any_gathered) send_gathered();
    }
    return 1;
}
