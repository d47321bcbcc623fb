//! Creating and removing that fails, is killed, or is done by several processes at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rowhouse::stores::DeviceKeys;
use rowhouse::stores::device_keys::*;
use rowhouse::{ErrorKind, Result};

use crate::fakes::*;
use crate::processes::{Child, listen, ready, rounds, say, start_together, text};

const NO_BINDING: &str =
    "CREATE TRIGGER no_binding BEFORE INSERT ON binding BEGIN SELECT RAISE(ABORT, 'no binding'); END";
const NO_REMOVAL: &str =
    "CREATE TRIGGER no_removal BEFORE DELETE ON binding BEGIN SELECT RAISE(ABORT, 'no removal'); END";

/// Nothing is left: no binding, no key, no mark.
fn nothing_is_left(place: &Place) {
    assert!(place.files().is_empty(), "{:?}", place.files());
    assert!(place.keys.list(None, 10).expect("a page").keys.is_empty());
    assert!(place.keys.orphans().expect("a look").is_empty());
}

#[test]
fn a_key_whose_binding_cannot_be_stored_is_deleted_again() {
    let place = Place::new();
    place.sql(NO_BINDING);
    assert_eq!(kind(place.keys.create(&binding(), KeyPolicy::default())), ErrorKind::Constraint);
    nothing_is_left(&place);
}

#[test]
fn when_it_cannot_be_deleted_either_both_errors_are_told_and_the_next_creation_deletes_it() {
    let place = Place::new();
    let faulty = Faulty::new(&place.home);
    let keys = keys_of(&place.runtime, faulty.clone());
    place.sql(NO_BINDING);
    faulty.remove_fails.store(true, Ordering::Relaxed);
    let error = keys.create(&binding(), KeyPolicy::default()).expect_err("no binding");
    assert_eq!(error.kind(), ErrorKind::Constraint);
    let told = error.to_string();
    assert!(told.contains("constraint") && told.contains("the chip is gone"), "{told}");
    assert!(told.contains("keys clean"), "{told}");
    let orphan = keys.orphans().expect("a look");
    assert_eq!(orphan.len(), 1);
    assert_eq!(kind(keys.sign(orphan[0].as_str(), &payload())), ErrorKind::NotFound);

    // It still cannot be deleted: that keeps nobody from a new key.
    place.sql("DROP TRIGGER no_binding");
    let key = create(&keys);
    assert_eq!(keys.orphans().expect("a look"), orphan);
    faulty.remove_fails.store(false, Ordering::Relaxed);
    let other = create(&keys);
    assert_eq!(keys.orphans().expect("a look"), []);
    let mut expected = [format!("{}.key", id(&key)), format!("{}.key", id(&other))];
    expected.sort();
    assert_eq!(place.files(), expected);
}

#[test]
fn a_key_that_is_half_made_when_its_provider_fails_is_deleted_again() {
    let place = Place::new();
    let faulty = Faulty::new(&place.home);
    let keys = keys_of(&place.runtime, faulty.clone());
    faulty.create_fails.store(true, Ordering::Relaxed);
    let error = keys.create(&binding(), KeyPolicy::default()).expect_err("no key");
    assert!(error.kind() == ErrorKind::Io && error.message() == "the chip says no", "{error}");
    nothing_is_left(&place);
    faulty.remove_fails.store(true, Ordering::Relaxed);
    let told = keys.create(&binding(), KeyPolicy::default()).expect_err("no key").to_string();
    assert!(told.contains("the chip says no") && told.contains("the chip is gone"), "{told}");
}

/// Makes the key, and then says so and waits to be killed.
struct Waits(FileKeys);

impl KeyProvider for Waits {
    fn class(&self) -> ProtectionClass {
        self.0.class()
    }
    fn create(&self, key: &KeyId, policy: KeyPolicy) -> Result<HeldKey> {
        let held = self.0.create(key, policy)?;
        say(&format!("made {key}"));
        listen();
        Ok(held)
    }
    fn public(&self, key: &KeyId) -> Result<Option<HeldKey>> {
        self.0.public(key)
    }
    fn sign(&self, key: &KeyId, message: &Message) -> Result<Vec<u8>> {
        self.0.sign(key, message)
    }
    fn remove(&self, key: &KeyId) -> Result<bool> {
        self.0.remove(key)
    }
}

