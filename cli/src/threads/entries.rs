//! What a person reads of the lines of a transcript: who said what, which tools ran and what they answered.
//!
//! Programs write most things twice, as an event for people and as an item for the model. What stands in an event is
//! taken from there; the item counts where there is no event of its kind. A line that says nothing to a person (or has
//! another shape than expected) is left out; `threads export --format jsonl` has every line.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Something that was said or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) role: Role,
    /// As the line says it: RFC 3339 mostly.
    pub(super) at: Option<String>,
    /// What the tool is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool: Option<String>,
    /// What was said; of a tool, what it was given.
    pub(super) text: String,
    /// What the tool answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    User,
    Assistant,
    Reasoning,
    Tool,
    Error,
    /// What happened to the conversation itself.
    Note,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Reasoning => "reasoning",
            Self::Tool => "tool",
            Self::Error => "error",
            Self::Note => "note",
        }
    }
}

/// What some lines say.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) entries: Vec<Entry>,
    /// What the thread had used by then.
    pub(super) tokens_used: Option<i64>,
}

/// Reads lines that follow each other: those of a turn, or of a thread that has no turns.
pub(super) fn read<'a>(lines: impl IntoIterator<Item = &'a RawValue>) -> Told {
    read_texts(lines.into_iter().map(RawValue::get))
}

/// The same of their texts.
pub(super) fn read_texts<'a>(lines: impl IntoIterator<Item = &'a str>) -> Told {
    let lines: Vec<Line> = lines.into_iter().filter_map(Line::of).collect();
    let has = |kind| lines.iter().any(|line| line.is_event && line.kind() == kind);
    let by_event = [
        (Role::User, has("user_message")),
        (Role::Assistant, has("agent_message")),
        (Role::Reasoning, has("agent_reasoning")),
    ];
    let mut told = Told::default();
    // Which tool was called with which id, and has not answered.
    let mut calls: Vec<(String, usize)> = Vec::new();
    for line in &lines {
        if let Some(tokens) = line.tokens() {
            told.tokens_used = Some(tokens);
        }
        if let Some(output) = line.output() {
            let call = line.text("call_id").unwrap_or_default();
            let Some(at) = calls.iter().rposition(|(id, _)| id == call) else {
                told.entries.push(Entry { output: Some(output), ..line.entry(Role::Tool, String::new()) });
                continue;
            };
            let (_, entry) = calls.swap_remove(at);
            told.entries[entry].output = Some(output);
        } else if let Some(entry) = line.said() {
            if !line.is_event && by_event.contains(&(entry.role, true)) {
                continue;
            }
            if let Some(call) = line.text("call_id") {
                calls.push((call.to_owned(), told.entries.len()));
            }
            told.entries.push(entry);
        }
    }
    told
}

struct Line {
    at: Option<String>,
    is_event: bool,
    payload: Value,
}

impl Line {
    fn of(text: &str) -> Option<Self> {
        let mut line: Value = serde_json::from_str(text).ok()?;
        let at = line.get("timestamp").and_then(Value::as_str).map(str::to_owned);
        let is_event = match line.get("type")?.as_str()? {
            "event_msg" => true,
            "response_item" => false,
            "compacted" => {
                return Some(Self { at, is_event: true, payload: serde_json::json!({"type": "compacted"}) });
            }
            _ => return None,
        };
        Some(Self { at, is_event, payload: line.get_mut("payload")?.take() })
    }

    fn kind(&self) -> &str {
        self.text("type").unwrap_or_default()
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.payload.get(field)?.as_str()
    }

    fn entry(&self, role: Role, text: impl Into<String>) -> Entry {
        Entry { role, at: self.at.clone(), tool: None, text: text.into(), output: None }
    }

    fn tool(&self, name: &str, input: impl Into<String>) -> Entry {
        Entry { tool: Some(name.to_owned()), ..self.entry(Role::Tool, input) }
    }

    fn tokens(&self) -> Option<i64> {
        if !self.is_event || self.kind() != "token_count" {
            return None;
        }
        self.payload.pointer("/info/total_token_usage/total_tokens")?.as_i64()
    }

    /// What a tool answered.
    fn output(&self) -> Option<String> {
        let is_output = !self.is_event && self.kind().ends_with("_output");
        is_output.then(|| answer(self.payload.get("output").unwrap_or(&Value::Null)))
    }

    fn said(&self) -> Option<Entry> {
        let entry = if self.is_event { self.event() } else { self.item() }?;
        let empty = entry.text.trim().is_empty() && entry.role != Role::Tool;
        (!empty).then_some(entry)
    }

    fn event(&self) -> Option<Entry> {
        let message = || self.text("message").unwrap_or_default();
        Some(match self.kind() {
            "user_message" => {
                let images = ["images", "local_images"].iter().filter_map(|field| self.payload.get(field));
                let images: usize = images.filter_map(Value::as_array).map(Vec::len).sum();
                let mut text = message().to_owned();
                for _ in 0..images {
                    text.push_str(if text.is_empty() { "[Image]" } else { "\n[Image]" });
                }
                self.entry(Role::User, text)
            }
            "agent_message" => self.entry(Role::Assistant, message()),
            "agent_reasoning" => self.entry(Role::Reasoning, self.text("text")?),
            "error" => self.entry(Role::Error, message()),
            "turn_aborted" => self.entry(Role::Note, "interrupted"),
            "compacted" => self.entry(Role::Note, "what came before was made shorter for the model"),
            _ => return None,
        })
    }

