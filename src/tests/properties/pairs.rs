//! Random programs in which two system calls fail, each once: the k-th of its kind, with an error that it can have.
//!
//! One failure finds a loop in order; the second one may find it while it still deals with the first: backing off,
//! trying a send again, ending a connection, going on to the next address.

use std::io;

use super::ledger::{Ledger, with};
use crate::ConnectError;
use crate::sys::errno;
use crate::testing::{Call, HostId, Network, Random};

/// What happens in enough pairs, besides what happens in other programs.
pub(super) const EXPECTED: &[&str] = &[
    "accept fails",
    "connect fails",
    "read fails",
    "receive fails",
    "send fails",
    "write fails",
    "a pair of one kind",
    "I/O error",
];

/// The calls, which k of them there are to fail, and their errors. A reset is not among them: where the kernel
/// reports one, the connection is gone, and the faults of the network see to that.
const FAILURES: [(Call, &str, u64, &[i32]); 6] = [
    (
        Call::Accept,
        "accept fails",
        12,
        &[
            errno::EMFILE,
            errno::ENFILE,
            errno::ENOBUFS,
            errno::ENOMEM,
            errno::ECONNABORTED,
            errno::EPROTO,
            errno::EINTR,
        ],
    ),
    (Call::Connect, "connect fails", 4, &[errno::EADDRNOTAVAIL, errno::ENOBUFS, errno::EMFILE, errno::EPERM]),
    (Call::Read, "read fails", 60, &[errno::ETIMEDOUT, errno::ENETDOWN, errno::ENOMEM, errno::EINTR]),
    (Call::Receive, "receive fails", 20, &[errno::ENOBUFS, errno::ENOMEM, errno::EINTR]),
    (Call::Send, "send fails", 20, &[errno::ENOBUFS, errno::ENOMEM, errno::EPERM, errno::EINTR]),
    (Call::Write, "write fails", 60, &[errno::ETIMEDOUT, errno::ENETDOWN, errno::ENOBUFS, errno::ENOMEM, errno::EINTR]),
];

/// Makes two calls of one of the hosts fail. The program is the one of this seed, and the failures are chosen by it.
pub(super) fn arm(network: &mut Network, hosts: &[HostId], seed: u64) {
    let mut random = Random::new(seed.wrapping_mul(0x9FB2_1C65_1E98_DF25));
    let index = random.below(hosts.len() as u64) as usize;
    let host = hosts[index];
    let mut before = None;
    for _ in 0..2 {
        let (call, name, most, errors) = FAILURES[random.below(FAILURES.len() as u64) as usize];
        let errors = match errors {
            // No call is interrupted where there are no signals.
            [others @ .., errno::EINTR] if !cfg!(unix) => others,
            all => all,
        };
        let error = errors[random.below(errors.len() as u64) as usize];
        // Often an early one, since many programs are short.
        let most = if random.hits(500) { most.div_ceil(6) } else { most };
        network.fail_call(host, call, random.between(1, most), io::Error::from_raw_os_error(error));
        with(|ledger| {
            ledger.coverage.hit(name);
            ledger.failing.push((call, error));
            // After a signal it is done again.
            if call == Call::Read && error != errno::EINTR {
                ledger.unreadable.push(index);
            }
            if before.replace(call) == Some(call) {
                ledger.coverage.hit("a pair of one kind");
            }
        });
    }
}

impl Ledger {
    /// Returns whether a connect may have met this error because it was made to fail.
    pub(super) fn is_made_to_fail_with(&self, met: &io::Error) -> bool {
        // With several addresses it holds the errors of all.
        let all = met.get_ref().and_then(|all| all.downcast_ref::<ConnectError>());
        if let Some(ConnectError::Failed(failures)) = all {
            return failures.iter().any(|(_, error)| self.is_made_to_fail_with(error));
        }
        self.failing.iter().any(|&(call, error)| call == Call::Connect && met.raw_os_error() == Some(error))
    }

    /// Returns whether a connection of this host may have ended with unread input, since a read of it was made to fail:
    /// each such read excuses one connection. One that ends in order has read everything before.
    pub(super) fn takes_excuse(&mut self, host: usize, reason: &str) -> bool {
        let excuse = self.unreadable.iter().position(|of| *of == host && reason != "peer closed");
        excuse.is_some_and(|index| self.unreadable.swap_remove(index) == host)
    }
}
