//! A patch changes what it names, as one, and nothing that a program derives later takes it back; a thread is found by the
//! end of its id; a missing file is told.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test makes and looks at files from outside")]

use std::path::Path;

use rowhouse::stores::threads::{
    Change, GitFacts, GitPatch, LONGEST_NAME, LONGEST_TEXT, MemoryMode, ThreadPatch, TranscriptState,
    UserField, UserSet,
};
use rowhouse::stores::{ThreadFacts, ThreadRow, Threads};
use rowhouse::{Domain, ErrorKind, Home, Runtime};

fn id(number: u64) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

fn facts(number: u64) -> ThreadFacts {
    ThreadFacts {
        id: id(number),
        rollout_path: Some("/sessions/one.jsonl".to_owned()),
        created_at: 10,
        updated_at: 20,
        recency_at: 20,
        title: Some("Fix the parser".to_owned()),
        preview: Some("Fix the parser, please".to_owned()),
        model: Some("large".to_owned()),
        cwd: Some("/home/ada".to_owned()),
        tokens_used: Some(7),
        git: GitFacts { sha: Some("abc".to_owned()), branch: Some("main".to_owned()), origin_url: None },
        ..ThreadFacts::default()
    }
}

struct Place {
    threads: Threads,
    runtime: Runtime,
    home: tempfile::TempDir,
}

fn place() -> Place {
    let home = tempfile::tempdir().expect("a home");
    let runtime = Runtime::builder(Home::at(home.path())).domain(Domain::state()).open().expect("a runtime");
    runtime
        .database("state")
        .expect("the database")
        .wait_for_steps(std::time::Duration::from_mins(1))
        .expect("nothing is written by itself from now on");
    let threads = runtime.threads();
    threads.upsert(&[facts(1)]).expect("a thread");
    Place { threads, runtime, home }
}

impl Place {
    fn row(&self) -> ThreadRow {
        self.threads.get(&id(1)).expect("a read").expect("the thread")
    }

    fn patch(&self, patch: &ThreadPatch) -> ThreadRow {
        let answered = self.threads.patch(&id(1), patch).expect("patched");
        assert_eq!(answered, self.row(), "the answer is what is stored");
        answered
    }
}

fn set(text: &str) -> Change<String> {
    Change::Set(text.to_owned())
}

#[test]
fn every_field_is_left_or_set_in_one_transaction() {
    let place = place();
    let before = place.row();
    let all = ThreadPatch {
        rollout_path: set("/sessions/two.jsonl"),
        created_at: Some(11),
        updated_at: Some(12),
        recency_at: Some(33),
        archived_at: Change::Set(40),
        source: set("cli"),
        model_provider: set("near"),
        model: set("small"),
        reasoning_effort: set("high"),
        cwd: set("/home/bob/"),
        title: set("Title"),
        name: set("Name"),
        preview: Some("Preview".to_owned()),
        first_user_message: Some("Message".to_owned()),
        cli_version: set("1.2"),
        sandbox_policy: set("none"),
        approval_mode: set("never"),
        tokens_used: Some(99),
        git: GitPatch { sha: set("def"), branch: set("other"), origin_url: set("https://example.com/x") },
        agent_nickname: set("Ada"),
        agent_role: set("reviewer"),
        forked_from_id: Change::Set(id(2).to_uppercase()),
        is_pinned: Some(true),
        memory_mode: Some(MemoryMode::Disabled),
    };
    let some = |text: &str| Some(text.to_owned());
    let after = ThreadRow {
        id: id(1),
        rollout_path: some("/sessions/two.jsonl"),
        created_at: 11,
        updated_at: 12,
        recency_at: 33,
        archived_at: Some(40),
        source: some("cli"),
        model_provider: some("near"),
        model: some("small"),
        reasoning_effort: some("high"),
        cwd: some("/home/bob"),
        title: some("Title"),
        name: some("Name"),
        preview: some("Preview"),
        first_user_message: some("Message"),
        cli_version: some("1.2"),
        sandbox_policy: some("none"),
        approval_mode: some("never"),
        tokens_used: 99,
        git: GitFacts { sha: some("def"), branch: some("other"), origin_url: some("https://example.com/x") },
        agent_nickname: some("Ada"),
        agent_role: some("reviewer"),
        forked_from_id: Some(id(2)),
        is_pinned: true,
        memory_mode: MemoryMode::Disabled,
        user_set: UserSet::from(vec![UserField::Name, UserField::Git, UserField::Pin, UserField::Archive]),
    };
    assert_eq!(place.patch(&all), after);
    let one = ThreadPatch { model: set("large"), ..ThreadPatch::default() };
    assert_eq!(place.patch(&one), ThreadRow { model: some("large"), ..after }, "the others are left");
    assert_ne!(before, place.row());
}

