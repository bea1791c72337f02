//! Escapes bytes from a peer, so that they can be displayed safely (rule O1).

use std::fmt::{self, Write};

/// Displays bytes from a peer so that they cannot move the cursor, forge a line or change a title.
///
/// Printable text is unchanged, including valid UTF-8. A backslash becomes `\\`; newline, carriage return and tab
/// become `\n`, `\r` and `\t`; all other control characters, and those that change the direction of text or are
/// invisible, become `\u{...}` (`\x..` below 128); a byte that is not part of valid UTF-8 becomes `\x..`. The output
/// can be read back: no two inputs look the same.
///
/// Takes O(n) time and allocates nothing.
///
/// ```
/// assert_eq!(switchboard::escape(b"caf\xc3\xa9 \x1b[2J\xff\n").to_string(), r"café \x1b[2J\xff\n");
/// ```
pub fn escape(bytes: &[u8]) -> Escaped<'_> {
    Escaped { bytes }
}

/// The result of [`escape`], which displays its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                write_char(f, character)?;
            }
            for byte in chunk.invalid() {
                fmt::write(f, format_args!("\\x{byte:02x}"))?;
            }
        }
        Ok(())
    }
}

fn write_char(f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    match character {
        '\\' => f.write_str("\\\\"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        ' '..='~' => f.write_char(character),
        '\0'..='\x7f' => fmt::write(f, format_args!("\\x{:02x}", u32::from(character))),
        _ if is_deceptive(character) => fmt::write(f, format_args!("\\u{{{:x}}}", u32::from(character))),
        _ => f.write_char(character),
    }
}

/// Returns whether a character beyond ASCII controls a terminal or deceives the eye instead of showing itself.
fn is_deceptive(character: char) -> bool {
    character.is_control() // C1, among them a one-character CSI
        || matches!(character,
            '\u{ad}' // soft hyphen
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // direction
            | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{feff}' // unseen
            | '\u{2028}' | '\u{2029}' // line and paragraph separators
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}') // annotations and tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_nothing_that_steers_a_terminal_comes_through() {
        for (bytes, shown) in [
            (&b"plain text ~"[..], "plain text ~"),
            (b"\x1b[2J", r"\x1b[2J"),
            (b"a\r\nb", r"a\r\nb"),
            (b"a\tb", r"a\tb"),
            (b"\\x1b", r"\\x1b"),
            (b"\x7f\x00", r"\x7f\x00"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            ("\u{202e}txt.exe".as_bytes(), r"\u{202e}txt.exe"),
            (b"\x9b", r"\x9b"),
            (b"\xe2\x82", r"\xe2\x82"),
            ("grün 電話 🦀".as_bytes(), "grün 電話 🦀"),
        ] {
            assert_eq!(escape(bytes).to_string(), shown);
        }
    }

    #[test]
    fn o1_every_single_byte_and_every_character_is_harmless() {
        for byte in 0..=255u8 {
            let shown = escape(&[byte]).to_string();
            assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)), "{byte:#x} is shown as {shown:?}");
        }
        for character in '\0'..=char::MAX {
            let shown = escape(character.to_string().as_bytes()).to_string();
            assert!(!shown.chars().any(|c| c.is_control() || is_deceptive(c)), "{character:?} is shown as {shown:?}");
        }
    }
}
