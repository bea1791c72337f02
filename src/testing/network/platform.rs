//! Hosts that run another system than Linux.

use super::{HostId, Network};
use crate::sys::habits::Habits;

/// Which system a host of a [`Network`] runs.
///
/// The guide's page on testing has a table of what is modelled of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// What hosts run unless told otherwise.
    #[default]
    Linux,
    /// macOS, and what else is Apple's.
    MacOs,
    /// FreeBSD, NetBSD, OpenBSD, DragonFly.
    Bsd,
    /// Windows.
    Windows,
}

impl Platform {
    fn habits(self) -> &'static Habits {
        match self {
            Platform::Linux => &Habits::LINUX,
            Platform::MacOs => &Habits::APPLE,
            Platform::Bsd => &Habits::BSD,
            Platform::Windows => &Habits::WINDOWS,
        }
    }
}

impl Network {
    /// Has the sockets of a host behave as those of another system do, from now on.
    ///
    /// The numbers of errors stay those of the system that the test runs on.
    pub fn set_platform(&mut self, host: HostId, platform: Platform) {
        self.sim.set_habits(host.0, platform.habits());
    }
}
