//! The scripts about Unix datagrams.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::sys::sim::Random;
use crate::testing::seeds;

/// Runs each script with paths, and those that name no paths of their own with abstract names, too.
macro_rules! compare_unix_datagrams {
    ($($name:ident: $script:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let name = concat!("datagrams-", stringify!($name));
                super::compare_unix(name, $script);
                if !$script.contains("leave") {
                    super::compare_abstract(name, $script);
                }
            }
        )*
    };
}

compare_unix_datagrams! {
    u1_a_unix_datagram: "bind u; bind v; poll; sendto u v hello; poll; recv v 99; recv v 99; poll; sendto v u back; recv u 9";
    u1_empty_unix_datagrams: "bind u; bind v; sendto u v __; sendto u v __; poll; recv v 99; recv v 99; recv v 99";
    u1_each_unix_datagram_is_an_edge:
        "bind u; bind v; sendto u v one; poll; sendto u v two; poll; poll; recv v 99; poll; recv v 99; recv v 99; poll";
    u1_a_unix_datagram_that_does_not_fit_is_cut: "bind u; bind v; sendto u v toolong; recv v 4; recv v 4; sendto u v fits; recv v 5";
    u1_the_longest_unix_datagram:
        "bind u; bind v; join u v; big u 212960; recv v 212961; big u 212961; big u 300000; send u small; recv v 99";
    u1_who_has_no_name_has_no_address: "bind u nameless; bind v; sendto u v x; recv v 9; join u v; send u y; recv v 9; send v z";
    u1_to_itself: "bind u; sendto u u x; poll; recv u 9; join u u; send u y; poll; recv u 9; flood u u; empty u; send u z";

    // Missing receivers.
    u1_no_socket_has_the_name: "bind u; sendto u v x; join u v; send u x; error u; poll";
    u1_the_name_is_free_again: "bind v; bind u; bind v; close v; sendto u v x; bind v; sendto u v x; recv v 9";
    u1_a_path_was_left_behind: "leave v; bind u; sendto u v x; join u v; connect a v; bind v; sendto u v x; recv v 9; close v; sendto u v x";
    u1_a_path_was_left_behind_and_a_listener_takes_it: "leave v; listen v; connect a v; bind u; sendto u v x; close v; sendto u v x";
    u1_of_another_kind: "listen L; bind u; sendto u L x; join u L; connect a u; sendto u u x; recv u 9";
    u1_names_of_two_kinds: "listen L; bind L; listen L";

    // Connected sockets.
    u1_a_joined_socket_takes_from_its_peer_alone:
        "bind u; bind v; bind w; join v u; sendto w v x; join w v; sendto u v y; recv v 9; send v z; recv u 9; poll";
    u1_what_came_before_the_join_is_kept: "bind u; bind v; bind w; sendto w v x; join v u; sendto u v y; recv v 9; recv v 9";
    u1_a_joined_socket_sends_elsewhere_too: "bind u; bind v; bind w; join u v; sendto u w x; send u y; recv w 9; recv v 9";
    u1_a_peer_that_is_gone_is_told_of_once:
        "bind u; bind v; join u v; poll; close v; poll; error u; send u x; send u y; error u; poll; bind v; send u z; join u v;
         send u z; recv v 9";
    u1_who_has_lost_its_peer_takes_from_nobody_until_it_sends:
        "bind u; bind v; bind w; join u v; sendto v u back; close v; sendto w u x; send u x; recv u 9; sendto w u x; recv u 9";
    u1_who_joins_another_one_loses_what_it_holds:
        "bind u; bind v; bind w; join u v; join v u; poll; send v held; join u w; recv u 9; poll; error v; send v x; send w x";
    u1_an_error_is_told_by_a_send: "bind u; bind v; bind w; join u v; join v u; send v held; join u w; sendto v w x; sendto v w x; recv w 9";
    u1_an_error_is_told_by_a_receive:
        "bind u; bind v; bind w; join u v; join v u; send v held; send u kept; join u w; poll; recv v 9; recv v 9; recv v 9";
    u1_who_joins_the_same_again_loses_nothing: "bind u; bind v; join u v; join v u; send v held; join u v; recv u 9; error v";

    // Full receivers.
    u1_a_full_receiver: "bind u; bind v; flood u v; sendto u v x; recv v 9; sendto u v x; sendto u v x; empty v; sendto u v x; recv v 9";
    u1_a_receiver_that_others_have_filled: "bind u; bind v; bind w; flood u v; sendto w v x; recv v 9; sendto w v x; sendto u v y";
    u1_who_is_joined_is_told_of_room:
        "bind u; bind v; join u v; flood u v; await u; poll; recv v 9; poll; send u x; send u y; poll; empty v; poll; poll";
    u1_who_was_told_of_no_room_by_the_poller_is_told_of_room:
        "bind u; bind v; bind w; join u v; flood w v; await u; poll; recv v 9; poll; await u not; send u x; poll; empty v; poll";
    u1_who_sends_by_name_is_told_of_each_try: "bind u; bind v; flood u v; await u; poll; sendto u v x; poll; recv v 9; poll; empty v; poll";
    u1_a_full_receiver_is_closed: "bind u; bind v; join u v; flood u v; await u; poll; close v; poll; send u x; poll";
    u1_a_full_receiver_is_closed_and_one_sent_by_name: "bind u; bind v; flood u v; await u; poll; close v; poll; sendto u v x";
    u1_those_that_are_joined_with_each_other_fill_their_own_memory:
        "bind u; bind v; join u v; join v u; flood u v; send u x; await u; poll; recv v 9; send u x; poll; empty v; poll; send u y; recv v 9";
    u1_who_awaits_room_and_joins_another_one_is_told: "bind u; bind v; join u v; await u; poll; join u v; poll; poll; recv u 9";
    u1_who_could_not_send_is_told_of_room_that_others_leave:
        "bind u; bind v; bind w; join u v; await u; poll; flood w v; send u x; recv v 9; poll; poll; send u x";
    u1_who_could_not_send_is_woken_by_a_close_whatever_it_awaits:
        "bind u; bind v; bind w; sendto w u kept; join u v; flood u v; poll; close v; poll; recv u 9; poll";
    u1_no_room_of_its_own_is_no_room_of_a_peer: "bind u; join u u; flood u u; await u; poll; send u x; recv u 9; poll; send u x";
    u1_who_fills_one_has_memory_for_another: "bind u; bind v; bind w; flood u v; sendto u w x; recv w 9";
}

