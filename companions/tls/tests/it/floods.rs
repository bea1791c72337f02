//! Peers that send too much, or nonsense, after a handshake: the cost is bounded.

use std::sync::Arc;

use rustls::{ContentType, Error};
use switchboard::Limits;
use switchboard::testing::Faults;

use super::kit::*;
use super::rogue::Rogue;

/// A server with this protocol, and a rogue that is connected to it.
fn rogue(version: &'static rustls::SupportedProtocolVersion, act: Act) -> (World, Rogue) {
    let mut world = World::of(server(version), act);
    let rogue = Rogue::dial(&mut world, version);
    assert_eq!(world.events().0, ["made"]);
    (world, rogue)
}

/// How the server's connection has ended.
fn lost(world: &mut World) -> String {
    world.network.run_for(3 * SECOND);
    world.does_not_spin();
    let events = world.events().0;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(world.connections().0, 0);
    events.into_iter().next().unwrap()
}

#[test]
fn keys_may_be_changed_in_the_middle_of_a_stream() {
    let (mut world, mut rogue) = rogue(V13, echo);
    for round in 0..100 {
        let records = [rogue.key_update(), rogue.data(&[round; 10])].concat();
        rogue.peer.send(&records);
        world.network.run_for(SECOND);
        assert_eq!(rogue.hear(), Ok(vec![round; 10]), "with the keys of the server changed as well");
    }
    assert_eq!(world.events().0, [""; 0]);
}

#[test]
fn a_flood_of_key_changes_ends_its_connection_and_is_answered_by_no_flood() {
    let (mut world, mut rogue) = rogue(V13, echo);
    let before = world.network.context(world.server_host).counters().bytes_sent;
    let flood: Vec<u8> = (0..5000).flat_map(|_| rogue.key_update()).collect();
    rogue.peer.send(&flood);
    assert_eq!(lost(&mut world), "lost: protocol error: peer misbehaved: TooManyKeyUpdateRequests");
    let answered = world.network.context(world.server_host).counters().bytes_sent - before;
    assert!(answered < 100, "{answered} bytes");
}

#[test]
fn a_peer_that_changes_keys_with_each_byte_and_reads_nothing_meets_the_cap() {
    let limits = Limits::default().with_queue_bytes_max(100_000).with_pause_reading_over_high(false);
    let make = switchboard_tls::listen(Arc::new(server(V13)));
    let mut world = World::with_limits(
        1,
        Faults::none(),
        limits,
        |listen| listen.filter(make),
        |event, transport| {
            if let Event::Data(_) = event {
                transport.write(&[0; 1000]);
                assert!(transport.queued_bytes() < 100_000 + 3 * 65_536);
            }
        },
    );
    let mut rogue = Rogue::dial(&mut world, V13);
    rogue.peer.stall();
    let mut sent = 0;
    while world.connections().0 > 0 {
        let records: Vec<u8> = (0..10).flat_map(|_| [rogue.key_update(), rogue.data(b"x")].concat()).collect();
        sent += rogue.peer.send(&records);
        world.network.run_for(SECOND / 100);
        assert!(sent < 10_000_000, "nothing ends it");
    }
    assert_eq!(world.events().0, ["made", "lost: too much output queued"]);
}

#[test]
fn floods_of_records_without_sense_end_their_connection_and_say_why() {
    let alert = [1, 100];
    let cases = [
        (V12, ContentType::ApplicationData, &[][..], "TooManyEmptyFragments"),
        (V13, ContentType::ApplicationData, &[], "TooManyEmptyFragments"),
        (V12, ContentType::Alert, &alert, "TooManyWarningAlertsReceived"),
        (V12, ContentType::Handshake, &[], "TooManyEmptyFragments"),
        // A client requests a renegotiation: a hello in the middle of the stream.
        (V12, ContentType::Handshake, HELLO, "TooManyRenegotiationRequests"),
    ];
    for (version, kind, payload, why) in cases {
        let (mut world, mut rogue) = rogue(version, echo);
        let before = world.network.context(world.server_host).counters().bytes_sent;
        let flood: Vec<u8> = (0..1000).flat_map(|_| rogue.record(kind, payload)).collect();
        rogue.peer.send(&flood);
        assert_eq!(lost(&mut world), format!("lost: protocol error: peer misbehaved: {why}"), "{version:?}");
        let answered = world.network.context(world.server_host).counters().bytes_sent - before;
        assert!(answered < 100, "{answered} bytes");
    }
}

