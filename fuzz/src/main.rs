//! Runs targets on stable Rust: inputs that are made from the corpus by chance, for some seconds or executions.
//!
//! ```text
//! cargo run --release -- [--seconds N | --executions N] [--seed N] [TARGET…]
//! cargo run --release -- --replay TARGET FILE…
//! ```
//!
//! An input that fails is made shorter, written to `artifacts/`, and printed with the command that runs it again.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use switchboard_fuzz::input::IS_THOROUGH;
use switchboard_fuzz::mutation::{Random, mutate, shrink};
use switchboard_fuzz::{TARGETS, Target, target};

/// How many inputs a thread makes before it looks at the clock and at the others.
const BATCH: u64 = 64;

struct Options {
    seconds: Option<u64>,
    executions: Option<u64>,
    seed: u64,
    replay: bool,
    rest: Vec<String>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut options =
        Options { seconds: None, executions: None, seed: since.as_nanos() as u64, replay: false, rest: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64, Box<dyn Error>> {
            let text = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            Ok(text.parse().map_err(|error| format!("{argument} {text}: {error}"))?)
        };
        match &*argument {
            "--seconds" => options.seconds = Some(number()?),
            "--executions" => options.executions = Some(number()?),
            "--seed" => options.seed = number()?,
            "--replay" => options.replay = true,
            other if other.starts_with('-') => return Err(format!("there is no option {other}").into()),
            _ => options.rest.push(argument),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether nothing was found.
fn run() -> Result<bool, Box<dyn Error>> {
    let options = options()?;
    let named = |name: &String| target(name).ok_or_else(|| format!("there is no target {name}"));
    if options.replay {
        let (name, files) = options.rest.split_first().ok_or("--replay TARGET FILE…")?;
        let target = named(name)?;
        IS_THOROUGH.store(true, Ordering::Relaxed);
        for file in files {
            (target.run)(&fs::read(file).map_err(|error| format!("{file}: {error}"))?);
        }
        return Ok(true);
    }
    let targets: Vec<&Target> = match options.rest.is_empty() {
        true => TARGETS.iter().collect(),
        false => options.rest.iter().map(named).collect::<Result<_, _>>()?,
    };
    println!("seed {}", options.seed);
    let mut found_nothing = true;
    for target in targets {
        found_nothing &= fuzz(target, &options)?;
    }
    Ok(found_nothing)
}

/// The files of a target's corpus, in order.
fn corpus(target: &Target) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let folder = home().join("corpus").join(target.name);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files.iter().map(fs::read).collect::<Result<_, _>>()?)
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fails(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err()
}

fn fuzz(target: &Target, options: &Options) -> Result<bool, Box<dyn Error>> {
    let corpus = corpus(target)?;
    IS_THOROUGH.store(true, Ordering::Relaxed);
    for input in &corpus {
        (target.run)(input);
    }
    IS_THOROUGH.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    let until = options.seconds.map(|seconds| begin + Duration::from_secs(seconds));
    let most = options.executions.unwrap_or(if until.is_some() { u64::MAX } else { 100_000 });
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // What fails is told once, when it is short.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let failing = thread::scope(|scope| {
        let threads: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from) as u64)
            .map(|thread| {
                let (corpus, done, stop) = (&corpus, &done, &stop);
                scope.spawn(move || {
                    let mut random = Random::new(options.seed ^ thread << 48);
                    let mut input = Vec::new();
                    while !stop.load(Ordering::Relaxed)
                        && done.fetch_add(BATCH, Ordering::Relaxed) < most
                        && until.is_none_or(|until| Instant::now() < until)
                    {
                        for _ in 0..BATCH {
                            mutate(corpus, target.words, &mut random, &mut input);
                            if fails(target, &input) {
                                stop.store(true, Ordering::Relaxed);
                                IS_THOROUGH.store(true, Ordering::Relaxed);
                                return Some(shrink(input, |input| fails(target, input)));
                            }
                        }
                    }
                    None
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("the driver does not panic")).next()
    });
    panic::set_hook(hook);
    let (executions, seconds) = (done.load(Ordering::Relaxed), begin.elapsed().as_secs_f64());
    println!("{:11} {executions:>11} executions, {:>9.0} a second", target.name, executions as f64 / seconds);
    match failing {
        None => Ok(true),
        Some(input) => tell(target, &input).map(|()| false),
    }
}

/// Writes an input that fails to a file, and lets it fail once more, with its message.
fn tell(target: &Target, input: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = home().join("artifacts");
    fs::create_dir_all(&folder)?;
    let sum = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let file: PathBuf = folder.join(format!("{}-{sum:016x}", target.name));
    fs::write(&file, input)?;
    println!("{}: {} bytes: {}", target.name, input.len(), input.escape_ascii());
    println!("again: cargo run --release -- --replay {} {}", target.name, file.display());
    fails(target, input);
    Ok(())
}
