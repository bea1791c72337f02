//! Sources of other kinds: pipes, a socket of mio's, inotify, and standard input.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;

use mio::Interest;
use mio::unix::{SourceFd, pipe};
use switchboard::{EventLoop, Readiness, SourceAction};

use crate::support::{event_loop, this_program, turn_until};

/// Reads one byte a call, and returns whether there may be more.
fn read_one(receiver: &mut pipe::Receiver, into: &RefCell<Vec<u8>>) -> SourceAction {
    let mut byte = [0];
    match receiver.read(&mut byte) {
        Ok(0) => SourceAction::Remove,
        Ok(_) => {
            into.borrow_mut().push(byte[0]);
            SourceAction::Again
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => SourceAction::Wait,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_handler_waits_is_called_again_and_is_removed_as_it_answers() {
    let mut event_loop = event_loop();
    let (mut sender, receiver) = pipe::new().unwrap();
    let received = Rc::new(RefCell::new(Vec::new()));
    let into = received.clone();
    event_loop
        .context()
        .register(receiver, Interest::READABLE, move |_, receiver, _| read_one(receiver, &into))
        .unwrap();
    for part in [&b"one byte a call, "[..], b"and again with the next event"] {
        sender.write_all(part).unwrap();
        let so_far = received.borrow().len();
        turn_until(&mut event_loop, |_| received.borrow().len() == so_far + part.len());
    }
    assert_eq!(*received.borrow(), b"one byte a call, and again with the next event");
    drop(sender);
    // With the source removed nothing is left to wait for.
    event_loop.run_until_idle().unwrap();
}

#[test]
fn e1_a_handler_that_panics_is_removed_and_the_loop_goes_on() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut bad_sender, bad) = pipe::new().unwrap();
    let (mut good_sender, good) = pipe::new().unwrap();
    let received = Rc::new(RefCell::new(Vec::new()));
    let into = received.clone();
    let mut context = event_loop.context();
    let panics = context.register(bad, Interest::READABLE, |_, _, _| panic!("as the test wants it")).unwrap();
    context.register(good, Interest::READABLE, move |_, receiver, _| read_one(receiver, &into)).unwrap();
    bad_sender.write_all(b"x").unwrap();
    good_sender.write_all(b"fine").unwrap();
    turn_until(&mut event_loop, |context| context.counters().panics == 1 && received.borrow().len() == 4);
    assert!(!event_loop.context().deregister(panics), "it is gone");
    assert_eq!(bad_sender.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe, "and its descriptor closed");
}

#[test]
fn a_source_can_be_deregistered_by_anybody_and_by_its_own_handler() {
    let mut event_loop = event_loop();
    let (mut sender, receiver) = pipe::new().unwrap();
    let own_id = Rc::new(std::cell::Cell::new(None));
    let id = own_id.clone();
    let source = event_loop
        .context()
        .register(receiver, Interest::READABLE, move |context, _, _| {
            assert!(context.deregister(id.take().unwrap()));
            SourceAction::Wait
        })
        .unwrap();
    own_id.set(Some(source));
    sender.write_all(b"x").unwrap();
    event_loop.run_until_idle().unwrap();
    let (_sender, receiver) = pipe::new().unwrap();
    let other = event_loop.context().register(receiver, Interest::READABLE, |_, _, _| unreachable!()).unwrap();
    assert!(event_loop.context().deregister(other));
    assert!(!event_loop.context().deregister(other));
    event_loop.run_until_idle().unwrap();
}

#[test]
fn a_source_is_waited_for_in_another_way_from_outside_and_by_its_own_handler() {
    let mut event_loop = event_loop();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let said = Rc::new(RefCell::new(Vec::new()));
    let (into, own_id) = (said.clone(), Rc::new(std::cell::Cell::new(None)));
    let id = own_id.clone();
    let source = event_loop
        .context()
        .register(mio::net::UnixStream::from_std(theirs), Interest::READABLE, move |context, _, readiness| {
            into.borrow_mut().push((readiness.is_readable(), readiness.is_writable()));
            if readiness.is_writable() {
                context.reregister(id.get().unwrap(), Interest::READABLE).unwrap();
            }
            SourceAction::Wait
        })
        .unwrap();
    own_id.set(Some(source));
    event_loop.turn(Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(said.take(), [], "it is writable, which nobody asked for");
    event_loop.context().reregister(source, Interest::READABLE | Interest::WRITABLE).unwrap();
    turn_until(&mut event_loop, |_| said.borrow().len() == 1);
    assert_eq!(said.take(), [(false, true)]);
    ours.write_all(b"x").unwrap();
    turn_until(&mut event_loop, |_| said.borrow().len() == 1);
    assert_eq!(said.take(), [(true, false)], "its handler asked for reading alone");
    assert!(event_loop.context().deregister(source));
    let gone = event_loop.context().reregister(source, Interest::READABLE).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

/// A source for anything with a descriptor, as an embedding program would write it.
#[cfg(target_os = "linux")]
struct Described<T>(T);

#[cfg(target_os = "linux")]
impl<T: AsFd> mio::event::Source for Described<T> {
    fn register(&mut self, registry: &mio::Registry, token: mio::Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_fd().as_raw_fd()).register(registry, token, interest)
    }

    fn reregister(&mut self, registry: &mio::Registry, token: mio::Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_fd().as_raw_fd()).reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &mio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_fd().as_raw_fd()).deregister(registry)
    }
}

