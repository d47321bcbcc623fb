//! What the tests of device keys share: a home, a keyring that is a map, a provider that fails when it is told to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rowhouse::stores::DeviceKeys;
use rowhouse::stores::device_keys::*;
use rowhouse::{Domain, Error, ErrorKind, Home, Result, Runtime};

pub(crate) const DOMAIN: &str = "example.org/connect/v1";
pub(crate) const AUDIENCE: &str = "connect";
pub(crate) const ORIGIN: &str = "https://example.org";
pub(crate) const PATH: &str = "/v1/connect";
/// A time, in Unix milliseconds.
pub(crate) const NOW: i64 = 1_800_000_000_000;

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rowhouse-test-").tempdir().expect("a folder")
}

pub(crate) fn open(home: &Path) -> Runtime {
    Runtime::builder(Home::at(home)).domain(Domain::device_keys()).open().expect("the home opens")
}

pub(crate) fn rules() -> SigningRules {
    SigningRules::new(DOMAIN).and_then(|rules| rules.allow(AUDIENCE, ORIGIN, PATH)).expect("good rules")
}

/// The keys of a home that is new, at a time that stands still, in files without a keyring.
pub(crate) struct Place {
    pub(crate) keys: DeviceKeys,
    pub(crate) runtime: Runtime,
    pub(crate) home: PathBuf,
    pub(crate) _folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_keyring(None)
    }

    pub(crate) fn with_keyring(keyring: Option<Arc<dyn Keyring>>) -> Self {
        let folder = folder();
        let runtime = open(&folder.path().join("home"));
        let home = folder.path().join("home").canonicalize().expect("a home");
        let keys = keys_of(&runtime, Arc::new(FileKeys::new(&home).keyring(keyring)));
        Self { keys, runtime, home, _folder: folder }
    }

    /// What is in the folder of the keys.
    pub(crate) fn files(&self) -> Vec<String> {
        names(&self.home.join("keys"))
    }

    pub(crate) fn key_file(&self, key: &DeviceKey) -> PathBuf {
        self.home.join("keys").join(format!("{}.key", key.bound.key_id))
    }

    pub(crate) fn sql(&self, sql: &'static str) {
        self.runtime.database("device_keys").and_then(|db| db.write(|tx| tx.execute(sql, []))).expect(sql);
    }
}

pub(crate) fn keys_of(runtime: &Runtime, provider: Arc<dyn KeyProvider>) -> DeviceKeys {
    runtime.device_keys().only_providers(vec![provider]).rules(rules()).clock(|| NOW)
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(folder).map_or_else(|_| Vec::new(), |entries| entries.flatten().collect());
    let mut names: Vec<_> =
        entries.iter().map(|entry| entry.file_name().into_string().expect("a plain name")).collect();
    names.sort();
    names
}

pub(crate) fn binding() -> Binding {
    Binding::new("user-1", "laptop")
}

pub(crate) fn create(keys: &DeviceKeys) -> DeviceKey {
    keys.create(&binding(), KeyPolicy::BestAvailable).expect("a key")
}

pub(crate) fn id(key: &DeviceKey) -> &str {
    key.bound.key_id.as_str()
}

/// One that is allowed.
pub(crate) fn payload() -> SignPayload {
    SignPayload {
        nonce: (0..32).collect(),
        audience: AUDIENCE.to_owned(),
        target_origin: ORIGIN.to_owned(),
        target_path: PATH.to_owned(),
        account_user_id: "user-1".to_owned(),
        client_id: "laptop".to_owned(),
        expires_at: NOW + 60_000,
        claims: [("session".to_owned(), "s-1".into())].into(),
    }
}

/// Verified by another implementation of ECDSA than the one that signed.
pub(crate) fn verify(key: &DeviceKey, signed: &SignedPayload) {
    /// Everything in front of a point on P-256 that is not compressed.
    const SPKI: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let (head, point) = key.public_key.spki_der().split_at(SPKI.len());
    assert_eq!((head, point.len(), point[0]), (&SPKI[..], 65, 4));
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, point)
        .verify(signed.signed.as_bytes(), &signed.signature)
        .expect("the key's own signature");
}

pub(crate) fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.expect_err("an error").kind()
}

/// A keyring that is a map, and may be locked.
#[derive(Default)]
pub(crate) struct MapKeyring {
    kept: Mutex<BTreeMap<String, WrappingKey>>,
    pub(crate) locked: AtomicBool,
}

impl MapKeyring {
    pub(crate) fn names(&self) -> Vec<String> {
        self.kept.lock().expect("no panic").keys().cloned().collect()
    }

    pub(crate) fn of(&self, key: &DeviceKey) -> WrappingKey {
        self.kept.lock().expect("no panic")[id(key)].clone()
    }

    fn open(&self) -> Result<std::sync::MutexGuard<'_, BTreeMap<String, WrappingKey>>> {
        if self.locked.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unsupported, "locked"));
        }
        Ok(self.kept.lock().expect("no panic"))
    }
}

impl Keyring for MapKeyring {
    fn keep(&self, name: &str, key: &WrappingKey) -> Result<()> {
        self.open()?.insert(name.to_owned(), key.clone());
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Option<WrappingKey>> {
        Ok(self.open()?.get(name).cloned())
    }

    fn forget(&self, name: &str) -> Result<()> {
        self.open()?.remove(name);
        Ok(())
    }
}

/// A provider that does what another one does, until it is told to fail.
pub(crate) struct Faulty {
    pub(crate) inner: FileKeys,
    pub(crate) create_fails: AtomicBool,
    pub(crate) remove_fails: AtomicBool,
    pub(crate) signs_wrong: AtomicBool,
}

impl Faulty {
    pub(crate) fn new(home: &Path) -> Arc<Self> {
        Arc::new(Self {
            inner: FileKeys::new(home).keyring(None),
            create_fails: AtomicBool::new(false),
            remove_fails: AtomicBool::new(false),
            signs_wrong: AtomicBool::new(false),
        })
    }
}

impl KeyProvider for Faulty {
    fn class(&self) -> ProtectionClass {
        self.inner.class()
    }

    fn create(&self, key: &KeyId, policy: KeyPolicy) -> Result<HeldKey> {
        let held = self.inner.create(key, policy)?;
        if self.create_fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "the chip says no"));
        }
        Ok(held)
    }

    fn public(&self, key: &KeyId) -> Result<Option<HeldKey>> {
        self.inner.public(key)
    }

    fn sign(&self, key: &KeyId, message: &Message) -> Result<Vec<u8>> {
        let mut signature = self.inner.sign(key, message)?;
        if self.signs_wrong.load(Ordering::Relaxed) {
            *signature.last_mut().expect("a signature") ^= 1;
        }
        Ok(signature)
    }

    fn remove(&self, key: &KeyId) -> Result<bool> {
        if self.remove_fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "the chip is gone"));
        }
        self.inner.remove(key)
    }

    fn list(&self) -> Result<Vec<KeyId>> {
        self.inner.list()
    }
}
