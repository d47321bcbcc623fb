//! An import brings a folder of transcripts into the store, once, and names what it cannot read.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rowhouse::rollout::{RolloutFile, read_metadata, walk};
use rowhouse::stores::backfill::{BackfillProgress, BackfillReport, Reread};
use rowhouse::stores::threads::{Change, GitFacts, MemoryMode, UserField, UserSet};
use rowhouse::stores::{ThreadFacts, ThreadRow, Threads};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};

struct Store {
    home: tempfile::TempDir,
    threads: Threads,
    runtime: Runtime,
}

impl Store {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a home");
        let runtime =
            Runtime::builder(Home::at(home.path())).domain(Domain::state()).open().expect("a runtime");
        // What is done by itself is done, so that each commit from here on is a call's.
        let state = runtime.database("state").expect("the database");
        state.wait_for_steps(std::time::Duration::from_secs(20)).expect("no steps are left");
        Self { home, threads: runtime.threads(), runtime }
    }

    fn import(&self, dir: &Path) -> BackfillReport {
        self.hear(dir, &mut |_| {}).expect("an import")
    }

    fn hear(&self, dir: &Path, heard: &mut dyn FnMut(&BackfillProgress)) -> rowhouse::Result<BackfillReport> {
        self.runtime.backfill().run(dir, Reread::Changed, heard)
    }

    /// Another connection, which sees by its data version whether any other one committed a change.
    fn watcher(&self) -> rowhouse::rusqlite::Connection {
        #[expect(clippy::disallowed_methods, reason = "a bystander, as another program would be")]
        rowhouse::rusqlite::Connection::open(self.home.path().join("state.sqlite")).expect("a connection")
    }

    fn all(&self) -> Vec<ThreadRow> {
        let query = ThreadQuery::recent().limit(500);
        let mut all = self.threads.list(&query).expect("live ones").threads;
        all.extend(self.threads.list(&query.archived(true)).expect("archived ones").threads);
        all
    }

    fn get(&self, id: &str) -> ThreadRow {
        self.threads.get(id).expect("a read").expect("the thread")
    }
}

fn data_version(connection: &rowhouse::rusqlite::Connection) -> i64 {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0)).expect("a number")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/transcripts")
}

fn bad_examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bad_transcripts")
}

