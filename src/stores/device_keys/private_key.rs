//! The private part of a key, while it is in memory: erased when it is dropped, and never shown.

use std::fmt;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use zeroize::Zeroizing;

use super::public_key::PublicKey;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a private key: a number below the order of P-256, big-endian.
pub(super) const BYTES: usize = 32;

/// A private key. [`SigningKey`] erases itself.
pub(super) struct PrivateKey(SigningKey);

impl PrivateKey {
    /// A new one, at random.
    ///
    /// # Errors
    /// `Io` when the system has no random bytes.
    pub(super) fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        loop {
            super::random(bytes.as_mut())?;
            // One number of four thousand million is zero or beyond the order of the curve.
            if let Some(key) = Self::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    /// `None` for bytes that are no private key.
    pub(super) fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        SigningKey::from_slice(bytes).ok().map(Self)
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; BYTES]> {
        let mut scalar = self.0.to_bytes();
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes.copy_from_slice(&scalar);
        zeroize::Zeroize::zeroize(scalar.as_mut_slice());
        bytes
    }

    pub(super) fn public(&self) -> Result<PublicKey> {
        PublicKey::of(self.0.verifying_key())
    }

    /// A DER signature of the SHA-256 of the message. Its secret number comes from the key and the message (RFC 6979), so
    /// that bad random bytes give nothing away.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature: Signature =
            self.0.try_sign(message).map_err(|_| Error::new(ErrorKind::Io, "the key could not sign"))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
    }

    /// RFC 6979, A.2.5: the key, and the signature of "sample" with SHA-256.
    #[test]
    fn it_signs_as_the_known_answer_says() {
        let scalar = bytes("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
        let key = PrivateKey::from_bytes(&scalar).expect("a key");
        let x: [u8; 32] = bytes("60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6");
        let y: [u8; 32] = bytes("7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299");
        let spki = key.public().expect("a point");
        assert_eq!(spki.spki_der()[26..], [&[4][..], &x, &y].concat());

        let r: [u8; 32] = bytes("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716");
        let s: [u8; 32] = bytes("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8");
        // Both numbers begin with a bit that DER would take for a sign.
        let der = [&[0x30, 70, 2, 33, 0][..], &r, &[2, 33, 0], &s].concat();
        assert_eq!(key.sign(b"sample").expect("signed"), der);
        spki.verify(b"sample", &der).expect("its own");
        assert_eq!(spki.verify(b"simple", &der).expect_err("another").kind(), ErrorKind::Invalid);
    }

    /// Does not compile when the key that is held does not erase itself.
    #[test]
    fn it_erases_itself() {
        fn erases<T: zeroize::ZeroizeOnDrop>(_: impl Fn(&PrivateKey) -> &T) {}
        erases(|key| &key.0);
    }

    #[test]
    fn what_is_no_private_key_is_none_and_none_is_shown() {
        assert!(PrivateKey::from_bytes(&[0; BYTES]).is_none());
        assert!(PrivateKey::from_bytes(&[255; BYTES]).is_none());
        let key = PrivateKey::random().expect("a key");
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
        let again = PrivateKey::from_bytes(&key.to_bytes()).expect("the same");
        assert_eq!(again.public().expect("a point"), key.public().expect("a point"));
    }
}
