//! Device keys: keys that sign for one account on one client.
//!
//! Whom a key belongs to stands in the database; the private key is with a provider ([`KeyProvider`]) and never leaves it.
//!
//! Invariants:
//! 1. A key without a binding signs nothing. Making one: the mark (`unfinished`), the key, its binding, the mark goes. A
//!    crash between leaves a marked key without a binding, which the next creation destroys.
//! 2. A key that was removed never comes back. Removing one: the key, durably, then its binding. A crash between leaves a
//!    binding without a key, which signs nothing, is still listed, and goes when it is removed again. The other way round a
//!    backup of the database could make the key usable again.
//! 3. Only a [`Message`] is signed: a payload that the application's rules allow, for the account and client of the key.
//! 4. What a provider signed is verified with the key's public part before anybody gets it.
//! 5. No private key is in the database, an error, a `Debug` text or the log; in memory it is erased after use.
//!
//! Tests: `tests/device_keys.rs`.

mod canonical;
mod file;
mod key_file;
mod keyring;
mod memory;
mod model;
mod payload;
mod private_key;
mod provider;
mod public_key;
mod sql;
mod target;
mod unfinished;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use canonical::{Claim, LARGEST_INTEGER, LONGEST_TEXT};
pub use file::FileKeys;
#[cfg(feature = "keyring")]
pub use keyring::SystemKeyring;
pub use keyring::{Keyring, WrappingKey};
pub use memory::MemoryKeys;
pub use model::{
    Algorithm, Binding, DeviceKey, KeyBinding, KeyId, KeyPage, KeyPolicy, LONGEST_NAME, ProtectedBy,
    ProtectionClass, SignedPayload,
};
pub use payload::{LONGEST_NONCE, LONGEST_VALIDITY, SHORTEST_NONCE, SignPayload, SigningRules};
pub use provider::{HeldKey, KeyProvider, Message};
pub use public_key::PublicKey;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Session, Value};
use crate::sqlite::{Database, now_unix_ms};
use crate::stores::database::FileDatabase;
use crate::telemetry;
use unfinished::Unfinished;

/// The largest page of [`DeviceKeys::list`].
pub const LARGEST_PAGE: u32 = 500;

/// The device keys of a home. Cheap to clone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// use rowhouse::stores::device_keys::{Binding, KeyPolicy, SignPayload, SigningRules};
/// use rowhouse::{Home, Runtime};
/// let runtime = Runtime::open(Home::at(folder.path().join("home")))?;
/// let rules = SigningRules::new("example.org/connect/v1")?.allow("connect", "https://example.org", "/connect")?;
/// let keys = runtime.device_keys().rules(rules);
/// let key = keys.create(&Binding::new("user-1", "laptop"), KeyPolicy::BestAvailable)?;
/// println!("{} is protected by {}", key.bound.key_id, key.protected_by.as_str());
///
/// # let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
/// # let now = i64::try_from(now.as_millis()).expect("not so late");
/// let payload = SignPayload {
///     nonce: vec![7; 32], // the server's
///     audience: "connect".to_owned(),
///     target_origin: "https://example.org".to_owned(),
///     target_path: "/connect".to_owned(),
///     account_user_id: "user-1".to_owned(),
///     client_id: "laptop".to_owned(),
///     expires_at: now + 60_000,
///     claims: [("session".to_owned(), "s-1".into())].into(),
/// };
/// let signed = keys.sign(key.bound.key_id.as_str(), &payload)?;
/// key.public_key.verify(signed.signed.as_bytes(), &signed.signature)?;
///
/// let elsewhere = SignPayload { target_path: "/admin".to_owned(), ..payload };
/// assert!(keys.sign(key.bound.key_id.as_str(), &elsewhere).is_err());
/// keys.remove(key.bound.key_id.as_str())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DeviceKeys {
    database: FileDatabase,
    providers: Vec<Arc<dyn KeyProvider>>,
    /// Where keys that are being made are marked; nowhere when nothing is kept.
    home: Option<PathBuf>,
    rules: Option<SigningRules>,
    clock: fn() -> i64,
}

