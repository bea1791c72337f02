//! Limits: every buffer, batch and wait of the loop has one.

use std::time::Duration;

use crate::Rate;
use crate::connection::{GATHERED_BYTES_MAX, READ_BYTES_MAX};

/// What happens to new peers when a listener has all the connections it may have (rule [A4](crate::guide::rules#a4)). A
/// closed connection that only [lingers](Limits::linger_timeout) gives up its place to a new one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Accepting stops, and new peers wait in the backlog until a connection ends.
    Wait,
    /// New peers are accepted and closed at once, and told why if their listener has a
    /// [`refusal`](crate::Listen::refusal).
    Refuse,
}

macro_rules! limits {
    ($(#[$of:meta])* $type:ident: $($(#[$doc:meta])* $name:ident / $with:ident: $kind:ty = $default:expr,)*) => {
        $(#[$of])*
        #[derive(Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $type {
            $($(#[$doc])* pub $name: $kind,)*
        }

        // Not derived: a derived `clone` is inlined, field by field, wherever these are cloned.
        impl Clone for $type {
            #[inline(never)]
            fn clone(&self) -> $type {
                $type { $($name: self.$name.clone(),)* }
            }
        }

        impl Default for $type {
            fn default() -> $type {
                $type { $($name: $default,)* }
            }
        }

        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](", stringify!($type), "::", stringify!($name), ").")]
                #[must_use]
                pub fn $with(mut self, value: $kind) -> $type {
                    self.$name = value;
                    self
                }
            )*
        }
    };
}

limits! {
    /// The limits of a loop: those of the loop as a whole, and in [`each`](LoopLimits::each) those that its listeners,
    /// connections and datagram sockets start with.
    ///
    /// Each is a public field, and has a setter for chaining. A loop also accepts [`Limits`], if none of the loop's own
    /// are to be changed.
    ///
    /// ```
    /// use switchboard::{EventLoop, Limits, LoopLimits};
    /// let each = Limits::default().with_connections_max(900);
    /// let event_loop = EventLoop::with_limits(LoopLimits::from(each).with_loop_queue_bytes_max(64 << 20))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Limits that apply to the whole loop only cannot be set for a listener or a connection:
    ///
    /// ```compile_fail,E0599
    /// use switchboard::Limits;
    /// let limits = Limits::default().with_loop_queue_bytes_max(64 << 20);
    /// ```
    ///
    /// The memory of a loop's connections is bounded: for output by `loop_queue_bytes_max` and one write; for input by
    /// `input_bytes_max` and one read (64 KiB) for each connection that leaves input unconsumed, and by 256 KiB for
    /// each whose [filter](crate::filter::Filter) leaves some, such as that of an incomplete handshake.
    LoopLimits:
    /// The limits that the loop's listeners, connections and datagram sockets start with. Default: [`Limits::default`].
    each / with_each: Limits = Limits::default(),
    /// How many connections the loop has at a time, including those that it made itself or that were attached. These
    /// count, but only accepting stops at the limit. Default `None`: no limit.
    loop_connections_max / with_loop_connections_max: Option<usize> = None,
    /// A write that finds more than this queued in the whole loop ends connections that hoard memory, until an eighth
    /// of this is free (rule [W4](crate::guide::rules#w4)): first those whose peers have taken nothing for a second,
    /// the longest queue first, then the others by length, those below their low mark last. Datagram sockets are
    /// included; they lose what is queued, and are told how much. Default 256 MiB.
    loop_queue_bytes_max / with_loop_queue_bytes_max: usize = 256 * 1024 * 1024,
    /// How many commands of handles may be waiting to run (rule [G1](crate::guide::rules#g1)); a
    /// [`Handle`](crate::Handle) returns any further one to its caller. Default 65,536.
    commands_max / with_commands_max: usize = 65_536,
    /// How many commands of handles run in one turn. Default 1,024.
    commands_per_turn_max / with_commands_per_turn_max: usize = 1024,
    /// Anything that runs for longer than this, while nothing else is served, is logged as a warning, at most once a
    /// second: a whole turn or, if callbacks are timed, one callback, with its name and its connection's. Default 100
    /// ms; `None`: no warnings.
    slow_callback_after / with_slow_callback_after: Option<Duration> = Some(Duration::from_millis(100)),
    /// Whether each callback is timed, so that the longest is known and slow ones are named. Costs two readings of the
    /// clock per callback, some 50 ns. Default false.
    times_callbacks / with_times_callbacks: bool = false,
    /// How long a connect may take in total, including the name lookup (rule [K2](crate::guide::rules#k2)); see
    /// [`Connect::timeout`](crate::Connect::timeout). Default 30 s.
    connect_timeout / with_connect_timeout: Duration = Duration::from_secs(30),
    /// How many names are looked up at the same time, each in a thread of its own (rule [K7](crate::guide::rules#k7));
    /// further lookups wait. Default 8.
    lookups_max / with_lookups_max: usize = 8,
}