/// A home of its own with a copy of the examples.
fn copied_examples() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    for found in walk(&examples()).expect("a walk") {
        let RolloutFile { path, .. } = found.expect("a transcript");
        let root = fs::canonicalize(examples()).expect("the examples");
        let to = home.path().join(path.strip_prefix(root).expect("inside"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("folders");
        fs::copy(path, to).expect("a copy");
    }
    home
}

fn only_file(dir: &Path, ending: &str) -> PathBuf {
    let mut all = walk(dir).expect("a walk").map(|file| file.expect("a transcript").path);
    all.find(|path| path.to_str().is_some_and(|path| path.ends_with(ending))).expect("the transcript")
}

const PARSER: &str = "019cadf1-7a5e-7b04-8f21-5d0c9a41e001";
const IMAGE: &str = "019caf52-d0c4-7310-a6be-2f7718c3e002";
const TORN: &str = "019cbfb5-1e37-7c92-9d40-8a53e6f0e003";
const NAMED: &str = "019cd19f-aa40-7e58-b1d3-64c0f29be004";
const AGENT: &str = "019cd1a3-7c94-7a01-8e6f-b95d1372e005";
const ARCHIVED: &str = "019bd0c3-f3ba-7d65-9072-e1a84b5ce006";

#[test]
fn the_examples_say_who_where_and_what() {
    let store = Store::new();
    let mut heard = Vec::new();
    let report = store.hear(&examples(), &mut |progress| heard.push(*progress)).expect("an import");
    assert_eq!(
        (report.counts.files, report.counts.imported, report.counts.bad, report.counts.bad_lines),
        (6, 6, 0, 0)
    );
    assert_eq!(heard.len(), 2, "one batch, and the end");
    assert_eq!((heard[0].counts.files, heard[0].counts.bytes_read), (6, report.counts.bytes_read));

    let parser = store.get(PARSER);
    assert_eq!(parser.title.as_deref(), Some("The CSV import splits a field in quotes at its comma."));
    assert!(parser.preview.is_some_and(|preview| preview.contains("fixtures/march.csv")));
    assert_eq!(parser.cwd.as_deref(), Some("/home/ada/ledger"));
    assert_eq!(
        (parser.model.as_deref(), parser.reasoning_effort.as_deref()),
        (Some("gpt-5-codex"), Some("medium"))
    );
    assert_eq!((parser.source.as_deref(), parser.model_provider.as_deref()), (Some("cli"), Some("openai")));
    assert_eq!(parser.approval_mode.as_deref(), Some("on-request"));
    assert!(parser.sandbox_policy.is_some_and(|policy| policy.contains("workspace-write")));
    assert_eq!(parser.tokens_used, 9_874);
    assert_eq!(parser.git.branch.as_deref(), Some("fix-quoted-commas"));
    assert_eq!(parser.created_at, 1_772_442_845_310);
    assert!(parser.updated_at > parser.created_at && parser.recency_at == parser.updated_at);

    assert_eq!(store.get(IMAGE).title.as_deref(), Some("[Image]"));
    let torn = store.get(TORN);
    assert_eq!((torn.git, torn.tokens_used), (GitFacts::default(), 2_391));
    let named = store.get(NAMED);
    assert_eq!(
        (named.name.as_deref(), named.is_pinned, named.model.as_deref()),
        (Some("Cent rounding"), true, Some("gpt-5"))
    );
    assert_eq!(named.user_set, UserSet::default().with(UserField::Name).with(UserField::Pin));
    let agent = store.get(AGENT);
    assert_eq!((agent.source.as_deref(), agent.agent_nickname.as_deref()), (Some("subagent"), Some("Wren")));
    assert_eq!((agent.forked_from_id.as_deref(), agent.memory_mode), (Some(NAMED), MemoryMode::Disabled));
    let archived = store.get(ARCHIVED);
    assert_eq!(archived.archived_at, Some(1_769_000_000_000));
    assert!(archived.user_set.contains(UserField::Archive));
    assert_eq!(store.threads.list(&ThreadQuery::recent()).expect("live ones").threads.len(), 5);
}

#[test]
fn a_second_import_reads_nothing_and_changes_nothing() {
    let store = Store::new();
    store.import(&examples());
    let (rows, watcher) = (store.all(), store.watcher());
    for part in ["", "sessions", "sessions/2026/03", "archived_sessions"] {
        // A part is a folder of its own, which is noted as complete.
        for _ in 0..2 {
            let again = store.import(&examples().join(part));
            assert_eq!((again.counts.unchanged, again.counts.bytes_read), (again.counts.files, 0), "{part}");
        }
        let version = data_version(&watcher);
        store.import(&examples().join(part));
        assert_eq!(data_version(&watcher), version, "{part}");
    }
    assert_eq!(store.all(), rows);
}

#[test]
fn bad_files_are_named_by_line_and_the_others_come_in() {
    let (store, home) = (Store::new(), copied_examples());
    for found in walk(&bad_examples()).expect("a walk") {
        let path = found.expect("a file").path;
        fs::copy(&path, home.path().join("sessions").join(path.file_name().expect("a name")))
            .expect("a copy");
    }
    fs::write(home.path().join("archived_sessions/rollout-x.jsonl.zst"), "zst").expect("a file");
    let report = store.import(home.path());
    // Without the feature a compressed one is passed over.
    let damaged = u64::from(cfg!(feature = "zstd"));
    let bad = 2 + damaged;
    assert_eq!(
        (report.counts.files, report.counts.imported, report.counts.bad, report.counts.compressed),
        (9, 6, bad, 1)
    );
    let reasons: BTreeMap<_, _> = report.problems.iter().map(|one| (one.reason.as_str(), one)).collect();
    let expected = [
        ("line 1 is not JSON (column 1)", Some(1)),
        ("line 1 is not the session_meta record that a transcript begins with", Some(1)),
        ("the compressed transcript is damaged", None),
    ];
    let told = reasons.iter().map(|(reason, problem)| (*reason, problem.line));
    assert_eq!(told.collect::<Vec<_>>(), expected[..usize::try_from(bad).expect("few")]);
    assert!(reasons.values().all(|problem| problem.path.is_absolute()));
    let again = store.import(home.path());
    assert_eq!(
        (again.counts.bad, again.counts.unchanged, again.counts.updated),
        (bad, 6, 0),
        "bad files are tried again"
    );
    let json = serde_json::to_value(&report).expect("json");
    assert!(json["problems"][0]["line"] == 1 && !json.to_string().contains("Monday"));
}

#[test]
fn a_transcript_that_grew_is_read_again_and_only_it() {
    let (store, home) = (Store::new(), copied_examples());
    store.import(home.path());
    let path = only_file(home.path(), &format!("{PARSER}.jsonl"));
    let more = r#"{"timestamp":"2026-03-03T08:00:00.000Z","type":"event_msg","payload":{"type":"user_message","message":"And the header?"}}"#;
    fs::write(&path, format!("{}{more}\n", fs::read_to_string(&path).expect("its text")))
        .expect("more of it");
    let before = store.get(PARSER);
    let report = store.import(home.path());
    assert_eq!((report.counts.updated, report.counts.unchanged, report.counts.imported), (1, 5, 0));
    assert_eq!(report.counts.bytes_read, fs::metadata(&path).expect("the file").len());
    let after = store.get(PARSER);
    assert_eq!(after.title, before.title);
    assert_eq!((after.updated_at, after.recency_at), (1_772_524_800_000, 1_772_524_800_000));
}

#[test]
fn a_moved_transcript_is_archived_or_live_by_where_it_lies() {
    let (store, home) = (Store::new(), copied_examples());
    store.import(home.path());
    let from = only_file(home.path(), &format!("{TORN}.jsonl"));
    let to = home.path().join("archived_sessions").join(from.file_name().expect("a name"));
    fs::rename(&from, &to).expect("moved");
    assert_eq!(store.import(home.path()).counts.updated, 1);
    assert!(store.get(TORN).archived_at.is_some());
    fs::rename(&to, &from).expect("moved back");
    assert_eq!(store.import(home.path()).counts.updated, 1);
    assert_eq!(store.get(TORN).archived_at, None);
}

#[test]
fn of_two_files_of_a_thread_the_longer_one_counts_and_it_stays_so() {
    let (store, home, copy) = (Store::new(), copied_examples(), copied_examples());
    store.import(home.path());
    let rows = store.all();
    let report = store.import(copy.path());
    assert_eq!((report.counts.duplicates, report.counts.bytes_read, report.counts.updated), (6, 0, 0));
    assert_eq!(store.all(), rows);

    let longer = only_file(copy.path(), &format!("{PARSER}.jsonl"));
    let text = fs::read_to_string(&longer).expect("its text");
    fs::write(&longer, format!("{text}{{\"type\":\"later\"}}\n")).expect("more of it");
    assert_eq!(store.import(copy.path()).counts.updated, 1);
    assert_eq!(store.import(home.path()).counts.updated, 0);
    assert_eq!(store.import(copy.path()).counts.updated, 0);
    let path = fs::canonicalize(&longer).expect("the copy");
    assert_eq!(store.get(PARSER).rollout_path.as_deref(), path.to_str());

    fs::remove_file(&longer).expect("gone");
    assert_eq!(store.import(home.path()).counts.updated, 1, "the other one is all there is");
}

#[test]
fn an_import_leaves_alone_what_a_user_set() {
    let (store, home) = (Store::new(), copied_examples());
    store.import(home.path());
    let row = store.get(PARSER);
    let said = ThreadFacts {
        id: row.id.clone(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        recency_at: row.recency_at,
        name: Some("Commas".to_owned()),
        is_pinned: true,
        git: GitFacts { branch: Some("main".to_owned()), ..GitFacts::default() },
        archived_at: Change::Set(1_772_500_000_000),
        user_set: [UserField::Name, UserField::Pin, UserField::Git, UserField::Archive].to_vec().into(),
        ..ThreadFacts::default()
    };
    store.threads.upsert(&[said]).expect("a patch");
    let set = store.get(PARSER);
    let path = only_file(home.path(), &format!("{PARSER}.jsonl"));
    let text = fs::read_to_string(&path).expect("its text");
    fs::write(&path, format!("{text}{{\"type\":\"later\"}}\n")).expect("more of it");
    assert_eq!(store.import(home.path()).counts.updated, 1);
    assert_eq!(store.get(PARSER), set);
}

#[test]
fn a_missing_folder_is_an_error_that_says_what_to_give() {
    let store = Store::new();
    let error = store.hear(Path::new("/nowhere/at/all"), &mut |_| {}).expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.advice().is_some());
}

#[test]
fn several_batches_come_in_whole() {
    let (store, home) = (Store::new(), tempfile::tempdir().expect("a folder"));
    let mut heard = 0;
    for number in 0..450 {
        let id = format!("019cadf1-7a5e-7b04-8f21-{number:012x}");
        let line = format!(
            r#"{{"timestamp":"2026-03-02T09:14:05.000Z","type":"session_meta","payload":{{"id":"{id}"}}}}"#
        );
        fs::write(home.path().join(format!("rollout-2026-03-02T09-14-05-{id}.jsonl")), line + "\n")
            .expect("a file");
    }
    let report = store.hear(home.path(), &mut |_| heard += 1).expect("an import");
    assert_eq!(
        (report.counts.files, report.counts.imported, heard),
        (450, 450, 4),
        "three batches, and the end"
    );
    assert_eq!(store.import(home.path()).counts.unchanged, 450);
}

/// Real transcripts, where a folder of them is named: what the store holds is what a full parse finds.
#[test]
fn real_transcripts_come_in_as_a_full_parse_reads_them() {
    let Some(dir) = std::env::var_os("ROWHOUSE_TRANSCRIPTS") else { return };
    let store = Store::new();
    let report = store.import(Path::new(&dir));
    assert_eq!(
        (report.counts.bad, report.counts.bad_lines, report.counts.imported),
        (0, 0, report.counts.files)
    );
    assert!(report.counts.files > 0);
    for found in walk(Path::new(&dir)).expect("a walk") {
        let path = found.expect("a transcript").path;
        let records: Vec<serde_json::Value> = fs::read_to_string(&path)
            .expect("its text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect();
        let last = |kind: &str, pointer: &str| {
            records
                .iter()
                .rev()
                .filter(|record| record["type"] == kind)
                .find_map(|record| record.pointer(pointer).cloned())
        };
        let text =
            |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let meta = &records[0]["payload"];
        let row = store.get(meta["id"].as_str().expect("an id"));
        assert_eq!(row.cwd.as_deref(), meta["cwd"].as_str());
        assert_eq!(row.git.sha.as_deref(), meta["git"]["commit_hash"].as_str());
        assert_eq!(row.model, text(last("turn_context", "/payload/model")));
        assert_eq!(row.reasoning_effort, text(last("turn_context", "/payload/effort")));
        let tokens = last("event_msg", "/payload/info/total_token_usage/total_tokens");
        assert_eq!(Some(row.tokens_used), tokens.and_then(|tokens| tokens.as_i64()));
        let first =
            records.iter().find(|record| record["payload"]["type"] == "user_message").expect("a message");
        assert_eq!(row.first_user_message.as_deref(), first["payload"]["message"].as_str());
        assert!(read_metadata(&path).expect("facts").bytes_read <= 128 << 10);
    }
    assert_eq!(store.import(Path::new(&dir)).counts.bytes_read, 0);
}
