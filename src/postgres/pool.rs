//! Connections of one server, made when they are needed and lent to one caller at a time.
//!
//! Invariants:
//! - There are never more than `size`, and none that is known to be lost is lent. After one was lost the others are asked
//!   before they are lent: the process of one may have been ended alone, or the whole server be gone. What its socket says
//!   without asking tells the one from the other only where the machine still answers.
//! - Who waits for one, or for a server that does not answer, does so until its own deadline, and learns why; what is
//!   done on a connection ends at the deadline for which it was lent.
//! - Places are had in the order in which they were asked for: who gives one back does not have it again before those who
//!   wait, and who only rests takes nobody's turn.
//! - Nothing is connected or disconnected under the lock, and no thread runs while nobody asks.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::address::Address;
use super::connection::{Connection, Loss};
use super::failure::Failure;
use super::figures::Figures;
use super::pooler::Pooler;
use super::tries::Tries;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::health::Health;

/// A connection that rested for longer is asked before it is lent: firewalls forget, and servers restart.
const UNASKED: Duration = Duration::from_secs(1);
/// How long it may take to answer then, and which part of the caller's time: the rest is for a new one.
const LONGEST_ASK: Duration = Duration::from_secs(2);
const PART_FOR_ASKING: u32 = 4;

pub(super) struct Pool {
    address: Address,
    /// What the configuration says of a pooler before the server.
    pooler: Option<Pooler>,
    size: usize,
    state: Mutex<State>,
    /// Ends the rest of those who wait for nothing else.
    closing: Condvar,
}

#[derive(Default)]
struct State {
    /// The last one given back is the next one lent.
    resting: Vec<Connection>,
    /// When one was last lost: those that were given back before are asked before they are lent.
    lost_at: Option<Instant>,
    /// Lent, or being connected.
    out: usize,
    /// Those who wait for a place, the first one first; each is woken by its own.
    line: VecDeque<Arc<Condvar>>,
    closed: bool,
    /// Why the last try to connect failed.
    trouble: Option<Error>,
    /// Where it is told, once for each domain that uses it.
    figures: Vec<Figures>,
}

/// A connection, until it is dropped.
pub(super) struct Lent<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
}

impl Pool {
    pub(super) fn new(address: Address, pooler: Option<Pooler>, size: usize) -> Self {
        Self { address, pooler, size, state: Mutex::default(), closing: Condvar::new() }
    }

    /// A connection that works, by `deadline`; a server that does not answer is tried again until then.
    ///
    /// # Errors
    /// `Busy` when all stayed in use; why the server cannot be used; `Closed`.
    pub(super) fn take(&self, deadline: Instant) -> Result<Lent<'_>> {
        let mut tries = Tries::until(deadline);
        loop {
            let failure = match self.take_once(deadline) {
                Ok(lent) => return Ok(lent),
                Err(failure) => failure,
            };
            let kind = failure.error.kind();
            tries.again(failure, |time| self.rest(time))?;
            self.state.lock().figures.iter().for_each(|figures| figures.connects_again(kind));
        }
    }

    /// What happens to it is told there, too.
    pub(super) fn tell(&self, figures: &Figures) {
        let mut state = self.state.lock();
        state.figures.push(figures.clone());
        self.count(&state);
    }

    fn count(&self, state: &State) {
        let (lent, open) = (state.out, state.out + state.resting.len());
        state.figures.iter().for_each(|figures| figures.connections(open, lent, self.size));
    }

    /// The same without trying again.
    pub(super) fn take_once(&self, deadline: Instant) -> Result<Lent<'_>, Failure> {
        let resting = self.place(deadline).map_err(Failure::told)?;
        // From here on the place is given back by dropping this.
        let mut lent = Lent { pool: self, connection: resting };
        while let Some(connection) = &mut lent.connection {
            if self.is_good(connection, deadline) {
                lent.lend(deadline);
                return Ok(lent);
            }
            if let Some(loss) = connection.loss() {
                self.note(loss);
            }
            // The place stays: who has waited for it does not wait again.
            let next = self.state.lock().resting.pop();
            lent.connection = next;
        }
        lent.connection = Some(self.connect(deadline)?);
        lent.lend(deadline);
        Ok(lent)
    }

    /// Whether a connection that rested may be lent. One that was just used is believed.
    fn is_good(&self, connection: &mut Connection, deadline: Instant) -> bool {
        let (now, given_back) = (Instant::now(), connection.given_back());
        let is_doubted = self.state.lock().lost_at.is_some_and(|lost_at| given_back <= lost_at);
        if !is_doubted && now.saturating_duration_since(given_back) < UNASKED {
            return !connection.is_lost();
        }
        let part = deadline.saturating_duration_since(now) / PART_FOR_ASKING;
        connection.is_good(now + part.min(LONGEST_ASK))
    }

    /// Notes what the loss of one says of those that rest.
    fn note(&self, loss: Loss) {
        let mut state = self.state.lock();
        state.lost_at = Some(Instant::now());
        let gone = match loss {
            Loss::Own => Vec::new(),
            Loss::Shared => std::mem::take(&mut state.resting),
        };
        self.count(&state);
        drop(state);
        drop(gone);
    }

    /// A place, with a connection that rests there if there is one.
    fn place(&self, deadline: Instant) -> Result<Option<Connection>> {
        let mut state = self.state.lock();
        let turn = Arc::new(Condvar::new());
        state.line.push_back(turn.clone());
        let is_mine = |state: &State| state.out < self.size && Arc::ptr_eq(&state.line[0], &turn);
        let mut since = None;
        let place = loop {
            if state.closed {
                break Err(closed());
            }
            if is_mine(&state) {
                state.out += 1;
                break Ok(state.resting.pop());
            }
            since.get_or_insert_with(Instant::now);
            if turn.wait_until(&mut state, deadline).timed_out() && !is_mine(&state) {
                let message = format!("all {} connections to the server stayed in use", self.size);
                break Err(Error::new(ErrorKind::Busy, message)
                    .advise("raise pool_size under [state.postgres], or do less at once")
                    .retry_in(Duration::from_millis(100)));
            }
        };
        state.line.retain(|other| !Arc::ptr_eq(other, &turn));
        // Whoever is the first now may have been kept back by this one alone.
        state.wake_first(self.size);
        if let Some(since) = since {
            state.figures.iter().for_each(|figures| figures.waited(since.elapsed()));
        }
        self.count(&state);
        place
    }

    fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let connected = self.address.connect(deadline).map(|reached| Connection::new(reached, self.pooler));
        self.state.lock().trouble = connected.as_ref().err().map(|failure| failure.error.clone());
        connected
    }

    /// One that nobody else gets, and that does not count.
    pub(super) fn connect_apart(&self, deadline: Instant) -> Result<Connection, Failure> {
        self.address.connect(deadline).map(|reached| Connection::new(reached, self.pooler))
    }

    /// In a fork: the connections are the parent's, and to close one is to say so to the server.
    pub(super) fn leave_to_parent(&mut self) {
        std::mem::forget(std::mem::take(&mut self.state.get_mut().resting));
    }

    /// Waits that long, unless it is closed.
    pub(super) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.closed && !self.closing.wait_until(&mut state, until).timed_out() {}
    }

    /// Lends no more. What is lent ends with who has it.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let resting = std::mem::take(&mut state.resting);
        for waits in &state.line {
            waits.notify_one();
        }
        self.count(&state);
        drop(state);
        self.closing.notify_all();
        drop(resting);
    }

    /// How the server is, as far as known without asking it.
    pub(super) fn health(&self) -> Health {
        let state = self.state.lock();
        match &state.trouble {
            _ if state.closed => Health::Closed,
            Some(error) => Health::Degraded { reason: error.message().to_owned(), holder: None },
            None => Health::Ready,
        }
    }
}

