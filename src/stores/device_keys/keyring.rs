//! The keyring of the user's system, as far as key files need one: it keeps a wrapping key for each.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::Result;
#[cfg(feature = "keyring")]
use crate::error::{Error, ErrorKind};

/// Keeps the keys by which key files are wrapped. With the feature `keyring`, `SystemKeyring` is that of the user's system;
/// another one can be given to [`FileKeys::keyring`](super::FileKeys::keyring).
///
/// Each key file has a wrapping key of its own, named after the device key, so that processes share none and removing the
/// one ends the other.
pub trait Keyring: Send + Sync {
    /// Keeps a new wrapping key, durably.
    ///
    /// # Errors
    /// `Unsupported` where there is no keyring, or it cannot be used now. Its own.
    fn keep(&self, name: &str, key: &WrappingKey) -> Result<()>;

    /// The wrapping key of this name; `None` when the keyring has none. May wait until a person has unlocked the keyring.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    fn find(&self, name: &str) -> Result<Option<WrappingKey>>;

    /// Forgets a wrapping key, if there is one.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    fn forget(&self, name: &str) -> Result<()>;
}

/// A key that wraps one key file. Erased when it is dropped, and never shown.
#[derive(Clone)]
pub struct WrappingKey(Zeroizing<[u8; 32]>);

impl WrappingKey {
    pub(super) fn random() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        super::random(key.as_mut())?;
        Ok(Self(key))
    }

    /// The key of these bytes; `None` when they are not 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Zeroizing::new).map(Self)
    }

    /// Its bytes: for a keyring, and nobody else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey(..)")
    }
}

/// What the wrapping keys are found under in a person's keyring.
#[cfg(feature = "keyring")]
const SERVICE: &str = "rowhouse device key";

/// The keyring of the user's system: the Secret Service of the session's D-Bus, or the keychain of macOS.
#[cfg(feature = "keyring")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemKeyring;

#[cfg(feature = "keyring")]
impl SystemKeyring {
    fn entry(name: &str) -> Result<keyring::v1::Entry> {
        keyring::v1::Entry::new(SERVICE, name).map_err(|error| failed(&error))
    }
}

#[cfg(feature = "keyring")]
impl Keyring for SystemKeyring {
    fn keep(&self, name: &str, key: &WrappingKey) -> Result<()> {
        Self::entry(name)?.set_secret(key.expose()).map_err(|error| failed(&error))
    }

    fn find(&self, name: &str) -> Result<Option<WrappingKey>> {
        match Self::entry(name)?.get_secret() {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                let key = WrappingKey::from_slice(&bytes);
                key.map(Some).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Corrupt,
                        "the keyring has something else under the name of a device key",
                    )
                })
            }
            Err(keyring::v1::Error::NoEntry) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    fn forget(&self, name: &str) -> Result<()> {
        match Self::entry(name)?.delete_credential() {
            Ok(()) | Err(keyring::v1::Error::NoEntry) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Without its own words, which may hold what the keyring had.
#[cfg(feature = "keyring")]
fn failed(error: &keyring::v1::Error) -> Error {
    use keyring::v1::Error as Keyring;
    let unlock = "unlock the keyring of your desktop session, or use the program from there";
    match error {
        Keyring::NoStorageAccess(_) => {
            Error::new(ErrorKind::Unsupported, "the keyring of the system is locked").advise(unlock)
        }
        Keyring::NoDefaultStore | Keyring::PlatformFailure(_) | Keyring::NotSupportedByStore(_) => {
            Error::new(ErrorKind::Unsupported, "the keyring of the system does not answer").advise(unlock)
        }
        _ => Error::new(ErrorKind::Io, "the keyring of the system failed").advise(unlock),
    }
}
