//! Shrinking a random program that fails: fewer moves, fewer actions, fewer faults.

use std::cell::RefCell;
use std::env;

use super::coverage::Coverage;
use super::runner::{guarded, number};
use crate::testing::Faults;

/// How much of a program is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Story {
    /// How many moves of the program's peers and network to make, at most.
    pub(super) moves_max: u64,
    /// How many actions of its callbacks to make, at most.
    pub(super) actions_max: u64,
    /// Which faults are left; by default all that the seed has picked.
    faults: Option<Vec<&'static str>>,
}

thread_local! {
    /// What to run on this thread, if it is not what the environment says.
    static TOLD: RefCell<Option<Story>> = const { RefCell::new(None) };
}

impl Story {
    /// Returns what to run: everything, or what `SWITCHBOARD_MOVES`, `SWITCHBOARD_ACTIONS` and `SWITCHBOARD_FAULTS`
    /// say.
    pub(super) fn told() -> Story {
        TOLD.with_borrow(Clone::clone).unwrap_or_else(|| {
            let faults = env::var("SWITCHBOARD_FAULTS").ok().map(|names| {
                let all = everything();
                all.names().into_iter().filter(|name| names.split(',').any(|of| of == *name)).collect()
            });
            Story {
                moves_max: number("SWITCHBOARD_MOVES").unwrap_or(u64::MAX),
                actions_max: number("SWITCHBOARD_ACTIONS").unwrap_or(u64::MAX),
                faults,
            }
        })
    }

    /// Returns what is left of these faults.
    pub(super) fn of(&self, faults: Faults) -> Faults {
        match &self.faults {
            Some(names) => faults.only(names),
            None => faults,
        }
    }
}

/// Returns all faults that exist.
fn everything() -> Faults {
    Faults::fatal().with_failing_receives_permille(1)
}

/// How many other seeds are tried for a shorter story with the faults that are left.
const OTHER_SEEDS: u64 = 200;

/// A failure that was shrunk.
#[derive(Debug)]
pub(super) struct Smallest {
    seed: u64,
    story: Story,
    /// The message of the failure.
    pub(super) what: String,
}

impl Smallest {
    /// Returns the environment with which to run it again.
    pub(super) fn line(&self) -> String {
        let Story { moves_max, actions_max, faults } = &self.story;
        let (seed, faults) = (self.seed, faults.as_deref().unwrap_or_default().join(","));
        format!(
            "SWITCHBOARD_SEED={seed} SWITCHBOARD_MOVES={moves_max} SWITCHBOARD_ACTIONS={actions_max} \
             SWITCHBOARD_FAULTS={faults}"
        )
    }
}

/// Returns the least of a failing seed that still fails, or of another seed that fails with less.
pub(super) fn smallest(seed: u64, run: fn(u64, bool) -> Result<Coverage, String>) -> Smallest {
    let fails = |seed: u64, story: &Story| {
        TOLD.set(Some(story.clone()));
        let result = guarded(seed, false, run);
        TOLD.set(None);
        result.err()
    };
    let story = Story { moves_max: 1 << 12, actions_max: 1 << 12, faults: Some(everything().names()) };
    let what = fails(seed, &story).unwrap_or_default();
    let mut least = Smallest { seed, story, what };
    // Without a fault the rest of the program changes, so this comes first: with all its moves it may still fail.
    let mut before = None;
    while before.as_ref() != Some(&least.story) {
        before = Some(least.story.clone());
        for name in least.story.faults.clone().unwrap_or_default() {
            let mut story = least.story.clone();
            story.faults.as_mut().map(|names| names.retain(|of| *of != name)).unwrap_or_default();
            if let Some(what) = fails(seed, &story) {
                least = Smallest { seed, story, what };
            }
        }
    }
    shorten(&mut least, &fails);
    for other in 0..OTHER_SEEDS {
        let Some(moves_max) = least.story.moves_max.checked_sub(1) else { break };
        let story = Story { moves_max, actions_max: 1 << 12, faults: least.story.faults.clone() };
        if let Some(what) = fails(other, &story) {
            least = Smallest { seed: other, story, what };
            shorten(&mut least, &fails);
        }
    }
    least
}

/// Finds fewer moves, and then fewer actions, with which it fails, by bisection.
fn shorten(least: &mut Smallest, fails: &impl Fn(u64, &Story) -> Option<String>) {
    let numbers: [fn(&mut Story) -> &mut u64; 2] = [|story| &mut story.moves_max, |story| &mut story.actions_max];
    for number in numbers {
        let (mut low, mut high) = (0, *number(&mut least.story));
        while low < high {
            let middle = low + (high - low) / 2;
            let mut shorter = least.story.clone();
            *number(&mut shorter) = middle;
            match fails(least.seed, &shorter) {
                Some(what) => {
                    high = middle;
                    (least.story, least.what) = (shorter, what);
                }
                None => low = middle + 1,
            }
        }
    }
}

#[test]
fn kit_a_program_that_fails_is_made_smaller_until_nothing_of_it_can_go() {
    /// Fails in its 17th move, or its 5th with seed 9, after three actions, and only if segments are tiny.
    fn run(seed: u64, _: bool) -> Result<Coverage, String> {
        let story = Story::told();
        let tiny = story.of(everything()).tiny_segments_permille > 0;
        let fails = story.moves_max >= if seed == 9 { 5 } else { 17 } && story.actions_max >= 3 && tiny;
        if fails { Err(format!("in move {}", story.moves_max)) } else { Ok(Coverage::default()) }
    }
    let least = smallest(0, run);
    let line = "SWITCHBOARD_SEED=9 SWITCHBOARD_MOVES=5 SWITCHBOARD_ACTIONS=3 SWITCHBOARD_FAULTS=tiny_segments_permille";
    assert_eq!((least.line(), least.what), (line.to_owned(), "in move 5".to_owned()));
}
