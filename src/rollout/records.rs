//! The shapes of the lines that say something about a thread. Lenient: unknown fields and types pass, a field of
//! another type than expected is as good as absent.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::scan::plain;
use crate::stores::threads::GitFacts;

/// Any line. What is not needed stays unread.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow, default)]
    pub(crate) timestamp: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) payload: Option<&'a RawValue>,
}

impl Line<'_> {
    pub(crate) fn payload(&self) -> &str {
        self.payload.map_or("null", RawValue::get)
    }

    pub(crate) fn read<T: DeserializeOwned + Default>(&self) -> T {
        read(self.payload)
    }

    /// The `type` inside the payload.
    pub(crate) fn payload_kind(&self) -> Cow<'_, str> {
        kind_of(self.payload())
    }
}

/// The `type` inside this JSON; empty where there is none.
pub(crate) fn kind_of(payload: &str) -> Cow<'_, str> {
    #[derive(Default, Deserialize)]
    struct Typed {
        #[serde(default, rename = "type")]
        kind: Lenient<String>,
    }
    let first = payload.strip_prefix(r#"{"type":""#).and_then(|rest| rest.split_once('"'));
    match first {
        Some((word, _)) if !word.contains('\\') => Cow::Borrowed(word),
        _ => {
            Cow::Owned(serde_json::from_str::<Typed>(payload).unwrap_or_default().kind.0.unwrap_or_default())
        }
    }
}

/// A payload as this shape; one that does not fit is a blank one.
pub(super) fn read<T: DeserializeOwned + Default>(payload: Option<&RawValue>) -> T {
    payload.and_then(|payload| serde_json::from_str(payload.get()).ok()).unwrap_or_default()
}

/// A value of this type; anything else is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lenient<T>(pub(crate) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

/// A word, or where programs say more than a word, its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy(pub(super) String);

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        if raw.get() == "null" {
            return Err(serde::de::Error::custom("null"));
        }
        Ok(Self(serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())))
    }
}

/// `session_meta`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionMeta {
    pub(super) id: Lenient<String>,
    pub(super) timestamp: Lenient<String>,
    pub(super) cwd: Lenient<String>,
    pub(super) cli_version: Lenient<String>,
    pub(super) source: Lenient<serde_json::Value>,
    pub(super) model_provider: Lenient<String>,
    pub(super) memory_mode: Lenient<String>,
    pub(super) forked_from_id: Lenient<String>,
    pub(super) agent_nickname: Lenient<String>,
    pub(super) agent_role: Lenient<String>,
    pub(super) git: Lenient<Git>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Git {
    #[serde(alias = "sha")]
    commit_hash: Lenient<String>,
    branch: Lenient<String>,
    #[serde(alias = "origin_url")]
    repository_url: Lenient<String>,
}

impl Git {
    pub(super) fn facts(self) -> GitFacts {
        GitFacts {
            sha: plain(self.commit_hash.0),
            branch: plain(self.branch.0),
            origin_url: plain(self.repository_url.0),
        }
    }
}

/// `turn_context`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TurnContext {
    pub(super) cwd: Lenient<String>,
    pub(super) model: Lenient<String>,
    pub(super) effort: Lenient<String>,
    pub(super) approval_policy: Lenient<Policy>,
    pub(super) sandbox_policy: Lenient<Policy>,
}

/// `event_msg` of type `token_count`; `info` is null until the first answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenCount {
    info: Lenient<TokenInfo>,
}

impl TokenCount {
    pub(super) fn total(self) -> Option<i64> {
        self.info.0?.total_token_usage.0?.total_tokens.0
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TokenInfo {
    total_token_usage: Lenient<TokenUsage>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TokenUsage {
    total_tokens: Lenient<i64>,
}

/// `event_msg` of type `user_message`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UserMessage {
    pub(super) message: Lenient<String>,
    pub(super) images: Lenient<Vec<serde::de::IgnoredAny>>,
    pub(super) local_images: Lenient<Vec<serde::de::IgnoredAny>>,
}

/// `response_item` of type `message`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) role: Lenient<String>,
    pub(super) content: Lenient<Vec<Content>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    #[serde(rename = "type")]
    pub(super) kind: Lenient<String>,
    pub(super) text: Lenient<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        serde_json::from_str(text).expect("a line")
    }

    #[test]
    fn a_field_of_another_type_is_absent_and_the_rest_is_read() {
        let meta: SessionMeta =
            line(r#"{"type":"session_meta","payload":{"id":7,"cwd":"/a","git":7,"new":{}}}"#).read();
        assert_eq!((meta.id.0, meta.cwd.0.as_deref(), meta.git.0.is_none()), (None, Some("/a"), true));
    }

    #[test]
    fn payloads_of_any_shape_make_a_line() {
        for payload in ["null", "[1,2]", "\"text\"", "7", r#"{"type":7}"#] {
            let text = format!(r#"{{"type":"later","payload":{payload}}}"#);
            assert_eq!(line(&text).payload_kind(), "");
        }
        assert_eq!(line(r#"{"type":"later"}"#).payload_kind(), "");
        assert_eq!(
            line(r#"{"type":"event_msg","payload":{ "at": 1, "type" : "token_count" }}"#).payload_kind(),
            "token_count"
        );
    }

    #[test]
    fn a_policy_is_a_word_or_json() {
        let turn: TurnContext = line(
            r#"{"type":"turn_context","payload":{"approval_policy":"never","sandbox_policy":{"type":"read-only"}}}"#,
        )
        .read();
        assert_eq!(turn.approval_policy.0, Some(Policy("never".to_owned())));
        assert_eq!(turn.sandbox_policy.0, Some(Policy(r#"{"type":"read-only"}"#.to_owned())));
        let none: TurnContext = line(r#"{"type":"turn_context","payload":{"approval_policy":null}}"#).read();
        assert_eq!(none.approval_policy.0, None);
    }
}
