//! A server that is run by a service manager (feature `service`, Unix): Twisted's application.
//!
//! A [`Service`] listens where [`Endpoint`]s say, on sockets that were handed over where there are such; tells the service
//! manager that it is ready, that it is alive, and that it ends; drains on SIGTERM; and on SIGUSR2 hands its listeners to a
//! new process of the same program, without a moment in which nobody listens.
//!
//! ```no_run
//! use std::time::Duration;
//! use switchboard::service::Service;
//! use switchboard::{Endpoint, EventLoop, Protocol, Transport};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
//!         transport.write(data);
//!         data.len()
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut service = Service::from_env()?.grace(Duration::from_secs(20));
//!     let mut event_loop = EventLoop::new()?;
//!     for endpoint in std::env::args().skip(1) {
//!         let endpoint: Endpoint = endpoint.parse()?;
//!         service.listen(&mut event_loop.context(), &endpoint, |_, _| Some(Echo))?;
//!     }
//!     service.run(&mut event_loop)?;
//!     Ok(())
//! }
//! ```
//!
//! Nothing of it needs a service manager: from a terminal the same program listens by itself, and Ctrl-C drains it.
//!
//! # Under systemd
//!
//! The example `service` has these two files (`examples/service/`):
//!
//! ```ini
#![doc = include_str!("../../examples/service/switchboard.socket")]
//! ```
//!
//! ```ini
#![doc = include_str!("../../examples/service/switchboard.service")]
//! ```
//!
//! - **Sockets** come by systemd's protocol (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`); `systemd:web` listens on
//!   what the socket unit names so (`FileDescriptorName=web`), all of it, as a unit with several `ListenStream=` has them.
//!   What is no listening socket is an error at the start.
//!   systemd has the sockets too, so that `systemctl restart` refuses nobody: who comes meanwhile waits.
//! - **Readiness**: `READY=1` once all listens, `STOPPING=1` when a signal ends the service (`Type=notify`).
//! - **The watchdog**: with `WatchdogSec=`, a timer of the loop says `WATCHDOG=1` twice in that time; a loop that is stuck
//!   does not, and is restarted.
//! - **Where it is told**: at the path or the abstract name that `NOTIFY_SOCKET` has. Of any other address, such as `vsock:`,
//!   which systemd sets for no service, one line of the log says that nothing is told, and the service goes on.
//! - **SIGTERM and SIGINT** drain, for the [grace](Service::grace) at the most; the second one ends at once. Let
//!   `TimeoutStopSec=` be longer than the grace and the loop's [`close_timeout`](crate::Limits::close_timeout) together.
//!
//! # The restart without a gap
//!
//! At SIGUSR2 the process starts the program anew, with its own arguments, from the path that it was started from (so put
//! the new version there first). The new process has the same listeners: those of its endpoints that read as the old one's
//! are taken over, port 0 included. Once it says that it is ready, the old one stops listening and drains. Should it end
//! before, or not become ready within [the time that it has](Service::start_timeout), it is killed, and the old one
//! goes on as if nothing had been. No connection is refused, and no answer is cut that is given within the grace.
//!
//! systemd is told `RELOADING=1`, and then of the new main process: `systemctl reload` does all of it by
//! `ExecReload=/bin/kill -USR2 $MAINPID`. Where systemd itself has the sockets, both ways work.
//!
//! - Descriptors for it are held back from the start, two for each listening socket and six, so that it works though clients
//!   hold all others. Where the process may have too few for that, a warning is logged.
//! - One restart at a time: SIGUSR2 during one, or during a drain, is ignored.
//! - Only listeners of [`Service::listen`] and [`Service::listen_with`] are handed on, no connections and no datagram sockets.
//! - The start of a process takes some milliseconds of the loop's time.

mod handed_over;
mod notify;
mod reserve;
mod restart;
mod successor;

use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Duration;

use self::handed_over::HandedOver;
use self::notify::Manager;
use self::restart::{Handover, Program, Supervisor};
use switchboard::signals::{Signal, add_signal_handler};
use switchboard::{Address, Context, Endpoint, EventLoop, IntoProtocol, Listen, ListenerId};

/// A server as a service manager runs it; the module's page says what it does.
#[must_use = "does nothing until it is run"]
#[derive(Debug)]
pub struct Service {
    handed_over: HandedOver,
    /// What is to be handed on: each listener, and under which name.
    listeners: Vec<(String, ListenerId)>,
    program: Program,
    grace: Duration,
    start_timeout: Duration,
}

impl Service {
    /// Takes what was handed over to this process: by a service manager, or by the process that it takes over from.
    ///
    /// Call it once, first thing in `main`: it changes the environment, which must not be done once there are threads, and
    /// makes the descriptors its own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where the environment makes no sense, or where a descriptor is not what it should be: a listening TCP
    /// or Unix socket, or a UDP socket.
    pub fn from_env() -> io::Result<Service> {
        Ok(Service {
            handed_over: HandedOver::from_env()?,
            listeners: Vec::new(),
            program: Program::this()?,
            grace: Duration::from_secs(30),
            start_timeout: Duration::from_secs(30),
        })
    }

    /// How long connections may go on when the service ends or is taken over; 30 s by default.
    pub fn grace(mut self, grace: Duration) -> Service {
        self.grace = grace;
        self
    }

