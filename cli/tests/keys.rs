//! `rowhouse keys`: keys are made, shown, used and removed; nothing secret is ever printed.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use common::{document, rowhouse};
use rowhouse::stores::device_keys::PublicKey;
use serde_json::{Value, json};

const RULES: [&str; 8] = [
    "--domain",
    "example.org/v1",
    "--audience",
    "connect",
    "--origin",
    "https://example.org",
    "--path",
    "/connect",
];

fn create(home: &Path) -> String {
    let (code, made) = document(home, &["keys", "create", "--account", "user-1", "--client", "laptop"]);
    assert_eq!(code, Some(0), "{made}");
    made["key_id"].as_str().expect("an id").to_owned()
}

fn payload() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    json!({
        "nonce": Base64UrlUnpadded::encode_string(&[7; 32]),
        "audience": "connect",
        "target_origin": "https://example.org",
        "target_path": "/connect",
        "account_user_id": "user-1",
        "client_id": "laptop",
        "expires_at": u64::try_from(now).expect("not so late") + 600_000,
        "claims": {"z": 1, "a": [true, null]},
    })
}

#[test]
fn a_key_is_made_shown_used_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    // To look creates no home.
    let (code, none) = document(&home, &["keys", "list"]);
    assert_eq!((code, &none["error"]["kind"]), (Some(1), &"not_found".into()), "{none}");
    assert!(!home.exists());

    let (code, stdout, stderr) =
        rowhouse(&home, &["keys", "create", "--account", "user-1", "--client", "laptop"]);
    let key = stdout.trim().to_owned();
    assert!(code == Some(0) && key.len() == 50 && stderr.contains("warning"), "{stdout}{stderr}");
    let (_, listed) = document(&home, &["keys", "list"]);
    let found = &listed["keys"][0];
    assert_eq!(found["key_id"], key.as_str(), "{listed}");
    assert_eq!(
        (&found["account_user_id"], &found["client_id"], &found["class"], &found["protected_by"]),
        (&"user-1".into(), &"laptop".into(), &"os_protected".into(), &"file_permissions".into())
    );
    let (_, table, _) = rowhouse(&home, &["keys", "list"]);
    assert!(table.contains(&key) && table.contains("laptop") && table.contains("mode only"), "{table}");

    let (_, shown) = document(&home, &["keys", "public", &key]);
    let (_, pem, _) = rowhouse(&home, &["keys", "public", &key]);
    let der = Base64::decode_vec(shown["public_key"].as_str().expect("a key")).expect("base64");
    let public = PublicKey::from_spki_der(&der).expect("a key");
    assert_eq!(pem, public.pem());
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
    let (_, again, _) = rowhouse(&home, &["keys", "public", &key, "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON"), shown);
    let raw = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .arg("--home")
        .arg(&home)
        .args(["keys", "public", &key, "--format", "der"])
        .output()
        .expect("the command runs");
    assert_eq!(raw.stdout, der);

    // Signed from a file and from standard input: the same bytes.
    let file = folder.path().join("payload.json");
    fs::write(&file, payload().to_string()).expect("written");
    let sign = [&["keys", "sign", &key][..], &RULES, &[file.to_str().expect("plain")]].concat();
    let (code, signed) = document(&home, &sign);
    assert_eq!(code, Some(0), "{signed}");
    let bytes = signed["signed"].as_str().expect("text").as_bytes();
    let signature = Base64::decode_vec(signed["signature"].as_str().expect("text")).expect("base64");
    public.verify(bytes, &signature).expect("the key's own");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .arg("--home")
        .arg(&home)
        .args(["keys", "sign", &key])
        .args(RULES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    child.stdin.take().expect("piped").write_all(&fs::read(&file).expect("a file")).expect("it listens");
    let stdout = String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text");
    assert!(stdout.contains(signed["signed"].as_str().expect("text")), "{stdout}");

    // Nobody is asked, so nothing is done without --yes.
    let (code, stdout, stderr) = rowhouse(&home, &["keys", "remove", &key]);
    assert!(code == Some(1) && stdout.is_empty() && stderr.contains("--yes"), "{stdout}{stderr}");
    let (_, dry) = document(&home, &["keys", "remove", &key, "--dry-run"]);
    assert_eq!((&dry["done"], &dry["removed"][0]), (&false.into(), &key.as_str().into()));
    let (code, gone) = document(&home, &["keys", "remove", &key, "--yes"]);
    assert_eq!((code, &gone["done"], &gone["removed"][0]), (Some(0), &true.into(), &key.as_str().into()));
    for arguments in [&["keys", "remove", &key, "--yes"][..], &["keys", "public", &key], &sign] {
        let (code, error) = document(&home, arguments);
        assert_eq!((code, &error["error"]["kind"]), (Some(1), &"not_found".into()), "{error}");
    }
    assert_eq!(rowhouse(&home, &["keys", "list"]).1, "no keys\n");
}

