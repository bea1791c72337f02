"""The table of the peers: what each is, how it is built and started, and what it cannot do.

A server is started as `argv MODE ADDRESS`, with MODE `echo` or `fanout`; ADDRESS is `127.0.0.1:0` or the path of a Unix
socket. It prints `listening on ADDRESS` and serves until a signal ends it. If it cannot do what is asked, it exits with
status 2 and one line on stderr.
"""

import concurrent.futures
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "target"
PYTHON = TARGET / "venv" / "bin" / "python"

MODES = ("echo", "fanout")
TRANSPORTS = ("tcp", "unix")

# What else a peer may be unable to do: serve others while a client does not read; send the lines that arrived right
# before the end of their sender's stream.
OTHERS = "others"
LAST_LINES = "last lines"

# The yardstick, to which the others' figures are ratios.
YARDSTICK = "epoll"


class Peer:
    """A peer. `kind` names how it is built, see `BUILDS`; `cannot` holds modes, transports, and the two above."""

    def __init__(self, name, kind, argv, what, cannot=(), environment=None):
        self.name = name
        self.kind = kind
        self.argv = [str(part) for part in argv]
        self.what = what
        self.cannot = frozenset(cannot)
        self.environment = dict(environment or {})

    @property
    def is_long_to_build(self):
        """Whether `compare.py --short` leaves it out, which only checks that all of it works."""
        return self.kind in LONG_TO_BUILD

    def can(self, mode, transport="tcp"):
        return mode not in self.cannot and transport not in self.cannot

    def command(self, mode, address):
        return [*self.argv, mode, address]


def rust(name, what, cannot=()):
    return Peer(name, "rust", [TARGET / "release" / name], what, cannot)


def uring(name, program, flags, what):
    return Peer(name, "uring", [TARGET / "release" / program, *flags], what)


def python(name, file, flags, what):
    return Peer(name, "python", [PYTHON, HERE / "python" / file, *flags], what)


PEERS = {
    peer.name: peer
    for peer in (
        rust("switchboard", "this crate"),
        rust("epoll", "a loop by hand on epoll"),
        rust("mio", "a loop by hand on mio"),
        rust("tokio", "tokio, one thread"),
        rust("calloop", "calloop"),
        uring("monoio", "monoio", [], "monoio on io_uring"),
        uring("monoio_epoll", "monoio", ["--epoll"], "the same on epoll"),
        uring("compio", "compio", [], "compio on io_uring"),
        uring("compio_epoll", "compio", ["--epoll"], "the same on epoll"),
        rust("message_io", "message-io", cannot=["unix", OTHERS, LAST_LINES]),
        Peer("libuv", "libuv", [TARGET / "libuv"], "libuv, in C"),
        Peer("libevent", "c", [TARGET / "libevent"], "libevent, in C"),
        Peer("asio", "cpp", [TARGET / "asio"], "Asio, in C++"),
        Peer("go", "go", [TARGET / "go_server"], "Go, one processor", environment={"GOMAXPROCS": "1"}),
        python("asyncio", "asyncio_server.py", [], "Python's asyncio, protocols"),
        python("uvloop", "asyncio_server.py", ["--uvloop"], "the same on uvloop"),
        python("twisted", "twisted_server.py", [], "Twisted, epoll reactor"),
    )
}


# -------------------------------------------------------------------------------------------------- building


def run(command, **options):
    subprocess.run([str(part) for part in command], check=True, cwd=HERE, **options)


def build_rust(peers):
    run(["cargo", "build", "--quiet", "--release", "--locked", *(part for peer in peers for part in ("--bin", peer.name))])


def build_uring(peers):
    programs = dict.fromkeys(pathlib.Path(peer.argv[0]).name for peer in peers)
    bins = [part for program in programs for part in ("--bin", program)]
    run(["cargo", "build", "--quiet", "--release", "--locked", "--features", "uring", *bins])


def compile_c(name, flags):
    TARGET.mkdir(exist_ok=True)
    run(["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", HERE / "c" / f"{name}.c", "-o", TARGET / name, *flags])


