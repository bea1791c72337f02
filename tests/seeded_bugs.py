#!/usr/bin/env python3
"""Breaks each rule once, and sees its tests fail: a test that cannot fail proves nothing.

    python3 tests/seeded_bugs.py             all rules, some hours
    python3 tests/seeded_bugs.py w2 x1       those rules only
    python3 tests/seeded_bugs.py --like TEXT those that have this text in their rule, file, source or bug
    python3 tests/seeded_bugs.py --some 5    five, chosen by the date, so that in time all have their turn
    python3 tests/seeded_bugs.py --stand     only sees that the source of each is still there, at once
    python3 tests/seeded_bugs.py --table     prints the table of those that random programs find, for src/testing/mod.rs

Works on a copy of the tree in a scratch folder. A bug is a piece of the source and what takes its place; it counts as
found when a test whose name begins with the rule's number fails, or does not come to an end. It also counts as an error
here when the source has no such piece any more, or does not compile with the bug in it: then this list is out of date.
The rule "kit" stands for what the test kit promises of peers that are played by hand, and of the time that faults take.
The rule "group" stands for what loops in several threads promise together.
The rules "handlers" and "children" stand for what the module `server` promises, whose tests begin with these words.
The rule "model" stands for what only some interleavings of threads show, which the package in tests/model tries.
The rule "adapters" stands for what reaches a protocol through an adapter of another crate, whose tests are in tests/outsider.
The rule "proxy" stands for what the module `proxy` promises, whose tests begin with that word.
The rules "resp" and "http" stand for what the parts of these examples promise, in tests of their own, and "fetch" for
those of the package in companions/fetch.
The rule "guide" stands for what is promised of the guide, of the table of Python's names, and of the examples.
The rule "properties" stands for the bugs of property_bugs.py, which random programs must find within a number of seeds.
"""
import datetime
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import property_bugs

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIFE = "src/connection/life.rs"
LOOP = "src/event_loop/"
BACKLOG = "src/threads/backlog.rs"
MAILBOX = "src/threads/mailbox.rs"
POOL = "src/workers/pool.rs"
PROTOCOL = "src/protocol.rs"
JOINING = "src/event_loop/joining.rs"
SERVER = "src/server/"
HEADER = "src/proxy/header.rs"
RECEIVER = "src/proxy/receiver.rs"
PATH = "src/sys/unix_path.rs"
TABLE = "src/guide/from_python.md"
RESP = "examples/resp/"
HTTP = "examples/http/request.rs"
CHUNKS = "examples/http/chunks.rs"
FETCHED = "companions/fetch/src/head.rs"

# Rules whose tests are an example's.
EXAMPLES = {"resp": "resp_server", "http": "http_server"}