pub(crate) fn die_while_creating(home: &Path) {
    let runtime = open(home);
    let keys = keys_of(&runtime, Arc::new(Waits(FileKeys::new(home).keyring(None))));
    create(&keys);
}

/// Control: without the mark, a key that is being made looks like one whose maker died: both are a file without a binding.
#[test]
fn a_key_whose_maker_is_killed_before_it_is_bound_is_destroyed_and_one_whose_maker_lives_is_not() {
    let place = Place::new();
    let mut child = Child::start("die while creating", &[text(&place.home)]);
    let key = child.wait_for("made");
    let file = format!("{key}.key");
    // The maker is stopped, not dead: neither a creation nor a cleaning takes its key away.
    child.stop();
    let own = create(&place.keys);
    assert!(place.keys.orphans().expect("a look").is_empty());
    assert!(place.keys.clean(&[key.parse().expect("an id")]).expect("nothing").is_empty());
    assert!(place.files().contains(&file), "{:?}", place.files());
    child.go_on();
    child.kill();

    assert_eq!(place.keys.orphans().expect("a look"), [key.parse().expect("an id")]);
    assert_eq!(kind(place.keys.sign(&key, &payload())), ErrorKind::NotFound);
    let other = create(&place.keys);
    let mut expected = [&own, &other].map(|key| format!("{}.key", id(key)));
    expected.sort();
    assert_eq!(place.files(), expected);
}

/// Killed before the key, and after the binding: only the mark is left to be removed.
#[test]
fn a_mark_without_a_key_goes_and_one_of_a_bound_key_takes_nothing_along() {
    let place = Place::new();
    let (removed, key) = (create(&place.keys), create(&place.keys));
    place.keys.remove(id(&removed)).expect("removed").expect("it was there");
    for marked in [&removed, &key] {
        std::fs::write(place.home.join("keys").join(format!("{}.creating", id(marked))), "").expect("a mark");
    }
    let other = create(&place.keys);
    let mut expected = [&key, &other].map(|key| format!("{}.key", id(key)));
    expected.sort();
    assert_eq!(place.files(), expected);
    verify(&key, &place.keys.sign(id(&key), &payload()).expect("signed"));
}

#[test]
fn a_removed_key_is_destroyed_before_its_binding_goes() {
    let place = Place::new();
    let key = create(&place.keys);
    place.sql(NO_REMOVAL);
    // First half: the key is gone, its binding is not. It signs nothing, and is still listed.
    assert_eq!(kind(place.keys.remove(id(&key))), ErrorKind::Constraint);
    assert!(place.files().is_empty(), "{:?}", place.files());
    assert_eq!(place.keys.list(None, 10).expect("a page").keys, std::slice::from_ref(&key.bound));
    for answer in [kind(place.keys.public(id(&key))), kind(place.keys.sign(id(&key), &payload()))] {
        assert_eq!(answer, ErrorKind::NotFound);
    }
    // Second half, later: removing it again ends it.
    place.sql("DROP TRIGGER no_removal");
    assert_eq!(place.keys.remove(id(&key)).expect("removed"), Some(key.bound));
    nothing_is_left(&place);
}

#[test]
fn a_key_that_cannot_be_destroyed_keeps_its_binding() {
    let place = Place::new();
    let faulty = Faulty::new(&place.home);
    let keys = keys_of(&place.runtime, faulty.clone());
    let key = create(&keys);
    faulty.remove_fails.store(true, Ordering::Relaxed);
    assert_eq!(kind(keys.remove(id(&key))), ErrorKind::Io);
    assert_eq!(keys.public(id(&key)).expect("as it was"), key);
    faulty.remove_fails.store(false, Ordering::Relaxed);
    keys.remove(id(&key)).expect("removed").expect("it was there");
    nothing_is_left(&place);
}