    /// How long a new process may take until it is ready; 30 s by default.
    pub fn start_timeout(mut self, start_timeout: Duration) -> Service {
        self.start_timeout = start_timeout;
        self
    }

    /// The names of what was handed over and has not been taken yet.
    pub fn names(&self) -> Vec<&str> {
        self.handed_over.names().collect()
    }

    /// Listens at an endpoint: on the socket that was handed over for it, if there is one, else as [`Context::listen`] does.
    /// At a `systemd:` endpoint it listens on every socket that was handed over under its name, as one listener: a socket
    /// unit with several `ListenStream=` has as many of one name.
    ///
    /// The path of a Unix socket that a service manager has made is left alone when the listener is closed, that of one
    /// taken over from another process is removed.
    ///
    /// # Errors
    ///
    /// Those of [`Context::listen`], with the endpoint in their text; `NotFound` for a `systemd:` endpoint of whose name
    /// nothing was handed over, or nothing that can be listened on.
    pub fn listen<F, P>(&mut self, context: &mut Context<'_>, endpoint: &Endpoint, factory: F) -> io::Result<ListenerId>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        self.listen_with(context, endpoint, |listen| listen, factory)
    }

    /// Like [`listen`](Service::listen), with what else a listener can have: `set` is given what it listens on, and returns it
    /// with [limits](Listen::limits), a [refusal](Listen::refusal) or a [filter](Listen::filter) such as TLS.
    ///
    /// ```no_run
    /// # use switchboard::{Context, Endpoint, Limits, ListenerId, Protocol, Transport};
    /// # use switchboard::service::Service;
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize { data.len() }
    /// # }
    /// # fn serve(service: &mut Service, context: &mut Context<'_>, endpoint: &Endpoint) -> std::io::Result<ListenerId> {
    /// let limits = Limits::default().with_connections_max(100);
    /// service.listen_with(context, endpoint, |listen| listen.limits(limits), |_, _| Some(Echo))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`listen`](Service::listen).
    pub fn listen_with<F, P>(
        &mut self,
        context: &mut Context<'_>,
        endpoint: &Endpoint,
        set: impl FnOnce(Listen) -> Listen,
        factory: F,
    ) -> io::Result<ListenerId>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        let name = name_of(endpoint);
        let taken = match endpoint.systemd_name() {
            Some(name) => self.handed_over.take_all(name)?,
            None => self.handed_over.take_first(&name),
        };
        let is_taken_over = taken.is_some() && endpoint.systemd_name().is_none();
        let listen = taken.unwrap_or_else(|| endpoint.clone().into());
        let listener = context
            .listen(set(listen), factory)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {endpoint}: {error}")))?;
        if let (true, Some(mut listening)) = (is_taken_over, context.listener(listener)) {
            // It was not systemd that made it. Where its path is gone there is nothing to remove.
            if let Err(error) = listening.set_unlinks(true) {
                log::warn!("{endpoint} is not removed in the end: {error}");
            }
        }
        self.listeners.push((name, listener));
        Ok(listener)
    }

    /// A UDP socket that was handed over under this name, for [`Context::attach_datagram`]. Where there are several, each
    /// call gives the next one.
    pub fn take_udp_socket(&mut self, name: &str) -> Option<UdpSocket> {
        self.handed_over.take_udp(name)
    }

    /// Begins: tells that all listens, sees to signals and to the watchdog. For programs that turn the loop themselves;
    /// [`run`](Service::run) does it else.
    ///
    /// What was handed over and not taken is closed, and logged: nobody would answer there.
    ///
    /// # Errors
    ///
    /// Those of [`add_signal_handler`]. That a service manager cannot be told something is logged, no more; at an address of
    /// a kind that is not supported, once.
    pub fn start(self, context: &mut Context<'_>) -> io::Result<()> {
        for name in self.handed_over.names() {
            log::warn!("the socket {name:?} was handed over, but nothing listens on it: it is closed");
        }
        let manager = Rc::new(Manager::from_env());
        let watchdog = manager.start_watchdog(context);
        let count = |id: &ListenerId| context.listener(*id).map_or(0, |listener| listener.sockets().count());
        let sockets = self.listeners.iter().map(|(_, id)| id).map(count).sum();
        let handover = Handover::new(self.listeners, manager.clone(), watchdog, self.grace);
        let mut supervisor = Supervisor::new(sockets, handover, self.program, self.start_timeout);
        let signals = [Signal::INT, Signal::TERM, Signal::USR2];
        add_signal_handler(context, signals, move |context, signal| supervisor.handle(context, signal))?;
        match self.handed_over.predecessor() {
            Some(predecessor) => restart::say_ready(&predecessor),
            None => manager.notify(&[sd_notify::NotifyState::Ready]),
        }
        Ok(())
    }

    /// [`start`](Service::start)s, and runs the loop until it has drained, or was stopped.
    ///
    /// # Errors
    ///
    /// Those of `start` and of [`EventLoop::run`].
    pub fn run(self, event_loop: &mut EventLoop) -> io::Result<()> {
        self.start(&mut event_loop.context())?;
        event_loop.run()
    }
}

/// Under which name the socket of an endpoint is handed over: names are separated by colons, so there is none in it.
fn name_of(endpoint: &Endpoint) -> String {
    match endpoint.systemd_name() {
        Some(name) => name.to_owned(),
        None => endpoint.to_string().replace('%', "%25").replace(':', "%3A"),
    }
}
