//! What may go wrong in a simulated network, and how often.

use std::time::Duration;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident / $with:ident: $kind:ty = $none:expr, $all:expr;)*) => {
        /// What may go wrong in a simulated network, and how often.
        ///
        /// Fields whose names end in `permille` say how many times in a thousand chances a fault happens; the seed
        /// decides when. Each field can be read and set, and has a setter for chaining.
        ///
        /// ```
        /// use switchboard::testing::Faults;
        /// let faults = Faults::none().with_tiny_segments_permille(500);
        /// assert_eq!(faults.tiny_segments_permille, 500);
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Faults {
            $($(#[$doc])* pub $name: $kind,)*
        }

        impl Faults {
            /// Returns no faults: no latency, ample buffers, and readiness as a real kernel reports it on a quiet day.
            pub fn none() -> Faults {
                Faults { $($name: $none,)* }
            }

            /// Returns every fault that a correct program does not notice: no byte and no connection is lost, but
            /// everything arrives in the smallest of pieces and at the worst of times. (Datagrams are lost, as they may
            /// be.)
            ///
            /// This takes time, as bad networks do, but makes progress: an echo of 20 KB took 1.3 s of virtual time in
            /// half of 3,000 seeds, and 11 s at most. Between two bytes a second or two may pass, and a connect may
            /// take some as well. So use timeouts that leave half a minute for a few kilobytes; shorter ones may
            /// expire.
            pub fn all() -> Faults {
                Faults { $($name: $all,)* }
            }

            /// Returns the names of the fields that differ from [`none`](Faults::none), in the order of the fields.
            pub fn names(&self) -> Vec<&'static str> {
                let none = Faults::none();
                let differs = [$((stringify!($name), self.$name != none.$name),)*];
                differs.iter().filter(|(_, differs)| *differs).map(|&(name, _)| name).collect()
            }

            /// Returns these faults without the one of this name, which then does not happen.
            ///
            /// # Panics
            ///
            /// Panics if there is no field of this name.
            #[must_use]
            pub fn without(&self, name: &str) -> Faults {
                let mut without = self.clone();
                match name {
                    $(stringify!($name) => without.$name = Faults::none().$name,)*
                    _ => panic!("no such fault: {name:?}"),
                }
                without
            }

            /// Returns only the faults of these names, with their values here. An empty name means none.
            ///
            /// # Panics
            ///
            /// Panics if there is no field of such a name.
            #[must_use]
            pub fn only(&self, names: &[&str]) -> Faults {
                let mut only = Faults::none();
                for name in names {
                    match *name {
                        $(stringify!($name) => only.$name = self.$name.clone(),)*
                        "" => {}
                        _ => panic!("no such fault: {name:?}"),
                    }
                }
                only
            }

            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Faults::", stringify!($name), ").")]
                #[must_use]
                pub fn $with(mut self, value: $kind) -> Faults {
                    self.$name = value;
                    self
                }
            )*
        }
    };
}

