//! Fetches a URL, like the tutorial's `urlopen` and `urlretrieve`, on the loop.
//!
//! Run `cargo run --package fetch -- http://127.0.0.1:8000/ page.html` while `python3 -m http.server 8000` runs. Without
//! a file the page goes to stdout; a file appears under its name only when it is complete, and an incomplete one is
//! removed, so there is nothing to clean up (except after SIGKILL). On a terminal a progress bar is shown.
//!
//! `--links` prints the links of the page instead, as absolute URLs, one a line; `--find=TEXT` prints those whose text
//! contains this. `--retrieve` saves to a temporary file, like `urlretrieve` without a name, and prints its path and
//! the headers of the answer; the file is kept. `--user=NAME:PASSWORD`, or `--user=@FILE` with that in the file's first
//! line, uses Basic authentication: for the server of the URL, and not for others that a redirect leads to.
//! `--max-bytes=N` and `--timeout=SECONDS` set limits (1 GiB and 300 s by default, 16 MiB for a page whose links are
//! printed). `file:` URLs are read, `http:` and `https:` ones requested; up to ten redirects are followed, but not to a
//! file or from `https:` to `http:`. An error is printed as one line, and the exit code is 1.
//!
//! A server of an `https:` URL needs a certificate with its name from an authority that the system trusts, or that is
//! in the file of `--ca=FILE`. A page of unknown length is complete when the server says so: a truncated one is an
//! error.
//!
//! The output is written in another thread, a piece at a time, and meanwhile nothing is read: so neither a slow disk
//! nor a stopped terminal holds up the loop, and neither costs memory.

#![forbid(unsafe_code)]

#[path = "../../../examples/http/body.rs"] // A part of the example `http_server`, too.
#[allow(dead_code)] // What is of requests.
mod body;
mod credentials;
mod head;
mod links;
mod options;
mod output;
mod trust;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;

use body::Body;
use credentials::Credentials;
use head::Head;
use links::find_links;
use options::Options;
use output::{Destination, Output, SavedFile, Work};
use switchboard::{CloseReason, Connect, ConnectError, Context, EventLoop, Limit, Protocol, Transport, escape};
use trust::{Trust, may_follow};
use url::{Host, Position, Url};

const REDIRECTS_MAX: u32 = 10;

/// The longest head of an answer, and the longest trailer.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// The state of a fetch, shared by its connections, one after the other.
struct Fetch {
    output: Output,
    bytes_max: u64,
    trust: Trust,
    /// The URL of the page, after the redirects so far.
    url: RefCell<Url>,
    redirects: Cell<u32>,
    /// Dropped when a redirect leads to another server, even if a later one leads back.
    credentials: RefCell<Option<Credentials>>,
    /// The fields of the answer.
    headers: RefCell<String>,
    /// The page, if its links are wanted; or the first error.
    outcome: RefCell<Option<Result<Vec<u8>, String>>>,
}

impl Fetch {
    fn begin(self: &Rc<Self>, context: &mut Context<'_>) {
        let url = self.url.borrow().clone();
        let begun = match url.scheme() {
            "http" | "https" => self.ask(context, &url),
            "file" => self.read_file(context, &url),
            other => Err(format!("{other}: is not supported, only http:, https: and file:")),
        };
        if let Err(error) = begun {
            self.finish(context, Err(error));
        }
    }

