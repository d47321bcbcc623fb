//! Full-text search finds what was written, in any language, only while it is written, and after everything that can
//! happen to the file.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside, and damages them")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rowhouse::rusqlite::Connection;
use rowhouse::stores::ThreadFacts;
use rowhouse::stores::threads::{Change, SearchOrder, SearchPage, ThreadPatch, ThreadSearch};
use rowhouse::{Domain, ErrorKind, Home, Migration, Runtime, ThreadQuery};

const LONG: Duration = Duration::from_mins(1);

fn open(home: &Path) -> Runtime {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime");
    runtime.database("state").expect("the database").wait_for_steps(LONG).expect("the index is whole");
    runtime
}

fn id(number: u64) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

fn facts(number: u64, title: &str) -> ThreadFacts {
    let time = 1_000 + i64::try_from(number).expect("few");
    ThreadFacts {
        id: id(number),
        created_at: time,
        updated_at: time,
        recency_at: time,
        title: Some(title.to_owned()),
        ..ThreadFacts::default()
    }
}

fn put(runtime: &Runtime, titles: &[&str]) {
    let all: Vec<_> = (1..).zip(titles).map(|(number, title)| facts(number, title)).collect();
    runtime.threads().upsert(&all).expect("threads");
}

fn search(runtime: &Runtime, search: &ThreadSearch) -> SearchPage {
    runtime.threads().search(search).expect("a search")
}

/// The numbers of the threads that a text finds, the last used first.
fn found(runtime: &Runtime, text: &str) -> Vec<u64> {
    numbers(&search(runtime, &ThreadSearch::text(text).by(SearchOrder::Recency)))
}

fn numbers(page: &SearchPage) -> Vec<u64> {
    let digits = |id: &str| u64::from_str_radix(&id[24..], 16).expect("one of ours");
    page.threads.iter().map(|thread| digits(&thread.id)).collect()
}

#[test]
fn name_title_and_preview_are_searched_and_every_word_has_to_be_there() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let named =
        ThreadFacts { preview: Some("Please repair the printer".to_owned()), ..facts(1, "Fix the parser") };
    runtime.threads().upsert(&[named, facts(2, "Fix the lexer")]).expect("threads");
    let patch = ThreadPatch { name: Change::Set("Monday's bug".to_owned()), ..ThreadPatch::default() };
    runtime.threads().patch(&id(1), &patch).expect("a name");
    for (text, expected) in [
        ("fix", vec![2, 1]),
        ("FIX THE", vec![2, 1]),
        ("parser", vec![1]),
        ("printer", vec![1]),
        ("monday", vec![1]),
        ("bug printer fix", vec![1]),
        ("fix pars", vec![1]),
        ("pars fix", vec![]),
        ("lexer printer", vec![]),
    ] {
        assert_eq!(found(&runtime, text), expected, "{text}");
    }
}

#[test]
fn letters_of_any_language_are_found_with_or_without_their_accents() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    put(
        &runtime,
        &[
            "Gehört die Größe hierher?",
            "Ação de depuração",
            "修复解析器的错误",
            "プリンターの設定を日本語で説明",
            "검색을 고쳐 주세요",
            "แก้ไขตัวแยกวิเคราะห์",
            "Исправить разбор строк",
            "إصلاح المحلل",
            "Rust語で書くparser",
            "𠮷野家 の注文",
            "Sửa lỗi tìm kiếm",
        ],
    );
    for (text, expected) in [
        ("grosse", vec![]),
        ("größe", vec![1]),
        ("GROße", vec![1]),
        ("acao", vec![2]),
        ("ACÃO depuracao", vec![2]),
        // Two letters, and one, anywhere in a text without spaces.
        ("解析", vec![3]),
        ("错误", vec![3]),
        ("错", vec![3]),
        ("修复 错误", vec![3]),
        ("误错", vec![]),
        ("設定", vec![4]),
        ("日本", vec![4]),
        ("リンター", vec![4]),
        ("검색", vec![5]),
        ("검색 고쳐", vec![5]),
        ("ตัวแยก", vec![6]),
        ("строк", vec![7]),
        ("СТРО", vec![7]),
        ("المحلل", vec![8]),
        ("rust語", vec![9]),
        ("語で書", vec![9]),
        ("parser", vec![9]),
        ("𠮷野", vec![10]),
        ("sua loi", vec![11]),
        ("Su\u{31b}\u{309}a lo\u{302}\u{303}i", vec![11]),
    ] {
        assert_eq!(found(&runtime, text), expected, "{text}");
    }
}

