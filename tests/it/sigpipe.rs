//! No write of the loop raises SIGPIPE (rule W7).

use std::io::Read;
use std::process::Command;
use std::sync::Arc;

use switchboard::{CloseReason, Protocol, Transport};

use crate::support::{connect, event_loop, listen, turn_until};

const CHILD: &str = "SWITCHBOARD_TEST_SIGPIPE_CHILD";

/// Keeps writing, in large pieces so that they go out vectored, until the connection is lost.
struct Flood(Arc<[u8]>);

impl Flood {
    fn flood(&mut self, transport: &mut Transport<'_>) {
        for _ in 0..8 {
            transport.write_shared(self.0.clone());
            transport.write(b"small");
        }
    }
}

impl Protocol for Flood {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        self.flood(transport);
        let id = transport.id();
        again(transport, id);
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        self.flood(transport);
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        assert!(matches!(reason, CloseReason::Reset), "{reason}");
    }
}

/// Writes more from time to time, so that some of it meets a socket that is closed at the other end.
fn again(transport: &mut Transport<'_>, id: switchboard::ConnectionId) {
    transport.context().call_later(std::time::Duration::from_millis(1), move |context| {
        if let Some(mut transport) = context.connection(id) {
            transport.write(&[0; 100]);
            transport.write_owned(vec![1; 100_000]);
            transport.write(&[2; 100]);
            again(&mut transport, id);
        }
    });
}

#[test]
fn w7_no_write_raises_sigpipe_though_the_program_would_die_of_it() {
    // In a process of its own: the signal's disposition belongs to all of a process.
    let status = Command::new(std::env::current_exe().unwrap())
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
    let address = listen(&mut event_loop, || Flood(vec![7; 100_000].into()));
    for _ in 0..20 {
        let mut client = connect(address);
        turn_until(&mut event_loop, |context| context.connections() == 1);
        // Some of it is read, the rest is not: closing resets, and what the loop sends next is answered by an error.
        client.read_exact(&mut [0; 1000]).unwrap();
        drop(client);
        turn_until(&mut event_loop, |context| context.connections() == 0);
    }
}
