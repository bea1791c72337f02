//! Inputs that are made from others.

/// xorshift64*: good enough for choices, and a few instructions each.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // The state must not be 0, and close seeds must not begin alike.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.number();
        random.number();
        random
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.number()) * end as u128) >> 64) as usize
    }
}

/// The longest input that is made.
pub const INPUT_BYTES_MAX: usize = 4096;

/// Makes an input from one of the corpus, in `out`.
pub fn mutate(corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random, out: &mut Vec<u8>) {
    out.clear();
    if corpus.is_empty() || random.below(32) == 0 {
        // From nothing: what no entry of the corpus begins like.
        let length = random.below(64);
        out.extend((0..length).map(|_| random.number() as u8));
    } else {
        out.extend_from_slice(&corpus[random.below(corpus.len())]);
    }
    // Mostly a few changes, seldom many.
    let changes = 1 + (random.number() & random.number() & 15) as usize;
    for _ in 0..changes {
        change(corpus, words, random, out);
    }
    out.truncate(INPUT_BYTES_MAX);
}

fn change(corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random, out: &mut Vec<u8>) {
    const INTERESTING: &[u8] = &[0, 1, b'\r', b'\n', b' ', b'0', b'9', b':', b',', 127, 128, 240, 254, 255];
    let at = random.below(out.len() + 1);
    let end = at + random.below((out.len() - at + 1).min(32));
    match random.below(9) {
        0 if at < out.len() => out[at] ^= 1 << random.below(8),
        1 if at < out.len() => out[at] = random.number() as u8,
        2 if at < out.len() => out[at] = INTERESTING[random.below(INTERESTING.len())],
        3 => drop(out.drain(at..end)),
        4 => {
            let copied = out[at..end].to_vec();
            insert(out, at, &copied);
        }
        5 | 6 if !words.is_empty() => insert(out, at, words[random.below(words.len())]),
        7 if !corpus.is_empty() => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            out.truncate(at);
            out.extend_from_slice(&other[from..]);
        }
        8 => {
            // Digits are often lengths.
            if let Some(digit) = out[at..].iter().position(u8::is_ascii_digit) {
                out[at + digit] = b'0' + random.below(10) as u8;
            }
        }
        _ => insert(out, at, &[random.number() as u8]),
    }
}

fn insert(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if out.len() + bytes.len() <= INPUT_BYTES_MAX {
        out.splice(at..at, bytes.iter().copied());
    }
}

/// Returns the shortest input that was found with which `fails` still returns true: parts are left out, bytes made 0.
pub fn shrink(mut input: Vec<u8>, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut length = input.len().next_power_of_two();
    while length > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + length).min(input.len()));
            if fails(&shorter) {
                input = shorter;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    for at in 0..input.len() {
        let before = std::mem::take(&mut input[at]);
        if !fails(&input) {
            input[at] = before;
        }
    }
    input
}