    fn item(&self) -> Option<Entry> {
        Some(match self.kind() {
            "message" => match self.text("role")? {
                "user" => self.entry(Role::User, texts(self.payload.get("content")?)),
                "assistant" => self.entry(Role::Assistant, texts(self.payload.get("content")?)),
                _ => return None,
            },
            "reasoning" => self.entry(Role::Reasoning, texts(self.payload.get("summary")?)),
            "function_call" => {
                self.tool(self.text("name")?, input(self.text("arguments").unwrap_or_default()))
            }
            "custom_tool_call" => self.tool(self.text("name")?, self.text("input").unwrap_or_default()),
            "local_shell_call" => self.tool("shell", command(self.payload.pointer("/action/command")?)?),
            "web_search_call" => {
                let query = self.payload.pointer("/action/query").and_then(Value::as_str);
                self.tool("web_search", query.unwrap_or_default())
            }
            _ => return None,
        })
    }
}

/// The texts of a list of parts.
fn texts(parts: &Value) -> String {
    let text = |part: &Value| {
        if part.get("type").and_then(Value::as_str) == Some("input_image") {
            return Some("[Image]".to_owned());
        }
        part.get("text").and_then(Value::as_str).map(str::to_owned)
    };
    match parts {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(text).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// The arguments of a call: of a command what a shell would take, else their JSON.
fn input(arguments: &str) -> String {
    let Ok(read) = serde_json::from_str::<Value>(arguments) else { return arguments.to_owned() };
    let given = ["command", "cmd"].iter().find_map(|name| read.get(name)).and_then(command);
    given.unwrap_or_else(|| arguments.to_owned())
}

fn command(words: &Value) -> Option<String> {
    match words {
        Value::String(command) => Some(command.clone()),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().map(Value::as_str).collect::<Option<_>>()?;
            Some(match words[..] {
                ["bash" | "sh" | "zsh", "-c" | "-lc", script] => script.to_owned(),
                _ => words.join(" "),
            })
        }
        _ => None,
    }
}

/// What a tool answered: a text, a text within JSON, or parts.
fn answer(output: &Value) -> String {
    match output {
        Value::Null => String::new(),
        Value::String(text) => {
            let within = serde_json::from_str::<Value>(text).ok();
            let within = within.as_ref().and_then(|within| within.get("output")?.as_str());
            within.unwrap_or(text).to_owned()
        }
        Value::Array(_) => texts(output),
        Value::Object(fields) => match fields.get("output").or_else(|| fields.get("content")) {
            Some(inner @ (Value::String(_) | Value::Array(_))) => texts(inner),
            _ => output.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(lines: &[Value]) -> Vec<(Role, String, Option<String>)> {
        let texts: Vec<String> = lines.iter().map(Value::to_string).collect();
        let told = read_texts(texts.iter().map(String::as_str));
        told.entries.into_iter().map(|entry| (entry.role, entry.text, entry.output)).collect()
    }

    fn event(payload: &Value) -> Value {
        json!({"timestamp": "2026-03-09T07:30:00Z", "type": "event_msg", "payload": payload})
    }

    fn item(payload: &Value) -> Value {
        json!({"timestamp": "2026-03-09T07:30:00Z", "type": "response_item", "payload": payload})
    }

    fn message(role: &str, text: &str) -> Value {
        item(&json!({"type": "message", "role": role, "content": [{"type": "text", "text": text}]}))
    }

    #[test]
    fn what_is_written_twice_is_told_once() {
        let both = [
            message("user", "<environment_context>"),
            message("user", "Fix it"),
            event(&json!({"type": "user_message", "message": "Fix it", "images": ["a"]})),
            message("assistant", "Done"),
            event(&json!({"type": "agent_message", "message": "Done"})),
        ];
        assert_eq!(
            told(&both),
            [(Role::User, "Fix it\n[Image]".to_owned(), None), (Role::Assistant, "Done".to_owned(), None)]
        );
        assert_eq!(told(&both[3..4]), [(Role::Assistant, "Done".to_owned(), None)], "an item alone counts");
    }

    #[test]
    fn a_tool_stands_with_its_answer_also_when_others_ran_meanwhile() {
        let call = |id: &str, arguments: &str| {
            item(&json!({"type": "function_call", "name": "shell", "arguments": arguments, "call_id": id}))
        };
        let output = |id: &str, output: Value| {
            item(&json!({"type": "function_call_output", "call_id": id, "output": output}))
        };
        let lines = [
            call("a", r#"{"command":["bash","-lc","ls"]}"#),
            call("b", r#"{"path":"x"}"#),
            output("b", json!("{\"output\":\"two\",\"metadata\":{}}")),
            output("a", json!([{"type": "text", "text": "one"}])),
            output("c", json!({"content": "three"})),
        ];
        assert_eq!(
            told(&lines),
            [
                (Role::Tool, "ls".to_owned(), Some("one".to_owned())),
                (Role::Tool, r#"{"path":"x"}"#.to_owned(), Some("two".to_owned())),
                (Role::Tool, String::new(), Some("three".to_owned())),
            ]
        );
    }

    #[test]
    fn lines_of_any_shape_are_passed() {
        let odd = [
            json!(7),
            json!({"type": 7}),
            json!({"type": "event_msg"}),
            event(&json!(null)),
            event(&json!({"type": "user_message", "message": 7})),
            event(&json!({"type": "token_count", "info": null})),
            item(&json!({"type": "message", "role": "user", "content": 7})),
            item(&json!({"type": "local_shell_call", "action": {"command": [7]}})),
            json!({"type": "later", "payload": {"type": "user_message", "message": "x"}}),
        ];
        assert_eq!(told(&odd), []);
    }
}
