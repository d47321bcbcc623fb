//! What a process does to the shared state, and what it was told about it: in a file of its own, line by line.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rowhouse::rollout::{Item, NewRollout};
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::goals::{Accounting, GoalChange};
use rowhouse::stores::memories::ExtractClaim;
use rowhouse::{ErrorKind, Runtime};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clock;
use crate::processes;

/// The goal that all processes add to.
pub const SHARED: &str = "019cadf1-7a5e-7b05-8fff-000000000000";

/// The goal of one process.
pub fn own_goal(process: u32) -> String {
    format!("019cadf1-7a5e-7b05-8{process:03x}-000000000000")
}

/// A thread that one process wrote.
pub fn row_id(process: u32, number: u32) -> String {
    format!("019cadf1-7a5e-7b06-8{process:03x}-{number:012x}")
}

/// A thread that has been at rest, from which somebody is to draw a memory.
pub fn job_id(number: u32) -> String {
    format!("019cadf1-7a5e-7b07-8000-{number:012x}")
}

/// What a process was told about one write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told<T> {
    Acknowledged(T),
    /// It may be there or not.
    Unknown,
    /// It is not there.
    Refused(String),
}

impl<T> Told<T> {
    fn of(result: rowhouse::Result<T>) -> Self {
        match result {
            Ok(answer) => Self::Acknowledged(answer),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Self::Unknown,
            Err(error) => Self::Refused(error.to_string()),
        }
    }

    fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Acknowledged(_))
    }

    fn map<A>(&self, of: impl Fn(&T) -> A) -> Told<A> {
        match self {
            Self::Acknowledged(answer) => Told::Acknowledged(of(answer)),
            Self::Unknown => Told::Unknown,
            Self::Refused(why) => Told::Refused(why.clone()),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Note {
    /// A row of this number; whether it was a new one.
    Row(u32, Told<bool>),
    /// The thread whose history the process writes.
    Began(String),
    /// An item of this number at the end of that history.
    Appended(u32, Told<()>),
    /// One more for the process's own goal; the sum as it is now.
    Own(Told<i64>),
    /// One more for the common goal.
    Shared(Told<()>),
    /// The jobs that it has from now on.
    Claimed(Told<Vec<String>>),
    /// A job that it had until this moment; whether it still was its own.
    Done(String, Told<bool>, u64),
    /// Whether a row that was acknowledged could be read.
    Read(bool),
}

impl Note {
    pub fn is_acknowledged(&self) -> bool {
        match self {
            Self::Row(_, told) | Self::Done(_, told, _) => told.is_acknowledged(),
            Self::Own(told) => told.is_acknowledged(),
            Self::Shared(told) | Self::Appended(_, told) => told.is_acknowledged(),
            Self::Claimed(told) => told.is_acknowledged(),
            Self::Read(_) | Self::Began(_) => false,
        }
    }
}

/// A note, and when it was written: later than what it tells.
pub type Dated = (u64, Note);

/// Notes on the way to a file.
struct Notes(File);

impl Notes {
    fn write(&mut self, note: Note) {
        let dated: Dated = (clock::since_start_ns(), note);
        writeln!(self.0, "{}", serde_json::to_string(&dated).expect("plain values")).expect("room for notes");
    }
}

pub fn read(notes: &Path) -> Vec<Dated> {
    let text = std::fs::read_to_string(notes).expect("the process wrote them");
    text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
}

/// The work of one process, one write after the other, until it is told to stop.
pub fn work(runtime: &Runtime, process: u32, notes: &Path) {
    let (threads, goals, memories) = (runtime.threads(), runtime.goals(), runtime.memories());
    let (own, mut had) = (own_goal(process), Vec::<ExtractClaim>::new());
    let mut notes = Notes(File::create(notes).expect("a file"));
    let one_more = |goal: &str| {
        goals.account(goal, 0, 1, Accounting::ActiveOnly, None).map(|change| match change {
            GoalChange::Changed(goal) => goal.tokens_used,
            // A goal that was lost.
            _ => -1,
        })
    };
    let store = runtime.thread_store().expect("a store of threads");
    let thread = store.create(&NewRollout::default()).expect("a thread");
    notes.write(Note::Began(thread.clone()));
    processes::ready();
    let stop = std::thread::spawn(processes::listen);
    for round in 0.. {
        let id = row_id(process, round);
        let facts = ThreadFacts { id: id.clone(), created_at: round.into(), ..ThreadFacts::default() };
        let told = Told::of(threads.upsert(&[facts]).map(|done| done.inserted == 1));
        let is_there = told.is_acknowledged();
        notes.write(Note::Row(round, told));
        let message = json!({ "type": "agent_message", "message": round.to_string() });
        let item = Item::new("event_msg", &message).expect("an item");
        notes.write(Note::Appended(round, Told::of(store.append_items(&thread, &[item]))));
        notes.write(Note::Own(Told::of(one_more(&own))));
        if round % 2 == 0 {
            notes.write(Note::Shared(Told::of(one_more(SHARED).map(drop))));
        }
        // A job is kept over the writes of a round and more.
        if round % 4 == 1 {
            if is_there {
                let found = threads.get(&id).is_ok_and(|row| row.is_some());
                notes.write(Note::Read(found));
            }
            let told = Told::of(memories.claim_extracts(1, None));
            let ids = |claims: &Vec<ExtractClaim>| claims.iter().map(|one| one.thread_id.clone()).collect();
            notes.write(Note::Claimed(told.map(ids)));
            if let Told::Acknowledged(claims) = told {
                had = claims;
            }
        }
        if round % 4 == 3 {
            for claim in had.drain(..) {
                let until = clock::since_start_ns();
                let told = Told::of(memories.extract_without_output(&claim));
                notes.write(Note::Done(claim.thread_id, told, until));
            }
        }
        processes::say(&format!("round {}", round + 1));
        if stop.is_finished() {
            return;
        }
    }
}
