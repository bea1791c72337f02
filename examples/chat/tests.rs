// Tests of the chat room, on an in-memory network and in virtual time.

use switchboard::testing::{Faults, HostId, Network, Peer, seeds};

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

/// A room on a network, and the host it runs on.
struct Scene {
    network: Network,
    host: HostId,
    address: SocketAddr,
}

fn scene(seed: u64, faults: Faults, per_peer_max: Option<usize>) -> Scene {
    let mut network = Network::new(seed, faults);
    let host = network.host_with_limits(limits(&Bounds { timeout: NAME_TIMEOUT, per_peer_max }));
    let address = network.address(host, 1234);
    listen(&mut network.context(host), address).unwrap();
    Scene { network, host, address }
}

/// A room on a network without faults.
fn quiet() -> Scene {
    scene(0, Faults::none(), None)
}

impl Scene {
    fn connect(&mut self) -> Peer {
        let mut peer = self.network.peer(self.address);
        self.hears(&mut peer, "Your name?");
        peer
    }

    /// Connects a member that has read its welcome, and nothing else.
    fn member(&mut self, name: &str) -> Peer {
        let mut peer = self.connect();
        self.says(&mut peer, name);
        self.hears(&mut peer, &format!("Welcome, {name}. /who lists who is here, /quit leaves."));
        peer
    }

    fn says(&mut self, peer: &mut Peer, line: &str) {
        peer.queue(format!("{line}\r\n").as_bytes());
    }

    /// Asserts that the next line the peer reads is this one.
    #[track_caller]
    fn hears(&mut self, peer: &mut Peer, line: &str) {
        let heard = self.network.read_line(peer);
        assert_eq!(String::from_utf8(heard).unwrap(), format!("{line}\r\n"));
    }

    fn count(&mut self) -> usize {
        self.network.context(self.host).connection_count()
    }
}

#[test]
fn chat_what_one_says_comes_to_all_others_once_and_in_order() {
    seeds(|seed| {
        let mut scene = scene(seed, Faults::all(), None);
        let mut ada = scene.member("Ada");
        let mut bob = scene.member("Bob");
        scene.hears(&mut ada, "* Bob has joined");
        for line in ["one", "two", "", "/who"] {
            scene.says(&mut ada, line);
        }
        scene.hears(&mut bob, "Ada: one");
        scene.hears(&mut bob, "Ada: two");
        scene.hears(&mut ada, "* here now: Ada, Bob");
        scene.says(&mut bob, "/quit");
        assert_eq!(scene.network.read_to_end(&mut bob), b"");
        scene.hears(&mut ada, "* Bob has left");
        scene.says(&mut ada, "/who");
        scene.hears(&mut ada, "* here now: Ada");
    });
}

#[test]
fn chat_a_name_is_one_word_that_nobody_else_has_until_it_is_free_again() {
    let mut scene = quiet();
    let ada = scene.member("Ada");
    let mut other = scene.connect();
    for name in ["", "two words", "\x1b[2J", "abcdefghijklmnopqrstu"] {
        scene.says(&mut other, name);
        scene.hears(&mut other, "A name has 1 to 20 letters and digits. Your name?");
    }
    scene.says(&mut other, "Ada");
    scene.hears(&mut other, "That name is taken. Your name?");
    ada.reset();
    scene.network.run_until_rest();
    scene.says(&mut other, "Ada");
    scene.hears(&mut other, "Welcome, Ada. /who lists who is here, /quit leaves.");
    scene.says(&mut other, "/who");
    scene.hears(&mut other, "* here now: Ada");
    // The longest name is accepted, and a peer may leave before it has a name.
    scene.member("abcdefghijklmnopqrst");
    let mut third = scene.connect();
    scene.says(&mut third, "/quit");
    assert_eq!(scene.network.read_to_end(&mut third), b"");
    assert!(third.saw_end());
}

#[test]
fn chat_what_is_said_is_escaped() {
    let mut scene = quiet();
    let (mut ada, mut bob) = (scene.member("Ada"), scene.member("Bob"));
    scene.hears(&mut ada, "* Bob has joined");
    scene.says(&mut bob, "\x1b[2Jforged\x07");
    let heard = scene.network.read_line(&mut ada);
    let text = heard.strip_prefix(b"Bob: ").and_then(|rest| rest.strip_suffix(b"\r\n")).unwrap();
    assert!(text.iter().all(|byte| byte.is_ascii_graphic()), "{heard:?}");
}

