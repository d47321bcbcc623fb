//! One pass over the lines of both ends of a transcript.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::first_message::FirstMessage;
use super::records::{Git, Line, SessionMeta, TokenCount, TurnContext, read};
use super::said::UserFacts;
use crate::stores::threads::{Change, GitFacts, MemoryMode, ThreadFacts, UserField};

/// What was found so far: of messages the first, of everything else the last.
pub(super) struct Scan<'a> {
    /// Text of the `timestamp` of each line, and whether somebody worked in it.
    times: Vec<(&'a str, bool)>,
    said_in_event: Option<FirstMessage>,
    said_in_item: Option<FirstMessage>,
    /// Payloads, read only when it is known that they are the last ones.
    turn: Option<&'a RawValue>,
    tokens: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    /// What was read of the end carries no time.
    end_is_undated: bool,
    pub(super) bad_lines: u64,
    pub(super) torn: bool,
    /// What was read of the end holds a `thread_metadata`.
    pub(super) snapshot_at_end: bool,
}

impl<'a> Scan<'a> {
    /// Of nothing yet.
    pub(super) fn empty() -> Self {
        Self {
            times: Vec::new(),
            said_in_event: None,
            said_in_item: None,
            turn: None,
            tokens: None,
            user: None,
            end_is_undated: false,
            bad_lines: 0,
            torn: false,
            snapshot_at_end: false,
        }
    }

    pub(super) fn beginning_with(first: &Line<'a>) -> Self {
        let mut scan = Self::empty();
        scan.date(first);
        scan
    }

    /// Lines that follow the first one without a gap.
    pub(super) fn head(&mut self, text: &'a [u8]) {
        for line in Lines(text) {
            if let Some(line) = self.parse(line) {
                self.message(&line);
                self.record(&line);
            }
        }
    }

    /// Lines after a gap: no message here is the first one.
    pub(super) fn tail(&mut self, text: &'a [u8]) {
        let before = self.times.len();
        for line in Lines(text) {
            if let Some(line) = self.parse(line) {
                self.snapshot_at_end |= line.kind == "thread_metadata";
                self.record(&line);
            }
        }
        self.end_is_undated = self.times.len() == before;
    }

