//! What users implement.

use std::any::{Any, TypeId};
use std::fmt;

use crate::{Address, CloseReason, ConnectError, Context, Timeout, Transport};

/// The state machine of one connection: what is done when something happens to it.
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
/// `connection_lost` comes exactly once for every `connection_made`, and nothing comes after it. A connection that we begin
/// ([`Context::connect`](crate::Context::connect)) and that is not established has one `connect_failed` instead of
/// all that.
///
/// Every callback is handed the [`Transport`] of its connection, and through it the whole loop. A callback may do
/// anything at once, and no method of the loop calls a callback: what they cause comes later in the turn or in the
/// next. So a `RefCell` that is borrowed across a call into the loop is never borrowed again by it. Only
/// [`with_protocol`](crate::Context::with_protocol) calls at once: the closure that it is given, and nothing else.
///
/// A callback that panics ends its connection, see [`PanicPolicy`](crate::PanicPolicy).
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
    /// The connection stands. Nothing was read from it yet.
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.connection_made(transport);
        }
    }

    /// Input is there; answers how many bytes of it were consumed.
    ///
    /// What is left is kept. It is offered again at once while the last call consumed something, so that a protocol may
    /// take one frame a call; else together with what comes next, on
    /// [`resume_reading`](Transport::resume_reading), and to a new protocol after
    /// [`set_protocol`](Transport::set_protocol). Leaving more than
    /// [`input_bytes_max`](crate::Limits::input_bytes_max) ends the connection, as does answering more than was given.
    ///
    /// `data` is never empty. With nothing left over, it is a slice of the loop's own buffer: no copy was made.
    ///
    /// Answering 0 is what a peek is elsewhere: the same bytes come again, in front of what comes next, or go to the
    /// protocol that was put in this one's place.
    ///
    /// Urgent data of TCP comes in line, at its place among the rest (`SO_OOBINLINE`), and not apart from it: apart, a
    /// socket keeps one byte of it, which the next one overwrites, and RFC 6093 has new programs stay away from that.
    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize;

    /// The peer has ended its stream; `rest` is what was left unconsumed, and is not offered again.
    ///
    /// The default implementation closes the connection, after what is queued has gone out. A protocol that does
    /// not may go on writing as long as it likes.
    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        match self.inner() {
            Inner::Protocol(inner) => inner.eof_received(transport, rest),
            Inner::Nothing | Inner::Handler(_) => transport.close(),
        }
    }

    /// More than [`queue_bytes_high`](crate::Limits::queue_bytes_high) is queued: the peer takes less than is written.
    fn pause_writing(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.pause_writing(transport);
        }
    }

    /// The queue has gone down to [`queue_bytes_low`](crate::Limits::queue_bytes_low). Comes strictly after a
    /// `pause_writing`.
    fn resume_writing(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.resume_writing(transport);
        }
    }

    /// There is room for output, and this protocol has [asked](Transport::start_producing) to be called then: it writes the
    /// next piece of what it has to send.
    ///
    /// Called once a turn, after the connection's input, for as long as at most
    /// [`queue_bytes_low`](crate::Limits::queue_bytes_low) is queued (rule [W8](crate::guide::rules#w8)). A call that writes
    /// nothing to its own connection ends it, as a read of no bytes ends a file, until the next
    /// [`start_producing`](Transport::start_producing). All other callbacks go on, `pause_writing` included if one piece
    /// passes the high mark.
    ///
    /// ```
    /// use switchboard::{Protocol, Transport};
    ///
    /// /// Counts as far as it is read.
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

    /// A [`timeout`](Transport::set_timeout) is over.
    ///
    /// The default implementation ends the connection ([`end_on_timeout`](Transport::end_on_timeout)): by a reset where output is
    /// queued, which a dead peer would never take; otherwise, unless it has lasted too long, in order. A protocol may instead
    /// say goodbye and [`close`](Transport::close), or go on: an idle timeout then begins anew, one for the handshake or for
    /// all comes once and can be set again.
    fn timed_out(&mut self, transport: &mut Transport<'_>, timeout: Timeout) {
        match self.inner() {
            Inner::Protocol(inner) => inner.timed_out(transport, timeout),
            Inner::Nothing | Inner::Handler(_) => transport.end_on_timeout(timeout),
        }
    }

    /// A timer of this protocol is due: the one with this key, which [`set_timer`](Transport::set_timer) has set. It is
    /// called once; a protocol that wants it periodically sets it again here.
    ///
    /// The default implementation does nothing.
    fn timer(&mut self, transport: &mut Transport<'_>, key: u16) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.timer(transport, key);
        }
    }

    /// The loop has begun to [drain](crate::Context::drain): it is time to say so, where the protocol of the connection has
    /// a word for it, and to end what is idle. Comes at most once, with the turn after the drain has begun, to what is
    /// established then, the oldest first. Who is established later asks [`is_draining`](crate::Context::is_draining) in
    /// `connection_made`. A [shutdown](crate::Context::shutdown) without a drain closes at once, and calls this on nobody.
    ///
    /// The default implementation does nothing: the connection goes on until it ends, or the drain's grace is over.
    fn draining(&mut self, transport: &mut Transport<'_>) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.draining(transport);
        }
    }

    /// The connection was not made: [`Context::connect`](crate::Context::connect) has failed. None of the other
    /// callbacks has come or will. What was written to it meanwhile is lost with it; writing to it does nothing.
    ///
    /// A peer that accepts, sends and resets before the loop looks has failed in this way as well, with the reset as
    /// its error; what it sent is not delivered.
    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.connect_failed(transport, error);
        }
    }

    /// The connection is over. Its socket is closed already; writing to it does nothing.
    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if let Inner::Protocol(inner) = self.inner() {
            inner.connection_lost(transport, reason);
        }
    }

    /// Returns what this protocol wraps. Only an adapter overrides it, which changes what another protocol is told.
    ///
    /// The default implementation of each callback calls that of the wrapped protocol, if there is one. So an adapter has
    /// this method, `data_received`, and the callbacks that it changes; a callback that is added to this trait later reaches
    /// the wrapped protocol, too. [`with_protocol`](crate::Context::with_protocol) finds the wrapped one as well.
    ///
    /// An adapter that wraps a handler of a smaller trait of its own returns that as [`Inner::Handler`], to be found, and
    /// calls it itself.
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

