// The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Credentials;
use url::Url;

const USAGE: &str = "usage: [--links] [--find=TEXT] [--retrieve] [--user=NAME:PASSWORD | --user=@FILE] [--max-bytes=N] \
                     [--timeout=SECONDS] [--ca=FILE] URL [FILE]";
const BYTES_MAX: u64 = 1 << 30;
/// A page is kept in memory for its links.
const PAGE_BYTES_MAX: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) struct Options {
    pub(crate) url: Url,
    pub(crate) file: Option<PathBuf>,
    /// Whether it is saved to a file with a name that the system chooses.
    pub(crate) retrieve: bool,
    /// Which links of the page are wanted: those whose text contains this.
    pub(crate) links: Option<String>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) timeout: Duration,
    pub(crate) ca: Option<PathBuf>,
    bytes_max: Option<u64>,
}

impl Options {
    pub(crate) fn from_arguments() -> Result<Options, String> {
        let (mut links, mut timeout, mut bytes_max, mut ca) = (None, TIMEOUT, None, None);
        let (mut retrieve, mut user) = (false, None);
        let mut names = Vec::new();
        for argument in std::env::args_os().skip(1) {
            match argument.to_str() {
                // Every text contains the empty one.
                Some("--links") => links = Some(String::new()),
                Some("--retrieve") => retrieve = true,
                Some(text) if text.starts_with("--") => {
                    let (flag, value) = text.split_once('=').unwrap_or((text, ""));
                    let bad = || format!("{text:?} is not understood; {USAGE}");
                    match flag {
                        "--max-bytes" => bytes_max = Some(value.parse().map_err(|_| bad())?),
                        "--timeout" => {
                            let seconds = value.parse().map_err(|_| bad())?;
                            timeout = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
                        }
                        "--find" if !value.is_empty() => links = Some(value.to_owned()),
                        "--user" => user = Some(value.to_owned()),
                        "--ca" if !value.is_empty() => ca = Some(PathBuf::from(value)),
                        _ => return Err(bad()),
                    }
                }
                _ => names.push(argument),
            }
        }
        let mut names = names.into_iter();
        let (Some(url), file, None) = (names.next(), names.next(), names.next()) else { return Err(USAGE.to_owned()) };
        let url = url.to_string_lossy();
        let url = Url::parse(&url).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        if retrieve && (file.is_some() || links.is_some()) {
            return Err(format!("--retrieve takes no FILE, and prints no links; {USAGE}"));
        }
        let credentials = user.map(|user| Credentials::new(&read_user(user)?, &url)).transpose()?;
        let file = file.map(PathBuf::from);
        Ok(Options { url, file, retrieve, links, credentials, timeout, ca, bytes_max })
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max.unwrap_or(if self.links.is_some() { PAGE_BYTES_MAX } else { BYTES_MAX })
    }
}

/// Returns the first line of a file, for a password that must not be in the arguments, which all users of a machine can
/// see.
fn read_user(user: String) -> Result<String, String> {
    let Some(path) = user.strip_prefix('@') else { return Ok(user) };
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