#[test]
fn what_can_be_cleared_is_left_set_or_cleared() {
    type InPatch = fn(&mut ThreadPatch) -> &mut Change<String>;
    type InRow = fn(&ThreadRow) -> &Option<String>;
    let place = place();
    let fields: [(&str, InPatch, InRow); 17] = [
        ("rollout_path", |patch| &mut patch.rollout_path, |row| &row.rollout_path),
        ("source", |patch| &mut patch.source, |row| &row.source),
        ("model_provider", |patch| &mut patch.model_provider, |row| &row.model_provider),
        ("model", |patch| &mut patch.model, |row| &row.model),
        ("reasoning_effort", |patch| &mut patch.reasoning_effort, |row| &row.reasoning_effort),
        ("cwd", |patch| &mut patch.cwd, |row| &row.cwd),
        ("title", |patch| &mut patch.title, |row| &row.title),
        ("name", |patch| &mut patch.name, |row| &row.name),
        ("cli_version", |patch| &mut patch.cli_version, |row| &row.cli_version),
        ("sandbox_policy", |patch| &mut patch.sandbox_policy, |row| &row.sandbox_policy),
        ("approval_mode", |patch| &mut patch.approval_mode, |row| &row.approval_mode),
        ("git_sha", |patch| &mut patch.git.sha, |row| &row.git.sha),
        ("git_branch", |patch| &mut patch.git.branch, |row| &row.git.branch),
        ("git_origin_url", |patch| &mut patch.git.origin_url, |row| &row.git.origin_url),
        ("agent_nickname", |patch| &mut patch.agent_nickname, |row| &row.agent_nickname),
        ("agent_role", |patch| &mut patch.agent_role, |row| &row.agent_role),
        ("forked_from_id", |patch| &mut patch.forked_from_id, |row| &row.forked_from_id),
    ];
    for (name, field, of) in fields {
        for (change, expected) in [
            (Change::Set(id(7)), Some(id(7))),
            (Change::Leave, Some(id(7))),
            (Change::Clear, None),
            (Change::Set(id(7)), Some(id(7))),
            (set(""), None),
        ] {
            let mut patch = ThreadPatch::default();
            *field(&mut patch) = change.clone();
            assert_eq!(*of(&place.patch(&patch)), expected, "{name} {change:?}");
            assert!(patch.is_empty() == (change == Change::Leave), "{name} {change:?}");
        }
    }
    let archived =
        |archived_at| place.patch(&ThreadPatch { archived_at, ..ThreadPatch::default() }).archived_at;
    assert_eq!([Change::Set(5), Change::Leave, Change::Clear].map(archived), [Some(5), Some(5), None]);
}

#[test]
fn git_is_patched_field_by_field() {
    let place = place();
    let branch = GitPatch { branch: set("mine"), sha: Change::Clear, ..GitPatch::default() };
    let row = place.patch(&ThreadPatch { git: branch, ..ThreadPatch::default() });
    assert_eq!(row.git, GitFacts { sha: None, branch: Some("mine".to_owned()), origin_url: None });
    let origin = GitPatch { origin_url: set("https://example.com/x"), ..GitPatch::default() };
    let row = place.patch(&ThreadPatch { git: origin, ..ThreadPatch::default() });
    assert_eq!((row.git.sha, row.git.branch.as_deref()), (None, Some("mine")));
}