impl DeviceKeys {
    /// The keys of a runtime whose private parts are in files of its home; one without the domain answers so at every use.
    pub(crate) fn in_home(database: Result<Database>, home: &Path) -> Self {
        Self::of(database, Some(home.to_owned()), Arc::new(FileKeys::new(home)))
    }

    /// The keys of a runtime that keeps nothing.
    pub(crate) fn in_memory(database: Result<Database>, keys: Arc<MemoryKeys>) -> Self {
        Self::of(database, None, keys)
    }

    fn of(database: Result<Database>, home: Option<PathBuf>, provider: Arc<dyn KeyProvider>) -> Self {
        Self {
            database: FileDatabase::in_file(database, "device_keys"),
            providers: vec![provider],
            home,
            rules: None,
            clock: || i64::try_from(now_unix_ms()).unwrap_or(i64::MAX),
        }
    }

    /// Also with this provider. Of several of one class the one that was added last is asked first.
    #[must_use]
    pub fn provider(mut self, provider: Arc<dyn KeyProvider>) -> Self {
        self.providers.insert(0, provider);
        self
    }

    /// With these providers and no others: also not the files of the home.
    #[must_use]
    pub fn only_providers(mut self, providers: Vec<Arc<dyn KeyProvider>>) -> Self {
        self.providers = providers;
        self
    }

    /// What these keys may sign; without rules they sign nothing.
    #[must_use]
    pub fn rules(mut self, rules: SigningRules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// With another clock, in Unix milliseconds: for tests of programs that build on this.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> i64) -> Self {
        self.clock = clock;
        self
    }

