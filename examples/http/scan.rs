// How far text of a kind reaches. What may be long is looked at in words of eight bytes.

/// A class of bytes, as a table.
pub(crate) type Class = [bool; 256];

const DEL: u8 = 0x7f;

/// One in each byte, so that a product has a byte in each.
const EACH: u64 = u64::from_ne_bytes([1; 8]);

/// Returns the class of letters, digits and these others.
pub(crate) const fn class(others: &[u8]) -> Class {
    let mut class = [false; 256];
    let mut byte = 0;
    while byte < DEL {
        class[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut n = 0;
    while n < others.len() {
        class[others[n] as usize] = true;
        n += 1;
    }
    class
}

/// Returns how many bytes of a class `text` begins with.
pub(crate) fn count_of(class: &Class, text: &[u8]) -> usize {
    text.iter().position(|byte| !class[usize::from(*byte)]).unwrap_or(text.len())
}

/// Returns how many bytes `text` begins with that are `least` or above, and not DEL. `least` is a blank, or the next.
pub(crate) fn count_text(text: &[u8], least: u8) -> usize {
    let mut rest = text;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let others = others(u64::from_le_bytes(*word), least);
        if others != 0 {
            return text.len() - rest.len() + others.trailing_zeros() as usize / 8;
        }
        rest = behind;
    }
    let others = rest.iter().position(|byte| *byte < least || *byte == DEL).unwrap_or(rest.len());
    text.len() - rest.len() + others
}

/// Returns a word whose lowest bit is in the first of eight bytes that is below `least`, or DEL; 0 if none is.
fn others(word: u64, least: u8) -> u64 {
    // A difference has the highest bit of each byte that is smaller than what is subtracted, and perhaps of the bytes
    // above it, from which one may be borrowed. A byte that has that bit itself is text.
    let below = word.wrapping_sub(EACH * u64::from(least));
    let is_del = (word ^ (EACH * u64::from(DEL))).wrapping_sub(EACH);
    (below | is_del) & !word & (EACH << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_text_is_counted_to_its_first_other_byte() {
        let is_text = |byte: u8, least: u8| byte >= least && byte != DEL;
        for least in [b' ', b' ' + 1] {
            for other in 0..=255 {
                // Behind it there may be anything, so that a borrow would show.
                for behind in [b'a', least, 0, DEL, 0xff] {
                    for at in 0..20 {
                        let text = [&[b'a', 0xff, least][..], &b"z".repeat(at), &[other], &[behind; 9]].concat();
                        let expected = text.iter().position(|byte| !is_text(*byte, least)).unwrap_or(text.len());
                        assert_eq!(count_text(&text, least), expected, "{other} at {at}, {behind} behind it, {least}");
                    }
                }
            }
        }
    }
}
