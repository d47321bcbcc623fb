//! Keys in files: `keys/<id>.key` of the home, 0600 in a folder of 0700, wrapped by a keyring where there is one.
//!
//! Invariants:
//! 1. A file is never written twice and never renamed. It is created under its own name, so that no crash leaves a key
//!    under a name that nobody looks for; what a crash left unfinished is found by its mark (`unfinished`).
//! 2. A wrapping key is kept, and was read back, before the file that needs it is written.
//! 3. Only a plain file of this user with one name is read, never through a link. One that others may read is made private,
//!    with a warning. No key is made in a folder that is another user's, or stays open to others.
//! 4. A removal is done when it is durable, whoever began it; one that fails leaves the wrapping key.
//!
//! Tests: `tests/device_keys.rs`.

use std::fmt;
use std::fs;
use std::io::{ErrorKind as Os, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key_file::{self, KeyFile};
use super::keyring::{Keyring, WrappingKey};
use super::model::{KeyId, KeyPolicy, ProtectedBy, ProtectionClass};
use super::private_key::PrivateKey;
use super::provider::{HeldKey, KeyProvider, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::telemetry;

/// The folder of a home.
pub(super) const FOLDER: &str = "keys";
const ENDING: &str = ".key";

/// Keys in the files of a home. Cheap to clone.
#[derive(Clone)]
pub struct FileKeys {
    home: PathBuf,
    keyring: Option<Arc<dyn Keyring>>,
}

impl FileKeys {
    /// Keys in the folder `keys` of a home, which is created with the first key. With the feature `keyring`, they are
    /// wrapped by the keyring of the system.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        let found: Option<Arc<dyn Keyring>>;
        #[cfg(feature = "keyring")]
        {
            found = Some(Arc::new(super::keyring::SystemKeyring));
        }
        #[cfg(not(feature = "keyring"))]
        {
            found = None;
        }
        Self { home: home.into(), keyring: found }
    }

    /// With another keyring; `None` for none.
    #[must_use]
    pub fn keyring(mut self, keyring: Option<Arc<dyn Keyring>>) -> Self {
        self.keyring = keyring;
        self
    }

    fn path(&self, key: &KeyId) -> PathBuf {
        self.home.join(FOLDER).join(format!("{key}{ENDING}"))
    }

    /// The folder itself, not what a link in its place leads to; `None` while there is none.
    fn folder(&self) -> Result<Option<PathBuf>> {
        let folder = self.home.join(FOLDER);
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => private(&self.home, &folder, &found).map(|()| Some(folder)),
            Ok(_) => Err(Error::new(ErrorKind::Invalid, "the folder of the keys is a link or a file")
                .at_path(&folder)
                .advise("move it away; keys are made by this user's programs")),
            Err(error) if error.kind() == Os::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at the folder of the keys", &folder, error)),
        }
    }

    fn read(&self, key: &KeyId) -> Result<Option<KeyFile>> {
        let path = self.path(key);
        if self.folder()?.is_none() {
            return Ok(None);
        }
        let Some((text, found)) = home::read_private_file(&path, key_file::LONGEST)? else { return Ok(None) };
        private(&self.home, &path, &found)?;
        KeyFile::parse(&text, key).map(Some).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the key file is damaged, or of a newer program")
                .at_path(&path)
                .advise("install the newer program; or remove this key and create another one")
        })
    }

    fn write(&self, key: &KeyId, file: &KeyFile) -> Result<()> {
        let folder = make_folder(&self.home)?;
        let path = self.path(key);
        let text = file.text()?;
        home::create_private_file(&path)
            .and_then(|mut opened| {
                opened
                    .write_all(&text)
                    .and_then(|()| opened.sync_all())
                    .map_err(|error| Error::io("write the key file", &path, error))
            })
            .and_then(|()| home::sync_folder(&folder))
    }

    /// A wrapping key for a new key, when there is a keyring that keeps one; else whether one is needed.
    fn wrap(&self, key: &KeyId, policy: KeyPolicy) -> Result<Option<WrappingKey>> {
        let wrapped = match &self.keyring {
            Some(keyring) => kept(&**keyring, key),
            None => Err(no_keyring()),
        };
        match wrapped {
            Ok(wrapping) => Ok(Some(wrapping)),
            Err(error) if policy.allows(self.class(), ProtectedBy::FilePermissions) => {
                // A keyring that fails is not the same as none, which is the usual thing on a server.
                if error.kind() != ErrorKind::Unsupported {
                    telemetry::warn(&format_args!(
                        "a new device key is protected by the mode of its file only: {error}"
                    ));
                }
                Ok(None)
            }
            Err(error) => Err(error.as_kind(ErrorKind::Unsupported)),
        }
    }

    fn wrapping_key(&self, key: &KeyId) -> Result<WrappingKey> {
        let keyring = self.keyring.as_ref().ok_or_else(no_keyring)?;
        keyring.find(key.as_str())?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the keyring does not have what unwraps this key any more")
                .at_path(&self.path(key))
                .advise("it is lost: remove this key and create another one")
        })
    }
}