    /// Makes a key for an account and a client: with the strongest provider that has what the policy asks for. An account and
    /// client may have several. Before that, keys are destroyed whose creation was broken off by a crash.
    ///
    /// # Errors
    /// Then there is neither a key nor a binding; where the key could not be deleted again, the error says both. Only after
    /// `OutcomeUnknown` a binding may be there: without a key, so that it signs nothing; it can be removed.
    /// - `Invalid`: an account or a client that is empty, longer than [`LONGEST_NAME`] bytes, or holds a control character.
    /// - `Unsupported`: no provider has what the policy asks for.
    /// - `ReadOnly`, `Full`, `Io`: of the home. The engine's; the provider's.
    pub fn create(&self, binding: &Binding, policy: KeyPolicy) -> Result<DeviceKey> {
        binding.check()?;
        self.database.get()?;
        if let Err(error) = self.finish_broken_off() {
            // It does not keep anybody from a new key.
            telemetry::warn(&format_args!("keys whose creation was broken off are left: {error}"));
        }
        let mut refusal = None;
        for provider in self.strongest_first().filter(|provider| policy.allows_class(provider.class())) {
            match self.create_with(&**provider, binding, policy)? {
                Ok(key) => return Ok(key),
                Err(refused) => refusal = Some(refused),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "no provider of this program makes keys that this policy allows",
            )
            .advise("add one for this machine's hardware (DeviceKeys::provider), or allow another protection")
        }))
    }

    /// A key, with its public part.
    ///
    /// # Errors
    /// - `Invalid`: no key id. `NotFound`: no such key; or its binding is there and the key itself is not, as after a
    ///   restored backup.
    /// - `Corrupt`, `Unsupported`: of its provider. The engine's.
    pub fn public(&self, key_id: &str) -> Result<DeviceKey> {
        let bound = self.bound(&key_id.parse()?)?;
        let (_, held) = self.held(&bound.key_id)?;
        Ok(device_key(bound, held))
    }

    /// Whom a key belongs to; only the database is asked.
    ///
    /// # Errors
    /// `Invalid`: no key id. `NotFound`: no such key. The engine's.
    pub fn binding(&self, key_id: &str) -> Result<KeyBinding> {
        self.bound(&key_id.parse()?)
    }

    /// Signs a payload, when the rules allow it, it is for the account and client of the key, its nonce is long enough, and
    /// it expires later than now and in at most 15 minutes, by this machine's clock.
    ///
    /// # Errors
    /// As [`public`](Self::public), and
    /// - `Invalid`: no rules, or a payload that they do not allow; a nonce, an expiry or claims that may not be signed.
    /// - `Conflict`: the key belongs to another account or client.
    /// - `Unsupported`: the keyring or the hardware of the key cannot be reached now.
    pub fn sign(&self, key_id: &str, payload: &SignPayload) -> Result<SignedPayload> {
        let key: KeyId = key_id.parse()?;
        let rules = self.rules.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the application does not say what its keys may sign")
                .advise("give it to DeviceKeys::rules")
        })?;
        let bound = self.bound(&key)?;
        let message = rules.message(payload, &key, &bound.binding, (self.clock)())?;
        let (provider, held) = self.held(&key)?;
        let signature = provider.sign(&key, &message)?;
        held.public_key.verify(message.bytes(), &signature).map_err(|_| {
            Error::new(ErrorKind::Corrupt, "the provider answered a signature that is not the key's")
        })?;
        Ok(SignedPayload {
            key_id: key,
            algorithm: Algorithm::EcdsaP256Sha256,
            signed: message.into_text(),
            signature,
        })
    }

    /// Destroys a key, and then forgets whom it belonged to. `None` when nobody had it.
    ///
    /// # Errors
    /// - `Invalid`: no key id. `Unsupported`: this program has no provider of its class.
    /// - The provider's: then nothing was forgotten, and the key may still sign. The engine's: then the key is gone, and
    ///   removing it again forgets the rest.
    pub fn remove(&self, key_id: &str) -> Result<Option<KeyBinding>> {
        let key: KeyId = key_id.parse()?;
        let database = self.database.get()?;
        self.destroy(&key)?;
        let params = [key.as_str().into()];
        database.write(|tx| only(tx, sql::DELETE, &params))
    }

    /// Whom keys belong to, by key id; only the database is asked. `limit` is 1 to [`LARGEST_PAGE`], `cursor` the
    /// [`next_cursor`](KeyPage::next_cursor) of the page before.
    ///
    /// # Errors
    /// `Invalid` for another limit, and for what is no cursor; the engine's.
    pub fn list(&self, cursor: Option<&str>, limit: u32) -> Result<KeyPage> {
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Error::new(ErrorKind::Invalid, format!("a page has 1 to {LARGEST_PAGE} keys")));
        }
        let after = match cursor {
            Some(cursor) => cursor
                .parse::<KeyId>()
                .map_err(|_| Error::new(ErrorKind::Invalid, "this is not the cursor of a page of keys"))?
                .into(),
            None => String::new(),
        };
        let params: [Value; 2] = [after.into(), i64::from(limit + 1).into()];
        let rows = self.database.get()?.read(|at| at.query(sql::PAGE, &params))?;
        let mut keys = rows.iter().map(KeyBinding::from_row).collect::<Result<Vec<_>>>()?;
        let more = keys.len() > limit as usize;
        keys.truncate(limit as usize);
        let next_cursor = keys.last().filter(|_| more).map(|last| last.key_id.to_string());
        Ok(KeyPage { keys, next_cursor })
    }

    /// Keys that exist and belong to nobody: their creation was broken off, or the database was lost or brought back from a
    /// backup. They sign nothing. Those that are being made right now are not among them.
    ///
    /// # Errors
    /// The engine's; the providers'.
    pub fn orphans(&self) -> Result<Vec<KeyId>> {
        let mut found = Vec::new();
        for key in self.existing()? {
            let being_made = match self.folder() {
                Some(folder) => unfinished::is_being_made(&folder, &key)?,
                None => false,
            };
            // In this order: a key that was being made before it was looked at has its binding now.
            if !being_made && self.find(&key)?.is_none() {
                found.push(key);
            }
        }
        Ok(found)
    }

    /// Destroys those of these keys that exist and still belong to nobody, and answers which these were. To be given
    /// [`orphans`](Self::orphans) that a person has seen and agreed to: their bindings may be in a backup that is going to
    /// be restored.
    ///
    /// # Errors
    /// As [`orphans`](Self::orphans); then some may be gone already.
    pub fn clean(&self, agreed: &[KeyId]) -> Result<Vec<KeyId>> {
        let mut gone = Vec::new();
        for key in self.existing()? {
            if agreed.contains(&key) && self.end_unless_bound(&key)? {
                gone.push(key);
            }
        }
        Ok(gone)
    }

    /// The key ids that providers hold, or that are marked as unfinished, as far as there is a provider that can destroy them.
    fn existing(&self) -> Result<Vec<KeyId>> {
        // Without a home no key outlives its creation, and none is marked while it is made.
        if self.home.is_none() {
            return Ok(Vec::new());
        }
        let mut keys = self.marked()?;
        keys.retain(|key| self.of_class(key.class()).next().is_some());
        for provider in &self.providers {
            keys.extend(provider.list()?);
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    fn marked(&self) -> Result<Vec<KeyId>> {
        self.folder().map_or_else(|| Ok(Vec::new()), |folder| unfinished::marked(&folder))
    }

    /// Ends what crashed processes began. Only what is marked: a key without a binding may be waiting for a backup of the
    /// database to be restored.
    fn finish_broken_off(&self) -> Result<()> {
        for key in self.marked()? {
            // Whose provider this program does not have is left to a program that has it.
            if self.of_class(key.class()).next().is_some() {
                self.end_unless_bound(&key)?;
            }
        }
        Ok(())
    }

    /// Destroys a key that nobody makes and that has no binding; answers whether it was such.
    fn end_unless_bound(&self, key: &KeyId) -> Result<bool> {
        let Some(home) = &self.home else { return Ok(false) };
        let Some(mark) = Unfinished::mark(&file::make_folder(home)?, key)? else {
            return Ok(false);
        };
        // Asked while nobody can be between making it and binding it.
        let orphan = self.find(key)?.is_none();
        if orphan {
            self.destroy(key)?;
        }
        mark.done()?;
        Ok(orphan)
    }

    /// The outer error ends the creation; the inner one is a provider's that has nothing for this policy.
    fn create_with(
        &self,
        provider: &dyn KeyProvider,
        binding: &Binding,
        policy: KeyPolicy,
    ) -> Result<Result<DeviceKey>> {
        let (key, mark) = self.begin(provider.class())?;
        let held = provider.create(&key, policy).and_then(|held| {
            if policy.allows(key.class(), held.protected_by) {
                return Ok(held);
            }
            Err(Error::new(
                ErrorKind::Unsupported,
                "the provider protects keys less than the policy asks for",
            ))
        });
        let held = match held {
            Ok(held) => held,
            Err(error) => {
                let refused = error.kind() == ErrorKind::Unsupported;
                return match undo(provider, &key, mark, error) {
                    Ok(error) if refused => Ok(Err(error)),
                    Ok(error) | Err(error) => Err(error),
                };
            }
        };
        let stored = self.store(&key, binding);
        match stored {
            Ok(bound) => {
                if let Some(Err(error)) = mark.map(Unfinished::done) {
                    telemetry::warn(&format_args!("the mark of a finished key is left: {error}"));
                }
                Ok(Ok(device_key(bound, held)))
            }
            Err(error) => Err(undo(provider, &key, mark, error).unwrap_or_else(|both| both)),
        }
    }

    /// A new id, marked.
    fn begin(&self, class: ProtectionClass) -> Result<(KeyId, Option<Unfinished>)> {
        let Some(home) = &self.home else { return Ok((KeyId::random(class)?, None)) };
        let folder = file::make_folder(home)?;
        loop {
            let key = KeyId::random(class)?;
            // Taken when somebody saw the mark between its creation and its lock, and judged it.
            if let Some(mark) = Unfinished::mark(&folder, &key)? {
                return Ok((key, Some(mark)));
            }
        }
    }

    fn store(&self, key: &KeyId, binding: &Binding) -> Result<KeyBinding> {
        let now = (self.clock)();
        let params: [Value; 4] = [
            key.as_str().into(),
            binding.account_user_id.as_str().into(),
            binding.client_id.as_str().into(),
            now.into(),
        ];
        self.database.get()?.write(|tx| Session::execute(tx, sql::INSERT, &params))?;
        Ok(KeyBinding { key_id: key.clone(), binding: binding.clone(), created_at: now, updated_at: now })
    }

    /// Destroys a key in whichever provider has it.
    fn destroy(&self, key: &KeyId) -> Result<()> {
        let mut providers = self.of_class(key.class()).peekable();
        if providers.peek().is_none() {
            return Err(no_provider());
        }
        providers.try_for_each(|provider| provider.remove(key).map(drop))
    }

    fn bound(&self, key: &KeyId) -> Result<KeyBinding> {
        self.find(key)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such key")
                .advise("`rowhouse keys list` shows those there are")
        })
    }

    fn find(&self, key: &KeyId) -> Result<Option<KeyBinding>> {
        let params = [key.as_str().into()];
        self.database.get()?.read(|at| only(at, sql::GET, &params))
    }

    /// The provider that has a key.
    fn held(&self, key: &KeyId) -> Result<(&dyn KeyProvider, HeldKey)> {
        let mut providers = self.of_class(key.class()).peekable();
        if providers.peek().is_none() {
            return Err(no_provider());
        }
        for provider in providers {
            if let Some(held) = provider.public(key)? {
                return Ok((&**provider, held));
            }
        }
        Err(Error::new(ErrorKind::NotFound, "it is known whom this key belongs to, but the key itself is gone")
            .advise("it was removed, or is on another machine: a backup holds no keys. Remove it and create another one"))
    }

    fn of_class(&self, class: ProtectionClass) -> impl Iterator<Item = &Arc<dyn KeyProvider>> {
        self.providers.iter().filter(move |provider| provider.class() == class)
    }

    fn strongest_first(&self) -> impl Iterator<Item = &Arc<dyn KeyProvider>> {
        let mut providers: Vec<_> = self.providers.iter().collect();
        providers.sort_by_key(|provider| provider.class());
        providers.into_iter()
    }

    fn folder(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(file::FOLDER))
    }
}

