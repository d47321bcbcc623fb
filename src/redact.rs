//! What must not be kept: the values of fields that bear secrets or a user's own content, and what looks like a secret
//! inside a text.
//!
//! A name is known as secret by its words ([`SECRET_WORDS`], [`SECRET_PAIRS`]), so `apiKey`, `x-api-key` and
//! `OPENAI_API_KEY` are one case. A text is searched for known values, for credentials by their shape (`Bearer …`,
//! `sk-…`, `ghp_…`, JSON web tokens, private keys), for `user:password@` in URLs, and for `name=value` and
//! `"name": "value"` with such a name. What somebody wrote into a text without any of these marks cannot be told from
//! other words.
//!
//! Invariants:
//! 1. What is put in the place of a value tells nothing about it: always [`REDACTED`].
//! 2. Redacting twice is the same as once.
//!
//! Tests: below; `tests/log_sink.rs`.

use std::borrow::Cow;

/// What stands where a secret was.
pub const REDACTED: &str = "[REDACTED]";

/// A name with one of these words is that of a secret.
pub const SECRET_WORDS: &[&str] = &[
    "apikey",
    "authorization",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pwd",
    "secret",
    "secrets",
    "token",
];

/// A name with two of these words, one after the other, is that of a secret.
pub const SECRET_PAIRS: &[(&str, &str)] = &[
    ("access", "key"),
    ("account", "key"),
    ("api", "key"),
    ("encryption", "key"),
    ("private", "key"),
    ("signing", "key"),
];

/// Fields of exactly these names hold what users, models and tools wrote, or whole environments.
pub const CONTENT_FIELDS: &[&str] = &[
    "arguments",
    "body",
    "completion",
    "content",
    "env",
    "env_vars",
    "environ",
    "headers",
    "image",
    "image_url",
    "images",
    "input",
    "messages",
    "output",
    "payload",
    "prompt",
    "request_body",
    "response_body",
    "stderr",
    "stdin",
    "stdout",
    "tool_input",
    "tool_output",
    "tool_result",
    "user_message",
];

/// How credentials begin that say by themselves what they are, and how long the rest is at least.
const SHAPES: &[(&str, usize)] = &[
    ("sk-", 12),
    ("sk_live_", 8),
    ("sk_test_", 8),
    ("rk_live_", 8),
    ("whsec_", 8),
    ("ghp_", 12),
    ("gho_", 12),
    ("ghu_", 12),
    ("ghs_", 12),
    ("ghr_", 12),
    ("github_pat_", 12),
    ("glpat-", 12),
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("xoxa-", 8),
    ("xoxs-", 8),
    ("xapp-", 8),
    ("AKIA", 12),
    ("ASIA", 12),
    ("AIza", 20),
    ("ya29.", 12),
    ("hf_", 16),
    ("npm_", 16),
    ("pypi-", 16),
    ("eyJ", 24),
];

/// A known value that is shorter hides too much of other texts.
const SHORTEST_VALUE: usize = 8;

/// What is redacted. `Default` is the lists of this module.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Further names, as [`is_secret_name`] compares them: lower case.
    names: Vec<String>,
    /// Values that are known to be secret, the longest first.
    values: Vec<String>,
}

impl Redactor {
    /// Fields of this name too, in any case of letters.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_ascii_lowercase());
        self
    }

    /// This value too, wherever it stands. One of less than 8 bytes is left alone.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        let value = value.into();
        if value.len() >= SHORTEST_VALUE && !self.values.contains(&value) {
            self.values.push(value);
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
        self
    }

    /// The values of this process's environment whose names are those of secrets.
    #[must_use]
    pub fn environment(self) -> Self {
        std::env::vars_os().fold(self, |redactor, (name, value)| match (name.to_str(), value.into_string()) {
            (Some(name), Ok(value)) if is_secret_name(name) => redactor.value(value),
            _ => redactor,
        })
    }

    /// True when nothing of what a field of this name holds may be kept.
    pub fn hides(&self, name: &str) -> bool {
        is_secret_name(name)
            || CONTENT_FIELDS.iter().any(|known| known.eq_ignore_ascii_case(name))
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The text without what looks like a secret, and how many were found.
    pub fn text<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let (mut cleaned, mut found) = (Cow::Borrowed(text), 0);
        for value in &self.values {
            if cleaned.contains(value.as_str()) {
                found += cleaned.matches(value.as_str()).count();
                cleaned = Cow::Owned(cleaned.replace(value.as_str(), REDACTED));
            }
        }
        let secrets = search(&cleaned);
        if secrets.is_empty() {
            return (cleaned, found);
        }
        let mut kept = String::with_capacity(cleaned.len());
        let mut from = 0;
        for (start, end) in &secrets {
            kept.push_str(&cleaned[from..*start]);
            kept.push_str(REDACTED);
            from = *end;
        }
        kept.push_str(&cleaned[from..]);
        (Cow::Owned(kept), found + secrets.len())
    }
}