/// What a protocol wraps: see [`Protocol::inner`].
#[non_exhaustive]
pub enum Inner<'a> {
    /// Nothing; it is no adapter.
    Nothing,
    /// Another protocol.
    Protocol(&'a mut dyn Protocol),
    /// A handler that is no protocol: the adapter passes on what it is told.
    Handler(&'a mut dyn Any),
}

/// What has a protocol found by its type. Every type has it; not part of the public interface.
#[doc(hidden)]
pub trait AsAny: Any {
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: Any> AsAny for T {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Finds what has this type: a protocol, or else what it wraps, from the outside in.
///
/// A box of a protocol has `as_any` as well, and is not what is asked for: so this takes the protocol itself.
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

/// What becomes the protocol of a connection: any [`Protocol`] as it is, or a `Box<dyn Protocol>` where several types are
/// possible.
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
/// A listener's factory returns one of the two as well. There the compiler has to be helped twice: a factory that only
/// refuses says what its protocols would be, and one that is bound to a variable names the types of its arguments.
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
/// let factory = |_: &mut Context<'_>, _: &Address| Some(Ask); // `|_, _| Some(Ask)` holds for no lifetime but one
/// context.listen(address, factory)?;
/// # Ok(())
/// # }
/// ```
///
/// A box of one type is neither:
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
    /// Returns the protocol in a box, as the loop keeps it.
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

/// What makes the protocols of a listener: called for every peer, answers `None` to refuse it.
pub(crate) type Factory = Box<dyn FnMut(&mut Context<'_>, &Address) -> Option<Box<dyn Protocol>>>;

/// Has a factory's protocols boxed, whatever they are, so that nothing behind it is generic.
pub(crate) fn boxed<F, P>(mut factory: F) -> Factory
where
    F: FnMut(&mut Context<'_>, &Address) -> Option<P> + 'static,
    P: IntoProtocol,
{
    Box::new(move |context, peer| factory(context, peer).map(P::into_protocol))
}