faults! {
    /// The minimum time that a packet between two hosts is in flight. Packets of one connection keep their order.
    latency_min / with_latency_min: Duration = Duration::ZERO, Duration::ZERO;
    /// The maximum time that a packet is in flight.
    latency_max / with_latency_max: Duration = Duration::ZERO, Duration::from_millis(20);
    /// The minimum speed of a connection, in bytes per second, as far as the network decides it: if buffers are so
    /// small that it would be slower, its packets are in flight for less time. 0 means no minimum.
    bytes_per_second_min / with_bytes_per_second_min: usize = 0, 8192;
    /// The smallest kernel buffer, in bytes. The seed picks a size for the whole network, and up to four times that for
    /// each of a socket's two buffers: one that is far larger than its peer's would drain so slowly that deadlines
    /// pass.
    buffer_bytes_min / with_buffer_bytes_min: usize = 256 * 1024, 1;
    /// The largest kernel buffer.
    buffer_bytes_max / with_buffer_bytes_max: usize = 256 * 1024, 16 * 1024;
    /// A Unix datagram socket is full with more datagrams than this, at least: the seed picks a number for each socket.
    /// A sender then has to wait.
    unix_datagrams_min / with_unix_datagrams_min: usize = 10, 0;
    /// A Unix datagram socket is full with more datagrams than this, at most. The limit on Linux is 10 unless
    /// configured otherwise (`net.unix.max_dgram_qlen`); under systemd it is 512, and the memory of each sender is
    /// exhausted first.
    unix_datagrams_max / with_unix_datagrams_max: usize = 10, 10;
    /// Sent data arrives in small pieces.
    tiny_segments_permille / with_tiny_segments_permille: u32 = 0, 200;
    /// A packet arrives early, in the middle of a turn: between any two calls of the loop.
    early_packets_permille / with_early_packets_permille: u32 = 0, 30;
    /// A write takes less than it could.
    partial_writes_permille / with_partial_writes_permille: u32 = 0, 100;
    /// A socket behaves like those of platforms other than Linux: reads may stop short with more data behind, its
    /// events never hint at an end or at an error, and receiving a datagram that is longer than the buffer is an error.
    portable_sockets_permille / with_portable_sockets_permille: u32 = 0, 250;
    /// A read of such a socket stops short.
    short_reads_permille / with_short_reads_permille: u32 = 0, 200;
    /// A read would block at an urgent byte, although that is there, as on Linux while a signal is pending for the
    /// thread. No event follows. Never for two reads of a socket in a row, and only for sockets of a loop that behave
    /// like those of Linux.
    urgent_would_blocks_permille / with_urgent_would_blocks_permille: u32 = 0, 300;
    /// A call is interrupted (EINTR).
    interrupted_permille / with_interrupted_permille: u32 = 0, 20;
    /// The minimum time that work in a loop's pool of workers takes.
    work_min / with_work_min: Duration = Duration::ZERO, Duration::ZERO;
    /// The maximum time that such work takes. If it is zero, results arrive in the order in which the work was
    /// submitted.
    work_max / with_work_max: Duration = Duration::ZERO, Duration::from_millis(50);
    /// A send finds the kernel out of buffers (ENOBUFS).
    out_of_buffers_permille / with_out_of_buffers_permille: u32 = 0, 20;
    /// A wait returns an event that nothing caused.
    spurious_events_permille / with_spurious_events_permille: u32 = 0, 50;
    /// The hint at an end or an error comes with a later event.
    late_hints_permille / with_late_hints_permille: u32 = 0, 100;
    /// A wait returns its events in another order, and not all of them.
    shuffled_events_permille / with_shuffled_events_permille: u32 = 0, 200;
    /// A loop with work to do is not turned until the next packet arrives.
    lagging_loops_permille / with_lagging_loops_permille: u32 = 0, 100;
    /// An accept fails, in any way except those that end a listener.
    accept_errors_permille / with_accept_errors_permille: u32 = 0, 100;
    /// A receiver takes nothing for up to a second: its window is closed. After that it takes data for at least as
    /// long.
    stalls_permille / with_stalls_permille: u32 = 0, 10;
    /// The first packet of a connect is lost, and is sent again a second later.
    lost_connects_permille / with_lost_connects_permille: u32 = 0, 50;
    /// A datagram is lost.
    lost_datagrams_permille / with_lost_datagrams_permille: u32 = 0, 100;
    /// A datagram arrives twice.
    doubled_datagrams_permille / with_doubled_datagrams_permille: u32 = 0, 100;
    /// Receiving a datagram finds the kernel out of memory (ENOMEM). Only for sockets of a loop. Not part of
    /// [`all`](Faults::all), because the loop then waits for a while, and arrived datagrams stay unread in the
    /// meantime.
    failing_receives_permille / with_failing_receives_permille: u32 = 0, 0;
    /// A connect is refused. Not part of [`all`](Faults::all).
    refused_connects_permille / with_refused_connects_permille: u32 = 0, 0;
    /// A packet with data makes something between the hosts reset the connection, for both ends. Not part of
    /// [`all`](Faults::all).
    resets_permille / with_resets_permille: u32 = 0, 0;
    /// A reset overtakes data that was sent before it, and destroys it. Not part of [`all`](Faults::all).
    overtaking_resets_permille / with_overtaking_resets_permille: u32 = 0, 0;
}

impl Faults {
    /// Returns [`all`](Faults::all), and the faults that end connections: refused connects, resets from between the
    /// hosts, and resets that overtake data.
    pub fn fatal() -> Faults {
        Faults::all().with_refused_connects_permille(50).with_resets_permille(5).with_overtaking_resets_permille(300)
    }
}
