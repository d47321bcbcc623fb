//! How a transcript begins.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::item::{Item, rfc3339};
use crate::error::Result;
use crate::sqlite::now_unix_ms;
use crate::stores::threads::row::thread_id;
use crate::stores::threads::{GitFacts, MemoryMode};

/// What the first line of a new transcript says. Everything may stay away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRollout {
    /// The thread; default a new id, ordered by time.
    pub id: Option<String>,
    /// When it began, in Unix milliseconds; default now. With the id it makes the file's name, in UTC.
    pub started_at: Option<i64>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The program that begins it.
    pub originator: Option<String>,
    /// Its version.
    pub cli_version: Option<String>,
    /// Where it was started from: a word (`cli`, `vscode`, `exec`), or what is known of a sub-agent.
    pub source: Option<Value>,
    /// Who serves the model.
    pub model_provider: Option<String>,
    /// Whether memories may be drawn from it.
    pub memory_mode: Option<MemoryMode>,
    /// The thread it was forked from.
    pub forked_from_id: Option<String>,
    /// What a sub-agent is called.
    pub agent_nickname: Option<String>,
    /// What a sub-agent is for.
    pub agent_role: Option<String>,
    /// What the repository is at.
    pub git: GitFacts,
    /// What the program has to say beside that; the fields above win.
    pub other: Map<String, Value>,
}

impl NewRollout {
    pub(crate) fn thread_id(&self) -> Result<String> {
        self.id.as_deref().map_or_else(|| Ok(Uuid::now_v7().to_string()), thread_id)
    }

    /// When it begins; a time that no calendar has is now.
    pub(super) fn started(&self) -> Timestamp {
        let given = self.started_at.and_then(|at| Timestamp::from_millisecond(at).ok());
        // The name has room for four digits of a year.
        let given = given.filter(|at| (0..253_402_300_800_000).contains(&at.as_millisecond()));
        given.unwrap_or_else(|| {
            let now = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX);
            Timestamp::from_millisecond(now).unwrap_or(Timestamp::UNIX_EPOCH)
        })
    }

    pub(super) fn first_line(&self, id: &str) -> Result<Item> {
        let started = self.started().as_millisecond();
        let mut payload = self.other.clone();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                payload.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        put("id", Some(json!(id)));
        put("timestamp", Some(json!(rfc3339(started))));
        put("cwd", text(&self.cwd));
        put("originator", text(&self.originator));
        put("cli_version", text(&self.cli_version));
        put("source", self.source.clone());
        put("model_provider", text(&self.model_provider));
        put("memory_mode", self.memory_mode.map(|mode| json!(mode.as_str())));
        put("forked_from_id", text(&self.forked_from_id));
        put("agent_nickname", text(&self.agent_nickname));
        put("agent_role", text(&self.agent_role));
        let GitFacts { sha, branch, origin_url } = &self.git;
        if self.git != GitFacts::default() {
            put("git", Some(json!({"commit_hash": sha, "branch": branch, "repository_url": origin_url})));
        }
        Item::at(started, "session_meta", &payload)
    }
}
