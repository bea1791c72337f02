//! Commands from a telnet client.

/// A command that a telnet client sends among its text; see
/// [`LineHandler::telnet_command`](super::LineHandler::telnet_command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TelnetCommand {
    /// The break key.
    Break,
    /// The interrupt key: stop what is running.
    Interrupt,
    /// Do not show the output that is being written.
    AbortOutput,
    /// Is anybody there? Any line will do as a reply.
    AreYouThere,
    /// Erase the last character.
    EraseCharacter,
    /// Erase the current line.
    EraseLine,
}
