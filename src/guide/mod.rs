//! The guide: everything about the loop, page by page, in the order in which you need it.
//!
//! 1. [The loop](the_loop/index.html) and its turn
//! 2. [The life of a connection](life_of_a_connection/index.html)
//! 3. [Flow control](flow_control/index.html)
//! 4. [Timers and timeouts](timers/index.html)
//! 5. [Closing](closing/index.html)
//! 6. [What the compiler says](compiler/index.html), for reference
//! 7. [Testing](testing/index.html), and a comparison with [other test kits](test_kits/index.html)
//! 8. [Threads](threads/index.html)
//! 9. [Limits](limits/index.html), and a server on the open network
//! 10. [TLS and other filters](filters/index.html) between a socket and a protocol
//! 11. [Embedding](embedding/index.html) in a program with a main loop of its own
//! 12. [Questions](questions/index.html) about sockets in Rust, each with a few lines that do it
//!
//! [Coming from Python](from_python/index.html) is a table of Python's names and their equivalents here. The [rules]
//! are for reference. (All other pages are only in documentation built with all features, as on docs.rs.) The pages are
//! compiled into the documentation only, and each of their examples runs as a test. The programs in `examples/` are a
//! course for one evening: see `examples/README.md`.

/// The rules: what the crate promises, numbered as the documentation and the tests cite them.
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
    /// The loop and its turn: what calls what, when, and why no callback is ever called from within another.
    ///
    #[doc = include_str!("the_loop.md")]
    pub mod the_loop {}

    /// The life of a connection: its states, what leads from one to the next, and which callback reports it.
    ///
    #[doc = include_str!("life_of_a_connection.svg")]
    ///
    #[doc = include_str!("life_of_a_connection.md")]
    pub mod life_of_a_connection {}

    /// Flow control: what happens when one side is faster than the other.
    ///
    #[doc = include_str!("flow_control.md")]
    pub mod flow_control {}

    /// Closing: how to end a connection so that the peer has the whole answer, or knows that it has not.
    ///
    #[doc = include_str!("closing.md")]
    pub mod closing {}

    /// Timers and timeouts: what is to happen later, and what must not take forever.
    ///
    #[doc = include_str!("timers.md")]
    pub mod timers {}

    /// Threads: how they reach a loop, what would block it, and how one loop becomes several.
    ///
    #[doc = include_str!("threads.md")]
    pub mod threads {}

    /// Testing: a protocol without sockets or sleeping, and a system under seeded faults.
    ///
    #[doc = include_str!("testing.md")]
    pub mod testing {}

    /// The test kits of other frameworks, compared with this one.
    ///
    #[doc = include_str!("test_kits.md")]
    pub mod test_kits {}

    /// Embedding: a loop within a program that already has a main loop.
    ///
    #[doc = include_str!("embedding.md")]
    pub mod embedding {}

    /// What the compiler says to newcomers, and what to write instead.
    ///
    #[doc = include_str!("compiler.md")]
    pub mod compiler {}

    /// Limits, and how much memory a loop takes at most.
    ///
    #[doc = include_str!("limits.md")]
    pub mod limits {}

    /// TLS and other filters between a socket and a protocol, and how to write one.
    ///
    #[doc = include_str!("filters.md")]
    pub mod filters {}

    /// Questions about sockets in Rust, each with a few lines of code.
    ///
    #[doc = include_str!("questions.md")]
    pub mod questions {}

    /// Coming from Python: every name of its sockets, servers and reactors, and its equivalent here.
    ///
    #[doc = include_str!("from_python.md")]
    pub mod from_python {}
}