#[test]
fn quotes_and_operators_are_text() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    put(
        &runtime,
        &[
            "to be OR not to be",
            "the NEAR miss of a_b-c.rs",
            "say \"hello\" (twice)",
            "title: 100% *sure* ^^",
        ],
    );
    for (text, expected) in [
        ("be OR miss", vec![]),
        ("or not", vec![1]),
        ("NOT", vec![1]),
        ("be AND not", vec![]),
        ("NEAR(miss", vec![2]),
        ("a_b-c.rs", vec![2]),
        ("b-c", vec![2]),
        ("\"hello\"", vec![3]),
        ("hello\" OR \"be", vec![]),
        ("(twice)", vec![3]),
        ("title:100", vec![4]),
        ("name:100", vec![]),
        ("^title", vec![4]),
        ("sure*", vec![4]),
        ("100% -", vec![4]),
        ("- 100%", vec![4]),
        ("{title} : sure", vec![4]),
        ("!!!", vec![]),
        ("\"\"", vec![]),
        ("*", vec![]),
        ("'; DROP TABLE thread; --", vec![]),
    ] {
        assert_eq!(found(&runtime, text), expected, "{text}");
    }
}

#[test]
fn what_is_no_search_is_invalid_and_says_what_to_do() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    put(&runtime, &["fix one", "fix two", "fix three"]);
    let fix = || ThreadSearch::text("fix").by(SearchOrder::Recency).limit(2);
    let next = search(&runtime, &fix()).next_cursor.expect("there is more");
    let word = || ThreadSearch::text("fix");
    let wrong = [
        ThreadSearch::text(""),
        ThreadSearch::text(" \n"),
        ThreadSearch::text("a\0b"),
        ThreadSearch::text("a".repeat(2 << 20)),
        word().limit(0),
        word().limit(501),
        word().cursor("garbage"),
        word().cursor(&next),
        fix().cursor("garbage"),
        fix().archived(true).cursor(&next),
        fix().cwd("/").cursor(&next),
        ThreadSearch::text("fixed").by(SearchOrder::Recency).cursor(&next),
        word().children_of("no id"),
        word().sources((0..100_000).map(|number| number.to_string())),
    ];
    for wrong in wrong {
        let error = runtime.threads().search(&wrong).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.advice().is_some(), "{error}");
    }
    assert_eq!(numbers(&search(&runtime, &fix().cursor(next))), [1]);
}

#[test]
fn by_rank_a_name_comes_before_a_title_and_a_title_before_a_preview() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let other =
        |number| ThreadFacts { preview: Some("something else".to_owned()), ..facts(number, "about that") };
    let mut all: Vec<_> = (10..40).map(other).collect();
    all.extend([
        ThreadFacts { preview: Some("parser of that".to_owned()), ..facts(3, "about that") },
        ThreadFacts { preview: Some("something else".to_owned()), ..facts(1, "parser that") },
        other(2),
    ]);
    runtime.threads().upsert(&all).expect("threads");
    let patch = ThreadPatch { name: Change::Set("parser".to_owned()), ..ThreadPatch::default() };
    runtime.threads().patch(&id(2), &patch).expect("a name");
    let page = search(&runtime, &ThreadSearch::text("parser"));
    assert_eq!((numbers(&page), page.next_cursor), (vec![2, 1, 3], None));
    assert_eq!(found(&runtime, "parser"), [3, 2, 1], "by recency the last used first");
    assert_eq!(numbers(&search(&runtime, &ThreadSearch::text("parser").limit(1))), [2]);
}

