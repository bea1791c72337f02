//! Sessions of the mail server: a command gets a reply, a message is stored as it was sent, and only in order.

use crate::input::Input;
use crate::smtp::{Session, Step};

pub const WORDS: &[&[u8]] = &[
    b"EHLO a\n",
    b"HELO a\n",
    b"MAIL FROM:<a@b>\n",
    b"MAIL FROM:<> SIZE=100 BODY=8BITMIME\n",
    b"RCPT TO:<c@d>\n",
    b"RCPT TO:<\"x>y\"@d>\n",
    b"DATA\n",
    b".\n",
    b"..dots\n",
    b"RSET\n",
    b"STARTTLS\n",
    b"QUIT\n",
    b"NOOP\n",
    b"\r",
    b"EHLO a\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\ntext\n.\n",
];

/// The order of a session, as little as there is to it.
#[derive(Debug, Default)]
struct Order {
    greeted: bool,
    /// A sender is named, and how many recipients are.
    sender: Option<usize>,
    /// The lines of a message that is being sent.
    text: Option<Vec<u8>>,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut session = Session::new(input.byte() & 1 == 1);
    let mut order = Order::default();
    for line in input.rest().split(|byte| *byte == b'\n') {
        assert_eq!(session.is_in_message(), order.text.is_some(), "{order:?}");
        if line.len() > session.line_bytes_max() {
            let step = session.line_too_long();
            assert_eq!(matches!(step, Step::Nothing), order.text.is_some(), "{step:?}");
            if let Some(text) = &mut order.text {
                text.clear();
                // Whatever follows, it is refused at its end.
                text.push(0);
            }
            continue;
        }
        match session.line(line) {
            Step::Nothing => order.in_text(line),
            Step::Reply(reply) => order.replied(line, &reply),
            Step::Close(reply) => {
                assert!(reply.starts_with(['2', '4', '5']), "{reply}");
                return;
            }
            Step::Store(message) => {
                let text = order.text.take().expect("a message was sent");
                assert_eq!(line, b".");
                assert_eq!(Some(message.to.len()), order.sender.take().filter(|to| *to > 0));
                assert_eq!(message.text, text, "the text without the doubled dots");
                assert!(!message.client.is_empty());
            }
            Step::StartTls => {
                session = session.secured();
                order = Order::default();
            }
        }
    }
}

impl Order {
    fn in_text(&mut self, line: &[u8]) {
        let text = self.text.as_mut().expect("only a line of a message gets no reply");
        let is_refused = text.first() == Some(&0) || line.contains(&b'\r');
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        text.extend_from_slice(b"\r\n");
        if is_refused {
            text[0] = 0;
        }
    }

    fn replied(&mut self, line: &[u8], reply: &str) {
        let lines: Vec<&str> = reply.split("\r\n").collect();
        let (last, others) = lines.split_last().expect("a split has one part");
        let is_reply = |line: &str, behind: char| {
            line.len() > 4 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && line.chars().nth(3) == Some(behind)
        };
        assert!(is_reply(last, ' ') && others.iter().all(|line| is_reply(line, '-')), "{reply:?}");
        assert!(reply.split("\r\n").all(|line| line[..3] == reply[..3]));
        if let Some(text) = self.text.take() {
            assert!(line == b"." && text.first() == Some(&0) && reply.starts_with('5'), "{reply:?}");
            self.sender = None;
            return;
        }
        let verb: String = line.iter().take_while(|byte| **byte != b' ').map(|byte| *byte as char).collect();
        match (&*verb.to_ascii_uppercase(), reply.as_bytes()[0]) {
            ("EHLO" | "HELO", b'2') => {
                self.greeted = true;
                self.sender = None;
            }
            ("MAIL", b'2') => {
                assert!(self.greeted && self.sender.is_none(), "{self:?}");
                self.sender = Some(0);
            }
            ("RCPT", b'2') => *self.sender.as_mut().expect("a sender is named before") += 1,
            ("DATA", b'3') => {
                assert!(self.sender.is_some_and(|recipients| recipients > 0), "{self:?}");
                self.text = Some(Vec::new());
            }
            ("RSET", b'2') => self.sender = None,
            (_, first) => assert!(first == b'2' || first == b'4' || first == b'5', "{reply:?}"),
        }
    }
}
