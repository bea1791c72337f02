//! Values that protocols wait for.

use super::ledger::{Ledger, Phase, with};
use super::program::Program;
use super::timers::may_have_own;
use crate::{Completion, Context, Transport};

pub(super) struct Call {
    connection: usize,
    instance: u32,
    /// Held until a value is given.
    completion: Option<Completion<u64>>,
    /// The value that was given, if any, and the step in which it was.
    given: Option<(Option<u64>, u64)>,
    /// The call was made, or cancelled.
    over: bool,
}

/// Makes a protocol wait for a value, which it is given at once, later, or never.
pub(super) fn ask(ledger: &mut Ledger, transport: &mut Transport<'_>, connection: usize) {
    let may_wait = may_have_own(ledger, transport, connection);
    let (index, instance) = (ledger.calls.len(), ledger.connections[connection].instance);
    let asked = transport.completion(move |program: &mut Program, transport, value| {
        with(|ledger| told(ledger, index, program, transport, value));
    });
    ledger.coverage.hit(if may_wait { "completion" } else { "completion in vain" });
    ledger.check(asked.is_ok() == may_wait, || format!("a completion: {asked:?} where {may_wait} is expected"));
    let Ok(completion) = asked else { return };
    ledger.calls.push(Call { connection, instance, completion: Some(completion), given: None, over: false });
    if ledger.random.hits(500) {
        give(ledger, index);
    }
}

/// Gives a waiting call its value, or cancels it.
pub(super) fn go_on(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let waits = |call: &Call| call.completion.is_some() && ledger.connections[call.connection].host == host;
    let Some(index) = ledger.calls.iter().position(waits) else { return };
    if ledger.random.hits(800) {
        return give(ledger, index);
    }
    ledger.coverage.hit("completion cancelled");
    let id = ledger.calls[index].completion.as_ref().map(Completion::id);
    id.into_iter().for_each(|id| _ = context.cancel_completion(id));
    (ledger.calls[index].completion, ledger.calls[index].over) = (None, true);
}

fn give(ledger: &mut Ledger, index: usize) {
    let Some(completion) = ledger.calls[index].completion.take() else { return };
    let value = ledger.random.hits(800).then(|| ledger.random.below(1000));
    ledger.calls[index].given = Some((value, ledger.step));
    match value {
        Some(value) => _ = completion.complete(value),
        None => drop(completion),
    }
}

fn told(ledger: &mut Ledger, index: usize, program: &Program, transport: &mut Transport<'_>, value: Option<u64>) {
    ledger.coverage.hit("told of a value");
    let call = &mut ledger.calls[index];
    let (connection, instance) = (call.connection, call.instance);
    let was_over = std::mem::replace(&mut call.over, true);
    let given = call.given.map(|(value, _)| value);
    let of = &ledger.connections[connection];
    let (phase, present, closing) = (of.phase, of.instance, of.closing);
    ledger.check(!was_over, || "a value is told twice, or though the call was cancelled".into());
    ledger.check(given == Some(value), || format!("{value:?} is told, and {given:?} was given"));
    let is_its_own = instance == present && program.is(connection, instance);
    ledger.check(is_its_own, || "a value that another protocol has waited for".into());
    let may_come = matches!(phase, Phase::Made | Phase::Ended) && !closing;
    ledger.check(may_come, || format!("a value comes to a connection that is {phase:?}, closing: {closing}"));
    if ledger.actions > 0 {
        ledger.actions -= 1;
        super::actions::act_on(ledger, transport, connection);
    }
}

impl Ledger {
    /// Returns whether a value was given to this connection's present protocol that has not been delivered.
    pub(super) fn has_untold_value(&self, connection: usize) -> bool {
        let instance = self.connections[connection].instance;
        let is_left = |call: &Call| call.given.is_some_and(|(_, step)| step < self.step) && !call.over;
        self.calls.iter().any(|call| (call.connection, call.instance) == (connection, instance) && is_left(call))
    }
}
