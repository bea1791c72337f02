//! The differences between systems, as data in one place.
//!
//! Each field is a habit, and each constant a system with all of its habits. Code that depends on a habit checks it at
//! run time, `if habits.full_backlog_refuses`, so that both branches compile everywhere and a test on one system can
//! see what happens on another. Real sockets have the habits of [`HERE`], a constant, so that the check costs nothing
//! there; sockets in memory report whose habits they have.
//!
//! What does not exist on other systems, such as a call, a constant or a type, stays behind a `cfg` where it is used.

/// What a system does that others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    // TCP.
    /// A short read means that a TCP socket is empty, unless urgent data comes next.
    pub(crate) short_read_empties_tcp: bool,
    /// An accepted TCP stream inherits the options of its listener.
    pub(crate) accepted_inherits_options: bool,
    /// Connections are spread evenly among sockets that listen on the same address.
    pub(crate) spreads_shared_ports: bool,
    /// SO_REUSEADDR frees an address at once after a restart. On Windows it lets a second program take the address
    /// away.
    pub(crate) reuse_is_safe: bool,
    /// `accept` succeeds with an empty address if the peer has reset its connection in the meantime.
    pub(crate) accepts_without_address: bool,
    /// Accessing a socket's options, or the address of its peer, fails with EINVAL once both of its halves are closed,
    /// even if there is still data to read.
    pub(crate) invalid_once_over: bool,
    /// Events hint at urgent data.
    pub(crate) tells_urgent_data: bool,
    /// Readiness to read and readiness to write come as separate events.
    pub(crate) event_per_filter: bool,
    /// A send to a connection that is going down may fail with EPROTOTYPE.
    pub(crate) going_down_is_prototype: bool,
    /// Each call that would block rearms a TCP stream for everything that it is registered for (mio on Windows): a
    /// stream that is registered for writing gets an event after each message.
    pub(crate) rearms_all: bool,
    // Unix sockets.
    /// A connect is refused while the listener's backlog is full, just as if nobody listens.
    pub(crate) full_backlog_refuses: bool,
    /// A Unix stream whose peer has closed no longer has a peer address.
    pub(crate) forgets_unix_peer: bool,
    /// Only sockets that are registered for writing are told that the peer has closed both halves of a Unix stream.
    pub(crate) hang_up_by_writing: bool,
    /// The read that would tell whether a short one has emptied a Unix stream can be deferred.
    pub(crate) puts_off_unix_reads: bool,
    /// Sending a Unix datagram to a receiver without room fails with ENOBUFS, and no event reports when there is room.
    pub(crate) full_receiver_lacks_buffers: bool,
    /// Unix sockets have abstract names.
    pub(crate) abstract_names: bool,
    /// The longest path of a Unix socket, without the terminating zero byte.
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

    /// Like Linux, as far as is known; that a short read empties the socket is not known.
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

    /// Systems that descend from BSD, with habits of their own.
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

    /// Without Unix sockets, which the loop does not support there.
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

/// The habits of the system that this is compiled for.
pub(crate) const HERE: Habits = match () {
    () if cfg!(target_os = "linux") => Habits::LINUX,
    () if cfg!(target_os = "android") => Habits::ANDROID,
    () if cfg!(target_vendor = "apple") => Habits::APPLE,
    () if cfg!(windows) => Habits::WINDOWS,
    () if cfg!(any(target_os = "illumos", target_os = "solaris")) => Habits::SOLARISH,
    () => Habits::BSD,
};