# (rule, file, the source, the bug)
BUGS = [
    ("guide", TABLE, "| `connect_ex` |", "| `connect_err` |"),
    ("guide", TABLE, "| `greeting_server`, `two_sockets_client` |", "| |"),
    ("guide", TABLE, "| `gethostname` | \u2014 | `names` | Not the loop's:", "| `gethostname` | \u2014 | `names` | Elsewhere:"),
    ("guide", TABLE, "| `unix_echo` | A path", "| `unix_ecko` | A path"),
    ("guide", "src/guide/life_of_a_connection.svg", ">connect_failed<", ">failed<"),
    ("guide", "examples/README.md", "### `peek`", "### peek"),
    ("guide", "src/guide/rules.md", '<a id="l1"></a>**L1**', '<a id="l7"></a>**L7**'),
    ("guide", ".ci/run", " embed_poll embed_thread", " embed_thread"),
    ("kit", "src/testing/network.rs", "} else if self.sim.take_by_hand() {", "} else if self.sim.take_by_hand() && false {"),
    ("kit", "src/sys/sim/by_hand.rs", "self.set_alarm(NO_BUFFERS, Alarm::Buffers(id));", ""),
    ("kit", "src/sys/sim/by_hand.rs", "Some(tcp) if !tcp.queue.bytes.is_empty() => self.to_feed.push_back(id),\n", ""),
    ("kit", "src/sys/sim/by_hand.rs", "self.ends |= !self.bytes.is_empty();\n", ""),
    ("kit", "src/sys/sim/tcp.rs", "if left && !self.is_registered(id) {", "if false {"),
    ("kit", "src/sys/sim/packet.rs", "!tcp.stalled && tcp.takes_until <= now", "!tcp.stalled"),
    ("kit", "src/sys/sim/world.rs", "self.buffer_bytes * 1_000_000 /", "self.buffer_bytes * 1_000_000_000 /"),
    ("kit", "src/testing/peer.rs", "if self.queued() > 0 {\n            return 0;\n        }\n", ""),
    ("l1", LOOP + "mod.rs", "self.core.deliver_losses();\n        self.core.flush_written_to();",
     "self.core.flush_written_to();\n        self.core.deliver_losses();"),
    ("l2", LOOP + "mod.rs", "self.core.dispatch(&self.events);",
     "self.core.dispatch(&self.events);\n        let carried_over = self.core.parts.work.carried_over().max(carried_over);"),
    ("l3", "src/sys/poller.rs", "timeout = wait.timeout_left(clock.now())", "{ clock.now(); timeout = wait.timeout() }"),
    ("l4", LOOP + "parts.rs", "self.threads.take_stop() | self.life.take_stop()",
     "self.threads.take_stop()"),
    ("l5", LOOP + "timers.rs", "if self.has_work() {\n            return Some(Duration::ZERO);\n        }", ""),
    ("l6", LOOP + "turn.rs", "(token, readiness) in events.iter() {", "(token, readiness) in events.iter().take(1) {"),
    ("c1", LOOP + "parts.rs", "let Some(mut connection) = self.slots.alive_mut(id) else {",
     "let Some(mut connection) = self.slots.connection_mut(id) else {"),
    ("c2", "src/connection/reading.rs", "!self.flags.has(Flag::Made) || self.offers() ||", "self.offers() ||"),
    ("c3", LOOP + "transport.rs", "self.core.parts.finish(self.id, CloseReason::Aborted);",
     "self.core.parts.finish(self.id, CloseReason::Aborted);\n        self.core.deliver_losses();"),
    ("c3", LOOP + "parts.rs", "self.work.discard(refused);\n        error", "drop(refused);\n        error"),
    ("c4", "src/connection/ending.rs", "drop(self.socket.take());", "std::mem::forget(self.socket.take());"),
    ("c4", LOOP + "turn.rs", "self.parts.work.free(id);", "self.parts.slots.remove(id);"),
    ("c5", LOOP + "parts.rs", "let Some(mut connection) = self.slots.alive_mut(id) else {",
     "let Some(mut connection) = self.slots.connection_mut(id) else {"),
    ("c6", LOOP + "life.rs", "matches!(self.stage, Stage::Running | Stage::Draining(_))", "true"),
    ("c6", LOOP + "life.rs", "matches!(self.stage, Stage::Running | Stage::Draining(_))", "matches!(self.stage, Stage::Running)"),
    ("c6", LOOP + "life.rs", "Stage::Draining(_) => Err(io::Error::new(io::ErrorKind::NotConnected, \"the loop is draining\")),", ""),
    ("c7", "src/connection/ending.rs", "let had = self.state() == State::ReadClosed;", "let had = false;"),
    ("c7", LOOP + "receive.rs", "if !connection.wants_input() {\n            return false;\n        }\n        self.hold_back(id);",
     "self.hold_back(id);"),
    ("c7", "src/connection/ending.rs", "self.flags.set(Flag::OfferAgain, true);\n        }\n        self.push", "}\n        self.push"),
    ("c8", "src/sys/listener.rs", "Ok((Stream::from_accepted(stream), peer.into()))",
     "let _ = peer;\n                let stream = Stream::from_accepted(stream);\n"
     "                let peer = stream.peer_addr()?;\n                Ok((stream, peer))"),
    ("e1", LOOP + "guard.rs", "self.parts.finish(id, CloseReason::Panic(message));", "drop(message);"),
    ("r1", LOOP + "receive.rs", "consumed += count;\n            if !goes_on {", "consumed += count;\n            if true {"),
    ("r2", "src/connection/reading.rs", "self.flags.set(Flag::Readable, true);\n        // Whatever", "// Whatever"),
    ("c4", "src/sys/poller.rs", "LOOPS.fetch_add(1, Ordering::Relaxed) as u64", "0 * LOOPS.fetch_add(1, Ordering::Relaxed) as u64"),
    ("c5", LIFE, "[Fail,    Lost,    Fail,    Lost,", "[Fail,    Lost,    Fail,    Fail,"),
    ("c5", LIFE, "[Fin,     FlushE,  Fin,     Flush,  Fin,    WClosed,", "[Fin,     FlushE,  Fin,     Flush,  Det,    WClosed,"),
    ("c5", LIFE, "[Ling,    Lost,    Ling,", "[Ling,    Ling,    Ling,"),
    ("r3", LIFE, "[Open,    RClosed, Fin,     Flush,  Det,", "[Open,    RClosed, Fin,     Fin,    Det,"),
    ("r4", "src/connection/ending.rs", "let delivers = !self.is_paused() && self.was_made();", "let delivers = false;"),
    ("r5", LOOP + "receive.rs", "read_bytes_per_turn_max {\n            self.parts.carry_over(id);", "read_bytes_per_turn_max {"),
    ("r6", "src/connection/reading.rs", "} else if self.is_emptied_by(count, most) {", "}\n        if self.is_emptied_by(count, most) {"),
    ("r6", "src/connection/reading.rs", "let is_doubted = self.doubts_would_block();", "let is_doubted = false;"),
    ("x1", "src/connection/reading.rs", "(true, false) => LAST_TRIES_UNHINTED,", "(true, false) => 1,"),
    ("r6", "src/connection/reading.rs", "self.notes.urgent() != Urgent::Never || self.state() == State::Failing", "true"),
    ("r6", "src/connection/urgent.rs", "(Urgent::Waits, Ask::Later)", "(Urgent::Asked, Ask::Now)"),
    ("r6", "src/connection/urgent.rs", "(Urgent::Waits, Ask::Later)", "(Urgent::Waits, Ask::Not)"),
    ("r6", LOOP + "receive.rs", "return connection.has_nothing_to_read();", "return;"),
    ("r6", "src/connection/reading.rs", "Err(error) if is_out_of_buffers(&error) => return Read::Later,\n", ""),
    ("r6", LOOP + "timers.rs", "if self.parts.work.read_later(id) {", "if self.parts.work.read_later(id) || true {"),
    ("r4", LOOP + "timers.rs", "if self.parts.slots.connection(id).is_some_and(|connection| connection.state() == State::Failing) {", "if false {"),
    ("x1", LOOP + "send.rs", "Read::Later => self.linger(id, 0),", "Read::Later => self.finish_begun(id),"),
    ("u1", "src/datagram/mod.rs", "sys::is_out_of_buffers(&error) || self.failures", "self.failures"),
    ("u1", "src/datagram/mod.rs", " || self.failures > FAILURES_AT_ONCE_MAX;", ";"),
    ("u1", "src/datagram/mod.rs", "|| self.failures > FAILURES_AT_ONCE_MAX;", "|| self.failures > 0;"),
    ("u1", "src/datagram/mod.rs", "self.failures = 0;\n        self.retry.reset();", "self.failures = 0;"),
    ("u1", "src/datagram/mod.rs", "self.failures = 0;\n        self.retry.reset();", "self.retry.reset();"),
    ("u1", "src/datagram/mod.rs", "[timer, self.backs_off.take()]", "[timer, None]"),
    ("u1", "src/datagram/mod.rs", "self.is_open() && self.backs_off.is_none()", "self.is_open()"),
    ("u1", "src/datagram/mod.rs", "self.dropped += self.queue.len() as u64;\n", ""),
    ("u1", LOOP + "datagrams.rs", "let Some(error) = datagram.and_then(DatagramSocket::take_error) else { break };",
     "let Some(error) = datagram.and_then(|datagram| { let error = datagram.take_error(); while datagram.take_error().is_some() {} error }) else { break };"),
    ("u1", LOOP + "datagrams.rs", "while let Some(error) = self.parts.slots.datagram_mut(id).and_then(DatagramSocket::take_error) {", "if let Some(error) = None {"),
    ("r4", LOOP + "confirm.rs", "if connection.state() == State::Failing {", "if false {"),
    ("r4", "src/connection/reading.rs", "State::Failing | State::Flushing)", "State::Flushing)"),
    ("r4", "src/connection/reading.rs", "self.notes.urgent() != Urgent::Never || self.state() == State::Failing", "self.notes.urgent() != Urgent::Never"),
    ("x1", "src/connection/reading.rs", "State::Failing | State::Flushing)", "State::Failing)"),
    ("w1", LOOP + "send.rs", "            self.send_gathered(id);\n        }\n        let over", "        }\n        let over"),
    ("w1", LOOP + "send.rs", "            self.push_gathered(id);\n        } else", "        } else"),
    ("w1", LOOP + "send.rs", "let holds = joins && piece.is_handed_over();", "let holds = false;"),
    ("w1", LOOP + "send.rs", "let joins = self.joins(id, piece.bytes().len());", "let joins = false;"),
    ("w1", LOOP + "send.rs", "match connection.queued_bytes() > GATHERED_BYTES_MAX &&", "match false &&"),
    ("w4", LOOP + "send.rs", "            && self.outbox.room() == GATHERED_BYTES_MAX\n", ""),
    ("w4", LOOP + "send.rs", "connection.can_write() && connection.is_far_from_cap()", "connection.can_write()"),
    ("w4", LOOP + "send.rs", "connection.can_write() && connection.is_far_from_cap()", "connection.is_far_from_cap()"),
    ("w4", LOOP + "send.rs", "self.outbox.gathered.take_held().filter(|id| self.outbox.gathered.is(*id))", "self.outbox.gathered.take_held().filter(|_| false)"),
    ("w4", LOOP + "send.rs", "self.parts.outbox.gathered.take_held() != Some(id) && ", ""),
    ("n1", LOOP + "send.rs", "if is_emptied {", "if false {"),
    ("r1", LOOP + "receive.rs", "if count == 0 && was_held_back {", "if false {"),
    ("r1", LOOP + "receive.rs", "connection.wants_input() && !connection.flags.has(Flag::OfferAgain);", "connection.wants_input();"),
    ("r1", LOOP + "receive.rs", "            self.outbox.gathered.hold_input_back(id);\n", ""),
    ("r1", "src/connection/gathered.rs", "            self.held_input_back.set(true);\n        }\n",
     "        }\n        self.held_input_back.set(self.is(id));\n"),
    ("l5", LOOP + "receive.rs", "if count == 0 && was_held_back {", "if count == 0 {"),
    ("w1", LOOP + "broadcast.rs", "let is_behind_gathered = is_own && !self.outbox.gathered.bytes.is_empty();",
     "let is_behind_gathered = false;"),
    ("w1", LOOP + "parts.rs", "fn see_to_end(&mut self, id: Id) {\n        self.queue_share(id);", "fn see_to_end(&mut self, id: Id) {"),
    ("w1", "src/connection/shared_log.rs", "share.generation == id.generation.get() && share.to == span.from =>",
     "share.generation == id.generation.get() =>"),
    ("w1", LOOP + "send.rs", "Some(connection) if may_wait && connection.is_flushed_later() => self.parts.queue_gathered(id),\n            ", ""),
    ("w1", LOOP + "send.rs", "            // It stands behind what was not sent.\n            self.outbox.gathered.bytes.clear();\n", ""),
    ("h1", LOOP + "parts.rs", "fn see_to_end(&mut self, id: Id) {\n        self.queue_share(id);", "fn see_to_end(&mut self, id: Id) {"),
    ("x3", LOOP + "parts.rs", "fn see_to_end(&mut self, id: Id) {\n        self.queue_share(id);", "fn see_to_end(&mut self, id: Id) {"),
    ("n1", LOOP + "broadcast.rs", "if was_queued && matches!(sent, Sent::All) {", "if false {"),
    ("w3", "src/connection/shared_log.rs", "self.live > 0 && data.len() <= REPEATED", "data.len() <= REPEATED"),
    ("w3", "src/connection/outbox.rs", "self.log.decay();\n", ""),
    ("w4", LOOP + "send.rs", "!= Some(id) && self.parts.outbox.room() == GATHERED_BYTES_MAX;", "!= Some(id);"),
    ("w4", "src/connection/writing.rs", "matches!(self.state(), State::Open) && self.may_share()",
     "matches!(self.state(), State::Open) && self.flags.has(Flag::Made)"),
    ("w4", LOOP + "quick.rs", "begin_input(id, GATHERED_BYTES_MAX - self.parts.outbox.share_bytes(id))", "begin_input(id, GATHERED_BYTES_MAX)"),
    ("w4", LOOP + "quick.rs", "room: GATHERED_BYTES_MAX }", "room: GATHERED_BYTES_MAX + self.parts.outbox.share_bytes(id) }"),
    ("w4", LOOP + "hoards.rs", "self.time.look_at_clock_anyway();", "self.time.look_at_clock();"),
    ("w4", LOOP + "guard.rs", "room.saturating_sub(self.parts.outbox.share_bytes(id))", "*room"),
    ("w4", "src/connection/outbox.rs", "self.log.has_room(bytes) && total <= self.queued_bytes_max", "self.log.has_room(bytes)"),
    ("w2", "src/connection/writing.rs", "true if cost <= self.settings.limits.low()", "true if cost < self.settings.limits.low()"),
    ("w3", "src/connection/outbox.rs", "self.pool.decay();\n", ""),
    ("w4", "src/connection/writing.rs", "self.queued_cost() > self.settings.limits.queue_bytes_max", "false"),
    ("w5", LOOP + "send.rs", "self.counters.late_writes += 1;", ""),
    ("w6", "src/connection/writing.rs", "Ok(0) => Taken::Failed(io::ErrorKind::WriteZero.into()),",
     "Ok(0) => Taken::Nothing(Blocked::UntilEvent),"),
    ("w7", "src/sys/stream.rs", "send_vectored_with_flags(pieces, SEND_FLAGS)", "send_vectored_with_flags(pieces, SEND_FLAGS * 0)"),
    ("h1", PROTOCOL, "Inner::Nothing => transport.close(),", "Inner::Nothing => {}"),
    ("h2", LIFE, "[Open,    RClosed, Fin,     Flush,  Det,", "[Open,    RClosed, Flush,   Flush,  Det,"),
    ("h3", "src/connection/reading.rs", "self.life.step(Event::PeerEnded) && self.state()", "self.state() != State::Open && self.life.step(Event::PeerEnded) && self.state()"),
    ("h3", "src/sys/stream.rs", "Stream::Unix(_) => true,", "Stream::Unix(_) => false,"),
    ("x1", LOOP + "send.rs", "Read::Blocked | Read::Unconfirmed | Read::End =>",
     "Read::Blocked | Read::Unconfirmed | Read::End | Read::Data(1..) =>"),
    ("x2", "src/connection/ending.rs", "(Some(socket), _) if reset => socket.reset(),", "(Some(socket), _) if reset => drop(socket),"),
    ("x3", LOOP + "timers.rs", "Due::Shutdown => self.parts.end_of_grace(),", "Due::Shutdown => {}"),
    ("x3", LOOP + "shutdown.rs", "Stage::Draining(of) => self.end_drain(of),", "Stage::Draining(_) => self.abandon_connections(),"),
    ("x3", LOOP + "shutdown.rs", "self.life.drain(End { deadline: self.time.set(end, Due::Shutdown), stops });\n"
     "                self.close_listeners();", "self.close_all(end, stops);"),
    ("x3", LOOP + "shutdown.rs", "self.slots.foreground_connections() == 0", "self.slots.connections() == 0"),
    ("x3", LOOP + "shutdown.rs", "self.time.remove(of.deadline);\n            self.end_drain(of);", "self.end_drain(of);"),
    ("x3", LOOP + "shutdown.rs", "latest.map_or(end, |latest| end.min(latest))", "{ let _ = latest; end }"),
    ("x3", LOOP + "shutdown.rs", "Stage::Draining(of) => self.time.bring_nearer(of.deadline, end),", "Stage::Draining(_) => {}"),
    ("x3", "src/time/deadlines.rs", "if self.deadline(key).is_some_and(|deadline| end < deadline) {", "{"),
    ("x4", PROTOCOL, "Inner::Nothing => transport.end_after(timeout),", "Inner::Nothing => transport.close(),"),
    ("x5", "src/connection/ending.rs", "reason.demands_reset() || self.output.is_some()", "reason.demands_reset()"),
    ("x5", "src/sys/held.rs", "self.is_short || std::thread::panicking()", "std::thread::panicking()"),
    ("x5", "src/sys/held.rs", "self.is_short || std::thread::panicking()", "self.is_short"),
    ("x5", "src/sys/fed.rs", "Held::new(stream, !rest.1.is_empty())", "Held::new(stream, false)"),
    ("x5", "src/connection/blocking.rs", "self.stream.set_short(result.is_err());", ""),
    ("x5", LOOP + "accept.rs", "Some((_, unsent)) if !unsent.is_empty() => socket.reset(),", ""),
    ("x5", LOOP + "accept.rs", "None => self.admission.take_orphaned_rest(),", "None => None,"),
    ("x5", LOOP + "connect.rs", "stream.reset();\n                return", "drop(stream);\n                return"),
    ("c7", LOOP + "accept.rs", "None => self.parts.restore_orphaned(id),", "None => {}"),
    ("c7", LOOP + "accept.rs", "listener.take_rest().unwrap_or_default();", "Default::default();"),
    ("a1", LOOP + "accept.rs", "if class != AcceptError::Skip {", "if true {"),
    ("a2", LOOP + "parts.rs", "self.work.add_loss(Loss { id, reason, handover });\n        self.descriptor_closed();",
     "self.work.add_loss(Loss { id, reason, handover });"),
    ("a3", LOOP + "accept.rs", "_ => self.parts.carry_over(id),\n        }\n    }\n\n    /// Makes a connection of",
     "_ => {}\n        }\n    }\n\n    /// Makes a connection of"),
    ("a4", LOOP + "accept.rs", "if was_full {", "if false && was_full {"),
    ("a6", "src/event_loop/listener.rs", "listener.paused = false;\n            self.core.parts.look_again(self.id);", "listener.paused = false;"),
    ("t1", LOOP + "timers.rs", "while let Some(key) = self.parts.time.first_due(now, mark) {",
     "while let Some(key) = self.parts.time.first_due(now + Duration::from_millis(1), mark) {"),
    ("g1", MAILBOX, "if queue.commands.len() >= commands_max {", "if false {"),
    ("g1", MAILBOX, "queue.reader = Reader::Gone;", "queue.reader = Reader::MaySleep;"),
    ("g1", MAILBOX, "queue.dropped += queue.commands.len();", ""),
    ("g1", MAILBOX, "if before == Reader::MaySleep && !self.waker.wake() {",
     "if !(self.waker.wake() | (before != Reader::MaySleep)) {"),
    ("g1", MAILBOX, "queue.reader = if is_left { Reader::WillLook } else { Reader::MaySleep };", ""),
    ("g1", MAILBOX, "if queue.reader == Reader::WillLook {\n                queue.reader = Reader::MaySleep;", "if false {"),
    ("g1", MAILBOX, "if queue.commands.len() <= count_max {", "if true {"),
    ("g1", LOOP + "parts.rs", "|| self.has_ended() || self.threads.has_commands()", "|| self.has_ended()"),
    ("g1", LOOP + "parts.rs", "!self.time.has_awaited() && !self.threads.has_commands()", "!self.time.has_awaited()"),
    ("g1", LOOP + "shutdown.rs", "self.drop_commands();", ""),
    ("g1", LOOP + "commands.rs", "self.drop_guarded(command);", "drop(command);"),
    ("g1", LOOP + "commands.rs", "if emptied.capacity() <= KEPT_COMMANDS {", "if true {"),
    ("g1", LOOP + "commands.rs", 'self.guard("a posted closure", |core| call(&mut Context::new(core)));',
     "call(&mut Context::new(self));"),
    # What only some interleavings show: tests/model tries them all.
    ("g1", "src/threads/handle.rs", "push_below(usize::MAX, value, completed)", "push(value, completed)"),
    ("g1", "src/threads/completion.rs", "handle.complete_without(self.id);", "drop(handle);"),
    ("g1", LOOP + "completions.rs", "self.work.discard(Discarded::Completion(waiting));", "std::mem::forget(waiting);"),
    ("g1", LOOP + "shutdown.rs", "self.parts.cancel_completion(id);", "let _ = self.parts.slots.remove(id).map(std::mem::forget);"),
    ("g1", LOOP + "slots.rs", "self.foreground += 1;", "self.foreground += usize::from(!matches!(tenant, Tenant::Completion(_)));"),
    ("w7", "src/connection/blocking.rs", "self.stream.get_mut().write(data)",
     "socket2::SockRef::from(&self.stream.get().as_fd().unwrap()).send(data)"),
    ("c7", "src/connection/blocking.rs", "split_off(read)", "split_off(read.max(8))"),
    ("u1", "src/datagram/mod.rs", "self.readable && !self.reading_paused && self.is_open()", "self.readable && self.is_open()"),
    ("u1", "src/event_loop/datagram_transport.rs", "datagram.reading_paused = false;\n            self.core.parts.carry_over(self.id);",
     "datagram.reading_paused = false;"),
    ("handlers", SERVER + "request.rs", "Detached::from(stream).abort();", "drop(stream);"),
    ("handlers", SERVER + "request.rs", "if stream.unread().is_empty() {\n                self.flush()?;",
     "if stream.unread().is_empty() {"),
    ("handlers", SERVER + "request.rs", "Channel::Stream { stream, .. } => stream.set_timeout(left),",
     "Channel::Stream { .. } => Ok(()),"),
    ("handlers", SERVER + "request.rs", "Channel::Datagram { answer, .. } if answer.len() + data.len() > ANSWER_BYTES_MAX",
     "Channel::Datagram { .. } if false"),
    ("handlers", SERVER + "admission.rs", "self.in_progress.get() < self.parallel_max", "self.parallel_max > 0"),
    ("handlers", SERVER + "admission.rs", "socket.pause_reading()", "drop(socket)"),
    ("handlers", SERVER + "admission.rs", "self.quota.get() > 0 &&", ""),
    ("handlers", SERVER + "handler.rs", "let finished = handler.finish(request);\n    handled.and(finished)?;",
     "handled?;\n    handler.finish(request)?;"),
    ("handlers", SERVER + "handling.rs", "transport.close();", "transport.abort();"),
    ("handlers", SERVER + "handling.rs", "is_none_or(|verify| verify(client))", "is_none_or(|_| true)"),
    ("handlers", SERVER + "handling.rs", "|make| make());", "|_| Box::new(Closing) as Box<dyn Protocol>);"),
    ("handlers", SERVER + "handling.rs", "caught(|| task.run(&mut *make(), client, deadline))",
     "Ok(task.run(&mut *make(), client, deadline))"),
    ("handlers", SERVER + "socket_server.rs", "self.event_loop.turn(Some(Duration::ZERO))?;\n        Ok(", "Ok("),
    ("children", SERVER + "children.rs", "Ok(status) if status.signal().is_none() =>", "Ok(status) if status.code() != Some(99) =>"),
    ("children", SERVER + "children.rs", "move |_| children.kill(number))", "move |_| drop(children))"),
    ("children", SERVER + "children.rs", "        drop(command);\n", "        let _command = command;\n"),
    ("children", SERVER + "children.rs", "if let Some(client) = client.as_inet() {", "if let Some(client) = client.as_inet().filter(|_| false) {"),
    ("children", SERVER + "children.rs", "Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(answer),", ""),
    ("children", SERVER + "handling.rs", "children.kill_all();", "let _ = children;"),
    ("handlers", SERVER + "request.rs", "(!written.is_empty() || data.is_empty())", "(!written.is_empty())"),
    ("x5", SERVER + "children.rs", "Ok(status) if status.signal().is_none() =>", "Ok(status) if status.code() != Some(99) =>"),
    ("x3", SERVER + "socket_server.rs", "if self.event_loop.take_stop() {\n                return Ok(true);",
     "if false {\n                return Ok(true);"),
    ("x3", SERVER + "children.rs", "command.process_group(0).stdin(", "command.stdin("),
    ("c3", LOOP + "listen.rs", "return Err(self.refuse(Discarded::Factory(factory), error)),", "{ drop(factory); return Err(error) }"),
    ("c3", LOOP + "datagrams.rs", "return Err(self.refuse(Discarded::DatagramProtocol(protocol), error)),",
     "{ drop(protocol); return Err(error) }"),
    ("c3", LOOP + "parts.rs", "return Err(self.refuse(Discarded::Source(Box::new(Registered { source, handler })), error)),",
     "{ drop(handler); return Err(error) }"),
    ("workers", POOL, "            self.lock().idle += 1;\n            guarded(|| task.answer());",
     "            guarded(|| task.answer());\n            self.lock().idle += 1;"),
    ("workers", POOL, "WorkError::Panicked(message)\n    })", "WorkError::Dropped\n    })"),
    ("workers", POOL, "answer.give(Err(WorkError::TimedOut));\n        }\n        self.withdraw();",
     "answer.give(Err(WorkError::TimedOut));\n        }"),
    ("workers", POOL, "answer.withdraw(context));\n        self.withdraw();", "answer.withdraw(context));"),
    ("workers", POOL, "state.queue.len() >= self.queue_max", "state.queue.len() > self.queue_max"),
    ("workers", POOL, "timer.map(|timer| context.cancel_timer(timer));\n            done(", "done("),
    ("workers", POOL, "fn drop(&mut self) {\n        drop(self.shared.close());", "fn drop(&mut self) {"),
    ("workers", POOL, "pop_first()", "pop_last()"),
    ("workers", POOL, "if state.closed {", "if false {"),
    ("workers", POOL, "|state| state.threads > 0", "|_| false"),
    ("model", MAILBOX, "let mut queue = self.lock();\n        if queue.reader == Reader::Gone {\n"
     "            return Err(PostError::Gone(value));\n        }\n",
     "if self.lock().reader == Reader::Gone {\n            return Err(PostError::Gone(value));\n        }\n"
     "        let mut queue = self.lock();\n"),
    ("model", MAILBOX, "self.occupied.store(true, Ordering::Release);\n"
     "        let before = mem::replace(&mut queue.reader, Reader::WillLook);\n        drop(queue);\n",
     "let before = mem::replace(&mut queue.reader, Reader::WillLook);\n        drop(queue);\n"
     "        self.occupied.store(true, Ordering::Release);\n"),
    ("model", MAILBOX, "self.occupied.store(is_left, Ordering::Release);\n        queue.reader = if is_left "
     "{ Reader::WillLook } else { Reader::MaySleep };",
     "queue.reader = if is_left { Reader::WillLook } else { Reader::MaySleep };\n        drop(queue);\n"
     "        self.occupied.store(is_left, Ordering::Release);"),
    ("model", MAILBOX, "let before = mem::replace(&mut queue.reader, Reader::WillLook);\n        drop(queue);\n",
     "let before = queue.reader;\n        drop(queue);\n        self.lock().reader = Reader::WillLook;\n"),
    ("k1", "src/connect/attempts.rs", "Err(error) if error.kind() == io::ErrorKind::NotConnected => Looked::Pending,", ""),
    ("k1", LOOP + "receive.rs", "if connection.may_be_established() {", "if connection.may_be_established() || true {"),
    ("k1", "src/connect/attempts.rs", "Ok(Some(error)) | Err(error) => return Looked::Failed(error),", "_ => {}"),
    ("k2", LOOP + "connect.rs", "self.parts.time.set_after(timeout, Due", "self.parts.time.set_after(timeout * 2, Due"),
    ("k2", LIFE, "[Open,    C,       CFin,    Lost,   C,", "[Open,    C,       CFin,    C,      C,"),
    ("k2", LOOP + "connect.rs", "self.slots.unref(slot);", "let _ = slot;"),
    ("k2", LOOP + "connect.rs", "Stream::connect(&self.poller, *address, local)",
     "Stream::connect(&self.poller, *address, local.and(None))"),
    ("k2", LOOP + "connect.rs", "Err(error) if is_backlog_full(&address, &error) =>", "Err(_) if false =>"),
    ("k2", "src/connect/attempts.rs", "(self.full_delay * 2).clamp", "self.full_delay.clamp"),
    ("k2", "src/connect/attempts.rs", "&& self.full.is_none()", ""),
    ("k2", "src/connect/attempts.rs", "failures.extend(self.full.take().map(full));", "let _ = &full as &dyn Fn(Address) -> (Address, io::Error);"),
    ("k3", "src/connect/attempts.rs", "self.failures.push((address, error));", "self.failures = vec![(address, error)];"),
    ("k3", "src/connect/attempts.rs", "failures.extend(self.under_way.iter().map(late));", "failures.extend(self.under_way.first().map(late));"),
    ("k3", "src/connect/attempts.rs", "self.untried = interleave(addresses);", "self.untried = addresses.into();"),
    ("k3", LOOP + "connect.rs", "self.time.set_after(STAGGER,", "self.time.set_after(STAGGER * 2,"),
    ("k3", LOOP + "connect.rs", "self.note_failure(id, address, error);\n        self.connect_next(id);",
     "self.note_failure(id, address, error);"),
    ("k3", "src/connect/attempts.rs", "std::mem::take(&mut self.under_way).into_iter().filter_map(|attempt| attempt.slot)",
     "std::mem::take(&mut self.under_way).into_iter().filter_map(|attempt| { std::mem::forget(attempt.stream); None })"),
    ("k4", "src/connect/attempts.rs", "Ok(peer) if is_itself(&attempt.stream, &peer)", "Ok(peer) if false && is_itself(&attempt.stream, &peer)"),
    ("k4", LOOP + "connect.rs", "stream.reset();\n                self.parts.attempt_failed", "drop(stream);\n                self.parts.attempt_failed"),
    ("k5", "src/connect/backoff.rs", "self.next_secs = Some(self.clamp(secs * self.factor));\n        let varied = "
     "secs * (1.0 + self.jitter * self.random_sign());",
     "let varied = secs * (1.0 + self.jitter * self.random_sign());\n        self.next_secs = Some(self.clamp(varied * self.factor));"),
    ("k5", "src/connect/backoff.rs", "secs.max(0.0).min(", "secs.min("),
    ("k5", "src/connect/backoff.rs", "max: Duration::from_secs(60)", "max: Duration::from_secs(61)"),
    ("k5", "src/connect/backoff.rs", "return self.first.min(self.max);",
     "return self.first.min(self.max).mul_f64(1.0 - (self.jitter * self.random_sign()).abs().min(1.0));"),
    ("k5", "src/connect/backoff.rs", "Duration::try_from_secs_f64(self.clamp(varied)).map_or(self.max, |delay| delay.min(self.max))",
     "Duration::from_secs_f64(varied.clamp(0.0, 1e9))"),
    ("k5", "src/connect/reconnect.rs", "if has_stayed_up.get() {", "if true {"),
    ("k5", "src/connect/reconnect.rs", "context.call_later(Duration::ZERO, move |context| is_up.set(context.connection(id).is_some()))",
     "{\n            is_up.set(context.connection(id).is_some());\n            context.call_later(Duration::ZERO, |_| ())\n        }"),
    ("k5", "src/connect/reconnect.rs", "timer.take().map(|timer| context.cancel_timer(timer));", ""),
    ("k5", "src/connect/reconnect.rs", "ConnectionEnd::Failed | ConnectionEnd::Lost => plan",
     "ConnectionEnd::Failed | ConnectionEnd::Lost | ConnectionEnd::Detached => plan"),
    ("k5", "src/connect/reconnect.rs", "if context.shutdowns() == shutdowns {", "if true {"),
    ("k5", LOOP + "following.rs", "(CloseReason::Closed | CloseReason::Aborted | CloseReason::Protocol(_), Some(false)) =>", "(_, Some(false)) =>"),
    ("k5", LOOP + "following.rs", "(CloseReason::Closed | CloseReason::Aborted | CloseReason::Protocol(_), Some(false)) =>",
     "(CloseReason::Closed | CloseReason::Aborted | CloseReason::Protocol(_), _) =>"),
    ("k5", LOOP + "following.rs", "(CloseReason::Detached, _) => ConnectionEnd::Detached,", ""),
    ("k5", LOOP + "connect.rs", "self.tell_follower_of_made(id);", ""),
    ("k6", LIFE, "State::Open | State::ReadClosed | State::Connecting)", "State::Open | State::ReadClosed)"),
    ("k6", LIFE, "[Open,    C,       CFin,    Lost,   C,", "[Open,    C,       C,       Lost,   C,"),
    ("k7", LOOP + "lookups.rs", "self.parts.threads.lookups.under_way < self.parts.threads.lookups.most",
     "self.parts.threads.lookups.under_way < usize::MAX"),
    ("k7", LOOP + "lookups.rs", "most: most.max(1)", "most"),
    ("k7", LOOP + "lookups.rs", "if self.parts.poller.is_in_memory() {\n", "if true || self.parts.poller.is_in_memory() {\n"),
    ("k7", LOOP + "lookups.rs", "drop(self.await_lookup(id)?.complete(Err(cannot_start_thread(error))));", "log::warn!(\"{error}\");"),
    ("w8", "src/connection/writing.rs", "queued_cost() + waiting_bytes <= self.settings.limits.low()",
     "queued_cost() + waiting_bytes <= self.settings.limits.queue_bytes_high"),
    ("w8", "src/connection/writing.rs", "self.queued_cost() + waiting_bytes <= self", "self.queued_cost() + waiting_bytes.min(0) <= self"),
    ("w8", "src/connection/writing.rs", "self.flags.has(Flag::Made) && self.can_write();", "self.flags.has(Flag::Made);"),
    ("c1", "src/connection/writing.rs", "self.flags.has(Flag::Made) && self.can_write();", "self.can_write();"),
    ("w8", "src/connection/writing.rs", "self.queued_cost() + waiting_bytes + CHUNK_OVERHEAD_BYTES;", "waiting_bytes + CHUNK_OVERHEAD_BYTES;"),
    ("w8", "src/connection/flags.rs", "Flag::OverHigh as u16 | Flag::Produces as u16;", "Flag::OverHigh as u16;"),
    ("w8", LOOP + "send.rs", "self.tell_mark(id);\n        produce_later(&mut self.parts, id);", "self.tell_mark(id);"),
    ("w8", LOOP + "turn.rs", "true => self.serve_producer(id),", "true => (0..2).for_each(|_| self.serve_producer(id)),"),
    ("w8", LOOP + "producing.rs", "connection.filter(|_| wrote_nothing)", "connection.filter(|_| wrote_nothing && room == 0)"),
    ("w8", LOOP + "transport.rs", "self.core.parts.finish(self.id, CloseReason::Io(error));", "self.core.parts.finish(self.id, CloseReason::from_error(error));"),
    ("c7", LOOP + "producing.rs", ".filter(|of| of.protocol.is_none());\n            if", ";\n            if"),
    ("c7", LOOP + "parts.rs", "connection.flags.set(Flag::Produces, false);", ""),
    ("f1", "src/framing/forward.rs", "self.$field.produce(transport);", "let _ = transport;"),
    ("adapters", PROTOCOL, "inner.produce(transport);", "let _ = inner;"),
    ("j1", JOINING, "other.write(rest);\n            other.shutdown_write();", "other.write(rest);"),
    ("j1", JOINING, "connection.state() == State::ReadClosed) {", "connection.state() == State::ReadClosed && false) {"),
    ("j2", "src/connection/reading.rs", "if was_held_back {", "if false {"),
    ("j1", JOINING, "CloseReason::PeerClosed | CloseReason::Closed | CloseReason::Shutdown => other.close(),",
     "CloseReason::Closed | CloseReason::Shutdown => other.close(),"),
    ("j2", JOINING, "self.with_other(transport, |other| other.pause_reading());", "let _ = transport;"),
    ("j2", JOINING, "/// It may have waited for this.\n    fn connection_made(&mut self, transport: &mut Transport<'_>) {\n        self.with_other(transport, |other| other.resume_reading());",
     "fn connection_made(&mut self, transport: &mut Transport<'_>) {\n        let _ = transport;"),
    ("j2", JOINING, "true => parts.pause_reading(id),", "true => {}"),
    ("j2", JOINING, "false => parts.resume_reading(id),", "false => {}"),
    ("j2", JOINING, "            parts.carry_over(id);\n", ""),
    ("j2", "src/connection/reading.rs", "self.limits_mut().pause_reading_over_high = false;", ""),
    ("j2", "src/connection/reading.rs", "self.is_connecting() || self.flags.has(Flag::OverHigh)", "self.is_connecting()"),
    ("j3", JOINING, "_ => other.abort(),", "_ => other.close(),"),
    ("j3", JOINING, "CloseReason::Closed | CloseReason::Shutdown => other.close(),", "CloseReason::Shutdown => other.close(),"),
    ("j3", JOINING, "transport.abort_after(timeout);", "transport.end_after(timeout);"),
    ("j3", JOINING, "self.with_other(transport, |other| other.abort());", ""),
    ("j3", JOINING, "if a == b {\n        return Err(NotJoined::Itself);\n    }\n", ""),
    ("j3", JOINING, "return Err(NotJoined::Closing);", "continue;"),
    ("j3", JOINING, ".filter(|connection| connection.is_alive()).ok_or", ".ok_or"),
    ("j3", JOINING, " && connection.state() != State::Failing", ""),
    ("adapters", PROTOCOL, "inner.connection_made(transport);", "let _ = inner;"),
    ("adapters", PROTOCOL, "inner.pause_writing(transport);", "let _ = inner;"),
    ("adapters", PROTOCOL, "inner.resume_writing(transport);", "let _ = inner;"),
    ("adapters", PROTOCOL, "inner.connect_failed(transport, error);", "let _ = inner;"),
    ("adapters", PROTOCOL, "inner.connection_lost(transport, reason);", "let _ = inner;"),
    ("adapters", PROTOCOL, "Inner::Protocol(inner) => inner.eof_received(transport, rest),", "Inner::Protocol(_) => transport.close(),"),
    ("adapters", PROTOCOL, "Inner::Protocol(inner) => inner.timed_out(transport, timeout),", "Inner::Protocol(_) => transport.end_after(timeout),"),
    ("workers", POOL, "Some(error) if state.threads == 0 => return Err(error),", ""),
    ("group", "src/workers/group.rs", "if self.name.contains('\\0') {", "if false {"),
    ("group", "src/workers/group.rs", "LoopFailure::Io(cannot_start_thread(error))", "LoopFailure::Io(error)"),
    ("k7", LOOP + "lookups.rs", "self.parts.slots.connector_mut(id).and_then(|connector| connector.name.take())\n",
     "self.parts.slots.connector_mut(id).map_or(Some((String::new(), 0)), |connector| connector.name.take())\n"),
    ("k7", LOOP + "lookups.rs", "self.parts.threads.lookups.under_way -= 1;\n        self.start_lookups();", "self.start_lookups();"),
    ("k7", LOOP + "connect.rs", "        let deadline = self.parts.time.set_after(timeout, ",
     "        if self.parts.slots.connector_mut(id).is_some_and(|connector| connector.is_exhausted()) {\n            return Ok(id);\n"
     "        }\n        let deadline = self.parts.time.set_after(timeout, "),
    ("k7", LOOP + "lookups.rs", "Ok(addresses) if addresses.is_empty() =>", "Ok(addresses) if false && addresses.is_empty() =>"),
    ("k7", LOOP + "lookups.rs", "let found = found.unwrap_or_else(|| Err(io::Error::other(\"the resolver has panicked\")));",
     "let Some(found) = found else { return };"),
    ("n1", PATH, "if !found.file_type().is_socket() {\n        return", "if false {\n        return"),
    ("n1", PATH, "Ok(found) if self.is(&found) => fs", "Ok(_) => fs"),
    ("n1", PATH, "Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Some(found)),", "Ok(()) | Err(_) if found.number > 0 => Ok(Some(found)),"),
    ("n1", PATH, "probe.set_nonblocking(true)?;", ""),
    ("n1", PATH, "remove_stale(path, kind, || thread::sleep(MOMENT))?;\n            }", "return Err(error);\n            }"),
    ("n1", PATH, "wait_a_moment();", "let _ = wait_a_moment;"),
    ("n1", PATH, "Some(found) if stale == found => stale.unlink", "Some(found) => found.unlink"),
    ("n1", PATH, "Ok(found) if Inode::of(&self.path, &found)? == *self => fs", "Ok(found) if self.is(&found) => fs"),
    ("n1", PATH, "let claim = self.claim(now)?;", "let claim = self.claim(now).ok().flatten();"),
    ("n1", PATH, "&& is_recent(&claim, now) =>", "&& claim.exists() && now > UNIX_EPOCH =>"),
    ("n1", PATH, "let _ = fs::remove_file(claim);", "drop(claim);"),
    ("n1", PATH, "} else if let Some(_refusing) = refusing(path, kind)? {", "} else if remove_stale_socket(path)? {} else if refusing(path, kind)?.is_some() {"),
    ("n1", "src/sys/unix_listener.rs", "if let (Some(mode), Some(inode)) = (mode, &listener.inode) {",
     "SockRef::from(&listener.listener).listen(1)?;\n        if let (Some(mode), Some(inode)) = (mode, &listener.inode) {"),
    ("n1", "src/sys/unix_listener.rs", "Permissions::from_mode(mode)", "Permissions::from_mode(mode | 0o111)"),
    ("f1", "src/framing/lines.rs", "consumed < data.len() && !transport.is_reading()", "false"),
    ("f2", "src/framing/lines.rs", "if !transport.is_reading() {\n                                break;", "if false {\n"
     "                                break;"),
    ("f1", "src/framing/lines.rs", "Search::Far => memchr(b'\\n', data),", "Search::Far => memchr(b'\\r', data),"),
    ("f1", "src/framing/lines.rs", "(Scan::Line(0), LineEnding::Either) =>", "(Scan::Line(0), _) =>"),
    ("f1", "src/framing/lines.rs", "if self.handler.is_raw() { None } else", "if false { None } else"),
    ("f1", "src/framing/framed.rs", "consumed < data.len() && !transport.is_reading()", "false"),
    ("f1", "src/framing/telnet.rs", "self.clean_bytes = end - count;", "self.clean_bytes = 0 * (end - count);"),
    ("f1", "src/framing/telnet.rs", "self.clean_bytes = 1;", "self.clean_bytes = 0;"),
    ("f1", "src/framing/telnet.rs", "0 => self.begun.ends_with(b\"\\r\"),", "0 => false,"),
    ("f1", "src/framing/telnet.rs", "self.after_return = data[count - 1] == b'\\r';", "self.after_return = false;"),
    ("f1", "src/framing/delimited.rs", "let scanned = (window + 1).saturating_sub(delimiter_bytes).max(scanned);",
     "let scanned = window;"),
    ("f1", "src/framing/delimited.rs", "let scanned = (window + 1).saturating_sub(delimiter_bytes).max(scanned);",
     "let scanned = 0 * scanned;"),
    ("f1", "src/framing/lines.rs", "self.scan = Scan::Line(data.len());", "self.scan = Scan::Line(0);"),
    ("f1", "src/framing/framed.rs", "self.set_low_mark(transport, needed_bytes);", "let _ = needed_bytes;"),
    ("f1", "src/framing/framed.rs", "self.set_low_mark(transport, 0);", ""),
    ("f1", "src/framing/forward.rs", "self.$field.resume_writing(transport);", "let _ = transport;"),
    ("f1", LOOP + "receive.rs", "if is_replaced || !connection", "if !connection"),
    ("f1", LOOP + "receive.rs", "        !over_high\n", "        true\n"),
    ("f1", LOOP + "parts.rs", "pub(crate) fn pause_reading(&mut self, id: Id) {\n        self.outbox.gathered.disturb(id);",
     "pub(crate) fn pause_reading(&mut self, id: Id) {"),
    ("f1", LOOP + "parts.rs", "self.outbox.gathered.disturb(id);\n        connection.flags.set(Flag::OfferAgain, true);",
     "connection.flags.set(Flag::OfferAgain, true);"),
    ("f1", LOOP + "send.rs", "self.outbox.gathered.disturb(id);\n", ""),
    ("f1", "src/connection/gathered.rs", "&& self.bytes.len() <= UNWATCHED_BYTES", ""),
    ("f1", "src/connection/gathered.rs", "self.undisturbed.set(false);\n        self.room = room;\n    }\n\n    pub(crate) fn lower",
     "self.room = room;\n    }\n\n    pub(crate) fn lower"),
    ("f1", "src/framing/lines.rs", "if end < window {", "if true {"),
    ("f2", "src/framing/lines.rs", "transport.abort_over(Limit::LineBytes);", "let _ = transport;"),
    ("f2", "src/framing/lines.rs", "if bytes > self.line_bytes_max {", "if bytes > self.line_bytes_max + 1 {"),
    ("f2", "src/framing/lines.rs", "(bytes <= self.line_bytes_max)", "(bytes <= self.line_bytes_max + 1)"),
    ("f2", "src/framing/mod.rs", "transport.set_input_bytes_max(max);", "let _ = max;"),
    ("f2", "src/framing/lines.rs", "0 if self.handler.is_raw() => Next::Wait,",
     "count if self.handler.is_raw() => Next::Done(count.max(1)),"),
    ("f3", "src/framing/length_prefixed.rs", "if u64::from(bytes) > self.frame_bytes_max as u64 {",
     "if data.len() > 4 && u64::from(bytes) > self.frame_bytes_max as u64 {"),
    ("f3", "src/framing/netstring.rs", "if position == 0 || data[0] != b'0' =>", "=>"),
    ("f3", "src/framing/netstring.rs", "if bytes > self.frame_bytes_max as u64 {", "if false {"),
    ("f4", "src/framing/framed.rs", "self.handler.framing_error(transport, &error);\n", ""),
    ("f4", "src/framing/framed.rs", "transport.fail(error);", "transport.close();"),
    ("f4", "src/framing/telnet.rs", "if bytes > SUBNEGOTIATION_BYTES_MAX {", "if false {"),
    ("x4", LOOP + "timeouts.rs", "if handshake.is_some() {", "if false && handshake.is_some() {"),
    ("x4", LOOP + "parts.rs", "in extras.take_timers().into_iter().flatten() {", "in extras.take_timers().into_iter().skip(1).flatten() {"),
    ("x4", LOOP + "timeouts.rs", "self.tell_timed_out(id, Timeout::Handshake)", "self.tell_timed_out(id, Timeout::Total)"),
    ("x4", LOOP + "timeouts.rs", "            == Some(timer)\n", "            == Some(timer) || true\n"),
    ("x4", LOOP + "timeouts.rs", "unsent + connection.queued_bytes() == 0", "connection.queued_bytes() == 0"),
    ("x4", LOOP + "timeouts.rs", " && !connection.notes.has(Note::Answering);", ";"),
    ("x4", LOOP + "timeouts.rs", "Timeout::Idle | Timeout::Handshake if is_whole", "_ if is_whole"),
    ("x4", LOOP + "timeouts.rs", "Timeout::Idle | Timeout::Handshake if is_whole", "Timeout::Close if is_whole"),
    ("x4", "src/connection/ending.rs", "true => self.output.is_some() || !self.notes.has(Note::TimedOutInOrder)", "true => true"),
    ("x5", "src/connection/ending.rs", "self.notes.has(Note::Answering) && matches!(reason, CloseReason::Shutdown)", "false"),
    ("x5", LOOP + "send.rs", "if connection.is_cut_short() {", "if false {"),
    ("x4", "src/connection/ending.rs", " || self.bytes_sent >= MUCH_SENT_BYTES {", " {"),
    ("x4", "src/sys/options.rs", "let _ = socket.set_tcp_user_timeout(Some(timeout));", "let _ = (socket, timeout);"),
    ("x1", LOOP + "timers.rs", "connection.look_for_room();\n        self.parts.time.look_at_clock();\n        self.flush_now(id);", "let _ = connection;"),
    ("x1", LOOP + "timers.rs", "connection.look_for_input();\n            self.serve(id);\n", "let _ = connection;\n"),
    ("x1", "src/time/deadlines.rs", "timeout.as_nanos() / 4", "timeout.as_nanos()"),
    ("x1", "src/connection/writing.rs", "timeout_ns.saturating_mul(2)", "timeout_ns"),
    ("x1", "src/connection/writing.rs", "self.bytes_sent >= MUCH_SENT_BYTES && self.notes.has(Note::Coarse)", "self.notes.has(Note::Coarse)"),
    ("x1", "src/connection/writing.rs", "taken >= COARSE_STEP_BYTES || self.output.is_none()", "true"),
    ("x1", "src/connection/ending.rs", ".min(blocked_ns.saturating_add(in_all))", ".min(blocked_ns.saturating_add(in_all | u64::MAX))"),
    ("x1", "src/connection/ending.rs", "self.taken_ns()?.max(blocked_ns)", "self.taken_ns()?"),
    ("w4", LOOP + "send.rs", "Some(false) => self.keep_below_cap(None),", "Some(false) => {}"),
    ("w4", LOOP + "hoards.rs", "() if is_stuck(connection, now_ns) => Urgency::Stuck,\n", ""),
    ("w4", LOOP + "hoards.rs", "() if cost > connection.settings.limits.low() => Urgency::Long,\n        () => Urgency::Short,", "() => Urgency::Long,"),
    ("w4", LOOP + "hoards.rs", "    (urgency, Reverse(cost))\n", "    (urgency, Reverse(cost % 1))\n"),
    ("w4", LOOP + "hoards.rs", "self.send_to_stuck();\n", ""),
    ("w4", LOOP + "hoards.rs", "        connection.look_for_room();\n", ""),
    ("w4", LOOP + "hoards.rs", "            self.mark_written_to(id);", ""),
    ("w4", LOOP + "hoards.rs", "queued_bytes_max() / 8 * 7;", "queued_bytes_max();"),
    ("w4", LOOP + "hoards.rs", "if self.outbox.queued() <= goal || sends == Some(id) {", "if sends == Some(id) {"),
    ("u1", LOOP + "hoards.rs", "if self.outbox.queued() <= goal || sends == Some(id) {", "if self.outbox.queued() <= goal {"),
    ("u1", LOOP + "datagrams.rs", "self.keep_below_cap(Some(id));\n", ""),
    ("u1", LOOP + "datagrams.rs", "self.outbox.count(datagram.queued_cost(), 0);\n        datagram.drop_queued();", "datagram.drop_queued();"),
    ("k2", LOOP + "connect.rs", "timeout.unwrap_or(self.parts.connect_timeout)", "timeout.unwrap_or(Duration::from_secs(30))"),
    ("a3", LOOP + "accept.rs", "accepts_per_turn_max.max(1)", "accepts_per_turn_max"),
    ("r5", "src/limits.rs", "self.read_bytes_per_turn_max.max(1)", "self.read_bytes_per_turn_max"),
    ("u1", "src/limits.rs", "self.datagrams_per_turn_max.max(1)", "self.datagrams_per_turn_max"),
    ("k2", "src/limits.rs", "            idle_timeout: None,\n", ""),
    ("k2", "src/limits.rs", "            handshake_timeout: None,\n", ""),
    ("k2", "src/limits.rs", "            total_timeout: None,\n", ""),
    ("k2", "src/limits.rs", "            read_rate: None,\n", ""),
    ("c7", LOOP + "receive.rs", "[Timeout::Idle, Timeout::Handshake, Timeout::Total]", "[Timeout::Idle, Timeout::Total]"),
    ("c7", LOOP + "receive.rs", "self.set_protocol(id, protocol);\n        self.drop_read_rate(id);", "self.set_protocol(id, protocol);"),
    ("c7", LOOP + "receive.rs", "        }\n        self.start_read_rate(id);", "            self.start_read_rate(id);\n        }"),
    ("c7", "src/connection/ending.rs", "if self.set_paused(false) {", "if false {"),
    ("c7", "src/connection/ending.rs", "            self.settings = initial;", "            drop(initial);"),
    ("c7", "src/connection/ending.rs", "self.notes.set(Note::Answering, false);", ""),
    ("k2", LOOP + "connect.rs", "self.look_at_attempt(id, slot);\n        }\n        let Some(connector)", "let _ = slot;\n        }\n        let Some(connector)"),
    ("t5", LOOP + "timeouts.rs", "connection.look_for_input();\n            self.serve(id);\n        }\n    }", "}\n    }"),
    ("t5", LOOP + "timeouts.rs", "connection.look_for_room();\n            self.flush_now(id);", "let _ = connection;"),
    ("t5", LOOP + "timeouts.rs", "if !has_waited {", "if false && !has_waited {"),
    ("t5", LOOP + "timeouts.rs", "if deadline.is_some_and(|deadline| deadline > self.parts.time.turn_began()) {", "if false && deadline.is_some() {"),
    ("t5", LOOP + "turn.rs", "if now_ns - before_ns < STAMP_ERROR_NS_MAX {", "if now_ns - before_ns < u64::MAX {"),
    ("t5", LOOP + "turn.rs", "            self.parts.time.look_at_clock();\n            match self", "            match self"),
    ("t5", LOOP + "send.rs", "        self.parts.time.look_at_clock();\n        let mut written_to", "        let mut written_to"),
    ("t5", LOOP + "send.rs", "        self.time.look_at_clock();\n        self.send_what", "        self.send_what"),
    ("t5", "src/connection/reading.rs", "        self.flags.set(Flag::Hinted, true);\n    }\n\n    pub(crate) fn set_input",
     "        self.flags.set(Flag::Hinted, true);\n        self.flags.set(Flag::OfferAgain, true);\n    }\n\n    pub(crate) fn set_input"),
    ("t5", "src/connection/writing.rs", "if has_output { self.patience_ns(idle.after()) } else { idle.after_ns() }", "idle.after_ns()"),
    ("t5", LOOP + "quick.rs", "            if let Some(idle) = &mut connection.idle {\n                idle.touch(self.parts.time.now_ns());\n            }\n", ""),
    ("t5", "src/connection/writing.rs", "            if let Some(idle) = &mut self.idle {\n                idle.touch(now_ns);\n            }\n            if let", "            if let"),
    ("t5", "src/time/idle.rs", "self.active_ns += now_ns.saturating_sub(self.paused_ns.max(self.active_ns));", "let _ = now_ns;"),
    ("t5", "src/connection/reading.rs", "if let (Some(idle), None) = (&mut self.idle, &self.output) {",
     "if let Some(idle) = &mut self.idle {"),
    ("t5", LOOP + "parts.rs", "if let Some(timer) = connection.idle.take().and_then(|idle| idle.timer) {",
     "if let Some(timer) = connection.idle.take().and_then(|idle| idle.timer).filter(|_| false) {"),
    ("t1", "src/time/heap.rs", "u128::from(ns as u64 ^ 1 << 63) << 64 | u128::from(sequence)",
     "u128::from(ns as u64 ^ 1 << 63) << 64 | u128::from(sequence / 8 * 8)"),
    ("t2", "src/time/heap.rs", "Some(self.take(self.place(key)?))", "self.place(key).map(|place| self.take(place)).and(None)"),
    ("t2", "src/time/heap.rs", "(live + live / 4).max(KEPT)", "usize::MAX"),
    ("t2", "src/time/heap.rs", "(self.heap.get(place)?.created == key.created).then_some(place)",
     "(place < self.heap.len()).then_some(place)"),
    ("t2", LOOP + "work.rs", "emptied.shrink_to(KEPT_DISCARDED);", ""),
    ("t3", "src/time/heap.rs", "&& order.sequence() <= mark)", "&& order.sequence() <= mark + 1)"),
    ("t3", "src/time/heap.rs", "self.heap[place].order = self.take_order(deadline);",
     "self.heap[place].order = Order::new(self.ns(deadline), self.heap[place].order.sequence());"),
    ("t4", LOOP + "timers.rs", "next_tick(now.saturating_duration_since(scheduled), every.period)",
     "next_tick(0 * now.saturating_duration_since(scheduled), every.period)"),
    ("t4", LOOP + "timers.rs", "let ns = period.as_nanos() - late.as_nanos() % period.as_nanos();",
     "let ns = period.as_nanos().saturating_sub(late.as_nanos());"),
    ("t4", LOOP + "timers.rs", "return (0, Duration::ZERO);", "return (0, Duration::from_nanos(1));"),
    ("t4", LOOP + "timers.rs", "self.parts.cancel(TimerId(key));", ""),
    ("t4", LOOP + "timers.rs", "Due::Every(every) => every.background = true,", "Due::Every(_) => return false,"),
    ("t4", LOOP + "timers.rs", "Due::Every(every) => !every.background,", "Due::Every(_) => true,"),
    ("g2", "src/signals/wanted.rs", "wants.acts_by_default.store(wants.count == 0, Ordering::SeqCst);", ""),
    ("g2", "src/signals/wanted.rs", "wants.acts_by_default.store(false, Ordering::SeqCst);", ""),
    ("g2", "src/signals/wanted.rs", "wants.count += 1;", ""),
    ("g2", "src/signals/mod.rs",
     """            wanted::act_by_default_unless_wanted(*signal)?;
            signals.add_signal(signal.as_raw())?;
""",
     """            signals.add_signal(signal.as_raw())?;
            wanted::act_by_default_unless_wanted(*signal)?;
"""),
    ("g2", "src/signals/mod.rs", "SourceAction::Again", "SourceAction::Wait"),
    ("g2", "src/signals/mod.rs", "        Some(signal) => {\n            handler(context, signal);",
     "        Some(mut signal) => loop {\n            handler(context, signal);\n            "
     "let Some(next) = source.take() else { break SourceAction::Again };\n            signal = next;\n        },\n"
     "        #[allow(unreachable_patterns)]\n        Some(_) => {"),
    ("g2", "src/signals/mod.rs", "    context.unref(id);\n", ""),
    ("g2", "src/signals/mod.rs", "    context.keep_after_panic(id);\n", ""),
    ("g2", LOOP + "guard.rs", "slot.after_panic = SourceAction::Again;", "slot.after_panic = SourceAction::Wait;"),
    ("g2", "src/signals/mod.rs", "context.shutdown(Duration::ZERO);", "begin(context);"),
    ("g2", "src/signals/mod.rs", "move |context| context.drain(grace)", "move |context| context.shutdown(grace)"),
    ("a6", LOOP + "listen.rs", "socket.deregister(&self.poller)", "std::io::Result::Ok(drop(&mut socket))"),
    ("n1", "src/sys/unix_listener.rs", "(Some(_), _) if !unlinks => self.inode = None,", ""),
    ("n1", "src/sys/unix_listener.rs", "mio::net::UnixListener::from_std(listener), inode: None })",
     "mio::net::UnixListener::from_std(listener), inode: None }).and_then(|mut l| l.set_unlinks(true).map(|()| l))"),
    ("service", "src/service/restart.rs", "listening.set_unlinks(false)", "listening.set_unlinks(true)"),
    ("service", "src/service/restart.rs", "NotifyState::MainPid(process), NotifyState::Ready]);\n        context.drain(self.grace);",
     "NotifyState::MainPid(process), NotifyState::Ready]);\n        let _ = (context, self.grace);"),
    ("service", "src/service/restart.rs", "context.drain(self.grace);", "context.shutdown(self.grace);"),
    ("service", "src/service/restart.rs", "                    successor.end(context, stays);", "                    handover.hand_over(context, 1);"),
    ("service", "src/service/handed_over.rs", "std::iter::from_fn(|| self.take_first(name)).fold(first, Listen::and)", "first"),
    ("service", "src/service/restart.rs", "for socket in listener.sockets() {", "for socket in listener.sockets().take(1) {"),
    ("a3", "src/listener/sockets.rs", "accepted => return accepted,", "accepted => {\n                    self.next = 0;\n                    return accepted;\n                }"),
    ("a3", "src/listener/sockets.rs", "Err(error) if AcceptError::of(&error) == AcceptError::Drained => one.readable = false,", ""),
    ("a3", LOOP + "turn.rs", "listener.note_readable(id);\n                        if", "if"),
    ("c3", LOOP + "work.rs", "Reverse((id.generation, id.slot));", "Reverse((NonZeroU64::new(u64::from(id.slot) + 1).unwrap(), id.slot));"),
    ("c3", LOOP + "mod.rs", "if untold_of_drain > 0 {\n            self.core.tell_of_drain(untold_of_drain);", "{\n            self.core.tell_of_drain(99);"),
    ("c3", LOOP + "work.rs", " && self.untold_of_drain.is_empty()", ""),
    ("l2", LOOP + "shutdown.rs", "for _ in 0..count.min(TOLD_PER_TURN) {", "for _ in 0..count {"),
    ("c7", LOOP + "shutdown.rs", "of.flags.has(Flag::Made) && of.state().is_timed()", "of.flags.has(Flag::Made)"),
    ("c7", LOOP + "shutdown.rs", "of.flags.has(Flag::Made) && of.state().is_timed()", "of.state().is_timed()"),
    ("f1", "src/framing/forward.rs", "self.$field.draining(transport);", "let _ = transport;"),
    ("l5", LOOP + "slots.rs", "        self.unref(id);\n        Ok(id)", "        Ok(id)"),
    ("x5", LOOP + "listen.rs", "                self.slots.remove(slot);", "                let _ = slot;"),
    ("x5", LOOP + "listen.rs", "slot.into_iter().for_each(|slot| drop(slots.remove(slot)));", "let _ = slot;"),
    ("n1", "src/listener/listen.rs", "                of_path.get_or_insert(mode);", "                *of_path = Some(mode);"),
    ("service", "src/service/restart.rs", "        self.manager.notify(&[NotifyState::Ready, NotifyState::Status(why)]);", ""),
    ("service", "src/service/mod.rs", "Some(predecessor) => restart::say_ready(&predecessor),", "Some(_) => {}"),
    ("service", "src/service/mod.rs", "let is_taken_over = taken.is_some() && ", "let is_taken_over = taken.is_none() && "),
    ("service", "src/service/mod.rs", ".replace(':', \"%3A\")", ".replace(':', \"%3A\") + &std::process::id().to_string()"),
    ("service", "src/service/handed_over.rs", "if !listens(&listener)? {\n                return wrong(\"is a TCP",
     "if false {\n                return wrong(\"is a TCP"),
    ("service", "src/service/handed_over.rs", "if names.len() != descriptors.len() {", "if false {"),
    ("service", "src/service/handed_over.rs", "let index = self.listeners.iter().position(|(of, _)| of == name)?;",
     "let index = self.listeners.len().checked_sub(usize::from(!name.is_empty()))?;"),
    ("service", "src/service/notify.rs", "seconds.into() * 1_000_000",
     "i128::from((seconds.into() as i32).wrapping_mul(1_000_000))"),
    ("service", "src/service/notify.rs", "        let Ok(address) = address else { return Manager(None) };\n        match open() {",
     "        let Ok(address) = address.or_else(|_| SocketAddr::from_pathname(\"/nowhere\")) else { return Manager(None) };\n        match open() {"),
    ("service", "src/service/notify.rs", "let timer = context.call_every(period, move |_, _| manager.notify(&[NotifyState::Watchdog]));",
     "drop(manager);\n        std::thread::spawn(move || {\n            let manager = Manager::from_env();\n            loop {\n"
     "                std::thread::sleep(period);\n                manager.notify(&[NotifyState::Watchdog]);\n            }\n        });\n"
     "        let timer = context.call_later(Duration::MAX, |_| {});"),
    ("service", "src/service/notify.rs", "        let Some(Line { address, sender }) = &self.0 else { return };",
     "        let Some(Line { address, .. }) = &self.0 else { return };\n        let Ok(sender) = &open() else { return };"),
    ("service", "src/service/restart.rs", "        self.reserve.release();\n", ""),
    ("service", "src/service/restart.rs", "        let _ = self.reserve.fill();\n", ""),
    ("service", "src/service/successor.rs", "        let _ = self.0.fill();\n", "        let _ = &self.0;\n"),
    ("u1", "src/datagram/mod.rs", "truncated: count > most };", "truncated: false };"),
    ("u1", "src/datagram/mod.rs", "let most = self.socket.as_ref().map_or(0, sys::Datagram::datagram_bytes_max);", "let most = 65_535;"),
    ("u1", LOOP + "datagrams.rs", "if datagram.buffer_bytes() > buffer.len() {", "if false {"),
    ("w3", "src/connection/read_buffer.rs", "self.large.decay();\n", ""),
    ("w3", LOOP + "datagrams.rs", "if needed <= buffer.len() {", "if false {"),
    ("w3", LOOP + "datagrams.rs", "self.parts.start_decay_of_large_buffer();", ""),
    ("w3", "src/connection/read_buffer.rs", "if !std::mem::take(&mut self.used) {", "if false {"),
    ("u1", LOOP + "datagrams.rs", "datagram.try_again();\n        }\n    }\n\n    pub(super) fn send_datagrams_again",
     "}\n    }\n\n    pub(super) fn send_datagrams_again"),
    ("u1", "src/datagram/mod.rs", "match socket.recv_from(buffer) {", "match socket.recv_from(&mut buffer[..=most]) {"),
    ("u1", "src/datagram/mod.rs", "truncated: count > most }", "truncated: count >= most }"),
    ("u1", "src/datagram/mod.rs", "self.readable |= readiness.is_readable() || readiness.is_error()", "self.readable |= readiness.is_readable()"),
    ("u1", "src/datagram/mod.rs", "Err(error) => return self.has_failed(error),", "Err(error) => return Receive::Invalid(error),"),
    ("u1", "src/datagram/mod.rs", "Err(error) if earlier.is_none() && sys::", "Err(error) if false && earlier.is_none() && sys::"),
    ("u1", "src/datagram/mod.rs", "if !room || self.queued_cost() >", "if self.queued_cost() >"),
    ("u1", "src/datagram/mod.rs", "self.queued_cost() > self.limits.queue_bytes_max {", "false {"),
    ("u1", "src/datagram/mod.rs", "self.dropped += 1;\n            return;", "return;"),
    ("u1", "src/datagram/mod.rs", "+ OVERHEAD_BYTES * self.queue.len()", ""),
    ("u1", "src/datagram/mod.rs", "true if cost <= self.limits.low()", "true if cost < self.limits.low()"),
    ("u1", "src/datagram/mod.rs", "&& !self.reading_paused && self.is_open()", "&& !self.reading_paused"),
    ("u1", "src/datagram/mod.rs", "if self.queue.is_empty() && self.sending", "if self.sending"),
    ("u1", LOOP + "datagrams.rs", "if self.parts.slots.datagram(id).is_some_and(DatagramSocket::wants_input) {", "if false {"),
    ("u1", LOOP + "datagrams.rs", "for _ in 0..datagram.limits.datagrams_per_turn_max {", "loop {"),
    ("u1", LOOP + "datagrams.rs", "if bytes_left == 0 {", "if false {"),
    ("u1", LOOP + "datagrams.rs", "datagram.sending() == Sending::Blocked || datagram.needs_no_event()", "datagram.sending() == Sending::Blocked"),
    ("u1", LOOP + "datagrams.rs", "self.time.set_after(SEND_RETRY, Due::of(Purpose::Send, id));", ""),
    ("u1", LOOP + "datagrams.rs", "datagram.set_deadline(self.time.set(deadline, Due::of(Purpose::Close, id)));", "let _ = deadline;"),
    ("u1", LOOP + "datagrams.rs", "self.parts.finish_datagram(id, Some(CloseReason::Panic(message)));", "drop(message);"),
    ("u1", LOOP + "shutdown.rs", "&& self.slots.datagrams() == 0", ""),
    ("u1", "src/sys/datagram.rs", "socket.set_only_v6(true)?;", ""),
    ("u1", "src/sys/datagram.rs", "registry()?.register(socket, Token(token), Interest::READABLE)",
     "registry()?.register(socket, Token(token), Interest::READABLE | Interest::WRITABLE)"),
    ("u1", "src/sys/unix_datagram.rs", "self.inode.as_ref().map(Inode::unlink)", "None::<io::Result<()>>"),
    ("a4", LOOP + "accept.rs", "is_refused = is_refused || self.parts.peer_is_at_cap(id, &peer);", ""),
    ("a4", LOOP + "accept.rs", "self.count_peer(id, connection, Peers::remove);", "let _ = connection;"),
    ("a4", LOOP + "accept.rs", "let peers = self.count_peers(id);", "let peers = Peers::default();"),
    ("a4", LOOP + "accept.rs", "if self.admission.one_less() {", "if self.admission.one_less() && false {"),
    ("a4", LOOP + "accept.rs", "listener.is_full() || is_loop_full;", "listener.is_full();"),
    ("a4", LOOP + "accept.rs", "listener.into_iter().for_each(|id| self.look_again(id));\n        self.loop_has_room();",
     "listener.into_iter().for_each(|id| self.look_again(id));"),
    ("a4", "src/listener/admission.rs", "(false, true) => self.find_lingering(is_its_own),", "(false, true) => self.lingering.iter().next(),"),
    ("a4", LOOP + "accept.rs", "if let Some(lingering) = self.lingering_in_the_way(id) {",
     "if let Some(lingering) = self.lingering_in_the_way(id).filter(|_| self.slots.listener(id).is_some_and(|of| of.settings.limits.when_full == WhenFull::Wait)) {"),
    ("r5", LOOP + "receive.rs", "self.parts.rate_groups.charge(rate, count);", ""),
    ("r5", "src/rate/mod.rs", "group.bucket.take(count);", ""),
    ("r5", LOOP + "rates.rs", "self.end_waiting(id);\n            }\n        }\n        true", "let _ = id;\n            }\n        }\n        true"),
    ("r5", LOOP + "parts.rs", "if let Some(timer) = extras.rate.take().and_then(|rate| rate.timer()) {", "if let (true, Some(timer)) = (false, extras.rate.take().and_then(|rate| rate.timer())) {"),
    ("r5", LOOP + "receive.rs", "if more {\n                    self.parts.carry_over(id);", "if false && more {\n                    self.parts.carry_over(id);"),
    ("r5", "src/rate/bucket.rs", "(self.bytes_per_second * NANO / WAITS_PER_SECOND).max(NANO).min(self.brim)", "NANO.min(self.brim)"),
    ("t5", LOOP + "rates.rs", "idle.pause(now_ns);", "let _ = (idle, now_ns);"),
    ("o1", "src/escape.rs", "_ if is_deceptive(character) =>", "_ if false && is_deceptive(character) =>"),
    ("a4", BACKLOG, "if state.waiting.len() >= self.waiting_max {", "if false {"),
    ("a4", BACKLOG, "waiting_max: waiting_max.max(1)", "waiting_max"),
    ("a4", BACKLOG, "if coming < with_lingering => 1,", "if false && coming < with_lingering => 1,"),
    ("a4", BACKLOG, "Room { free, .. } if coming < free => 0,", ""),
    ("a4", BACKLOG, "state.set_room(taker, Room::default());", ""),
    ("a4", BACKLOG, "if !room.refuses && taker.promised > room.with_lingering {", "if false {"),
    ("a4", BACKLOG, "self.next_taker().is_some() || !self.has_takers()) {", "!self.has_takers()) {"),
    ("a4", BACKLOG, "if mem::replace(&mut state.takers[taker].is_taking, false) {", "if false {"),
    ("a4", BACKLOG, "let coming = self.promised + usize::from(self.is_taking);", "let coming = self.promised;"),
    ("a4", LOOP + "accept.rs", "self.tell_room(id);\n        let Some(listener) = self.slots.listener_mut(id) else { return };\n        let (counts_peers, was_full)",
     "let Some(listener) = self.slots.listener_mut(id) else { return };\n        let (counts_peers, was_full)"),
    ("a4", LOOP + "accept.rs", "self.carry_over(id);\n        self.tell_room(id);", "self.carry_over(id);"),
    ("a4", "src/listener/admission.rs", "if listener.paused {\n            return Room", "if false {\n            return Room"),
    ("a4", LOOP + "accept.rs", "// Only what ends in the loop brings it back.\n        self.admission.wait_if_full(id);", ""),
    ("a4", "src/listener/feeder.rs", "context.core.parts.stop_unless_room(id, &backlog, &wake);", "let _ = (&backlog, &wake);"),
    ("a4", LOOP + "accept.rs", "if backlog.has_room_or_wakes(wake) {", "if true || backlog.has_room_or_wakes(wake) {"),
    ("a4", LOOP + "accept.rs", "error.into_inner().abort();\n            return self.close_listener(id);", "return error.into_inner().abort();"),
    ("a4", LOOP + "accept.rs", "listener.paused = true;\n            self.tell_room(id);", "listener.paused = true;"),
    ("a4", "src/sys/fed.rs", "stream.reset();", "drop(stream);"),
    ("x5", LOOP + "accept.rs", "Some((_, unsent)) if !unsent.is_empty() => socket.reset(),", ""),
    ("a5", LOOP + "accept.rs", "(listener.is_full() || is_loop_full) && !listener.gives_away();",
     "listener.is_full() || is_loop_full;"),
    ("r6", LOOP + "confirm.rs", "PutOff::Waits {\n                self.carry_over(id);\n", "PutOff::Waits {\n"),
    ("r6", LOOP + "confirm.rs", "before == PutOff::Renewed\n        });", "false\n        });"),
    ("r6", "src/sys/put_off.rs", "{ PutOff::Waits } else { PutOff::Renewed }", "{ PutOff::Waits } else { PutOff::Waits }"),
    ("r6", LOOP + "quick.rs", "if self.parts.confirms_later(id) {\n            return self.flush(id);\n        }", ""),
    ("n1", LOOP + "confirm.rs", "PutOff::Waits {\n                self.carry_over(id);\n", "PutOff::Waits {\n"),
    ("r6", "src/sys/unix_stream.rs", "super::options::if_supported(socket.set_out_of_band_inline(true))?;", ""),
    ("r6", "src/sys/unix_stream.rs", "return Interest::READABLE | Interest::PRIORITY;", "return Interest::READABLE;"),
    ("r6", "src/sys/stream.rs", "Stream::NotTcp(_) => false,", "Stream::NotTcp(_) => SHORT_READ_EMPTIES_TCP,"),
    ("r6", "src/sys/stream.rs", "if !is_tcp(&SockRef::from(&stream)) =>", "if false =>"),
    ("r6", "src/sys/options.rs", "Err(error) if is_unsupported(&error) => Ok(()),", ""),
    ("r6", "src/sys/fed.rs", "Ok(Fed { stream: Held::new(stream,",
     "let stream = if let Stream::NotTcp(odd) = stream { Stream::Tcp(odd) } else { stream };\n        Ok(Fed { stream: Held::new(stream,"),
    ("r6", "src/sys/listener.rs", "Gives::OldOnesFirst | Gives::Unknown => Ok((Stream::from_unknown(stream)", "Gives::OldOnesFirst | Gives::Unknown => Ok((Stream::from_accepted(stream)"),
    ("x1", "src/sys/listener.rs", "if_supported(socket.set_linger(None))?;", ""),
    ("x1", "src/sys/stream.rs", "if_supported(socket.set_linger(None))?;", ""),
    ("x1", "src/sys/stream.rs", "let _ = socket.set_linger(None);", ""),
    ("h1", LOOP + "quick.rs", "if result.is_ok() && self.parts.outbox.gathered.bytes.is_empty() && connection", "if self.parts.outbox.gathered.bytes.is_empty() && connection"),
    ("h1", LOOP + "quick.rs", "if result.is_ok() && self.parts.outbox.gathered.bytes.is_empty() && connection", "if result.is_ok() && connection"),
    ("h1", LOOP + "quick.rs", "connection.flags.set(Flag::Hinted, true);\n", ""),
    ("h1", "src/connection/ending.rs", "is_over && self.protocol.is_none()", "is_over"),
    ("h1", "src/connection/ending.rs", "self.output.is_none() && self.extras.is_none();", "self.output.is_none();"),
    ("h1", "src/connection/ending.rs", "self.state() == State::FlushingAfterEnd && self.output.is_none() && self.extras",
     "self.state() == State::FlushingAfterEnd && self.extras"),
    ("h1", "src/connection/flags.rs", "const ANY: u16 = Flag::WrittenTo as u16 | Flag::SendsLater as u16;",
     "const ANY: u16 = Flag::WrittenTo as u16 | Flag::SendsLater as u16 | Flag::Errored as u16;"),
    ("w1", LOOP + "receive.rs", "if result.is_ok() && self.parts.outbox.gathered.bytes.is_empty() && connection.is_out_and_idle() {",
     "if result.is_ok() && connection.is_out_and_idle() {"),
    ("e1", LOOP + "receive.rs", "if result.is_ok() && self.parts.outbox.gathered.bytes.is_empty() && connection.is_out_and_idle() {",
     "if self.parts.outbox.gathered.bytes.is_empty() && connection.is_out_and_idle() {"),
    ("c3", LOOP + "parts.rs", "let Some(connection) = self.slots.connection_mut(id).filter(takes_one) else {",
     "let Some(connection) = self.slots.connection_mut(id).filter(|of| takes_one(of) || true) else {"),
    ("a3", LOOP + "accept.rs", "            Some(listener) => listener.factory = Some(factory),\n", "            Some(_) => self.drop_guarded(factory),\n"),
    ("a5", LOOP + "accept.rs", "Some(listener) if listener.receiver.is_none() => listener.receiver = Some(receiver),\n", ""),
    ("c7", LOOP + "accept.rs", "self.restore(id, &unread, unsent);", "drop((unread, unsent));"),
    ("g1", BACKLOG, "self.lock().takers[taker].is_woken = false;", "let _ = taker;"),
    ("a4", BACKLOG, "taker.promised > 0 && !taker.is_woken)?;", "taker.promised > 1 && !taker.is_woken)?;"),
    ("model", BACKLOG, "self.lock().takers[taker].is_woken = false;", "let _ = taker;"),
    ("model", BACKLOG, "state.acceptor = Some(wake.clone());", "drop(state);\n        self.lock().acceptor = Some(wake.clone());"),
    ("model", BACKLOG, "state.set_room(taker, Room::default());", ""),
    ("group", "src/workers/member.rs", "(End::ShutDown, _) | (End::Failed, WhenLoopFails::GoOn) => {}\n            (End::Stopped, _)",
     "(End::Failed, WhenLoopFails::GoOn) => {}\n            (End::ShutDown | End::Stopped, _)"),
    ("group", "src/workers/member.rs", "(End::Stopped, _) | (End::Failed, WhenLoopFails::StopAll) => self.shared.stop(),",
     "(End::Stopped, _) | (End::Failed, WhenLoopFails::StopAll) => {}"),
    ("group", "src/workers/member.rs", "(End::ShutDown, _) | (End::Failed, WhenLoopFails::GoOn) => {}",
     "(End::ShutDown, _) => {}\n            (End::Failed, WhenLoopFails::GoOn) => self.shared.stop(),"),
    ("group", "src/workers/member.rs", "if self.shared.shut_down_by_ns() < shut_down_by_ns {",
     "if self.shared.shut_down_by_ns() < shut_down_by_ns && shut_down_by_ns == NEVER {"),
    ("group", "src/workers/member.rs", "if self.shared.drain_by_ns() < drain_by_ns {",
     "if self.shared.drain_by_ns() < drain_by_ns && drain_by_ns == NEVER {"),
    ("group", "src/workers/member.rs", "self.event_loop.context().drain(grace);", "self.event_loop.context().shutdown(grace);"),
    ("group", "src/workers/member.rs", "self.event_loop.set_panic_policy(PanicPolicy::Isolate);\n", ""),
    ("group", "src/workers/member.rs", "self.shared.ended(self.index, counters);", "let _ = counters;"),
    ("group", "src/workers/group_handle.rs", "self.shared.handles().iter().for_each(Handle::wake);", ""),
    ("group", "src/workers/group_handle.rs", "answer.or_else(|| of_ended(index))", "answer.or_else(|| of_ended(index).filter(|_| false))"),
    ("group", "src/workers/group_handle.rs", "answers.all_ended.recv_timeout(timeout)", "answers.all_ended.recv_timeout(timeout * 10_000)"),
    ("group", "src/workers/group.rs", "drop(begin);\n", "std::mem::forget(begin);\n"),
    ("group", "src/workers/group.rs", "self.stop();\n            if let Err(error) = self.join_all() {",
     "self.stop();\n            self.threads.clear();\n            if let Err(error) = self.join_all() {"),
    ("group", "src/listener/listen.rs", "*address = socket.local_addr()?;\n", ""),
    ("group", "src/workers/listen.rs", "close(group, index, listener(&made));", "let _ = (index, listener(&made));"),
    ("group", "src/workers/listen.rs", "if result.is_err() {\n        close(group, index, acceptor);\n    }\n", ""),
    ("group", BACKLOG, "ranked.min_by_key(|(rank, _)| *rank)", "{ let mut ranked = ranked; ranked.next() }"),
    ("c1", LOOP + "receive.rs", "self.begin_anew(id);\n        } else {", "self.begin_anew(id);\n        }\n        {"),
    ("c1", LOOP + "turn.rs", "connection.flags.has(Flag::Anew)) {", "connection.flags.has(Flag::Rated)) {"),
    ("c1", "src/connection/ending.rs", "if self.is_closing() {\n            return false;", "if false {\n            return false;"),
    ("c1", LOOP + "receive.rs", "[Timeout::Idle, Timeout::Handshake, Timeout::Total]", "[Timeout::Handshake, Timeout::Total]"),
    ("c2", LOOP + "receive.rs", "connection.flags.set(Flag::Anew, false);\n        connection.flags.set(Flag::OfferAgain, true);",
     "connection.flags.set(Flag::Anew, false);"),
    ("r4", "src/connection/ending.rs", "self.flags.has(Flag::Made) || self.flags.has(Flag::Anew)", "self.flags.has(Flag::Made)"),
    ("x2", "src/connection/ending.rs", " || self.is_aborted_by(reason)", ""),
    ("c8", "src/connection/mod.rs", "Peer::Proxied(proxied) => Some(&proxied.peer),", "Peer::Proxied(proxied) => Some(&proxied.proxy),"),
    ("a4", "src/connection/mod.rs", "Peer::Proxied(proxied) => Some(&proxied.proxy),", "Peer::Proxied(proxied) => Some(&proxied.peer),"),
    ("resp", RESP + "request.rs", "if data.len() < end + 2 {", "if data.len() < end {"),
    ("resp", RESP + "request.rs", "Some(end) if end + 2 <= data.len() => {", "Some(end) if end + 1 <= data.len() => {"),
    ("resp", RESP + "request.rs", "self.spans = begun.spans;\n                begun.place", "drop(begun);\n                Place::default()"),
    ("resp", RESP + "request.rs", "length.filter(|length| *length <= BULK_BYTES_MAX).ok_or", "length.ok_or"),
    ("resp", RESP + "request.rs", ".filter(|count| *count <= ARGUMENTS_MAX as i64)", ""),
    ("resp", RESP + "request.rs", "_ if data.len() - self.at > LINE_BYTES_MAX => Err(too_long),", ""),
    ("resp", RESP + "request.rs", "|| byte == b'\\x0b'", ""),
    ("resp", RESP + "request.rs", " + self.spans.capacity() * size_of::<Span>()", ""),
    ("resp", RESP + "request.rs", "self.spans.capacity() * size_of", "self.spans.len() / 2 * size_of"),
    ("resp", "examples/resp_server.rs", "+ unconsumed_bytes.min(DOUBLED_BYTES_MAX)", ""),
    ("resp", "examples/resp_server.rs", " + self.session.held_bytes();", ";"),
    ("resp", "examples/resp_server.rs", "self.server.borrow_mut().held_bytes -= self.held_bytes;", ""),
    ("resp", "examples/resp_server.rs", ".with_handshake_timeout(Some(REQUEST_TIMEOUT))", ""),
    ("resp", "examples/support/bounds.rs", "with_idle_timeout(Some(self.timeout))", "with_idle_timeout(None)"),
    ("resp", "examples/resp_server.rs", "if is_partial != self.is_timed {", "if true {"),
    ("resp", "examples/resp_server.rs", "if consumed > 0 {\n            self.time(", "if false {\n            self.time("),
    ("resp", "examples/resp_server.rs", "consumed < data.len() && transport.is_reading()", "consumed < data.len()"),
    ("resp", "examples/support/bounds.rs", ".filter(|number| *number != N::default())", ""),
    ("resp", "examples/support/bounds.rs", ".with_connections_per_peer_max(self.per_peer_max)", ""),
    ("resp", RESP + "number.rs", "if is_negative { number.checked_sub(digit) } else { number.checked_add(digit) }",
     "number.checked_add(digit)"),
    ("resp", RESP + "commands.rs", "command.flags.contains(&\"denyoom\") && call.store.is_full()", "call.store.is_full()"),
    ("resp", RESP + "about.rs", "None => call.answers.null(),", "None => call.answers.array(0),"),
    ("resp", RESP + "table.rs", "Some(bar) => find(&name[..bar])?.subcommand(&name[bar + 1..]),", "Some(bar) => find(&name[..bar]),"),
    ("resp", RESP + "answers.rs", "self.bytes.len() + length + AROUND_BYTES_MAX > ", "length + AROUND_BYTES_MAX > "),
    ("resp", RESP + "answers.rs", "if self.has_room(0) {", "if true {"),
    ("resp", RESP + "answers.rs", "let length = head.len() + value.len();", "let length = value.len();"),
    ("resp", RESP + "answers.rs", "Version::Resp3 => b\"_\\r\\n\",", "Version::Resp3 => b\"$-1\\r\\n\","),
    ("resp", RESP + "answers.rs", "Version::Resp3 => self.number(b'%', count as i64),", "Version::Resp3 => self.array(2 * count),"),
    ("resp", RESP + "answers.rs", "Version::Resp3 => self.number(b'~', count as i64),", "Version::Resp3 => self.array(count),"),
    ("resp", RESP + "session.rs", "None => call.session.version,", "None => Version::Resp2,"),
    ("resp", RESP + "session.rs", "call.session.version = version;", ""),
    ("resp", RESP + "session.rs", "Some(Some(_)) => return Err(b\"NOPROTO", "Some(Some(_)) => return Err(b\"ERR"),
    ("resp", RESP + "session.rs", "if user == USER { Ok(()) }", "if true { Ok(()) }"),
    ("resp", RESP + "session.rs", "if !name.iter().all(u8::is_ascii_graphic) {", "if name.contains(&b'\\n') {"),
    ("resp", RESP + "commands.rs", "match number::parse(call.arguments.get(2)).map(i64::checked_neg) {",
     "match number::parse(call.arguments.get(2)).map(|number| Some(number.saturating_neg())) {"),
    ("resp", RESP + "store.rs", "number.checked_add(addend).ok_or(NotAdded::Overflow)?", "number.saturating_add(addend)"),
    ("resp", RESP + "store.rs", "Expiry::Keep if entry.is_over(now) => None,", ""),
    ("resp", RESP + "store.rs", "self.bytes = self.bytes - entry.value.len() + value.len();", ""),
    ("resp", RESP + "store.rs", "self.deadlines.remove(&(before, key.into()));", ""),
    ("http", HTTP, "if *searched > 0 && !ends(data, searched) {", "if false && !ends(data, searched) {"),
    ("http", HTTP, " && read.host.replace(field.value).is_some()", " && read.host.replace(field.value).is_none_or(|_| false)"),
    ("http", HTTP, "None => minor == 0,", "None => true,"),
    ("http", HTTP, "Some(host) => host.is_empty() || is_authority(host),", "Some(_) => true,"),
    ("http", HTTP, "if !is_authority(&rest.as_bytes()[..end]) {", "if end == 0 {"),
    ("http", "examples/http/authority.rs", "(is_literal(&inside[..end]), &inside[end + 1..])", "(true, &inside[end + 1..])"),
    ("http", "examples/http/authority.rs", "[] => return !text.is_empty(),", "[] => return true,"),
    ("http", HTTP, " && read.length.replace(field.value).is_some()", " && read.length.replace(field.value).is_none_or(|_| false)"),
    ("http", HTTP, "(Some(_), Some(_)) => Err(Status::BadRequest),", "(Some(_), Some(_)) => Ok(Body::strictly_chunked()),"),
    ("http", HTTP, "(Some(_), None) if minor == 0 => Err(Status::BadRequest),", ""),
    ("http", HTTP, "Ok(left) if left <= BODY_BYTES_MAX =>", "Ok(left) =>"),
    ("http", HTTP, "let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);", "let is_number = true;"),
    ("http", "examples/http/skipped.rs", "self.bytes += count as u64;", ""),
    ("http", HTTP, "if data.len() < HEAD_BYTES_MAX {", "if data.len() < 8 * HEAD_BYTES_MAX {"),
    ("http", HTTP, "if blank > 0 {", "if false {"),
    ("http", HTTP, "*empty += blank;", ""),
    ("http", CHUNKS, "_ if digits == 0 => None,", ""),
    ("http", CHUNKS, "(digits < SIZE_DIGITS_MAX).then_some(", "Some("),
    ("http", CHUNKS, "_ if self.bytes > self.bytes_max() => return Err(self.too_long()),", ""),
    ("http", CHUNKS, "(Unread | Quoted | Escaped, _) if !is_text(byte) => None,", ""),
    ("http", CHUNKS, "!matches!(self, Extension::NameBegin | ", "!matches!(self, "),
    ("http", CHUNKS, "(Blank, b' ' | b'\\t') if rules == Rules::Answer => Some(Blank),", "(Blank, b' ' | b'\\t') => Some(Blank),"),
    ("http", CHUNKS, "Rules::Strict => self.in_trailer(line, byte).ok_or(\"a trailer field is malformed\")?,", "Rules::Strict => line.next_unread(byte),"),
    ("http", CHUNKS, "byte == b':' && OF_HEADS.contains(&&self.name[..])", "false"),
    ("http", CHUNKS, "(Line::Value, _) if is_text(byte) => Line::Value,", "(Line::Value, _) => Line::Value,"),
    ("http", "examples/support/bounds.rs", ".with_idle_timeout(Some(self.timeout))", ""),
    ("http", "examples/http_server.rs", "_ => transport.close(),", "_ => transport.abort(),"),
    ("http", "examples/http_server.rs", "if is_partial != self.is_timed {", "if true {"),
    ("http", "examples/http_server.rs", "if begins_anew {", "if false {"),
    ("fetch", "examples/http/body.rs", "Chunked::new(Rules::Answer)", "Chunked::new(Rules::Strict)"),
    ("fetch", CHUNKS, "if size == 0 { State::Trailer(Line::Begin) }", "if size == 0 { State::Over }"),
    ("fetch", CHUNKS, "(Line::Begin | Line::LastEnd, b'\\n') => State::Over,", "(_, b'\\n') => State::Over,"),
    ("fetch", CHUNKS, "if let Some(digit) = char::from(byte).to_digit(16) {", "if digits == 0 && byte == b';' {\n            return Some(State::Extension(Extension::Unread, size));\n        }\n        if let Some(digit) = char::from(byte).to_digit(16) {"),
    ("fetch", FETCHED, "config.allow_spaces_after_header_name_in_responses(true);", ""),
    ("fetch", FETCHED, "config.allow_obsolete_multiline_headers_in_responses(true);", ""),
    ("fetch", FETCHED, ".filter(|coding| coding != \"identity\")", ""),
    ("fetch", FETCHED, "vec![httparse::EMPTY_HEADER; lines]", "vec![httparse::EMPTY_HEADER; lines.min(128)]"),
    ("fetch", FETCHED, "searched.saturating_sub(2)", "*searched"),
    ("fetch", FETCHED, "format!(\"%{byte:02X}\")", "char::from(*byte).to_string()"),
    ("proxy", HEADER, "let most = &data[..data.len().min(LINE_BYTES_MAX)];", "let most = data;"),
    ("proxy", HEADER, "if data.len() < LINE_BYTES_MAX { Ok(None)", "if true { Ok(None)"),
    ("proxy", HEADER, "words.next().is_none().then_some", "true.then_some"),
    ("proxy", HEADER, "word.iter().all(u8::is_ascii_digit) && (", "("),
    ("proxy", HEADER, "(word.len() == 1 || word.first() != Some(&b'0'))", "true"),
    ("proxy", HEADER, "if bytes > bytes_max {", "if bytes > bytes_max && data.len() >= bytes {"),
    ("proxy", HEADER, "if length < family.address_bytes() {", "if data.len() < FIXED_BYTES + family.address_bytes() {"),
    ("proxy", HEADER, "(0, ..) => Ok(Family::Unknown),", ""),
    ("proxy", HEADER, "(_, 0, 0) => Ok(Family::Unspecified),", ""),
    ("proxy", HEADER, "(_, 4.., _) | (_, _, 3..) => Err(HeaderError::BadFamily(family)),", ""),
    ("proxy", HEADER, "if !tlvs.is_whole() {", "if false {"),
    ("proxy", HEADER, "if value == expected {", "if true || value == expected {"),
    ("proxy", HEADER, "_ if path.is_empty() =>", "_ if false =>"),
    ("proxy", HEADER, "UnixAddress::Abstract(bytes[1..filled].into())", "UnixAddress::Abstract(bytes[1..].into())"),
    ("proxy", RECEIVER, "return None;", ""),
    ("proxy", RECEIVER, "warn(transport, &NOT_TRUSTED);\n            return transport.abort();", ""),
    ("proxy", RECEIVER, "transport.set_timeout(Timeout::Total, Some(self.accept.timeout));",
     "transport.set_timeout(Timeout::Idle, Some(self.accept.timeout));"),
    ("proxy", RECEIVER, "transport.abort_for(error);", "transport.fail(error);"),
    ("proxy", RECEIVER, "else { return transport.abort() };", "else { return transport.close() };"),
    ("proxy", RECEIVER, "transport.set_peer_addr(client.clone());", "let _ = client;"),
    ("proxy", RECEIVER, "transport.start_protocol(protocol);", "transport.set_protocol(protocol);"),
    ("proxy", RECEIVER, "transport.set_input_bytes_max(needed_bytes);", ""),
    ("proxy", "src/proxy/carried.rs", "self.source().unwrap_or(&self.proxy)", "&self.proxy"),
    ("proxy", "src/health/mod.rs", "match self.warnings.ask(now) {", "match self.warnings.ask(now).or(Some(0)) {"),
]