/// True for the name of a secret, written in any style. Numbers of tokens are none: see `is_harmless`.
pub fn is_secret_name(name: &str) -> bool {
    let mut words = Words::of(name);
    let mut before = words.next();
    while let Some(word) = before {
        if SECRET_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            return true;
        }
        let next = words.next();
        if let Some(next) = next
            && SECRET_PAIRS
                .iter()
                .any(|(one, two)| one.eq_ignore_ascii_case(word) && two.eq_ignore_ascii_case(next))
        {
            return true;
        }
        before = next;
    }
    false
}

/// True for what a secret field may hold and keep: a count of tokens, a flag, nothing.
pub(crate) fn is_harmless(name: &str, value: &str) -> bool {
    let counts = Words::of(name).any(|word| word.eq_ignore_ascii_case("token"));
    value.is_empty()
        || value == "true"
        || value == "false"
        || value == "null"
        || (counts && value.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The words of a name: `OPENAI_API_KEY`, `x-api-key`, `apiKey`.
struct Words<'n>(&'n str);

impl<'n> Words<'n> {
    fn of(name: &'n str) -> Self {
        Self(name)
    }
}

impl<'n> Iterator for Words<'n> {
    type Item = &'n str;

    fn next(&mut self) -> Option<&'n str> {
        let text = self.0.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
        let bytes = text.as_bytes();
        let end = (0..bytes.len()).find(|&at| {
            !bytes[at].is_ascii_alphanumeric()
                || (at > 0 && bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase())
        });
        let end = end.unwrap_or(bytes.len());
        self.0 = &text[end..];
        (end > 0).then(|| &text[..end])
    }
}

