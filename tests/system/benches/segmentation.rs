//! The cost of sending many datagrams to one peer, one by one and as one piece that the kernel splits (UDP segmentation
//! offload): `cargo bench --bench segmentation`, on Linux.
//!
//! The loop sends datagrams one by one. A program that sends hundreds, such as QUIC or streamed media, uses the crate
//! `quinn-udp` on the loop's own socket, as here. It prints the thread's CPU time in the sending call, the median
//! of alternating rounds; the receiver is a plain socket on loopback. With `-- --short` it runs for a moment only, to check
//! that it works.

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("there is nothing to compare here");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::{SocketAddr, UdpSocket};

    use quinn_udp::{Transmit, UdpSocketState};
    use rustix::time::{ClockId, clock_gettime};
    use switchboard::{Address, DatagramProtocol, DatagramTransport, EventLoop};

    const DATAGRAM_BYTES: usize = 1200;
    const DATAGRAMS: usize = 32;

    /// Sends, and receives nothing.
    struct Sender;

    impl DatagramProtocol for Sender {
        fn datagram_received(&mut self, _: &mut DatagramTransport<'_>, _: &[u8], _: &Address) {}
    }

    fn cpu_ns() -> u64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn one_by_one(socket: &mut DatagramTransport<'_>, data: &[u8], to: SocketAddr) {
        let to = Address::from(to);
        for datagram in data.chunks(DATAGRAM_BYTES) {
            socket.send_to(datagram, &to);
        }
    }

    fn cut_by_the_kernel(socket: &mut DatagramTransport<'_>, state: &UdpSocketState, data: &[u8], to: SocketAddr) {
        let piece =
            Transmit { destination: to, ecn: None, contents: data, segment_size: Some(DATAGRAM_BYTES), src_ip: None };
        let socket = socket.socket().expect("it is open");
        state.try_send((&socket).into(), &piece).expect("the kernel takes it");
    }

    /// The number of datagrams received.
    fn drain(receiver: &UdpSocket) -> usize {
        let mut buffer = [0; 2 * DATAGRAM_BYTES];
        std::iter::from_fn(|| receiver.recv(&mut buffer).ok()).inspect(|&size| assert_eq!(size, DATAGRAM_BYTES)).count()
    }

    pub(super) fn main() {
        let (rounds, sends) = if std::env::args().any(|argument| argument == "--short") { (3, 5) } else { (101, 50) };
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        receiver.set_nonblocking(true).expect("it is a socket");
        let to = receiver.local_addr().expect("it is bound");
        let mut event_loop = EventLoop::new().expect("a descriptor is left");
        let mut context = event_loop.context();
        let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
        let id = context.bind_datagram(any_port, Sender).expect("a port is free");
        let mut socket = context.datagram(id).expect("it is open");
        let state = UdpSocketState::new((&socket.socket().expect("it is open")).into()).expect("it is a socket");
        let data = vec![0; DATAGRAMS * DATAGRAM_BYTES];
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            for (way, times) in times.iter_mut().enumerate() {
                let mut spent = 0;
                for _ in 0..sends {
                    let before = cpu_ns();
                    match way {
                        0 => one_by_one(&mut socket, &data, to),
                        _ => cut_by_the_kernel(&mut socket, &state, &data, to),
                    }
                    spent += cpu_ns() - before;
                    assert_eq!(drain(&receiver), DATAGRAMS);
                }
                times.push(spent / (sends * DATAGRAMS) as u64);
            }
        }
        let [one_by_one, cut] = times.map(|mut times| {
            times.sort_unstable();
            times[rounds / 2]
        });
        println!(
            "{DATAGRAMS} datagrams of {DATAGRAM_BYTES} bytes to one peer: {one_by_one} ns of CPU time each, one by one, and \
             {cut} as one piece of up to {} that the kernel cuts",
            state.max_gso_segments()
        );
    }
}
