//! Hosts that run a system other than Linux.

use super::{HostId, Network};
use crate::sys::habits::Habits;

/// The system that a host of a [`Network`] runs.
///
/// The guide's page on testing has a table of what is modelled of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// The default.
    #[default]
    Linux,
    /// macOS and Apple's other systems.
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
    /// Makes the sockets of a host behave as on another system, from now on.
    ///
    /// Error numbers remain those of the system that the test runs on.
    pub fn set_platform(&mut self, host: HostId, platform: Platform) {
        self.sim.set_habits(host.0, platform.habits());
    }
}