limits! {
    /// The limits of a listener and of the connections it accepts, of one connection, or of a datagram socket.
    ///
    /// Those of a loop share one set ([`LoopLimits::each`]); a listener can be given another one
    /// ([`Listen::limits`](crate::Listen::limits), [`Listener::set_limits`](crate::Listener::set_limits)), and so can a
    /// connect ([`Connect::limits`](crate::Connect::limits)). Each is a public field, and has a setter for chaining:
    ///
    /// ```
    /// use switchboard::Limits;
    /// let limits = Limits::default().with_connections_max(100).with_input_bytes_max(4096);
    /// assert_eq!(limits.connections_max, 100);
    /// ```
    ///
    /// A limit that may be absent is an `Option`, and `None` means no limit. Where 0 would mean that nothing is ever
    /// done, it counts as 1: in the fields whose names end in `_per_turn_max`, and in [`LoopLimits::lookups_max`].
    ///
    /// Buffers that have grown in a burst give the memory back within two seconds after it.
    Limits:
    /// How many connections one listener has at a time (rule [A4](crate::guide::rules#a4)). Default 65,536.
    connections_max / with_connections_max: usize = 65_536,
    /// What happens to new peers when there are that many. Default: they wait.
    when_full / with_when_full: WhenFull = WhenFull::Wait,
    /// How many connections one listener has at a time from one peer: from one IPv4 address, or one IPv6 network (the
    /// first 64 bits). A connection over this limit is accepted, closed and counted
    /// ([`connections_refused`](crate::Counters::connections_refused)). Default `None`: no limit.
    connections_per_peer_max / with_connections_per_peer_max: Option<usize> = None,
    /// How many connections one listener accepts in a turn (rule [A3](crate::guide::rules#a3)). Default 64.
    accepts_per_turn_max / with_accepts_per_turn_max: usize = 64,
    /// How many bytes are read from one connection in a turn before the others are served (rule
    /// [R5](crate::guide::rules#r5)). Default 256 KiB.
    read_bytes_per_turn_max / with_read_bytes_per_turn_max: usize = 256 * 1024,
    /// How long the [filters](crate::filter) of a connection may take to become ready, from when they begin; a
    /// connection that takes longer ends with [`Timeout::Handshake`](crate::Timeout::Handshake). Default 10 s; `None`:
    /// no limit.
    filter_timeout / with_filter_timeout: Option<Duration> = Some(Duration::from_secs(10)),
    /// How fast one connection is read from; what its peer sends faster waits in the kernel, and then at the peer.
    /// Default `None`: no limit.
    read_rate / with_read_rate: Option<Rate> = None,
    /// How many datagrams one socket receives in a turn before the others are served, and how many queued ones it
    /// sends. Default 64.
    datagrams_per_turn_max / with_datagrams_per_turn_max: usize = 64,
    /// The longest datagram that is received whole; a longer one is truncated. Default 65,535, which is more than any
    /// UDP datagram has; for UDP, more counts as that. Unix sockets may have longer ones, up to 8 MiB: a loop whose
    /// sockets ask for them has one buffer for all, as large as the longest, and releases it within two seconds after
    /// its use.
    datagram_bytes_max / with_datagram_bytes_max: usize = 65_535,
    /// How many bytes a protocol may leave unconsumed (rule [R1](crate::guide::rules#r1)); leaving more ends the
    /// connection. Default 64 KiB.
    input_bytes_max / with_input_bytes_max: usize = 64 * 1024,
    /// `pause_writing` is called when more than this is queued for a connection (rule [W2](crate::guide::rules#w2)).
    /// Default 64 KiB.
    queue_bytes_high / with_queue_bytes_high: usize = 64 * 1024,
    /// `resume_writing` is called when this or less is queued. Default 16 KiB; a value above the high mark counts as
    /// the high mark.
    queue_bytes_low / with_queue_bytes_low: usize = 16 * 1024,
    /// Whether reading from a connection stops when its output exceeds the high mark, until it is down to the low one.
    /// Default true. A protocol that depends on what its peer says meanwhile, such as acknowledgements that make room
    /// or keep-alives, turns it off: [`Timeout::ReadIdle`](crate::Timeout::ReadIdle) does not run while nothing is
    /// read.
    pause_reading_over_high / with_pause_reading_over_high: bool = true,
    /// A write that finds more than this queued for its connection ends that connection (rule
    /// [W4](crate::guide::rules#w4)). Through a [filter](crate::filter) nothing is sent before the callback returns, so
    /// everything that it has written counts, even what the kernel would have taken. Default 16 MiB.
    queue_bytes_max / with_queue_bytes_max: usize = 16 * 1024 * 1024,
    /// How long a closing connection waits for its peer to take another byte (rule [X1](crate::guide::rules#x1)). A
    /// peer that takes 64 KiB within each such period is never cut off, though its kernel may report that later: once
    /// it has taken some, it is given up to twice as long. Default 5 s.
    close_timeout / with_close_timeout: Duration = Duration::from_secs(5),
    /// How long a closing connection may take in total to send what is left, however steadily its peer takes it.
    /// Without this limit, a peer that takes a byte now and then can hold [`queue_bytes_max`](Limits::queue_bytes_max)
    /// for ever. Default `None`: no limit.
    flush_timeout / with_flush_timeout: Option<Duration> = None,
    /// How long the kernel keeps data that it still holds for a peer after an orderly end, while the peer takes none of
    /// it (`TCP_USER_TIMEOUT`; on Linux, for TCP). It is set if much was sent, or if a timeout ends the connection in
    /// an orderly way. Without it, the kernel keeps some megabytes for each peer that never reads, for as long as the
    /// peer lives. `None`: the system's default. Default 60 s; with 5 s, peers that read 20 KB/s were cut off.
    orphan_timeout / with_orphan_timeout: Option<Duration> = Some(Duration::from_secs(60)),
    /// How long a connection may be idle until [`timed_out`](crate::Protocol::timed_out) is called (rule
    /// [T5](crate::guide::rules#t5)); see [`Timeout::Idle`](crate::Timeout::Idle). Default `None`: for ever.
    idle_timeout / with_idle_timeout: Option<Duration> = None,
    /// How long a connection may receive nothing until [`timed_out`](crate::Protocol::timed_out) is called (rule
    /// [T5](crate::guide::rules#t5)); see [`Timeout::ReadIdle`](crate::Timeout::ReadIdle). Default `None`: for ever.
    read_idle_timeout / with_read_idle_timeout: Option<Duration> = None,
    /// How long a connection may take until its protocol is ready (rule [X4](crate::guide::rules#x4)), before
    /// [`timed_out`](crate::Protocol::timed_out) is called; see [`Timeout::Handshake`](crate::Timeout::Handshake).
    /// Default `None`: for ever.
    handshake_timeout / with_handshake_timeout: Option<Duration> = None,
    /// How long a connection may last until [`timed_out`](crate::Protocol::timed_out) is called; see
    /// [`Timeout::Total`](crate::Timeout::Total). Default `None`: for ever.
    total_timeout / with_total_timeout: Option<Duration> = None,
    /// How long input is read and discarded after a close, so that no reset destroys the last data sent (rule
    /// [X1](crate::guide::rules#x1)). Default 2 s.
    linger_timeout / with_linger_timeout: Duration = Duration::from_secs(2),
    /// How much input is discarded in this way. Default 1 MiB.
    linger_bytes_max / with_linger_bytes_max: usize = 1024 * 1024,
}

