//! Where private keys are, and where they are not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64ct::{Base64UrlUnpadded, Encoding};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rowhouse::stores::device_keys::*;
use rowhouse::{BackupOptions, ErrorKind};

use crate::fakes::*;
use crate::processes::{Child, text};

/// Every file below a folder.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().expect("a kind").is_dir() {
            found.extend(everything(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    let hex = |format: fn(&u8) -> String| secret.iter().map(format).collect::<String>().into_bytes();
    let texts = [
        secret.to_vec(),
        Base64UrlUnpadded::encode_string(secret).into_bytes(),
        base64ct::Base64Unpadded::encode_string(secret).into_bytes(),
        hex(|byte| format!("{byte:02x}")),
        hex(|byte| format!("{byte:02X}")),
        format!("{secret:?}").into_bytes(),
    ];
    texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_slice()))
}

fn decoded(file: &Path, field: &str) -> Vec<u8> {
    let text: serde_json::Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    Base64UrlUnpadded::decode_vec(text[field].as_str().expect(field)).expect("base64url")
}

/// The private key of a wrapped file, unwrapped here once more from what the file's format says.
fn unwrapped(file: &Path, key: &DeviceKey, by: &WrappingKey) -> Vec<u8> {
    let nonce: [u8; 24] = decoded(file, "nonce").try_into().expect("24 bytes");
    let aad = [b"rowhouse device key 1\0", id(key).as_bytes(), b"\0", key.public_key.spki_der()].concat();
    let sealed = decoded(file, "wrapped_key");
    XChaCha20Poly1305::new(by.expose().into())
        .decrypt(&XNonce::from(nonce), Payload { msg: &sealed, aad: &aad })
        .expect("the wrapping key opens it")
}

/// Control: a file that is not wrapped holds it in the clear, where the same search finds it.
#[test]
fn a_private_key_is_in_no_file_but_its_own_and_there_only_wrapped() {
    let keyring = Arc::new(MapKeyring::default());
    let place = Place::with_keyring(Some(keyring.clone()));
    let key = create(&place.keys);
    place.keys.sign(id(&key), &payload()).expect("signed");
    assert_eq!(keyring.names(), [id(&key)]);
    let secret = unwrapped(&place.key_file(&key), &key, &keyring.of(&key));
    let wrapping = keyring.of(&key).expose().to_vec();

    let clear = create(&keys_of(&place.runtime, Arc::new(FileKeys::new(&place.home).keyring(None))));
    let clear_secret = decoded(&place.key_file(&clear), "private_key");
    assert!(holds(&fs::read(place.key_file(&clear)).expect("a file"), &clear_secret), "the control");

    let backup = place.runtime.backup(&BackupOptions::default(), &mut |_| {}).expect("a backup");
    assert!(everything(&backup.folder).iter().all(|file| !file.to_string_lossy().contains("dk_osn_")));
    let files = everything(&place.home);
    assert!(files.len() > 8 && files.contains(&place.key_file(&key)), "{files:?}");
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        assert!(!holds(&bytes, &secret) && !holds(&bytes, &wrapping), "{}", file.display());
        assert!(file == place.key_file(&clear) || !holds(&bytes, &clear_secret), "{}", file.display());
    }
}

#[test]
fn no_text_of_any_value_or_error_holds_a_private_key() {
    let place = Place::new();
    let key = create(&place.keys);
    let file = place.key_file(&key);
    let secret = decoded(&file, "private_key");
    let files = FileKeys::new(&place.home).keyring(None);
    let signed = place.keys.sign(id(&key), &payload()).expect("signed");
    let wrapping = WrappingKey::from_slice(&secret).expect("32 bytes");
    let mut texts = vec![
        format!("{files:?} {key:?} {signed:?} {wrapping:?} {:?}", files.public(&key.bound.key_id)),
        format!("{:?}", MemoryKeys::new()),
        serde_json::to_string(&(&key, &signed)).expect("JSON"),
    ];
    // Files that are no key files any more, but still hold it.
    let text = fs::read_to_string(&file).expect("a file");
    let stored = Base64UrlUnpadded::encode_string(&secret);
    for damaged in [
        text.replace("\"layout\":1", "\"layout\":2"),
        text.replace("\"layout\":1", &format!("\"layout\":\"{stored}\"")),
        text.replace("private_key", &stored),
        text.replace(&stored, &format!("{stored}A")),
        text.replace(id(&key), &id(&key).replace("osn", "tpm")),
        text[..text.len() - 3].to_owned(),
        stored.clone(),
    ] {
        fs::write(&file, &damaged).expect("damaged");
        for error in [
            place.keys.public(id(&key)).expect_err("damaged"),
            place.keys.sign(id(&key), &payload()).expect_err("damaged"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.path() == Some(&file) && error.advice().is_some(), "{error}");
            texts.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));
        }
    }
    for text in texts {
        assert!(!holds(text.as_bytes(), &secret), "{text}");
    }
    // A damaged one can be removed.
    place.keys.remove(id(&key)).expect("removed").expect("it was there");
    assert!(place.files().is_empty());
}

