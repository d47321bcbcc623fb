//! What a person first wrote: told from what programs write in a user's name, and cut to a title and a preview.

use super::records::{Message, UserMessage};

const TITLE_LETTERS: usize = 120;
const PREVIEW_LETTERS: usize = 240;
const MESSAGE_LETTERS: usize = 4_000;
const IMAGE: &str = "[Image]";

/// Editors put the person's words behind this heading.
const REQUEST_HEADING: &str = "## My request for Codex:";

/// What a list shows of the first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FirstMessage {
    pub(super) title: String,
    pub(super) preview: String,
    pub(super) text: String,
}

impl FirstMessage {
    fn of(text: &str, images: bool) -> Option<Self> {
        let text = text.split_once(REQUEST_HEADING).map_or(text, |(_, request)| request).trim();
        if text.is_empty() {
            let image = || IMAGE.to_owned();
            return images.then(|| Self { title: image(), preview: image(), text: image() });
        }
        let title = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Some(Self {
            title: one_line(title, TITLE_LETTERS),
            preview: one_line(text, PREVIEW_LETTERS),
            text: cut(text.chars().filter(|letter| *letter != '\0'), MESSAGE_LETTERS),
        })
    }

    pub(super) fn of_event(event: UserMessage) -> Option<Self> {
        let images = event.images.0.is_some_and(|images| !images.is_empty())
            || event.local_images.0.is_some_and(|images| !images.is_empty());
        let text = event.message.0.unwrap_or_default();
        if is_context(&text) { None } else { Self::of(&text, images) }
    }

    /// A message in a user's name, unless it is only context that a program put there.
    pub(super) fn of_item(item: Message) -> Option<Self> {
        if item.role.0.as_deref() != Some("user") {
            return None;
        }
        let mut images = false;
        let mut texts = Vec::new();
        for part in item.content.0.unwrap_or_default() {
            match part.kind.0.as_deref() {
                Some("input_image") => images = true,
                Some("input_text") => texts.extend(part.text.0.filter(|text| !is_context(text))),
                _ => {}
            }
        }
        Self::of(&texts.join("\n"), images)
    }
}

/// True for what programs write in a user's name: one block of their mark-up (`<environment_context>…`), the tag around
/// an image, the instructions of a project. Mark-up of a person's own (`<div>…`) is a message.
fn is_context(text: &str) -> bool {
    let text = text.trim();
    if text.starts_with("# AGENTS.md instructions") {
        return true;
    }
    let Some(inner) = text.strip_prefix('<') else { return false };
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let name = &inner[..inner.find(|letter: char| !is_tag_letter(letter)).unwrap_or(inner.len())];
    let Some((_, rest)) = text.split_once('>') else { return false };
    let by_program = name.contains('_') || matches!(name, "image" | "skill" | "INSTRUCTIONS");
    let closes = || rest.strip_suffix('>').and_then(|rest| rest.strip_suffix(name));
    by_program && (rest.is_empty() || closes().is_some_and(|rest| rest.ends_with("</")))
}

fn is_tag_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

/// In one line, white space and control characters as single spaces.
fn one_line(text: &str, letters: usize) -> String {
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * letters {
            break;
        }
    }
    cut(line.chars(), letters)
}

fn cut(text: impl Iterator<Item = char>, letters: usize) -> String {
    let mut text = text.peekable();
    let mut kept: String = text.by_ref().take(letters).collect();
    if text.peek().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Option<FirstMessage> {
        FirstMessage::of_event(serde_json::from_str(json).expect("an event"))
    }

    fn item(json: &str) -> Option<FirstMessage> {
        FirstMessage::of_item(serde_json::from_str(json).expect("an item"))
    }

    #[test]
    fn the_title_is_the_first_line_and_the_preview_one_line() {
        let first = event(r#"{"message":"\n  Fix the \tparser\n\nIt drops\nthe last row\u0000"}"#)
            .expect("a message");
        assert_eq!(first.title, "Fix the parser");
        assert_eq!(first.preview, "Fix the parser It drops the last row");
        assert!(!first.text.contains('\0'));
    }

    #[test]
    fn long_messages_are_cut_between_letters() {
        let first = event(&format!(r#"{{"message":"{}"}}"#, "ä".repeat(9_000))).expect("a message");
        assert_eq!(first.title.chars().count(), TITLE_LETTERS);
        assert_eq!(first.preview.chars().count(), PREVIEW_LETTERS);
        assert!(first.text.chars().count() == MESSAGE_LETTERS && first.text.ends_with('…'));
    }

    #[test]
    fn an_image_alone_is_called_so() {
        for json in [r#"{"message":"","images":["data:"]}"#, r#"{"message":" ","local_images":["/a.png"]}"#] {
            assert_eq!(event(json).expect("a message").title, IMAGE);
        }
        assert_eq!(event(r#"{"message":"","images":[]}"#), None);
        let wrapped = r#"{"role":"user","content":[{"type":"input_text","text":"<image name=[Image #1]>"},
            {"type":"input_image","image_url":"data:"},{"type":"input_text","text":"</image>"}]}"#;
        assert_eq!(item(wrapped).expect("a message").preview, IMAGE);
    }

    #[test]
    fn what_programs_write_is_no_message() {
        for text in [
            "<environment_context>\\n<cwd>/a</cwd>\\n</environment_context>",
            "<user_instructions>\\nBe brief\\n</user_instructions>\\n",
            "# AGENTS.md instructions for /a\\n\\nBe brief",
        ] {
            let json = format!(r#"{{"role":"user","content":[{{"type":"input_text","text":"{text}"}}]}}"#);
            assert_eq!(item(&json), None, "{text}");
        }
        assert_eq!(item(r#"{"role":"developer","content":[{"type":"input_text","text":"Hi"}]}"#), None);
        for text in [
            "<b>bold</b> does not close",
            "< 5 rows > 3",
            "a <b>",
            "<p>unclosed",
            "<div>a</div>",
            "<my_tag>unclosed",
        ] {
            let json = format!(r#"{{"role":"user","content":[{{"type":"input_text","text":"{text}"}}]}}"#);
            assert!(item(&json).is_some(), "{text}");
        }
    }

    #[test]
    fn the_words_behind_an_editors_context_are_the_message() {
        let json = r##"{"message":"# Context from my IDE setup:\n\n## Open tabs:\n- a.rs\n\n## My request for Codex:\nRename it"}"##;
        assert_eq!(event(json).expect("a message").title, "Rename it");
    }
}
