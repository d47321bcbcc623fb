//! What is said about a device key: its id, its class, whom it belongs to, how it is protected.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use super::public_key::PublicKey;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Row;

/// Random bytes of an id.
const ID_BYTES: usize = 32;
/// The longest account or client, in bytes of UTF-8.
pub const LONGEST_NAME: usize = 256;

/// What keeps the private part of a key from being copied, as the key's id says it. The strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtectionClass {
    /// A secure enclave: it never leaves that chip.
    SecureEnclave,
    /// A TPM: it never leaves that chip.
    Tpm,
    /// The operating system. [`ProtectedBy`] says how.
    OsProtected,
}

impl ProtectionClass {
    const ALL: [Self; 3] = [Self::SecureEnclave, Self::Tpm, Self::OsProtected];

    /// What the ids of its keys begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::SecureEnclave => "dk_hse_",
            Self::Tpm => "dk_tpm_",
            Self::OsProtected => "dk_osn_",
        }
    }

    /// True where the private part never leaves a chip.
    pub fn is_hardware(self) -> bool {
        self != Self::OsProtected
    }
}

/// How a key of a class is protected here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProtectedBy {
    /// A chip.
    Hardware,
    /// A file of mode 0600 that is of no use without the keyring of this user.
    Keyring,
    /// A file of mode 0600, and nothing else: whoever reads this user's files has the key.
    FilePermissions,
    /// It is in the memory of this process only, and gone with it.
    Memory,
}

impl ProtectedBy {
    /// As one lower-case word, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Keyring => "keyring",
            Self::FilePermissions => "file_permissions",
            Self::Memory => "memory",
        }
    }
}

/// Which protection is good enough for a new key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPolicy {
    /// The strongest that there is: hardware, else a file wrapped by the keyring, else a file that only its mode protects.
    /// The answer says which it was ([`DeviceKey::protected_by`]).
    #[default]
    BestAvailable,
    /// A chip, or no key.
    HardwareOnly,
    /// A chip, else what the operating system guards by more than the modes of files: a keyring (or the memory of this
    /// process). Else no key.
    AllowOsProtected,
}

impl KeyPolicy {
    /// True when a key that is protected like this may be made.
    pub fn allows(self, class: ProtectionClass, protected_by: ProtectedBy) -> bool {
        match self {
            Self::BestAvailable => true,
            Self::HardwareOnly => class.is_hardware(),
            Self::AllowOsProtected => class.is_hardware() || protected_by != ProtectedBy::FilePermissions,
        }
    }

    pub(super) fn allows_class(self, class: ProtectionClass) -> bool {
        self != Self::HardwareOnly || class.is_hardware()
    }
}

/// The id of a device key: its class, and 43 characters of base64url. No secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId {
    class: ProtectionClass,
    text: String,
}

impl KeyId {
    /// A new id, at random.
    ///
    /// # Errors
    /// `Io` when the system has no random bytes.
    pub(super) fn random(class: ProtectionClass) -> Result<Self> {
        let mut bytes = [0; ID_BYTES];
        super::random(&mut bytes)?;
        Ok(Self { class, text: format!("{}{}", class.prefix(), Base64UrlUnpadded::encode_string(&bytes)) })
    }

    /// The class of its key.
    pub fn class(&self) -> ProtectionClass {
        self.class
    }

    /// The id as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// # Errors
    /// `Invalid` for everything that is not an id.
    fn from_str(text: &str) -> Result<Self> {
        let found = ProtectionClass::ALL.into_iter().find_map(|class| {
            let rest = text.strip_prefix(class.prefix())?;
            // Also refuses bits that the last character has to spare: one key has one id.
            let mut bytes = [0; ID_BYTES];
            (rest.len() == 43 && Base64UrlUnpadded::decode(rest, &mut bytes).ok()?.len() == ID_BYTES)
                .then_some(class)
        });
        found.map(|class| Self { class, text: text.to_owned() }).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "this is not the id of a device key").advise(
                "an id is dk_hse_, dk_tpm_ or dk_osn_ and 43 characters; `rowhouse keys list` shows them",
            )
        })
    }
}

impl TryFrom<String> for KeyId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.text
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whom a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The user of an account: 1 to [`LONGEST_NAME`] bytes without control characters.
    pub account_user_id: String,
    /// The client of that user, likewise.
    pub client_id: String,
}

