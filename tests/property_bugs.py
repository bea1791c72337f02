"""Bugs that the properties over random programs must find, each within a number of seeds; seeded_bugs.py seeds them.

Each entry is (the bug, the seeds, [(file, the source, the replacement)]), to be found by the test over programs; a fourth
element, if any, is the beginning of the name of the test that must find it instead.
"""

LOOP = "src/event_loop/"
SLOW_PEERS = "a_peer_that_takes_64_kib"
HOARDS = "at_the_loop_s_cap"
JOINED = "what_goes_through_a_pair"
CRASHING = "whatever_befalls_hosts"
PAIRS = "every_guarantee_holds_though_any_two"
CONNECTION = "src/connection/"

BUGS = [
    ("an id reaches its slot's next owner", 300, [
        (LOOP + "slots.rs", "match self.slab.get(id.slot as usize) {\n            Some(slot) if slot.generation == id.generation => Some(slot),",
         "match self.slab.get(id.slot as usize) {\n            Some(slot) => Some(slot),")]),
    ("a slot is freed at once", 300, [
        (LOOP + "parts.rs", "parts.work.add_loss(loss);",
         "parts.work.add_loss(loss);\n    parts.slots.remove(id);")]),
    ("a used-up read budget carries nothing over", 300, [
        (LOOP + "receive.rs", "take_read_enough(id) {\n            self.parts.carry_over(id);", "take_read_enough(id) {")]),
    ("a used-up accept budget carries nothing over", 300, [
        (LOOP + "accept.rs", "_ => self.parts.carry_over(id),\n        }\n    }\n\n    /// Makes a connection from",
         "_ => {}\n        }\n    }\n\n    /// Makes a connection from")]),
    ("a resumed reader does not try a read", 300, [
        (LOOP + "parts.rs", "self.run_idle(id);\n            }\n            self.carry_over(id);", "self.run_idle(id);\n            }")]),
    ("a hint does not make it read further", 300, [
        (CONNECTION + "reading.rs", "} else if self.is_emptied_by(count, most) {", "}\n        if self.is_emptied_by(count, most) {")]),
    ("a would-block at the urgent mark counts as drained", 300, [
        (CONNECTION + "reading.rs", "let is_doubted = self.doubts_would_block();", "let is_doubted = false;")]),
    ("data is delivered after close", 300, [
        (CONNECTION + "life.rs", "[Open,    RClosed, Fin,     Flush,  Det,", "[Open,    RClosed, Fin,     Fin,    Det,")]),
    ("data is delivered while reading is paused", 300, [
        (CONNECTION + "reading.rs", "self.flags.has(Flag::Made) && !self.is_paused() &&", "self.flags.has(Flag::Made) &&")]),
    ("the end is delivered while reading is paused", 300, [
        (LOOP + "receive.rs", "if !connection.is_hungry() {\n                return self.end_failing(id);",
         "if !connection.is_hungry() {\n                if connection.has_error_hint() && connection.state() == State::Open {\n"
         "                    return self.deliver_end(id);\n                }\n                return self.end_failing(id);")]),
    ("input withheld by a low mark hides the end", 3000, [
        (LOOP + "receive.rs", "connection.flags.set(Flag::OfferAgain, false);\n                return consumed;", "return consumed;")]),
    ("a change of protocol drops kept input", 300, [
        (LOOP + "parts.rs", "let offers = connection.has_input();", "let offers = connection.take_input().is_some();")]),
    ("a detached socket stays registered", 300, [
        (LOOP + "parts.rs", "socket.deregister(&self.poller)", "{ let _ = socket; std::io::Result::Ok(()) }")]),
    ("resume_writing is called at the high mark", 300, [
        (CONNECTION + "writing.rs", "true if cost <= self.settings.limits.low()", "true if cost <= self.settings.limits.queue_bytes_high")]),
    ("pause_writing is not called above the high mark", 300, [
        (CONNECTION + "writing.rs", "false if cost > self.settings.limits.queue_bytes_high =>", "false if cost == usize::MAX =>")]),
    ("a mark is reported after close", 1000, [
        (LOOP + "send.rs", "if connection.can_write() {\n            match mark", "if true {\n            match mark")]),
    ("a partial write loses the rest", 300, [
        (CONNECTION + "writing.rs", "let result = self.send_slice(bytes, &mut sent);\n        self.push(Piece::Borrowed(bytes), sent, pool);",
         "let result = self.send_slice(bytes, &mut sent);\n        let _ = pool;")]),
    ("output written to other connections is not flushed", 300, [
        (LOOP + "send.rs", "if !connection.flags.has(Flag::Made) && (connection.is_connecting() || !connection.is_filtered()) {\n                continue;", "if true {\n                continue;")]),
    ("a write to another connection goes to the one whose callback runs", 300, [
        ("src/connection/gathered.rs", "if !self.is(id) || data.len() >= LARGE_BYTES", "if data.len() >= LARGE_BYTES")]),
    ("a large write overtakes gathered output", 300, [
        (LOOP + "send.rs", "            self.send_gathered(id);\n        }\n        match", "        }\n        match")]),
    ("a large piece that waits for its callback to end overtakes gathered output", 1000, [
        (LOOP + "send.rs", "            self.push_gathered(id);\n        } else", "        } else")]),
    ("the cap of a connection is not enforced", 300, [
        ("src/connection/writing.rs", "self.queued_cost() > self.settings.limits.queue_bytes_max", "false")]),
    ("the cap of the loop is not enforced", 1000, [
        (LOOP + "send.rs", "Some(connection) if connection.can_write() => self.keep_below_cap(None),\n", "")]),
    ("the sum of the queues drifts", 1000, [
        (LOOP + "send.rs", "self.outbox.count(connection.queued_cost(), 0);\n        if self.outbox.gathered.is(id) {\n"
         "            self.outbox.gathered.set_room(0);\n            // It comes after what was not sent.\n            self.outbox.gathered.bytes.clear();\n        }\n        match", "match")]),
    ("datagrams queued at an end are not reported", 300, [
        ("src/datagram/mod.rs", "self.dropped += self.queue.len() as u64;\n", "")]),
    ("a callback that closes loses the errors after the one reported to it", 3000, [
        (LOOP + "datagrams.rs", "while let Some(error) = self.parts.slots.datagram_mut(id).and_then(DatagramSocket::take_error) {", "if let Some(error) = None {")]),
    ("running out of buffers sets no timer", 300, [
        (LOOP + "timers.rs", "self.time.set_after(SEND_RETRY, Due::of(Purpose::Send, id));", "")]),
    ("connection_lost is called twice", 300, [
        (LOOP + "parts.rs", "let Some(mut connection) = self.slots.alive_mut(id) else {",
         "let Some(mut connection) = self.slots.connection_mut(id) else {")]),
    ("the end of a stream is delivered twice", 300, [
        (CONNECTION + "reading.rs", "self.life.step(Event::PeerEnded) && self.state()", "self.state() != State::Open && self.life.step(Event::PeerEnded) && self.state()")]),
    ("FIN is sent before the queue", 300, [
        (LOOP + "send.rs", "State::FinQueued if is_out => drop(connection.send_fin()),",
         "State::FinQueued => drop(connection.send_fin()),")]),
    ("an orderly close is a reset", 1000, [
        (CONNECTION + "ending.rs", "            self.close_specially(reset, reason, pool);\n        }\n", "        }\n        self.close_specially(true, reason, pool);\n")]),
    ("half an answer has an orderly end", 300, [
        (CONNECTION + "ending.rs", "reason.demands_reset() || self.output.is_some()", "false && reason.demands_reset()")]),
    ("a close does not linger", 3000, [
        (LOOP + "send.rs", "Read::Blocked | Read::Unconfirmed | Read::End =>",
         "Read::Blocked | Read::Unconfirmed | Read::End | Read::Data(1..) =>")]),
    ("a close waits forever", 300, [
        (LOOP + "timers.rs", "Purpose::Close => self.look_at_closing(id),", "Purpose::Close => {}")]),
    ("a failing send drops input that had arrived", 300, [
        (CONNECTION + "ending.rs", "let delivers = !self.is_paused() && self.was_made();", "let delivers = false;")]),
    ("a panic does not end its connection", 1000, [
        (LOOP + "guard.rs", "self.parts.finish(id, CloseReason::Panic(message));", "drop(message);")]),
    ("a full listener stays full", 300, [
        (LOOP + "accept.rs", "if was_full {", "if false && was_full {")]),
    ("a lingering connection makes no room", 1000, [
        ("src/listener/admission.rs", "(false, true) => self.find_lingering(is_its_own),", "(false, true) => None,")]),
    ("a connection that starts to linger does not wake a full listener", 1000, [
        (LOOP + "accept.rs", "            self.look_again(id);\n        }\n        self.loop_has_room();", "            let _ = id;\n        }\n        self.loop_has_room();")]),
    ("backing off from accept sets no timer", 300, [
        (LOOP + "accept.rs", "listener.accepting = Accepting::BackingOff(timer);",
         "self.time.remove(timer);\n            listener.accepting = Accepting::BackingOff(timer);")]),
    ("a timer fires early", 1000, [
        (LOOP + "timers.rs", "self.parts.time.first_due(now, mark)", "self.parts.time.first_due(now + Duration::from_millis(1), mark)")]),
    ("a cancelled timer fires", 300, [
        (LOOP + "timers.rs", "let Some(due) = self.time.remove(id.0) else { return false };",
         "if self.time.get_mut(id.0).is_some() {\n            return true;\n        }\n"
         "        let Some(due) = self.time.remove(id.0) else { return false };")]),
    ("a protocol replaced while it was being reached comes back", 300, [
        (LOOP + "slots.rs", "Some(connection) if connection.protocol.is_none() => {", "Some(connection) => {")]),
    ("a panic while reaching a protocol does not end its connection", 300, [
        (LOOP + "guard.rs", "self.core.parts.finish(id, CloseReason::Panic(panic_message(&*payload)));", "let _ = panic_message(&*payload);")]),
    ("a protocol gets its predecessor's timers", 300, [
        (LOOP + "parts.rs", "        let own = connection.take_own();\n", "        let own: Option<Own> = None;\n")]),
    ("a value that a protocol waits for is delivered after its end has begun", 300, [
        (LOOP + "parts.rs", "        for call in own.calls {\n            self.cancel_completion(call);\n        }\n", "")]),
    ("a protocol's timer is lost when its key is set again", 300, [
        (LOOP + "own_timers.rs", "Ok(timer) => _ = self.reset(timer, deadline),", "Ok(timer) => _ = self.remove(timer),")]),
    ("a lingering connection is never forgotten", 1000, [
        (LOOP + "parts.rs", "self.admission.end_lingering(deadline, timer);", "let _ = deadline;")]),
    ("the quick path continues although its callback did something else", 1000, [
        (LOOP + "quick.rs", "if consumed == count && !self.parts.outbox.gathered.is_disturbed() =>", "if consumed == count =>")]),
    ("the quick path takes one read for all the input", 300, [
        (LOOP + "quick.rs", "connection.is_flushed_later_or_readable()", "connection.is_flushed_later()")]),
    ("the quick path loses output that is not sent at once", 300, [
        (LOOP + "quick.rs", "Err(result) => self.send_slowly(id, result),",
         "Err(result) => {\n                drop(result);\n                self.outbox.gathered.bytes.clear();\n            }")]),
    ("output written before a connection is established is dropped", 300, [
        (CONNECTION + "life.rs", "State::Open | State::ReadClosed | State::Connecting)", "State::Open | State::ReadClosed)")]),
    ("a connection counts as established before it has a peer", 300, [
        ("src/connect/attempts.rs", "Err(error) if error.kind() == io::ErrorKind::NotConnected => Looked::Pending,",
         "Err(error) if error.kind() == io::ErrorKind::NotConnected => Looked::Established(attempt.address.clone()),")]),
    ("a failed connect is reported as a lost connection", 300, [
        (LOOP + "turn.rs", "Some(connector) => self.deliver_connect_failure(id, connector.into_error(reason)),",
         "Some(_) => self.call(id, \"\", &mut |protocol, transport| protocol.connection_lost(transport, CloseReason::Aborted)),")]),
    ("a failed attempt is not followed by the next one", 300, [
        (LOOP + "connect.rs", "self.note_failure(id, address, error);\n        self.connect_next(id);",
         "self.note_failure(id, address, error);")]),
    ("the other attempts of a connect are forgotten", 300, [
        ("src/connect/attempts.rs", "self.under_way.clear();\n        slots",
         "self.under_way.drain(..).for_each(|attempt| std::mem::forget(attempt.stream));\n        Vec::new()")]),
    ("a connect has no deadline", 300, [
        (LOOP + "timers.rs", "Purpose::ConnectDeadline => self.connect_timed_out(id),", "Purpose::ConnectDeadline => {}")]),
    ("a socket connected to itself counts as connected", 300, [
        ("src/connect/attempts.rs", "Ok(peer) if is_itself(&attempt.stream, &peer)", "Ok(peer) if false && is_itself(&attempt.stream, &peer)")]),
    ("a write half that is shut down early stays open", 300, [
        (CONNECTION + "life.rs", "[Open,    C,       CFin,    Lost,   C,", "[Open,    C,       C,       Lost,   C,")]),
    ("missed ticks are not counted", 300, [
        (LOOP + "timers.rs", "let missed = late.as_nanos() / period.as_nanos();", "let missed = 0 * late.as_nanos() / period.as_nanos();")]),
    ("output written by a handle is lost", 300, [
        (LOOP + "commands.rs", "Command::Write(id, data) => self.parts.write(id.0, Piece::Owned(data)),", "Command::Write(..) => {}")]),
    ("a raised cap is not noticed", 3000, [
        ("src/event_loop/listener.rs", "Some(self.id)));\n            self.core.parts.look_again(self.id);", "Some(self.id)));")]),
    ("a datagram that had to wait is sent twice", 3000, [
        ("src/datagram/mod.rs", "if self.send_now(&data, to.as_ref()) {", "if self.send_now(&data, to.as_ref()) && self.send_now(&data, to.as_ref()) {")]),
    ("the marks of a datagram socket do not alternate", 3000, [
        ("src/datagram/mod.rs", "self.paused = matches!(mark, Mark::Pause);", "self.paused |= matches!(mark, Mark::Pause);")]),
    ("a used-up budget of datagrams carries nothing over", 300, [
        (LOOP + "datagrams.rs", "if self.parts.slots.datagram(id).is_some_and(DatagramSocket::wants_input) {\n            self.parts.carry_over(id);\n        }", "")]),
    ("a refused protocol is dropped within the call", 300, [
        (LOOP + "parts.rs", "self.work.discard(refused);\n        error", "drop(refused);\n        error")]),
    ("the queue of a lost connection does not return to the pool", 300, [
        (CONNECTION + "ending.rs", "if self.output.is_some() {\n            self.drop_output(pool);",
         "if self.output.is_some() {\n            self.output = None;")]),
    ("a protocol that starts anew inherits a timeout", 1000, [
        (LOOP + "receive.rs", "self.set_timeout(id, Timeout::Handshake, None);", "")]),
    ("silence is reported while reading is paused", 1000, [
        (CONNECTION + "reading.rs", "self.is_paused() || self.is_held_back() || waits", "self.is_held_back() || waits"),
        (LOOP + "parts.rs", "            idle.pause(self.time.clock_ns());\n", "            _ = idle;\n")]),
    ("a protocol that starts anew inherits a pause", 300, [
        (CONNECTION + "ending.rs", "if self.set_paused(false) {", "if false {")]),
    ("a protocol that starts anew inherits marks", 1000, [
        (CONNECTION + "ending.rs", "            self.settings = initial;", "            drop(initial);")]),
    ("a timeout in the middle of an answer makes an orderly end", 1000, [
        (LOOP + "timeouts.rs", " && !connection.notes.has(Note::Answering);", ";")]),
    ("a producer is not called when there is room again", 300, [
        (LOOP + "send.rs", "self.tell_mark(id);\n        produce_later(&mut self.parts, id);", "self.tell_mark(id);")]),
    ("output is produced above the low mark", 300, [
        (CONNECTION + "writing.rs", "queued_cost() + waiting_bytes <= self.settings.limits.low()",
         "queued_cost() + waiting_bytes <= self.settings.limits.queue_bytes_high")]),
    ("a protocol continues its predecessor's producing", 300, [
        (LOOP + "parts.rs", "connection.flags.set(Flag::Produces, false);", "")]),
    ("an end that was read before a join is not passed on", 30, [
        (LOOP + "joining.rs", "connection.state() == State::ReadClosed) {", "connection.state() == State::ReadClosed && false) {")], JOINED),
    ("a slow peer times out without a send being tried", 30, [
        (LOOP + "timers.rs", "connection.look_for_room();\n        self.parts.time.look_at_clock();\n        self.flush_now(id);", "let _ = connection;")],
     SLOW_PEERS),
    ("an idle timeout ends a connection without a send being tried", 30, [
        (LOOP + "timeouts.rs", "connection.look_for_room();\n            self.flush_now(id);", "let _ = connection;")], SLOW_PEERS),
    ("the steps in which a kernel makes room are not awaited", 30, [
        (CONNECTION + "writing.rs", "true => timeout_ns.saturating_mul(2),", "true => timeout_ns,")], SLOW_PEERS),
    ("a timeout discards what the kernel still holds", 30, [
        (LOOP + "timeouts.rs", "Timeout::Idle | Timeout::ReadIdle | Timeout::Handshake | Timeout::Other(_) if is_whole", "Timeout::Close if is_whole")], SLOW_PEERS),
    ("at the loop's cap the connection being written to ends", 30, [
        (LOOP + "hoards.rs", "self.finish(id, CloseReason::Limit(Limit::LoopQueueBytes));",
         "let _ = id;\n            }\n            if let Some(id) = self.slots.ids(|tenant| matches!(tenant, Tenant::Connection(_))).pop() {\n"
         "                return self.finish(id, CloseReason::Limit(Limit::LoopQueueBytes));")], HOARDS),
    ("at the loop's cap the shortest queue is ended first", 30, [
        (LOOP + "hoards.rs", "(COST_MAX - COST_MAX.min(cost as u64))", "COST_MAX.min(cost as u64)")], HOARDS),
    ("at the loop's cap a datagram is dropped", 30, [
        (LOOP + "datagrams.rs", "self.keep_below_cap(Some(id));\n", "")], HOARDS),
    ("input is forgotten behind a read that has failed for lack of memory", 600, [
        (CONNECTION + "reading.rs", "Err(error) if is_out_of_buffers(&error) => return Read::Later,",
         "Err(error) if is_out_of_buffers(&error) => return Read::Blocked,")], PAIRS),
    ("a read that fails for lack of memory ends its connection", 600, [
        (CONNECTION + "reading.rs", "Err(error) if is_out_of_buffers(&error) => return Read::Later,", "")], PAIRS),
    ("a protocol is told of the crash of its own host", 30, [
        ("src/testing/network/processes.rs", "            event_loop.crash();\n", "            drop(event_loop);\n")], CRASHING),
]
