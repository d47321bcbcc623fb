//! The public part of a key.

use std::fmt;

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// A public key on P-256, as SPKI DER (`SubjectPublicKeyInfo` of RFC 5280; the point not compressed: 91 bytes).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Encoded", into = "Encoded")]
pub struct PublicKey(Vec<u8>);

/// As it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Encoded(#[serde(with = "base64")] Vec<u8>);

impl PublicKey {
    /// The key of a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// `Invalid` when it is none, or of another curve, or no point of the curve.
    pub fn from_spki_der(der: &[u8]) -> Result<Self> {
        let key = VerifyingKey::from_public_key_der(der)
            .map_err(|_| Error::new(ErrorKind::Invalid, "this is not the SPKI DER of a P-256 key"))?;
        Self::of(&key)
    }

    pub(super) fn of(key: &VerifyingKey) -> Result<Self> {
        let der = key
            .to_public_key_der()
            .map_err(|_| Error::new(ErrorKind::Io, "the public key could not be written as DER"))?;
        Ok(Self(der.into_vec()))
    }

    /// The key as SPKI DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.0
    }

    /// The key as PEM, as `openssl` reads it.
    pub fn pem(&self) -> String {
        self.key().and_then(|key| key.to_public_key_pem(LineEnding::LF).ok()).unwrap_or_default()
    }

    /// Looks whether this key made a DER signature of a message.
    ///
    /// # Errors
    /// `Invalid` when it did not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        let verified = DerSignature::from_bytes(signature)
            .ok()
            .zip(self.key())
            .is_some_and(|(signature, key)| key.verify(message, &signature).is_ok());
        if verified {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "this key did not make this signature of this message"))
    }

    /// Always there: nothing else becomes a value of this type.
    fn key(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_public_key_der(&self.0).ok()
    }
}

impl TryFrom<Encoded> for PublicKey {
    type Error = Error;

    fn try_from(encoded: Encoded) -> Result<Self> {
        Self::from_spki_der(&encoded.0)
    }
}

impl From<PublicKey> for Encoded {
    fn from(key: PublicKey) -> Self {
        Self(key.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", base64::text(&self.0))
    }
}

/// Bytes as base64 text in JSON.
pub(super) mod base64 {
    use base64ct::{Base64, Encoding};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn text(bytes: &[u8]) -> String {
        Base64::encode_string(bytes)
    }

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64::decode_vec(&text).map_err(|_| D::Error::custom("not base64"))
    }
}
