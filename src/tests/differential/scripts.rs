//! The scripts.

super::compare_scripts! {
    // Accepting.
    a1_nobody_waits: "listen L; poll; accept L a";
    a1_one_waits: "listen L; connect a L; poll; accept L b; accept L c; poll";
    a3_several_wait_and_are_told_of_once:
        "listen L; connect a L; connect b L; connect c L; poll; accept L d; poll; accept L e; accept L f; accept L g";
    a3_who_comes_between_two_accepts_is_an_edge:
        "listen L; connect a L; poll; accept L b; connect c L; poll; accept L d; poll";
    a2_a_full_backlog_lets_nobody_in_until_there_is_room:
        "listen L 1; connect a L; connect b L; connect c L; poll; accept L d; accept L e; accept L f; poll";
    a6_who_waits_at_a_closed_listener_is_reset:
        "listen L; connect a L; poll; close L; poll; error a; read a 9; write a x; connect b L; poll; error b";

    // Life.
    c1_a_connection_from_beginning_to_end:
        "listen L; connect a L; accept L b; poll; write a hello; poll; read b 99; write b world; poll; read a 99;
         close a; poll; read b 9; close b; poll";
    c8_a_peer_that_resets_before_it_is_accepted:
        "listen L; connect a L; reset a; poll; accept L b; poll; peer b; read b 9; read b 9; write b x";
    c8_a_peer_that_ends_before_it_is_accepted:
        "listen L; connect a L; write a hi; close a; accept L b; poll; peer b; read b 9; read b 9; read b 9; poll";
    c4_a_port_is_free_again_when_its_listener_is_closed: "listen L; close L; connect a L; poll; error a; error a";

    // Reading.
    r1_a_read_takes_what_it_has_room_for: "listen L; connect a L; accept L b; write a hello; read b 2; read b 9; read b 9";
    r1_what_was_written_apart_is_read_together:
        "listen L; connect a L; accept L b; write a one; write a two; read b 9; poll; read b 9";
    r4_what_had_arrived_before_an_end_is_read_first:
        "listen L; connect a L; accept L b; poll; write a hello; shutdown a; poll; read b 9; read b 9; read b 9; poll";
    r4_what_had_arrived_before_a_reset_is_read_first:
        "listen L; connect a L; accept L b; poll; write a hello; reset a; poll; read b 3; read b 9; read b 9; read b 9;
         poll; error b";
    r4_a_reset_is_told_once_by_a_read: "listen L; connect a L; accept L b; reset a; read b 9; read b 9; error b; write b x";
    r4_a_reset_is_told_once_by_a_write: "listen L; connect a L; accept L b; reset a; write b x; write b x; read b 9; error b";
    r4_a_reset_is_told_once_by_asking: "listen L; connect a L; accept L b; reset a; error b; error b; read b 9; write b x";
    r4_behind_an_end_a_reset_is_told_by_asking_alone:
        "listen L; connect a L; accept L b; poll; shutdown a; poll; read b 9; reset a; poll; read b 9; error b; read b 9";
    r4_behind_an_end_a_reset_breaks_the_pipe:
        "listen L; connect a L; accept L b; shutdown a; reset a; write b x; write b x; read b 9";
    r6_an_event_is_told_once_and_again_with_new_bytes:
        "listen L; connect a L; accept L b; poll; write a x; poll; poll; write a y; poll; read b 9; poll; write a z; poll";
    r6_what_was_read_before_anyone_polled_is_no_news:
        "listen L; connect a L; accept L b; poll; write a x; read b 9; poll; write a y; poll";
    r6_a_read_stops_short_at_the_urgent_byte:
        "listen L; connect a L; accept L b; poll; write a be; urgent a U; write a hind; poll; read b 99; read b 99; poll";
    r6_the_urgent_byte_alone:
        "listen L; connect a L; accept L b; poll; urgent a U; poll; read b 99; poll; read b 9";
    r6_two_urgent_bytes_and_the_later_one_counts:
        "listen L; connect a L; accept L b; poll; write a x; urgent a U; write a y; urgent a V; write a z; poll; read b 99;
         read b 99; read b 99; poll";
    r6_reading_in_single_bytes_over_the_mark:
        "listen L; connect a L; accept L b; write a x; urgent a U; write a y; poll; read b 1; poll; read b 1; read b 1; read b 1";
    r6_an_end_behind_the_urgent_byte:
        "listen L; connect a L; accept L b; poll; write a x; urgent a U; close a; poll; read b 9; read b 9; read b 9";

    // Writing.
    w1_a_writer_is_told_of_room_once_it_was_full:
        "listen L; connect a L; accept L b; poll; fill a; poll; drain b; poll; write a more; drain b; poll";
    w1_a_writer_that_was_never_full_is_told_nothing:
        "listen L; connect a L; accept L b; poll; write a x; poll; read b 9; poll";
    w1_a_full_writer_and_a_reset:
        "listen L; connect a L; accept L b; poll; fill a; poll; reset b; poll; write a x; write a x; read a 9";
    w1_a_full_writer_and_an_end:
        "listen L; connect a L; accept L b; poll; fill a; shutdown b; poll; read a 9; drain b; poll";
    w5_after_shutdown_writing_breaks_the_pipe:
        "listen L; connect a L; accept L b; poll; shutdown a; poll; write a x; write a x; error a; poll";
    w7_writing_to_a_closed_peer: "listen L; connect a L; accept L b; close b; poll; write a x; poll; write a y; write a z; read a 9";

    // Half-close.
    h1_the_peer_of_an_end_goes_on_writing:
        "listen L; connect a L; accept L b; poll; shutdown a; poll; read b 9; write b still; poll; read a 9; read a 9; close b;
         poll; read a 9";
    h2_both_halves_end:
        "listen L; connect a L; accept L b; poll; shutdown a; shutdown b; poll; read a 9; read b 9; write a x; peer a; peer b;
         shutdown a";
    h2_shut_twice: "listen L; connect a L; accept L b; poll; shutdown a; shutdown a; poll; read b 9";
    h2_shut_down_after_a_reset: "listen L; connect a L; accept L b; reset b; shutdown a; read a 9; shutdown a";
    h3_an_end_is_read_again_and_again_and_told_once:
        "listen L; connect a L; accept L b; poll; shutdown a; poll; read b 9; read b 9; poll; read b 9; poll";
    h3_a_full_writer_ends_its_half_behind_what_it_wrote:
        "listen L; connect a L; accept L b; poll; fill a; shutdown a; poll; drain b; read b 9; poll";

    // Closing.
    x1_closing_with_input_unread_resets:
        "listen L; connect a L; accept L b; poll; write a unread; write b answer; close b; poll; read a 99; read a 99; read a 99";
    x1_closing_with_all_read_ends:
        "listen L; connect a L; accept L b; poll; write a read; read b 99; write b answer; close b; poll; read a 99; read a 99;
         error a";
    x1_data_for_who_has_closed_is_answered_by_a_reset:
        "listen L; connect a L; accept L b; poll; write b answer; close b; write a late; poll; read a 99; read a 99; read a 9;
         error a; write a x";
    x1_shut_then_closed_after_the_peers_end:
        "listen L; connect a L; accept L b; poll; shutdown a; read b 9; write b bye; shutdown b; close b; poll; read a 9; read a 9;
         error a";
    x2_a_reset_reaches_the_peer: "listen L; connect a L; accept L b; poll; reset a; poll; peer b; read b 9; poll; read b 9";
    x2_a_reset_with_unsent_output: "listen L; connect a L; accept L b; poll; fill a; reset a; poll; drain b; read b 9; error b";
    x2_a_reset_after_both_have_ended:
        "listen L; connect a L; accept L b; poll; shutdown a; shutdown b; reset a; poll; read b 9; error b";
    x2_a_reset_after_our_own_end:
        "listen L; connect a L; accept L b; poll; shutdown b; poll; reset a; poll; read b 9; read b 9; error b";

    // Connecting.
    k1_a_connect_is_told_by_a_writable_event: "listen L; connect a L; poll; error a; peer a; local a; poll";
    k1_a_refused_connect: "connect a nobody; poll; error a; peer a; error a; read a 9; write a x; poll";
    k1_a_refused_connect_told_by_a_read: "connect a nobody; read a 9; read a 9; error a; peer a";
    k1_a_refused_connect_told_by_a_write: "connect a nobody; write a x; write a x; error a; read a 9";
    k4_a_socket_that_meets_itself: "connect a self; poll; error a; peer a; local a; write a hi; poll; read a 9; shutdown a; poll; read a 9";
    k6_what_is_written_before_the_other_end_accepts:
        "listen L; connect a L; write a early; shutdown a; accept L b; poll; read b 9; read b 9";

    // Datagrams.
    u1_a_datagram: "bind u; bind v; poll; sendto u v hello; poll; recv v 99; recv v 99; poll";
    u1_empty_datagrams: "bind u; bind v; poll; sendto u v __; sendto u v __; poll; recv v 99; recv v 99; recv v 99";
    u1_each_is_received_by_itself: "bind u; bind v; sendto u v one; sendto u v two; poll; recv v 99; poll; recv v 99; recv v 99";
    u1_one_that_does_not_fit_is_cut: "bind u; bind v; sendto u v toolong; recv v 4; recv v 4; sendto u v fits; recv v 5";
    u1_the_longest: "bind u; bind v; join u v; big u 65507; recv v 65508; big u 65508; big u 70000; send u small; recv v 99";
    u1_a_stranger_is_not_heard: "bind u; bind v; bind w; join v u; sendto w v x; sendto u v y; recv v 9; recv v 9";
    u1_nobody_is_there_and_only_who_is_joined_is_told:
        "bind u; bind v; bind w; join u w; close w; poll; send u x; poll; recv u 9; recv u 9; send u x; send u y; send u z;
         error u; sendto v w x; poll; recv v 9";
    u1_to_nobody: "bind u; send u x; poll";
}
