// The command line.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

const USAGE: &str = "usage: [--links] [--max-bytes=N] [--timeout=SECONDS] [--ca=FILE] URL [FILE]";
const BYTES_MAX: u64 = 1 << 30;
/// A page is kept in memory for its links.
const PAGE_BYTES_MAX: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) struct Options {
    pub(crate) url: Url,
    pub(crate) file: Option<PathBuf>,
    pub(crate) links: bool,
    pub(crate) timeout: Duration,
    pub(crate) ca: Option<PathBuf>,
    bytes_max: Option<u64>,
}

impl Options {
    pub(crate) fn from_arguments() -> Result<Options, String> {
        let (mut links, mut timeout, mut bytes_max, mut ca) = (false, TIMEOUT, None, None);
        let mut names = Vec::new();
        for argument in std::env::args_os().skip(1) {
            match argument.to_str() {
                Some("--links") => links = true,
                Some(text) if text.starts_with("--") => {
                    let (flag, value) = text.split_once('=').unwrap_or((text, ""));
                    let bad = || format!("{text:?} is not understood; {USAGE}");
                    match flag {
                        "--max-bytes" => bytes_max = Some(value.parse().map_err(|_| bad())?),
                        "--timeout" => {
                            let seconds = value.parse().map_err(|_| bad())?;
                            timeout = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
                        }
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
        let url = Url::parse(&url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
        Ok(Options { url, file: file.map(PathBuf::from), links, timeout, ca, bytes_max })
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max.unwrap_or(if self.links { PAGE_BYTES_MAX } else { BYTES_MAX })
    }
}
