//! What a connection says to its server: the protocol of `tokio_postgres` over a [`Socket`], driven by whoever asks.
//!
//! Invariants:
//! - Nothing here lasts beyond the time until which the connection was lent.
//! - Who ran out of time gets no answer any more, and the connection says nothing more: an answer that comes later must
//!   not be taken for that of the next question.
//! - Dropping it never waits: the server is told if there is room in the socket.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{AsyncMessage, CancelToken, Connection as Messages, Error as DriverError};

use super::failure::Failure;
use super::socket::Socket;

pub(super) struct Client {
    asks: Option<tokio_postgres::Client>,
    messages: Box<dyn Protocol>,
    socket: Socket,
    until: Instant,
    state: State,
    /// What notifications carried, of who listens.
    heard: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The server, or the way to it, said the last word.
    Ended,
    /// An answer did not come in time, or is not waited for.
    Unanswered,
}

/// The other half of the driver's client: what moves bytes, whatever they are wrapped in.
trait Protocol: Send {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, DriverError>>>;
}

impl<S, T> Protocol for Messages<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, DriverError>>> {
        self.poll_message(context)
    }
}

/// Notes that something may go on: both halves run on one thread, and wake each other.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Woken {
    /// Whether it was since the last time.
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Runs one future over a socket until it is done; `None` when that took longer than `until`.
pub(super) fn finish<T>(
    socket: &Socket,
    until: Instant,
    future: impl Future<Output = T>,
) -> std::io::Result<Option<T>> {
    let mut future = pin!(future);
    drive(socket, until, |context| future.as_mut().poll(context))
}

fn drive<T>(
    socket: &Socket,
    until: Instant,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> std::io::Result<Option<T>> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = poll(&mut context) {
            return Ok(Some(done));
        }
        if !woken.take() && !socket.wait(until)? {
            return Ok(None);
        }
    }
}

impl Client {
    pub(super) fn new<S, T>(
        asks: tokio_postgres::Client,
        messages: Messages<S, T>,
        socket: Socket,
        until: Instant,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (messages, heard) = (Box::new(messages), Vec::new());
        Self { asks: Some(asks), messages, socket, until, state: State::Open, heard }
    }

    /// What is asked from now on ends at that time.
    pub(super) fn lend(&mut self, until: Instant) {
        self.until = until;
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// Of the server; a lost connection; [`Failure::late`], after which it is lost too; [`Failure::over`].
    pub(super) fn run<'c, T, F>(
        &'c mut self,
        ask: impl FnOnce(&'c tokio_postgres::Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        let Self { asks, messages, socket, until, state, heard } = self;
        let asks = asks.as_ref().filter(|_| *state == State::Open).ok_or_else(Failure::lost)?;
        // What is begun without time would end without an answer.
        if Instant::now() >= *until {
            return Err(Failure::over());
        }
        let mut answer = pin!(ask(asks));
        let done = drive(socket, *until, |context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Ok(answer));
            }
            loop {
                match messages.poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(message))) => heard.extend(payload(message)),
                    Poll::Ready(end) => {
                        *state = State::Ended;
                        // What the server said last is a better answer than that it said no more.
                        return match (answer.as_mut().poll(context), end) {
                            (Poll::Ready(answer), _) => Poll::Ready(Ok(answer)),
                            (_, Some(Err(error))) => Poll::Ready(Ok(Err(error))),
                            _ => Poll::Ready(Err(Failure::lost())),
                        };
                    }
                }
            }
        });
        match done {
            Ok(Some(answer)) => answer?.map_err(Failure::from),
            Ok(None) => {
                *state = State::Unanswered;
                Err(Failure::late())
            }
            Err(error) => {
                *state = State::Ended;
                Err(Failure::unreachable(&error))
            }
        }
    }

    /// What notifications carry that come until it is taken back; nothing when none came.
    ///
    /// # Errors
    /// A lost connection.
    pub(super) fn hear(&mut self) -> Result<Vec<String>, Failure> {
        let Self { messages, socket, until, state, heard, .. } = self;
        if *state != State::Open {
            return Err(Failure::lost());
        }
        let ended = drive(socket, *until, |context| {
            loop {
                match messages.poll(context) {
                    Poll::Pending if heard.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(None),
                    Poll::Ready(Some(Ok(message))) => heard.extend(payload(message)),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Failure::from(error))),
                    Poll::Ready(None) => return Poll::Ready(Some(Failure::lost())),
                }
            }
        });
        match ended.map(Option::flatten) {
            Ok(None) => Ok(std::mem::take(heard)),
            Ok(Some(failure)) => {
                *state = State::Ended;
                Err(failure)
            }
            Err(error) => {
                *state = State::Ended;
                Err(Failure::unreachable(&error))
            }
        }
    }

    /// Whether it says nothing more.
    pub(super) fn is_closed(&self) -> bool {
        self.state != State::Open || self.asks.as_ref().is_none_or(tokio_postgres::Client::is_closed)
    }

    /// Nobody waits for the rest of an answer.
    pub(super) fn abandon(&mut self) {
        if self.state == State::Open {
            self.state = State::Unanswered;
        }
    }

    /// What ends the statement whose answer nobody waits for any more, said over another connection.
    pub(super) fn unanswered(&self) -> Option<CancelToken> {
        let asks = self.asks.as_ref().filter(|_| self.state == State::Unanswered);
        asks.map(tokio_postgres::Client::cancel_token)
    }

    /// What is known of who would be cancelled.
    pub(super) fn with_token<T>(&self, look: impl FnOnce(&CancelToken) -> Option<T>) -> Option<T> {
        self.asks.as_ref().and_then(|asks| look(&asks.cancel_token()))
    }
}

/// What a notification carries; a notice carries nothing.
fn payload(message: AsyncMessage) -> Option<String> {
    match message {
        AsyncMessage::Notification(told) => Some(told.payload().to_owned()),
        _ => None,
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Without it the other half says good-bye.
        self.asks = None;
        if self.state == State::Open {
            let waker = Waker::noop();
            let _ = self.messages.poll(&mut Context::from_waker(waker));
        }
    }
}
