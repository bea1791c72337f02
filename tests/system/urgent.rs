//! Urgent data while signals arrive (rule R6).

use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;

use crate::process::Process;
use crate::support::{Echo, PATIENCE, connect, event_loop, listen};

const CHILD: &str = "SWITCHBOARD_TEST_URGENT_CHILD";

/// On Linux, a read at the urgent mark fails with `WouldBlock` while a signal is pending for the thread, even though data
/// is there, and no edge is raised for that data later. Stopping and continuing a process needs no signal handler.
#[test]
fn r6_a_would_block_at_the_urgent_mark_while_signals_come_is_not_believed() {
    let mut command = Process::command("urgent::the_child_of_r6");
    command.env(CHILD, "1");
    let mut child = Process::start(command);
    let address = child.address();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect();
    let pid = Pid::from_child(&child.child);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = SetOnDrop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..SIGNALS {
                    kill_process(pid, Signal::STOP).unwrap();
                    kill_process(pid, Signal::CONT).unwrap();
                }
                // Without a pause the process might never run.
                thread::sleep(Duration::from_micros(100));
            }
        });
        let start = Instant::now();
        let mut rounds = 0;
        while start.elapsed() < STRESS {
            exchange(&mut clients, rounds);
            rounds += 1;
        }
    });
}

const CLIENTS: usize = 50;
const SIGNALS: usize = 16;
const STRESS: Duration = Duration::from_secs(2);

/// Each client sends an urgent byte and waits for its echo.
fn exchange(clients: &mut [TcpStream], round: usize) {
    for client in &*clients {
        SockRef::from(client).send_out_of_band(b"!").unwrap();
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let mut echo = [0];
        let read = client.read_exact(&mut echo);
        assert!(read.is_ok(), "no echo for client {index} in round {round} within {PATIENCE:?}: {read:?}");
        assert_eq!(echo, *b"!");
    }
}

/// Ends a thread even if the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_child_of_r6() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut event_loop = event_loop();
    let address = listen(&mut event_loop, || Echo);
    eprintln!("{address}");
    event_loop.context().call_later(6 * PATIENCE, |context| context.stop());
    event_loop.run().unwrap();
}