/// The folder of the keys, made where there is none: this user's own and private.
///
/// # Errors
/// `Invalid` for a link, a file, and a folder that stays open to others; `ReadOnly` for another user's; others of the system.
pub(super) fn make_folder(home: &Path) -> Result<PathBuf> {
    let folder = home::private_folder(home, FOLDER)?;
    let look =
        || fs::symlink_metadata(&folder).map_err(|error| Error::io("look at the folder", &folder, error));
    private(home, &folder, &look()?)?;
    if look()?.mode() & 0o077 != 0 {
        // Says why, where the system does.
        home::tighten(&folder)?;
        return Err(Error::new(
            ErrorKind::Invalid,
            "the folder of the keys is open to other users and cannot be made private",
        )
        .at_path(&folder)
        .advise("put the home on a file system that keeps modes"));
    }
    // Its name may be another process's that did not come so far.
    home::sync_folder(home)?;
    Ok(folder)
}

/// Keeps a new wrapping key, and looks whether the keyring gives it back.
fn kept(keyring: &dyn Keyring, key: &KeyId) -> Result<WrappingKey> {
    let wrapping = WrappingKey::random()?;
    keyring.keep(key.as_str(), &wrapping)?;
    let why = match keyring.find(key.as_str()) {
        Ok(Some(found)) if found.expose() == wrapping.expose() => return Ok(wrapping),
        Ok(_) => Error::new(ErrorKind::Unsupported, "the keyring does not give back what it was given"),
        Err(error) => error,
    };
    // Nothing is wrapped by it; where it stays all the same, it is of no use.
    let _ = keyring.forget(key.as_str());
    Err(why)
}

fn no_keyring() -> Error {
    Error::new(ErrorKind::Unsupported, "there is no keyring here that wraps key files").advise(
        "use the program in a desktop session, built with the feature `keyring`; or allow another protection",
    )
}

/// Takes other users' access away, and says so: what they might have read should not be used any more.
///
/// # Errors
/// `ReadOnly` for another user's; of the system.
fn private(home: &Path, path: &Path, found: &fs::Metadata) -> Result<()> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        let owner = home::user_name(found.uid());
        return Err(Error::new(
            ErrorKind::ReadOnly,
            format!("it belongs to {owner}, and only its own user may use a key"),
        )
        .at_path(path)
        .advise(home::access::as_owner(&owner, home)));
    }
    if found.mode() & 0o077 != 0 {
        let now = match home::tighten(path) {
            Ok(()) => "it is private now",
            // What may not be written here can be made private only by somebody else.
            Err(error) if error.kind() == ErrorKind::ReadOnly => "and cannot be made private here",
            Err(error) => return Err(error),
        };
        telemetry::warn(&format_args!(
            "{} was open to other users, {now}; if one may have read it, remove its keys and create others",
            path.display()
        ));
    }
    Ok(())
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKeys")
            .field("home", &self.home)
            .field("keyring", &self.keyring.is_some())
            .finish()
    }
}

impl KeyProvider for FileKeys {
    fn class(&self) -> ProtectionClass {
        ProtectionClass::OsProtected
    }

    fn create(&self, key: &KeyId, policy: KeyPolicy) -> Result<HeldKey> {
        let private = PrivateKey::random()?;
        let file = match self.wrap(key, policy)? {
            Some(wrapping) => KeyFile::wrapped(key, &private, &wrapping)?,
            None => KeyFile::clear(key, &private)?,
        };
        self.write(key, &file)?;
        Ok(HeldKey { protected_by: file.protected_by(), public_key: file.public_key })
    }

    fn public(&self, key: &KeyId) -> Result<Option<HeldKey>> {
        let file = self.read(key)?;
        Ok(file.map(|file| HeldKey { protected_by: file.protected_by(), public_key: file.public_key }))
    }

    fn sign(&self, key: &KeyId, message: &Message) -> Result<Vec<u8>> {
        let Some(file) = self.read(key)? else {
            return Err(
                Error::new(ErrorKind::NotFound, "there is no file of this key").at_path(&self.path(key))
            );
        };
        let private = file.open(|| self.wrapping_key(key))?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the key file, or what the keyring has for it, was changed")
                .at_path(&self.path(key))
                .advise("remove this key and create another one")
        })?;
        private.sign(message.bytes())
    }

    /// The file first: where it stays, the key stays whole. Then its wrapping key, after which copies of the file that
    /// somebody made are of no use; where the keyring cannot be reached the key is removed all the same.
    fn remove(&self, key: &KeyId) -> Result<bool> {
        let path = self.path(key);
        // What cannot be read, or was not written any more, may have been wrapped.
        let may_be_wrapped =
            !matches!(self.read(key), Ok(Some(file)) if file.protected_by() != ProtectedBy::Keyring);
        let folder = self.folder()?;
        let there = match fs::remove_file(&path) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), Os::NotFound | Os::NotADirectory) => false,
            Err(error) => return Err(Error::io("remove the key file", &path, error)),
        };
        // Also when it was gone: who removed it may not have come so far.
        if let Some(folder) = folder {
            home::sync_folder(&folder)?;
        }
        if may_be_wrapped
            && let Some(keyring) = &self.keyring
            && let Err(error) = keyring.forget(key.as_str())
            && there
        {
            telemetry::warn(&format_args!(
                "the keyring keeps what wrapped a device key that is removed: {error}"
            ));
        }
        Ok(there)
    }

    fn list(&self) -> Result<Vec<KeyId>> {
        Ok(ids(&self.home.join(FOLDER), ENDING)?
            .into_iter()
            .filter(|key| key.class() == self.class())
            .collect())
    }
}

/// The ids of the files in a folder that end like this; of none where there is no folder.
pub(super) fn ids(folder: &Path, ending: &str) -> Result<Vec<KeyId>> {
    let reading = |error| Error::io("list the keys", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == Os::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(reading(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(reading)?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(ending)?.parse().ok()));
    }
    Ok(found)
}