#[cfg(target_os = "linux")]
#[test]
fn inotify_is_a_source_and_a_regular_file_is_refused() {
    use nix::errno::Errno;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    let folder = std::env::temp_dir().join(format!("switchboard-inotify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    inotify.add_watch(&folder, AddWatchFlags::IN_CREATE).unwrap();
    let mut event_loop = event_loop();
    let names = Rc::new(RefCell::new(Vec::new()));
    let into = names.clone();
    let handler =
        move |_: &mut switchboard::Context<'_>, source: &mut Described<Inotify>, _| match source.0.read_events() {
            Ok(events) => {
                into.borrow_mut().extend(events.into_iter().filter_map(|event| event.name));
                SourceAction::Again
            }
            Err(Errno::EAGAIN) => SourceAction::Wait,
            Err(error) => panic!("{error}"),
        };
    event_loop.context().register(Described(inotify), Interest::READABLE, handler).unwrap();
    let file = std::fs::File::create(folder.join("appeared")).unwrap();
    turn_until(&mut event_loop, |_| !names.borrow().is_empty());
    assert_eq!(*names.borrow(), ["appeared"]);
    let refused = event_loop.context().register(Described(file), Interest::READABLE, |_, _, _| SourceAction::Wait);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied, "a file is always ready");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// One descriptor in two sources.
#[cfg(target_os = "linux")]
#[test]
fn faults_a_descriptor_that_is_waited_for_already_is_refused_and_nothing_is_lost() {
    let mut event_loop = event_loop();
    let (mut sender, receiver) = UnixStream::pair().unwrap();
    let receiver = Rc::new(receiver);
    let received = Rc::new(RefCell::new(Vec::new()));
    let register = |context: &mut switchboard::Context<'_>, name: &'static str| {
        let into = received.clone();
        let dropped = Rc::new(());
        let kept = Rc::downgrade(&dropped);
        // The descriptor is edge-triggered, and read once for each edge.
        let handler = move |_: &mut switchboard::Context<'_>, source: &mut Described<Rc<UnixStream>>, _| {
            let _ = &dropped;
            let mut bytes = [0; 64];
            let count = (&*source.0).read(&mut bytes).unwrap();
            into.borrow_mut().push((name, bytes[..count].to_vec()));
            SourceAction::Wait
        };
        (context.register(Described(receiver.clone()), Interest::READABLE, handler), kept)
    };
    let first = register(&mut event_loop.context(), "first").0.unwrap();
    for _ in 0..3 {
        let (refused, handler) = register(&mut event_loop.context(), "second");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
        event_loop.turn(Some(std::time::Duration::ZERO)).unwrap();
        assert!(handler.upgrade().is_none(), "its handler is dropped");
    }
    sender.write_all(b"for the first").unwrap();
    turn_until(&mut event_loop, |_| !received.borrow().is_empty());
    assert_eq!(received.take(), [("first", b"for the first".to_vec())]);
    assert!(event_loop.context().deregister(first));
    // Nothing else is left to wait for.
    event_loop.run_until_idle().unwrap();
    let second = register(&mut event_loop.context(), "second").0.unwrap();
    sender.write_all(b"for the second").unwrap();
    turn_until(&mut event_loop, |_| !received.borrow().is_empty());
    assert_eq!(received.take(), [("second", b"for the second".to_vec())]);
    assert!(event_loop.context().deregister(second));
}

const CHILD: &str = "SWITCHBOARD_TEST_STDIN_CHILD";

#[test]
fn standard_input_is_a_source_until_its_end() {
    // In a separate process, since this one's standard input is not ours.
    let mut child = Command::new(this_program())
        .args(["--exact", "sources::the_child_that_reads_standard_input", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"typed, ").unwrap();
    input.write_all(b"and typed again").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("<typed, and typed again>"), "{printed}");
}

#[test]
fn the_child_that_reads_standard_input() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut event_loop = event_loop();
    let mut typed = Vec::new();
    let handler = move |_: &mut switchboard::Context<'_>, _: &mut SourceFd<'static>, readiness: Readiness| {
        // It is a blocking descriptor that others may share: one read for each event never blocks, nor does one at
        // the end.
        let mut buffer = [0; 1024];
        match io::stdin().lock().read(&mut buffer).unwrap() {
            0 => {
                println!("<{}>", String::from_utf8_lossy(&typed));
                SourceAction::Remove
            }
            count => {
                typed.extend_from_slice(&buffer[..count]);
                if readiness.is_read_closed() || count == buffer.len() {
                    SourceAction::Again
                } else {
                    SourceAction::Wait
                }
            }
        }
    };
    event_loop.context().register(SourceFd(&0), Interest::READABLE, handler).unwrap();
    event_loop.run_until_idle().unwrap();
}
