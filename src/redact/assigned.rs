//! Values that stand behind the name of a secret: `name=value`, `"name": "value"`, `("name", "value")`, `--name value`,
//! `Name("value")`; as programs, JSON and `{:?}` write them.

use super::names::{is_content_name, is_harmless, is_secret_name};
use super::shapes::run;
use super::{REDACTED, Redactor};

/// Of a longer name its end.
const LONGEST_NAME: usize = 64;
/// Backslashes before a quote that was quoted five times over.
const MOST_ESCAPES: usize = 31;

pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

/// The name that ends here, and where it begins.
fn name_before(text: &str, end: usize) -> (&str, usize) {
    let of_a_name = |byte: &u8| is_word(*byte) || *byte == b'-';
    let letters =
        text.as_bytes()[..end].iter().rev().take(LONGEST_NAME).take_while(|byte| of_a_name(byte)).count();
    (&text[end - letters..end], end - letters)
}

impl Redactor {
    /// `name=value`, `name: value`, `"name":"value"`, `name => value`, `name := value`, seen from the first sign between.
    pub(super) fn assigned(&self, text: &str, at: usize) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        if bytes[at] == b':' && bytes.get(at + 1) == Some(&b':') {
            // A path of modules.
            return None;
        }
        let before = text[..at].trim_end_matches([' ', '\t']);
        let unquoted = before.trim_end_matches(['"', '\'', '`', '\\', ']', ')']);
        let (name, name_start) = name_before(text, unquoted.len());
        if name.is_empty() {
            return None;
        }
        let start = value_start(bytes, at + 1);
        // Of `\npassword=` in a quoted text the name may begin behind the `n`.
        let is_secret = is_secret_name(name) || (is_escape(bytes, name_start) && is_secret_name(&name[1..]));
        let is_secret = is_secret && !is_of_a_parser(name, &text[..name_start]);
        if !is_secret {
            let is_quoted = unquoted.len() < before.len();
            let is_field = || {
                let before = text[..name_start].trim_end_matches(|letter: char| letter.is_ascii_whitespace());
                let is_first = before.ends_with(['{', ',']);
                is_first && (quoted(text, start).is_some() || constructed(text, start).is_some())
            };
            let is_content = bytes[at] == b':'
                && (is_content_name(name) || self.is_named(name))
                && (is_quoted || is_field());
            return if is_content { content(text, start) } else { None };
        }
        let (start, end) = value(text, start, name, bytes[at] == b':')?;
        (!is_harmless(name, &text[start..end])).then_some((start, end))
    }

    /// `("name", "value")`, `["name","value"]`, and of a list of arguments `"--name", "value"`, seen from the comma.
    pub(super) fn paired(&self, text: &str, at: usize) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        let quote = *bytes[..at].last().filter(|byte| matches!(byte, b'"' | b'\''))?;
        let name_end = text[..at - 1].trim_end_matches('\\').len();
        let (name, name_start) = name_before(text, name_end);
        if !(is_secret_name(name) || is_content_name(name) || self.is_named(name)) {
            return None;
        }
        // Of a name with dots that was its last part.
        let of_a_path = |byte: &u8| is_word(*byte) || b"-.".contains(byte);
        let parts =
            bytes[..name_start].iter().rev().take(LONGEST_NAME).take_while(|byte| of_a_path(byte)).count();
        let opening = text[..name_start - parts].strip_suffix(quote as char)?;
        let opening = opening.trim_end_matches('\\').trim_end_matches('b');
        let start = run(bytes, at + 1, is_blank);
        let whole = || constructed(text, start).map(|end| (start, end, end));
        let (start, end, behind) = quoted(text, start).or_else(whole)?;
        let is_pair = || {
            let closing = text[behind..].trim_start_matches(|letter: char| letter.is_ascii_whitespace());
            opening.ends_with(['(', '[']) && (closing.starts_with([')', ']']))
        };
        let is_value = !text[start..end].starts_with(REDACTED) && !is_harmless(name, &text[start..end]);
        (is_value && (name.starts_with("--") || is_pair())).then_some((start, end))
    }
}

