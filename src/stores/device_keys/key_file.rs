//! What stands in a key file: a private key, in the clear or wrapped, beside its public one.
//!
//! One JSON object. Wrapped is XChaCha20-Poly1305 with a nonce at random; the key's id and its public key are the
//! associated data, so that the content of one file is of no use under the name of another.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::keyring::WrappingKey;
use super::model::{KeyId, ProtectedBy};
use super::private_key::{self, PrivateKey};
use super::public_key::PublicKey;
use crate::error::{Error, ErrorKind, Result};

const LAYOUT: u32 = 1;
/// More than any key file has, so that the text never moves in memory while it is written.
pub(super) const LONGEST: usize = 2048;
const NONCE: usize = 24;
const TAG: usize = 16;
const SEALED: usize = private_key::BYTES + TAG;
/// What is sealed here is nothing else.
const PURPOSE: &[u8] = b"rowhouse device key 1\0";

/// The text of a key file. Borrows, so that the private key stands in memory once, in a buffer that is erased.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    layout: u32,
    key_id: &'a str,
    public_key: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private_key: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapped_key: Option<&'a str>,
}

/// A key file, read.
pub(super) struct KeyFile {
    key: KeyId,
    pub(super) public_key: PublicKey,
    private: Stored,
}

enum Stored {
    Clear(Zeroizing<[u8; private_key::BYTES]>),
    Wrapped { nonce: [u8; NONCE], sealed: [u8; SEALED] },
}

impl KeyFile {
    /// A file that only its mode protects.
    pub(super) fn clear(key: &KeyId, private: &PrivateKey) -> Result<Self> {
        let public_key = private.public()?;
        Ok(Self { key: key.clone(), public_key, private: Stored::Clear(private.to_bytes()) })
    }

    /// A file that is of no use without the wrapping key.
    pub(super) fn wrapped(key: &KeyId, private: &PrivateKey, by: &WrappingKey) -> Result<Self> {
        let public_key = private.public()?;
        let mut nonce = [0; NONCE];
        super::random(&mut nonce)?;
        let aad = associated(key, &public_key);
        let sealed = XChaCha20Poly1305::new(by.expose().into())
            .encrypt(&XNonce::from(nonce), Payload { msg: private.to_bytes().as_ref(), aad: &aad })
            .ok()
            .and_then(|sealed| sealed.try_into().ok())
            .ok_or_else(|| Error::new(ErrorKind::Io, "the key could not be wrapped"))?;
        Ok(Self { key: key.clone(), public_key, private: Stored::Wrapped { nonce, sealed } })
    }

    /// `None` for what is not the file of this key, or not whole; also when it is a private key in the clear of another
    /// public one. Of a wrapped one that is seen only when it is opened.
    pub(super) fn parse(text: &[u8], key: &KeyId) -> Option<Self> {
        let text: Text = serde_json::from_slice(text).ok()?;
        if (text.layout, text.key_id) != (LAYOUT, key.as_str()) {
            return None;
        }
        let public_key = PublicKey::from_spki_der(&Base64::decode_vec(text.public_key).ok()?).ok()?;
        let private = match (text.private_key, text.nonce, text.wrapped_key) {
            (Some(private), None, None) => {
                let mut bytes = Zeroizing::new([0; private_key::BYTES]);
                decode(private, bytes.as_mut())?;
                if PrivateKey::from_bytes(&bytes)?.public().ok()? != public_key {
                    return None;
                }
                Stored::Clear(bytes)
            }
            (None, Some(nonce_text), Some(wrapped)) => {
                let (mut nonce, mut sealed) = ([0; NONCE], [0; SEALED]);
                decode(nonce_text, &mut nonce)?;
                decode(wrapped, &mut sealed)?;
                Stored::Wrapped { nonce, sealed }
            }
            _ => return None,
        };
        Some(Self { key: key.clone(), public_key, private })
    }

    /// The text of the file.
    pub(super) fn text(&self) -> Result<Zeroizing<Vec<u8>>> {
        let public_key = Base64::encode_string(self.public_key.spki_der());
        let mut private = Zeroizing::new([0; SEALED * 2]);
        let mut nonce_text = [0; NONCE * 2];
        let unwritable = || Error::new(ErrorKind::Io, "the key could not be written as text");
        let text = Text {
            layout: LAYOUT,
            key_id: self.key.as_str(),
            public_key: &public_key,
            private_key: None,
            nonce: None,
            wrapped_key: None,
        };
        let text = match &self.private {
            Stored::Clear(bytes) => Text {
                private_key: Some(
                    Base64UrlUnpadded::encode(bytes.as_ref(), private.as_mut()).map_err(|_| unwritable())?,
                ),
                ..text
            },
            Stored::Wrapped { nonce, sealed } => Text {
                nonce: Some(Base64UrlUnpadded::encode(nonce, &mut nonce_text).map_err(|_| unwritable())?),
                wrapped_key: Some(
                    Base64UrlUnpadded::encode(sealed, private.as_mut()).map_err(|_| unwritable())?,
                ),
                ..text
            },
        };
        let mut out = Zeroizing::new(Vec::with_capacity(LONGEST));
        serde_json::to_writer(&mut *out, &text).map_err(|_| unwritable())?;
        out.push(b'\n');
        Ok(out)
    }

