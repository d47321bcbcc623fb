#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn folders(root: &Path) -> UserFolders {
    UserFolders { home: root.join("user"), config: root.join("config"), state: root.join("state") }
}

fn configure(root: &Path, text: &str) {
    fs::create_dir_all(root.join("config/rowhouse")).expect("a folder");
    fs::write(root.join("config/rowhouse/config.toml"), text).expect("written");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a folder").mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode");
}

#[test]
fn the_environment_comes_before_the_config_file_and_that_before_the_default() {
    let root = tempfile::tempdir().expect("a folder");
    let resolve = |environment: Option<&str>| {
        let home =
            resolve_from(environment.map(OsString::from), || Ok(folders(root.path()))).expect("a home");
        (home.path().to_owned(), home.origin())
    };
    assert_eq!(resolve(None), (root.path().join("state/rowhouse"), HomeOrigin::Default));
    configure(root.path(), "[limits]\nx = 1\n");
    assert_eq!(resolve(None), (root.path().join("state/rowhouse"), HomeOrigin::Default));
    configure(root.path(), "home = \"/data/one\"");
    assert_eq!(resolve(None), ("/data/one".into(), HomeOrigin::ConfigFile));
    configure(root.path(), "home = \"~/one\"");
    assert_eq!(resolve(None), (root.path().join("user/one"), HomeOrigin::ConfigFile));
    assert_eq!(resolve(Some("/data/two")), ("/data/two".into(), HomeOrigin::Environment));
    assert_eq!(resolve(Some("")).1, HomeOrigin::ConfigFile);
    assert!(resolve(Some("three")).0.is_absolute());
}

#[test]
fn a_wrong_setting_fails_and_names_the_file_but_not_its_content() {
    let root = tempfile::tempdir().expect("a folder");
    for text in ["home = 5", "home = \"relative\"", "home = \"\"", "a = 1\npassword = \"secret"] {
        configure(root.path(), text);
        let error = resolve_from(None, || Ok(folders(root.path()))).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.path().is_some_and(|path| path.ends_with("config.toml")));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    configure(root.path(), "a = 1\npassword = \"secret");
    let error = resolve_from(None, || Ok(folders(root.path()))).expect_err("no TOML");
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn a_prepared_home_is_private_and_canonical() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("real")).expect("a folder");
    symlink(root.path().join("real"), root.path().join("link")).expect("a link");
    let home = Home::at(root.path().join("link/above/home"));
    assert_eq!(home.locate().expect_err("not yet").kind(), ErrorKind::NotFound);
    for _ in 0..2 {
        let prepared = home.prepare().expect("prepared");
        let canonical = root.path().canonicalize().expect("canonical").join("real/above/home");
        assert_eq!(prepared.path(), canonical);
        assert_eq!(prepared.database_path("state"), canonical.join("state.sqlite"));
        assert_eq!(prepared.lock_path("a.lock"), canonical.join("locks/a.lock"));
        assert_eq!(prepared.registry_path(), canonical.join("registry.json"));
        for folder in [&canonical, &canonical.join("locks"), &prepared.run_dir()] {
            assert_eq!(mode(folder), 0o700);
        }
        assert_eq!(mode(&root.path().join("real/above")), 0o700);
        assert!(!canonical.join("quarantine").exists());
    }
}

#[test]
fn an_open_home_is_tightened_unless_other_things_live_there() {
    let root = tempfile::tempdir().expect("a folder");
    fs::write(root.path().join("state.sqlite"), "").expect("written");
    fs::create_dir(root.path().join("sessions")).expect("a folder");
    set_mode(root.path(), 0o755);
    Home::at(root.path()).prepare().expect("prepared");
    assert_eq!(mode(root.path()), 0o700);

    fs::write(root.path().join("main.rs"), "").expect("written");
    set_mode(root.path(), 0o755);
    Home::at(root.path()).prepare().expect("prepared");
    assert_eq!(mode(root.path()), 0o755);
    assert_eq!(mode(&root.path().join("locks")), 0o700);
}

#[test]
fn a_file_in_the_way_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let file = root.path().join("file");
    fs::write(&file, "").expect("written");
    symlink(root.path().join("nowhere"), root.path().join("dangling")).expect("a link");
    let folder = root.path().join("home");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("run"), "").expect("written");
    for (home, named) in [
        (file.clone(), file.clone()),
        (file.join("below/home"), file.clone()),
        (root.path().join("dangling"), root.path().join("dangling")),
        (folder.clone(), folder.join("run")),
    ] {
        let error = Home::at(&home).prepare().expect_err("in the way");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(error.path(), Some(&*named));
        assert!(error.advice().is_some_and(|advice| advice.contains("ROWHOUSE_HOME")));
    }
    assert_eq!(Home::at("").prepare().expect_err("no path").kind(), ErrorKind::Invalid);
}

#[test]
fn a_home_that_cannot_be_written_is_left_as_it_is_and_one_that_cannot_be_created_says_so() {
    if rustix::process::geteuid().is_root() {
        eprintln!("the superuser may write anywhere: see tests/n6_read_only_home.rs");
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path().join("home"));
    fs::create_dir(home.path()).expect("a folder");
    set_mode(home.path(), 0o500);
    let prepared = home.prepare().expect("to be read");
    let why = prepared.read_only().expect("the reason");
    assert_eq!(why.kind(), ErrorKind::ReadOnly);
    assert!(why.advice().is_some_and(|advice| advice.contains("chmod -R u+rwX")), "{why}");
    assert_eq!(fs::read_dir(home.path()).expect("a list").count(), 0);

    set_mode(root.path(), 0o500);
    let error = Home::at(root.path().join("other")).prepare().expect_err("not to be created");
    set_mode(root.path(), 0o700);
    set_mode(home.path(), 0o700);
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("ephemeral")), "{error}");
}

#[test]
fn what_an_older_program_left_open_is_made_private_and_what_is_not_ours_is_not() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::at(root.path().join("home"));
    let prepared = home.prepare().expect("prepared");
    let own =
        ["state.sqlite", "state.sqlite-wal", "registry.json", "locks/state.room", "backups/1/state.sqlite"];
    fs::create_dir_all(home.path().join("backups/1")).expect("folders");
    for name in own {
        fs::write(home.path().join(name), "").expect("written");
        set_mode(&home.path().join(name), 0o644);
    }
    for folder in ["", "locks", "backups", "backups/1"] {
        set_mode(&home.path().join(folder), 0o755);
    }
    symlink("/etc/passwd", prepared.lock_path("link")).expect("a link");
    let elsewhere = mode(Path::new("/etc/passwd"));
    home.prepare().expect("prepared");
    for name in own {
        assert_eq!(mode(&home.path().join(name)), 0o600, "{name}");
    }
    for folder in ["", "locks", "backups", "backups/1"] {
        assert_eq!(mode(&home.path().join(folder)), 0o700, "{folder}");
    }
    assert_eq!(mode(Path::new("/etc/passwd")), elsewhere, "a link is not followed");
}