#[test]
fn the_content_of_one_file_is_of_no_use_in_another() {
    let keyring = Arc::new(MapKeyring::default());
    let place = Place::with_keyring(Some(keyring.clone()));
    let (one, other) = (create(&place.keys), create(&place.keys));
    let text = fs::read_to_string(place.key_file(&one)).expect("a file");
    fs::write(place.key_file(&other), &text).expect("copied");
    assert_eq!(kind(place.keys.sign(id(&other), &payload())), ErrorKind::Corrupt);
    fs::write(place.key_file(&other), text.replace(id(&one), id(&other))).expect("copied");
    assert_eq!(kind(place.keys.sign(id(&other), &payload())), ErrorKind::Corrupt);
    // Nor is a public key of somebody else's beside it; where nothing else is needed to see it, it is never answered.
    let public = |key: &DeviceKey| {
        serde_json::to_value(key).expect("JSON")["public_key"].as_str().expect("text").to_owned()
    };
    fs::write(place.key_file(&one), text.replace(&public(&one), &public(&other))).expect("changed");
    assert_eq!(kind(place.keys.sign(id(&one), &payload())), ErrorKind::Corrupt);
    let clear = keys_of(&place.runtime, Arc::new(FileKeys::new(&place.home).keyring(None)));
    let third = create(&clear);
    let text = fs::read_to_string(place.key_file(&third)).expect("a file");
    fs::write(place.key_file(&third), text.replace(&public(&third), &public(&other))).expect("changed");
    assert_eq!(kind(clear.public(id(&third))), ErrorKind::Corrupt);
    assert_eq!(kind(clear.sign(id(&third), &payload())), ErrorKind::Corrupt);
}

#[test]
fn a_wrapped_key_needs_the_keyring_and_takes_its_wrapping_key_along() {
    let keyring = Arc::new(MapKeyring::default());
    let place = Place::with_keyring(Some(keyring.clone()));
    let (key, other) = (create(&place.keys), create(&place.keys));
    verify(&key, &place.keys.sign(id(&key), &payload()).expect("signed"));
    keyring.locked.store(true, Ordering::Relaxed);
    assert_eq!(place.keys.public(id(&key)).expect("no secret"), key);
    assert_eq!(kind(place.keys.sign(id(&key), &payload())), ErrorKind::Unsupported);
    let without = keys_of(&place.runtime, Arc::new(FileKeys::new(&place.home).keyring(None)));
    assert_eq!(kind(without.sign(id(&key), &payload())), ErrorKind::Unsupported);
    // Also a key that cannot be unwrapped now can be ended.
    place.keys.remove(id(&other)).expect("removed").expect("it was there");
    assert_eq!(place.files(), [format!("{}.key", id(&key))]);

    keyring.locked.store(false, Ordering::Relaxed);
    let copy = fs::read(place.key_file(&key)).expect("a file");
    place.keys.remove(id(&key)).expect("removed").expect("it was there");
    assert!(!keyring.names().contains(&id(&key).to_owned()), "the copy of its file is of no use");
    fs::write(place.key_file(&key), copy).expect("put back");
    let files = FileKeys::new(&place.home).keyring(Some(keyring));
    assert!(files.public(&key.bound.key_id).expect("readable").is_some());
    // Bound again by hand, it still signs nothing.
    let sql = format!("INSERT INTO binding VALUES ('{}', 'user-1', 'laptop', 1, 1)", id(&key));
    place.runtime.database("device_keys").and_then(|db| db.write(|tx| tx.execute(&sql, []))).expect("bound");
    assert_eq!(kind(place.keys.sign(id(&key), &payload())), ErrorKind::NotFound);
}

/// Keeps keys and gives none back.
#[derive(Default)]
struct Forgetful(MapKeyring);

impl Keyring for Forgetful {
    fn keep(&self, name: &str, key: &WrappingKey) -> rowhouse::Result<()> {
        self.0.keep(name, key)
    }
    fn find(&self, _: &str) -> rowhouse::Result<Option<WrappingKey>> {
        Ok(None)
    }
    fn forget(&self, name: &str) -> rowhouse::Result<()> {
        self.0.forget(name)
    }
}

#[test]
fn a_keyring_that_gives_nothing_back_wraps_nothing_and_keeps_nothing() {
    let keyring = Arc::new(Forgetful::default());
    let place = Place::with_keyring(Some(keyring.clone()));
    let key = create(&place.keys);
    assert_eq!(key.protected_by, ProtectedBy::FilePermissions);
    verify(&key, &place.keys.sign(id(&key), &payload()).expect("signed"));
    assert_eq!(kind(place.keys.create(&binding(), KeyPolicy::AllowOsProtected)), ErrorKind::Unsupported);
    assert!(keyring.0.names().is_empty(), "{:?}", keyring.0.names());
}

