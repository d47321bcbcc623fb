//! The items of a history: rows whose numbers are contiguous from 0.
//!
//! Invariant: whoever inserts items has moved the count of their history on in the same transaction, from exactly where they
//! begin ([`Batch::write`]); so numbers have no gap, and no item has two.

use std::sync::LazyLock;

use super::sql;
use super::writer::{History, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Item, stored_kind};
use crate::sql::{Row, Session, Value, rows_of_values};
use crate::stores::database::StoreSession;
use crate::stores::threads::{self, ThreadFacts};

/// Items of a page, and their bytes: behind these comes at most one more item.
pub(super) const PAGE_ITEMS: i64 = 500;
pub(super) const PAGE_BYTES: i64 = 1 << 20;
/// Bytes of either end that are read for what a list shows.
const END_BYTES: i64 = 64 << 10;

/// Rows that one statement inserts: few texts, so that each is prepared once.
const TOGETHER: [usize; 4] = [256, 32, 4, 1];
static INSERT: LazyLock<[String; 4]> = LazyLock::new(|| {
    TOGETHER.map(|rows| {
        let values = rows_of_values(rows, "", 1, 4);
        format!("INSERT INTO thread_item(thread_id, seq, kind, item) VALUES {values}")
    })
});

/// An item, and its number.
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) kind: String,
    pub(super) text: String,
}

/// What a writer appends: everything that it has no answer for yet.
pub(super) struct Batch<'a> {
    pub(super) thread: &'a str,
    pub(super) token: &'a str,
    /// How many items there are in front of these.
    pub(super) next: u64,
    pub(super) items: &'a [Item],
    /// What the row of a new thread says.
    pub(super) new: Option<&'a ThreadFacts>,
}

/// What came of it.
pub(super) enum Appended {
    Yes,
    /// Somebody else has the right to write, or had it last; `None` when nobody can be named any more.
    Taken(Option<Writer>),
    /// There is no such history any more.
    Gone,
}

impl Batch<'_> {
    /// Appends it, once however often it is tried.
    ///
    /// # Errors
    /// `Conflict` when it begins a thread that is there, or is being deleted; the engine's.
    pub(super) fn write(&self, tx: &StoreSession<'_>, writer: &Writer) -> Result<Appended> {
        let count = self.items.len() as u64;
        let moved = match self.new {
            Some(_) => begin(tx, (self.thread, self.token), (count, 0), writer)?,
            None => self.advance(tx, self.next, self.next + count)?,
        };
        if moved {
            if let Some(facts) = self.new {
                make_row(tx, self.thread, facts)?;
            }
            insert(tx, self.thread, self.next, self.items)?;
            return Ok(Appended::Yes);
        }
        // Taken over; or an earlier try, of which this one is a continuation, came through without an answer.
        let Some(found) = History::of(tx, self.thread)? else { return Ok(Appended::Gone) };
        if found.token.as_deref() != Some(self.token) {
            return if self.new.is_some() {
                Err(is_there(self.thread))
            } else {
                Ok(Appended::Taken(found.last_writer()))
            };
        }
        let there = found.items.checked_sub(self.next).filter(|there| (1..=count).contains(there));
        let there = there.ok_or_else(|| {
            let message =
                format!("the history of thread {} has another length than its writer left", self.thread);
            Error::new(ErrorKind::Corrupt, message).advise("somebody changed it by hand: resume the thread")
        })?;
        if there < count && !self.advance(tx, found.items, self.next + count)? {
            return Ok(Appended::Gone);
        }
        insert(tx, self.thread, found.items, &self.items[there as usize..])?;
        Ok(Appended::Yes)
    }

    fn advance(&self, tx: &StoreSession<'_>, from: u64, to: u64) -> Result<bool> {
        let row = [self.thread.into(), self.token.into(), number(from), number(to)];
        Ok(tx.execute(sql::ADVANCE, &row)? == 1)
    }
}

/// Makes the history of a thread of so many items, of which its writer counts so many as found. False when there is one.
fn begin(
    tx: &StoreSession<'_>,
    (thread, token): (&str, &str),
    (items, found): (u64, u64),
    writer: &Writer,
) -> Result<bool> {
    let row = [thread.into(), number(items), writer.id().into(), token.into(), number(found)];
    Ok(tx.execute(sql::BEGIN, &row)? == 1)
}

fn make_row(tx: &StoreSession<'_>, thread: &str, facts: &ThreadFacts) -> Result<()> {
    if !tx.query(sql::HAS_ROW, &[thread.into()])?.is_empty() {
        return Err(is_there(thread));
    }
    put_row(tx, thread, facts)
}