/// The default limits of a loop, with these for each listener, connection and datagram socket.
impl From<Limits> for LoopLimits {
    fn from(each: Limits) -> LoopLimits {
        LoopLimits { each, ..LoopLimits::default() }
    }
}

impl Limits {
    /// Returns these limits, with 1 where 0 would mean that nothing is ever read.
    pub(crate) fn without_zeros(mut self) -> Limits {
        self.read_bytes_per_turn_max = self.read_bytes_per_turn_max.max(1);
        self.datagrams_per_turn_max = self.datagrams_per_turn_max.max(1);
        self
    }

    /// Returns whether they are tighter than the fast path of a connection allows for.
    #[inline]
    pub(crate) fn are_tight(&self) -> bool {
        self.queue_bytes_max < GATHERED_BYTES_MAX || self.read_bytes_per_turn_max < READ_BYTES_MAX
    }

    /// Returns whether a connection starts with a timeout or a rate.
    #[inline]
    pub(crate) fn are_timed(&self) -> bool {
        let is_idle_timed = self.idle_timeout.is_some() || self.read_idle_timeout.is_some();
        let is_timed = is_idle_timed || self.handshake_timeout.is_some() || self.total_timeout.is_some();
        is_timed || self.read_rate.is_some()
    }

    /// Returns the limits of an outgoing connection, derived from the loop's.
    ///
    /// Limits that are meant for a loop's clients would also cut off the connections that are made on their behalf. So
    /// there are no timeouts and no read rate, and reading does not pause: a client and a server that both stopped
    /// reading would wait for each other for ever.
    pub(crate) fn of_clients(&self) -> Limits {
        Limits {
            idle_timeout: None,
            read_idle_timeout: None,
            handshake_timeout: None,
            total_timeout: None,
            read_rate: None,
            pause_reading_over_high: false,
            ..self.clone()
        }
    }

    /// Returns the effective marks: the high one, and the low one.
    pub(crate) fn marks(&self) -> (usize, usize) {
        (self.queue_bytes_high, self.low())
    }

    /// Returns the effective low mark, which is never above the high one.
    pub(crate) fn low(&self) -> usize {
        self.queue_bytes_low.min(self.queue_bytes_high)
    }
}