#[test]
fn filters_hold_for_a_search_too() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let in_folder = |number, cwd: &str, source: &str| ThreadFacts {
        cwd: Some(cwd.to_owned()),
        source: Some(source.to_owned()),
        model_provider: Some("near".to_owned()),
        ..facts(number, "fix")
    };
    let archived = ThreadFacts { archived_at: Change::Set(5), ..facts(4, "fix") };
    runtime
        .threads()
        .upsert(&[in_folder(1, "/a", "cli"), in_folder(2, "/b", "exec"), facts(3, "fix"), archived])
        .expect("threads");
    runtime.spawn_edges().add(&id(1), &id(2)).expect("an edge");
    runtime.spawn_edges().add(&id(2), &id(3)).expect("an edge");
    let fix = || ThreadSearch::text("fix").by(SearchOrder::Recency);
    let none: [&str; 0] = [];
    for (one, expected) in [
        (fix(), vec![3, 2, 1]),
        (fix().archived(true), vec![4]),
        (fix().cwds(["/a", "/b"]), vec![2, 1]),
        (fix().cwds(none), vec![]),
        (fix().sources(["exec", "vscode"]), vec![2]),
        (fix().model_providers(["near"]).cwd("/a"), vec![1]),
        (fix().children_of(&id(1)), vec![2]),
        (fix().descendants_of(&id(1)), vec![3, 2]),
        (fix().descendants_of(&id(1)).sources(["exec"]), vec![2]),
        (fix().children_of(&id(3)), vec![]),
    ] {
        assert_eq!(numbers(&search(&runtime, &one)), expected, "{one:?}");
        let by_rank = numbers(&search(&runtime, &one.by(SearchOrder::Rank)));
        assert_eq!(by_rank, expected, "all the same rank, so by recency");
    }
}

#[test]
fn pages_by_recency_neither_skip_nor_repeat() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let all: Vec<_> =
        (0..97).map(|number| ThreadFacts { recency_at: 7, ..facts(number, "fix it") }).collect();
    runtime.threads().upsert(&all).expect("threads");
    let one = ThreadSearch::text("fix").by(SearchOrder::Recency).limit(10);
    let mut page = search(&runtime, &one);
    let mut listed = numbers(&page);
    while let Some(next) = page.next_cursor.take() {
        // Newer ones come in between.
        let number = 1_000 + listed.len() as u64;
        runtime.threads().upsert(&[facts(number, "fix that too")]).expect("another");
        page = search(&runtime, &one.clone().cursor(next));
        listed.extend(numbers(&page));
    }
    assert_eq!(listed, (0..97).rev().collect::<Vec<_>>());
}

#[test]
fn what_is_not_there_any_more_is_not_found_any_more() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    put(&runtime, &["first zanzibar", "second", "third 解析器"]);
    runtime.threads().upsert(&[facts(1, "first madagascar")]).expect("another title");
    assert_eq!((found(&runtime, "zanzibar"), found(&runtime, "madagascar")), (vec![], vec![1]));
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| tx.execute("DELETE FROM thread WHERE id IN (?1, ?2)", [id(1), id(3)]))
        .expect("deleted");
    assert_eq!(
        (found(&runtime, "madagascar"), found(&runtime, "解析"), found(&runtime, "second")),
        (vec![], vec![], vec![2])
    );
    whole(&runtime);
}

/// FTS5 compares its index with the texts that it was made from.
fn whole(runtime: &Runtime) {
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| {
            tx.execute("INSERT INTO thread_search (thread_search, rank) VALUES ('integrity-check', 1)", [])
        })
        .expect("the index says what the threads say");
}

