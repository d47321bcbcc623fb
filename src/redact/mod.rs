//! What must not be kept: the values of fields that bear secrets or a user's own content, and what looks like a secret
//! inside a text.
//!
//! A name is known as secret by its words ([`SECRET_WORDS`], [`SECRET_PAIRS`]). A text is searched for known values, for
//! credentials by their shape (`Bearer …`, `sk-…`, `ghp_…`, JSON web tokens, private keys), for `user:password@` in URLs,
//! and for what stands behind the name of a secret: `name=value`, `"name": "value"`, `("name", "value")`, `--name value`,
//! `Name("value")`. Names of content ([`CONTENT_FIELDS`]) count where a text has them as JSON or `{:?}` write fields.
//! What somebody wrote into a text without any of these marks cannot be told from other words.
//!
//! Invariants:
//! 1. What is put in the place of a value tells nothing about it: always [`REDACTED`].
//! 2. Redacting twice is the same as once.
//! 3. The time for a text grows with its length, whatever is in it: a place where nothing is found costs a bounded
//!    number of steps, or its whole run of letters is not gone through again.
//!
//! Tests: below, one table for what leaks and one for what stays, and any text twice; `tests/log_sink.rs` looks into the
//! files.

mod assigned;
mod json;
mod known;
mod names;
mod shapes;

use std::borrow::Cow;

use assigned::{is_escape, is_word};
pub(crate) use json::Cleaner;
use known::Known;
pub use names::{CONTENT_FIELDS, SECRET_PAIRS, SECRET_WORDS, is_secret_name};
use shapes::Shape;

/// What stands where a secret was.
pub const REDACTED: &str = "[REDACTED]";

/// What was hidden may have hidden something else. Two rounds are the rule.
const MOST_ROUNDS: usize = 8;

/// What is redacted. `Default` is the lists of this module.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Further names, in lower case.
    names: Vec<String>,
    known: Known,
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
        self.known.add(value.into());
        self
    }

    /// The values of this process's environment whose names are those of secrets. Left alone are names that say where a
    /// secret is (`…_FILE`, `…_DOMAIN`), flags, counts, and words that settings take (`disabled`).
    #[must_use]
    pub fn environment(mut self) -> Self {
        self.known.add_environment();
        self
    }

    /// True when nothing of what a field of this name holds may be kept.
    pub fn hides(&self, name: &str) -> bool {
        is_secret_name(name) || names::is_content_name(name) || self.is_named(name)
    }

    fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The text without what looks like a secret, and how many were found.
    pub fn text<'t>(&self, text: &'t str) -> (Cow<'t, str>, usize) {
        let (mut cleaned, mut found) = (Cow::Borrowed(text), 0);
        for _ in 0..MOST_ROUNDS {
            let known = self.known.search(&cleaned);
            if !known.is_empty() {
                found += known.len();
                cleaned = Cow::Owned(without(&cleaned, &known));
            }
            let secrets = self.search(&cleaned);
            if secrets.is_empty() {
                break;
            }
            found += secrets.len();
            cleaned = Cow::Owned(without(&cleaned, &secrets));
        }
        (cleaned, found)
    }

    /// Where secrets are: ranges in order, which do not overlap.
    fn search(&self, text: &str) -> Vec<(usize, usize)> {
        let bytes = text.as_bytes();
        let (mut found, mut at, mut no_shape_before) = (Vec::new(), 0, 0);
        let has_escapes = bytes.contains(&b'\\');
        while let Some(next) = next_place(bytes, at, has_escapes) {
            at = next;
            let secret = match bytes[at] {
                b':' | b'=' => shapes::url(text, at).or_else(|| self.assigned(text, at)),
                b',' => self.paired(text, at),
                b'(' | b'{' => assigned::wrapped(text, at),
                b'-' if bytes[at + 1..].starts_with(b"-") && (at == 0 || bytes[at - 1] != b'-') => {
                    shapes::private_key(text, at).or_else(|| assigned::argument(text, at))
                }
                _ if at >= no_shape_before && shapes::may_begin(bytes, at) => match shapes::shape(text, at) {
                    Shape::Found(start, end) => Some((start, end)),
                    Shape::NoneBefore(end) => {
                        no_shape_before = end;
                        None
                    }
                },
                _ => None,
            };
            match secret {
                Some((start, end)) if end > start && &text[start..end] != REDACTED => {
                    found.push((start, end));
                    at = end;
                }
                _ => at += 1,
            }
        }
        found
    }
}

