/* Shared by the C peers: bound sockets, growing buffers, and the members of the fan-out. Nothing that needs the libraries. */

#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE /* memrchr */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, BACKLOG = 4096, LINE_BYTES_MAX = 64 * 1024 };

/* A member of the fan-out that does not read is dropped when it has this much unsent output. */
static const size_t OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static bool is_fanout(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "echo") == 0) return false;
    if (argc == 3 && strcmp(argv[1], "fanout") == 0) return true;
    fprintf(stderr, "usage: %s echo|fanout HOST:PORT|PATH\n", argv[0]);
    exit(1);
}

static bool is_unix(const char *address) { return strchr(address, '/') != NULL; }

static int bound_unix(const char *path) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat found;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (strlen(path) >= sizeof name.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(name.sun_path, path);
    /* A stale path. */
    if (lstat(path, &found) == 0 && S_ISSOCK(found.st_mode)) unlink(path);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0) fail(path);
    return fd;
}

/* TCP_NODELAY is set once: on Linux, accepted sockets have it from their listener. */
static int bound_tcp(const char *address) {
    char host[INET_ADDRSTRLEN] = "";
    struct sockaddr_in name = {.sin_family = AF_INET};
    const char *colon = strrchr(address, ':');
    int on = 1;
    if (colon != NULL && (size_t)(colon - address) < sizeof host) memcpy(host, address, (size_t)(colon - address));
    if (colon == NULL || inet_pton(AF_INET, host, &name.sin_addr) != 1) {
        errno = EINVAL;
        fail(address);
    }
    name.sin_port = htons((unsigned short)atoi(colon + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) fail("SO_REUSEADDR");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) fail("TCP_NODELAY");
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0) fail(address);
    return fd;
}

static int bound(const char *address) { return is_unix(address) ? bound_unix(address) : bound_tcp(address); }

static void announce(const char *address, int fd) {
    if (is_unix(address)) {
        printf("listening on %s\n", address);
    } else {
        char host[INET_ADDRSTRLEN];
        struct sockaddr_in name;
        socklen_t bytes = sizeof name;
        if (getsockname(fd, (struct sockaddr *)&name, &bytes) < 0) fail("getsockname");
        inet_ntop(AF_INET, &name.sin_addr, host, sizeof host);
        printf("listening on %s:%d\n", host, ntohs(name.sin_port));
    }
    fflush(stdout);
}

struct buffer {
    char *bytes;
    size_t used, capacity;
};

static void append(struct buffer *buffer, const char *bytes, size_t count) {
    if (buffer->capacity - buffer->used < count) {
        size_t capacity = buffer->capacity ? buffer->capacity : 512;
        while (capacity - buffer->used < count) capacity *= 2;
        buffer->bytes = realloc(buffer->bytes, capacity);
        if (buffer->bytes == NULL) fail("realloc");
        buffer->capacity = capacity;
    }
    memcpy(buffer->bytes + buffer->used, bytes, count);
    buffer->used += count;
}

static void release(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}

/* The state of a connection; the first field of each peer's own record. */
struct client_base {
    struct buffer waiting; /* Output that the kernel has not taken. */
    struct buffer begun; /* Fan-out: a line whose end has not come. */
    size_t index; /* Fan-out: where it stands among the members. */
    bool ended; /* Fan-out: nothing is read any more, and it leaves once what was gathered is sent. */
};

/* Fan-out: a member, and its pending output. An array, since each line goes through all of them. */
struct member {
    struct buffer gathered;
    struct client_base *client;
};

static struct member *members;
static size_t member_count, member_capacity;
static bool any_gathered; /* In this pass. */

static void join(struct client_base *client) {
    if (member_count == member_capacity) {
        member_capacity = member_capacity ? 2 * member_capacity : 64;
        members = realloc(members, member_capacity * sizeof *members);
        if (members == NULL) fail("realloc");
    }
    client->index = member_count;
    members[member_count++] = (struct member){.client = client};
}

/* The last one takes its place, so loops that may remove members start at the end. */
static void part(struct client_base *client) {
    release(&members[client->index].gathered);
    members[client->index] = members[--member_count];
    members[client->index].client->index = client->index;
}

/* Sends complete lines to everybody; returns false if one is too long. */
static bool gather(struct client_base *from, const char *bytes, size_t count) {
    const char *last = memrchr(bytes, '\n', count);
    size_t whole = last == NULL ? 0 : (size_t)(last - bytes) + 1;
    if (whole > 0) {
        for (size_t n = 0; n < member_count; n++) {
            if (members[n].client->ended) continue;
            if (from->begun.used > 0) append(&members[n].gathered, from->begun.bytes, from->begun.used);
            append(&members[n].gathered, bytes, whole);
        }
        any_gathered = true;
        from->begun.used = 0;
    }
    if (whole < count) append(&from->begun, bytes + whole, count - whole);
    return from->begun.used <= LINE_BYTES_MAX;
}

static bool has_gathered(const struct client_base *client) { return members[client->index].gathered.used > 0; }

static void release_all(struct client_base *client) {
    release(&client->waiting);
    release(&client->begun);
}

#endif
