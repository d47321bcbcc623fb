//! Whether a pooler stands between a connection and its server.
//!
//! A server announces the process that serves a connection, so that it can be cancelled. A pooler that gives each
//! transaction another process announces something of its own, which is not what `pg_backend_pid()` says. Statements
//! prepared by name must not be used there: the next transaction may meet a process that has none of that name, or another
//! program's.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// What stands between this program and the server, as `[state.postgres]` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pooler {
    /// Each transaction may meet another process of the server.
    Transaction,
    /// Each connection has a process of its own, as without a pooler.
    Session,
}

/// The process that was announced. The driver tells it only to who cancels; so it is read from what that would say.
pub(super) fn announced_process(token: &CancelToken) -> Option<i32> {
    let said = Rc::new(RefCell::new(Vec::new()));
    let cancel = pin!(token.cancel_query_raw(Overheard(said.clone()), AsItIs));
    // Nothing in it ever waits.
    let done = cancel.poll(&mut Context::from_waker(Waker::noop()));
    let said = said.borrow();
    // It ends with two numbers of four bytes: the process, and a secret.
    let (process, _secret) = said.get(said.len().checked_sub(8)?..)?.split_at(4);
    done.is_ready().then(|| process.try_into().ok().map(i32::from_be_bytes)).flatten()
}

/// Keeps what is said, and answers that TLS may begin.
struct Overheard(Rc<RefCell<Vec<u8>>>);

/// TLS that changes nothing.
struct AsItIs;

impl TlsConnect<Overheard> for AsItIs {
    type Stream = Overheard;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Overheard>>;

    fn connect(self, stream: Overheard) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

impl TlsStream for Overheard {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Overheard {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
