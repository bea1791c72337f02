//! What a telnet client can say beside its text.

/// What a telnet client can say beside its text; see [`LineHandler::telnet_command`](super::LineHandler::telnet_command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TelnetCommand {
    /// The break key.
    Break,
    /// The interrupt key: what is running should end.
    Interrupt,
    /// What is being written should not be shown.
    AbortOutput,
    /// Is anybody there? Any line is an answer.
    AreYouThere,
    /// The last character should be taken back.
    EraseCharacter,
    /// The line under way should be taken back.
    EraseLine,
}