    pub(super) fn protected_by(&self) -> ProtectedBy {
        match self.private {
            Stored::Clear(_) => ProtectedBy::FilePermissions,
            Stored::Wrapped { .. } => ProtectedBy::Keyring,
        }
    }

    /// The private key; `wrapping_key` is asked for when it is wrapped. `None` when it is not the one of the public key:
    /// the file, or what the keyring has, was changed.
    pub(super) fn open(
        &self,
        wrapping_key: impl FnOnce() -> Result<WrappingKey>,
    ) -> Result<Option<PrivateKey>> {
        let private = match &self.private {
            Stored::Clear(bytes) => PrivateKey::from_bytes(bytes),
            Stored::Wrapped { nonce, sealed } => {
                let aad = associated(&self.key, &self.public_key);
                XChaCha20Poly1305::new(wrapping_key()?.expose().into())
                    .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad })
                    .ok()
                    .map(Zeroizing::new)
                    .and_then(|bytes| PrivateKey::from_bytes(bytes.as_slice().try_into().ok()?))
            }
        };
        match private {
            Some(private) if private.public()? == self.public_key => Ok(Some(private)),
            _ => Ok(None),
        }
    }
}

fn associated(key: &KeyId, public_key: &PublicKey) -> Vec<u8> {
    [PURPOSE, key.as_str().as_bytes(), b"\0", public_key.spki_der()].concat()
}

/// Exactly as many bytes as there is room for.
fn decode(text: &str, into: &mut [u8]) -> Option<()> {
    let room = into.len();
    (Base64UrlUnpadded::decode(text, into).ok()?.len() == room).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::device_keys::ProtectionClass;

    fn no_key() -> Result<WrappingKey> {
        Err(Error::new(ErrorKind::Unsupported, "no keyring"))
    }

    #[test]
    fn a_wrapped_key_opens_with_its_wrapping_key_under_its_own_name_only() {
        let key = KeyId::random(ProtectionClass::OsProtected).expect("an id");
        let other = KeyId::random(ProtectionClass::OsProtected).expect("an id");
        let private = PrivateKey::random().expect("a key");
        let by = WrappingKey::random().expect("a key");
        let text = KeyFile::wrapped(&key, &private, &by).and_then(|file| file.text()).expect("a file");
        let file = KeyFile::parse(&text, &key).expect("its file");
        assert_eq!(file.protected_by(), ProtectedBy::Keyring);
        let opened = file.open(|| Ok(by.clone())).expect("opened").expect("the key");
        assert_eq!(*opened.to_bytes(), *private.to_bytes());
        assert!(file.open(WrappingKey::random).expect("tried").is_none());
        assert!(file.open(no_key).is_err());

        assert!(KeyFile::parse(&text, &other).is_none(), "another name");
        let renamed = String::from_utf8(text.to_vec()).expect("text").replace(key.as_str(), other.as_str());
        let file = KeyFile::parse(renamed.as_bytes(), &other).expect("a file");
        assert!(file.open(|| Ok(by.clone())).expect("tried").is_none(), "not the id it was sealed for");
    }

    #[test]
    fn a_clear_key_is_read_again_and_what_is_not_whole_is_not() {
        let key = KeyId::random(ProtectionClass::OsProtected).expect("an id");
        let private = PrivateKey::random().expect("a key");
        let text = KeyFile::clear(&key, &private).and_then(|file| file.text()).expect("a file");
        assert!(text.len() < LONGEST && text.capacity() == LONGEST, "it never moved");
        let file = KeyFile::parse(&text, &key).expect("its file");
        let opened = file.open(no_key).expect("opened").expect("the key");
        assert_eq!(*opened.to_bytes(), *private.to_bytes());
        for length in 0..text.len() - 1 {
            assert!(KeyFile::parse(&text[..length], &key).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn the_private_key_of_another_public_one_is_noticed() {
        let key = KeyId::random(ProtectionClass::OsProtected).expect("an id");
        let (one, other) = (PrivateKey::random().expect("a key"), PrivateKey::random().expect("a key"));
        let mut file = KeyFile::clear(&key, &one).expect("a file");
        file.public_key = other.public().expect("a point");
        assert!(file.open(no_key).expect("tried").is_none());
        assert!(KeyFile::parse(&file.text().expect("a text"), &key).is_none());

        let by = WrappingKey::random().expect("a key");
        let mut file = KeyFile::wrapped(&key, &one, &by).expect("a file");
        file.public_key = other.public().expect("a point");
        let file = KeyFile::parse(&file.text().expect("a text"), &key).expect("nothing to be seen yet");
        assert!(file.open(|| Ok(by.clone())).expect("tried").is_none());
    }
}
