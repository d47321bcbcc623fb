//! `rowhouse stats`: what another process counted, to a person and to a script.

mod common;

use std::time::Duration;

use common::{document, rowhouse};
use rowhouse::{Home, Runtime};
use serde_json::json;

#[test]
fn a_script_and_a_person_read_what_this_process_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().canonicalize().expect("its path");
    let open = || {
        let runtime = Runtime::open(Home::at(&home)).expect("the home opens");
        let state = runtime.database("state").expect("the domain");
        state.wait_for_steps(Duration::from_mins(2)).expect("no steps are left");
        (runtime, state)
    };
    // What is done by itself to a new home is done, and counted elsewhere.
    let (runtime, state) = open();
    runtime.close(Duration::from_secs(20));
    drop((state, runtime));
    let (runtime, state) = open();
    for _ in 0..3 {
        state.write(|tx| tx.execute("DELETE FROM no_such_table", [])).expect_err("no such table");
    }
    state.write(|_| Ok(())).expect("written");

    let (code, found) = document(&home, &["stats", "state"]);
    assert_eq!((code, &found["schema_version"]), (Some(0), &json!(1)), "{found}");
    assert!(found["generated_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{found}");
    let database = &found["databases"][0];
    assert_eq!((&database["name"], found["databases"].as_array().map(Vec::len)), (&json!("state"), Some(1)));
    assert!(database["main_bytes"].as_u64() > Some(0), "{database}");
    let process = &database["processes"][0];
    assert_eq!(process["pid"], std::process::id());
    assert_eq!(process["stats"], json!(state.stats()), "the same as it knows itself");
    assert_eq!((&database["total"]["errors"]["invalid"], &database["total"]["jobs"]), (&json!(3), &json!(1)));

    let (code, text, errors) = rowhouse(&home, &["stats"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
    assert!(text.starts_with("database") && !text.contains('\u{1b}'), "{text}");
    let own = std::process::id().to_string();
    let row = text.lines().find(|line| line.starts_with("state") && line.contains(&own));
    let row = row.unwrap_or_else(|| panic!("no row of this process in {text}"));
    assert!(row.contains("  1.0  ") && row.ends_with("  3"), "{row}");
    assert!(text.contains("errors of state since each process opened it\n3 invalid\n"), "{text}");

    runtime.close(Duration::from_secs(5));
    drop((state, runtime));
    let (_, text, _) = rowhouse(&home, &["stats", "state"]);
    assert!(text.contains("nobody has it open"), "{text}");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    assert_eq!(rowhouse(&home, &["stats"]).1, format!("no databases in {} yet\n", home.display()));
    let (code, error) = document(&home, &["stats", "nowhere"]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("not_found")), "{error}");
    let (code, error) = document(&home, &["stats", "--watch"]);
    assert_eq!((code, &error["error"]["kind"]), (Some(1), &json!("invalid")), "{error}");
}
