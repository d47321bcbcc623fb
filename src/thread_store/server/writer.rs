//! Who may write a thread, across machines.
//!
//! Each open store is a writer with a row of its own, which it keeps alive; a thread names its writer, and a token that is
//! another one each time the right is taken. The token decides: an append that does not hold the thread's is refused, however
//! late it comes and whatever clocks say. The time in the writer's row, the server's, says only when somebody else may take
//! the right. A process of this machine that has ended is known to be gone without waiting for that.

use std::fmt;
use std::time::Duration;

use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::processes::{self, ProcessState};
use crate::sql::{Row, Session};
use crate::sqlite::holders;
use crate::stores::backfill::owner;
use crate::stores::database::StoreSession;

/// How long after it last asked somebody counts as waiting.
const ASKED_FOR: Duration = Duration::from_secs(2);
/// How long the row of a writer that is gone stays, for the words of a late message.
const REMEMBERED: Duration = Duration::from_hours(1);

/// A program that writes threads.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    id: String,
    host: String,
    boot_id: String,
    namespace: i64,
    pid: i64,
    start_time: i64,
    program: String,
}

/// What is known of a history.
pub(super) struct History {
    /// How many items there are.
    pub(super) items: u64,
    /// That of whoever may write it, or last might.
    pub(super) token: Option<String>,
    /// How many items that one found.
    pub(super) found: u64,
    /// Who that is, until when it counts as alive.
    writer: Option<(Writer, i64)>,
}

/// The answer to who wants to write a thread.
pub(super) enum Taken {
    /// The right is yours; so many items are there.
    Yes { items: u64 },
    /// Somebody else has it.
    Held(Writer),
    /// There is no such history.
    Missing,
}

impl Writer {
    /// This process, as a writer of its own.
    pub(super) fn this_process() -> Self {
        let own = owner::this_process();
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            host: own.host,
            boot_id: own.boot_id,
            namespace: i64::try_from(processes::namespace()).unwrap_or_default(),
            pid: own.pid,
            start_time: own.start_time,
            program: processes::command(std::process::id()),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn of_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.get("writer_id")?,
            host: row.get("host")?,
            boot_id: row.get("boot_id")?,
            namespace: row.get("namespace")?,
            pid: row.get("pid")?,
            start_time: row.get("start_time")?,
            program: row.get("program")?,
        })
    }

    /// Whether its ids of processes are those of the other.
    fn is_beside(&self, other: &Self) -> bool {
        !self.boot_id.is_empty() && (&self.boot_id, self.namespace) == (&other.boot_id, other.namespace)
    }

    /// Whether the system that both are on says that it has ended.
    fn has_ended(&self, me: &Self) -> bool {
        let runs = |pid| {
            processes::stat(pid).is_some_and(|found| {
                found.state() != ProcessState::Ended
                    && i64::try_from(found.start_time).is_ok_and(|start| start == self.start_time)
            })
        };
        self.is_beside(me) && u32::try_from(self.pid).is_ok_and(|pid| !runs(pid))
    }

    /// Says, by the server's clock, that it is alive for as long as `lease`.
    pub(super) fn is_alive(&self, tx: &StoreSession<'_>, lease: Duration) -> Result<()> {
        let until = tx.now_unix_ms()?.saturating_add(millis(lease));
        let row = [
            self.id.as_str().into(),
            self.host.as_str().into(),
            self.boot_id.as_str().into(),
            self.namespace.into(),
            self.pid.into(),
            self.start_time.into(),
            self.program.as_str().into(),
            until.into(),
        ];
        tx.execute(sql::SIGN_OF_LIFE, &row).map(drop)
    }

    /// Takes the right to write a thread, if nobody has it, or who had it is gone. `asks` leaves word that somebody waits.
    pub(super) fn take(
        &self,
        tx: &StoreSession<'_>,
        (thread, token): (&str, &str),
        lease: Duration,
        asks: bool,
    ) -> Result<Taken> {
        let Some(found) = History::of(tx, thread)? else { return Ok(Taken::Missing) };
        if let Some(other) = found.other(tx, self)? {
            if asks {
                ask(tx, thread)?;
            }
            return Ok(Taken::Held(other));
        }
        self.is_alive(tx, lease)?;
        tx.execute(sql::TAKE, &[thread.into(), self.id.as_str().into(), token.into()])?;
        Ok(Taken::Yes { items: found.items })
    }

    /// Threads of this writer that somebody waits for.
    pub(super) fn wanted(&self, at: &StoreSession<'_>) -> Result<Vec<String>> {
        let since = at.now_unix_ms()?.saturating_sub(millis(ASKED_FOR));
        let rows = at.query(sql::WANTED, &[since.into(), self.id.as_str().into()])?;
        rows.iter().map(|row| row.get("thread_id")).collect()
    }

    /// What somebody is told who may not write because of it. `me` is who asked.
    pub(super) fn in_the_way(&self, thread: &str, me: &Self) -> Error {
        let holder = self.is_beside(me).then(|| u32::try_from(self.pid).ok()).flatten();
        Error::new(ErrorKind::Conflict, format!("another session writes thread {thread}: {self}"))
            .held_by(holder.map(|pid| holders::named(pid, None, "state".as_ref())))
            .retry_in(Duration::from_secs(1))
            .advise("read it meanwhile, or close it there")
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) on host {}", self.program, self.pid, self.host)
    }
}

