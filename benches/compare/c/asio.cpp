/* Echo and fan-out on Asio, without Boost: `asio echo|fanout HOST:PORT|PATH`.
 *
 * How it is written:
 * - Callbacks. A coroutine of C++20 for each connection takes 1,064 instructions a message where these take 740, and 1.09
 *   of the CPU time, with 50 clients.
 * - ASIO_DISABLE_THREADS: no lock, and no atomic operation for each handler, since there is one thread.
 * - `async_read_some`, which reads at once, in vain after a short read, and then waits. `async_wait` before a read would
 *   call `epoll_ctl` instead.
 * - What is read is sent at once by `write_some`, which needs no handler; only what the kernel does not take goes by
 *   `async_write`, from the read buffer. Meanwhile nothing is read: memory is bounded by the size of one read.
 * - A buffer for each connection, since Asio may read before the handler runs: of 4 KiB until that was filled once, then of
 *   64 KiB.
 * - Fan-out: lines are appended to each receiver's buffer, as if not everybody got the same lines, and each buffer is sent
 *   in one piece when the handlers of all that are ready have run, up to 1,024. From a posted handler, which runs when
 *   Asio has handled the 128 events that it takes at once, 1,000 members would cost twice as much. A member with 16 MiB
 *   of unsent output is dropped.
 * - Generic over the kind of stream, so that no message pays for the distinction.
 */

#define ASIO_STANDALONE
#define ASIO_NO_DEPRECATED
#define ASIO_DISABLE_THREADS

#include <asio.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

using asio::error_code;

static constexpr std::size_t READ_BYTES_FIRST = 4 * 1024, READ_BYTES = 64 * 1024;
static constexpr std::size_t LINE_BYTES_MAX = 64 * 1024, OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
static constexpr int BACKLOG = 4096, HANDLERS_MAX = 1024;

template <class Protocol> class Server;

template <class Protocol> class Client {
public:
    using Socket = typename Protocol::socket;

    Client(Server<Protocol> &server, Socket &&socket) : server(server), socket(std::move(socket)), input(READ_BYTES_FIRST) {
        error_code error;
        this->socket.non_blocking(true, error);
    }

    void read() {
        operations++;
        socket.async_read_some(asio::buffer(input), [this](error_code error, std::size_t count) {
            operations--;
            if (gone || (error && error != asio::error::eof)) return leave();
            if (error) return end();
            if (!server.fanout) return echo(count);
            gather(count);
        });
    }

    /* Fan-out: appends what is to be sent to this member at the end of the pass. */
    void append(const char *bytes, std::size_t count) {
        if (!ended) gathered.insert(gathered.end(), bytes, bytes + count);
    }

    /* Fan-out: sends what was gathered, unless output waits. */
    void send_gathered() {
        if (!output.empty()) {
            if (gathered.size() > OUTPUT_BYTES_MAX) leave();
            return;
        }
        if (gathered.empty()) return;
        std::swap(output, gathered);
        send(output.data(), output.size(), [this] {
            release(output);
            if (!gathered.empty()) {
                server.gathered();
            } else if (ended) {
                leave();
            }
        });
    }

    std::size_t index = 0; /* Fan-out: where it stands among the members. */

private:
    /* Calls `sent` when the kernel has taken all: at once, or later. */
    template <class Sent> void send(const char *bytes, std::size_t count, Sent sent) {
        error_code error;
        std::size_t taken = socket.write_some(asio::buffer(bytes, count), error);
        if (error && error != asio::error::would_block) return leave();
        if (taken == count) return sent();
        operations++;
        asio::async_write(socket, asio::buffer(bytes + taken, count - taken), [this, sent](error_code error, std::size_t) {
            operations--;
            if (gone || error) return leave();
            sent();
        });
    }

    void echo(std::size_t count) {
        send(input.data(), count, [this, count] {
            widen(count);
            read();
        });
    }

    void widen(std::size_t count) {
        if (count == input.size() && count < READ_BYTES) std::vector<char>(READ_BYTES).swap(input);
    }

    void gather(std::size_t count) {
        const void *last = memrchr(input.data(), '\n', count);
        std::size_t whole = last == nullptr ? 0 : static_cast<const char *>(last) - input.data() + 1;
        if (whole > 0) {
            begun.insert(begun.end(), input.data(), input.data() + whole);
            server.say(begun);
            begun.clear();
        }
        begun.insert(begun.end(), input.data() + whole, input.data() + count);
        if (begun.size() > LINE_BYTES_MAX) return leave();
        widen(count);
        read();
    }

    /* The peer has ended its stream. An echo has sent everything by then. */
    void end() {
        ended = true;
        if (output.empty() && gathered.empty()) leave();
    }

    /* Closes the socket; the last of the operations, which that aborts, deletes the client. */
    void leave() {
        if (!gone) {
            gone = true;
            error_code error;
            socket.close(error);
            server.part(*this);
        }
        if (operations == 0) delete this;
    }

    /* A large buffer is not kept. */
    static void release(std::vector<char> &buffer) {
        buffer.clear();
        if (buffer.capacity() > 4 * READ_BYTES) buffer.shrink_to_fit();
    }

    Server<Protocol> &server;
    Socket socket;
    std::vector<char> input, begun, gathered, output;
    int operations = 0;
    bool ended = false, gone = false;
};

