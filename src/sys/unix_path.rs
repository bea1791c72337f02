//! Unix sockets at paths: what is there, who owns it, and what may be replaced (rule N1).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{Domain, SockAddr, Socket, Type};

use super::habits::Habits;

/// How long to wait before a second try to connect to a socket that has refused: one that is bound and does not listen
/// yet refuses too.
const MOMENT: Duration = Duration::from_millis(50);

/// A path, and the inode that was there when this was made.
#[derive(PartialEq, Eq)]
pub(super) struct Inode {
    path: PathBuf,
    device: u64,
    number: u64,
    /// When it was last modified, which for a socket is when it was made.
    modified: (i64, i64),
}

impl Inode {
    pub(super) fn of(path: &Path, found: &Metadata) -> io::Result<Inode> {
        // The working directory may be another one by the time the path is unlinked.
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Inode { path: absolute(path)?, device: found.dev(), number: found.ino(), modified })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn is(&self, found: &Metadata) -> bool {
        (self.device, self.number) == (found.dev(), found.ino())
    }

    /// Unlinks the path of a socket that is open here, unless the path is gone or holds something else by now.
    pub(super) fn unlink(&self) -> io::Result<()> {
        match look(&self.path)? {
            Some(found) if self.is(&found) => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }

    /// Unlinks the path of a socket that no process has open. Returns whether it did; `false` if the path is gone.
    ///
    /// Between a check and an unlink another server could replace the socket with its own, even with one that has the
    /// same inode number. So a server gives the inode a second name before it unlinks it, which only one of several
    /// servers can do.
    fn unlink_stale(&self, now: SystemTime) -> io::Result<bool> {
        let claim = self.claim(now)?;
        let unlinked = match look(&self.path) {
            Ok(Some(found)) if Inode::of(&self.path, &found)? == *self => fs::remove_file(&self.path).map(|()| true),
            Ok(Some(_)) => Err(in_use()),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        if let Some(claim) = claim {
            let _ = fs::remove_file(claim);
        }
        unlinked
    }

    /// Gives a stale socket the name by which servers tell each other that it is being unlinked. Returns `None` if that
    /// is impossible: in a file system without hard links, and for another user's socket.
    fn claim(&self, now: SystemTime) -> io::Result<Option<PathBuf>> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".stale-{:x}-{:x}-{:x}", self.number, self.modified.0, self.modified.1));
        let claim = PathBuf::from(name);
        match fs::hard_link(&self.path, &claim) {
            Ok(()) => Ok(Some(claim)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_recent(&claim, now) => Err(in_use()),
            // The process that made it was killed before it had finished.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(claim)),
            Err(_) => Ok(None),
        }
    }
}

/// Returns whether a claim was made within the last second. A claim is normally held for a few microseconds.
fn is_recent(claim: &Path, now: SystemTime) -> bool {
    let Ok(found) = fs::symlink_metadata(claim) else { return true };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Making the link has changed the inode.
    now.as_secs().saturating_sub(u64::try_from(found.ctime()).unwrap_or_default()) <= 1
}

/// Binds a socket of this type to a path, on a system with these habits. A socket that no process has open any more is
/// replaced, where that can be detected: it refuses twice, on a system where no busy server would. A datagram socket
/// refuses only if it is gone.
///
/// Trying more often proves nothing about a busy server, whose backlog may stay full, and another program's server has
/// no lock file beside the path.
pub(super) fn bind_to_path(socket: &Socket, path: &Path, kind: Type, habits: &Habits) -> io::Result<Inode> {
    let refusal_is_stale = kind == Type::DGRAM || !habits.full_backlog_refuses;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if refusal_is_stale {
                remove_stale(path, kind, &wait_a_moment)?;
            } else if let Some(_refusing) = refusing(path, kind)? {
                let what = "the socket at this path refuses connections: it is stale (see remove_stale_socket) or busy";
                return Err(io::Error::new(error.kind(), what));
            }
            socket.bind(&address)?;
        }
        result => result?,
    }
    Inode::of(path, &fs::symlink_metadata(path)?)
}

