//! The traits that users implement.

use std::any::{Any, TypeId};
use std::fmt;

use crate::{Address, CloseReason, ConnectError, Context, Timeout, Transport};

/// The state machine of one connection: its callbacks say what to do on each event.
///
/// The names and the order are asyncio's and Twisted's:
///
/// ```text
/// connection_made
///     (data_received | pause_writing | resume_writing | produce | timed_out | timer | draining)*
///     [eof_received (pause_writing | resume_writing | produce | timed_out | timer | draining)*]
/// connection_lost
/// ```
///
/// `connection_lost` is called exactly once for every `connection_made`, and is the last callback. A connection that is
/// opened with [`Context::connect`](crate::Context::connect) and is not established gets a single `connect_failed`
/// instead.
///
/// Every callback is passed the [`Transport`] of its connection, and through it the whole loop. A callback may call any
/// method of the loop, and no method of the loop calls a callback: the callbacks that result come later in the same
/// turn or in the next one. So a `RefCell` that is borrowed across a call into the loop is never borrowed again by that
/// call. The only exception is [`with_protocol`](crate::Context::with_protocol), which calls the closure it is given,
/// and nothing else, before it returns.
///
/// A callback that panics ends its connection; see [`PanicPolicy`](crate::PanicPolicy).
///
/// ```
/// use switchboard::{Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
///         transport.write(data);
///         data.len()
///     }
/// }
/// ```
pub trait Protocol: AsAny {
    /// Called when the connection is established, before anything is read from it.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.connection_made(transport);
        }
    }

    /// Called when input has arrived. Returns how many bytes of it were consumed.
    ///
    /// What is left is kept and offered again. It is offered at once if the last call consumed something, so that a
    /// protocol may take one frame per call; otherwise it is offered together with the next input, on
    /// [`resume_reading`](Transport::resume_reading), and to a new protocol after
    /// [`set_protocol`](Transport::set_protocol). Leaving more than [`input_bytes_max`](crate::Limits::input_bytes_max)
    /// ends the connection, as does returning more than was given.
    ///
    /// `data` is never empty. If nothing was left over, it is a slice of the loop's own buffer, without a copy.
    ///
    /// Returning 0 works as a peek: the same bytes are offered again, in front of the next input, or go to the protocol
    /// that replaces this one.
    ///
    /// Urgent data of TCP is delivered inline, at its place in the stream (`SO_OOBINLINE`). Out of band, a socket keeps
    /// only one byte of it, which the next one overwrites, and RFC 6093 advises new programs against using it.
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize;

    /// Called when the peer has ended its stream. `rest` is the input left unconsumed; it is not offered again.
    ///
    /// The default implementation closes the connection after what is queued has been sent. A protocol that does not
    /// close may go on writing as long as it likes.
    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        match self.inner() {
            Inner::Protocol(inner) => inner.eof_received(transport, rest),
            Inner::Nothing | Inner::Handler(_) => transport.close(),
        }
    }

    /// Called when more than [`queue_bytes_high`](crate::Limits::queue_bytes_high) is queued: the peer takes data more
    /// slowly than it is written.
    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.pause_writing(transport);
        }
    }

    /// Called when the queue has shrunk to [`queue_bytes_low`](crate::Limits::queue_bytes_low), always after a
    /// `pause_writing`.
    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.resume_writing(transport);
        }
    }

    /// Called when there is room for output, if this protocol has [asked](Transport::start_producing) for that. Writes
    /// the next piece of what it has to send.
    ///
    /// Called once a turn, after the connection's input, for as long as at most
    /// Called once a turn, after the connection's input, as long as at most
    /// [`queue_bytes_low`](crate::Limits::queue_bytes_low) is queued (rule [W8](crate::guide::rules#w8)). A call that
    /// writes nothing to its own connection stops these calls until the next
    /// [`start_producing`](Transport::start_producing), as a read of zero bytes ends a file. All other callbacks
    /// continue, including `pause_writing` if one piece exceeds the high mark.
    ///
    /// ```
    /// use switchboard::{Protocol, Transport};
    ///
    /// /// Counts only as fast as the peer reads.
    /// struct Counting {
    ///     next: u32,
    ///     end: u32,
    /// }
    ///
    /// impl Protocol for Counting {
    ///     fn connection_made(&mut self, transport: &mut Transport<'_>) {
    ///         transport.start_producing();
    ///     }
    ///
    ///     fn produce(&mut self, transport: &mut Transport<'_>) {
    ///         for number in self.next..self.end.min(self.next + 1000) {
    ///             transport.write(format!("{number}\n").as_bytes());
    ///             self.next = number + 1;
    ///         }
    ///     }
    ///
    ///     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         data.len()
    ///     }
    /// }
    /// ```
    fn produce(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.produce(transport);
        }
    }

    /// Called when a [`timeout`](Transport::set_timeout) has expired.
    ///
    /// The default implementation ends the connection ([`end_on_timeout`](Transport::end_on_timeout)): by a reset if
    /// output is queued, which a dead peer would never take; otherwise in an orderly way, unless it has lasted too
    /// long. A protocol may instead say goodbye and [`close`](Transport::close), or carry on: an idle timeout then
    /// starts anew, while a handshake or total timeout fires once and can be set again.
    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        match self.inner() {
            Inner::Protocol(inner) => inner.timed_out(transport, timeout),
            Inner::Nothing | Inner::Handler(_) => transport.end_on_timeout(timeout),
        }
    }

    /// Called when the timer that [`set_timer`](Transport::set_timer) has set with this key is due. It fires once; a
    /// protocol that wants it periodically sets it again here.
    ///
    /// The default implementation does nothing.
    fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.timer(transport, key);
        }
    }

    /// Called when the loop has begun to [drain](crate::Context::drain): the time to announce it, if the connection's
    /// protocol has a message for that, and to close the connection if it is idle. Called at most once, in the turn
    /// after the drain has begun, for the connections that are established by then, the oldest first. A connection that
    /// is established later can check [`is_draining`](crate::Context::is_draining) in `connection_made`. A
    /// [shutdown](crate::Context::shutdown) without a drain closes at once, and does not call this.
    ///
    /// The default implementation does nothing: the connection goes on until it ends, or the drain's grace period is
    /// over.
    fn draining(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.draining(transport);
        }
    }

    /// Called when the connection could not be established: [`Context::connect`](crate::Context::connect) has failed.
    /// No other callback is called before or after. What was written to it meanwhile is lost; writing to it now does
    /// nothing.
    ///
    /// If a peer accepts, sends and resets before the loop looks, the connect has failed as well, with the reset as its
    /// error; what the peer sent is not delivered.
    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.connect_failed(transport, error);
        }
    }

    /// Called when the connection is over. Its socket is already closed; writing to it does nothing.
    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.connection_lost(transport, reason);
        }
    }

    /// Returns what this protocol wraps. Only adapters override this, which change what another protocol is told.
    ///
    /// The default implementation of each callback calls that of the wrapped protocol, if there is one. So an adapter
    /// needs only this method, `data_received`, and the callbacks that it changes; a callback that is added to this
    /// trait later also reaches the wrapped protocol. [`with_protocol`](crate::Context::with_protocol) finds the
    /// wrapped protocol as well.
    ///
    /// An adapter that wraps a handler, with a smaller trait of its own, returns it as [`Inner::Handler`], so that it
    /// can be found, and calls it itself.
    ///
    /// ```
    /// use switchboard::{Inner, Protocol, Transport};
    ///
    /// /// Counts what another protocol consumes.
    /// struct Counting<P> {
    ///     inner: P,
    ///     bytes: usize,
    /// }
    ///
    /// impl<P: Protocol> Protocol for Counting<P> {
    ///     fn inner(&mut self) -> Inner<'_> {
    ///         Inner::Protocol(&mut self.inner)
    ///     }
    ///
    ///     fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
    ///         let consumed = self.inner.data_received(transport, data);
    ///         self.bytes += consumed;
    ///         consumed
    ///     }
    /// }
    /// ```
    fn inner(&mut self) -> Inner<'_> {
        Inner::Nothing
    }
}