impl Binding {
    /// The key of this account's user on this client.
    pub fn new(account_user_id: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self { account_user_id: account_user_id.into(), client_id: client_id.into() }
    }

    pub(super) fn check(&self) -> Result<()> {
        check_name("an account", &self.account_user_id)?;
        check_name("a client", &self.client_id)
    }
}

/// A text that names something: not empty, not long, nothing that a terminal or C would take for something else.
pub(super) fn check_name(what: &'static str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{what} is 1 to {LONGEST_NAME} bytes long and holds no control characters"),
        ));
    }
    Ok(())
}

/// A binding as it is stored. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBinding {
    /// The key.
    pub key_id: KeyId,
    /// Whom it belongs to.
    #[serde(flatten)]
    pub binding: Binding,
    /// When it was made.
    pub created_at: i64,
    /// When the binding was last written.
    pub updated_at: i64,
}

impl KeyBinding {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            key_id: row.get::<String>("key_id")?.parse().map_err(|_| {
                Error::new(
                    ErrorKind::Corrupt,
                    "a binding of the database has something else in place of a key id",
                )
                .advise("another program wrote it: remove the row with the sqlite3 command")
            })?,
            binding: Binding {
                account_user_id: row.get("account_user_id")?,
                client_id: row.get("client_id")?,
            },
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    }
}

/// One page of bindings, by key id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// The bindings.
    pub keys: Vec<KeyBinding>,
    /// For the next page; `None` when this is the last one.
    pub next_cursor: Option<String>,
}

/// A key: whom it belongs to, how it is protected, and its public part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceKey {
    /// Whom it belongs to, and since when.
    #[serde(flatten)]
    pub bound: KeyBinding,
    /// Its class, as its id says it.
    pub class: ProtectionClass,
    /// How it is protected on this machine.
    pub protected_by: ProtectedBy,
    /// Always `ecdsa_p256_sha256`.
    pub algorithm: Algorithm,
    /// Its public part; in JSON the base64 of the SPKI DER.
    pub public_key: PublicKey,
}

/// How a device key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 over the SHA-256 of the message.
    #[serde(rename = "ecdsa_p256_sha256")]
    EcdsaP256Sha256,
}

/// A signature, and what was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPayload {
    /// The key that signed.
    pub key_id: KeyId,
    /// How.
    pub algorithm: Algorithm,
    /// The bytes that were signed: canonical JSON.
    pub signed: String,
    /// The signature in DER; in JSON its base64.
    #[serde(with = "super::public_key::base64")]
    pub signature: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_class_and_nothing_else_is_an_id() {
        for class in ProtectionClass::ALL {
            let id = KeyId::random(class).expect("random bytes");
            assert_eq!((id.as_str().len(), id.class()), (50, class));
            assert_eq!(id.to_string().parse::<KeyId>().expect("an id"), id);
            assert_ne!(id, KeyId::random(class).expect("random bytes"));
        }
        let tail = "A".repeat(43);
        let longer = format!("dk_osn_{tail}A");
        let spare_bits = format!("dk_osn_{}B", "A".repeat(42));
        let nul = format!("dk_osn_{}\0", "A".repeat(42));
        let elsewhere = format!("dk_osn_../../{}", "A".repeat(37));
        let huge = "dk_osn_".repeat(100_000);
        for bad in ["", "dk_osn_", &format!("dk_foo_{tail}"), &longer, &spare_bits, &nul, &elsewhere, &huge] {
            let error = bad.parse::<KeyId>().expect_err("no id");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!error.to_string().contains("AAAA"), "{error}");
        }
    }

    #[test]
    fn a_policy_is_what_it_says() {
        use KeyPolicy::{AllowOsProtected, BestAvailable, HardwareOnly};
        let os = ProtectionClass::OsProtected;
        for (policy, keyring, mode) in
            [(BestAvailable, true, true), (AllowOsProtected, true, false), (HardwareOnly, false, false)]
        {
            assert!(policy.allows(ProtectionClass::Tpm, ProtectedBy::Hardware));
            assert_eq!(policy.allows(os, ProtectedBy::Keyring), keyring, "{policy:?}");
            assert_eq!(policy.allows(os, ProtectedBy::FilePermissions), mode, "{policy:?}");
        }
    }
}