/// Removes the Unix socket at a path if nobody listens on it, as after a crash. Returns whether it did; `false` if
/// nothing is there.
///
/// On Linux [`Context::listen`](crate::Context::listen) does this by itself. BSD and macOS refuse a connect while a
/// server's backlog is full, just as if nobody listens: call this there only if no such busy server can be running.
///
/// A socket that is bound and does not listen yet refuses too, so one that refuses is tried again after 50 ms, for
/// which this function blocks. Nothing is unlinked except the very socket that refused both times.
///
/// # Errors
///
/// Returns `AddrInUse` if somebody listens there or is about to, or if the path is anything other than a stream socket,
/// and otherwise the system's error, such as `PermissionDenied`.
pub fn remove_stale_socket(path: impl AsRef<Path>) -> io::Result<bool> {
    remove_stale(path.as_ref(), Type::STREAM, &wait_a_moment)
}

/// Removes a socket that refuses, and refuses again after a moment. Returns whether it did; `false` if nothing is
/// there.
///
/// The same goes for datagram sockets: they are alive once they are bound, but the kernel makes the path before it
/// binds.
fn remove_stale(path: &Path, kind: Type, wait: &dyn Fn()) -> io::Result<bool> {
    let Some(stale) = refusing(path, kind)? else { return Ok(false) };
    wait();
    match refusing(path, kind)? {
        None => Ok(false),
        Some(found) if stale == found => stale.unlink_stale(SystemTime::now()),
        // Another one was bound in the meantime, and will listen.
        Some(_) => Err(in_use()),
    }
}

/// Returns the inode at a path, if it is a socket that refuses; `None` if nothing is there.
fn refusing(path: &Path, kind: Type) -> io::Result<Option<Inode>> {
    let Some(found) = look(path)? else { return Ok(None) };
    if !found.file_type().is_socket() {
        return Err(not_a_socket(io::ErrorKind::AddrInUse));
    }
    let found = Inode::of(path, &found)?;
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    // A socket whose backlog is full is alive: a connect would block.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(in_use()),
    }
}

fn wait_a_moment() {
    thread::sleep(MOMENT);
}

/// Returns what is at a path itself, even if that is a link; `None` if nothing is.
fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::from_raw_os_error(libc::EADDRINUSE)
}

