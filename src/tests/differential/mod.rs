//! The same scripts on real loopback sockets and on simulated ones: what the calls answer, and what the poller tells,
//! must be the same.
//!
//! Where the two disagree, the simulation is wrong. On the real side nothing sleeps: what the simulation has done at
//! once is awaited there with a deadline.

mod machine;
mod scripts;

use std::sync::Arc;

use self::machine::Machine;
use crate::sys::sim::{Faults, Network};
use crate::sys::{Clock, Poller};

fn compare(name: &str, script: &str) {
    let network = Network::new(0, Faults::none());
    let host = network.add_host();
    let mut simulated =
        Machine::new(Poller::Memory(Box::new(network.poller(host))), Clock::Memory(Arc::new(network.clock(host))));
    let mut real = Machine::new(Poller::new().unwrap(), Clock::System);
    let steps = script.split(';').map(str::trim).filter(|step| !step.is_empty());
    for (number, step) in steps.enumerate() {
        let words: Vec<_> = step.split_whitespace().collect();
        let expected = simulated.run(&words);
        let outcome = real.run_until(&words, &expected);
        assert_eq!(
            outcome,
            expected,
            "{name}, step {number}, {step:?}: the real answer is on the left\n{}",
            network.trace()
        );
    }
}

/// Each script has a name that begins with the rules it is about.
macro_rules! compare_scripts {
    ($($(#[$doc:meta])* $name:ident: $script:literal;)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                super::compare(stringify!($name), $script);
            }
        )*

        #[test]
        fn there_are_scripts_of_every_group_of_rules_that_is_about_sockets() {
            let names = [$(stringify!($name)),*];
            assert!(names.len() >= 40, "{} scripts", names.len());
            for group in ["a", "c", "h", "k", "r", "u", "w", "x"] {
                assert!(names.iter().any(|name| name.starts_with(group) && name.as_bytes()[1].is_ascii_digit()), "{group}");
            }
        }
    };
}
use compare_scripts;