/// True for the letter of `\n`, `\r` and `\t`, written out.
pub(super) fn is_escape(bytes: &[u8], at: usize) -> bool {
    at > 0 && bytes[at - 1] == b'\\' && matches!(bytes.get(at), Some(b'n' | b'r' | b't'))
}

/// Behind blanks, also those that are written out, and the rest of `=>`, `:=` and `==`.
fn value_start(bytes: &[u8], from: usize) -> usize {
    let mut start = from;
    loop {
        start = run(bytes, start, |byte| is_blank(byte) || byte == b'=' || byte == b'>');
        let letter = run(bytes, start, |byte| byte == b'\\');
        if !is_escape(bytes, letter) || letter == start {
            return start;
        }
        start = letter + 1;
    }
}

/// `--name value`, seen from its beginning.
pub(super) fn argument(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let name_end = run(bytes, at + 2, |byte| is_word(byte) || byte == b'-');
    let name = &text[at + 2..name_end];
    let start = run(bytes, name_end, |byte| byte == b' ' || byte == b'\t');
    let is_switch = start == name_end || name.starts_with("no-") || bytes.get(start) == Some(&b'-');
    if is_switch || name.len() > LONGEST_NAME || !is_secret_name(name) {
        return None;
    }
    let (start, end) = value(text, start, name, false)?;
    (!is_harmless(name, &text[start..end])).then_some((start, end))
}

/// What stands in the parentheses of `ApiKey("…")`, or the braces of `Secret { … }`, seen from the opening one.
pub(super) fn wrapped(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let before =
        if bytes[at] == b'{' { text[..at].strip_suffix(' ').unwrap_or(&text[..at]) } else { &text[..at] };
    let (name, _) = name_before(text, before.len());
    let is_type = name.starts_with(|letter: char| letter.is_ascii_uppercase());
    // Of a function only what is quoted: `validate_token(request)` tells nothing.
    let is_call = || bytes[at] == b'(' && quoted(text, at + 1).is_some();
    if !is_secret_name(name) || !(is_type || is_call()) {
        return None;
    }
    let end = balanced_end(text, at);
    let end = if text[..end].ends_with([')', '}']) { end - 1 } else { end };
    let inner = text[at + 1..end].trim();
    let is_kept = inner.trim_matches(['"', '\'', '\\']) == REDACTED || is_harmless(name, inner);
    (!is_kept).then_some((at + 1, end))
}

/// "unexpected token: x" is what a parser says.
fn is_of_a_parser(name: &str, before: &str) -> bool {
    let before = before.as_bytes();
    name.eq_ignore_ascii_case("token")
        && before.len() >= 9
        && before[before.len() - 9..].eq_ignore_ascii_case(b"expected ")
}

/// A value of content: what is no number and no flag.
fn content(text: &str, start: usize) -> Option<(usize, usize)> {
    let (start, end) = value(text, start, "", false)?;
    let is_number = |value: &str| value.parse::<f64>().is_ok();
    let value = &text[start..end];
    (!is_number(value) && !is_harmless("", value)).then_some((start, end))
}

/// Where the value is that begins here. `None` when it is the mark.
fn value(text: &str, start: usize, name: &str, is_header: bool) -> Option<(usize, usize)> {
    let range = if let Some((start, end, _)) = quoted(text, start) {
        (start, end)
    } else if text[start..].starts_with(REDACTED) {
        (start, bare_end(text, start, start + REDACTED.len(), name, is_header))
    } else if let Some(end) = constructed(text, start) {
        (start, end)
    } else {
        (start, bare_end(text, start, start, name, is_header))
    };
    (&text[range.0..range.1] != REDACTED).then_some(range)
}

/// A quoted text, with any number of backslashes before its quotes, and `b` or `r#` before these: where what it says
/// begins and ends, and what comes behind it.
fn quoted(text: &str, at: usize) -> Option<(usize, usize, usize)> {
    let bytes = text.as_bytes();
    let prefix = at + bytes[at..].iter().take(2).take_while(|byte| b"bBrRuU&".contains(byte)).count();
    let prefix = run(bytes, prefix, |byte| byte == b'#');
    let slashes_end = run(bytes, prefix, |byte| byte == b'\\');
    let quote = *bytes.get(slashes_end).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let (start, escapes) = (slashes_end + 1, slashes_end - prefix);
    if escapes > MOST_ESCAPES {
        return None;
    }
    let (end, behind) = quoted_end(bytes, start, quote, escapes);
    Some((start, end, behind))
}

