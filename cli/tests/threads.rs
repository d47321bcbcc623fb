//! Threads on the command line: filters, search, the tree of who started whom, and ids that are cut short.

mod common;

use common::{document, rowhouse};
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::spawn_edges::SpawnStatus;
use rowhouse::{Domain, Home, Runtime};

fn id(number: u64) -> String {
    format!("0193a1b2-0000-7000-8000-0000{number:08x}")
}

fn facts(number: u64, title: &str, source: &str) -> ThreadFacts {
    let time = 1_700_000_000_000 + i64::try_from(number).expect("few");
    ThreadFacts {
        id: id(number),
        created_at: time,
        updated_at: time,
        recency_at: time,
        title: Some(title.to_owned()),
        source: Some(source.to_owned()),
        model_provider: Some("near".to_owned()),
        ..ThreadFacts::default()
    }
}

/// 1 started 2 and 3, 3 started 4; 5 stands alone, and its transcript is gone.
fn home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime =
        Runtime::builder(Home::at(folder.path())).domain(Domain::state()).open().expect("a runtime");
    let gone = ThreadFacts {
        rollout_path: Some(folder.path().join("gone.jsonl").to_str().expect("letters").to_owned()),
        ..facts(5, "Alone 解析器", "cli")
    };
    runtime
        .threads()
        .upsert(&[
            facts(1, "Fix the parser", "cli"),
            facts(2, "Find the bug", "subagent"),
            facts(3, "Write the test", "subagent"),
            facts(4, "Run the parser test", "subagent"),
            gone,
        ])
        .expect("threads");
    let edges = runtime.spawn_edges();
    for (parent, child) in [(1, 2), (1, 3), (3, 4)] {
        edges.add(&id(parent), &id(child)).expect("an edge");
    }
    edges.set_status(&id(2), SpawnStatus::Closed, false).expect("closed");
    runtime
        .database("state")
        .expect("state")
        .wait_for_steps(std::time::Duration::from_mins(1))
        .expect("indexed");
    runtime.close(std::time::Duration::from_secs(20));
    folder
}