/// Every file of the home, as it is on the disk.
fn bytes_of(home: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(home).expect("the home").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).expect("a file")).collect()
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn a_deleted_word_is_in_no_file_any_more() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let all: Vec<_> = (0..300).map(|number| facts(number, &format!("xylophone{number} quixotic"))).collect();
    runtime.threads().upsert(&all).expect("threads");
    let secret =
        ThreadFacts { preview: Some("the zzyzxword was said".to_owned()), ..facts(900, "qqsecretword") };
    runtime.threads().upsert(&[secret]).expect("a thread with a secret");
    assert_eq!(found(&runtime, "zzyzxword"), [900]);
    runtime.close(LONG);
    assert!(holds(&bytes_of(home.path()), "zzyzxword") && holds(&bytes_of(home.path()), "qqsecretword"));

    let runtime = open(home.path());
    let delete = "DELETE FROM thread WHERE id = ?1";
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| tx.execute(delete, [id(900)]))
        .expect("deleted");
    whole(&runtime);
    runtime.close(LONG);
    let bytes = bytes_of(home.path());
    assert!(
        !holds(&bytes, "zzyzxword") && !holds(&bytes, "qqsecretword"),
        "in the table, the index or the log"
    );
    assert!(holds(&bytes, "quixotic"), "the others are still there");

    // Without the option the index keeps it: what is deleted is only marked.
    let control = Connection::open_in_memory().expect("a database");
    let sql = include_str!("../migrations_state/V4__thread_search.sql")
        .replace("INSERT INTO thread_search (thread_search, rank) VALUES ('secure-delete', 1);", "");
    control.execute_batch(include_str!("../migrations_state/V1__thread.sql")).expect("the table");
    control.execute_batch(&sql).expect("the index");
    let put = "INSERT INTO thread (id, created_at, updated_at, recency_at, title) VALUES (?1, 1, 1, 1, ?2)";
    control.execute(put, [id(1), "zzyzxword".to_owned()]).expect("a thread");
    control.execute("PRAGMA secure_delete = ON", []).ok();
    control.execute(delete, [id(1)]).expect("deleted");
    let kept: bool = control
        .query_row(
            "SELECT count(*) > 0 FROM thread_search_data WHERE instr(block, CAST('zzyzxword' AS BLOB)) > 0",
            [],
            |row| row.get(0),
        )
        .expect("a look");
    assert!(kept, "the control has to fail, or the test shows nothing");
}

/// A home as a release without the index left it.
fn before_the_index(home: &Path, threads: u64) {
    let migrations = [
        Migration { name: "V1__thread", sql: include_str!("../migrations_state/V1__thread.sql") },
        Migration { name: "V2__spawn_edge", sql: include_str!("../migrations_state/V2__spawn_edge.sql") },
        Migration { name: "V3__memory", sql: include_str!("../migrations_state/V3__memory.sql") },
    ];
    let old = Domain::new("state").migrations(&migrations);
    let runtime = Runtime::builder(Home::at(home)).domain(old).open().expect("the older release");
    // In its own words: this release says more than its tables know.
    let put = "INSERT INTO thread(id, created_at, updated_at, recency_at, title) VALUES (?1, ?2, ?2, ?2, ?3)";
    let put_all = |tx: &rowhouse::Tx| {
        (0..threads)
            .map(|number| facts(number, &format!("old words {number}")))
            .try_for_each(|thread| tx.execute(put, (thread.id, thread.created_at, thread.title)).map(drop))
    };
    runtime.database("state").expect("the database").write(put_all).expect("threads");
    runtime.close(LONG);
}

/// As in a home that may not be written, which no migration changes.
#[test]
fn a_home_of_an_older_release_is_listed() {
    let home = tempfile::tempdir().expect("a home");
    before_the_index(home.path(), 3);
    let migrations = [
        Migration { name: "V1__thread", sql: include_str!("../migrations_state/V1__thread.sql") },
        Migration { name: "V2__spawn_edge", sql: include_str!("../migrations_state/V2__spawn_edge.sql") },
        Migration { name: "V3__memory", sql: include_str!("../migrations_state/V3__memory.sql") },
    ];
    let runtime = Runtime::builder(Home::at(home.path()))
        .domain(Domain::new("state").migrations(&migrations))
        .open()
        .expect("the older release");
    let threads = rowhouse::stores::Threads::new(runtime.database("state").expect("the database"));
    let page = threads.list(&ThreadQuery::recent()).expect("a list");
    assert_eq!((page.threads.len(), page.partial), (3, true));
}

