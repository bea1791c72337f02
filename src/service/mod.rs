//! A server that runs under a service manager (feature `service`, Unix): Twisted's application.
//!
//! A [`Service`] listens on [`Endpoint`]s, and uses the sockets that were handed over to the process where there are
//! any. It tells the service manager when it is ready, that it is alive, and when it stops; drains on SIGTERM; and on
//! SIGUSR2 hands its listeners to a new process of the same program, so that there is always a process listening.
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
//! A service manager is not required: started from a terminal, the same program opens its own sockets, and Ctrl-C
//! drains it.
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
//! - **Sockets** are passed by systemd's protocol (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`). `systemd:web` listens
//!   on every socket that the socket unit names `web` (`FileDescriptorName=web`); a unit with several `ListenStream=`
//!   has several. A descriptor that is not a listening socket is an error at the start. systemd keeps the sockets open
//!   too, so `systemctl restart` refuses no connection: clients that connect meanwhile wait.
//! - **Readiness**: `READY=1` once all endpoints listen, `STOPPING=1` when a signal ends the service (`Type=notify`).
//! - **The watchdog**: with `WatchdogSec=`, a timer of the loop sends `WATCHDOG=1` twice in that time; a loop that is
//!   stuck does not, and systemd restarts the service. A time that is 0 or not a number is logged, and sends nothing.
//! - **The notification socket** is the path or the abstract name in `NOTIFY_SOCKET`. Any other address, such as
//!   `vsock:`, which systemd sets for no service, is not supported: this is logged once, and the service runs without
//!   notifying.
//! - **SIGTERM and SIGINT** drain, for up to the [grace](Service::grace); a second signal ends the service at once. Set
//!   `TimeoutStopSec=` to more than the grace and the loop's [`close_timeout`](crate::Limits::close_timeout) together.
//!
//! # The restart without a gap
//!
//! On SIGUSR2 the process starts its program again with the same arguments, from the path that it was started from (so
//! install the new version there first). The new process inherits the listeners: an endpoint that is written as in the
//! old process takes over that socket, port 0 included. Once the new process reports that it is ready, the old one
//! stops listening and drains. If the new process exits first, or is not ready within the [start
//! timeout](Service::start_timeout), it is killed and the old one carries on unchanged. No connection is refused, and
//! no response that is written within the grace is cut off.
//!
//! systemd is sent `RELOADING=1`, and then the id of the new main process: `systemctl reload` does all of it with
//! `ExecReload=/bin/kill -USR2 $MAINPID`. If systemd holds the sockets itself, both ways work.
//!
//! - Descriptors for a restart are reserved from the start, two for each listening socket and six more, so that it
//!   works even if clients hold all others. If the process may have too few for that, a warning is logged.
//! - There is one restart at a time: SIGUSR2 during a restart or a drain is ignored.
//! - Only the listeners of [`Service::listen`] and [`Service::listen_with`] are handed on; connections and datagram
//!   sockets are not.
//! - Starting a process blocks the loop for some milliseconds.

mod environment;
mod handed_over;
mod notify;
mod reserve;
mod restart;
mod successor;

use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Duration;

use self::environment::name_of;
use self::handed_over::HandedOver;
use self::notify::Manager;
use self::restart::{Handover, Program, Supervisor};
use switchboard::signals::{Signal, add_signal_handler};
use switchboard::{Address, Context, Endpoint, EventLoop, IntoProtocol, Listen, ListenerId};

/// A server that runs under a service manager; see the [module documentation](self).
#[must_use = "does nothing until it is run"]
#[derive(Debug)]
pub struct Service {
    handed_over: HandedOver,
    /// The listeners to hand on, each with the name that it is handed on by.
    listeners: Vec<(String, ListenerId)>,
    program: Program,
    grace: Duration,
    start_timeout: Duration,
}

