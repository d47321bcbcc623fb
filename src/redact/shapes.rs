//! Credentials that are known by their shape, whatever stands before them.

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
    ("AIza", 20),
    ("ya29.", 12),
    ("hf_", 16),
    ("npm_", 16),
    ("pypi-", 16),
    ("eyJ", 24),
];

/// Words before a token, in any case of letters.
const SCHEMES: &[&str] = &["bearer", "basic"];

/// How the ids of AWS keys begin, and how long the rest is exactly.
const AWS_KEYS: (&[&str], usize) = (&["AKIA", "ASIA"], 16);

/// The two letters that credentials of this module begin with: of each first one a set of second ones.
const BEGINNINGS: [u128; 128] = {
    let mut beginnings = [0; 128];
    let mut at = 0;
    while at < SHAPES.len() {
        let prefix = SHAPES[at].0.as_bytes();
        beginnings[prefix[0] as usize] |= 1 << prefix[1];
        at += 1;
    }
    at = 0;
    while at < AWS_KEYS.0.len() {
        let prefix = AWS_KEYS.0[at].as_bytes();
        beginnings[prefix[0] as usize] |= 1 << prefix[1];
        at += 1;
    }
    at = 0;
    while at < SCHEMES.len() {
        let word = SCHEMES[at].as_bytes();
        let second = 1 << word[1] | 1 << word[1].to_ascii_uppercase();
        beginnings[word[0] as usize] |= second;
        beginnings[word[0].to_ascii_uppercase() as usize] |= second;
        at += 1;
    }
    beginnings
};

/// True for a letter that a credential may begin with.
pub(super) const fn is_first(byte: u8) -> bool {
    byte < 128 && BEGINNINGS[byte as usize] != 0
}

/// True where, by its first two letters, a credential may begin.
pub(super) fn may_begin(bytes: &[u8], at: usize) -> bool {
    let [first, second, ..] = bytes[at..] else { return false };
    first < 128 && second < 128 && BEGINNINGS[usize::from(first)] >> second & 1 == 1
}

/// What was found at a place.
pub(super) enum Shape {
    /// A credential, and where it stands.
    Found(usize, usize),
    /// None, and none by its beginning before there.
    NoneBefore(usize),
}

/// Looks for a credential that begins here, at the beginning of a word.
pub(super) fn shape(text: &str, at: usize) -> Shape {
    let bytes = text.as_bytes();
    let byte = bytes[at];
    let found = match byte {
        b'B' | b'b' => scheme(text, at),
        b'A' => aws_key(bytes, at),
        _ => None,
    };
    if let Some((start, end)) = found {
        return Shape::Found(start, end);
    }
    let mut shapes = SHAPES.iter().filter(|(prefix, _)| prefix.as_bytes()[0] == byte);
    let Some((prefix, least)) = shapes.find(|(prefix, _)| bytes[at..].starts_with(prefix.as_bytes())) else {
        return Shape::NoneBefore(at);
    };
    let from = at + prefix.len();
    let end = run(bytes, from, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let value = &bytes[from..end];
    if !value.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
        // No part of it has a digit or a capital either: it is not gone through again.
        return Shape::NoneBefore(end);
    }
    if value.len() >= *least { Shape::Found(at, end) } else { Shape::NoneBefore(at) }
}

pub(super) fn run(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    from + bytes[from..].iter().take_while(|byte| belongs(**byte)).count()
}

pub(super) fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

/// `AKIA…` and `ASIA…`.
fn aws_key(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let (prefixes, length) = AWS_KEYS;
    let prefix = prefixes.iter().find(|prefix| bytes[at..].starts_with(prefix.as_bytes()))?;
    let (from, end) = (at + prefix.len(), at + prefix.len() + length);
    let is_key = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let is_whole = bytes.get(from..end)?.iter().all(is_key)
        && !bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_whole.then_some((at, end))
}

/// `Bearer …` and `Basic …`.
fn scheme(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let is = |word: &str| {
        bytes.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    };
    let word = SCHEMES.iter().copied().find(|word| is(word))?;
    let start = run(bytes, at + word.len(), |byte| byte == b' ' || byte == b'\t');
    if start == at + word.len() {
        return None;
    }
    let end = run(bytes, start, is_of_a_token);
    let value = &text[start..end];
    let is_secret = match word {
        "bearer" => {
            // "Missing bearer token." is three words.
            let letters = value.trim_end_matches(['.', '-', '~', '+', '/', '=']);
            let is_prose = letters.bytes().all(|byte| byte.is_ascii_lowercase());
            value.len() >= 6 && !is_prose
        }
        _ => is_user_and_password(value),
    };
    is_secret.then_some((start, end))
}

/// True for the base64 of printable bytes with a colon among them.
fn is_user_and_password(value: &str) -> bool {
    let (mut bits, mut count, mut has_colon) = (0_u32, 0, false);
    for byte in value.trim_end_matches(['=', '.']).bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return false,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            let decoded = (bits >> count) as u8;
            bits &= (1 << count) - 1;
            if decoded < b' ' || decoded == 0x7f {
                return false;
            }
            has_colon |= decoded == b':';
        }
    }
    has_colon
}

/// `://user:password@`, seen from its colon.
pub(super) fn url(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = text[at..].strip_prefix("://")?;
    let start = at + 3;
    let end =
        rest.find(|letter: char| letter.is_whitespace() || "/?#\"'<>".contains(letter)).unwrap_or(rest.len());
    let user = rest[..end].rfind('@')?;
    rest[..user].contains(':').then_some((start, start + user))
}

/// From `-----BEGIN … PRIVATE KEY-----` to its end.
pub(super) fn private_key(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &text[at..];
    let title = rest.strip_prefix("-----BEGIN ")?.split("-----").next()?;
    if !title.contains("PRIVATE KEY") || title.len() > 64 {
        return None;
    }
    let end = format!("-----END {title}-----");
    Some((at, rest.find(&end).map_or(text.len(), |found| at + found + end.len())))
}
