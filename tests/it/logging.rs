//! What the loop logs, as the embedding program's logger gets it.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::sync::Once;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use switchboard::{EventLoop, LoopLimits, Protocol, Transport};

#[cfg(unix)]
use crate::process::Process;
use crate::support::{connect, event_loop, listen, turn_until};

#[cfg(unix)]
const CHILD: &str = "SWITCHBOARD_TEST_LOGGING_CHILD";

thread_local! {
    /// What was logged by this thread, which is this test.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// How long a line takes to be logged.
    static SLOWNESS: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

struct ToThread;

impl Log for ToThread {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.with_borrow_mut(|logged| logged.push(record.args().to_string()));
            // Sleeps only if a line is meant to be slow, not to wait for anything.
            std::thread::sleep(SLOWNESS.get());
        }
    }

    fn flush(&self) {}
}

fn start_logging() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_boxed_logger(Box::new(ToThread)).unwrap();
        log::set_max_level(LevelFilter::Warn);
    });
}

/// Is busy for a while at each message.
struct Busy;

impl Protocol for Busy {
    fn data_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) -> usize {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        transport.write(b"!");
        1
    }
}

#[test]
fn slow_callbacks_are_warned_of_once_a_second_with_their_names() {
    start_logging();
    let limits =
        LoopLimits::default().with_slow_callback_after(Some(Duration::from_millis(2))).with_times_callbacks(true);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let mut client = connect(listen(&mut event_loop, || Busy));
    client.write_all(&[b'x'; 20]).unwrap();
    turn_until(&mut event_loop, |context| context.health().slow_callbacks >= 20);
    let id = event_loop.context().connection_ids()[0];
    let logged = LOGGED.take();
    let expected = format!("data_received of connection {} took ", id.to_string().trim_start_matches('c'));
    assert!(logged[0].starts_with(&expected), "{logged:?}");
    assert!(logged.len() <= 2, "{logged:?}");
}

/// Complains of each byte.
struct Complains;

impl Protocol for Complains {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        for byte in data {
            transport.context().warn(format_args!("{byte} is no good"));
        }
        transport.write(data);
        data.len()
    }
}

#[test]
fn faults_a_slow_logger_holds_the_loop_up_for_a_few_lines_and_no_more() {
    const SLOW: Duration = Duration::from_millis(100);
    start_logging();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Complains);
    let mut clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    SLOWNESS.set(SLOW);
    let start = Instant::now();
    // A logger of this kind would take ten seconds for each round of these.
    for round in 1..=5 {
        clients.iter_mut().for_each(|client| client.write_all(&[b'x'; 5]).unwrap());
        turn_until(&mut event_loop, |context| context.counters().bytes_received == round * 100);
    }
    let (took, logged) = (start.elapsed(), LOGGED.take());
    SLOWNESS.set(Duration::ZERO);
    assert!(logged[0].contains("120 is no good"), "{logged:?}");
    // One line a second of each kind: warnings about peers, and slow callbacks since the last such line.
    let most = 2 * (1 + took.as_secs() as usize);
    assert!(logged.len() <= most, "{} lines in {took:?}: {logged:?}", logged.len());
    clients.iter_mut().for_each(|client| client.read_exact(&mut [0; 25]).unwrap());
}

/// In a separate process: the log level is global to a process.
#[cfg(unix)]
#[test]
fn connections_are_logged_with_their_peers_when_they_are_made_and_when_they_are_lost() {
    let mut command = Process::command("logging::the_child_that_logs_all");
    command.env(CHILD, "1");
    let mut child = Process::start(command);
    let peer = child.line();
    let (made, lost) = (child.line(), child.line());
    assert!(child.end().success());
    let middle = |line: &str, begin: &str, end: &str| {
        let rest = line.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        rest.unwrap_or_else(|| panic!("{line:?}")).to_owned()
    };
    let id = middle(&made, "connection ", &format!(" with {peer} is established"));
    assert_eq!(lost, format!("connection {id} with {peer} is lost: closed by the peer"));
}

#[cfg(unix)]
#[test]
fn the_child_that_logs_all() {
    struct ToStderr;

    impl Log for ToStderr {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            eprintln!("{}", record.args());
        }

        fn flush(&self) {}
    }

    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut event_loop = event_loop();
    let client = connect(listen(&mut event_loop, || Busy));
    eprintln!("{}", client.local_addr().unwrap());
    log::set_boxed_logger(Box::new(ToStderr)).unwrap();
    log::set_max_level(LevelFilter::Debug);
    turn_until(&mut event_loop, |context| context.connection_count() == 1);
    drop(client);
    turn_until(&mut event_loop, |context| context.connection_count() == 0);
}

#[cfg(feature = "proxy")]
#[test]
fn proxy_headers_that_are_none_are_logged_once_a_second_and_with_who_sent_them() {
    use switchboard::proxy::AcceptProxy;

    use crate::support::{address_of, any_port};

    start_logging();
    let mut event_loop = EventLoop::with_limits(LoopLimits::default().with_slow_callback_after(None)).unwrap();
    let mut context = event_loop.context();
    let factory = AcceptProxy::new().factory(|_, _| Some(Busy));
    let listener = context.listen(any_port(), factory).unwrap();
    let address = address_of(&mut context, listener);
    let start = Instant::now();
    let mut first = None;
    for n in 1..=20 {
        let mut client = connect(address);
        first = first.or(client.local_addr().ok());
        client.write_all(b"\x1b[2J").unwrap();
        turn_until(&mut event_loop, |context| context.counters().losses.protocol == n);
    }
    let logged = LOGGED.take();
    let expected = format!("the connection from {} was closed before it started: no PROXY header", first.unwrap());
    assert_eq!(logged[0], expected);
    assert!(logged.len() as u64 <= 1 + start.elapsed().as_secs(), "{logged:?}");
}