pub(crate) fn remove_without_descriptors(home: &Path, key: &str) {
    let key = key.parse().expect("an id");
    let files = FileKeys::new(home).keyring(None);
    // Nothing can be opened: a name goes, and no folder is made durable.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let none = rustix::process::Rlimit { current: Some(0), ..limit };
    let limit_to = |limit| rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("set");
    limit_to(none);
    let answers = [files.remove(&key), files.remove(&key)];
    limit_to(limit);
    assert!(!home.join("keys").join(format!("{key}.key")).exists(), "the first one removed it");
    for answer in answers {
        assert_eq!(kind(answer), ErrorKind::Io, "not durable yet");
    }
    assert!(!files.remove(&key).expect("durable now"));
}

/// Else the binding would go while the file may come back with the next power cut.
#[test]
fn a_removal_that_was_not_durable_is_not_done_before_it_is() {
    let place = Place::new();
    let key = create(&place.keys);
    Child::start("remove without descriptors", &[text(&place.home), id(&key)]).finish();
    assert_eq!(place.keys.remove(id(&key)).expect("removed"), Some(key.bound));
    nothing_is_left(&place);
}

/// Control: removed the other way round, the key file would still be there for the binding that comes back.
#[test]
fn a_removed_key_does_not_come_back_with_an_older_database() {
    let place = Place::new();
    let key = create(&place.keys);
    let backup = place.runtime.backup(&rowhouse::BackupOptions::default(), &mut |_| {}).expect("a backup");
    place.keys.remove(id(&key)).expect("removed");
    let Place { keys, runtime, home, _folder } = place;
    drop((keys, runtime));
    let builder =
        rowhouse::Runtime::builder(rowhouse::Home::at(&home)).domain(rowhouse::Domain::device_keys());
    builder.restore(&backup.folder, &rowhouse::RestoreOptions::default(), &mut |_| {}).expect("restored");
    let runtime = open(&home);
    let keys = keys_of(&runtime, Arc::new(FileKeys::new(&home).keyring(None)));
    assert_eq!(keys.list(None, 10).expect("a page").keys, std::slice::from_ref(&key.bound));
    let error = keys.sign(id(&key), &payload()).expect_err("no key");
    assert!(
        error.kind() == ErrorKind::NotFound && error.advice().is_some_and(|a| a.contains("backup")),
        "{error}"
    );
}

#[test]
fn keys_of_a_lost_database_wait_until_somebody_wants_them_cleaned() {
    let place = Place::new();
    let (one, other) = (create(&place.keys), create(&place.keys));
    place.sql("DELETE FROM binding");
    // It may be restored: a new key does not end them.
    let new = create(&place.keys);
    let mut lost = vec![one.bound.key_id.clone(), other.bound.key_id.clone()];
    lost.sort();
    assert_eq!(place.keys.orphans().expect("a look"), lost);
    assert_eq!(place.files().len(), 3);
    assert_eq!(place.keys.clean(&lost).expect("cleaned"), lost);
    assert_eq!(place.files(), [format!("{}.key", id(&new))]);
    assert!(place.keys.clean(&lost).expect("nothing").is_empty());
    verify(&new, &place.keys.sign(id(&new), &payload()).expect("signed"));
}

/// Somebody looks, agrees, and meanwhile the database is restored, or another key loses its binding.
#[test]
fn only_what_was_agreed_to_is_cleaned_and_only_while_it_belongs_to_nobody() {
    let place = Place::new();
    let (lost, restored, late) = (create(&place.keys), create(&place.keys), create(&place.keys));
    let execute = |sql: &str, key: &DeviceKey| {
        let database = place.runtime.database("device_keys").expect("the domain");
        database.write(|tx| tx.execute(sql, [id(key)])).expect("written");
    };
    let (forget, bind) = (
        "DELETE FROM binding WHERE key_id = ?1",
        "INSERT INTO binding VALUES (?1, 'user-1', 'laptop', 1, 1)",
    );
    execute(forget, &lost);
    execute(forget, &restored);
    let agreed = place.keys.orphans().expect("a look");
    assert_eq!(agreed.len(), 2);
    execute(bind, &restored);
    execute(forget, &late);
    assert_eq!(place.keys.clean(&agreed).expect("cleaned"), std::slice::from_ref(&lost.bound.key_id));
    verify(&restored, &place.keys.sign(id(&restored), &payload()).expect("signed"));
    assert_eq!(place.keys.orphans().expect("a look"), std::slice::from_ref(&late.bound.key_id));
    assert!(place.keys.clean(&[]).expect("nothing").is_empty());
}

