//! Device keys: made for an account and a client, sign what the application allows and nothing else, and are gone when they
//! are removed, whatever crashes in between.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

#[path = "device_keys/broken_off.rs"]
mod broken_off;
#[cfg(target_os = "linux")]
#[path = "processes/confined.rs"]
mod confined;
#[path = "device_keys/fakes.rs"]
mod fakes;
mod processes;
#[path = "device_keys/secrecy.rs"]
mod secrecy;
#[path = "device_keys/signing.rs"]
mod signing;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fakes::*;
use rowhouse::stores::device_keys::*;
use rowhouse::{Domain, ErrorKind, Home, Runtime};

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["die while creating", home] => broken_off::die_while_creating(home.as_ref()),
        ["create and remove", home, rounds] => {
            broken_off::create_and_remove(home.as_ref(), rounds.parse().expect("a number"));
        }
        ["remove without descriptors", home, key] => {
            broken_off::remove_without_descriptors(home.as_ref(), key);
        }
        #[cfg(target_os = "linux")]
        ["use read-only", home] => use_read_only(home.as_ref()),
        #[cfg(feature = "keyring")]
        ["use without a bus", home] => use_without_a_bus(home.as_ref()),
        ["make files", home] => secrecy::make_files_with_a_careless_umask(home.as_ref()),
        _ => panic!("{words:?}"),
    }
}

#[test]
fn a_key_is_made_bound_listed_and_removed() {
    let place = Place::new();
    let key = create(&place.keys);
    assert!(id(&key).starts_with("dk_osn_") && id(&key).len() == 50, "{}", id(&key));
    assert_eq!(key.bound.binding, binding());
    assert_eq!((key.bound.created_at, key.bound.updated_at), (NOW, NOW));
    assert_eq!(place.keys.public(id(&key)).expect("the same"), key);
    let json = serde_json::to_string(&key).expect("JSON");
    assert_eq!(serde_json::from_str::<DeviceKey>(&json).expect("read again"), key, "{json}");
    let page = place.keys.list(None, 10).expect("a page");
    assert_eq!((page.keys, page.next_cursor), (vec![key.bound.clone()], None));

    assert_eq!(place.keys.remove(id(&key)).expect("removed"), Some(key.bound.clone()));
    assert_eq!(kind(place.keys.public(id(&key))), ErrorKind::NotFound);
    assert_eq!(kind(place.keys.sign(id(&key), &payload())), ErrorKind::NotFound);
    assert_eq!(place.keys.remove(id(&key)).expect("nothing to do"), None);
    assert!(place.files().is_empty(), "{:?}", place.files());
    assert!(place.keys.list(None, 10).expect("a page").keys.is_empty());
}

#[test]
fn a_key_is_there_again_after_the_program_ended() {
    let folder = folder();
    let home = folder.path().join("home");
    let files = || Arc::new(FileKeys::new(home.canonicalize().expect("a home")).keyring(None));
    let runtime = open(&home);
    let key = create(&keys_of(&runtime, files()));
    drop(runtime);
    let runtime = open(&home);
    let keys = keys_of(&runtime, files());
    assert_eq!(keys.public(id(&key)).expect("there"), key);
    verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
}

#[test]
fn the_class_is_in_the_id_and_the_policy_decides_who_makes_the_key() {
    use KeyPolicy::{AllowOsProtected, BestAvailable, HardwareOnly};
    let place = Place::new();
    let create = |keys: &rowhouse::stores::DeviceKeys, policy| keys.create(&binding(), policy);
    // Without hardware and keyring: only its mode protects the file, and the answer says so.
    let key = create(&place.keys, BestAvailable).expect("a key");
    assert_eq!((key.class, key.protected_by), (ProtectionClass::OsProtected, ProtectedBy::FilePermissions));
    assert_eq!(kind(create(&place.keys, AllowOsProtected)), ErrorKind::Unsupported);
    assert_eq!(kind(create(&place.keys, HardwareOnly)), ErrorKind::Unsupported);

    let keyring = Arc::new(MapKeyring::default());
    let files = Arc::new(FileKeys::new(&place.home).keyring(Some(keyring.clone())));
    let keys = keys_of(&place.runtime, files);
    for policy in [BestAvailable, AllowOsProtected] {
        let key = create(&keys, policy).expect("a key");
        assert_eq!((key.class, key.protected_by), (ProtectionClass::OsProtected, ProtectedBy::Keyring));
    }
    assert_eq!(kind(create(&keys, HardwareOnly)), ErrorKind::Unsupported);
    keyring.locked.store(true, Ordering::Relaxed);
    assert_eq!(create(&keys, BestAvailable).expect("a key").protected_by, ProtectedBy::FilePermissions);
    assert_eq!(kind(create(&keys, AllowOsProtected)), ErrorKind::Unsupported);

    // With hardware it is always that, the strongest first.
    for (class, prefix) in [(ProtectionClass::Tpm, "dk_tpm_"), (ProtectionClass::SecureEnclave, "dk_hse_")] {
        let hardware = Arc::new(MemoryKeys::standing_in_for(class));
        let keys = place.keys.clone().provider(hardware);
        for policy in [BestAvailable, AllowOsProtected, HardwareOnly] {
            let key = create(&keys, policy).expect("a key");
            assert!(id(&key).starts_with(prefix) && key.class == class, "{}", id(&key));
            verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
        }
    }
    // What was refused left nothing: five keys in files, and no marks.
    assert_eq!(place.files().len(), 4, "{:?}", place.files());
    // A program without that hardware says so, and forgets nothing.
    let tpm = place.keys.list(None, 500).expect("a page").keys.into_iter();
    let tpm = tpm.map(|bound| bound.key_id).find(|key| key.class() == ProtectionClass::Tpm).expect("one");
    for error in [kind(place.keys.public(tpm.as_str())), kind(place.keys.remove(tpm.as_str()))] {
        assert_eq!(error, ErrorKind::Unsupported);
    }
}

