//! The guide: what there is to know about a loop, page by page, in the order in which it is needed.
//!
//! Its pages are compiled into the documentation only, and each of their examples runs as a test. Beside them stand the
//! programs in `examples/`, as a course of an evening: `examples/README.md`. The [rules] are there to be looked up.

/// The rules: what is promised, each under the number by which the documentation and the tests cite it.
///
#[doc = include_str!("rules.md")]
pub mod rules {}

/// Pages whose examples need these features.
macro_rules! with_features {
    ($($page:item)*) => {
        $(
            #[cfg(all(
                unix,
                feature = "framing",
                feature = "proxy",
                feature = "server",
                feature = "service",
                feature = "testing"
            ))]
            $page
        )*
    };
}

with_features! {
    /// The loop and its turn: who calls whom, when, and why nothing is ever called from within something else.
    ///
    #[doc = include_str!("the_loop.md")]
    pub mod the_loop {}

    /// The life of a connection: its states, what leads from one to the next, and which callback tells of it.
    ///
    #[doc = include_str!("life_of_a_connection.svg")]
    ///
    #[doc = include_str!("life_of_a_connection.md")]
    pub mod life_of_a_connection {}

    /// Flow control: what happens where one side is faster than the other.
    ///
    #[doc = include_str!("flow_control.md")]
    pub mod flow_control {}

    /// Closing: how a connection ends, so that the other side has all of the answer or knows that it has not.
    ///
    #[doc = include_str!("closing.md")]
    pub mod closing {}

    /// Timers and timeouts: what is to happen later, and what must not take for ever.
    ///
    #[doc = include_str!("timers.md")]
    pub mod timers {}

    /// Threads: how they reach a loop, what would block it, and how one loop becomes several.
    ///
    #[doc = include_str!("threads.md")]
    pub mod threads {}

    /// Testing: a protocol without sockets and without sleeping, a system under seeded faults.
    ///
    #[doc = include_str!("testing.md")]
    pub mod testing {}

    /// Embedding: a loop within a program that waits by itself already.
    ///
    #[doc = include_str!("embedding.md")]
    pub mod embedding {}

    /// Limits, and how much memory a loop takes at most.
    ///
    #[doc = include_str!("limits.md")]
    pub mod limits {}

    /// Coming from Python: every name of its sockets, servers and reactors, and what it is here.
    ///
    #[doc = include_str!("from_python.md")]
    pub mod from_python {}
}
