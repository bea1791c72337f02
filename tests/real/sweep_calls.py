"""Which system calls can fail, and how: for `sweep.py`, which lets each of them fail, and reads the traces of `strace`."""

import re

from harness import require

NO_MEMORY = ("ENOMEM",)
FULL = ("EMFILE", "ENFILE")
INTERRUPTED = ("EINTR",)
GONE = ("ECONNRESET", "ETIMEDOUT")

# The errors of each call, by its man page, for these descriptors: (call, pattern of the descriptor) -> errors.  The first
# row that matches counts. EAGAIN is left out where the kernel would promise an event with it: none would come.
ERRORS = [
    ("accept4?", "", ("ECONNABORTED", "EPROTO", "ENETDOWN", "ENOBUFS", *FULL, *NO_MEMORY, *INTERRUPTED)),
    ("recvfrom", "^UDP", ("ECONNREFUSED", *NO_MEMORY, *INTERRUPTED)),
    ("sendto", "^UDP", ("EPERM", "ENETUNREACH", "ECONNREFUSED", "ENOBUFS", *NO_MEMORY, *INTERRUPTED)),
    # A pair within the program: what it is for comes through, and its calls never sleep, so that not even a signal can
    # disturb them.
    ("(recvfrom|sendto|recvmsg|sendmsg|read|write)", "^UNIX pair", ()),
    ("(read|recvfrom|recvmsg|readv)", "^UNIX", ("ECONNRESET", *NO_MEMORY, *INTERRUPTED)),
    ("(write|writev|sendto|sendmsg)", "^UNIX", ("EPIPE", "ECONNRESET", "ENOBUFS", *NO_MEMORY, *INTERRUPTED)),
    ("(read|recvfrom|recvmsg|readv)", "^TCP", (*GONE, *NO_MEMORY, *INTERRUPTED)),
    ("(write|writev|sendto|sendmsg)", "^TCP", ("EPIPE", "ENOBUFS", *GONE, *NO_MEMORY, *INTERRUPTED)),
    ("write", "^pipe", ("EPIPE", "ENOSPC", *INTERRUPTED)),
    ("read", "^pipe", INTERRUPTED),
    # What wakes a loop never sleeps either.
    ("(read|write)", "eventfd", ()),
    ("(read|pread64)", "", ("EIO", *INTERRUPTED)),
    ("epoll_create1|eventfd2|timerfd_create|pipe2|socketpair|dup|dup3", "", (*FULL, *NO_MEMORY)),
    ("epoll_ctl", "", ("ENOSPC", *NO_MEMORY)),
    ("epoll_wait|epoll_pwait|wait4|waitid|ppoll", "", INTERRUPTED),
    # Linux ignores what closing the other descriptor reports, so that no signal interrupts it.
    ("dup2", "", ("EBUSY",)),
    ("poll", "", (*NO_MEMORY, *INTERRUPTED)),
    ("socket", "", ("EACCES", "EAFNOSUPPORT", "ENOBUFS", *FULL, *NO_MEMORY)),
    ("bind", "", ("EACCES", "EADDRINUSE", "EADDRNOTAVAIL", *NO_MEMORY)),
    ("listen", "", ("EADDRINUSE",)),
    ("(set|get)sockopt", "", ("ENOPROTOOPT", "ENOBUFS")),
    ("getsockname|getpeername", "", ("ENOBUFS", "ENOTCONN")),
    ("shutdown", "", ("ENOTCONN",)),
    ("fcntl", "", ("EMFILE", "EPERM")),
    ("ioctl", "", ("ENOTTY", "EPERM")),
    ("clone3?|v?fork", "", ("EAGAIN", *NO_MEMORY)),
    ("execve", "", ("ENOENT", "EACCES", *NO_MEMORY)),
    ("open(at)?", "", ("ENOENT", "EACCES", *FULL, *NO_MEMORY)),
    ("access|readlink(at)?|newfstatat|statx|f?stat|lstat|lseek|unlink|f?chmod|fchmodat|getcwd|umask", "",
     ("EACCES", "ENOENT", *NO_MEMORY)),
    ("mmap|mprotect|brk|munmap|mremap|madvise", "", NO_MEMORY),
    # It is interrupted only while it waits, or by 256 bytes and more; without waiting, it may have none.
    ("getrandom", "GRND_NONBLOCK", ("EAGAIN",)),
    ("getrandom", "", ()),
    ("prctl|sched_getaffinity|prlimit64|pidfd_open|pidfd_send_signal", "", ("EPERM",)),
    ("kill|tgkill|setpgid|setsid", "", ("EPERM",)),
    ("sigaltstack", "", NO_MEMORY),
]
# These cannot fail with valid arguments.  `close` releases the descriptor also if it fails, which strace cannot imitate:
# what it lets fail is not done at all.  Nor can it let only those calls of `futex` fail that wait: to wake cannot fail.
NEVER = re.compile(
    "close|futex|arch_prctl|set_tid_address|set_robust_list|rseq|rt_sig\\w+|gettid|getpid|getppid|exit|exit_group|clock_\\w+"
    "|sched_yield|restart_syscall|get[eu]?[ug]id|uname|nanosleep"
)
MEMORY = ("mmap", "mprotect", "brk", "munmap", "mremap", "madvise", "sigaltstack")