#[test]
fn chat_commands_that_are_none_and_lines_that_are_too_long_are_told_to_their_sender_alone() {
    let mut scene = quiet();
    let (mut ada, mut bob) = (scene.member("Ada"), scene.member("Bob"));
    scene.hears(&mut ada, "* Bob has joined");
    scene.says(&mut ada, "/help");
    scene.hears(&mut ada, "* there are /who and /quit");
    scene.says(&mut ada, &"x".repeat(LINE_BYTES_MAX + 1));
    scene.hears(&mut ada, "* that was too long");
    scene.says(&mut ada, &"x".repeat(LINE_BYTES_MAX));
    scene.hears(&mut bob, &format!("Ada: {}", "x".repeat(LINE_BYTES_MAX)));
    // IAC AYT, then IAC IP.
    ada.queue(b"\xff\xf6");
    scene.hears(&mut ada, "* yes");
    ada.queue(b"\xff\xf4");
    scene.hears(&mut bob, "* Ada has left");
}

#[test]
fn chat_who_gives_no_name_is_gone_after_a_minute_and_a_member_after_an_hour() {
    let mut scene = quiet();
    let mut silent = scene.connect();
    let mut member = scene.member("Ada");
    scene.network.run_for(NAME_TIMEOUT - MOMENT);
    assert_eq!((silent.read(), silent.saw_end()), (vec![], false));
    scene.network.run_for(MOMENT);
    assert_eq!(scene.network.read_to_end(&mut silent), b"* you have given no name\r\n");
    assert!(silent.saw_end() && silent.error().is_none());
    scene.network.run_for(MEMBER_TIMEOUT - NAME_TIMEOUT - MOMENT);
    assert_eq!((member.read(), member.saw_end()), (vec![], false));
    scene.network.run_for(MOMENT);
    assert_eq!(scene.network.read_to_end(&mut member), b"* nothing was said for an hour\r\n");
    assert!(member.saw_end());
}

#[test]
fn chat_who_does_not_read_is_cut_off_at_its_cap_and_nobody_waits_for_that() {
    let mut scene = quiet();
    let (mut ada, mut deaf) = (scene.member("Ada"), scene.member("Deaf"));
    let mut bob = scene.member("Bob");
    deaf.stall();
    scene.hears(&mut ada, "* Deaf has joined");
    let line = "x".repeat(1000);
    let mut lines = 0;
    while scene.count() == 3 {
        // Room for twice the cap, and for what the kernels buffer.
        assert!(lines < 4 * QUEUE_BYTES_MAX / line.len(), "{lines} lines, and it is still there");
        scene.says(&mut ada, &line);
        if lines == 0 {
            scene.hears(&mut ada, "* Bob has joined");
        }
        scene.hears(&mut bob, &format!("Ada: {line}"));
        lines += 1;
    }
    assert!(lines > QUEUE_BYTES_MAX / (line.len() + 7), "cut off after {lines} lines");
    scene.hears(&mut bob, "* Deaf has left");
}

#[test]
fn chat_who_does_not_read_can_still_speak_and_leave() {
    let mut scene = quiet();
    let (mut ada, mut deaf) = (scene.member("Ada"), scene.member("Deaf"));
    scene.hears(&mut ada, "* Deaf has joined");
    deaf.stall();
    // Above the write mark but below the cap, once the kernels' buffers are full.
    let line = "x".repeat(1000);
    (0..QUEUE_BYTES_MAX / 1000).for_each(|_| scene.says(&mut ada, &line));
    scene.network.run_until_rest();
    assert_eq!(scene.count(), 2);
    scene.says(&mut deaf, "who is there?");
    scene.hears(&mut ada, "Deaf: who is there?");
}

#[test]
fn chat_one_address_has_as_many_connections_as_it_may() {
    let mut scene = scene(0, Faults::none(), Some(2));
    let (_ada, _bob) = (scene.member("Ada"), scene.member("Bob"));
    let mut third = scene.network.peer(scene.address);
    assert_eq!(scene.network.read_to_end(&mut third), b"");
    assert_eq!(scene.count(), 2);
}
