//! Frames of any kind: one adapter, and what finds the frames.

use super::{FRAME_BYTES_MAX, FramingError, Room};
use switchboard::{Protocol, Transport};

/// Finds frames in bytes: a description of a framing, without state.
pub trait Framer: 'static {
    /// Looks for the frame that `data` begins with; `data` is never empty.
    ///
    /// `frame_bytes_max` is how many bytes it may have, by [`FrameHandler::frame_bytes_max`]; one with more is
    /// [`Found::Broken`] by [`FramingError::LengthOverMax`] or the like, as soon as its length is known.
    ///
    /// `scanned` is what the last [`Found::Partial`] answered for the same beginning of a frame, 0 for a new one: so much
    /// need not be looked at again.
    fn find(&self, data: &[u8], scanned: usize, frame_bytes_max: usize) -> Found;

    /// How many bytes a frame may have unless its handler says otherwise. The default implementation returns 16,384.
    fn frame_bytes_max(&self) -> usize {
        FRAME_BYTES_MAX
    }

    /// The most bytes that a whole frame of up to `frame_bytes_max` bytes takes, with all that belongs to it, such as a
    /// delimiter. Memory for input of a connection is bounded by it, or by what [`Found::Partial`] says to be needed. The
    /// default implementation returns `frame_bytes_max`.
    fn input_bytes_max(&self, frame_bytes_max: usize) -> usize {
        frame_bytes_max
    }
}

/// What a [`Framer`] has found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// A frame.
    Frame {
        /// Where its content begins.
        start: usize,
        /// Where its content ends.
        end: usize,
        /// Where the next frame begins: more than 0, and at most what there is.
        next: usize,
    },
    /// Only the beginning of a frame.
    Partial {
        /// So many bytes need not be looked at again.
        scanned: usize,
        /// As long as there are fewer bytes there is no sense in looking; 0 where that is not known.
        needed_bytes: usize,
    },
    /// No frame.
    Broken(FramingError),
}

/// What [`Framed`] makes a [`Protocol`] from: only `frame_received` must be written.
pub trait FrameHandler: 'static {
    /// A frame has come, without what marks it as one.
    fn frame_received(&mut self, transport: &mut Transport<'_>, frame: &[u8]);

    /// How many bytes a frame may have; `set` is the framer's own [maximum](Framer::frame_bytes_max), which the default
    /// implementation returns. Asked before each frame, and again whenever more of its beginning is looked at: for
    /// protocols that allow little before a login.
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

/// A protocol that receives frames: a [`Framer`] says what they are, a [`FrameHandler`] what becomes of them.
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
    /// How much of the beginning of a frame was looked at in vain.
    scanned: usize,
    /// The low mark that was set.
    low_bytes: usize,
    room: Room,
}

impl<F: Framer, H: FrameHandler> Framed<F, H> {
    /// A protocol that hands the frames that `framer` finds to `handler`.
    pub fn new(framer: F, handler: H) -> Framed<F, H> {
        Framed { framer, handler, scanned: 0, low_bytes: 0, room: Room::default() }
    }

    /// No call before there is so much.
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
