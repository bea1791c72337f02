// The session of a mail server: its replies to lines, however they arrive (RFC 5321, and RFC 3207 for STARTTLS).

use std::borrow::Cow;
use std::mem;

/// The maximum length of a command, without its CRLF.
pub(crate) const COMMAND_BYTES_MAX: usize = 510;

/// The maximum length of a line of a message.
pub(crate) const TEXT_BYTES_MAX: usize = 998;

/// The maximum size of a message. Up to four times as much is read to its end, to be able to reply with a clear error.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The minimum that a server must accept.
const RECIPIENTS_MAX: usize = 100;

/// The reply to EHLO, after the name.
const EXTENSIONS: &str = "250-SIZE 1048576\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES";

/// A peer that makes this many errors is not a mail client.
const ERRORS_MAX: usize = 20;

pub(crate) const GREETING: &str = "220 localhost ESMTP";
pub(crate) const GO_AHEAD: &str = "220 2.0.0 begin TLS";
pub(crate) const TOO_MANY: &str = "421 4.3.2 too many connections\r\n";
pub(crate) const CLOSING: &str = "421 4.3.2 the service is shutting down";
pub(crate) const TOO_SLOW: &str = "421 4.4.2 timed out";
pub(crate) const STORED: &str = "250 2.6.0 stored";
pub(crate) const NOT_STORED: &str = "451 4.3.0 cannot store the message now";

#[derive(Debug, Default)]
pub(crate) struct Session {
    state: State,
    tls: Tls,
    /// The client's name, from EHLO or HELO.
    client: String,
    errors: usize,
}

/// Whether STARTTLS is offered, or TLS is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Tls {
    #[default]
    NotOffered,
    Offered,
    Begun,
}

#[derive(Debug, Default)]
enum State {
    /// EHLO or HELO is expected.
    #[default]
    Greeted,
    Ready,
    /// The sender was given.
    Mail(Message),
    /// A message is being received line by line. If it has an error, that is the reply at its end.
    Data(Message, Option<&'static str>),
}

#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) client: String,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: Vec<u8>,
    /// Whether it was received over TLS.
    pub(crate) is_secure: bool,
    /// Its size, including bytes that were not kept.
    bytes: usize,
}

/// What to do after a line.
#[derive(Debug)]
pub(crate) enum Step {
    /// Wait for the next line of a message.
    Nothing,
    Reply(Cow<'static, str>),
    /// Send this reply, then close the connection.
    Close(&'static str),
    /// Store the message, then reply [`STORED`] or [`NOT_STORED`].
    Store(Message),
    /// Reply [`GO_AHEAD`], begin TLS, and continue with [`Session::secured`].
    StartTls,
}

impl From<&'static str> for Step {
    fn from(reply: &'static str) -> Step {
        Step::Reply(reply.into())
    }
}

impl Session {
    pub(crate) fn new(offers_tls: bool) -> Session {
        Session { tls: if offers_tls { Tls::Offered } else { Tls::NotOffered }, ..Session::default() }
    }

    /// Returns the session over TLS. Earlier commands may have been injected, so they are forgotten, and EHLO is
    /// expected again.
    pub(crate) fn secured(&self) -> Session {
        Session { tls: Tls::Begun, errors: self.errors, ..Session::default() }
    }

    pub(crate) fn line_bytes_max(&self) -> usize {
        if self.is_in_message() { TEXT_BYTES_MAX } else { COMMAND_BYTES_MAX }
    }

    pub(crate) fn is_in_message(&self) -> bool {
        matches!(self.state, State::Data(..))
    }

    /// Handles a line, without its CRLF.
    pub(crate) fn line(&mut self, line: &[u8]) -> Step {
        if self.is_in_message() {
            return self.text(line);
        }
        let step = match std::str::from_utf8(line) {
            // Another server might take a bare CR or LF for a line end, and read one message as two.
            Ok(line) if !line.contains(['\r', '\n', '\0']) => self.command(line),
            _ => "500 5.5.2 a command must be one line of text".into(),
        };
        match &step {
            Step::Reply(reply) if reply.starts_with("50") => self.errors += 1,
            _ => return step,
        }
        if self.errors < ERRORS_MAX { step } else { Step::Close("421 4.7.0 too many errors") }
    }

    pub(crate) fn line_too_long(&mut self) -> Step {
        match &mut self.state {
            State::Data(_, fault) => {
                fault.get_or_insert("554 5.6.0 the message has a line that is too long");
                Step::Nothing
            }
            _ => "500 5.5.2 the line is too long".into(),
        }
    }

