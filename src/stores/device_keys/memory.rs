//! Keys that are kept nowhere: for tests, and for a runtime that keeps nothing.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;

use super::model::{KeyId, KeyPolicy, ProtectedBy, ProtectionClass};
use super::private_key::PrivateKey;
use super::provider::{HeldKey, KeyProvider, Message};
use crate::error::{Error, ErrorKind, Result};

/// Keys in the memory of this process, gone with this value.
pub struct MemoryKeys {
    class: ProtectionClass,
    keys: Mutex<BTreeMap<KeyId, PrivateKey>>,
}

impl MemoryKeys {
    /// Keys of the class [`ProtectionClass::OsProtected`].
    pub fn new() -> Self {
        Self::standing_in_for(ProtectionClass::OsProtected)
    }

    /// Keys that say they were of another class: for tests without such hardware.
    pub fn standing_in_for(class: ProtectionClass) -> Self {
        Self { class, keys: Mutex::default() }
    }
}

impl Default for MemoryKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeys")
            .field("class", &self.class)
            .field("keys", &self.keys.lock().len())
            .finish()
    }
}

impl KeyProvider for MemoryKeys {
    fn class(&self) -> ProtectionClass {
        self.class
    }

    fn create(&self, key: &KeyId, _: KeyPolicy) -> Result<HeldKey> {
        let private = PrivateKey::random()?;
        let public_key = private.public()?;
        self.keys.lock().insert(key.clone(), private);
        Ok(HeldKey { public_key, protected_by: ProtectedBy::Memory })
    }

    fn public(&self, key: &KeyId) -> Result<Option<HeldKey>> {
        let public = self.keys.lock().get(key).map(PrivateKey::public).transpose()?;
        Ok(public.map(|public_key| HeldKey { public_key, protected_by: ProtectedBy::Memory }))
    }

    fn sign(&self, key: &KeyId, message: &Message) -> Result<Vec<u8>> {
        match self.keys.lock().get(key) {
            Some(private) => private.sign(message.bytes()),
            None => Err(Error::new(ErrorKind::NotFound, "the key is not in the memory of this process")),
        }
    }

    fn remove(&self, key: &KeyId) -> Result<bool> {
        Ok(self.keys.lock().remove(key).is_some())
    }

    fn list(&self) -> Result<Vec<KeyId>> {
        Ok(self.keys.lock().keys().cloned().collect())
    }
}