/// Where a quoted text ends, and its quote. Each text in which it is quoted once more doubles its backslashes: a quote
/// inside of it has more of them than its own, and that of a text around it has less.
fn quoted_end(bytes: &[u8], start: usize, quote: u8, escapes: usize) -> (usize, usize) {
    let mut slashes = 0_usize;
    for (at, &byte) in bytes.iter().enumerate().skip(start) {
        let is_outer = (byte == quote || byte == b'"') && slashes < escapes;
        let is_own = byte == quote && slashes % (2 * (escapes + 1)) == escapes;
        if is_outer || is_own {
            return (at - slashes.min(escapes), at + 1);
        }
        slashes = if byte == b'\\' { slashes + 1 } else { 0 };
    }
    (bytes.len(), bytes.len())
}

/// Where `Some("…")`, `Secret { … }`, `["…"]` or `{"a":"…"}` ends that begins here.
fn constructed(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let of_a_path = |byte: &u8| is_word(*byte) || b":<>!&".contains(byte);
    let path_end = at + bytes[at..].iter().take(LONGEST_NAME).take_while(|byte| of_a_path(byte)).count();
    let open = match bytes.get(path_end..) {
        Some([b' ', b'{', ..]) if bytes[at].is_ascii_uppercase() => path_end + 1,
        Some([b'(' | b'[' | b'{', ..]) => path_end,
        _ => return None,
    };
    Some(balanced_end(text, open))
}

/// Behind what closes the parenthesis, bracket or brace that is here; the text's end when nothing does.
fn balanced_end(text: &str, open: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (open, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b'"' => {
                let slashes = bytes[open..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                at = quoted_end(bytes, at + 1, b'"', slashes).1;
                continue;
            }
            // An apostrophe may stand anywhere else.
            b'\'' if b"([{,:= ".contains(&bytes[at - 1]) => {
                at = quoted_end(bytes, at + 1, b'\'', 0).1;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Where a value ends that nothing encloses, looked for behind `from`.
fn bare_end(text: &str, start: usize, from: usize, name: &str, is_header: bool) -> usize {
    let has =
        |known: &[u8]| name.as_bytes().windows(known.len()).any(|part| part.eq_ignore_ascii_case(known));
    let is_cookie = has(b"cookie");
    if is_header && (is_cookie || has(b"authorization")) {
        return header_end(text, from);
    }
    let word_end = |from: usize| {
        let ends = |letter: char| letter.is_whitespace() || "\"',;&)}]".contains(letter);
        text[from..].find(ends).map_or(text.len(), |end| from + end)
    };
    let mut end = word_end(from);
    let scheme = &text[start..end];
    let is = |schemes: &[&str]| schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    if is(&["digest", "aws4-hmac-sha256"]) {
        return header_end(text, end);
    }
    if is(&["basic", "bearer", "hmac", "negotiate", "ntlm", "token"]) && text[end..].starts_with(' ') {
        let secret = run(text.as_bytes(), end, |byte| byte == b' ');
        return word_end(secret).max(secret);
    }
    // `cookie=a=b; c=d`
    while is_cookie && text[end..].starts_with(';') {
        let next = run(text.as_bytes(), end + 1, |byte| byte == b' ');
        let next_end = word_end(next);
        if !text[next..next_end].contains('=') {
            break;
        }
        end = next_end;
    }
    end
}

/// The values of some headers have spaces and quotes in them: the end of the line, or of the quoted text they are in.
fn header_end(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\r' | b'\n' => return at,
            b'"' if bytes[at - 1] == b'=' => at = quoted_end(bytes, at + 1, b'"', 0).1,
            b'"' | b'\'' => return from + text[from..at].trim_end_matches('\\').len(),
            _ => at += 1,
        }
    }
    at
}
