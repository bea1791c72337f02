"""The slow part of tls.py, which runs it with --long: ten thousand handshakes that never finish, testssl.sh, and a
browser.
"""

import base64
import contextlib
import hashlib
import json
import os
import resource
import select
import shutil
import ssl
import subprocess
import time

import harness
from harness import connect, require

STRANGERS = 10_000
DESCRIPTORS = STRANGERS + 200
# Half a hello and its state take some 4 KB in the server, and more because of how memory is allocated.
BYTES_EACH_MAX = 16 * 1024
# The time that the server allows for a handshake, and what a busy machine needs to open and close this many.
HANDSHAKE_S, PATIENCE_S = 10, 30
TESTSSL_S, BROWSER_S = 400, 60
# Findings of testssl.sh that are not faults. WARN is what it could not find out, such as SSLv2 if its OpenSSL lacks it.
HARMLESS = {"OK", "INFO", "DEBUG", "WARN"}


def hello_of(context):
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def raise_limit():
    """Raises the limit of descriptors for this process and its children. Returns whether it is high enough."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < DESCRIPTORS <= most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, most))
    return DESCRIPTORS <= most


def thousands_never_finish(server, context, exchange):
    """They get their time and no more, others are served meanwhile, and nothing is left of them."""
    pid, hello = server.process.pid, hello_of(context)
    memory, open_before = resident_bytes(pid), descriptors(pid)
    with contextlib.ExitStack() as stack:
        poll, begun = select.poll(), time.monotonic()
        for count in range(STRANGERS):
            stranger = stack.enter_context(connect(server.address))
            stranger.sendall(hello[:count % len(hello)])
            poll.register(stranger, select.POLLIN | select.POLLRDHUP)
        require(time.monotonic() - begun < HANDSHAKE_S, "too slow to have all of them at once")
        exchange()
        held = descriptors(pid) - open_before
        require(held >= STRANGERS * 9 // 10, f"{held} are held")
        each = (resident_bytes(pid) - memory) / STRANGERS
        require(each < BYTES_EACH_MAX, f"{each:.0f} bytes each")
        while descriptors(pid) > open_before + 5:
            require(time.monotonic() - begun < HANDSHAKE_S + PATIENCE_S, f"{descriptors(pid) - open_before} are left")
            time.sleep(0.1)
        require(time.monotonic() - begun > HANDSHAKE_S - 1, "they were not given their time")
        require(len(poll.poll(0)) == STRANGERS, "somebody was told nothing")
        exchange()
    print(f"  {each:.0f} bytes for each of {STRANGERS}")


def nothing_is_found_by_testssl(server, folder):
    findings = os.path.join(folder, "testssl.json")
    argv = ["testssl", "--quiet", "--warnings", "off", "--color", "0", "--nodns", "none", "--jsonfile", findings,
            "-p", "-s", "-f", "-g", "-H", "-I", "-R", "-C", "-O", "-W", "-A", "-L", "-F", "-J", "-D", "-4",
            "%s:%d" % server.address]
    process = harness.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    try:
        printed = process.communicate(timeout=TESTSSL_S)[0].decode(errors="replace")
    finally:
        harness.end(process)
    with open(findings, encoding="utf-8") as file:
        found = {each["id"]: each for each in json.load(file)}
    require(len(found) > 30, f"it has only looked at {len(found)}: {printed[-400:]}")
    bad = [f"{name}: {each['finding']}" for name, each in found.items() if each["severity"] not in HARMLESS]
    require(not bad, "; ".join(bad))
    for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        require(found[version]["finding"].startswith("not offered"), found[version])
    for version in ("TLS1_2", "TLS1_3"):
        require(found[version]["finding"].startswith("offered"), found[version])
    print(f"  {len(found)} findings, none of them bad")


def spki(certificate):
    """Returns the hash by which a browser is told to trust a key."""
    key = subprocess.run(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"], check=True, capture_output=True)
    plain = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], check=True, capture_output=True, input=key.stdout)
    return base64.b64encode(hashlib.sha256(plain.stdout).digest()).decode()


def browser():
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


def a_browser_connects(server, certificate, folder):
    """A browser completes a handshake with a trusted key and a name, and reports why not with an untrusted one. Its verdict on the
    echo, which is not an HTTP response, does not matter.
    """
    def visit(*more):
        home = os.path.join(folder, f"browser-{time.monotonic_ns()}")
        argv = [browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}", *more,
                "--dump-dom", f"https://localhost:{server.address[1]}/"]
        process = harness.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env={**os.environ, "HOME": folder})
        try:
            process.wait(timeout=BROWSER_S)
        finally:
            harness.end(process)

    before = len(server.errors)
    visit()
    server.wait(lambda: [line for line in server.errors[before:] if b"fatal alert: CertificateUnknown" in line],
                "told that the browser trusts nobody")
    visit("--ignore-certificate-errors-spki-list=" + spki(certificate))
    server.wait_for_line(rb'.* has Some\(TLSv1_3\), Some\(TLS\w+\), asks for Some\("localhost"\), new')


def check(checks, make_server, certificate, folder, context, exchange):
    """Runs all of it. `exchange` is a well-behaved echo."""
    if raise_limit():
        with make_server() as server:
            checks.run("handshakes that never finish", thousands_never_finish, server, context, lambda: exchange(server))
            checks.run("idle afterwards", server.require_quiet)
    else:
        checks.skip("handshakes that never finish", f"{DESCRIPTORS} descriptors are needed")
    with make_server() as server:
        if shutil.which("testssl"):
            checks.run("testssl.sh", nothing_is_found_by_testssl, server, folder)
        else:
            checks.skip("testssl.sh", "apt-get install testssl.sh")
        checks.run("an echo afterwards", exchange, server)
        checks.run("idle afterwards", server.require_quiet)
    # A server of its own: of consecutive failures, stderr shows only the first.
    with make_server() as server:
        if browser():
            checks.run("a browser", a_browser_connects, server, certificate, folder)
        else:
            checks.skip("a browser", "apt-get install chromium-headless-shell")
        checks.run("idle afterwards", server.require_quiet)