/// What a protocol wraps; see [`Protocol::inner`].
#[non_exhaustive]
pub enum Inner<'a> {
    /// Nothing: the protocol is not an adapter.
    Nothing,
    /// Another protocol.
    Protocol(&'a mut dyn Protocol),
    /// A handler that is not a protocol: the adapter passes events on to it.
    Handler(&'a mut dyn Any),
}

/// Lets a protocol be found by its type. Implemented for every type; not part of the public interface.
#[doc(hidden)]
pub trait AsAny: Any {
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: Any> AsAny for T {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Finds the value of this type: a protocol, or else what it wraps, from the outside in.
///
/// Takes the protocol itself and not its box: a box of a protocol has `as_any` as well, which would return the box.
pub(crate) fn find(protocol: &mut dyn Protocol, wanted: TypeId) -> Option<&mut dyn Any> {
    if (*protocol.as_any()).type_id() == wanted {
        return Some(protocol.as_any());
    }
    match protocol.inner() {
        Inner::Protocol(inner) => find(inner, wanted),
        Inner::Handler(handler) => ((*handler).type_id() == wanted).then_some(handler),
        Inner::Nothing => None,
    }
}

impl fmt::Debug for Inner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Inner::Nothing => "Nothing",
            Inner::Protocol(_) => "Protocol(..)",
            Inner::Handler(_) => "Handler(..)",
        })
    }
}