def build_c(peers):
    for peer in peers:
        command = ["pkg-config", "--cflags", "--libs", peer.name]
        compile_c(peer.name, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


# The files that libuv's CMakeLists.txt names for Linux.
LIBUV_FILES = (
    *"fs-poll idna inet random strscpy strtok thread-common threadpool timer uv-common uv-data-getter-setters version".split(),
    *(f"unix/{name}" for name in (
        "async core dl fs getaddrinfo getnameinfo linux loop loop-watcher pipe poll process procfs-exepath proctitle"
        " random-devurandom random-getrandom random-sysctl-linux signal stream tcp thread tty udp"
    ).split()),
)
LIBUV_FLAGS = "-std=gnu11 -O2 -fno-strict-aliasing -D_GNU_SOURCE -D_POSIX_C_SOURCE=200112 -D_FILE_OFFSET_BITS=64".split()


@functools.cache
def libuv_source():
    """Returns the folder of libuv's source, of the version in Cargo.lock: a crate has it, of which no more is used."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--features", "libuv-sys2"]
    found = json.loads(subprocess.run(command, check=True, cwd=HERE, stdout=subprocess.PIPE).stdout)
    manifest = next(package["manifest_path"] for package in found["packages"] if package["name"] == "libuv-sys2")
    return pathlib.Path(manifest).parent / "libuv"


def libuv_version():
    header = (libuv_source() / "include" / "uv" / "version.h").read_text()
    return ".".join(re.search(rf"UV_VERSION_{part} (\d+)", header).group(1) for part in ("MAJOR", "MINOR", "PATCH"))


def build_libuv(peers):
    """Compiles libuv once for each version, and the peer."""
    source = libuv_source()
    folder = TARGET / f"libuv-{libuv_version()}"
    includes = ["-I", source / "include", "-I", source / "src"]
    if not (folder / "libuv.a").exists():
        folder.mkdir(parents=True, exist_ok=True)
        objects = [folder / f"{pathlib.Path(name).name}.o" for name in LIBUV_FILES]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = [
                pool.submit(run, ["cc", *LIBUV_FLAGS, *includes, "-c", source / "src" / f"{name}.c", "-o", output])
                for name, output in zip(LIBUV_FILES, objects)
            ]
        for each in compiled:
            each.result()
        run(["ar", "rcs", folder / "unfinished.a", *objects])
        (folder / "unfinished.a").rename(folder / "libuv.a")
    for peer in peers:
        compile_c(peer.name, [*includes[:2], folder / "libuv.a", "-pthread", "-ldl", "-lrt"])


def build_cpp(peers):
    TARGET.mkdir(exist_ok=True)
    for peer in peers:
        file = HERE / "c" / f"{peer.name}.cpp"
        run(["c++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", file, "-o", TARGET / peer.name])


def asio_version():
    """Returns the version that the headers state, which is all that Asio consists of."""
    command = ["c++", "-DASIO_STANDALONE", "-include", "asio/version.hpp", "-E", "-P", "-x", "c++", "-"]
    number = int(subprocess.run(command, input="ASIO_VERSION", check=True, capture_output=True, text=True).stdout)
    return f"{number // 100_000}.{number // 100 % 1_000}.{number % 100}"


def build_go(peers):
    TARGET.mkdir(exist_ok=True)
    for peer in peers:
        subprocess.run(["go", "build", "-o", peer.argv[0], "."], check=True, cwd=HERE / "go")


def build_python(_):
    """Returns a virtual environment with the pinned packages; made again when they change."""
    wanted = HERE / "python" / "requirements.txt"
    stamp = TARGET / "venv" / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return
    TARGET.mkdir(exist_ok=True)
    run([sys.executable, "-m", "venv", "--clear", TARGET / "venv"])
    run([PYTHON, "-m", "pip", "install", "--quiet", "--requirement", wanted])
    stamp.write_bytes(wanted.read_bytes())


BUILDS = {
    "rust": build_rust,
    "uring": build_uring,
    "c": build_c,
    "libuv": build_libuv,
    "cpp": build_cpp,
    "go": build_go,
    "python": build_python,
}
# Dozens of crates, and a thousand templates.
LONG_TO_BUILD = {"uring", "cpp"}


def chosen(names):
    """Returns the peers with these names, in the table's order; without names, all of them."""
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        sys.exit(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return [peer for peer in PEERS.values() if not names or peer.name in names]


def build(peers):
    """Builds these peers, and raises an exception if that fails."""
    for kind, how in BUILDS.items():
        if of_kind := [peer for peer in peers if peer.kind == kind]:
            how(of_kind)