#[test]
fn an_empty_patch_is_a_read() {
    let place = place();
    let database = place.runtime.database("state").expect("the database");
    let commits = || database.stats().commits;
    let before = commits();
    assert!(ThreadPatch::default().is_empty());
    assert_eq!(place.patch(&ThreadPatch::default()), place.row());
    assert_eq!(commits(), before, "no job was given to the writer");
    let unknown = place.threads.patch(&id(404), &ThreadPatch::default()).expect_err("no such thread");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[test]
fn derived_facts_take_nothing_back_that_a_user_set() {
    let place = place();
    let said = ThreadPatch {
        name: set("Parser"),
        git: GitPatch { branch: set("mine"), ..GitPatch::default() },
        is_pinned: Some(true),
        archived_at: Change::Set(40),
        ..ThreadPatch::default()
    };
    let row = place.patch(&said);
    let derived = ThreadFacts {
        name: Some("derived".to_owned()),
        is_pinned: false,
        archived_at: Change::Clear,
        git: GitFacts {
            sha: Some("new".to_owned()),
            branch: Some("new".to_owned()),
            origin_url: Some("new".to_owned()),
        },
        model: Some("small".to_owned()),
        ..facts(1)
    };
    place.threads.upsert(std::slice::from_ref(&derived)).expect("derived");
    assert_eq!(
        place.row(),
        ThreadRow { model: Some("small".to_owned()), ..row },
        "only what is derived changed"
    );

    // Also when what the user said is that there is nothing.
    let nothing = ThreadPatch {
        name: Change::Clear,
        git: GitPatch { sha: Change::Clear, branch: Change::Clear, origin_url: Change::Clear },
        is_pinned: Some(false),
        archived_at: Change::Clear,
        ..ThreadPatch::default()
    };
    place.patch(&nothing);
    place.threads.upsert(&[ThreadFacts { archived_at: Change::Set(50), ..derived }]).expect("derived");
    let row = place.row();
    assert_eq!((row.name, row.git, row.is_pinned, row.archived_at), (None, GitFacts::default(), false, None));
}

#[test]
fn recency_only_moves_forward_and_an_empty_preview_replaces_nothing() {
    let place = place();
    let recency =
        |time| place.patch(&ThreadPatch { recency_at: Some(time), ..ThreadPatch::default() }).recency_at;
    assert_eq!([i64::MIN, 19, 30, 25, -1].map(recency), [20, 20, 30, 30, 30]);
    let preview = |text: &str| {
        place
            .patch(&ThreadPatch { preview: Some(text.to_owned()), ..ThreadPatch::default() })
            .preview
            .expect("one")
    };
    assert_eq!(["", "Other", ""].map(preview), ["Fix the parser, please", "Other", "Other"]);
    place
        .threads
        .upsert(&[ThreadFacts { preview: Some(String::new()), recency_at: 1, ..facts(1) }])
        .expect("derived");
    assert_eq!((place.row().preview.as_deref(), place.row().recency_at), (Some("Other"), 30));
}

#[test]
fn what_cannot_be_stored_is_refused_and_nothing_is_half_written() {
    let place = place();
    let before = place.row();
    let long = "ö".repeat(LONGEST_NAME + 1);
    let fine = || ThreadPatch { model: set("small"), is_pinned: Some(true), ..ThreadPatch::default() };
    for bad in [
        ThreadPatch { name: set("a\0b"), ..fine() },
        ThreadPatch { title: set("\0"), ..fine() },
        ThreadPatch { preview: Some("\0".to_owned()), ..fine() },
        ThreadPatch { cwd: set("/a\0"), ..fine() },
        ThreadPatch { name: set(&long), ..fine() },
        ThreadPatch { title: set(&long), ..fine() },
        ThreadPatch { preview: Some(long.clone()), ..fine() },
        ThreadPatch { first_user_message: Some("x".repeat(LONGEST_TEXT + 1)), ..fine() },
        ThreadPatch { sandbox_policy: set(&"x".repeat(LONGEST_TEXT + 1)), ..fine() },
        ThreadPatch { tokens_used: Some(-1), ..fine() },
        ThreadPatch { forked_from_id: set("eleven"), ..fine() },
    ] {
        let error = place.threads.patch(&id(1), &bad).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(place.threads.patch("eleven", &fine()).expect_err("no id").kind(), ErrorKind::Invalid);
    assert_eq!(place.threads.patch(&id(404), &fine()).expect_err("unknown").kind(), ErrorKind::NotFound);
    assert_eq!(place.row(), before);
    place.patch(&ThreadPatch { name: set(&"ö".repeat(LONGEST_NAME)), ..fine() });
}

#[test]
fn a_patch_in_json_is_absent_a_value_or_null() {
    let place = place();
    let text = r#"{"name": "Parser", "title": null, "git": {"branch": null}, "memory_mode": "polluted"}"#;
    let row = place.patch(&serde_json::from_str(text).expect("a patch"));
    assert_eq!((row.name.as_deref(), row.title, row.git.branch), (Some("Parser"), None, None));
    assert_eq!((row.git.sha.as_deref(), row.memory_mode), (Some("abc"), MemoryMode::Polluted));
    serde_json::from_str::<ThreadPatch>(r#"{"nmae": "Parser"}"#).expect_err("a slip is told");
}

#[test]
fn a_missing_file_is_told_and_nothing_is_written() {
    let place = place();
    let file = place.home.path().join("rollout.jsonl");
    let at = |path: &Path| {
        let path = path.to_str().expect("letters");
        place.patch(&ThreadPatch { rollout_path: set(path), ..ThreadPatch::default() }).transcript_state()
    };
    let commits = || place.runtime.database("state").expect("the database").stats().commits;
    assert_eq!(at(&file).expect("a look"), TranscriptState::Missing);
    std::fs::write(&file, "{}\n").expect("a file");
    let before = commits();
    assert_eq!(place.row().transcript_state().expect("a look"), TranscriptState::Present);
    std::fs::rename(&file, file.with_extension("jsonl.zst")).expect("compressed");
    assert_eq!(place.row().transcript_state().expect("a look"), TranscriptState::Present);
    std::fs::remove_file(file.with_extension("jsonl.zst")).expect("removed");
    assert_eq!(place.row().transcript_state().expect("a look"), TranscriptState::Missing);
    assert_eq!(commits(), before, "a look and a read write nothing");
    assert_eq!(place.row().rollout_path.as_deref(), file.to_str(), "the row stays as it is");
    std::fs::create_dir(&file).expect("a folder");
    assert_eq!(at(&file).expect("a look"), TranscriptState::Missing);
    assert_eq!(at(&file.join("below/a/file")).expect("a look"), TranscriptState::Missing);
    let row = place.patch(&ThreadPatch { rollout_path: Change::Clear, ..ThreadPatch::default() });
    assert_eq!(row.transcript_state().expect("a look"), TranscriptState::None);
    assert_eq!(place.threads.get(&id(1)).expect("a read"), Some(row));
}

#[test]
fn the_beginning_or_the_end_of_an_id_is_enough_where_it_is_unique() {
    let place = place();
    let archived = ThreadFacts { archived_at: Change::Set(1), ..facts(0x2_0bad_cafe) };
    let twin = ThreadFacts { id: "019cadf1-7a5e-7b04-8f21-00010badcafe".to_owned(), ..facts(3) };
    place.threads.upsert(&[archived, twin, facts(0xfeed_0000)]).expect("threads");
    for (text, found) in [
        ("feed0000", id(0xfeed_0000)),
        ("FEED0000", id(0xfeed_0000)),
        ("8f210000feed0000", id(0xfeed_0000)),
        ("8f21-0000feed0000", id(0xfeed_0000)),
        ("20badcafe", id(0x2_0bad_cafe)),
        ("feed-0000", id(0xfeed_0000)),
        ("019cadf1-7a5e-7b04-8f21-0001", "019cadf1-7a5e-7b04-8f21-00010badcafe".to_owned()),
        ("019CADF17A5E7B048F210001", "019cadf1-7a5e-7b04-8f21-00010badcafe".to_owned()),
        (&id(404).to_uppercase(), id(404)),
        (&id(404).to_uppercase().replace('-', ""), id(404)),
    ] {
        assert_eq!(place.threads.find_id(text).expect(text), found);
    }
    for (text, kind) in [
        ("0badcafe", ErrorKind::Conflict),
        ("12345678", ErrorKind::NotFound),
        ("019cadf1", ErrorKind::Conflict),
        ("019c", ErrorKind::Conflict),
        ("01a", ErrorKind::Invalid),
        ("", ErrorKind::Invalid),
        ("feed000%", ErrorKind::Invalid),
        ("0019cadf1-7a5e-7b04-8f21-0000feed0000", ErrorKind::Invalid),
    ] {
        let error = place.threads.find_id(text).expect_err(text);
        assert_eq!(error.kind(), kind, "{text}");
        assert!(error.advice().is_some());
    }
    let several = place.threads.find_id("0badcafe").expect_err("two").to_string();
    assert!(several.contains(&id(0x2_0bad_cafe)) && several.contains("8f21-00010badcafe"), "{several}");
}

#[test]
fn several_threads_are_read_at_once() {
    let place = place();
    place.threads.upsert(&[facts(2)]).expect("a thread");
    let (one, two) = (id(1), id(2).to_uppercase());
    let found = place.threads.get_all(&[&two, "eleven", &id(404), &one]).expect("a read");
    let ids: Vec<_> = found.iter().map(|row| row.as_ref().map(|row| row.id.clone())).collect();
    assert_eq!(ids, [Some(id(2)), None, None, Some(id(1))]);
}