impl History {
    pub(super) fn of(at: &StoreSession<'_>, thread: &str) -> Result<Option<Self>> {
        at.query(sql::HISTORY, &[thread.into()])?.first().map(Self::of_row).transpose()
    }

    fn of_row(row: &Row) -> Result<Self> {
        let until: Option<i64> = row.get("until")?;
        let writer = until.map(|until| Ok::<_, Error>((Writer::of_row(row)?, until))).transpose()?;
        let found: Option<i64> = row.get("writer_found")?;
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(Self {
            items: count(row.get("items")?),
            token: row.get("writer_token")?,
            found: count(found.unwrap_or_default()),
            writer,
        })
    }

    /// Who else has the right to write, and is alive as far as anybody knows.
    pub(super) fn other(&self, at: &StoreSession<'_>, me: &Writer) -> Result<Option<Writer>> {
        let Some((writer, until)) = &self.writer else { return Ok(None) };
        let is_free = writer.id == me.id || writer.has_ended(me) || *until < at.now_unix_ms()?;
        Ok((!is_free).then(|| writer.clone()))
    }

    /// Who has the right to write, or last had.
    pub(super) fn last_writer(self) -> Option<Writer> {
        self.writer.map(|(writer, _)| writer)
    }

    /// From which item on somebody writes it who is alive.
    pub(super) fn written_from(&self, at: &StoreSession<'_>, me: &Writer) -> Result<Option<u64>> {
        let is_mine = self.writer.as_ref().is_some_and(|(one, _)| one.id == me.id);
        Ok((is_mine || self.other(at, me)?.is_some()).then_some(self.found))
    }
}

/// Leaves word that somebody waits for a thread.
pub(super) fn ask(tx: &StoreSession<'_>, thread: &str) -> Result<()> {
    tx.execute(sql::ASK, &[thread.into(), tx.now_unix_ms()?.into()]).map(drop)
}

/// Ends the right to write that this token stands for. Nothing happens when somebody else has it by now.
pub(super) fn give_back(tx: &StoreSession<'_>, thread: &str, token: &str) -> Result<()> {
    tx.execute(sql::GIVE_BACK, &[thread.into(), token.into()]).map(drop)
}

/// Forgets writers that are long gone.
pub(super) fn forget_the_gone(tx: &StoreSession<'_>) -> Result<()> {
    let before = tx.now_unix_ms()?.saturating_sub(millis(REMEMBERED));
    tx.execute(sql::FORGET_WRITERS, &[before.into()]).map(drop)
}

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
