//! What may be signed: a payload for one audience and target that the application allows, not for long.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::canonical::{Claim, object};
use super::model::{Binding, KeyId, check_name};
use super::provider::Message;
use super::target::Target;
use crate::error::{Error, ErrorKind, Result};

/// Fewer bytes of a nonce could be guessed, or met twice.
pub const SHORTEST_NONCE: usize = 32;
/// More are of no use.
pub const LONGEST_NONCE: usize = 256;
/// How far away the expiry of a payload may be.
pub const LONGEST_VALIDITY: Duration = Duration::from_mins(15);

/// What is to be signed. In JSON an object with these fields and no others; `claims` may be absent.
///
/// The signed bytes are the canonical JSON (see [`Claim`]) of
/// `{"domain":…,"payload":{"account_user_id":…,"audience":…,"claims":{…},"client_id":…,"expires_at":…,"key_id":…,"nonce":…,
/// "target_origin":…,"target_path":…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignPayload {
    /// Bytes that whoever asks for the signature chose and never uses again: 32 to 256, in JSON as base64url without padding.
    #[serde(with = "base64url")]
    pub nonce: Vec<u8>,
    /// Who is to accept the signature.
    pub audience: String,
    /// Where it is to be sent: `https://host` or `https://host:port`.
    pub target_origin: String,
    /// And the path there, which begins with a slash.
    pub target_path: String,
    /// For whom it is signed: that of the key's binding.
    pub account_user_id: String,
    /// Likewise.
    pub client_id: String,
    /// Until when it is to be accepted, in Unix milliseconds: later than now, at most 15 minutes.
    pub expires_at: i64,
    /// What else is signed.
    #[serde(default, deserialize_with = "object")]
    pub claims: BTreeMap<String, Claim>,
}

impl SignPayload {
    /// Reads a payload, strictly: a field that is missing, unknown or there twice, a fraction, or anything after the object
    /// is refused.
    ///
    /// # Errors
    /// `Invalid`, with line and column.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|error| {
            // Its own text quotes the input: it is not kept.
            use serde_json::error::Category;
            let what = match error.classify() {
                Category::Data => "has a field that is missing, unknown, there twice, or of another form",
                Category::Eof => "ends too early",
                Category::Syntax | Category::Io => "is not JSON",
            };
            let (line, column) = (error.line(), error.column());
            Error::new(ErrorKind::Invalid, format!("the payload {what}, at line {line} column {column}")).advise(
                "it is an object of nonce, audience, target_origin, target_path, account_user_id, client_id, expires_at \
                 and claims, without fractions",
            )
        })
    }
}

/// What an application lets its device keys sign: under which name, and for which audiences and targets. Whatever is not
/// allowed is refused.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use rowhouse::stores::device_keys::SigningRules;
/// let rules = SigningRules::new("example.org/remote-control/v1")?
///     .allow("remote-control", "https://example.org", "/v1/connect")?;
/// assert!(rules.allow("remote-control", "https://example.org/v1", "/connect").is_err(), "no origin");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct SigningRules {
    domain: String,
    targets: Vec<Target>,
}

impl SigningRules {
    /// Rules that allow nothing yet. The domain names the application and its protocol in everything that is signed, so
    /// that no signature means something elsewhere: 1 to 256 bytes without control characters.
    ///
    /// # Errors
    /// `Invalid` for another domain.
    pub fn new(domain: impl Into<String>) -> Result<Self> {
        let domain = domain.into();
        check_name("a domain", &domain)?;
        Ok(Self { domain, targets: Vec::new() })
    }

    /// Also allows this audience at this target. All three are compared letter by letter.
    ///
    /// # Errors
    /// `Invalid` for an audience that is empty, longer than 256 bytes or holds a control character; an origin that is not
    /// `https://host[:port]` or `wss://host[:port]` in lower case (without TLS only for this machine: `localhost`,
    /// `127.0.0.1`, `[::1]`); a path that does not begin with a slash, or holds a query, a fragment, or the segments `.` or
    /// `..`.
    pub fn allow(
        mut self,
        audience: impl Into<String>,
        origin: impl Into<String>,
        path: impl Into<String>,
    ) -> Result<Self> {
        self.targets.push(Target::new(audience.into(), origin.into(), path.into())?);
        Ok(self)
    }

    /// What is to be signed, when all of it is allowed for this key at this time.
    pub(super) fn message(
        &self,
        payload: &SignPayload,
        key: &KeyId,
        binding: &Binding,
        now: i64,
    ) -> Result<Message> {
        check_nonce(&payload.nonce)?;
        check_expiry(payload.expires_at, now)?;
        if !self
            .targets
            .iter()
            .any(|target| target.is(&payload.audience, &payload.target_origin, &payload.target_path))
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the application does not allow to sign for this audience, origin and path",
            )
            .advise("allow the three together with SigningRules::allow, letter by letter"));
        }
        if (&payload.account_user_id, &payload.client_id) != (&binding.account_user_id, &binding.client_id) {
            return Err(Error::new(ErrorKind::Conflict, "the key belongs to another account or client")
                .advise("sign with the key of this account and client, or create one"));
        }
        let text = |text: &str| Claim::Text(text.to_owned());
        let fields = [
            ("account_user_id", text(&payload.account_user_id)),
            ("audience", text(&payload.audience)),
            ("claims", Claim::Object(payload.claims.clone())),
            ("client_id", text(&payload.client_id)),
            ("expires_at", Claim::Integer(payload.expires_at)),
            ("key_id", text(key.as_str())),
            ("nonce", Claim::Text(base64url::text(&payload.nonce))),
            ("target_origin", text(&payload.target_origin)),
            ("target_path", text(&payload.target_path)),
        ];
        let document = [("domain", text(&self.domain)), ("payload", of(fields))];
        of(document).canonical().map(Message::new)
    }
}

fn of<const N: usize>(fields: [(&str, Claim); N]) -> Claim {
    Claim::Object(fields.into_iter().map(|(key, claim)| (key.to_owned(), claim)).collect())
}

fn check_nonce(nonce: &[u8]) -> Result<()> {
    if (SHORTEST_NONCE..=LONGEST_NONCE).contains(&nonce.len()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("a nonce has {SHORTEST_NONCE} to {LONGEST_NONCE} bytes")))
}

fn check_expiry(expires_at: i64, now: i64) -> Result<()> {
    let longest = i64::try_from(LONGEST_VALIDITY.as_millis()).unwrap_or(i64::MAX);
    let wrong = if expires_at <= now {
        "the payload has expired"
    } else if expires_at > now.saturating_add(longest) {
        "the payload expires more than 15 minutes from now"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Invalid, wrong).advise(
        "expires_at is Unix milliseconds, at most 15 minutes from now; is the clock of this machine right?",
    ))
}

/// Bytes as base64url text without padding.
mod base64url {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn text(bytes: &[u8]) -> String {
        Base64UrlUnpadded::encode_string(bytes)
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64UrlUnpadded::decode_vec(&text).map_err(|_| D::Error::custom("not base64url"))
    }
}
