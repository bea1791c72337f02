//! Request handlers, as in Python's `socketserver`: blocking code that is called once for each connection or datagram,
//! while a loop accepts connections and closes them in an orderly way.
//!
//! | socketserver | here |
//! | --- | --- |
//! | `TCPServer`, `UDPServer`, `UnixStreamServer`, `UnixDatagramServer` | [`SocketServer::listen`], [`SocketServer::bind_datagram`] |
//! | no mix-in | [`Requests::one_at_a_time`] |
//! | `ThreadingMixIn` | [`Requests::threads`], a bounded number |
//! | `ForkingMixIn` | [`Requests::processes`], a bounded number, without fork |
//! | `BaseRequestHandler`: `setup`, `handle`, `finish` | [`RequestHandler`], or a closure |
//! | `rfile`, `wfile` | [`Request`] is `BufRead` and `Write` |
//! | `verify_request`, `handle_error` | [`Requests::verify`], [`Requests::on_error`] |
//! | `serve_forever`, `handle_request`, `shutdown` | the same names on [`SocketServer`] |
//! | `server_address`, `client_address` | [`SocketServer::local_addr`], [`Request::peer_addr`] |
//!
//! TLS, or any other [filter](crate::filter), is placed between the socket and the handlers by
//! [`Listen::filter`](crate::Listen::filter), as for protocols. A handler gets a connection whose filters are ready,
//! reads and writes through them, and can query them ([`BlockingStream::filter`](crate::BlockingStream::filter)). The
//! page on [filters](crate::guide::filters) says how it sees their errors and ends. A connection with filters cannot be
//! handled by a child process.
//!
//! A [`Requests`] can also run in a loop that does other things: see [`Requests::listen`] and
//! [`Requests::bind_datagram`].
//!
//! ```
//! use std::io::{BufRead, Write};
//! use std::num::NonZeroUsize;
//! use std::time::Duration;
//! use switchboard::server::{Request, Requests, SocketServer};
//!
//! # fn main() -> std::io::Result<()> {
//! // Answers one line in capitals; serves four clients at a time, the others wait.
//! let requests = Requests::threads(NonZeroUsize::new(4).unwrap(), || {
//!     |request: &mut Request| {
//!         let mut line = String::new();
//!         request.read_line(&mut line)?;
//!         request.write_all(line.to_uppercase().as_bytes())?;
//!         Ok(())
//!     }
//! });
//! let mut server = SocketServer::listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), requests)?;
//! # let address = server.local_addr().as_inet().unwrap();
//! # let client = std::thread::spawn(move || {
//! #     let mut stream = std::net::TcpStream::connect(address).unwrap();
//! #     stream.write_all(b"hello\n").unwrap();
//! #     std::io::read_to_string(stream).unwrap()
//! # });
//! server.handle_request(None)?; // or serve_forever()
//! server.shutdown(Duration::from_secs(5))?;
//! # assert_eq!(client.join().unwrap(), "HELLO\n");
//! # Ok(())
//! # }
//! ```

mod admission;
#[cfg(unix)]
mod children;
mod datagrams;
mod handler;
mod handling;
mod request;
mod requests;
mod socket_server;
mod streams;
mod task;

pub use handler::{RequestError, RequestHandler};
pub use request::Request;
pub use requests::{Requests, Serving};
pub use socket_server::SocketServer;