impl State {
    /// Wakes the first one in the line, if there is a place.
    fn wake_first(&self, size: usize) {
        if let Some(first) = self.line.front().filter(|_| self.out < size) {
            first.notify_one();
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}

impl Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("taken only when it is dropped")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("taken only when it is dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut connection = self.connection.take();
        if let Some(loss) = connection.as_ref().and_then(Connection::loss) {
            connection = None;
            self.pool.note(loss);
        }
        if let Some(connection) = &mut connection {
            connection.rested();
        }
        let mut state = self.pool.state.lock();
        state.out -= 1;
        if connection.is_some() {
            state.trouble = None;
        }
        if !state.closed {
            state.resting.extend(connection.take());
        }
        state.wake_first(self.pool.size);
        self.pool.count(&state);
        drop(state);
        // Of a closed pool it ends here, outside the lock.
        drop(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(size: usize) -> Pool {
        Pool::new(Address::parse("postgres://a@localhost/x", None).expect("an address"), None, size)
    }

    /// A place without a connection.
    fn place(pool: &Pool) -> Lent<'_> {
        let connection = pool.place(Instant::now() + Duration::from_secs(20)).expect("a place");
        Lent { pool, connection }
    }

    fn until(so: impl Fn() -> bool) {
        while !so() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn places_are_had_in_the_order_in_which_they_were_asked_for() {
        let pool = pool(1);
        let order = Mutex::new(Vec::new());
        let mine = place(&pool);
        let mine = std::thread::scope(|scope| {
            for number in 0..3 {
                let (pool, order) = (&pool, &order);
                scope.spawn(move || {
                    let _place = place(pool);
                    order.lock().push(number);
                });
                until(|| pool.state.lock().line.len() == number + 1);
            }
            // Who gives it back asks again at once, and is the last one all the same.
            drop(mine);
            let mine = place(&pool);
            order.lock().push(3);
            mine
        });
        assert_eq!(*order.lock(), [0, 1, 2, 3]);
        drop(mine);
        let state = pool.state.lock();
        assert!(state.out == 0 && state.line.is_empty());
    }

    #[test]
    fn who_rests_takes_nobodys_turn_and_who_gives_up_holds_nobody_up() {
        let pool = pool(1);
        let mine = place(&pool);
        std::thread::scope(|scope| {
            scope.spawn(|| pool.rest(Duration::from_hours(1)));
            let soon = Instant::now() + Duration::from_millis(20);
            assert_eq!(pool.place(soon).map(drop).expect_err("it is in use").kind(), ErrorKind::Busy);
            let waits = scope.spawn(|| drop(place(&pool)));
            until(|| !pool.state.lock().line.is_empty());
            drop(mine);
            waits.join().expect("it had the place");
            pool.close();
        });
        assert_eq!(pool.place(Instant::now()).map(drop).expect_err("closed").kind(), ErrorKind::Closed);
    }
}