#[test]
fn threads_that_were_there_before_the_index_come_into_it() {
    let home = tempfile::tempdir().expect("a home");
    before_the_index(home.path(), 2_000);
    let runtime = Runtime::builder(Home::at(home.path())).domain(Domain::state()).open().expect("a runtime");
    let threads = runtime.threads();
    // Written while the step is at work, or before it: each is in the index once.
    threads
        .upsert(&[facts(1_999, "new title"), facts(0, "new too"), facts(2_000, "brand new")])
        .expect("written");
    let words = ThreadSearch::text("words").limit(500);
    let mut page = threads.search(&words).expect("a search");
    if page.partial {
        runtime.database("state").expect("the database").wait_for_steps(LONG).expect("the step");
        page = threads.search(&words).expect("a search");
    }
    assert!(!page.partial && !page.truncated);
    assert_eq!(page.threads.len(), 500);
    for (text, expected) in
        [("words 1234", vec![1_234]), ("words 1999", vec![]), ("new", vec![2_000, 1_999, 0])]
    {
        assert_eq!(found(&runtime, text), expected, "{text}");
    }
    whole(&runtime);
}

#[test]
fn a_search_says_that_older_threads_may_be_missing() {
    let home = tempfile::tempdir().expect("a home");
    before_the_index(home.path(), 3);
    // The migrations, and no step: as it is until somebody works at it.
    let migrations = rowhouse::migrations!("migrations_state");
    let runtime = Runtime::builder(Home::at(home.path()))
        .domain(Domain::new("state").migrations(migrations))
        .open()
        .expect("a runtime");
    let threads = rowhouse::stores::Threads::new(runtime.database("state").expect("the database"));
    // A title of a thread that is not in the index changes, and a thread that is not in it goes.
    threads.upsert(&[facts(1, "new words")]).expect("another title");
    let delete = "DELETE FROM thread WHERE id = ?1";
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| tx.execute(delete, [id(2)]))
        .expect("deleted");
    let page = threads.search(&ThreadSearch::text("words")).expect("a search");
    assert_eq!((numbers(&page), page.partial), (vec![1], true));
    runtime.close(LONG);

    let runtime = open(home.path());
    let page = search(&runtime, &ThreadSearch::text("words").by(SearchOrder::Recency));
    assert_eq!((numbers(&page), page.partial), (vec![1, 0], false));
    whole(&runtime);
}

#[test]
fn an_older_program_keeps_the_index_in_step() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    put(&runtime, &["one", "two"]);
    runtime.close(LONG);
    // It knows three migrations, and writes what it always wrote.
    before_the_index(home.path(), 1);
    let connection = Connection::open(home.path().join("state.sqlite")).expect("any other tool");
    connection.execute("UPDATE thread SET title = 'by hand' WHERE id = ?1", [id(2)]).expect("another title");
    drop(connection);
    let runtime = open(home.path());
    let texts = ["one", "two", "old words", "by hand"];
    assert_eq!(texts.map(|text| found(&runtime, text)), [vec![1], vec![], vec![0], vec![2]]);
    whole(&runtime);
}

/// Makes the file's first page unreadable, which is what a salvage is for.
fn damage(file: &Path) {
    let file = std::fs::File::options().write(true).open(file).expect("the database");
    file.write_all_at(&[0xA5; 512], 0).expect("damaged");
    file.sync_all().expect("on the disk");
}

#[test]
fn a_salvaged_database_is_searched_as_before() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let all: Vec<_> = (0..200).map(|number| facts(number, &format!("word{number} 解析器"))).collect();
    runtime.threads().upsert(&all).expect("threads");
    let delete = "DELETE FROM thread WHERE id < ?1";
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| tx.execute(delete, [id(100)]))
        .expect("deleted");
    // As if their page was among what cannot be read.
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| {
            tx.execute("DELETE FROM thread_text WHERE thread_id BETWEEN ?1 AND ?2", [id(120), id(160)])
        })
        .expect("lost");
    assert_eq!(found(&runtime, "word150"), Vec::<u64>::new());
    runtime.close(LONG);
    damage(&home.path().join("state.sqlite"));

    let runtime = open(home.path());
    assert!(runtime.database("state").expect("the database").damage().is_some(), "it was salvaged");
    assert_eq!(found(&runtime, "word150"), [150]);
    assert_eq!(found(&runtime, "word50"), Vec::<u64>::new());
    let page = search(&runtime, &ThreadSearch::text("解析").limit(500));
    assert_eq!((page.threads.len(), page.partial), (100, false));
    runtime.threads().upsert(&[facts(150, "another")]).expect("it goes on");
    assert_eq!((found(&runtime, "word150"), found(&runtime, "another")), (vec![], vec![150]));
    whole(&runtime);
}