/// The text with marks where the ranges were.
fn without(text: &str, ranges: &[(usize, usize)]) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in ranges {
        kept.push_str(&text[from..*start]);
        kept.push_str(REDACTED);
        from = *end;
    }
    kept.push_str(&text[from..]);
    kept
}

/// The next place from `from` on where a look is worth it: a sign between a name and a value, or the beginning of a word
/// that may be a credential. Most texts have few of them: each byte costs a look into a table, and waits for no other.
/// The letter of `\n` written out is no part of the word behind it; `has_escapes` tells whether there may be one.
fn next_place(bytes: &[u8], from: usize, has_escapes: bool) -> Option<usize> {
    let mut before = from.checked_sub(1).map_or(0, |at| KINDS[usize::from(bytes[at])]);
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        let kind = KINDS[usize::from(*byte)];
        let begins_word = !(before / WORD * LETTER);
        let is_behind_escape = || has_escapes && kind & LETTER != 0 && at > 0 && is_escape(bytes, at - 1);
        if kind & (SIGN | (LETTER & begins_word)) != 0 || is_behind_escape() {
            return Some(at);
        }
        before = kind;
    }
    None
}

/// What a byte may be, each a bit.
const SIGN: u8 = 1;
/// What credentials begin with.
const LETTER: u8 = 2;
const WORD: u8 = 4;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        kinds[byte] = if matches!(letter, b':' | b'=' | b',' | b'(' | b'{' | b'-') {
            SIGN
        } else if is_word(letter) {
            WORD
        } else {
            0
        };
        if shapes::is_first(letter) {
            kinds[byte] |= LETTER;
        }
        byte += 1;
    }
    kinds
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(text: &str) -> String {
        let redactor = Redactor::default();
        let once = redactor.text(text).0.into_owned();
        assert_eq!(redactor.text(&once).0, once, "twice is the same as once");
        once
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out_of_a_text() {
        for (text, expected) in [
            ("Authorization: Bearer abc123def456", "Authorization: [REDACTED]"),
            ("sent with bearer abc123def456, ok", "sent with bearer [REDACTED], ok"),
            ("Basic dXNlcjpwYXNz next", "Basic [REDACTED] next"),
            ("key sk-proj-abcdefgh12345678 used", "key [REDACTED] used"),
            ("ghp_0123456789abcdefABCDEF", "[REDACTED]"),
            ("id AKIAIOSFODNN7EXAMPLE.", "id [REDACTED]."),
            ("get https://me:pa55@host/a?b=c", "get https://[REDACTED]@host/a?b=c"),
            ("password=hunter2&user=me", "password=[REDACTED]&user=me"),
            ("{\"api_key\": \"a b\\\"c\", \"n\": 1}", "{\"api_key\": \"[REDACTED]\", \"n\": 1}"),
            ("{\\\"token\\\":\\\"abc\\\",\\\"n\\\":1}", "{\\\"token\\\":\\\"[REDACTED]\\\",\\\"n\\\":1}"),
            ("Cookie: a=b; c=d\nnext", "Cookie: [REDACTED]\nnext"),
            ("Cookie: a=\"b c\"; d=e\nnext", "Cookie: [REDACTED]\nnext"),
            ("curl -H 'Authorization: Token abc' host", "curl -H 'Authorization: [REDACTED]' host"),
            ("authorization=denied user=bob path=/x", "authorization=[REDACTED] user=bob path=/x"),
            ("authorization=Bearer hunter2 user=bob", "authorization=[REDACTED] user=bob"),
            ("cookie=a=b; c=d next", "cookie=[REDACTED] next"),
            ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- b", "a [REDACTED] b"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nhunter2", "[REDACTED]"),
        ] {
            assert_eq!(cleaned(text), expected, "{text}");
        }
        assert!(cleaned(&format!("t eyJ{}.x.y", "aB3".repeat(20))).ends_with("t [REDACTED]"));
    }

    #[test]
    fn a_value_goes_with_its_name_however_they_are_written() {
        for text in [
            "Login { password: Some(\"hunter2\"), user: 1 }",
            "password: Some(Secret { inner: \"a\\\"b) hunter2\" })",
            "Config {\n    password: Some(\n        \"hunter2\",\n    ),\n}",
            "with ApiKey(\"hunter2\")",
            "ApiKey(hunter2)",
            "auth: Ok(Some(\"hunter2\"))",
            "with Secret { inner: \"hunter2\" }",
            "{\"cookie\":[\"sid=hunter2; a\",\"b=hunter2\"]}",
            "{\"secrets\":{\"a\":\"hunter2\",\"b\":{\"c\":\"hunter2\"}}}",
            "{\\\\\\\"password\\\\\\\":\\\\\\\"hunter2\\\\\\\"}",
            "{\\\"password\\\":\\\"a\\\\\\\" hunter2\\\"}",
            "password:\thunter2",
            "password =\n hunter2",
            "password => hunter2",
            "password := hunter2",
            "\"password =\\n hunter2\"",
            "\"a\\npwd=hunter2\\nauth=hunter2\"",
            "\"a\\nBearer hunter2\"",
            "[(\"authorization\", String(\"a hunter2\"))]",
            "password=b\"a hunter2\"",
            "password: r#\"a hunter2\"#",
            "password: b'a hunter2'",
            "user[password]=hunter2",
            "{'token': 'a hunter2'}",
            "[(\"authorization\", \"Bearer hunter2\"), (\"x-api-key\", \"hunter2\")]",
            "[[\"authorization\",\"a hunter2\"]]",
            "run --password hunter2 --token hunter2",
            "[\"--token\", \"hunter2\", \"--verbose\"]",
            "token: Bearer hunter2",
            "PGPASSWORD=hunter2 AWSSecretKey=hunter2 DBPassword=hunter2 IDToken=hunter2",
            "authtoken=hunter2 accesstoken=hunter2 clientsecret=hunter2 password1=hunter2 passcode=hunter2",
            "auth=hunter2 session_id=hunter2",
            "body was {\"prompt\":\"hunter2\",\"content\":\"hunter2\"}",
            "body was {\\\"messages\\\": [{\\\"a\\\": \\\"hunter2\\\"}]}",
            "{\"http.request.body\": \"hunter2\", \"gen_ai.prompt\": \"hunter2\"}",
            "Request { n: 1, prompt: \"hunter2\" }",
            "Turn {\n    output: Some(\"hunter2\"),\n}",
            "[(\"http.request.body\", String(\"hunter2\")), (\"gen_ai.prompt\", \"hunter2\")]",
        ] {
            let cleaned = cleaned(text);
            assert!(!cleaned.contains("hunter2") && cleaned.contains(REDACTED), "{text}: {cleaned}");
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in [
            "basic authentication failed",
            "Basic Authentication failed",
            "Missing bearer token.",
            "basic functionality.",
            "Basic functionality",
            "ASIA-PACIFIC-SALES",
            "ASIAPACIFICSALESANDMORE",
            "unexpected token: foo",
            "Expected token: foo, bar",
            "risk-free-and-well-meant-text",
            "get https://host:80/a@b",
            "token_count=512 max_token: 9",
            "password: true, secret=",
            "password: None, token: null",
            "rowhouse::token::cache",
            "validate_token(request)",
            "session_id=019cadf1-7a5e-7b04-8f21-000000000001",
            "password_file=/run/a token_type: refresh",
            "[\"user\", \"password\", \"email\"]",
            "run --no-token --token --verbose",
            "input: two files, output: one",
            "{\"input\": 12, \"output\": null}",
            "-----BEGIN CERTIFICATE-----",
            "grüße: ärger=öl",
            "-- a, (b) {c}: d",
        ] {
            assert_eq!(cleaned(text), text);
        }
    }

    #[test]
    fn known_values_are_hidden_wherever_they_are() {
        let redactor = Redactor::default().value("swordfish-and-more").value("swordfish").value("short");
        let (text, found) = redactor.text("(swordfish-and-more) swordfishes, short");
        assert_eq!((&*text, found), ("([REDACTED]) [REDACTED]es, short", 2));
        let redactor = Redactor::default().value("REDACTED").value("[REDACTED]").value("x[REDACTED]y");
        assert_eq!(redactor.text("password=a x[REDACTED]y").0, "password=[REDACTED] x[REDACTED]y");
    }

    #[test]
    fn any_text_is_gone_through() {
        for text in
            ["=", ":", "://", "://@", "://:@", "\"=\"", "token=\\", "-----BEGIN ", "sk-", "Bearer ", "Bearer"]
        {
            assert!(!cleaned(&text.repeat(3)).is_empty(), "{text}");
        }
    }

    /// What texts of secrets are made of.
    const PARTS: &[&str] = &[
        "password",
        "token",
        "Token",
        "Cookie",
        "prompt",
        "swordfish",
        "=",
        ":",
        ": ",
        "\"",
        "'",
        "\\",
        "\\\"",
        ",",
        ", ",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "; ",
        " ",
        "\n",
        "--",
        "-",
        "[REDACTED]",
        "REDACTED",
        "sk-",
        "AKIA",
        "Bearer ",
        "Basic ",
        "dXNlcjpwYXNz",
        "abcdefgh12345678",
        "ABCDEFGH12345678",
        "://",
        "@",
        "a",
        "7",
        "Some(",
        "ä",
        "-----BEGIN PRIVATE KEY-----",
        "digest ",
        "_",
        "&",
        "b\"",
        "expected ",
    ];

    proptest! {
        #[test]
        fn twice_is_once(parts in prop::collection::vec(prop::sample::select(PARTS), 0..24)) {
            let redactor = Redactor::default().value("swordfish").name("project");
            let text = parts.concat();
            let once = redactor.text(&text).0.into_owned();
            prop_assert!(!once.contains("swordfish"));
            prop_assert_eq!(redactor.text(&once).0, once.as_str(), "{:?} became {:?}", text, once);
        }
    }

    proptest! {
        #[test]
        fn no_place_that_is_worth_a_look_is_passed(text in "[ -~sgx_\\\\nrtb:,äö]{0,40}") {
            let bytes = text.as_bytes();
            let is_worth_it = |at: &usize| {
                let begins_word = *at == 0 || !is_word(bytes[at - 1]) || is_escape(bytes, at - 1);
                b":=,({-".contains(&bytes[*at]) || (shapes::is_first(bytes[*at]) && begins_word)
            };
            let next = |at: &usize| next_place(bytes, at + 1, text.contains('\\'));
            let found: Vec<_> = std::iter::successors(next_place(bytes, 0, text.contains('\\')), next).collect();
            prop_assert_eq!(found, (0..bytes.len()).filter(is_worth_it).collect::<Vec<_>>());
        }
    }

    /// A text of 16 times the length takes about 16 times as long; 256 times where each place looked at all behind it.
    #[test]
    fn the_time_grows_with_the_length() {
        let redactor = Redactor::default().value("swordfish");
        let took = |text: &str| {
            let once = || {
                // Of this thread only: other programs do not count.
                let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                let began = now();
                std::hint::black_box(redactor.text(text));
                std::time::Duration::try_from(now() - began).expect("time goes on")
            };
            (0..3).map(|_| once()).min().expect("three")
        };
        for part in [
            "sk-",
            "hf_",
            "AKIA",
            "eyJ",
            "ya29.",
            "Bearer ",
            "bearer a.",
            "Basic ",
            "basic/",
            "://",
            "://a",
            ":@",
            "token=",
            "token: ",
            "token=\\'",
            "'token',\\'",
            "\"token\",\"",
            "\"token\",",
            "(\"token\",\"",
            "token(",
            "Token(",
            "token{",
            "Token {",
            "token: {",
            "token: \"",
            "\"prompt\":",
            "{prompt:1",
            "--",
            "--token ",
            "-----BEGIN ",
            "-----BEGIN PRIVATE KEY-----",
            "cookie=;",
            "cookie=a=b; ",
            "Cookie: \"",
            "a'",
            "=\"",
            "[REDACTED]",
            "token=[REDACTED]",
            "swordfisx",
            "expected token:",
            " ",
            "\"",
            "\\",
        ] {
            let (short, long) = (part.repeat((8 << 10) / part.len()), part.repeat((128 << 10) / part.len()));
            let (short, long) = (took(&short), took(&long));
            let lax = 100 * short + std::time::Duration::from_millis(50);
            assert!(long < lax, "{part:?}: {short:?} for 8 KiB, {long:?} for 128 KiB");
        }
    }
}
