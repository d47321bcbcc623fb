//! Which names are those of secrets, and which hold what users, models and tools wrote.
//!
//! A name is compared by its words, so `apiKey`, `x-api-key`, `OPENAI_API_KEY` and `AWSApiKey1` are one case. A long
//! word of a secret counts at the end of another word too: `PGPASSWORD`, `authtoken`.

/// A name with one of these words is that of a secret; one of five letters and more also where another word ends in it.
pub const SECRET_WORDS: &[&str] = &[
    "accesskey",
    "apikey",
    "authorization",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "privatekey",
    "pwd",
    "secret",
    "secretkey",
    "secrets",
    "sessionid",
    "token",
];

/// A name with two of these words, one after the other, is that of a secret.
pub const SECRET_PAIRS: &[(&str, &str)] = &[
    ("access", "key"),
    ("account", "key"),
    ("api", "key"),
    ("encryption", "key"),
    ("private", "key"),
    ("session", "id"),
    ("signing", "key"),
];

/// Fields of these names hold what users, models and tools wrote, or whole environments. Of a name with dots the last
/// part counts: `http.request.body`.
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

/// A name that ends so says where a secret is, or of which kind, and not the secret.
const ABOUT_A_SECRET: &[&str] = &["dir", "domain", "endpoint", "file", "helper", "path", "ttl", "type"];

/// A word that is shorter would stand at the end of too many others.
const SHORTEST_ENDING: usize = 5;

/// True for the name of a secret, written in any style. What such a field may hold and keep: see `is_harmless`.
pub fn is_secret_name(name: &str) -> bool {
    let (mut is_secret, mut last) = (false, "");
    for word in Words::of(name) {
        is_secret |= is_secret_word(word)
            || SECRET_PAIRS.iter().any(|(one, two)| {
                one.eq_ignore_ascii_case(last) && two.eq_ignore_ascii_case(word.trim_end_matches(is_digit))
            });
        last = word;
    }
    let is_auth = last.eq_ignore_ascii_case("auth");
    (is_secret && !ABOUT_A_SECRET.iter().any(|known| known.eq_ignore_ascii_case(last))) || is_auth
}

fn is_secret_word(word: &str) -> bool {
    let word = word.trim_end_matches(is_digit).as_bytes();
    SECRET_WORDS.iter().any(|known| {
        let from = word.len().checked_sub(known.len());
        from.is_some_and(|from| {
            (from == 0 || known.len() >= SHORTEST_ENDING)
                && word[from..].eq_ignore_ascii_case(known.as_bytes())
        })
    })
}

fn is_digit(letter: char) -> bool {
    letter.is_ascii_digit()
}

/// True for a name of [`CONTENT_FIELDS`].
pub(super) fn is_content_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    CONTENT_FIELDS.iter().any(|known| known.eq_ignore_ascii_case(last))
}

/// True for what a secret field may hold and keep: a count of tokens, a flag, nothing, the UUID of a session.
pub(crate) fn is_harmless(name: &str, value: &str) -> bool {
    const NOTHING: &[&str] = &["", "true", "false", "null", "None", "[]", "{}", "()"];
    let has = |known: &str| Words::of(name).any(|word| word.eq_ignore_ascii_case(known));
    NOTHING.contains(&value)
        || (value.bytes().all(|byte| byte.is_ascii_digit()) && has("token"))
        || (is_uuid(value) && has("session") && !has("token") && !has("cookie"))
}

fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The words of a name: `OPENAI_API_KEY`, `x-api-key`, `apiKey`, `IDToken`. Digits belong to the word before them.
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
        let begins = |at: usize| {
            let (before, here) = (bytes[at - 1], bytes[at]);
            let is_last_capital = before.is_ascii_uppercase()
                && here.is_ascii_uppercase()
                && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            (here.is_ascii_uppercase() && before.is_ascii_lowercase())
                || is_last_capital
                || (before.is_ascii_digit() && here.is_ascii_alphabetic())
        };
        let end = (0..bytes.len()).find(|&at| !bytes[at].is_ascii_alphanumeric() || (at > 0 && begins(at)));
        let end = end.unwrap_or(bytes.len());
        self.0 = &text[end..];
        (end > 0).then(|| &text[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "PGPASSWORD",
            "AWSSecretKey",
            "DBPassword",
            "IDToken",
            "authtoken",
            "accesstoken",
            "clientsecret",
            "password1",
            "api_key2",
            "passcode",
            "auth",
            "REGISTRY_AUTH",
            "session_id",
            "sessionId",
            "SESSION_ID",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "path",
            "key",
            "tokens_used",
            "total_tokens",
            "tokenizer",
            "secretary",
            "keyboard",
            "author",
            "auth_method",
            "COOKIE_DOMAIN",
            "PASSWORD_FILE",
            "token_type",
            "session",
            "",
            "_",
            "ä",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
        for name in ["Prompt", "http.request.body", "gen_ai.prompt"] {
            assert!(is_content_name(name), "{name}");
        }
        assert!(!is_content_name("prompt_tokens") && !is_content_name("body.size"));
    }

    #[test]
    fn counts_flags_and_ids_are_no_secrets() {
        for (name, value) in [
            ("token", "12"),
            ("password", "true"),
            ("password", "None"),
            ("session_id", "019cadf1-7a5e-7b04-8f21-000000000001"),
        ] {
            assert!(is_harmless(name, value), "{name} {value}");
        }
        for (name, value) in
            [("password", "12"), ("session_id", "abc"), ("token", "12a"), ("authtoken", "12")]
        {
            assert!(!is_harmless(name, value), "{name} {value}");
        }
    }
}
