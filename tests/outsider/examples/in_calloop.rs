//! The loop as a guest of a `calloop` loop: sockets in a program whose main loop is calloop's, like that of many
//! desktop programs.
//!
//! Run `cargo run --package outsider --example in_calloop`, then `telnet 127.0.0.1 1234`, which echoes. The program
//! itself counts the seconds, by a timer of calloop.
//!
//! calloop is given two things: the loop's descriptor, and how long the loop can be left alone. After each wait the
//! loop is turned once, without waiting. What the program itself does with the loop meanwhile, from a callback of
//! calloop, is taken into account by the next wait.

#[cfg(unix)]
mod on_unix {
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{Interest, Mode, PostAction};
    use switchboard::{EventLoop, Protocol, Transport};

    /// What calloop's callbacks get: the program, which includes the loop.
    pub(crate) struct Program {
        pub(crate) event_loop: EventLoop,
        pub(crate) seconds: u64,
    }

    /// calloop's loop, whose callbacks get the program.
    pub(crate) type Host = calloop::EventLoop<'static, Program>;

    struct Echo;

    impl Protocol for Echo {
        fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
            transport.write(data);
            data.len()
        }
    }

    /// Listens, and returns the address.
    pub(crate) fn serve(event_loop: &mut EventLoop, address: SocketAddr) -> io::Result<SocketAddr> {
        let mut context = event_loop.context();
        let id = context.listen(address, |_, _| Some(Echo))?;
        let listener = context.listener(id).ok_or(io::ErrorKind::NotFound)?;
        listener.local_addr()?.as_inet().ok_or(io::ErrorKind::AddrNotAvailable.into())
    }

    /// Returns calloop's loop, which waits for the guest's descriptor and for its own timer.
    pub(crate) fn host(program: &Program, second: Duration) -> Result<Host, Box<dyn std::error::Error>> {
        let host = Host::try_new()?;
        // A duplicate of the poller's descriptor, since calloop takes ownership of what it waits for.
        let guest = program.event_loop.as_fd().try_clone_to_owned()?;
        host.handle()
            .insert_source(Generic::new(guest, Interest::READ, Mode::Level), |_, _, _| Ok(PostAction::Continue))?;
        host.handle().insert_source(Timer::from_duration(second), move |_, _, program| {
            program.seconds += 1;
            TimeoutAction::ToDuration(second)
        })?;
        Ok(host)
    }

    /// Runs both until the loop is stopped.
    pub(crate) fn run(host: &mut Host, program: &mut Program) -> Result<(), Box<dyn std::error::Error>> {
        while !program.event_loop.take_stop() {
            let time_to_next = program.event_loop.time_to_next();
            host.dispatch(time_to_next, program)?;
            program.event_loop.turn(Some(Duration::ZERO))?;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::time::Duration;

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1234".to_owned());
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let mut program = on_unix::Program { event_loop: switchboard::EventLoop::new()?, seconds: 0 };
    switchboard::signals::drain_on_signals(&mut program.event_loop.context(), Duration::from_secs(5))?;
    let listening = on_unix::serve(&mut program.event_loop, address)?;
    let mut host = on_unix::host(&program, Duration::from_secs(1))?;
    println!("listening on {listening}");
    on_unix::run(&mut host, &mut program)?;
    println!("{} s", program.seconds);
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs file descriptors, which only Unix has");
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use super::on_unix::{Program, host, run, serve};
    use switchboard::EventLoop;

    #[test]
    fn both_loops_are_served_in_one_wait() {
        let mut program = Program { event_loop: EventLoop::new().unwrap(), seconds: 0 };
        let address = serve(&mut program.event_loop, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let handle = program.event_loop.context().handle();
        // A timer of the guest, for which nothing else wakes the host: without `time_to_next` the wait would be as long
        // as the host's.
        let (told, tells) = std::sync::mpsc::channel();
        program.event_loop.context().call_later(Duration::from_millis(20), move |_| told.send(()).unwrap());
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for turn in 0..100_u8 {
                let (sent, mut received) = ([turn; 1000], [0; 1000]);
                client.write_all(&sent).unwrap();
                client.read_exact(&mut received).unwrap();
                assert_eq!(sent, received);
            }
            let timer = tells.recv_timeout(Duration::from_secs(10));
            handle.stop();
            timer.unwrap();
        });
        // Too long to wake the host.
        let mut host = host(&program, Duration::from_secs(3600)).unwrap();
        run(&mut host, &mut program).unwrap();
        client.join().unwrap();
        assert_eq!(program.seconds, 0);
    }

    #[test]
    fn timers_of_the_host_come_while_the_guest_has_nothing_to_do() {
        let mut program = Program { event_loop: EventLoop::new().unwrap(), seconds: 0 };
        program.event_loop.context().call_later(Duration::from_millis(300), |context| context.stop());
        let mut host = host(&program, Duration::from_millis(10)).unwrap();
        run(&mut host, &mut program).unwrap();
        assert!(program.seconds > 0);
    }
}
