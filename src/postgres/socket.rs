//! A socket to a server, of which every wait has an end.
//!
//! It is non-blocking; who drives it waits for it with poll(2) until a deadline, on the thread that asked. So no reactor
//! and no other thread has a part in it, and a program that runs in an asynchronous runtime may use it as any other.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Config;

use super::host::Place;

/// A full queue of connections says neither yes nor no: it is looked at again after so long.
const FULL_QUEUE: Duration = Duration::from_millis(5);

/// One end of it; the other, for who waits, is a clone.
#[derive(Clone)]
pub(super) struct Socket(Arc<Inner>);

struct Inner {
    stream: Stream,
    /// False from when it had nothing to read, or no room to write, until poll(2) says otherwise.
    readable: AtomicBool,
    writable: AtomicBool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects by `until`, with the settings of this address for TCP.
    ///
    /// # Errors
    /// `TimedOut` of the system's kinds at `until`; of the system.
    pub(super) fn connect(place: &Place, config: &Config, until: Instant) -> io::Result<Self> {
        let stream = match place {
            Place::Tcp(ip, port) => Stream::Tcp(tcp(SocketAddr::new(*ip, *port), config, until)?),
            Place::Unix(folder, port) => Stream::Unix(unix(folder.join(format!(".s.PGSQL.{port}")), until)?),
        };
        let (readable, writable) = (AtomicBool::new(true), AtomicBool::new(true));
        Ok(Self(Arc::new(Inner { stream, readable, writable })))
    }

    /// Waits until what was found empty or full is so no more. False when that did not come by `until`.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn wait(&self, until: Instant) -> io::Result<bool> {
        let mut wanted = PollFlags::IN;
        if !self.0.writable.load(Ordering::Relaxed) {
            wanted |= PollFlags::OUT;
        }
        let found = wait(self.0.stream.as_fd(), wanted, until)?;
        // An error or an end is found out by reading or writing.
        if found.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP) {
            self.0.writable.store(true, Ordering::Relaxed);
        }
        if found.intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP) {
            self.0.readable.store(true, Ordering::Relaxed);
        }
        Ok(!found.is_empty())
    }
}

/// Waits for one of these; empty when none of them came by `until`.
fn wait(fd: BorrowedFd<'_>, wanted: PollFlags, until: Instant) -> io::Result<PollFlags> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // What does not fit is longer than anybody waits.
        let left = left.try_into().ok();
        let mut watched = [PollFd::from_borrowed_fd(fd, wanted)];
        match poll(&mut watched, left.as_ref()) {
            Ok(_) => return Ok(watched[0].revents()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

fn tcp(address: SocketAddr, config: &Config, until: Instant) -> io::Result<TcpStream> {
    let fd = new_socket(if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    if let Some(silence) = config.get_tcp_user_timeout() {
        sockopt::set_tcp_user_timeout(&fd, silence.as_millis().try_into().unwrap_or(u32::MAX))?;
    }
    if config.get_keepalives() {
        sockopt::set_socket_keepalive(&fd, true)?;
        sockopt::set_tcp_keepidle(&fd, config.get_keepalives_idle())?;
        if let Some(interval) = config.get_keepalives_interval() {
            sockopt::set_tcp_keepintvl(&fd, interval)?;
        }
        if let Some(retries) = config.get_keepalives_retries() {
            sockopt::set_tcp_keepcnt(&fd, retries)?;
        }
    }
    match connect(&fd, &address) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            if wait(fd.as_fd(), PollFlags::OUT, until)?.is_empty() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sockopt::socket_error(&fd)??;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(TcpStream::from(fd))
}

fn unix(path: PathBuf, until: Instant) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    loop {
        let fd = new_socket(AddressFamily::UNIX)?;
        match connect(&fd, &address) {
            Ok(()) => return Ok(UnixStream::from(fd)),
            Err(rustix::io::Errno::AGAIN) if Instant::now() < until => {
                let left = until.saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.min(FULL_QUEUE));
            }
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The addresses of a name. The system's look-up knows no deadline, so another thread does it, which is left behind when
/// that takes too long.
///
/// # Errors
/// `TimedOut` of the system's kinds at `until`; of the system, also when the name has no address.
pub(super) fn look_up(name: &str, until: Instant) -> io::Result<Vec<IpAddr>> {
    look_up_by(name, until, |name| {
        let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(name, 0))?;
        Ok(addresses.map(|one| one.ip()).collect())
    })
}

fn look_up_by(
    name: &str,
    until: Instant,
    ask: impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = name.parse() {
        return Ok(vec![ip]);
    }
    let (sender, found) = mpsc::sync_channel(1);
    let asked = name.to_owned();
    std::thread::Builder::new().name("rowhouse-names".to_owned()).spawn(move || {
        // Nobody waits any more when this fails.
        let _ = sender.send(ask(&asked));
    })?;
    match found.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(io::ErrorKind::NotFound.into()),
        Ok(found) => found,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Tries once; what would block is noted, and not tried again before somebody waited for it.
fn attempt<T>(may: &AtomicBool, mut once: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    if !may.load(Ordering::Relaxed) {
        return Poll::Pending;
    }
    loop {
        match once() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                may.store(false, Ordering::Relaxed);
                return Poll::Pending;
            }
            done => return Poll::Ready(done),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Inner { stream, readable, .. } = &*self.0;
        let read = attempt(readable, || {
            let unfilled = buffer.initialize_unfilled();
            match stream {
                Stream::Tcp(stream) => (&*stream).read(unfilled),
                Stream::Unix(stream) => (&*stream).read(unfilled),
            }
        });
        read.map_ok(|count| buffer.advance(count))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Inner { stream, writable, .. } = &*self.0;
        attempt(writable, || match stream {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &self.0.stream {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_whose_look_up_hangs_is_waited_for_until_then_and_no_longer() {
        let (answers, answer) = mpsc::channel::<()>();
        let before = Instant::now();
        let hangs = move |_: &str| {
            let _ = answer.recv();
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        };
        let found = look_up_by("db.example", before + Duration::from_millis(50), hangs);
        assert_eq!(found.expect_err("no answer").kind(), io::ErrorKind::TimedOut);
        // It still hangs: who asked did not wait for its end.
        assert!(before.elapsed() < Duration::from_secs(30) && answers.send(()).is_ok());

        let later = Instant::now() + Duration::from_secs(30);
        let found = look_up_by("db.example", later, |_| Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        assert_eq!(found.expect("in time"), [IpAddr::from([127, 0, 0, 1])]);
        let none = look_up_by("db.example", later, |_| Ok(Vec::new())).expect_err("no address");
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
        // A number needs no look-up.
        look_up_by("10.0.0.9", Instant::now(), |_| Err(io::ErrorKind::Other.into())).expect("an address");
    }
}