template <class Protocol> class Server {
public:
    using Member = Client<Protocol>;

    Server(asio::io_context &context, const typename Protocol::endpoint &address, bool fanout)
        : fanout(fanout), context(context), acceptor(context, address.protocol()) {
        acceptor.set_option(asio::socket_base::reuse_address(true));
        /* On Linux, accepted sockets have it from their listener. */
        if constexpr (std::is_same_v<Protocol, asio::ip::tcp>) acceptor.set_option(asio::ip::tcp::no_delay(true));
        acceptor.bind(address);
        acceptor.listen(BACKLOG);
        std::cout << "listening on " << acceptor.local_endpoint() << std::endl;
        accept();
    }

    void say(const std::vector<char> &lines) {
        for (Member *member : members) member->append(lines.data(), lines.size());
        gathered();
    }

    /* Everybody will be sent what was gathered, at the end of this pass. */
    void gathered() { any_gathered = true; }

    /* A pass is the handlers of what is ready: Asio itself takes up to 128 events from the kernel. */
    void run() {
        if (!fanout) context.run();
        while (context.run_one() > 0) {
            for (int n = 1; n < HANDLERS_MAX && context.poll_one() > 0; n++) {}
            if (std::exchange(any_gathered, false)) send_gathered();
        }
    }

    void part(Member &member) {
        if (fanout) {
            members[member.index] = members.back();
            members[member.index]->index = member.index;
            members.pop_back();
        }
        if (std::exchange(is_full, false)) accept();
    }

    const bool fanout;

private:
    void accept() {
        acceptor.async_accept([this](error_code error, typename Protocol::socket socket) {
            if (error == asio::error::no_descriptors) {
                /* The next connection that closes makes room. */
                is_full = true;
                return;
            }
            if (!error) serve(std::move(socket));
            accept();
        });
    }

    void serve(typename Protocol::socket socket) {
        auto *client = new Member(*this, std::move(socket));
        if (fanout) {
            client->index = members.size();
            members.push_back(client);
        }
        client->read();
    }

    /* The last one takes the place of one that leaves, so this starts at the end. */
    void send_gathered() {
        for (std::size_t n = members.size(); n-- > 0;) members[n]->send_gathered();
    }

    asio::io_context &context;
    typename Protocol::acceptor acceptor;
    std::vector<Member *> members;
    bool any_gathered = false, is_full = false;
};

static int run(const std::string &mode, const std::string &address) {
    asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);
    if (address.find('/') != std::string::npos) {
        /* A stale path. */
        if (std::filesystem::is_socket(address)) std::filesystem::remove(address);
        Server<asio::local::stream_protocol> server(context, address, mode == "fanout");
        server.run();
    } else {
        auto colon = address.rfind(':');
        auto port = static_cast<unsigned short>(std::stoi(address.substr(colon + 1)));
        asio::ip::tcp::endpoint where(asio::ip::make_address(address.substr(0, colon)), port);
        Server<asio::ip::tcp> server(context, where, mode == "fanout");
        server.run();
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3 || (std::strcmp(argv[1], "echo") != 0 && std::strcmp(argv[1], "fanout") != 0)) {
        std::fprintf(stderr, "usage: %s echo|fanout HOST:PORT|PATH\n", argv[0]);
        return 1;
    }
    try {
        return run(argv[1], argv[2]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s: %s\n", argv[2], error.what());
        return 1;
    }
}