impl Service {
    /// Takes the descriptors that were handed over to this process by a service manager or by the process that it
    /// replaces.
    ///
    /// Call this once, first thing in `main`: it changes the environment, which must not be done once there are
    /// threads, and takes ownership of the descriptors.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if one of the environment variables `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` has a value
    /// that no service manager writes, if they do not agree, or if a descriptor is neither a listening TCP or Unix
    /// socket nor a UDP socket.
    pub fn from_env() -> io::Result<Service> {
        Ok(Service {
            handed_over: HandedOver::from_env()?,
            listeners: Vec::new(),
            program: Program::this()?,
            grace: Duration::from_secs(30),
            start_timeout: Duration::from_secs(30),
        })
    }

    /// Sets how long connections may continue when the service stops or is taken over. Default 30 s.
    pub fn grace(mut self, grace: Duration) -> Service {
        self.grace = grace;
        self
    }

    /// Sets how long a new process may take to become ready. Default 30 s.
    pub fn start_timeout(mut self, start_timeout: Duration) -> Service {
        self.start_timeout = start_timeout;
        self
    }

    /// Returns the names of the sockets that were handed over and have not been taken yet.
    pub fn names(&self) -> Vec<&str> {
        self.handed_over.names().collect()
    }

    /// Listens on an endpoint: on the socket that was handed over for it, if there is one, else as [`Context::listen`]
    /// does. A `systemd:` endpoint listens on every socket that was handed over under its name, as one listener: a
    /// socket unit with several `ListenStream=` passes several sockets of one name.
    ///
    /// The path of a Unix socket that a service manager created is left alone when the listener is closed; that of one
    /// taken over from another process is removed.
    ///
    /// # Errors
    ///
    /// Those of [`Context::listen`], with the endpoint in their text; `NotFound` for a `systemd:` endpoint if no
    /// listening socket was handed over under its name.
    pub fn listen<F, P>(&mut self, context: &mut Context<'_>, endpoint: &Endpoint, factory: F) -> io::Result<ListenerId>
    where
        F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
        P: IntoProtocol,
    {
        self.listen_with(context, endpoint, |listen| listen, factory)
    }

    /// Like [`listen`](Service::listen), with the listener's other settings: `set` is given the [`Listen`] and returns
    /// it with [limits](Listen::limits), a [refusal](Listen::refusal) or a [filter](Listen::filter) such as TLS.
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
            // The socket was not created by systemd. If its path is gone, there is nothing to remove.
            if let Err(error) = listening.set_unlinks(true) {
                log::warn!("{endpoint} will not be removed at the end: {error}");
            }
        }
        self.listeners.push((name, listener));
        Ok(listener)
    }

    /// Takes a UDP socket that was handed over under this name, for [`Context::attach_datagram`]. If there are several,
    /// each call returns the next one.
    pub fn take_udp_socket(&mut self, name: &str) -> Option<UdpSocket> {
        self.handed_over.take_udp(name)
    }

    /// Starts the service: reports that it is ready, and handles signals and the watchdog. For programs that turn the
    /// loop themselves; otherwise use [`run`](Service::run).
    ///
    /// Do whatever may still fail before this: a process that this one replaces stops serving once it is ready.
    ///
    /// Sockets that were handed over but not taken are closed, with a warning: nothing would serve their clients.
    ///
    /// # Errors
    ///
    /// Those of [`add_signal_handler`]. If the service manager cannot be notified, that is only logged; for an address
    /// of an unsupported kind, once.
    pub fn start(self, context: &mut Context<'_>) -> io::Result<()> {
        for name in self.handed_over.names() {
            log::warn!("the socket {name:?} was handed over, but nothing listens on it, so it was closed");
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

    /// [`start`](Service::start)s the service, and runs the loop until it has drained or was stopped.
    ///
    /// # Errors
    ///
    /// Those of `start` and of [`EventLoop::run`].
    pub fn run(self, event_loop: &mut EventLoop) -> io::Result<()> {
        self.start(&mut event_loop.context())?;
        event_loop.run()
    }
}