#[test]
fn looking_for_keys_of_nobody_makes_nothing() {
    let place = Place::new();
    let (marked, unmarked) = (create(&place.keys), create(&place.keys));
    place.sql("DELETE FROM binding");
    let mark = place.home.join("keys").join(format!("{}.creating", id(&marked)));
    std::fs::write(&mark, "").expect("a mark");
    let before = (place.files(), std::fs::metadata(&mark).expect("a mark").modified().expect("a time"));
    let mut expected = [marked.bound.key_id, unmarked.bound.key_id];
    expected.sort();
    assert_eq!(place.keys.orphans().expect("a look"), expected);
    assert_eq!(
        (place.files(), std::fs::metadata(&mark).expect("a mark").modified().expect("a time")),
        before
    );
}

/// A mark of hardware that this program does not have: it cannot say whether there is a key.
#[test]
fn what_only_another_program_can_destroy_is_left_to_it() {
    let place = Place::new();
    let key = create(&place.keys);
    let elsewhere = id(&key).replace("dk_osn_", "dk_tpm_");
    std::fs::write(place.home.join("keys").join(format!("{elsewhere}.creating")), "").expect("a mark");
    place.sql("DELETE FROM binding");
    let orphans = place.keys.orphans().expect("a look");
    assert_eq!(orphans, std::slice::from_ref(&key.bound.key_id));
    assert_eq!(place.keys.clean(&orphans).expect("cleaned"), orphans);
    assert_eq!(place.files(), [format!("{elsewhere}.creating")]);
}

fn of(home: &Path) -> DeviceKeys {
    let runtime = open(home);
    keys_of(&runtime, Arc::new(FileKeys::new(home).keyring(None)))
}

pub(crate) fn create_and_remove(home: &Path, rounds: u64) {
    let keys = of(home);
    ready();
    for round in 0..rounds {
        let key = create(&keys);
        assert!(keys.orphans().expect("a look").iter().all(|orphan| orphan != &key.bound.key_id));
        let orphans = keys.orphans().expect("a look");
        keys.clean(&orphans).expect("cleaned");
        verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
        if round % 2 == 0 {
            keys.remove(id(&key)).expect("removed").expect("it was there");
        } else {
            say(&format!("kept {}", id(&key)));
        }
    }
}

#[test]
fn processes_that_create_remove_and_clean_at_once_lose_no_key_and_leave_none() {
    let place = Place::new();
    let rounds = rounds(10);
    let mut children: Vec<_> = (0..3)
        .map(|_| Child::start("create and remove", &[text(&place.home), &rounds.to_string()]))
        .collect();
    start_together(&mut children);
    let mut kept = Vec::new();
    for child in children {
        let (said, status) = child.end();
        assert!(status.success(), "{said:?}");
        kept.extend(said.iter().filter_map(|line| line.strip_prefix("kept ").map(str::to_owned)));
    }
    kept.sort();
    assert_eq!(kept.len() as u64, 3 * (rounds / 2));
    assert_eq!(place.files(), kept.iter().map(|key| format!("{key}.key")).collect::<Vec<_>>());
    let listed = place.keys.list(None, LARGEST_PAGE).expect("a page").keys;
    assert_eq!(listed.iter().map(|bound| bound.key_id.as_str()).collect::<Vec<_>>(), kept);
}

#[test]
fn threads_that_remove_one_key_at_once_remove_it_once() {
    let place = Place::new();
    let key = create(&place.keys);
    let removed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place.keys.remove(id(&key)).expect("removed or nothing to do").is_some()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|it| *it).count()
    });
    assert_eq!(removed, 1);
    nothing_is_left(&place);
}
