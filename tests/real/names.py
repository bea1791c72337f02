#!/usr/bin/env python3
"""The example of name look-ups, line by line, against Python's own `socket` module on the same machine.

No name server is queried: the names are those of this machine, or the resolver is set to read files only, in its own
mount namespace, where `/etc/hosts` is ours.
"""

import ast
import os
import socket
import subprocess
import sys
import tempfile

import harness
from harness import WAIT_S, Checks, require

LIMIT_S = 120

# All kinds of lines in /etc/hosts: comments, aliases, several lines for one host, both families, a name that would
# clear a terminal, one with a quote, and one that is not UTF-8.
HOSTS = b"""\
# a comment
127.0.0.1\tlocalhost loop.example # and another one
127.0.1.1 box.example box BOX2
::1     localhost ip6-localhost ip6-loopback
192.0.2.7 printer.example printer
192.0.2.8 printer.example spare
::ffff:192.0.2.9 mapped
2001:db8::1 six.example six
192.0.2.10 multi
192.0.2.11 other multi
192.0.2.12 clear\x1b[2J.example clear
192.0.2.13 a"quote\\ quote
192.0.2.14 \xff\xfe.example binary
"""
LISTED = ["localhost", "LOCALHOST", "box", "box2", "printer.example", "printer", "spare", "mapped", "six", "multi", "other",
          "clear", "quote", "127.0.0.1", "192.0.2.8", "2001:db8::1", "nobody.example", "x\x1b[2J\n\"", "x..y", "a" * 300]
FILES_ALONE = b"hosts: files\nservices: files\nprotocols: files\n"

# There must be a line for each of these, whatever the name.
CALLS = ["gethostname", "getfqdn", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getfqdn", *["getservbyname"] * 3,
         *["getprotobyname"] * 3, "inet_aton", "inet_ntoa", "htons", "ntohs", "htonl", "ntohl", "INADDR_ANY",
         "INADDR_LOOPBACK", "INADDR_BROADCAST"]


def printed(*arguments):
    done = subprocess.run([harness.example("names"), *arguments], capture_output=True, timeout=3 * WAIT_S, check=False)
    require(done.returncode == 0, f"exit code {done.returncode}: {done.stderr!r}")
    return done.stdout.decode()


def evaluate(call):
    """Returns Python's result for `name(literals)`, or for a constant's name: a value, or the error."""
    tree = ast.parse(call, mode="eval").body
    if isinstance(tree, ast.Name):
        return tree.id, getattr(socket, tree.id)
    name = tree.func.id
    require(name in CALLS, f"no look-up: {call}")
    try:
        return name, getattr(socket, name)(*map(ast.literal_eval, tree.args))
    except UnicodeError as error:
        # Python cannot even encode an invalid name; for getfqdn it is one that cannot be looked up.
        return name, ast.literal_eval(tree.args[0]) if name == "getfqdn" else error
    except OSError as error:
        return name, error


def comparable(value):
    """Makes results comparable regardless of the order of addresses and aliases."""
    if isinstance(value, tuple):
        name, aliases, addresses = value
        return name, sorted(aliases), sorted(addresses)
    return value


def agrees(name=None):
    """Compares every line with Python's result for the same lookup."""
    text = printed(*([name] if name is not None else []))
    require(all(character.isprintable() or character == "\n" for character in text), f"printed raw: {text!r}")
    found, failures = [], 0
    for line in text.splitlines():
        call, is_failure, _ = line.partition(" failed: ")
        value = None
        if not is_failure:
            call, _, value = line.partition(" = ")
        name, expected = evaluate(call)
        found.append(name)
        if is_failure:
            failures += 1
            require(isinstance(expected, Exception), f"{line}, but Python finds {expected!r}")
        else:
            value = ast.literal_eval(value)
            require(comparable(value) == comparable(expected), f"{line}, but Python finds {expected!r}")
    require(found == CALLS, f"other look-ups: {found}")
    return f"{len(found)} lines, {failures} failures"


def fails_clearly(name):
    text = printed(name)
    failed = [line for line in text.splitlines() if " failed: " in line]
    require([line.split("(")[0] for line in failed] == ["gethostbyname", "gethostbyname_ex", "gethostbyaddr"], f"{text}")
    return agrees(name)


def within(files, argument):
    """Runs this script again, with some files of /etc replaced."""
    with tempfile.TemporaryDirectory() as folder:
        mounts = []
        for path, content in files.items():
            if not os.path.exists(path):
                continue
            stand_in = os.path.join(folder, os.path.basename(path))
            with open(stand_in, "wb") as file:
                file.write(content)
            mounts.append(f"mount --bind {stand_in} {path}")
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        command = " && ".join([*mounts, 'exec "$0" "$1" "$2"'])
        done = subprocess.run(
            ["unshare", *as_root, "--mount", "sh", "-c", command, sys.executable, os.path.abspath(__file__), argument],
            capture_output=True, timeout=LIMIT_S / 2, check=False,
        )
        require(done.returncode == 0, f"{done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode().splitlines()[-1]


def without_tables():
    text = printed()
    for call in ('getservbyname("http", "tcp")', 'getprotobyname("tcp")'):
        require(f"{call} failed: " in text, f"{text}")
    return agrees()


def unreadable():
    """A host whose own name is not UTF-8: Python raises, we print an error, and the other lines follow."""
    text = printed("binary")
    require('gethostbyname("binary") = "192.0.2.14"' in text, text)
    require("gethostbyname_ex(\"binary\") failed: " in text and "INADDR_ANY = 0" in text, text)


def main():
    checks = Checks(LIMIT_S)
    match sys.argv[1:]:
        case ["--listed"]:
            for name in LISTED:
                checks.run(f"as Python, where /etc/hosts is ours: {ascii(name)}", agrees, name)
            checks.run("a name that nobody has", fails_clearly, "nobody.example")
            checks.run("a host's name that is no UTF-8", unreadable)
        case ["--without-tables"]:
            checks.run("no service and no protocol is known", without_tables)
        case _:
            checks.run("as Python: no argument", agrees)
            for name in ("localhost", "127.0.0.1", socket.gethostname()):
                checks.run(f"as Python: {name}", agrees, name)
            checks.run("a name that cannot be one", fails_clearly, "x..y")
            checks.run("names of an /etc/hosts of ours", within,
                       {"/etc/hosts": HOSTS, "/etc/nsswitch.conf": FILES_ALONE}, "--listed")
            checks.run("without services and protocols", within,
                       {"/etc/services": b"", "/etc/protocols": b"", "/etc/nsswitch.conf": FILES_ALONE}, "--without-tables")
    checks.finish()


if __name__ == "__main__":
    main()
