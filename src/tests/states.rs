//! The table of a connection's states (`connection/life.rs`): each of its cells, against a live loop.
//!
//! A loop is brought into the state, the event is caused as a peer or a program would cause it, and the state that the
//! connection enters first is compared with the table. If the table says that a connection stays in its state, the
//! event must make no difference to where a turn without it leads.

use std::fmt::Write as _;

use super::connecting::server;
use super::*;
use crate::connection::{Event as Cause, State};

type Step = (State, Cause, State);

thread_local! {
    static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
}

fn detach(transport: &mut Transport<'_>) {
    transport.detach(|_, _| ());
}

/// Records that a connection of this thread has gone from one state to another.
pub(crate) fn note(before: State, event: Cause, after: State) {
    STEPS.with_borrow_mut(|steps| steps.push((before, event, after)));
}

fn take_steps() -> Vec<Step> {
    STEPS.take()
}

/// A loop with one connection in a state.
struct At {
    scene: Scene,
    id: ConnectionId,
    peer: Peer,
}

/// Consumes everything, and leaves the end to the test.
fn passive(event: Event<'_>, _: &mut Transport<'_>) -> usize {
    if let Event::Data(data) = event { data.len() } else { 0 }
}

impl At {
    fn open() -> At {
        let mut scene = Scene::new();
        let (id, peer) = scene.accept(&Log::default(), passive);
        At { scene, id, peer }
    }

    fn connecting() -> At {
        let mut scene = Scene::new();
        let peer = scene.world.connect_begins();
        let id = scene.begin(&Log::default(), server(), passive).unwrap();
        At { scene, id, peer }
    }