    fn ask(self: &Rc<Self>, context: &mut Context<'_>, url: &Url) -> Result<(), String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with a user's name is not supported".to_owned());
        }
        let port = url.port_or_known_default().unwrap_or(80);
        let host = url.host().ok_or("the URL names no host")?;
        let mut server = match host {
            Host::Domain(name) => Connect::to((name, port)),
            Host::Ipv4(ip) => Connect::to(std::net::SocketAddr::from((ip, port))),
            Host::Ipv6(ip) => Connect::to(std::net::SocketAddr::from((ip, port))),
        };
        if url.scheme() == "https" {
            server = server.filter(self.trust.filter(&host)?);
        }
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: switchboard-fetch\r\nAccept: */*\r\nConnection: close\r\n{}\r\n",
            &url[Position::BeforePath..Position::AfterQuery],
            &url[Position::BeforeHost..Position::AfterPort],
            credentials::header(&mut self.credentials.borrow_mut(), url),
        );
        let answer = Answer { fetch: self.clone(), request, state: State::Head { searched: 0 }, bytes: 0 };
        context.connect(server, answer).map_err(|error| format!("cannot connect: {error}"))?;
        Ok(())
    }

    fn read_file(self: &Rc<Self>, context: &mut Context<'_>, url: &Url) -> Result<(), String> {
        let path = url.to_file_path().map_err(|()| "the URL names no local file".to_owned())?;
        let fetch = self.clone();
        self.output.submit(context, Work::Copy(path, self.bytes_max), move |context, result| match result {
            Ok(_) => fetch.whole(context),
            Err(error) => fetch.finish(context, Err(error)),
        });
        Ok(())
    }

    /// Everything was passed to the other thread: the fetch is done once that has written it.
    fn whole(self: &Rc<Self>, context: &mut Context<'_>) {
        let fetch = self.clone();
        self.output.submit(context, Work::End, move |context, result| fetch.finish(context, result));
    }

    fn print(self: &Rc<Self>, context: &mut Context<'_>, lines: String) {
        let fetch = self.clone();
        self.output
            .submit(context, Work::Print(lines.into_bytes()), move |context, result| fetch.finish(context, result));
    }

    /// The links of the page whose text contains this.
    fn links(&self, page: &[u8], text: &str) -> Result<String, String> {
        let links = find_links(page, &self.url.borrow());
        let lines =
            links.iter().filter(|link| link.says(text)).map(|link| format!("{}\n", escape(link.url.as_bytes())));
        let lines: String = lines.collect();
        match lines.is_empty() && !text.is_empty() {
            true => Err(format!("no link has the text {text:?}")),
            false => Ok(lines),
        }
    }

    fn take_outcome(&self) -> Result<Vec<u8>, String> {
        self.outcome.take().unwrap_or_else(|| Err("ended".to_owned()))
    }

    /// The first outcome counts.
    fn finish(&self, context: &mut Context<'_>, outcome: Result<Vec<u8>, String>) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        context.stop();
    }

    fn too_long(&self) -> String {
        format!("more than {} bytes", self.bytes_max)
    }
}

/// One connection: a request, and the answer to it.
struct Answer {
    fetch: Rc<Fetch>,
    request: String,
    state: State,
    /// Of the body, so far.
    bytes: u64,
}

enum State {
    /// The end of the head was searched for up to here.
    Head {
        searched: usize,
    },
    Body(Body),
    /// Further input is ignored.
    Over,
}

impl Answer {
    /// Returns how much of `data` was consumed.
    fn take(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Result<usize, String> {
        match &mut self.state {
            State::Head { searched } => match Head::parse(data, searched)? {
                Some(head) => self.take_head(transport, head),
                None => Ok(0),
            },
            State::Body(_) => self.take_body(transport, data),
            State::Over => Ok(data.len()),
        }
    }

    fn take_head(&mut self, transport: &mut Transport<'_>, head: Head) -> Result<usize, String> {
        match head.status {
            100 | 102..=199 => self.state = State::Head { searched: 0 }, // The answer is still to come.
            301 | 302 | 303 | 307 | 308 => self.redirect(transport, &head)?,
            200..=205 | 207..=299 => {
                let body = head.body()?;
                if let Some(length) = body.length() {
                    if length > self.fetch.bytes_max {
                        return Err(self.fetch.too_long());
                    }
                    self.fetch.output.expect(length);
                }
                let is_over = body.is_over();
                self.fetch.headers.borrow_mut().clone_from(&head.shown);
                self.state = State::Body(body);
                if is_over {
                    self.end(transport);
                }
            }
            status => return Err(format!("the server answered {status} {}", escape(head.reason.as_bytes()))),
        }
        Ok(head.bytes)
    }

    fn redirect(&mut self, transport: &mut Transport<'_>, head: &Head) -> Result<(), String> {
        let fetch = self.fetch.clone();
        let location = head.location.as_deref().ok_or("a redirect without a location")?;
        let shown = escape(location.as_bytes());
        let url = fetch.url.borrow().join(location).map_err(|error| format!("a redirect to {shown}: {error}"))?;
        may_follow(&fetch.url.borrow(), &url).map_err(|why| format!("a redirect to {shown} is not followed: {why}"))?;
        if fetch.redirects.get() == REDIRECTS_MAX {
            return Err(format!("more than {REDIRECTS_MAX} redirects"));
        }
        fetch.redirects.set(fetch.redirects.get() + 1);
        *fetch.url.borrow_mut() = url;
        self.state = State::Over;
        transport.abort();
        fetch.begin(&mut transport.context());
        Ok(())
    }

    fn take_body(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> Result<usize, String> {
        let State::Body(body) = &mut self.state else { return Ok(0) };
        let mut piece = Vec::new();
        let consumed = body.decode(data, &mut piece)?;
        let is_over = body.is_over();
        self.bytes += piece.len() as u64;
        if self.bytes > self.fetch.bytes_max {
            return Err(self.fetch.too_long());
        }
        if !piece.is_empty() {
            // Nothing more is read until this is written.
            transport.pause_reading();
            let (fetch, id) = (self.fetch.clone(), transport.id());
            self.fetch.output.submit(&mut transport.context(), Work::Write(piece), move |context, result| {
                if let Err(error) = result {
                    fetch.finish(context, Err(error));
                } else if let Some(mut transport) = context.connection(id) {
                    transport.resume_reading();
                }
            });
        }
        if is_over {
            self.end(transport);
        }
        Ok(consumed)
    }

    fn end(&mut self, transport: &mut Transport<'_>) {
        self.state = State::Over;
        self.fetch.whole(&mut transport.context());
        transport.close();
    }

    fn fail(&mut self, transport: &mut Transport<'_>, error: String) {
        self.state = State::Over;
        self.fetch.finish(&mut transport.context(), Err(error));
        transport.abort();
    }
}

impl Protocol for Answer {
    fn connection_made(&mut self, transport: &mut Transport<'_>) {
        transport.set_input_bytes_max(HEAD_BYTES_MAX);
        transport.write(self.request.as_bytes());
    }

    fn data_received(&mut self, transport: &mut Transport<'_>, data: &[u8]) -> usize {
        let mut consumed = 0;
        loop {
            match self.take(transport, &data[consumed..]) {
                Ok(0) => return consumed,
                Ok(count) => consumed += count,
                Err(error) => {
                    self.fail(transport, error);
                    return data.len();
                }
            }
            // Only heads repeat: any number of interim ones may precede the final answer.
            if !matches!(self.state, State::Head { .. }) {
                return consumed;
            }
        }
    }

    fn eof_received(&mut self, transport: &mut Transport<'_>, _: &[u8]) {
        match &self.state {
            State::Head { .. } => self.fail(transport, "the server hung up before it had answered".to_owned()),
            State::Body(Body::UntilClose) => self.end(transport),
            State::Body(_) => {
                let error = format!("the server hung up in the middle, after {} bytes", self.bytes);
                self.fail(transport, error);
            }
            State::Over => transport.close(),
        }
    }

    fn connect_failed(&mut self, transport: &mut Transport<'_>, error: ConnectError) {
        self.fail(transport, error.to_string());
    }

    fn connection_lost(&mut self, transport: &mut Transport<'_>, reason: CloseReason) {
        if !matches!(self.state, State::Over) {
            let error = match reason {
                CloseReason::Limit(Limit::InputBytes) => format!("more than {HEAD_BYTES_MAX} bytes of head"),
                reason => reason.to_string(),
            };
            self.fail(transport, error);
        }
    }
}

fn fetch(options: Options) -> Result<(), String> {
    let system = |error: std::io::Error| error.to_string();
    let bytes_max = options.bytes_max();
    let saved = match options.retrieve {
        true => Some(SavedFile::temporary()?),
        false => options.file.as_deref().map(SavedFile::begin).transpose()?,
    };
    let output = Output::start(Destination::new(saved.as_ref(), options.links.is_some())?)?;
    let mut event_loop = EventLoop::new().map_err(system)?;
    let fetch = Rc::new(Fetch {
        output,
        bytes_max,
        trust: Trust::new(options.ca),
        url: RefCell::new(options.url),
        redirects: Cell::new(0),
        credentials: RefCell::new(options.credentials),
        headers: RefCell::new(String::new()),
        outcome: RefCell::new(None),
    });
    let mut context = event_loop.context();
    end_on_signals(&mut context, &fetch).map_err(system)?;
    let (late, timeout) = (fetch.clone(), options.timeout);
    context.call_later(timeout, move |context| late.finish(context, Err(format!("not done within {timeout:?}"))));
    fetch.begin(&mut context);
    event_loop.run().map_err(system)?;

    let outcome = fetch.take_outcome();
    fetch.output.hide_progress();
    let page = outcome?;
    // The loop runs on while something is printed: the reader may be slow, and signals still work.
    let tell = |event_loop: &mut EventLoop, told: String| {
        fetch.print(&mut event_loop.context(), told);
        event_loop.run().map_err(system)?;
        fetch.take_outcome()
    };
    if let Some(saved) = saved {
        if options.retrieve {
            // If its path cannot be printed, it is removed.
            let told = format!("{}\n{}", saved.temporary_path().display(), fetch.headers.borrow());
            tell(&mut event_loop, told)?;
        }
        saved.keep()?;
    }
    if let Some(text) = options.links {
        tell(&mut event_loop, fetch.links(&page, &text)?)?;
    }
    Ok(())
}

#[cfg(unix)]
fn end_on_signals(context: &mut Context<'_>, fetch: &Rc<Fetch>) -> std::io::Result<()> {
    use switchboard::signals::{Signal, add_signal_handler};
    let fetch = fetch.clone();
    let end = move |context: &mut Context<'_>, signal| fetch.finish(context, Err(format!("ended by {signal}")));
    add_signal_handler(context, [Signal::INT, Signal::TERM], end)?;
    Ok(())
}

/// Elsewhere the system ends the process.
#[cfg(not(unix))]
fn end_on_signals(_: &mut Context<'_>, _: &Rc<Fetch>) -> std::io::Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    env_logger::init();
    match Options::from_arguments().and_then(fetch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