def errors_of(call, descriptor):
    for pattern, of, errors in ERRORS:
        if re.fullmatch(pattern, call) and re.search(of, descriptor):
            return errors
    require(NEVER.fullmatch(call), f"what errors has {call} of {descriptor or 'no descriptor'}? It is in no table")
    return ()


class Call:
    """A call in a trace: its name, its descriptor, which one of its thread's, and in which stage of the session."""

    def __init__(self, stage, name, descriptor, k):
        self.stage, self.name, self.descriptor, self.k = stage, name, descriptor, k


LINE = re.compile(r"(\d+) +(\w+)\((?:\d+<((?:->|[^>])*?)>)?")
# The other end of a connection: the port of a TCP socket, the inode of a Unix socket.
PEER = re.compile(r"TCP:\[[^\]]*->127\.0\.0\.1:(\d+)\]|UNIX-STREAM:\[\d+->(\d+)")


class Trace:
    """A trace of `strace -f -yy`."""

    def __init__(self, path):
        with open(path, encoding="utf-8", errors="replace") as file:
            self.lines = file.read().splitlines()
        # The inodes of pairs: that which signals come through, and that on which a child says why it did not start.
        pairs = [line for line in self.lines if " socketpair(" in line]
        self._pairs = {inode for line in pairs for inode in re.findall(r"UNIX[-\w]*:\[(\d+)", line)}

    def _call(self, line):
        """Returns the thread, the call and the descriptor of a line, or None."""
        match = LINE.match(line)
        if not match:
            return None
        thread, name, descriptor = match.groups()
        if name == "getrandom":
            descriptor = ",".join(re.findall(r"GRND_\w+", line))
        inode = re.match(r"UNIX[-\w]*:\[(\d+)", descriptor or "")
        return thread, name, "UNIX pair" if inode and inode[1] in self._pairs else descriptor or ""

    def calls(self, listens):
        """Returns every call of a clean session, which begins when so many lines say where it listens."""
        main = self.lines[0].split()[0]
        children = {line.split()[0] for line in self.lines if re.match(r"\d+ +execve\(", line)} - {main}
        stage, counts, calls = "before", {}, []
        for line in self.lines:
            if "--- SIGTERM" in line and line.startswith(main):
                stage = "end"
            call = self._call(line)
            if not call:
                continue
            thread, name, descriptor = call
            if stage == "before" and name in ("epoll_create1", "socket", "getsockopt"):
                stage = "start"
            k = counts[thread, name] = counts.get((thread, name), 0) + 1
            own = "child" if thread in children else "thread" if thread != main and stage == "session" else stage
            calls.append(Call(own, name, descriptor, k))
            if stage == "start" and name == "write" and "listening on" in line:
                listens -= 1
                stage = stage if listens else "session"
        return calls

    def failed(self):
        """Returns the lines of the calls that were made to fail, each from its beginning."""
        begun, failed = {}, []
        for line in self.lines:
            thread, _, rest = line.partition(" ")
            if rest.endswith("<unfinished ...>"):
                begun[thread] = line
            if "(INJECTED)" in line:
                failed.append(begun[thread] if "<..." in rest else line)
        return failed

    def is_possible(self, error):
        """Returns whether all calls that were made to fail can have this error: which thread does what may vary."""
        calls = [self._call(line) for line in self.failed()]
        return all(call is None or error in errors_of(call[1], call[2]) for call in calls)

    def hit(self):
        """Returns the clients whose connections the failing calls were about."""
        return {port or inode for line in self.failed() for port, inode in PEER.findall(line)}