    fn parse(&mut self, text: &'a [u8]) -> Option<Line<'a>> {
        if text.trim_ascii().is_empty() {
            return None;
        }
        let line = serde_json::from_slice(text).ok();
        match &line {
            Some(line) => self.date(line),
            None if text.ends_with(b"\n") => self.bad_lines += 1,
            None => self.torn = true,
        }
        line
    }

    fn date(&mut self, line: &Line<'a>) {
        self.times.extend(line.timestamp.map(|time| (time.get(), line.kind != "thread_metadata")));
    }

    fn message(&mut self, line: &Line<'a>) {
        if self.said_in_event.is_some() {
            return;
        }
        match line.kind.as_ref() {
            "event_msg" if line.payload_kind() == "user_message" => {
                self.said_in_event = FirstMessage::of_event(line.read());
            }
            "response_item" if self.said_in_item.is_none() && line.payload_kind() == "message" => {
                self.said_in_item = FirstMessage::of_item(line.read());
            }
            _ => {}
        }
    }

    fn record(&mut self, line: &Line<'a>) {
        match line.kind.as_ref() {
            "turn_context" => self.turn = line.payload,
            "thread_metadata" => self.user = line.payload,
            // Until the first answer a count is there, but empty.
            "event_msg"
                if line.payload_kind() == "token_count" && line.payload().contains("total_tokens") =>
            {
                self.tokens = line.payload;
            }
            _ => {}
        }
    }

    /// What the last snapshot says.
    pub(super) fn said(&self) -> UserFacts {
        UserFacts::of_payload(self.user)
    }

    /// Everything found, as facts. `otherwise` dates a transcript that does not date itself, or whose end does not.
    pub(super) fn facts(&mut self, id: String, meta: SessionMeta, otherwise: i64) -> ThreadFacts {
        let last = |work_only: bool| {
            self.times
                .iter()
                .rev()
                .filter(|(_, work)| *work || !work_only)
                .find_map(|(time, _)| quoted_ms(time))
        };
        let first = || self.times.first().and_then(|(time, _)| quoted_ms(time));
        let created_at = meta.timestamp.0.as_deref().and_then(unix_ms).or_else(first).unwrap_or(otherwise);
        let updated_at = last(false).filter(|_| !self.end_is_undated).unwrap_or(otherwise);
        let recency_at = last(true).filter(|_| !self.end_is_undated).unwrap_or(updated_at);
        let turn: TurnContext = read(self.turn);
        let tokens: TokenCount = read(self.tokens);
        let message = self.said_in_event.take().or_else(|| self.said_in_item.take());
        let (title, preview, first_user_message) = match message {
            Some(message) => (Some(message.title), Some(message.preview), Some(message.text)),
            None => (None, None, None),
        };
        let (source, agent) = source(meta.source.0.as_ref());
        let from_agent = |key: &str| agent.and_then(|agent| agent.get(key)?.as_str()).map(str::to_owned);
        let mut facts = ThreadFacts {
            id,
            created_at,
            updated_at,
            recency_at,
            source: plain(source),
            model_provider: plain(meta.model_provider.0),
            model: plain(turn.model.0),
            reasoning_effort: plain(turn.effort.0),
            cwd: plain(meta.cwd.0).or_else(|| plain(turn.cwd.0)),
            title,
            preview,
            first_user_message,
            cli_version: plain(meta.cli_version.0),
            sandbox_policy: plain(turn.sandbox_policy.0.map(|policy| policy.0)),
            approval_mode: plain(turn.approval_policy.0.map(|policy| policy.0)),
            tokens_used: tokens.total(),
            git: meta.git.0.map(Git::facts).unwrap_or_default(),
            agent_nickname: plain(meta.agent_nickname.0.or_else(|| from_agent("agent_nickname"))),
            agent_role: plain(meta.agent_role.0.or_else(|| from_agent("agent_role"))),
            forked_from_id: plain(meta.forked_from_id.0),
            memory_mode: meta.memory_mode.0.as_deref().and_then(MemoryMode::from_word),
            ..ThreadFacts::default()
        };
        say(&mut facts, self.said());
        facts
    }
}

/// Puts what a user said over what was derived.
fn say(facts: &mut ThreadFacts, user: UserFacts) {
    let mut said = facts.user_set;
    if user.name != Change::Leave {
        said = said.with(UserField::Name);
        facts.name = if let Change::Set(name) = user.name { plain(Some(name)) } else { None };
    }
    if user.is_pinned != Change::Leave {
        said = said.with(UserField::Pin);
        facts.is_pinned = user.is_pinned == Change::Set(true);
    }
    if user.archived_at != Change::Leave {
        said = said.with(UserField::Archive);
        facts.archived_at = user.archived_at;
    }
    if !matches!(user.git, Change::Leave) {
        said = said.with(UserField::Git);
        facts.git = if let Change::Set(git) = user.git { git } else { GitFacts::default() };
    }
    if let Change::Set(mode) = user.memory_mode {
        facts.memory_mode = Some(mode);
    }
    facts.user_set = said;
}

/// The source as one word, and what is told about a sub-agent: `{"subagent":{"thread_spawn":{…}}}`.
fn source(source: Option<&serde_json::Value>) -> (Option<String>, Option<&serde_json::Value>) {
    match source {
        Some(serde_json::Value::String(word)) => (Some(word.clone()), None),
        Some(serde_json::Value::Object(object)) => {
            let Some((word, about)) = object.iter().next() else { return (None, None) };
            (Some(word.clone()), Some(about.get("thread_spawn").unwrap_or(about)))
        }
        _ => (None, None),
    }
}

/// Without NUL, which not every engine stores; nothing when nothing is left.
pub(super) fn plain(text: Option<String>) -> Option<String> {
    let text = text.map(|text| if text.contains('\0') { text.replace('\0', "") } else { text });
    text.filter(|text| !text.is_empty())
}

fn quoted_ms(json: &str) -> Option<i64> {
    unix_ms(json.strip_prefix('"')?.strip_suffix('"')?)
}

/// RFC 3339 as Unix milliseconds; a time without an offset is UTC.
pub(crate) fn unix_ms(text: &str) -> Option<i64> {
    let with_offset = text.parse::<Timestamp>().ok();
    let time = with_offset
        .or_else(|| Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()))?;
    Some(time.as_millisecond())
}

/// Lines with their newline; the last one may lack it.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let text = self.0;
        let length = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
        let (line, rest) = text.split_at(length);
        self.0 = rest;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_of_utc() {
        for text in ["2026-01-01T00:00:00.250Z", "2026-01-01T01:00:00.250+01:00", "2026-01-01T00:00:00.250"] {
            assert_eq!(unix_ms(text), Some(1_767_225_600_250), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01T00:00:00Z"] {
            assert_eq!(unix_ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_source_is_a_word_and_a_sub_agent_says_more() {
        let json = serde_json::json!({"subagent": {"thread_spawn": {"agent_role": "reviewer"}}});
        let (word, agent) = source(Some(&json));
        assert_eq!(word.as_deref(), Some("subagent"));
        assert_eq!(agent.and_then(|agent| agent.get("agent_role")?.as_str()), Some("reviewer"));
        assert_eq!(source(Some(&serde_json::json!("cli"))).0.as_deref(), Some("cli"));
        assert_eq!(source(Some(&serde_json::json!(7))).0, None);
    }
}
