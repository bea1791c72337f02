//! The callbacks of [`Protocol`](crate::Protocol) that adapters only forward, each written once.

/// The callbacks that a handler shares with a protocol, with the same defaults: for the body of a handler trait.
macro_rules! passed_on {
    () => {
        /// See [`Protocol::connection_made`](crate::Protocol::connection_made).
        fn connection_made(&mut self, transport: &mut switchboard::Transport<'_>) {
            let _ = transport;
        }

        /// See [`Protocol::eof_received`](crate::Protocol::eof_received). `rest` is the beginning of an incomplete
        /// frame.
        fn eof_received(&mut self, transport: &mut switchboard::Transport<'_>, rest: &[u8]) {
            let _ = rest;
            transport.close();
        }

        /// See [`Protocol::pause_writing`](crate::Protocol::pause_writing).
        fn pause_writing(&mut self, transport: &mut switchboard::Transport<'_>) {
            let _ = transport;
        }

        /// See [`Protocol::resume_writing`](crate::Protocol::resume_writing).
        fn resume_writing(&mut self, transport: &mut switchboard::Transport<'_>) {
            let _ = transport;
        }

        /// See [`Protocol::produce`](crate::Protocol::produce).
        fn produce(&mut self, transport: &mut switchboard::Transport<'_>) {
            let _ = transport;
        }

        /// See [`Protocol::timed_out`](crate::Protocol::timed_out).
        fn timed_out(&mut self, transport: &mut switchboard::Transport<'_>, timeout: switchboard::Timeout) {
            transport.end_on_timeout(timeout);
        }

        /// See [`Protocol::timer`](crate::Protocol::timer).
        fn timer(&mut self, transport: &mut switchboard::Transport<'_>, key: u16) {
            let _ = (transport, key);
        }

        /// See [`Protocol::draining`](crate::Protocol::draining).
        fn draining(&mut self, transport: &mut switchboard::Transport<'_>) {
            let _ = transport;
        }

        /// See [`Protocol::connect_failed`](crate::Protocol::connect_failed).
        fn connect_failed(&mut self, transport: &mut switchboard::Transport<'_>, error: switchboard::ConnectError) {
            let _ = (transport, error);
        }

        /// See [`Protocol::connection_lost`](crate::Protocol::connection_lost).
        fn connection_lost(&mut self, transport: &mut switchboard::Transport<'_>, reason: switchboard::CloseReason) {
            let _ = (transport, reason);
        }

        /// Called when the peer violates the framing. The connection is closed when this returns, with the error as its
        /// reason ([`CloseReason::Protocol`](crate::CloseReason::Protocol), rule [F4](crate::guide::rules#f4)). What is
        /// written here is still sent.
        fn framing_error(&mut self, transport: &mut switchboard::Transport<'_>, error: &super::FramingError) {
            let _ = (transport, error);
        }
    };
}

/// The callbacks that a protocol forwards unchanged to one of its fields: for the body of its `impl Protocol`. An
/// adapter adds `data_received` and `eof_received`.
macro_rules! pass_on_to {
    ($field:ident) => {
        fn inner(&mut self) -> switchboard::Inner<'_> {
            switchboard::Inner::Handler(&mut self.$field)
        }

        fn connection_made(&mut self, transport: &mut switchboard::Transport<'_>) {
            self.$field.connection_made(transport);
        }

        fn pause_writing(&mut self, transport: &mut switchboard::Transport<'_>) {
            self.$field.pause_writing(transport);
        }

        fn resume_writing(&mut self, transport: &mut switchboard::Transport<'_>) {
            self.$field.resume_writing(transport);
        }

        fn produce(&mut self, transport: &mut switchboard::Transport<'_>) {
            self.$field.produce(transport);
        }

        fn timed_out(&mut self, transport: &mut switchboard::Transport<'_>, timeout: switchboard::Timeout) {
            self.$field.timed_out(transport, timeout);
        }

        fn timer(&mut self, transport: &mut switchboard::Transport<'_>, key: u16) {
            self.$field.timer(transport, key);
        }

        fn draining(&mut self, transport: &mut switchboard::Transport<'_>) {
            self.$field.draining(transport);
        }

        fn connect_failed(&mut self, transport: &mut switchboard::Transport<'_>, error: switchboard::ConnectError) {
            self.$field.connect_failed(transport, error);
        }

        fn connection_lost(&mut self, transport: &mut switchboard::Transport<'_>, reason: switchboard::CloseReason) {
            self.$field.connection_lost(transport, reason);
        }
    };
}