fn listed(folder: &tempfile::TempDir, arguments: &[&str]) -> Vec<String> {
    let (code, page) = document(folder.path(), arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {page}");
    let threads = page["threads"].as_array().expect("threads");
    threads.iter().map(|thread| thread["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn threads_are_listed_by_source_provider_and_who_started_them() {
    let home = home();
    for (arguments, expected) in [
        (&["--source", "cli"][..], vec![5, 1]),
        (&["--source", "cli", "--source", "subagent", "--limit", "2"], vec![5, 4]),
        (&["--provider", "far"], vec![]),
        (&["--children-of", "00000001"], vec![3, 2]),
        (&["--descendants-of", "0000-00000001", "--provider", "near"], vec![4, 3, 2]),
        (&["--children-of", &id(3)], vec![4]),
    ] {
        let all = [&["threads", "list"], arguments].concat();
        assert_eq!(listed(&home, &all), expected.into_iter().map(id).collect::<Vec<_>>(), "{arguments:?}");
    }
}

/// In a pipe, too, where a list looks whole. Control: one that is whole says nothing.
#[test]
fn a_list_that_was_cut_says_so() {
    let folder = home();
    for command in [&["threads", "list"][..], &["threads", "search", "the", "--by", "recency"]] {
        let (code, stdout, stderr) = rowhouse(folder.path(), &[command, &["--limit", "1"]].concat());
        assert_eq!((code, stdout.lines().count()), (Some(0), 2), "{stdout}");
        let line =
            stderr.lines().find(|line| line.starts_with("more: ")).unwrap_or_else(|| panic!("{stderr}"));
        let cursor = line.split_once("--cursor ").expect("the option").1;
        let next = [command, &["--cursor", cursor, "--limit", "1"]].concat();
        assert_eq!(rowhouse(folder.path(), &next).0, Some(0), "{next:?}");
        let (_, _, stderr) = rowhouse(folder.path(), command);
        assert!(!stderr.contains("more: "), "{stderr}");
    }
}

#[test]
fn words_are_searched_by_rank_or_recency() {
    let home = home();
    for (arguments, expected) in [
        (&["parser", "--by", "recency"][..], vec![4, 1]),
        (&["test", "parser"], vec![4]),
        (&["test pars", "--source", "subagent"], vec![4]),
        (&["解析"], vec![5]),
        (&["parser", "--archived"], vec![]),
        (&["\"parser OR"], vec![]),
        (&["the", "--by", "recency", "--limit", "1"], vec![4]),
    ] {
        let all = [&["threads", "search"], arguments].concat();
        assert_eq!(listed(&home, &all), expected.into_iter().map(id).collect::<Vec<_>>(), "{arguments:?}");
    }
    let (_, found) = document(home.path(), &["threads", "search", "the", "--by", "recency", "--limit", "2"]);
    let cursor = found["next_cursor"].as_str().expect("there is more").to_owned();
    assert_eq!((&found["partial"], &found["truncated"]), (&false.into(), &false.into()));
    let next = ["threads", "search", "the", "--by", "recency", "--limit", "2", "--cursor", &cursor];
    assert_eq!(listed(&home, &next), [id(2), id(1)]);
    let (code, stdout, _) = rowhouse(home.path(), &["threads", "search", "nowhere"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "nothing found\n"));
    let (code, stdout, stderr) = rowhouse(home.path(), &["threads", "search", " "]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("hint: "), "{stderr}");
}

#[test]
fn a_transcript_that_is_gone_is_told() {
    let home = home();
    let (code, page) = document(home.path(), &["threads", "list", "--limit", "2"]);
    assert_eq!((code, &page["threads"][0]["transcript"]), (Some(0), &"missing".into()), "{page}");
    assert_eq!(page["threads"][1]["transcript"], "none", "{page}");
    let (_, stdout, stderr) = rowhouse(home.path(), &["threads", "list"]);
    assert!(stderr.contains("warning: no transcript is where the thread says: 00000005"), "{stderr}");
    assert!(!stdout.contains("warning"), "{stdout}");
}

#[test]
fn a_tree_shows_who_started_whom() {
    let home = home();
    let (code, stdout, stderr) = rowhouse(home.path(), &["threads", "tree", "00000001"]);
    assert_eq!(code, Some(0), "{stderr}");
    let before = |line: &str| ["  open", "  closed", "  0193"].iter().filter_map(|end| line.find(end)).min();
    let lines: Vec<_> = stdout.lines().map(|line| &line[..before(line).unwrap_or(line.len())]).collect();
    assert_eq!(
        lines,
        ["Fix the parser", "├─ Find the bug", "└─ Write the test", "   └─ Run the parser test"],
        "{stdout}"
    );
    assert!(stdout.contains("Find the bug  closed") && stdout.contains("Write the test  open"), "{stdout}");
    assert!(stdout.contains(&id(4)), "a pipe gets whole ids: {stdout}");

    let (code, tree) = document(home.path(), &["threads", "tree", &id(1)]);
    assert_eq!(
        (code, &tree["title"], &tree["truncated"]),
        (Some(0), &"Fix the parser".into(), &false.into())
    );
    let nodes = tree["descendants"].as_array().expect("descendants");
    let told: Vec<_> = nodes
        .iter()
        .map(|node| (node["id"].as_str(), node["depth"].as_u64(), node["status"].as_str()))
        .collect();
    let ids = [2, 3, 4].map(id);
    assert_eq!(
        told,
        [
            (Some(&*ids[0]), Some(1), Some("closed")),
            (Some(&*ids[1]), Some(1), Some("open")),
            (Some(&*ids[2]), Some(2), Some("open")),
        ]
    );
    assert!(
        nodes.iter().all(|node| node["started_at"].as_str().is_some_and(|time| time.ends_with('Z'))),
        "{tree}"
    );

    let (code, stdout, _) = rowhouse(home.path(), &["threads", "tree", "00000005"]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 1), "a tree of one: {stdout}");
    for unknown in ["12345678", &id(99), "x", "1"] {
        let (code, stdout, stderr) = rowhouse(home.path(), &["threads", "tree", unknown]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.starts_with("error: ") && stderr.contains("hint: "), "{stderr}");
    }
}

#[test]
fn an_id_that_several_threads_end_with_is_refused() {
    let home = home();
    let runtime = Runtime::builder(Home::at(home.path())).domain(Domain::state()).open().expect("a runtime");
    let twin =
        ThreadFacts { id: "0193a1b3-0000-7000-8000-000100000001".to_owned(), ..facts(1, "Twin", "cli") };
    runtime.threads().upsert(&[twin]).expect("a thread");
    runtime.close(std::time::Duration::from_secs(20));
    let (code, _, stderr) = rowhouse(home.path(), &["threads", "tree", "00000001"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("several") && stderr.contains("hint: "), "{stderr}");
    assert_eq!(rowhouse(home.path(), &["threads", "tree", "100000001"]).0, Some(0));
}

#[test]
fn threads_are_deleted_with_those_below_them_when_that_is_said() {
    let home = home();
    let refused = |arguments: &[&str]| {
        let (code, told) = document(home.path(), &[&["threads", "rm"], arguments].concat());
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        told["error"]["kind"].as_str().expect("a kind").to_owned()
    };
    assert_eq!(refused(&["00000003", "--yes"]), "conflict", "it started another one");
    assert_eq!(refused(&["00000003"]), "conflict");
    assert_eq!(refused(&["00000004"]), "invalid", "nobody is there to be asked");
    assert_eq!(refused(&[&id(77), "--yes"]), "not_found");
    let rm = |arguments: &[&str]| {
        let (code, told) = document(home.path(), &[&["threads", "rm"], arguments].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {told}");
        told["deleted"].clone()
    };
    let dry = rm(&["00000003", "--dry-run"]);
    assert_eq!(dry[0]["threads"], serde_json::json!([id(3), id(4)]), "{dry}");
    assert_eq!(listed(&home, &["threads", "list"]).len(), 5);
    let gone = rm(&["00000003", "00000004", "00000005", "--descendants", "--yes"]);
    assert_eq!(
        (gone.as_array().map(Vec::len), &gone[0]["pending"]),
        (Some(2), &serde_json::json!([])),
        "{gone}"
    );
    assert_eq!(listed(&home, &["threads", "list"]), [id(2), id(1)]);
    let (code, text, _) = rowhouse(home.path(), &["threads", "rm", "00000002", "--yes"]);
    assert!(code == Some(0) && text.contains("deleted: 1 thread, 0 files"), "{text}");
}