    /// Asks the connection for something, without turning the loop.
    fn ask(&mut self, act: impl FnOnce(&mut Transport<'_>)) {
        if let Some(mut transport) = self.scene.event_loop.context().connection(self.id) {
            act(&mut transport);
        }
    }

    /// Queues something that the peer does not take.
    fn queue(&mut self) {
        self.peer.set_room(0);
        self.ask(|transport| transport.write(b"queued"));
    }

    fn end_stream(&mut self) {
        self.peer.sends([]);
        self.scene.world.event(&self.peer, Readiness::READABLE | Readiness::READ_CLOSED);
    }

    fn make_room(&mut self) {
        self.peer.set_room(KIB);
        self.scene.world.event(&self.peer, Readiness::WRITABLE);
    }

    fn fail_send(&mut self) {
        self.peer.set_room(KIB);
        self.peer.write_answers(Err(io::ErrorKind::ConnectionReset.into()));
        // So large that it is sent at once.
        self.ask(|transport| transport.write_owned(vec![0; 64 * KIB]));
        self.scene.world.event(&self.peer, Readiness::WRITABLE);
    }

    fn state(&self) -> State {
        self.scene.event_loop.core.parts.slots.connection(self.id.0).expect("it is there").state()
    }

    /// Brings a connection into this state, between two turns.
    fn reach(state: State) -> At {
        let mut at = if state.is_connecting() { At::connecting() } else { At::open() };
        match state {
            State::Connecting | State::Open => {}
            State::ConnectingFinQueued => at.ask(shutdown_write),
            State::ReadClosed => at.end_stream(),
            State::FinQueued => {
                at.queue();
                at.ask(shutdown_write);
            }
            State::WriteClosed => at.ask(shutdown_write),
            State::Failing => at.fail_send(),
            State::Flushing => {
                at.queue();
                at.ask(close);
            }
            State::FlushingAfterEnd => {
                at.end_stream();
                at.scene.settle();
                at.queue();
                at.ask(close);
            }
            State::Detaching => at.ask(|transport| assert!(transport.detach(|_, _| ()))),
            State::Lingering => {
                at.ask(pause_reading);
                at.peer.sends("unread");
                at.ask(close);
            }
            State::Lost => at.ask(abort),
            State::Gone => unreachable!("it is not seen between two turns"),
        }
        // From these states a turn would lead to another one.
        if !matches!(state, State::Failing | State::Detaching | State::Lost) {
            at.scene.settle();
        }
        assert_eq!(at.state(), state);
        take_steps();
        at
    }

    /// Causes an event. Returns whether it was caused with a turn.
    fn cause(&mut self, event: Cause) -> bool {
        match event {
            Cause::Established => {
                self.peer.answers();
                self.scene.world.event(&self.peer, Readiness::WRITABLE);
            }
            Cause::PeerEnded => self.end_stream(),
            Cause::ShutdownWrite => self.ask(shutdown_write),
            Cause::Close => self.ask(close),
            Cause::Detach => self.ask(detach),
            Cause::AllSent => self.make_room(),
            Cause::InputLeft => {
                self.peer.sends("still sending");
                self.make_room();
            }
            Cause::SendFailed => self.fail_send(),
            Cause::Ended => self.ask(abort),
            Cause::Told => {}
        }
        let by_turn = !matches!(event, Cause::ShutdownWrite | Cause::Close | Cause::Detach | Cause::Ended);
        if by_turn {
            self.scene.turn();
        }
        by_turn
    }
}

/// Returns whether nothing can cause an event in a state.
fn cannot_happen(state: State, event: Cause) -> bool {
    let has_ended = !state.is_alive();
    match event {
        // No attempt is under way, or there is no socket.
        Cause::Established => !state.is_connecting(),
        Cause::AllSent => state.is_connecting() || has_ended,
        // The end has been read already.
        Cause::PeerEnded => {
            matches!(state, State::ReadClosed | State::FlushingAfterEnd) || state.is_connecting() || has_ended
        }
        // Only a flush at the end looks for unread input.
        Cause::InputLeft => state != State::Flushing,
        // Nothing is being sent.
        Cause::SendFailed => {
            matches!(state, State::WriteClosed | State::Failing | State::Lingering)
                || state.is_connecting()
                || has_ended
        }
        Cause::Ended => has_ended,
        Cause::Told => state != State::Lost,
        Cause::ShutdownWrite | Cause::Close | Cause::Detach => false,
    }
}

/// Returns the state that a turn leads to by itself.
fn by_itself(state: State) -> State {
    let mut at = At::reach(state);
    at.scene.turn();
    take_steps().first().map_or(state, |&(_, _, after)| after)
}

#[test]
fn c5_each_event_leads_from_each_state_to_where_the_table_says() {
    for state in State::ALL.into_iter().filter(|state| *state != State::Gone) {
        for event in Cause::ALL {
            let expected = state.after(event);
            if (state, event) == (State::FlushingAfterEnd, Cause::InputLeft) {
                // For ends that filters report, see tests/filters/ends.rs.
                continue;
            }
            if cannot_happen(state, event) {
                let is_end = event == Cause::Ended;
                assert!(expected == state || is_end, "{state:?} {event:?} cannot happen and leads to {expected:?}");
                continue;
            }
            let mut at = At::reach(state);
            let by_turn = at.cause(event);
            let first = take_steps().first().map_or(state, |&(_, _, after)| after);
            let expected = if expected == state && by_turn { by_itself(state) } else { expected };
            assert_eq!(first, expected, "{event:?} in {state:?}");
        }
    }
}

#[test]
fn c1_nothing_leads_out_of_the_last_state() {
    for act in [shutdown_write, close, abort, detach] {
        let mut scene = Scene::new();
        let (id, _peer) = scene.accept(&Log::default(), move |event, transport| {
            if let Event::Lost(_) = event {
                act(transport);
            }
            0
        });
        take_steps();
        scene.tell(id, abort);
        let steps = [(State::Open, Cause::Ended, State::Lost), (State::Lost, Cause::Told, State::Gone)];
        assert_eq!(take_steps(), steps);
    }
    assert!(Cause::ALL.into_iter().all(|event| State::Gone.after(event) == State::Gone));
}

#[test]
fn x1_a_connection_says_whether_its_end_has_begun() {
    for state in State::ALL.into_iter().filter(|state| *state != State::Gone) {
        let mut at = At::reach(state);
        let is_closing = Transport::new(&mut at.scene.event_loop.core, at.id.0).is_closing();
        let goes_on = state.is_connecting() || state.is_timed();
        assert_eq!(is_closing, !goes_on, "{state:?}");
    }
}

/// The table as in `src/connection/life.md`: each row is a state, each column an event; a cell is empty if the state does not
/// change.
fn page() -> String {
    let mut page = String::from("| state |");
    for event in Cause::ALL {
        write!(page, " `{event:?}` |").unwrap();
    }
    page += &format!("\n|{}\n", " --- |".repeat(Cause::ALL.len() + 1));
    for state in State::ALL {
        write!(page, "| `{state:?}` |").unwrap();
        for event in Cause::ALL {
            match state.after(event) {
                after if after == state => page += " |",
                after => write!(page, " `{after:?}` |").unwrap(),
            }
        }
        page.push('\n');
    }
    page
}

#[test]
fn c5_the_page_beside_the_code_shows_the_same_table() {
    let page = page();
    assert!(
        include_str!("../connection/life.md").contains(&page),
        "src/connection/life.md lacks this table:\n\n{page}"
    );
}