/// As in a home that may not be written.
#[test]
fn a_key_that_cannot_be_removed_keeps_its_wrapping_key() {
    let keyring = Arc::new(MapKeyring::default());
    let place = Place::with_keyring(Some(keyring.clone()));
    let key = create(&place.keys);
    let (file, aside) = (place.key_file(&key), place.home.join("aside"));
    fs::rename(&file, &aside).expect("moved");
    fs::create_dir(&file).expect("a folder is not removed as a file");
    place.keys.remove(id(&key)).expect_err("not removed");
    fs::remove_dir(&file).expect("removed");
    fs::rename(&aside, &file).expect("moved back");
    verify(&key, &place.keys.sign(id(&key), &payload()).expect("as before"));
    place.keys.remove(id(&key)).expect("removed").expect("it was there");
    assert!(keyring.names().is_empty());
}

pub(crate) fn make_files_with_a_careless_umask(home: &Path) {
    // SAFETY: changes a number of this process.
    unsafe { libc::umask(0) };
    let runtime = open(home);
    create(&keys_of(&runtime, Arc::new(FileKeys::new(home).keyring(None))));
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}

#[test]
fn key_files_are_private_whatever_the_umask_and_are_made_so_again() {
    let place = Place::new();
    Child::start("make files", &[text(&place.home)]).finish();
    let keys = place.home.join("keys");
    let [name] = &place.files()[..] else { panic!("{:?}", place.files()) };
    let file = keys.join(name);
    assert_eq!((mode(&keys), mode(&file)), (0o700, 0o600));
    for path in [&keys, &file] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("opened");
    }
    place.keys.sign(name.trim_end_matches(".key"), &payload()).expect("signed");
    assert_eq!((mode(&keys), mode(&file)), (0o700, 0o600));
}

/// Others could put a file of theirs in place of a new one, or take it away.
#[test]
fn no_key_is_put_into_a_folder_that_is_open_to_others() {
    let place = Place::new();
    let keys = place.home.join("keys");
    fs::create_dir(&keys).expect("a folder");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o777)).expect("opened");
    create(&place.keys);
    assert_eq!(mode(&keys), 0o700);
    if chown(&keys, Some(65_534), None).is_err() {
        return eprintln!("not root: no folder of another user here");
    }
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o777)).expect("opened");
    let error = place.keys.create(&binding(), KeyPolicy::default()).expect_err("another user's");
    assert!(error.kind() == ErrorKind::ReadOnly && error.path() == Some(&keys), "{error}");
    let told = error.to_string();
    assert!(told.contains("belongs to nobody") && told.contains("`sudo -u nobody rowhouse"), "{told}");
    assert!(!told.contains("chown") && !told.contains("away"), "another user's keys stay theirs: {told}");
    assert_eq!(place.files().len(), 1, "{:?}", place.files());
}

#[test]
fn a_key_file_is_this_users_own_and_a_plain_file_with_one_name() {
    let place = Place::new();
    let key = create(&place.keys);
    let file = place.key_file(&key);
    let aside = place.home.join("aside");
    let refused = |what: &str| {
        for answer in [kind(place.keys.sign(id(&key), &payload())), kind(place.keys.public(id(&key)))] {
            assert_eq!(answer, ErrorKind::Invalid, "{what}");
        }
    };
    fs::hard_link(&file, &aside).expect("a second name");
    refused("hard link");
    fs::remove_file(&file).expect("removed");
    symlink(&aside, &file).expect("a link");
    refused("symbolic link");
    fs::remove_file(&file).expect("removed");
    let pipe = std::ffi::CString::new(file.to_str().expect("plain")).expect("a path");
    // SAFETY: a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    refused("pipe");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a folder");
    refused("folder");
    fs::remove_dir(&file).expect("removed");
    fs::write(&file, "x".repeat(1 << 20)).expect("written");
    refused("huge");
    fs::remove_file(&file).expect("removed");
    fs::rename(&aside, &file).expect("back");
    place.keys.sign(id(&key), &payload()).expect("as before");

    if chown(&file, Some(65_534), None).is_ok() {
        for answer in [kind(place.keys.sign(id(&key), &payload())), kind(place.keys.public(id(&key)))] {
            assert_eq!(answer, ErrorKind::ReadOnly, "another user's");
        }
        chown(&file, Some(rustix::process::geteuid().as_raw()), None).expect("back");
    } else {
        eprintln!("not root: no file of another user here");
    }
    // The folder of the keys likewise.
    let (keys, elsewhere) = (place.home.join("keys"), place.home.join("elsewhere"));
    fs::rename(&keys, &elsewhere).expect("moved");
    symlink(&elsewhere, &keys).expect("a link");
    refused("a folder behind a link");
    assert_eq!(kind(place.keys.create(&binding(), KeyPolicy::default())), ErrorKind::Invalid);
}