/// The hello of a TLS 1.2 client, with one suite and no extensions.
const HELLO: &[u8] = &[
    1, 0, 0, 41, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    0, 0, 2, 0xcc, 0xa9, 1, 0,
];

#[test]
fn a_renegotiation_is_refused_and_the_stream_goes_on() {
    let (mut world, mut rogue) = rogue(V12, echo);
    let records = [rogue.record(ContentType::Handshake, HELLO), rogue.data(b"and on")].concat();
    rogue.peer.send(&records);
    world.rest();
    assert_eq!(world.server.borrow().data, b"and on");
    assert_eq!(world.events().0, [""; 0]);
    let said = rogue.peer.read();
    assert_eq!(said[0], 21, "an alert, which is a warning");
}

#[test]
fn what_may_not_come_in_a_stream_is_answered_with_an_alert_and_told() {
    use rustls::AlertDescription as Alert;
    let cases = [
        (
            ContentType::Handshake,
            &[20, 0, 0, 1, 0][..],
            Some(Alert::UnexpectedMessage),
            "got Finished when expecting KeyUpdate",
        ),
        (ContentType::Handshake, &[24, 0, 0, 1, 9], Some(Alert::IllegalParameter), "of type InvalidKeyUpdate"),
        (ContentType::Handshake, HELLO, Some(Alert::UnexpectedMessage), "got ClientHello when expecting KeyUpdate"),
        (ContentType::ChangeCipherSpec, &[1], Some(Alert::UnexpectedMessage), "IllegalMiddleboxChangeCipherSpec"),
        (ContentType::Unknown(77), &[1, 2, 3], Some(Alert::DecodeError), "of type InvalidContentType"),
        (ContentType::Alert, &[2], Some(Alert::DecodeError), "MissingData(\"AlertDescription\")"),
        (ContentType::Alert, &[2, 80], None, "received fatal alert: InternalError"),
    ];
    for (kind, payload, alert, why) in cases {
        let (mut world, mut rogue) = rogue(V13, echo);
        let records = [rogue.data(b"fine"), rogue.record(kind, payload), rogue.data(b"late")].concat();
        rogue.peer.send(&records);
        world.rest();
        let heard = rogue.hear();
        assert_eq!(heard, alert.map_or(Ok(vec![]), |alert| Err(Error::AlertReceived(alert))), "{kind:?} {payload:?}");
        assert_eq!(world.server.borrow().data, b"fine", "what came before it");
        let lost = lost(&mut world);
        assert!(lost.contains(why), "{kind:?} {payload:?}: {lost}");
    }
}

#[test]
fn a_peer_that_never_reads_its_alert_is_gone_in_time() {
    let limits = Limits::default().with_pause_reading_over_high(false);
    let make = switchboard_tls::listen(Arc::new(server(V13)));
    let mut world = World::with_limits(1, Faults::none(), limits, |listen| listen.filter(make), idle);
    let mut rogue = Rogue::dial(&mut world, V13);
    rogue.peer.stall();
    world.at_server(|transport| transport.write_owned(bytes(1_000_000)));
    let record = rogue.record(ContentType::Unknown(77), b"?");
    rogue.peer.send(&record);
    world.network.run_for(4 * SECOND);
    assert_eq!(world.connections().0, 1);
    world.network.run_for(2 * SECOND);
    assert_eq!(world.connections().0, 0);
    world.does_not_spin();
    assert_eq!(world.events().0, ["made", "lost: the peer did not take the remaining output in time"]);
}
