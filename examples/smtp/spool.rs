// Stores mail in Maildir format: a file for each message in a folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::super::support::say;
use super::session::Message;
use switchboard::escape;

/// Removes `--maildir FOLDER` from the arguments.
pub(crate) fn take_maildir(arguments: &mut Vec<String>) -> Option<String> {
    let place = arguments.iter().position(|argument| argument == "--maildir")?;
    if place + 1 < arguments.len() { arguments.drain(place..place + 2).nth(1) } else { None }
}

pub(crate) struct Spool {
    /// If `None`, mail is printed and discarded.
    folder: Option<PathBuf>,
    count: AtomicU64,
}

impl Spool {
    pub(crate) fn new(folder: Option<String>) -> io::Result<Spool> {
        let folder = folder.map(PathBuf::from);
        for part in ["tmp", "new"] {
            folder.iter().try_for_each(|folder| fs::create_dir_all(folder.join(part)))?;
        }
        Ok(Spool { folder, count: AtomicU64::new(0) })
    }

    /// Stores a message. Once this returns, the message survives a crash. Blocks.
    pub(crate) fn store(&self, message: &Message) -> io::Result<()> {
        let Message { client, from, to, text, is_secure, .. } = message;
        if let Some(folder) = &self.folder {
            let now = SystemTime::now();
            let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let name = format!("{seconds}.P{}Q{count:06}.localhost", process::id());
            let unfinished = folder.join("tmp").join(&name);
            let date = httpdate::fmt_http_date(now).replace("GMT", "+0000");
            let mut file = File::create_new(&unfinished)?;
            let protocol = if *is_secure { "ESMTPS" } else { "ESMTP" };
            write!(file, "Return-Path: <{from}>\r\nReceived: from {client} by localhost with {protocol}; {date}\r\n")?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(unfinished, folder.join("new").join(name))?;
            File::open(folder.join("new"))?.sync_all()?;
        }
        if cfg!(test) {
            return Ok(()); // Tests would print thousands of lines.
        }
        let to: Vec<String> = to.iter().map(|to| format!("<{}>", escape(to.as_bytes()))).collect();
        say(format_args!("mail from <{}> to {}: {} bytes", escape(from.as_bytes()), to.join(", "), text.len()));
        Ok(())
    }
}
