//! What systems do differently, as data: the one place that says so.
//!
//! Each field is a habit, and each constant a system with all of its habits. What depends on a habit asks for it at run
//! time, `if habits.full_backlog_refuses`, so that both arms compile everywhere and a test on one system can see what
//! happens on another. Sockets of the system have the habits of [`HERE`], a constant, so there the question costs
//! nothing; those in memory say whose habits they have.
//!
//! What cannot be named on another system, such as a call, a constant or a type, stays behind a `cfg` where it is used.

/// What a system does that others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    // TCP.
    /// A read that stops short has emptied a TCP socket, unless urgent data comes next.
    pub(crate) short_read_empties_tcp: bool,
    /// An accepted TCP stream has the options of its listener.
    pub(crate) accepted_inherits_options: bool,
    /// Connections are spread evenly among sockets that listen on the same address.
    pub(crate) spreads_shared_ports: bool,
    /// SO_REUSEADDR frees an address at once after a restart. On Windows it lets a second program take it away.
    pub(crate) reuse_is_safe: bool,
    /// `accept` succeeds with an empty address for a peer that has reset its connection meanwhile.
    pub(crate) accepts_without_address: bool,
    /// Options of a socket, and the address of its peer, are invalid (EINVAL) once both of its halves are over, whatever
    /// it still has to be read.
    pub(crate) invalid_once_over: bool,
    /// Events hint at urgent data.
    pub(crate) tells_urgent_data: bool,
    /// What a socket is ready to read, and to write, comes as an event each.
    pub(crate) event_per_filter: bool,
    /// A send to a connection that is going down may fail with EPROTOTYPE.
    pub(crate) going_down_is_prototype: bool,
    /// Each call that would block arms a TCP stream again for all that it is registered for (mio on Windows): one that is
    /// registered for writing has an event behind each message.
    pub(crate) rearms_all: bool,
    // Unix sockets.
    /// A connect is refused while the backlog of its listener is full, as it is if nobody listens.
    pub(crate) full_backlog_refuses: bool,
    /// A Unix stream whose peer has closed has no peer's address any more.
    pub(crate) forgets_unix_peer: bool,
    /// Only what is registered for writing is told that its peer has closed both halves of a Unix stream.
    pub(crate) hang_up_by_writing: bool,
    /// The read that would tell whether a short one has emptied a Unix stream can be put off.
    pub(crate) puts_off_unix_reads: bool,
    /// A Unix datagram that its receiver has no room for fails with ENOBUFS, and no event tells of room.
    pub(crate) full_receiver_lacks_buffers: bool,
    /// Unix sockets have abstract names.
    pub(crate) abstract_names: bool,
    /// The longest path of a Unix socket, without the zero byte at its end.
    pub(crate) unix_path_bytes_max: usize,
}

impl Habits {
    pub(crate) const LINUX: Habits = Habits {
        short_read_empties_tcp: true,
        accepted_inherits_options: true,
        spreads_shared_ports: true,
        reuse_is_safe: true,
        accepts_without_address: false,
        invalid_once_over: false,
        tells_urgent_data: true,
        event_per_filter: false,
        going_down_is_prototype: false,
        rearms_all: false,
        full_backlog_refuses: false,
        forgets_unix_peer: false,
        hang_up_by_writing: false,
        puts_off_unix_reads: true,
        full_receiver_lacks_buffers: false,
        abstract_names: true,
        unix_path_bytes_max: 107,
    };

    /// Linux, as far as is known: of a short read it is not.
    pub(crate) const ANDROID: Habits = Habits { short_read_empties_tcp: false, ..Habits::LINUX };

    pub(crate) const BSD: Habits = Habits {
        short_read_empties_tcp: false,
        accepted_inherits_options: false,
        spreads_shared_ports: false,
        reuse_is_safe: true,
        accepts_without_address: false,
        invalid_once_over: false,
        tells_urgent_data: false,
        event_per_filter: true,
        going_down_is_prototype: false,
        rearms_all: false,
        full_backlog_refuses: true,
        forgets_unix_peer: true,
        hang_up_by_writing: true,
        puts_off_unix_reads: false,
        full_receiver_lacks_buffers: true,
        abstract_names: false,
        unix_path_bytes_max: 103,
    };

    /// What descends from BSD, with habits of its own.
    pub(crate) const APPLE: Habits =
        Habits { accepts_without_address: true, invalid_once_over: true, going_down_is_prototype: true, ..Habits::BSD };

    /// illumos and Solaris. Their events are those of epoll or of event ports.
    pub(crate) const SOLARISH: Habits = Habits {
        invalid_once_over: true,
        event_per_filter: false,
        hang_up_by_writing: false,
        full_receiver_lacks_buffers: false,
        unix_path_bytes_max: 107,
        ..Habits::BSD
    };

    /// Without Unix sockets, which the loop does not have there.
    pub(crate) const WINDOWS: Habits = Habits {
        reuse_is_safe: false,
        rearms_all: true,
        event_per_filter: false,
        full_backlog_refuses: false,
        forgets_unix_peer: false,
        hang_up_by_writing: false,
        full_receiver_lacks_buffers: false,
        ..Habits::BSD
    };
}

/// Those of the system that this is compiled for.
pub(crate) const HERE: Habits = match () {
    () if cfg!(target_os = "linux") => Habits::LINUX,
    () if cfg!(target_os = "android") => Habits::ANDROID,
    () if cfg!(target_vendor = "apple") => Habits::APPLE,
    () if cfg!(windows) => Habits::WINDOWS,
    () if cfg!(any(target_os = "illumos", target_os = "solaris")) => Habits::SOLARISH,
    () => Habits::BSD,
};
