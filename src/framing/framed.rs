//! Frames of any kind: one adapter, and the trait that finds the frames.

use super::{FRAME_BYTES_MAX, FramingError, Room};
use switchboard::{Protocol, Transport};

/// Finds frames in bytes: a stateless description of a framing.
pub trait Framer: 'static {
    /// Looks for the frame at the beginning of `data`, which is never empty.
    ///
    /// `frame_bytes_max` is the maximum length of a frame, by [`FrameHandler::frame_bytes_max`]. For a longer one,
    /// returns [`Found::Broken`] with [`FramingError::LengthOverMax`] or the like, as soon as its length is known.
    ///
    /// `scanned` is what the last [`Found::Partial`] returned for the same frame, or 0 for a new one: that many bytes
    /// need not be looked at again.
    fn find(&self, data: &[u8], scanned: usize, frame_bytes_max: usize) -> Found;

    /// Returns the maximum length of a frame, unless its handler sets another. The default implementation returns
    /// 16,384.
    fn frame_bytes_max(&self) -> usize {
        FRAME_BYTES_MAX
    }

    /// Returns the maximum size of a whole frame whose content has up to `frame_bytes_max` bytes, including, for
    /// example, its delimiter. This, or what [`Found::Partial`] asks for, bounds the memory for a connection's input.
    /// The default implementation returns `frame_bytes_max`.
    fn input_bytes_max(&self, frame_bytes_max: usize) -> usize {
        frame_bytes_max
    }
}

/// The result of [`Framer::find`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// A whole frame.
    Frame {
        /// Where the content begins.
        start: usize,
        /// Where the content ends.
        end: usize,
        /// Where the next frame begins: more than 0, and at most the length of the data.
        next: usize,
    },
    /// Only the beginning of a frame.
    Partial {
        /// How many bytes need not be looked at again.
        scanned: usize,
        /// How many bytes must have arrived before it is worth looking again; 0 if that is not known.
        needed_bytes: usize,
    },
    /// Not a frame.
    Broken(FramingError),
}

/// What [`Framed`] makes a [`Protocol`] from; only `frame_received` is required.
pub trait FrameHandler: 'static {
    /// Called with the content of each frame.
    fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]);

    /// Returns the maximum length of a frame. `set` is the framer's own [maximum](Framer::frame_bytes_max), which the
    /// default implementation returns. Called before each frame, and again each time more of a partial frame is looked
    /// at. Useful for protocols that allow only short frames before a login.
    ///
    /// ```
    /// use switchboard::Transport;
    /// use switchboard::framing::{FrameHandler, Framed, LengthPrefixed};
    ///
    /// struct Session {
    ///     is_logged_in: bool,
    /// }
    ///
    /// impl FrameHandler for Session {
    ///     fn frame_received(&mut self, _: &mut Transport<'_>, frame: &[u8]) {
    ///         self.is_logged_in |= frame == b"a secret";
    ///     }
    ///
    ///     fn frame_bytes_max(&self, set: usize) -> usize {
    ///         if self.is_logged_in { set } else { 1024 }
    ///     }
    /// }
    ///
    /// let protocol = Framed::new(LengthPrefixed::u32_be(1024 * 1024), Session { is_logged_in: false });
    /// # drop(protocol);
    /// ```
    fn frame_bytes_max(&self, set: usize) -> usize {
        set
    }

    passed_on!();
}

/// A protocol that receives frames: the [`Framer`] finds them, the [`FrameHandler`] handles them.
///
/// ```
/// use switchboard::Transport;
/// use switchboard::framing::{FrameHandler, Framed, LengthPrefixed};
///
/// const FRAMING: LengthPrefixed = LengthPrefixed::u32_be(1024 * 1024);
///
/// struct Echo;
///
/// impl FrameHandler for Echo {
///     fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]) {
///         if let Err(error) = FRAMING.send(transport, frame) {
///             transport.close_for(error);
///         }
///     }
/// }
///
/// let protocol = Framed::new(FRAMING, Echo);
/// # drop(protocol);
/// ```
#[derive(Debug)]
pub struct Framed<F, H> {
    framer: F,
    handler: H,
    /// How many bytes of a partial frame were already searched.
    scanned: usize,
    /// The low mark that is set.
    low_bytes: usize,
    room: Room,
}

impl<F: Framer, H: FrameHandler> Framed<F, H> {
    /// Creates a protocol that passes the frames that `framer` finds to `handler`.
    pub fn new(framer: F, handler: H) -> Framed<F, H> {
        Framed { framer, handler, scanned: 0, low_bytes: 0, room: Room::default() }
    }

    /// Defers the next call until this many bytes are available.
    fn set_low_mark(&mut self, transport: &mut Transport<'_>, bytes: usize) {
        if self.low_bytes != bytes {
            transport.set_input_low_bytes(bytes);
            self.low_bytes = bytes;
        }
    }
}

impl<F: Framer, H: FrameHandler> Protocol for Framed<F, H> {
    pass_on_to!(handler);

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        self.set_low_mark(transport, 0);
        self.room.lower(transport);
        let mut consumed = 0;
        while consumed < data.len() {
            let rest = &data[consumed..];
            let bytes_max = self.handler.frame_bytes_max(self.framer.frame_bytes_max());
            match self.framer.find(rest, self.scanned, bytes_max) {
                Found::Frame { start, end, next } => {
                    self.scanned = 0;
                    consumed += next;
                    self.handler.frame_received(transport, &rest[start..end]);
                    if consumed < data.len() && !transport.is_reading() {
                        break;
                    }
                }
                Found::Partial { scanned, needed_bytes } => {
                    self.scanned = scanned;
                    let input_bytes_max = self.framer.input_bytes_max(bytes_max).max(needed_bytes);
                    self.room.raise(transport, rest.len().max(needed_bytes), input_bytes_max);
                    self.set_low_mark(transport, needed_bytes);
                    break;
                }
                Found::Broken(error) => {
                    self.handler.framing_error(transport, &error);
                    transport.close_for(error);
                    break;
                }
            }
        }
        consumed
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, rest: &[u8]) {
        self.handler.eof_received(transport, rest);
    }
}