#[test]
fn a_compacted_database_is_searched_as_before() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let all: Vec<_> = (0..200).map(|number| facts(number, &format!("word{number}"))).collect();
    runtime.threads().upsert(&all).expect("threads");
    let delete = "DELETE FROM thread WHERE id < ?1";
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| tx.execute(delete, [id(100)]))
        .expect("deleted");
    runtime.close(LONG);
    // In place, as any tool does it; the engine's own is `VACUUM INTO`, which keeps the numbers of rows by contract.
    let connection = Connection::open(home.path().join("state.sqlite")).expect("any other tool");
    connection.execute_batch("VACUUM").expect("compacted");
    drop(connection);
    let runtime = open(home.path());
    assert_eq!((found(&runtime, "word150"), found(&runtime, "word50")), (vec![150], vec![]));
    whole(&runtime);
}

/// What a dump leaves when it is loaded: tables and rows as they are, the index's own too, and threads under other row
/// numbers.
fn dumped_and_loaded(file: &Path) {
    let copy = file.with_extension("copy");
    let new = Connection::open(&copy).expect("a new file");
    for sql in [
        include_str!("../migrations_state/V1__thread.sql"),
        include_str!("../migrations_state/V2__spawn_edge.sql"),
        include_str!("../migrations_state/V3__memory.sql"),
        include_str!("../migrations_state/V4__thread_search.sql"),
        include_str!("../migrations_state/V5__backfill.sql"),
    ] {
        new.execute_batch(sql).expect("the schema");
    }
    new.set_db_config(rowhouse::rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
        .expect("set");
    new.execute("ATTACH ?1 AS old", [file.to_str()]).expect("the old one");
    for table in ["refinery_schema_history", "rowhouse_meta", "rowhouse_steps"] {
        let sql = "SELECT sql FROM old.sqlite_schema WHERE name = ?1";
        let sql: String = new.query_row(sql, [table], |row| row.get(0)).expect("a table");
        new.execute_batch(&sql).expect("the same");
    }
    for table in [
        "refinery_schema_history",
        "rowhouse_meta",
        "rowhouse_steps",
        "thread",
        "thread_text",
        "thread_search_data",
        "thread_search_idx",
        "thread_search_docsize",
        "thread_search_config",
    ] {
        new.execute_batch(&format!(
            "DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM old.{table} ORDER BY 1"
        ))
        .expect("its rows");
    }
    drop(new);
    std::fs::rename(copy, file).expect("in its place");
}

#[test]
fn a_database_that_was_dumped_and_loaded_is_searched_as_before() {
    let home = tempfile::tempdir().expect("a home");
    let file = home.path().join("state.sqlite");
    let runtime = open(home.path());
    let all: Vec<_> = (0..20).map(|number| facts(number, &format!("word{number}"))).collect();
    runtime.threads().upsert(&all).expect("threads");
    let delete = "DELETE FROM thread WHERE id < ?1";
    runtime
        .database("state")
        .expect("the database")
        .write(|tx| tx.execute(delete, [id(10)]))
        .expect("deleted");
    runtime.close(LONG);
    // The control: an index that knew threads by their rows would mean others afterwards.
    let row = || {
        let sql = "SELECT rowid FROM thread WHERE title = 'word15'";
        let connection = Connection::open(&file).expect("any other tool");
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("the thread")
    };
    let before = row();
    dumped_and_loaded(&file);
    assert_ne!(row(), before, "the control has to fail, or the test shows nothing");

    let runtime = open(home.path());
    assert_eq!((found(&runtime, "word15"), found(&runtime, "word5")), (vec![15], vec![]));
    whole(&runtime);
}

/// A home with threads that are stored newest first, as a folder of transcripts is read: `live` ones, then `archived` ones.
fn stored_newest_first(home: &Path, live: u64, archived: u64) -> Runtime {
    let runtime = open(home);
    let of = |number: u64, archived_at| ThreadFacts { archived_at, ..facts(number, "fix that") };
    let all: Vec<_> = (0..live)
        .rev()
        .map(|number| of(archived + number, Change::Leave))
        .chain((0..archived).rev().map(|number| of(number, Change::Set(7))))
        .collect();
    for some in all.chunks(2_000) {
        runtime.threads().upsert(some).expect("threads");
    }
    runtime
}

#[test]
fn of_many_hits_the_newest_threads_are_found_in_whatever_order_they_came() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = stored_newest_first(home.path(), 12_000, 0);
    let page = search(&runtime, &ThreadSearch::text("fix").by(SearchOrder::Recency).limit(500));
    assert_eq!(numbers(&page), (11_500..12_000).rev().collect::<Vec<_>>());
    assert!(page.truncated);
    let page = search(&runtime, &ThreadSearch::text("fix").limit(3));
    assert_eq!(
        numbers(&page),
        [11_999, 11_998, 11_997],
        "by rank, all the same, the same ones are looked at"
    );

    // The control: the rows that were stored last are the oldest threads.
    let sql = "SELECT max(created_at) FROM (SELECT created_at FROM thread ORDER BY rowid DESC LIMIT 10000)";
    let newest: i64 = runtime
        .database("state")
        .expect("the database")
        .read(|at| at.row(sql, [], |row| row.get(0)))
        .expect("a look");
    assert!(newest < facts(11_500, "").created_at, "the control has to fail, or the test shows nothing");
}

