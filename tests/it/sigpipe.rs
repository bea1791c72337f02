//! No write of the loop raises SIGPIPE (rule W7).

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use switchboard::{CloseReason, Detached, Protocol, Transport};

use crate::support::{connect, event_loop, listen, this_program, turn_until};

const CHILD: &str = "SWITCHBOARD_TEST_SIGPIPE_CHILD";

/// Goes on writing to a peer that has closed.
struct WriteOn;

impl Protocol for WriteOn {
    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        let id = transport.id();
        // By a timer, since what a callback writes to its own connection is gathered: a small piece and a large one
        // behind it go out vectored.
        transport.context().call_later(Duration::ZERO, move |context| {
            // The first is answered by a reset; the second finds the socket reset.
            for _ in 0..2 {
                let mut transport = context.connection(id).expect("it is still there");
                transport.write(b"small");
                transport.write_owned(vec![0; 100_000]);
            }
        });
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        assert!(matches!(reason, CloseReason::Reset), "{reason}");
    }
}

#[test]
fn w7_no_write_raises_sigpipe_though_the_program_would_die_of_it() {
    // In a process of its own: the signal's disposition belongs to all of a process.
    let status = Command::new(this_program())
        .args(["--exact", "sigpipe::the_child_of_w7", "--nocapture"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success(), "the child ended with {status}");
}

#[test]
fn the_child_of_w7() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    sigpipe::reset();
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || WriteOn);
    for n in 1..=20 {
        drop(connect(address));
        turn_until(&mut event_loop, |context| context.counters().connections_lost == n);
    }
    // A plain stream, too.
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let mut stream = Detached::from(ours).into_blocking(None).unwrap();
    assert_eq!(stream.write(b"to nobody").unwrap_err().kind(), ErrorKind::BrokenPipe);
}
