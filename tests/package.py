#!/usr/bin/env python3
"""The package, as it would be published: what is in it, and that it works where it was unpacked.

    python3 tests/package.py            all of it; two minutes or three
    python3 tests/package.py contents   only what is in it

In a folder of its own, with nothing of the repository around it, the two commands of README.md are run: an example,
which must end cleanly on Ctrl-C without a feature for it, and the tests. The first programs of README.md and
examples/README.md are pasted into packages of their own, as these say, and run. Then every dependency is taken at the
lowest version that Cargo.toml promises, and all must compile, with the oldest Rust too where that is /usr/bin/rustc.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAIT_S = 10
# What is compiled here is compiled once and not debugged; the random tests are run at length in the repository.
QUICKLY = {"CARGO_INCREMENTAL": "0", "CARGO_PROFILE_DEV_DEBUG": "0", "SWITCHBOARD_SEEDS": "100"}


def require(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def run(command, folder, **environment):
    print("$", *command, flush=True)
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **QUICKLY, **environment})


def unpacked(scratch):
    """Packs and unpacks, and returns the folder. What is not committed yet is packed too."""
    run(["cargo", "package", "--quiet", "--package", "switchboard", "--no-verify", "--allow-dirty", "--target-dir", str(scratch / "packing")], ROOT)
    (package,) = (scratch / "packing" / "package").glob("*.crate")
    run(["tar", "-xzf", str(package)], scratch)
    folder = scratch / package.stem
    files = sum(path.is_file() for path in folder.rglob("*"))
    print(f"{package.name}: {package.stat().st_size:,} bytes, {files} files")
    return folder


def check_contents(folder):
    """What README.md shows and links to is there, and no script that needs the repository."""
    for page in ("README.md", "examples/README.md", "benches/README.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (folder / page).read_text()):
            is_there = "://" in link or (folder / page).parent.joinpath(link).exists()
            require(is_there, f"{page} links to {link}, which is not in the package")
    surplus = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".py", ".sh")]
    require(not surplus, f"in the package, and of no use there: {surplus}")
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    kinds = [manifest, *manifest.get("target", {}).values()]
    names = {name for kind in kinds for table in ("dependencies", "dev-dependencies") for name in kind.get(table, {})}
    require("switchboard" not in names, "the package depends on itself, which works in the repository alone")


def check_example(folder, target):
    """The first command of README.md, and Ctrl-C."""
    command = ["cargo", "run", "--quiet", "--locked", "--example", "select_server"]
    run(["cargo", "build", *command[2:]], folder, CARGO_TARGET_DIR=target)
    print("$", *command, flush=True)
    environment = {**os.environ, **QUICKLY, "CARGO_TARGET_DIR": target}
    server = subprocess.Popen([*command, "--", "127.0.0.1:0"], cwd=folder, env=environment, stdout=subprocess.PIPE,
                              text=True, start_new_session=True)
    signal.alarm(WAIT_S)
    try:
        address = server.stdout.readline().removeprefix("listening on ").strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            require(server.stdout.readline().startswith("Got connection from "), "a client is not told of")
            client.sendall(b"a line\n")
            require(server.stdout.readline().endswith(": a line\n"), "a client's line is not printed")
            # As a terminal sends it: to the whole group. (Cargo waits for what it runs.)
            os.killpg(server.pid, signal.SIGINT)
            require(client.recv(1) == b"", "a client is not closed in order")
        code = server.wait()
        require(code == 0, f"on Ctrl-C the example ended with {code}, not cleanly")
    finally:
        signal.alarm(0)
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def check_first_programs(folder, scratch, target):
    """A server, a client and a timer, each a package with the manifest that README.md gives, beside the crate."""
    (scratch / "switchboard").symlink_to(folder)
    def section(page, title):
        return (folder / page).read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]

    first, more = section("README.md", "A first program"), section("examples/README.md", "Two more programs")
    (dependencies,) = re.findall(r"```toml\n(.*?)```", first, re.DOTALL)
    texts = re.findall(r"```rust\n(.*?)```", first + more, re.DOTALL)
    programs = dict(zip(("server", "client", "timer"), texts, strict=True))
    for name, text in programs.items():
        package = scratch / name
        (package / "src").mkdir(parents=True)
        manifest = f'[package]\nname = "{name}"\nversion = "0.0.0"\nedition = "2024"\n\n{dependencies}'
        (package / "Cargo.toml").write_text(manifest)
        (package / "src" / "main.rs").write_text(text)
        run(["cargo", "build", "--quiet"], package, CARGO_TARGET_DIR=target, RUSTFLAGS="-D warnings")
    address = ("127.0.0.1", 1234)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)  # Fails, and says why, where somebody else has what the programs of README.md use.

    def output(name):
        path = os.path.join(target, "debug", name)
        return subprocess.run([path], capture_output=True, text=True, timeout=WAIT_S, check=True)

    refused = output("client")
    require(refused.stdout == "" and "refused" in refused.stderr, f"the client without a server: {refused}")
    server = subprocess.Popen([os.path.join(target, "debug", "server")])
    try:
        deadline = time.monotonic() + WAIT_S
        while socket.socket().connect_ex(address) != 0:
            require(time.monotonic() < deadline and server.poll() is None, "the server does not listen")
            time.sleep(0.01)
        for _ in range(2):
            require(output("client").stdout == 'the server says "hello\\n"\n', "the client does not print what it sent")
    finally:
        server.kill()
        server.wait()
    require(output("timer").stdout == 3 * "tick\n", "the timer does not tick three times")


def check_lowest_versions(folder, target):
    # A flag of nightly's, which takes the versions alone; what compiles is stable.
    run(["cargo", "update", "--quiet", "-Zdirect-minimal-versions"], folder, RUSTC_BOOTSTRAP="1")
    check = ["check", "--quiet", "--locked", "--all-features", "--all-targets"]
    run(["cargo", *check], folder, CARGO_TARGET_DIR=target)
    if os.access("/usr/bin/rustc", os.X_OK) and os.access("/usr/bin/cargo", os.X_OK):
        oldest = {"RUSTC": "/usr/bin/rustc", "CARGO_TARGET_DIR": target + "-oldest"}
        run(["/usr/bin/cargo", *check], folder, **oldest)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("FAILED: the example does not do what it should in time"))
    with tempfile.TemporaryDirectory(prefix="package-") as scratch:
        scratch = pathlib.Path(scratch)
        folder = unpacked(scratch)
        check_contents(folder)
        if sys.argv[1:] == ["contents"]:
            return
        target = str(scratch / "target")
        check_example(folder, target)
        run(["cargo", "test", "--quiet", "--locked", "--all-features"], folder, CARGO_TARGET_DIR=target)
        check_first_programs(folder, scratch, target)
        check_lowest_versions(folder, target)


if __name__ == "__main__":
    main()
