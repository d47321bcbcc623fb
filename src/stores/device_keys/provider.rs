//! Where private keys are, and who signs with them.

use std::fmt;

use sha2::{Digest, Sha256};

use super::model::{KeyId, KeyPolicy, ProtectedBy, ProtectionClass};
use super::public_key::PublicKey;
use crate::error::Result;

/// Holds private keys of one class and signs with them. [`DeviceKeys`](super::DeviceKeys) decides what is signed and for
/// whom; a provider only holds keys. Implement it for a TPM or a secure enclave, and add it with
/// [`DeviceKeys::provider`](super::DeviceKeys::provider).
///
/// Calls come from any thread, and from several processes at once, each for an id of its own but for `public` and `sign`.
/// An error's text never holds key material.
pub trait KeyProvider: Send + Sync {
    /// The class of its keys: the first letters of their ids.
    fn class(&self) -> ProtectionClass;

    /// Makes a key under an id that was never used before, and answers when it is durable.
    ///
    /// # Errors
    /// `Unsupported` when it can make none that the policy allows here and now (no chip, no keyring): the next provider is
    /// asked then. Any other error ends the creation. What an error leaves behind is removed with
    /// [`remove`](Self::remove), at once or, after a crash, by the next creation.
    fn create(&self, key: &KeyId, policy: KeyPolicy) -> Result<HeldKey>;

    /// A key that it holds; `None` when it does not. Nobody is asked to unlock anything for it.
    ///
    /// # Errors
    /// Its own.
    fn public(&self, key: &KeyId) -> Result<Option<HeldKey>>;

    /// A DER signature, ECDSA on P-256 over [`Message::sha256`]. It is verified before it is given to anybody.
    ///
    /// # Errors
    /// `NotFound` when it does not hold the key; its own.
    fn sign(&self, key: &KeyId, message: &Message) -> Result<Vec<u8>>;

    /// Destroys a key, also one that is half made, and answers whether there was something when it is durable.
    ///
    /// # Errors
    /// Its own; then the key may still be there.
    fn remove(&self, key: &KeyId) -> Result<bool>;

    /// The keys that it holds for this home and nobody else: what it lists and no binding knows is an orphan, which
    /// [`DeviceKeys::clean`](super::DeviceKeys::clean) destroys. None by default.
    ///
    /// # Errors
    /// Its own.
    fn list(&self) -> Result<Vec<KeyId>> {
        Ok(Vec::new())
    }
}

/// What a provider tells about a key that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    /// Its public part.
    pub public_key: PublicKey,
    /// How its private part is protected.
    pub protected_by: ProtectedBy,
}

/// What is to be signed: the canonical JSON of a payload that was checked. Only this library makes one, so that a provider
/// cannot be had to sign anything else.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    pub(super) fn new(canonical: String) -> Self {
        Self(canonical)
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Its SHA-256, for hardware that signs a hash.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.bytes()).into()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.0.len())
    }
}