#[test]
fn pages_hold_every_key_once() {
    let place = Place::new();
    let keys = keys_of(&place.runtime, Arc::new(MemoryKeys::new()));
    let mut made: Vec<_> = (0..7).map(|_| create(&keys).bound.key_id).collect();
    made.sort();
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = keys.list(cursor.as_deref(), 3).expect("a page");
        assert!(page.keys.len() <= 3);
        found.extend(page.keys.into_iter().map(|bound| bound.key_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, made);
    assert_eq!(keys.list(None, 7).expect("a page").next_cursor, None, "the last page is full");
}

/// Counted for the whole process: what other tests run meanwhile keeps the bound as well.
#[test]
fn no_statement_looks_at_more_rows_than_it_answers() {
    let builder = Runtime::builder(Home::at("/nowhere")).domain(Domain::device_keys());
    let runtime = builder.ephemeral().open().expect("opened");
    let many = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO binding SELECT printf('dk_osn_%043d', i * 20), 'user-1', 'laptop', 1, 1 FROM n";
    runtime.database("device_keys").and_then(|db| db.write(|tx| tx.execute(many, []))).expect("filled");
    let keys = runtime.device_keys().rules(rules()).clock(|| NOW);
    let ((), costs) = rowhouse::sql::statement_costs(|| {
        let key = create(&keys);
        keys.sign(id(&key), &payload()).expect("signed");
        let page = keys.list(None, 100).expect("a page");
        keys.list(page.next_cursor.as_deref(), 100).expect("a page");
        keys.remove(id(&key)).expect("removed").expect("it was there");
    });
    let of_bindings: Vec<_> = costs.iter().filter(|cost| cost.sql.contains(" binding")).collect();
    assert!(of_bindings.len() >= 5, "{costs:?}");
    for cost in of_bindings {
        let looked_at_little = cost.full_scan_steps == 0 && cost.sorts == 0 && cost.automatic_index_rows == 0;
        assert!(looked_at_little && cost.vm_steps <= 100 + 30 * cost.rows, "{cost:?}");
    }
}

#[test]
fn bad_input_is_refused_and_nothing_is_written() {
    let place = Place::new();
    let huge = "x".repeat(1 << 20);
    for bad in ["", "nul\0", "line\nbreak", &huge, &"x".repeat(LONGEST_NAME + 1)] {
        for binding in [Binding::new(bad, "laptop"), Binding::new("user-1", bad)] {
            let error = place.keys.create(&binding, KeyPolicy::default()).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }
    let tail = "A".repeat(43);
    let unknown = format!("dk_osn_{tail}");
    assert_eq!(kind(place.keys.public(&unknown)), ErrorKind::NotFound);
    assert_eq!(kind(place.keys.sign(&unknown, &payload())), ErrorKind::NotFound);
    assert_eq!(place.keys.remove(&unknown).expect("nothing"), None);
    for bad in ["", "dk_osn_", "dk_osn_\0", &huge, "../../etc/passwd", &format!("dk_xxx_{tail}")] {
        assert_eq!(kind(place.keys.public(bad)), ErrorKind::Invalid);
        assert_eq!(kind(place.keys.sign(bad, &payload())), ErrorKind::Invalid);
        assert_eq!(kind(place.keys.remove(bad)), ErrorKind::Invalid);
        assert_eq!(kind(place.keys.list(Some(bad), 10)), ErrorKind::Invalid);
    }
    for limit in [0, LARGEST_PAGE + 1, u32::MAX] {
        assert_eq!(kind(place.keys.list(None, limit)), ErrorKind::Invalid);
    }
    assert!(place.files().is_empty() && place.keys.list(None, 10).expect("a page").keys.is_empty());
    // The longest that is allowed.
    let name = "\u{e4}".repeat(LONGEST_NAME / 2);
    let key =
        place.keys.create(&Binding::new(name.clone(), name.clone()), KeyPolicy::default()).expect("a key");
    assert_eq!(place.keys.public(id(&key)).expect("there").bound.binding, Binding::new(name.clone(), name));
}

#[test]
fn a_runtime_without_the_domain_says_so_and_makes_no_key() {
    let folder = folder();
    let runtime =
        Runtime::builder(Home::at(folder.path())).domain(Domain::new("other")).open().expect("opened");
    let keys = runtime.device_keys();
    assert_eq!(kind(keys.create(&binding(), KeyPolicy::default())), ErrorKind::NotFound);
    assert_eq!(kind(keys.list(None, 10)), ErrorKind::NotFound);
    assert!(!folder.path().join("keys").exists());
}

#[test]
fn a_runtime_that_keeps_nothing_has_its_keys_in_memory() {
    let folder = folder();
    let home = folder.path().join("home");
    let open = || {
        let builder = Runtime::builder(Home::at(&home)).domain(Domain::device_keys());
        builder.ephemeral().open().expect("opened")
    };
    let runtime = open();
    let key = create(&runtime.device_keys());
    assert_eq!(key.protected_by, ProtectedBy::Memory);
    // Another handle of the same runtime has it too.
    let keys = runtime.device_keys().rules(rules()).clock(|| NOW);
    verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
    assert!(keys.orphans().expect("a look").is_empty() && keys.clean(&[]).expect("nothing").is_empty());
    drop((keys, runtime));
    assert_eq!(kind(open().device_keys().public(id(&key))), ErrorKind::NotFound);
    assert!(!home.exists());
}

#[test]
fn what_a_hardware_provider_signs_wrong_is_given_to_nobody() {
    let place = Place::new();
    let faulty = Faulty::new(&place.home);
    let keys = keys_of(&place.runtime, faulty.clone());
    let key = create(&keys);
    verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
    faulty.signs_wrong.store(true, Ordering::Relaxed);
    assert_eq!(kind(keys.sign(id(&key), &payload())), ErrorKind::Corrupt);
}

#[cfg(target_os = "linux")]
fn use_read_only(home: &std::path::Path) {
    if confined::is_root() {
        confined::mount_read_only(home);
    }
    let runtime = open(home);
    let keys = keys_of(&runtime, Arc::new(FileKeys::new(home).keyring(None)));
    let key = keys.list(None, 10).expect("a page").keys.remove(0).key_id;
    let orphans = keys.orphans().expect("looking needs to write nothing");
    assert_eq!(orphans.len(), 1);
    let key = keys.public(key.as_str()).expect("readable");
    verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
    for error in [
        keys.create(&binding(), KeyPolicy::default()).expect_err("nothing may be written"),
        keys.remove(id(&key)).expect_err("nothing may be written"),
    ] {
        assert!(error.kind() == ErrorKind::ReadOnly && error.advice().is_some(), "{error}");
    }
    assert_eq!(keys.public(id(&key)).expect("as before"), key);
}

#[cfg(target_os = "linux")]
#[test]
fn a_home_that_may_not_be_written_still_signs() {
    let Place { keys, runtime, home, _folder } = Place::new();
    let (_, lost) = (create(&keys), create(&keys));
    let forget = "DELETE FROM binding WHERE key_id = ?1";
    runtime
        .database("device_keys")
        .and_then(|db| db.write(|tx| tx.execute(forget, [id(&lost)])))
        .expect("lost");
    std::fs::write(home.join("keys").join(format!("{}.creating", id(&lost))), "").expect("a mark");
    drop((keys, runtime));
    confined::make_read_only(&home);
    let child = processes::Child::start("use read-only", &[processes::text(&home)]);
    let (said, status) = child.end();
    confined::make_writable(&home);
    assert!(status.success(), "{said:?}");
}

#[cfg(feature = "keyring")]
fn use_without_a_bus(home: &std::path::Path) {
    // SAFETY: nothing else runs in this process yet but the harness, which waits for this thread.
    unsafe { std::env::set_var("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus") };
    let runtime = open(home);
    let keys = keys_of(&runtime, Arc::new(FileKeys::new(home).keyring(Some(Arc::new(SystemKeyring)))));
    let key = create(&keys);
    assert_eq!(key.protected_by, ProtectedBy::FilePermissions);
    verify(&key, &keys.sign(id(&key), &payload()).expect("signed"));
    let error = keys.create(&binding(), KeyPolicy::AllowOsProtected).expect_err("no keyring");
    assert!(error.kind() == ErrorKind::Unsupported && error.advice().is_some(), "{error}");
    keys.remove(id(&key)).expect("removed").expect("it was there");
}

/// Only where there is no D-Bus is it known what the keyring of the system answers.
#[cfg(all(feature = "keyring", target_os = "linux"))]
#[test]
fn where_the_system_has_no_keyring_its_absence_is_told() {
    let place = Place::new();
    processes::Child::start("use without a bus", &[processes::text(&place.home)]).finish();
    assert!(place.files().is_empty());
}