/// Where secrets are: ranges in order, which do not overlap.
fn search(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let starts_word = at == 0 || !is_word(bytes[at - 1]);
        let secret = match bytes[at] {
            b':' | b'=' => url(text, at).or_else(|| assigned(text, at)),
            b'-' if text[at..].starts_with("-----BEGIN ") => private_key(text, at),
            byte if starts_word && byte.is_ascii_alphabetic() => {
                scheme(text, at).or_else(|| shaped(text, at))
            }
            _ => None,
        };
        match secret {
            Some((start, end)) if end > start && &text[start..end] != REDACTED => {
                found.push((start, end));
                at = end;
            }
            Some((_, end)) => at = end.max(at + 1),
            None => at += 1,
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn run(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    from + bytes[from..].iter().take_while(|byte| belongs(**byte)).count()
}

/// `Bearer …` and `Basic …`.
fn scheme(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let word_end = run(bytes, at, |byte| byte.is_ascii_alphabetic());
    let word = &text[at..word_end];
    let least = match word {
        _ if word.eq_ignore_ascii_case("bearer") => 6,
        _ if word.eq_ignore_ascii_case("basic") => 8,
        _ => return None,
    };
    let start = run(bytes, word_end, |byte| byte == b' ');
    let end = run(bytes, start, is_of_a_token);
    let value = &bytes[start..end];
    // "basic authentication" is two words.
    let is_prose = value.iter().all(u8::is_ascii_lowercase);
    (start > word_end && end - start >= least && !is_prose).then_some((start, end))
}

/// A credential by its beginning.
fn shaped(text: &str, at: usize) -> Option<(usize, usize)> {
    let (prefix, least) =
        SHAPES.iter().find(|(prefix, _)| text.as_bytes()[at..].starts_with(prefix.as_bytes()))?;
    let from = at + prefix.len();
    let end = run(text.as_bytes(), from, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let value = &text.as_bytes()[from..end];
    let is_random = value.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    (value.len() >= *least && is_random).then_some((at, end))
}

/// `://user:password@`, seen from its colon.
fn url(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = text[at..].strip_prefix("://")?;
    let start = at + 3;
    let end =
        rest.find(|letter: char| letter.is_whitespace() || "/?#\"'<>".contains(letter)).unwrap_or(rest.len());
    let user = rest[..end].rfind('@')?;
    rest[..user].contains(':').then_some((start, start + user))
}

/// `name=value`, `name: value`, `"name":"value"`, seen from the sign between.
fn assigned(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let before = text[..at].trim_end_matches([' ', '"', '\'', '\\']);
    let letters = before.bytes().rev().take_while(|byte| is_word(*byte) || *byte == b'-').count();
    let name = &before[before.len() - letters..];
    if name.is_empty() || name.len() > 64 || !is_secret_name(name) {
        return None;
    }
    let start = run(bytes, at + 1, |byte| byte == b' ');
    if text[start..].starts_with(REDACTED) {
        return None;
    }
    // Inside of a quoted text the quotes are escaped.
    let escaped = usize::from(bytes.get(start) == Some(&b'\\'));
    let (start, end) = match bytes.get(start + escaped) {
        Some(&quote) if quote == b'"' || quote == b'\'' => {
            let start = start + escaped + 1;
            (start, quoted_end(bytes, start, quote, escaped == 1))
        }
        _ => (start, bare_end(text, start, name)),
    };
    (!is_harmless(name, &text[start..end])).then_some((start, end))
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8, escaped: bool) -> usize {
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escaped && bytes.get(at + 1) == Some(&quote) => return at,
            b'\\' => at += 1,
            byte if byte == quote => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn bare_end(text: &str, start: usize, name: &str) -> usize {
    // The values of these headers have spaces and semicolons in them.
    let is_header = Words::of(name)
        .any(|word| ["authorization", "cookie"].iter().any(|known| known.eq_ignore_ascii_case(word)));
    let ends = |letter: char| {
        "\r\n\"'".contains(letter) || (!is_header && (letter.is_whitespace() || ",;&)}]".contains(letter)))
    };
    text[start..].find(ends).map_or(text.len(), |end| start + end)
}

/// From `-----BEGIN … PRIVATE KEY-----` to its end.
fn private_key(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &text[at..];
    let title = rest.get(11..)?.split("-----").next()?;
    if !title.ends_with("PRIVATE KEY") {
        return None;
    }
    let end = format!("-----END {title}-----");
    Some((at, rest.find(&end).map_or(text.len(), |found| at + found + end.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        let redactor = Redactor::default();
        let once = redactor.text(text).0.into_owned();
        assert_eq!(redactor.text(&once).0, once, "twice is the same as once");
        once
    }

    #[test]
    fn names_are_known_in_any_style() {
        for name in [
            "password",
            "db_password",
            "apiKey",
            "api-key",
            "x-api-key",
            "OPENAI_API_KEY",
            "authorization",
            "Proxy-Authorization",
            "Set-Cookie",
            "access_token",
            "refreshToken",
            "client_secret",
            "AWS_SECRET_ACCESS_KEY",
            "privateKey",
            "http.request.header.authorization",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in
            ["path", "key", "tokens_used", "total_tokens", "tokenizer", "secretary", "keyboard", "", "_", "ä"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
        assert!(Redactor::default().hides("Prompt") && !Redactor::default().hides("prompt_tokens"));
        assert!(Redactor::default().name("Project").hides("project"));
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out_of_a_text() {
        for (text, expected) in [
            ("Authorization: Bearer abc123def456", "Authorization: [REDACTED]"),
            ("sent with bearer abc123def456, ok", "sent with bearer [REDACTED], ok"),
            ("basic authentication failed", "basic authentication failed"),
            ("Basic dXNlcjpwYXNz next", "Basic [REDACTED] next"),
            ("key sk-proj-abcdefgh12345678 used", "key [REDACTED] used"),
            ("ghp_0123456789abcdefABCDEF", "[REDACTED]"),
            ("risk-free-and-well-meant-text", "risk-free-and-well-meant-text"),
            ("get https://me:pa55@host/a?b=c", "get https://[REDACTED]@host/a?b=c"),
            ("get https://host:80/a@b", "get https://host:80/a@b"),
            ("password=hunter2&user=me", "password=[REDACTED]&user=me"),
            ("{\"api_key\": \"a b\\\"c\", \"n\": 1}", "{\"api_key\": \"[REDACTED]\", \"n\": 1}"),
            ("{\\\"token\\\":\\\"abc\\\",\\\"n\\\":1}", "{\\\"token\\\":\\\"[REDACTED]\\\",\\\"n\\\":1}"),
            ("Cookie: a=b; c=d\nnext", "Cookie: [REDACTED]\nnext"),
            ("token_count=512 max_token: 9", "token_count=512 max_token: 9"),
            ("password: true, secret=", "password: true, secret="),
            ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b", "a [REDACTED] b"),
            ("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"),
            ("grüße: ärger=öl", "grüße: ärger=öl"),
        ] {
            assert_eq!(cleaned(text), expected, "{text}");
        }
        assert!(cleaned(&format!("t eyJ{}.x.y", "aB3".repeat(20))).ends_with("t [REDACTED]"));
    }

    #[test]
    fn known_values_are_hidden_wherever_they_are() {
        let redactor = Redactor::default().value("swordfish-and-more").value("swordfish").value("short");
        let (text, found) = redactor.text("(swordfish-and-more) swordfishes, short");
        assert_eq!((&*text, found), ("([REDACTED]) [REDACTED]es, short", 2));
    }

    #[test]
    fn any_text_is_gone_through() {
        for text in
            ["=", ":", "://", "://@", "://:@", "\"=\"", "token=\\", "-----BEGIN ", "sk-", "Bearer ", "Bearer"]
        {
            assert!(!cleaned(&text.repeat(3)).is_empty(), "{text}");
        }
    }
}
