//! What an idle connection keeps: rustls' part, and ours.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConnection, ServerConfig, StreamOwned};
use switchboard::{EventLoop, Listen, Protocol, Transport};

use crate::kit::{NAME, V13, client, server};

const CONNECTIONS: usize = 64;

/// The bound of what the loop's record of a connection, its chain of filters and `Tls` keep.
const OURS_BYTES_MAX: u64 = 1_100;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        transport.write(data);
        data.len()
    }
}

/// Does a handshake and an echo of one byte. The stream has to be kept.
fn talk<S: Read + Write>(socket: S) -> StreamOwned<ClientConnection, S> {
    let config = Arc::new(client(V13));
    let mut stream = StreamOwned::new(ClientConnection::new(config, NAME.try_into().unwrap()).unwrap(), socket);
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

/// A connection of rustls without a loop, which has done the same.
fn bare(config: Arc<ServerConfig>) -> UnbufferedServerConnection {
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || drop(talk(theirs)));
    let mut tls = UnbufferedServerConnection::new(config).unwrap();
    let (mut came, mut out, mut plain) = (vec![0; 16 * 1024], vec![0; 16 * 1024], Vec::new());
    let (mut filled, mut has_answered) = (0, false);
    while !has_answered {
        filled += socket.read(&mut came[filled..]).unwrap();
        let mut taken = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = tls.process_tls_records(&mut came[taken..filled]);
            match state.unwrap() {
                ConnectionState::EncodeTlsData(mut message) => match message.encode(&mut out) {
                    Ok(count) => socket.write_all(&out[..count]).unwrap(),
                    Err(error) => panic!("there is room: {error}"),
                },
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.unwrap();
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                ConnectionState::WriteTraffic(mut traffic) if !plain.is_empty() => {
                    let count = traffic.encrypt(&plain, &mut out).unwrap();
                    socket.write_all(&out[..count]).unwrap();
                    plain.clear();
                    has_answered = true;
                    break;
                }
                _ => {
                    taken += discard;
                    break;
                }
            }
            taken += discard;
        }
        came.copy_within(taken..filled, 0);
        filled -= taken;
    }
    peer.join().unwrap();
    tls
}

#[test]
fn an_idle_connection_keeps_what_rustls_keeps_and_little_more() {
    let config = Arc::new(server(V13));
    drop(bare(config.clone()));
    let mut kept = Vec::with_capacity(CONNECTIONS);
    let of_rustls = allocation_counter::measure(|| kept.extend((0..CONNECTIONS).map(|_| bare(config.clone()))));

    let mut event_loop = EventLoop::new().unwrap();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = Listen::at(any_port).filter(switchboard_tls::listen(config));
    let listener = event_loop.context().listen(listen, |_, _| Some(Echo)).unwrap();
    let address = event_loop.context().listener(listener).unwrap().local_addr().unwrap();
    let address = address.as_inet().unwrap();
    let (done, ends) = mpsc::channel::<()>();
    let handle = event_loop.context().handle();
    let peers = thread::spawn(move || {
        // The first one allocates what all share: the table's first slots, buffers.
        let first = talk(TcpStream::connect(address).unwrap());
        handle.stop();
        let mut all: Vec<_> = (0..CONNECTIONS).map(|_| talk(TcpStream::connect(address).unwrap())).collect();
        handle.stop();
        let _ = ends.recv();
        all.push(first);
    });
    event_loop.run().unwrap();
    let of_all = allocation_counter::measure(|| event_loop.run().unwrap());
    drop(done);
    let each = |info: &allocation_counter::AllocationInfo| info.bytes_current as u64 / CONNECTIONS as u64;
    // The record itself is in a list that was allocated before.
    let record = size_of::<UnbufferedServerConnection>() as u64;
    let (rustls, all) = (each(&of_rustls) + record, each(&of_all));
    println!("an idle connection keeps {all} bytes: {rustls} of rustls', {} of ours", all.saturating_sub(rustls));
    assert!(rustls > 1_000 && all > rustls, "{rustls} {all}");
    assert!(all - rustls <= OURS_BYTES_MAX, "{all} bytes in all, {rustls} of rustls'");
    drop(event_loop);
    peers.join().unwrap();
    assert_eq!(kept.len(), CONNECTIONS);
}