/// Lets the row say what these facts say.
///
/// # Errors
/// `Conflict` when the thread is being deleted; the engine's.
pub(super) fn put_row(tx: &StoreSession<'_>, thread: &str, facts: &ThreadFacts) -> Result<()> {
    let done = threads::upsert(tx, &[thread.to_owned()], std::slice::from_ref(facts))?;
    if done.deleted > 0 { Err(is_going(thread)) } else { Ok(()) }
}

/// Begins a thread with its own first item, and those of another one before `end`.
pub(super) fn fork(
    tx: &StoreSession<'_>,
    (thread, token, first): (&str, &str, &Item),
    (source, end): (&str, u64),
    writer: &Writer,
) -> Result<u64> {
    if !tx.query(sql::HAS_ROW, &[thread.into()])?.is_empty() || !begin(tx, (thread, token), (0, 0), writer)? {
        return Err(is_there(thread));
    }
    insert(tx, thread, 0, std::slice::from_ref(first))?;
    let items = 1 + tx.execute(sql::COPY, &[thread.into(), source.into(), number(end)])?;
    tx.execute(sql::ADVANCE, &[thread.into(), token.into(), number(0), number(items)])?;
    // What it found is another one's.
    tx.execute(sql::TAKE, &[thread.into(), writer.id().into(), token.into()])?;
    Ok(items)
}

fn insert(tx: &StoreSession<'_>, thread: &str, from: u64, items: &[Item]) -> Result<()> {
    let mut rest = items;
    let mut seq = from;
    for (rows, text) in TOGETHER.into_iter().zip(INSERT.iter()) {
        while rest.len() >= rows {
            let (some, more) = rest.split_at(rows);
            let mut values = Vec::with_capacity(4 * rows);
            for item in some {
                values.extend([
                    thread.into(),
                    number(seq),
                    stored_kind(item.kind()).into(),
                    item.text().as_bytes().to_vec().into(),
                ]);
                seq += 1;
            }
            tx.execute(text, &values)?;
            rest = more;
        }
    }
    Ok(())
}

/// Items from `from` on and before `end`: as many as make a page; none only when there are none.
pub(super) fn page(at: &impl Session, thread: &str, from: u64, end: u64) -> Result<Vec<Stored>> {
    read(at, sql::PAGE, thread, (from, end), PAGE_BYTES)
}

fn read(
    at: &impl Session,
    text: &str,
    thread: &str,
    (from, end): (u64, u64),
    bytes: i64,
) -> Result<Vec<Stored>> {
    let range = [thread.into(), number(from), number(end), PAGE_ITEMS.into(), bytes.into()];
    at.query(text, &range)?.iter().map(Stored::of_row).collect()
}

/// What the two ends of a history say of its thread; nothing of one that does not begin as it should. What a user said is in
/// the row, and nowhere else.
pub(super) fn facts(
    at: &impl Session,
    thread: &str,
    items: u64,
    otherwise: i64,
) -> Result<Option<ThreadFacts>> {
    let head = read(at, sql::PAGE, thread, (0, items), END_BYTES)?;
    let behind = head.last().map_or(0, |last| last.seq + 1);
    let mut tail = Vec::new();
    if behind < items {
        tail = read(at, sql::PAGE_BACKWARD, thread, (behind, items), END_BYTES)?;
        tail.reverse();
    }
    let follows = tail.first().is_some_and(|first| first.seq == behind);
    let text = |items: &[Stored]| {
        let derived = items.iter().filter(|item| item.kind != "thread_metadata");
        derived.flat_map(|item| [item.text.as_str(), "\n"]).collect::<String>()
    };
    let (mut head, mut tail) = (text(&head), Some(text(&tail)).filter(|tail| !tail.is_empty()));
    if follows {
        head.extend(tail.take());
    }
    Ok(crate::rollout::derived::of_ends(thread, &head, tail.as_deref(), otherwise).ok())
}

impl Stored {
    fn of_row(row: &Row) -> Result<Self> {
        let bytes: Vec<u8> = row.get("item")?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "an item of a history is no text"))?;
        let seq = row.get::<i64>("seq")?;
        Ok(Self { seq: u64::try_from(seq).unwrap_or_default(), kind: row.get("kind")?, text })
    }
}

/// A number that a column holds; what is larger is as good as the largest.
pub(super) fn number(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

pub(super) fn is_there(thread: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("there is a thread {thread} already"))
        .advise("resume it, or give the new one an id of its own")
}

pub(super) fn is_going(thread: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("thread {thread} is being deleted"))
        .advise("give the new one an id of its own")
}