#[test]
fn archived_threads_that_came_later_do_not_hide_live_ones() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = stored_newest_first(home.path(), 20, 11_000);
    assert_eq!(found(&runtime, "fix"), (11_000..11_020).rev().collect::<Vec<_>>());
}

#[test]
fn threads_that_were_replaced_are_found_by_their_new_texts_only() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    put(&runtime, &["one 解析", "two", "three"]);
    let replace = "INSERT OR REPLACE INTO thread (id, created_at, updated_at, recency_at, title) VALUES (?1, ?2, 1, 1, ?3)";
    let database = runtime.database("state").expect("the database");
    for (number, time, title) in
        [(1, 1, "uno"), (3, i64::MAX, "tres"), (4, i64::MIN, "cuatro"), (1, 2, "ichi")]
    {
        database.write(|tx| tx.execute(replace, (id(number), time, title))).expect("replaced");
    }
    database
        .write(|tx| tx.execute("UPDATE OR REPLACE thread SET title = 'dos' WHERE id = ?1", [id(2)]))
        .expect("changed");
    whole(&runtime);
    for (text, expected) in [
        ("one", vec![]),
        ("解析", vec![]),
        ("uno", vec![]),
        ("ichi", vec![1]),
        ("two", vec![]),
        ("dos", vec![2]),
        ("three", vec![]),
        ("tres", vec![3]),
        ("cuatro", vec![4]),
    ] {
        assert_eq!(found(&runtime, text), expected, "{text}");
    }
    runtime.threads().upsert(&[facts(3, "four")]).expect("it goes on");
    database.write(|tx| tx.execute("DELETE FROM thread WHERE id = ?1", [id(1)])).expect("deleted");
    assert_eq!((found(&runtime, "four"), found(&runtime, "ichi")), (vec![3], vec![]));
    whole(&runtime);
}

#[test]
fn threads_of_one_moment_are_all_found() {
    let home = tempfile::tempdir().expect("a home");
    let runtime = open(home.path());
    let all: Vec<_> = [i64::MIN, 0, 1 << 43, i64::MAX]
        .into_iter()
        .zip(0..)
        .flat_map(|(created_at, ten)| {
            (0..10).map(move |one| ThreadFacts { created_at, ..facts(10 * ten + one, "fix") })
        })
        .collect();
    runtime.threads().upsert(&all).expect("threads");
    assert_eq!(found(&runtime, "fix"), (0..40).rev().collect::<Vec<_>>());
    whole(&runtime);
}