    fn command(&mut self, line: &str) -> Step {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match &*verb.to_ascii_uppercase() {
            "EHLO" => {
                let starttls = if self.tls == Tls::Offered { "250-STARTTLS\r\n" } else { "" };
                self.hello(rest, format!("250-localhost\r\n{starttls}{EXTENSIONS}").into())
            }
            "HELO" => self.hello(rest, "250 localhost".into()),
            "STARTTLS" => match self.tls {
                Tls::NotOffered => "502 5.5.1 not offered".into(),
                Tls::Begun => "503 5.5.1 TLS is already active".into(),
                Tls::Offered if rest.is_empty() => Step::StartTls,
                Tls::Offered => "501 5.5.4 STARTTLS takes no arguments".into(),
            },
            "MAIL" => self.mail(rest),
            "RCPT" => self.rcpt(rest),
            "DATA" => self.data(rest),
            "RSET" if rest.is_empty() => {
                self.state = if self.client.is_empty() { State::Greeted } else { State::Ready };
                "250 2.0.0 forgotten".into()
            }
            "NOOP" => "250 2.0.0 nothing done".into(),
            "VRFY" if !rest.is_empty() => "252 2.1.5 send it and see".into(),
            "HELP" => "214 2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY QUIT".into(),
            "QUIT" if rest.is_empty() => Step::Close("221 2.0.0 goodbye"),
            "RSET" | "VRFY" | "QUIT" => "501 5.5.4 wrong arguments for that command".into(),
            "EXPN" => "502 5.5.1 not offered".into(),
            _ => "500 5.5.2 no such command".into(),
        }
    }

    fn hello(&mut self, client: &str, reply: Cow<'static, str>) -> Step {
        if client.is_empty() || client.contains(' ') {
            return "501 5.5.4 give your name".into();
        }
        self.client = client.to_owned();
        self.state = State::Ready;
        Step::Reply(reply)
    }

    fn mail(&mut self, rest: &str) -> Step {
        match self.state {
            State::Greeted => return "503 5.5.1 say EHLO first".into(),
            State::Ready => {}
            State::Mail(_) | State::Data(..) => return "503 5.5.1 a sender was already given".into(),
        }
        let Some((from, parameters)) = path(rest, "FROM:") else { return "501 5.1.7 write MAIL FROM:<address>".into() };
        for parameter in parameters {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match &*name.to_ascii_uppercase() {
                "SIZE" => match value.parse::<usize>() {
                    Ok(0..=MESSAGE_BYTES_MAX) => {}
                    Ok(_) => return "552 5.3.4 the message is too long".into(),
                    Err(_) => return "501 5.5.4 SIZE needs a number".into(),
                },
                "BODY" if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => {}
                _ => return "555 5.5.4 no such parameter".into(),
            }
        }
        let (client, is_secure) = (self.client.clone(), self.tls == Tls::Begun);
        self.state = State::Mail(Message { client, from: from.to_owned(), is_secure, ..Message::default() });
        "250 2.1.0 sender accepted".into()
    }

    fn rcpt(&mut self, rest: &str) -> Step {
        let State::Mail(message) = &mut self.state else { return "503 5.5.1 say MAIL first".into() };
        let Some((to, parameters)) = path(rest, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return "501 5.1.3 write RCPT TO:<address>".into();
        };
        if parameters.count() > 0 {
            return "555 5.5.4 no such parameter".into();
        }
        if message.to.len() >= RECIPIENTS_MAX {
            return "452 4.5.3 too many recipients".into();
        }
        message.to.push(to.to_owned());
        "250 2.1.5 recipient accepted".into()
    }

    fn data(&mut self, rest: &str) -> Step {
        match mem::take(&mut self.state) {
            State::Mail(message) if rest.is_empty() && !message.to.is_empty() => {
                self.state = State::Data(message, None);
                "354 end the message with a dot on a line of its own".into()
            }
            state => {
                self.state = state;
                if rest.is_empty() {
                    "503 5.5.1 give a recipient first".into()
                } else {
                    "501 5.5.4 DATA takes no arguments".into()
                }
            }
        }
    }

    /// Handles a line of a message, or the dot that ends it.
    fn text(&mut self, line: &[u8]) -> Step {
        let State::Data(message, fault) = &mut self.state else { return Step::Nothing };
        if line == b"." {
            let (message, fault) = (mem::take(message), *fault);
            self.state = State::Ready;
            return fault.map_or(Step::Store(message), Step::from);
        }
        if line.contains(&b'\r') || line.contains(&b'\n') {
            fault.get_or_insert("554 5.6.0 the message has a bare CR or LF");
        }
        // A dot at the beginning of a line is doubled by the sender.
        let line = line.strip_prefix(b".").unwrap_or(line);
        message.bytes += line.len() + 2;
        if message.bytes > MESSAGE_BYTES_MAX {
            fault.get_or_insert("552 5.3.4 the message is too long");
        }
        if message.bytes > 4 * MESSAGE_BYTES_MAX {
            return Step::Close("552 5.3.4 the message is far too long");
        }
        match fault {
            None => message.text.extend([line, b"\r\n"].concat()),
            Some(_) => message.text = Vec::new(),
        }
        Step::Nothing
    }
}

/// Parses `FROM:<address> PARAMETERS` into the address and the parameters.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, impl Iterator<Item = &'a str>)> {
    let is_keyword = rest.get(..keyword.len())?.eq_ignore_ascii_case(keyword);
    let rest = rest[keyword.len()..].trim_start().strip_prefix('<').filter(|_| is_keyword)?;
    let mut is_quoted = false;
    let end = rest.char_indices().find(|(index, character)| {
        let is_escaped = is_quoted && rest[..*index].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        is_quoted ^= *character == '"' && !is_escaped;
        *character == '>' && !is_quoted
    });
    let (address, rest) = rest.split_at(end?.0);
    let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let parameters = rest[1..].strip_prefix(' ').or_else(|| rest[1..].is_empty().then_some(""))?;
    is_plain.then(|| (address, parameters.split_ascii_whitespace()))
}