# Those as (rule, [(file, the source, the bug)], what breaks, the seeds, the test), and those that the properties are to find.
ALL = [(rule, [edit], "", None, "") for rule, *edit in BUGS]
ALL += [("properties", edits, f" {name}", seeds, (*test, "every_guarantee_holds")[0])
        for name, seeds, edits, *test in property_bugs.BUGS]


def run(tree, target, rule, seeds, test):
    """Runs the tests of a rule; answers (the outcome, what was printed)."""
    tests = ["--all-features", "--lib", "--test", "it", "--no-fail-fast"]
    names = rule + "_"
    if rule in EXAMPLES:
        tests = ["--all-features", "--example", EXAMPLES[rule]]
    if rule == "adapters":
        tests = ["--package", "outsider", "--lib"]
    if rule == "fetch":
        tests = ["--package", "fetch"]
    if rule == "model":  # The model checker's package; its build is release's, since it tries so much.
        tests = ["--release", "--package", "switchboard-model", "--lib"]
    if rule == "properties":
        tests, names = ["--all-features", "--lib"], test
    command = ["cargo", "test", "--quiet", *tests, "--", names]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_BACKTRACE": "0"}
    if seeds:
        environment["SWITCHBOARD_SEEDS"] = str(seeds)
    build = subprocess.run(command[:-2] + ["--no-run"], cwd=tree, env=environment, capture_output=True, text=True)
    if build.returncode != 0:
        return "does not compile", build.stderr
    # Into a file: a child process that a bug leaves behind would hold a pipe open.
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdout=printed, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            process.wait(timeout=600 if seeds else 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "found (a test does not end)", ""
        printed.seek(0)
        output = printed.read()
    seed = re.search(r"^seed (\d+):", output, re.MULTILINE)
    if process.returncode == 0 or (seeds and not seed):
        return "NOT FOUND", output
    return f"found by seed {seed[1]} of {seeds}" if seed else "found", output


def seed_bug(tree, edits):
    """Puts the bugs in; answers how to take them out, or what is out of date."""
    texts = {tree / name: (tree / name).read_text() for name, _, _ in edits}
    for name, source, _ in edits:
        if texts[tree / name].count(source) != 1:
            return None, f"out of date: its source stands {texts[tree / name].count(source)} times in {name}"
    for name, source, bug in edits:
        path = tree / name
        path.write_text(path.read_text().replace(source, bug))
    return texts, ""


def chosen(arguments):
    if arguments[:1] == ["--some"]:
        count = int(arguments[1])
        first = datetime.date.today().toordinal() * count
        return [ALL[(first + n) % len(ALL)] for n in range(count)]
    if arguments[:1] == ["--like"]:
        return [bug for bug in ALL if any(text in str((bug[0], bug[2], *bug[1])) for text in arguments[1:])]
    unknown = set(arguments) - {bug[0] for bug in ALL}
    if unknown:
        sys.exit(f"no bug is kept for {', '.join(sorted(unknown))}")
    return [bug for bug in ALL if not arguments or bug[0] in arguments]


def table():
    rows = [f"//! | {name} | {seeds:,} |\n" for name, seeds, *_ in property_bugs.BUGS]
    return "//! | the bug | found within so many seeds |\n//! | --- | --- |\n" + "".join(rows)


def stand():
    """Whether the source of each bug stands where it is to be broken, once, and their table in the docs."""
    out_of_date = [f"{rule}{name}: {path}: {source!r}" for rule, edits, name, *_ in ALL for path, source, _ in edits
                   if (ROOT / path).read_text().count(source) != 1]
    tests = "".join(path.read_text() for folder in ("src", "tests", "examples") for path in (ROOT / folder).rglob("*.rs")
                    if "target" not in path.parts)
    rules = {rule for rule, *_ in BUGS} - {"model", "fetch", *EXAMPLES}
    out_of_date += [f"no test is named {rule}_…" for rule in sorted(rules) if f"fn {rule}_" not in tests]
    if table() not in (ROOT / "src/testing/mod.rs").read_text():
        out_of_date.append("the table in src/testing/mod.rs is not what --table prints")
    print("\n".join(out_of_date) or f"all {len(ALL)} stand")
    sys.exit(len(out_of_date) > 0)


def main():
    if sys.argv[1:] == ["--stand"]:
        stand()
    if sys.argv[1:] == ["--table"]:
        sys.exit(print(table(), end=""))
    bugs = chosen(sys.argv[1:])
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        tree, target = pathlib.Path(scratch, "tree"), pathlib.Path(scratch, "target")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".git", "__pycache__"))
        for rule, edits, name, seeds, test in bugs:
            texts, outcome = seed_bug(tree, edits)
            output = ""
            if texts is not None:
                outcome, output = run(tree, target, rule, seeds, test)
                for path, text in texts.items():
                    path.write_text(text)
            good = outcome.startswith("found")
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok' if good else 'FAILED'}: {rule}{name}: {outcome}", flush=True)
            if not good:
                print(output[-3000:])
    left_out = "" if len(bugs) == len(ALL) else f"; {len(ALL) - len(bugs)} of {len(ALL)} were left out"
    print(f"{passed} passed, {failed} failed{left_out}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