/// Deletes a key whose creation failed, and answers why it did. The error is both reasons when that failed too; the mark stays
/// then, and the next creation tries again.
fn undo(
    provider: &dyn KeyProvider,
    key: &KeyId,
    mark: Option<Unfinished>,
    why: Error,
) -> std::result::Result<Error, Error> {
    match provider.remove(key).and_then(|_| mark.map_or(Ok(()), Unfinished::done)) {
        Ok(()) => Ok(why),
        Err(second) => {
            let message = format!(
                "a key could not be created: {why}; and what there is of it could not be deleted: {second}"
            );
            Err(Error::new(why.kind(), message)
                .caused_by(why)
                .advise("the next creation deletes it, or `rowhouse keys clean`; it signs nothing"))
        }
    }
}

fn device_key(bound: KeyBinding, held: HeldKey) -> DeviceKey {
    DeviceKey {
        class: bound.key_id.class(),
        protected_by: held.protected_by,
        algorithm: Algorithm::EcdsaP256Sha256,
        public_key: held.public_key,
        bound,
    }
}

fn no_provider() -> Error {
    Error::new(ErrorKind::Unsupported, "this program has no provider for keys of this class")
        .advise("use the program that made it")
}

fn only(at: &impl Session, statement: &str, params: &[Value]) -> Result<Option<KeyBinding>> {
    at.query(statement, params)?.first().map(KeyBinding::from_row).transpose()
}

/// Fills it with bytes that nobody can guess.
fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Io, "the system has no random bytes")
            .caused_by(std::io::Error::other(error.to_string()))
    })
}
