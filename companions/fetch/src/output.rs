// The output. Writing may block, so it is done in a separate thread, which tells the loop when it is done.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use switchboard::{Completion, Context};
use tempfile::NamedTempFile;

const PIECE_BYTES: usize = 64 << 10;

/// As many as Linux follows.
const LINKS_MAX: u32 = 40;

pub(crate) enum Work {
    Write(Vec<u8>),
    /// A file, and how long it may be.
    Copy(PathBuf, u64),
    /// The end of the output. The reply is the page, if that is kept.
    End,
    /// What goes to stdout besides the page.
    Print(Vec<u8>),
}

type Done = Result<Vec<u8>, String>;

/// The loop's side.
pub(crate) struct Output {
    jobs: mpsc::Sender<(Work, Completion<Done>)>,
    bar: ProgressBar,
}

impl Output {
    pub(crate) fn start(mut destination: Destination) -> Result<Output, String> {
        let (jobs, received) = mpsc::channel::<(Work, Completion<Done>)>();
        let bar = destination.bar.clone();
        // It is not joined: even if it hangs at a stopped terminal, the program can end.
        let started = thread::Builder::new().spawn(move || {
            for (work, done) in received {
                let _ = done.complete(destination.work(work));
            }
        });
        match started {
            Ok(_) => Ok(Output { jobs, bar }),
            Err(error) => Err(format!("cannot start a thread: {error}")),
        }
    }

    /// Makes the other thread do this after its earlier work, and then calls `then`.
    pub(crate) fn submit(
        &self,
        context: &mut Context<'_>,
        work: Work,
        then: impl FnOnce(&mut Context<'_>, Done) + 'static,
    ) {
        let call = move |context: &mut Context<'_>, done: Option<Done>| {
            then(context, done.unwrap_or_else(|| Err("the thread that writes is gone".to_owned())));
        };
        match context.completion(call) {
            Ok(done) => drop(self.jobs.send((work, done))),
            Err(error) => log::error!("cannot wait for another thread: {error}"), // There is a slot for each of few.
        }
    }

    /// Sets the number of bytes that are expected.
    pub(crate) fn expect(&self, bytes: u64) {
        expect(&self.bar, bytes);
    }

    /// Clears the terminal's line for the next output.
    pub(crate) fn hide_progress(&self) {
        self.bar.finish_and_clear();
    }
}

/// The other thread's side.
pub(crate) struct Destination {
    to: To,
    page: Option<Vec<u8>>,
    bar: ProgressBar,
}

enum To {
    Stdout,
    File(File),
    Nowhere,
}

impl Destination {
    /// Stdout gets either the page or its links.
    pub(crate) fn new(saved: Option<&SavedFile>, keeps_page: bool) -> Result<Destination, String> {
        let to = match saved {
            Some(saved) => To::File(saved.temporary.as_file().try_clone().map_err(|error| error.to_string())?),
            None if keeps_page => To::Nowhere,
            None => To::Stdout,
        };
        let shows = saved.is_some() && io::stderr().is_terminal();
        let target = if shows { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        set_style(&bar, "{spinner} {bytes} ({bytes_per_sec})");
        Ok(Destination { to, page: keeps_page.then(Vec::new), bar })
    }

    fn work(&mut self, work: Work) -> Done {
        let cannot_write = |error: io::Error| format!("cannot write: {error}");
        match work {
            Work::Write(piece) => self.write(&piece).map_err(cannot_write)?,
            Work::Copy(path, bytes_max) => self.copy(&path, bytes_max)?,
            Work::End => {
                match &self.to {
                    To::Stdout => io::stdout().flush(),
                    To::File(file) => file.sync_all(),
                    To::Nowhere => Ok(()),
                }
                .map_err(cannot_write)?;
                return Ok(self.page.take().unwrap_or_default());
            }
            Work::Print(lines) => {
                let mut stdout = io::stdout();
                stdout.write_all(&lines).and_then(|()| stdout.flush()).map_err(cannot_write)?;
            }
        }
        Ok(Vec::new())
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.to {
            To::Stdout => io::stdout().write_all(piece)?,
            To::File(file) => file.write_all(piece)?,
            To::Nowhere => {}
        }
        if let Some(page) = &mut self.page {
            page.extend_from_slice(piece);
        }
        self.bar.inc(piece.len() as u64);
        Ok(())
    }

    fn copy(&mut self, path: &Path, bytes_max: u64) -> Result<(), String> {
        let cannot_read = |error: io::Error| format!("cannot read {path:?}: {error}");
        let mut file = File::open(path).map_err(cannot_read)?;
        expect(&self.bar, file.metadata().map_err(cannot_read)?.len());
        let mut piece = vec![0; PIECE_BYTES];
        let mut left = bytes_max;
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot_read(error)),
            };
            left = left.checked_sub(count as u64).ok_or_else(|| format!("more than {bytes_max} bytes"))?;
            self.write(&piece[..count]).map_err(|error| format!("cannot write: {error}"))?;
        }
    }
}

fn expect(bar: &ProgressBar, bytes: u64) {
    bar.set_length(bytes);
    set_style(bar, "{bar:32} {bytes} of {total_bytes} ({bytes_per_sec}, {eta})");
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// A file that appears under its name when it is complete. Until then it has a temporary name in the same folder, and
/// is removed if this is dropped.
pub(crate) struct SavedFile {
    temporary: NamedTempFile,
    /// `None` for one that keeps its temporary name.
    path: Option<PathBuf>,
}

impl SavedFile {
    /// Creates a file with a name that the system chooses, which no other user can read.
    pub(crate) fn temporary() -> Result<SavedFile, String> {
        let temporary = tempfile::Builder::new().prefix("fetch-").tempfile();
        let temporary = temporary.map_err(|error| format!("cannot make a temporary file: {error}"))?;
        Ok(SavedFile { temporary, path: None })
    }

    pub(crate) fn begin(path: &Path) -> Result<SavedFile, String> {
        // If the path is a link, its target is replaced, not the link.
        let path = follow_links(path)?;
        if path.exists() && !path.is_file() {
            return Err(format!("{path:?} exists and is not a regular file"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        let permissions: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666); // Minus the umask.
        #[cfg(unix)]
        builder.permissions(permissions);
        let temporary = builder.prefix(".fetch-").tempfile_in(folder);
        let temporary = temporary.map_err(|error| format!("cannot write to {folder:?}: {error}"))?;
        Ok(SavedFile { temporary, path: Some(path) })
    }

    /// Its path until it is kept and, if it is temporary, from then on.
    pub(crate) fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames it to its final name.
    pub(crate) fn keep(self) -> Result<(), String> {
        match self.path {
            Some(path) => {
                let kept = self.temporary.persist(&path);
                kept.map(drop).map_err(|error| format!("cannot write {path:?}: {}", error.error))
            }
            None => self.temporary.keep().map(drop).map_err(|error| format!("cannot keep the file: {error}")),
        }
    }
}

/// Returns the final target of a link, which need not exist yet.
fn follow_links(path: &Path) -> Result<PathBuf, String> {
    let mut followed = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&followed) else { return Ok(followed) };
        followed = followed.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(format!("{path:?} has too many levels of symbolic links"))
}
