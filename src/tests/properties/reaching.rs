//! Reaching other connections' protocols at once.

use std::panic::resume_unwind;

use super::actions::act_on;
use super::ledger::{Ledger, PANIC, Phase};
use super::program::Program;
use crate::{Context, NotReached};

/// Reaches some connection's protocol. Expects to find it unless the connection has ended, or the caller is its
/// callback.
pub(super) fn reach(ledger: &mut Ledger, context: &mut Context<'_>, host: usize) {
    let Some(index) = ledger.some_connection(host, false) else { return };
    let Some(id) = ledger.connections[index].id else { return };
    let (phase, instance) = (ledger.connections[index].phase, ledger.connections[index].instance);
    let expected = match context.connection(id) {
        None => Some(NotReached::Gone),
        Some(_) if ledger.inside == Some((index, instance)) => Some(NotReached::Busy),
        Some(_) => None,
    };
    if expected.is_none() && ledger.random.hits(50) {
        ledger.coverage.hit("with_protocol of another type");
        let found = context.with_protocol(id, |_: &mut Ledger, _| ());
        return ledger.check(found == Err(NotReached::OtherType), || format!("another type is found: {found:?}"));
    }
    let found = context.with_protocol(id, |program: &mut Program, transport| {
        ledger.coverage.hit(match phase {
            Phase::Connecting => "with_protocol while connecting",
            _ => "with_protocol",
        });
        let is_it = program.is(index, instance) && transport.id() == id;
        ledger.check(is_it, || format!("another protocol than that of {id} is reached"));
        let again = transport.with_protocol(id, |_: &mut Program, _| ());
        ledger.check(again == Err(NotReached::Busy), || format!("a protocol is reached twice: {again:?}"));
        act_on(ledger, transport, index);
    });
    match found {
        Ok(()) => {}
        Err(NotReached::Busy) => ledger.coverage.hit("with_protocol of its own"),
        Err(_) => ledger.coverage.hit("with_protocol in vain"),
    }
    ledger.check(found.err() == expected, || format!("{found:?} where {expected:?} is expected, of {phase:?}"));
}

/// Panics while reaching some other connection's protocol, which ends both. Returns `false` if there is no other one.
pub(super) fn panic_reaching(ledger: &mut Ledger, context: &mut Context<'_>, own: usize) -> bool {
    let host = ledger.connections[own].host;
    let Some(index) = ledger.some_connection(host, false) else { return false };
    let Some(id) = ledger.connections[index].id.filter(|_| index != own) else { return false };
    if context.connection(id).is_none() {
        return false;
    }
    for index in [index, own] {
        ledger.connections[index].asked.panic = true;
    }
    ledger.panics[host] += 1;
    ledger.inside = None;
    ledger.coverage.hit("panic in with_protocol");
    let _ = context.with_protocol(id, |_: &mut Program, _| resume_unwind(Box::new(PANIC)));
    ledger.violated("a panic in with_protocol does not go on");
    true
}