/// A type that can become the protocol of a connection: any [`Protocol`], or a `Box<dyn Protocol>` where several types
/// are possible.
///
/// ```
/// # use switchboard::{EventLoop, Protocol, Transport};
/// # struct Ask;
/// # impl Protocol for Ask {
/// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         data.len()
/// #     }
/// # }
/// # struct Tell;
/// # impl Protocol for Tell {
/// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         data.len()
/// #     }
/// # }
/// # fn run(event_loop: &mut EventLoop, server: std::net::SocketAddr, asks: bool) -> std::io::Result<()> {
/// let mut context = event_loop.context();
/// context.connect(server, Ask)?;
/// let protocol: Box<dyn Protocol> = if asks { Box::new(Ask) } else { Box::new(Tell) };
/// context.connect(server, protocol)?;
/// # Ok(())
/// # }
/// ```
///
/// A listener's factory returns one of the two as well. There the compiler needs help in two cases: a factory that only
/// refuses has to name the type of its protocols, and one that is bound to a variable has to name the types of its
/// arguments.
///
/// ```
/// # use switchboard::{Address, Context, EventLoop, Protocol, Transport};
/// # struct Ask;
/// # impl Protocol for Ask {
/// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         data.len()
/// #     }
/// # }
/// # fn run(event_loop: &mut EventLoop, address: std::net::SocketAddr) -> std::io::Result<()> {
/// let mut context = event_loop.context();
/// context.listen(address, |_, _| None::<Ask>)?; // `|_, _| None` is E0283
/// let factory = |_: &mut Context<'_>, _: &Address| Some(Ask); // `|_, _| Some(Ask)` works for one lifetime only
/// context.listen(address, factory)?;
/// # Ok(())
/// # }
/// ```
///
/// A box of one concrete type is neither:
///
/// ```compile_fail,E0277
/// # use switchboard::{EventLoop, Protocol, Transport};
/// # struct Ask;
/// # impl Protocol for Ask {
/// #     fn data_received(&mut self, _: &mut Transport<'_>, data: &[u8]) -> usize {
/// #         data.len()
/// #     }
/// # }
/// # fn run(event_loop: &mut EventLoop, server: std::net::SocketAddr) -> std::io::Result<()> {
/// event_loop.context().connect(server, Box::new(Ask))?; // `Box<Ask>` is not a protocol
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    label = "neither a `Protocol` nor a `Box<dyn Protocol>`",
    note = "give or return the protocol itself, without a box; where there are several types, `Box<dyn Protocol>`"
)]
pub trait IntoProtocol {
    /// Returns the protocol in a box, as the loop stores it.
    fn into_protocol(self) -> Box<dyn Protocol>;
}

impl<P: Protocol> IntoProtocol for P {
    fn into_protocol(self) -> Box<dyn Protocol> {
        Box::new(self)
    }
}

impl IntoProtocol for Box<dyn Protocol> {
    fn into_protocol(self) -> Box<dyn Protocol> {
        self
    }
}

/// Makes the protocols of a listener: called for every peer, returns `None` to refuse it.
pub(crate) type Factory = Box<dyn FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>>>;

/// Boxes the protocols that a factory returns, so that nothing behind it is generic.
pub(crate) fn boxed<F, P>(mut factory: F) -> Factory
where
    F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
    P: IntoProtocol,
{
    Box::new(move |context, peer| factory(context, peer).map(P::into_protocol))
}
