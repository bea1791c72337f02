//! Telnet control bytes below the lines.

use super::*;

fn telnet(scene: &mut Scene, log: &Log) -> Peer {
    let (_, peer) = scene.connect(Telnet::new(lines(log)));
    assert_eq!(log.take(), ["made"]);
    peer
}

#[test]
fn f1_telnet_refuses_every_option_and_answers_no_refusal() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = telnet(&mut scene, &log);
    scene.receive(&peer, b"\xff\xfd\x03\xff\xfb\x18\xff\xfc\x01\xff\xfe\x01\xff\xfb\xffhi\r\n");
    assert_eq!(peer.take_sent(), b"\xff\xfc\x03\xff\xfe\x18\xff\xfe\xff");
    assert_eq!(log.take(), ["line hi"]);
}

#[test]
fn f1_telnet_commands_are_told_as_they_come_though_the_line_is_not_finished() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = telnet(&mut scene, &log);
    scene.receive(&peer, b"ab\xff\xf4\xff\xf2\xff\xfd\x06c");
    assert_eq!(log.take(), ["command Interrupt"]);
    assert_eq!(peer.take_sent(), b"\xff\xfc\x06", "the interrupt key's timing mark is answered");
    scene.receive(&peer, b"\xff\xf3\xff\xf5\xff\xf7\xff\xf8\xff\xf6\xff\xf1\xff\xf9d\n");
    let commands = ["Break", "AbortOutput", "EraseCharacter", "EraseLine", "AreYouThere"];
    let mut expected: Vec<_> = commands.iter().map(|command| format!("command {command}")).collect();
    expected.push("line abcd".into());
    assert_eq!(log.take(), expected);
}

#[test]
fn f1_telnet_keeps_the_beginning_of_a_line_before_a_command_for_the_end() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = telnet(&mut scene, &log);
    scene.receive(&peer, b"be\xff\xf1gun");
    scene.end(&peer);
    assert_eq!(log.take(), ["eof begun", "lost: closed by the peer"]);
}

#[test]
fn f4_a_subnegotiation_is_bounded() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let peer = telnet(&mut scene, &log);
    scene.receive(&peer, [&b"\xff\xfa"[..], &[0; 1024], b"\xff\xf0fine\n"].concat());
    assert_eq!(log.take(), ["line fine"]);
    scene.receive(&peer, [&b"\xff\xfa"[..], &[0; 1025]].concat());
    let error = "a telnet subnegotiation of more than 1024 bytes";
    assert_eq!(log.take(), [format!("broken: {error}"), format!("lost: protocol error: {error}")]);
}

#[test]
fn f2_a_line_cut_by_commands_is_bounded_too() {
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(Telnet::new(lines(&log).line_bytes_max(10)));
    scene.receive(&peer, b"abcdef\xff\xf1ghijkl\xff\xf1more\nnext\n");
    assert_eq!(log.take(), ["made", "too long", "line next"]);
}

#[test]
fn f2_raw_data_behind_a_command_can_be_taken_in_parts() {
    struct Threes(Log);
    impl LineHandler for Threes {
        fn line_received(&mut self, _: &mut Transport<'_>, _: &[u8]) {}
        fn is_raw(&self) -> bool {
            true
        }
        fn raw_data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
            let taken = if data.len() >= 3 { 3 } else { 0 };
            self.0.push(shown("raw", &data[..taken]));
            taken
        }
    }
    let (mut scene, log) = (Scene::new(), Log::default());
    let (_, peer) = scene.connect(Telnet::new(LineReceiver::new(Threes(log.clone()))));
    scene.receive(&peer, b"ab\xff\xf1c\xff\xff\xff\xf1d\xff\xf1efgh");
    scene.end(&peer);
    let raw: Vec<_> = log.take().into_iter().filter(|entry| entry != "raw ").collect();
    assert_eq!(raw, ["raw abc", r"raw \xffde", "raw fgh"]);
}