#[test]
fn only_what_the_options_name_is_signed() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let key = create(&home);
    let file = folder.path().join("payload.json");
    let sign = |payload: &str| {
        fs::write(&file, payload).expect("written");
        let (code, answer) = document(
            &home,
            &[&["keys", "sign", &key][..], &RULES, &[file.to_str().expect("plain")]].concat(),
        );
        assert_eq!(code == Some(0), answer["error"].is_null(), "{answer}");
        answer["error"]["kind"].as_str().map(str::to_owned)
    };
    assert_eq!(sign(&payload().to_string()), None);
    for (field, value, expected) in [
        ("audience", json!("other"), "invalid"),
        ("target_path", json!("/other"), "invalid"),
        ("target_origin", json!("https://example.com"), "invalid"),
        ("nonce", json!("c2hvcnQ"), "invalid"),
        ("expires_at", json!(1), "invalid"),
        ("account_user_id", json!("user-2"), "conflict"),
        ("raw", json!("bytes"), "invalid"),
    ] {
        let mut other = payload();
        other[field] = value;
        assert_eq!(sign(&other.to_string()).as_deref(), Some(expected), "{field}");
    }
    assert_eq!(sign("raw bytes").as_deref(), Some("invalid"));
    assert_eq!(sign(&" ".repeat(2 << 20)).as_deref(), Some("invalid"));
    let (code, missing) = document(&home, &[&["keys", "sign", &key][..], &RULES, &["/nowhere"]].concat());
    assert_eq!((code, &missing["error"]["kind"]), (Some(1), &"not_found".into()), "{missing}");
}

#[test]
fn keys_of_nobody_are_shown_and_cleaned() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let (kept, lost) = (create(&home), create(&home));
    assert_eq!(rowhouse(&home, &["keys", "clean"]).1, "every key belongs to somebody\n");
    let other = folder.path().join("other");
    let (code, _, stderr) = rowhouse(&other, &["keys", "clean", "--yes"]);
    assert!(code == Some(1) && stderr.contains("no device keys yet"), "{stderr}");

    let database = rowhouse::Runtime::builder(rowhouse::Home::at(&home))
        .domain(rowhouse::Domain::device_keys())
        .open()
        .and_then(|runtime| runtime.database("device_keys"))
        .expect("opened");
    database.write(|tx| tx.execute("DELETE FROM binding WHERE key_id = ?1", [&lost])).expect("deleted");
    drop(database);
    let (_, dry) = document(&home, &["keys", "clean", "--dry-run"]);
    assert_eq!(dry, json!({"done": false, "removed": [lost]}));
    let (code, _, stderr) = rowhouse(&home, &["keys", "clean"]);
    assert!(code == Some(1) && stderr.contains("--yes"), "{stderr}");
    assert_eq!(document(&home, &["keys", "clean", "--yes"]).1, json!({"done": true, "removed": [lost]}));
    // A key file that is gone: the list says so, and goes on.
    fs::remove_file(home.join("keys").join(format!("{kept}.key"))).expect("removed");
    let (code, listed) = document(&home, &["keys", "list"]);
    assert_eq!((code, &listed["keys"][0]["problem"]), (Some(0), &"not_found".into()), "{listed}");
    assert!(rowhouse(&home, &["keys", "list"]).1.contains("the key is gone"));
}

#[test]
fn nothing_that_is_printed_holds_the_private_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let key = create(&home);
    let text = fs::read_to_string(home.join("keys").join(format!("{key}.key"))).expect("a file");
    let stored: Value = serde_json::from_str(&text).expect("JSON");
    let secret = stored["private_key"].as_str().expect("not wrapped here");
    let file = folder.path().join("payload.json");
    fs::write(&file, payload().to_string()).expect("written");
    let sign = [&["keys", "sign", &key][..], &RULES, &[file.to_str().expect("plain")]].concat();
    for arguments in [
        &["keys", "list"][..],
        &["keys", "public", &key],
        &sign,
        &["keys", "remove", &key, "--dry-run"],
        &["keys", "clean", "--dry-run"],
        &["status"],
        &["backup"],
    ] {
        for arguments in [arguments.to_vec(), [arguments, &["--json"]].concat()] {
            let (_, stdout, stderr) = rowhouse(&home, &arguments);
            assert!(!stdout.contains(secret) && !stderr.contains(secret), "{arguments:?}");
        }
    }
    fs::write(home.join("keys").join(format!("{key}.key")), text.replace("layout", secret)).expect("damaged");
    let (code, stdout, stderr) = rowhouse(&home, &sign);
    assert!(code == Some(1) && stderr.contains("damaged") && !(stdout + &stderr).contains(secret));
}

/// Keys that are another user's are said to be theirs, with the file and how to use them; nothing is said to be wrong with
/// them.
/// Control: the same keys while they are this user's.
#[test]
fn keys_of_another_user_are_told_to_be_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    create(&home);
    create(&home);
    let (_, table, stderr) = rowhouse(&home, &["keys", "list"]);
    assert!(table.contains("mode only") && stderr.is_empty(), "the control: {table}{stderr}");
    if std::os::unix::fs::chown(home.join("keys"), Some(65_534), None).is_err() {
        return eprintln!("not root: no folder of another user here");
    }
    let (code, listed) = document(&home, &["keys", "list"]);
    let why = listed["keys"][0]["why"].as_str().expect("a reason");
    assert_eq!((code, &listed["keys"][0]["problem"]), (Some(0), &"read_only".into()), "{listed}");
    assert!(why.contains("belongs to nobody") && why.contains("/keys)"), "{why}");
    let (_, table, stderr) = rowhouse(&home, &["keys", "list"]);
    assert!(table.contains("no permission") && !table.contains("invalid"), "{table}");
    assert_eq!(stderr.matches("belongs to nobody").count(), 1, "one reason is told once: {stderr}");
    assert!(stderr.contains("`sudo -u nobody rowhouse --home") && !stderr.contains("away"), "{stderr}");
}