pub(super) fn not_a_socket(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "the path exists and is not a socket")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    /// A path that belongs to one test, removed at its end.
    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Place {
            Place(std::env::temp_dir().join(format!("switchboard-{}-{test}", std::process::id())))
        }

        fn bind(&self, kind: Type) -> Socket {
            let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
            socket.bind(&SockAddr::unix(&self.0).unwrap()).unwrap();
            socket
        }

        /// Leaves a socket as a crash does.
        fn leave_stale(&self, kind: Type) -> Inode {
            drop(self.bind(kind));
            self.inode()
        }

        fn inode(&self) -> Inode {
            Inode::of(&self.0, &fs::symlink_metadata(&self.0).unwrap()).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn is_in_use<T>(result: io::Result<T>) -> bool {
        result.err().map(|error| error.kind()) == Some(io::ErrorKind::AddrInUse)
    }

    #[test]
    fn n1_one_that_refuses_twice_is_removed_and_only_there_it_is_waited() {
        for kind in [Type::STREAM, Type::DGRAM] {
            let place = Place::new(&format!("waits-{kind:?}"));
            let waits = Cell::new(0);
            let remove = || remove_stale(&place.0, kind, &|| waits.set(waits.get() + 1));
            assert!(!remove().unwrap());
            let alive = place.bind(kind);
            if kind == Type::STREAM {
                alive.listen(1).unwrap();
            }
            assert!(is_in_use(remove()));
            fs::remove_file(&place.0).unwrap();
            fs::write(&place.0, "no socket").unwrap();
            assert!(is_in_use(remove()));
            assert_eq!(waits.get(), 0);
            fs::remove_file(&place.0).unwrap();
            place.leave_stale(kind);
            assert!(remove().unwrap() && !place.0.exists());
            assert_eq!(waits.get(), 1);
        }
    }

    #[test]
    fn n1_one_that_is_bound_and_does_not_listen_yet_is_left_alone() {
        let place = Place::new("not-yet");
        let starting = place.bind(Type::STREAM);
        let bound = place.inode();
        let removed = remove_stale(&place.0, Type::STREAM, &|| starting.listen(1).unwrap());
        assert!(is_in_use(removed) && place.inode() == bound);
    }

    #[test]
    fn n1_one_that_was_bound_anew_meanwhile_is_left_alone() {
        let place = Place::new("anew");
        let stale = place.leave_stale(Type::STREAM);
        let anew = Cell::new(None);
        let removed = remove_stale(&place.0, Type::STREAM, &|| {
            // It may get the inode number of the previous one, and its time within one tick of the clock.
            while place.inode() == stale {
                fs::remove_file(&place.0).unwrap();
                anew.set(Some(place.bind(Type::STREAM)));
            }
        });
        assert!(is_in_use(removed) && place.0.exists());
        // A socket that was removed in the meantime has left the path free.
        drop(anew.take());
        assert!(!remove_stale(&place.0, Type::STREAM, &|| fs::remove_file(&place.0).unwrap()).unwrap());
    }

    #[test]
    fn n1_only_the_very_inode_is_unlinked_that_refused() {
        let place = Place::new("very");
        let found = place.leave_stale(Type::STREAM);
        // It has the number of the one that refused, as a file system may assign it, and is another one.
        let refused = Inode { modified: (found.modified.0 - 10, 0), path: found.path.clone(), ..found };
        assert!(is_in_use(refused.unlink_stale(SystemTime::now())));
        assert!(place.inode() == found);
        assert!(found.unlink_stale(SystemTime::now()).unwrap() && !place.0.exists());
        assert!(!found.unlink_stale(SystemTime::now()).unwrap(), "somebody was faster");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn n1_of_those_that_find_it_stale_one_unlinks_it() {
        let place = Place::new("claimed");
        let stale = place.leave_stale(Type::STREAM);
        let claim = stale.claim(SystemTime::now()).unwrap().expect("temporary folders have links");
        assert!(is_in_use(stale.unlink_stale(SystemTime::now())) && place.0.exists());
        // The process that claimed it was killed before it had finished.
        let later = SystemTime::now() + Duration::from_secs(3);
        assert!(stale.unlink_stale(later).unwrap() && !place.0.exists() && !claim.exists());
    }

    #[test]
    fn n1_where_a_busy_server_refuses_a_path_is_replaced_only_when_that_is_asked_for() {
        let place = Place::new("asked");
        let bind = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            bind_to_path(&socket, &place.0, Type::STREAM, &Habits::BSD)
        };
        let stale = place.leave_stale(Type::STREAM);
        let error = bind().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("stale"), "{error}");
        assert!(place.inode() == stale);
        assert!(remove_stale_socket(&place.0).unwrap());
        assert!(!remove_stale_socket(&place.0).unwrap(), "nothing is there any more");
        bind().unwrap();
        fs::remove_file(&place.0).unwrap();
        let _alive = UnixListener::bind(&place.0).unwrap();
        assert!(is_in_use(remove_stale_socket(&place.0)) && is_in_use(bind()) && place.0.exists());
        fs::remove_file(&place.0).unwrap();
        let of_another_kind = UnixDatagram::bind(&place.0).unwrap();
        assert!(is_in_use(remove_stale_socket(&place.0)) && place.0.exists());
        drop(of_another_kind);
        // Datagram sockets never refuse because a backlog is full.
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
        bind_to_path(&socket, &place.0, Type::DGRAM, &Habits::BSD).unwrap();
    }

    #[test]
    fn n1_a_path_is_called_too_long_only_if_it_is() {
        let most = super::super::habits::HERE.unix_path_bytes_max;
        let told = |path: String| {
            super::super::unix_address::unix_address(&crate::UnixAddress::Path(path.into()))
                .map_err(|error| error.to_string())
        };
        assert!(told("x".repeat(most)).is_ok());
        let longer = told("x".repeat(most + 1)).unwrap_err();
        assert!(longer.contains(&format!("too long: {} bytes, and the maximum is {most}", most + 1)), "{longer}");
        let other = told("\0".repeat(most)).unwrap_err();
        assert!(!other.contains("too long"), "{other}");
    }
}
