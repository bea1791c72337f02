//! A server behind a proxy, from outside.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use switchboard::proxy::{AcceptProxy, Carried, HeaderError, Tlvs, Version, tlv};
use switchboard::{Address, CloseReason, Context, EventLoop, IntoProtocol, Protocol, Transport};

/// Sends the peer's address; an embedder's protocol that starts with another one of its own.
struct Says(Address);

impl Protocol for Says {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        assert_eq!(transport.peer_addr(), Some(&self.0));
        transport.write(self.0.to_string().as_bytes());
    }

    fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// Waits for a password, like `AcceptProxy` waits for a header.
struct Knock(Option<Address>);

impl Protocol for Knock {
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        if !b"sesame".starts_with(&data[..data.len().min(6)]) {
            transport.context().warn("somebody does not know the word");
            transport.abort_for("another word");
        } else if data.len() >= 6 {
            let says = Says(self.0.take().unwrap_or_else(|| transport.peer_addr().unwrap().clone()));
            transport.set_peer_addr(says.0.clone());
            transport.start_protocol(says);
            return 6;
        }
        0
    }

    fn connection_lost(&mut self, _: &mut Transport<'_>, reason: CloseReason) {
        assert!(matches!(reason, CloseReason::Protocol(_)), "{reason}");
    }
}

/// Returns the reply to a client that sends this.
fn answer<P: IntoProtocol>(
    factory: impl FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
    bytes: &[u8],
) -> std::io::Result<String> {
    let mut event_loop = EventLoop::new()?;
    let mut context = event_loop.context();
    let listener = context.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), factory)?;
    let address = context.listener(listener).unwrap().local_addr()?.as_inet().unwrap();
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    client.write_all(bytes)?;
    let _ = client.shutdown(Shutdown::Write);
    while event_loop.context().counters().connections_lost == 0 {
        event_loop.turn(Some(Duration::from_secs(10)))?;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_server_behind_a_proxy_learns_who_its_client_is() {
    let carried = Rc::new(RefCell::new(None::<Carried>));
    let seen = carried.clone();
    let accept = AcceptProxy::new().timeout(Duration::from_secs(10)).header_bytes_max(536);
    let accept = accept.trusted(|proxy| proxy.as_inet().is_some_and(|proxy| proxy.ip().is_loopback()));
    let factory = accept.factory(move |_, carried| {
        *seen.borrow_mut() = Some(carried.clone());
        Some(Says(carried.peer().clone()))
    });
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x01\xc0\0\x02\x02\0\x05\0\x50\x02\0\x01a";
    assert_eq!(answer(factory, header).unwrap(), "192.0.2.1:5");
    let carried = carried.take().unwrap();
    assert_eq!((carried.version(), carried.source()), (Version::V2, Some(carried.peer())));
    assert_eq!(carried.destination().unwrap().to_string(), "192.0.2.2:80");
    assert!(carried.proxy().as_inet().unwrap().ip().is_loopback());
    assert_eq!((carried.tlv(tlv::AUTHORITY), carried.tlv(tlv::SSL)), (Some(&b"a"[..]), None));
    let tlvs: Tlvs<'_> = carried.tlvs();
    assert_eq!(tlvs.collect::<Vec<_>>(), [(2, &b"a"[..])]);
    assert_eq!(Tlvs::of(b"\x21\0\x07TLSv1.3").next(), Some((0x21, &b"TLSv1.3"[..])));
    assert!(format!("{carried:?} {:?}", AcceptProxy::default()).contains("192.0.2.1:5"));
}

#[test]
fn what_is_no_header_is_reset() {
    assert!(answer(AcceptProxy::new().factory(|_, _| None::<Says>), b"hello").is_err());
    assert_eq!(HeaderError::NoHeader.to_string(), "no PROXY header");
}

#[test]
fn a_protocol_begins_behind_another_one_of_the_embedder_s_own() {
    let beyond = Address::from("192.0.2.7:7".parse::<std::net::SocketAddr>().unwrap());
    let factory = move |_: &mut Context<'_>, _: &Address| Some(Knock(Some(beyond.clone())));
    assert_eq!(answer(factory.clone(), b"sesame").unwrap(), "192.0.2.7:7");
    assert!(answer(factory, b"open").is_err());
}