/// Steps of three sockets and of a fourth name that is never bound, in any order that makes sense.
fn random_script(seed: u64) -> String {
    let (mut random, names, mut open) = (Random::new(seed), ["u", "v", "w", "none"], Vec::new());
    let mut script = Vec::new();
    for _ in 0..60 {
        let to = names[random.below(4) as usize];
        if open.is_empty() || random.below(8) == 0 {
            if to != "none" && !open.contains(&to) {
                open.push(to);
                script.push(format!("bind {to}"));
            }
            continue;
        }
        let index = random.below(open.len() as u64) as usize;
        let of = open[index];
        script.push(match random.below(16) {
            0..2 => format!("join {of} {to}"),
            2..5 => format!("send {of} text"),
            5..7 => format!("sendto {of} {to} text"),
            7 => format!("flood {of} {to}"),
            8..11 => format!("recv {of} 9"),
            11 => format!("empty {of}"),
            12 => format!("error {of}"),
            13 => format!("await {of}{}", if random.below(2) == 0 { "" } else { " not" }),
            14 => "poll".to_owned(),
            _ => {
                open.remove(index);
                format!("close {of}")
            }
        });
    }
    script.join("; ")
}

/// Before 6.14 Linux reported to a sender that it is not connected before it looked for memory.
fn looks_for_memory_first() -> bool {
    let name = format!("switchboard {} order", std::process::id());
    let address = <SocketAddr as SocketAddrExt>::from_abstract_name(name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.send_to_addr(b"x", &address).is_ok() {}
    socket.send(b"x").unwrap_err().kind() == io::ErrorKind::WouldBlock
}

#[test]
fn u1_random_scripts_of_unix_datagrams_agree() {
    if !looks_for_memory_first() {
        return eprintln!("skipped: this kernel is older than what is simulated");
    }
    seeds(|seed| super::compare_abstract(&format!("seed {seed}"), &random_script(seed)));
}
