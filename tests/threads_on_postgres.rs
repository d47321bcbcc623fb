//! Threads whose home keeps its state on a server: begun in one home and gone on with in another, written by one session at a
//! time wherever that is, and nothing acknowledged is lost, doubled or moved when processes or the server end.
//!
//! Two homes stand for two hosts; what tells hosts apart is a line in the server's table, which a test changes.
#![allow(clippy::disallowed_methods, reason = "a test makes and looks at files from outside")]

mod engines;
mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use engines::server::{configure, shared};
use engines::wire::{Ending, Wire};
use postgres::Client;
use processes::{Child, listen, say, text};
use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{
    DeleteOptions, ForkPoint, ItemsView, LiveThread, LocalThreadStore, ServerThreadStore, ThreadStore,
    TurnQuery,
};
use rowhouse::{Domain, Error, ErrorKind, Home, Limits, Runtime, ThreadQuery};
use serde_json::json;

/// As short as a lease may be: for who waits for its end.
const SHORT: Duration = Duration::from_secs(1);
/// Longer than any machine is too busy for a sign of life.
const LONG: Duration = Duration::from_secs(8);
/// The lease of a child, in seconds.
const CHILDS: &str = "ROWHOUSE_TEST_LEASE";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn runtime(home: &Path) -> Runtime {
    Runtime::builder(Home::at(home))
        .domain(Domain::state())
        .domain(Domain::goals())
        .open()
        .expect("a runtime")
}

fn store(home: &Path) -> ServerThreadStore {
    let childs = std::env::var(CHILDS).map(|text| Duration::from_secs(text.parse().expect("seconds")));
    ServerThreadStore::with_lease(&runtime(home), childs.unwrap_or(SHORT)).expect("a store")
}

/// A session in a process of its own that begins a thread, with a lease of some seconds.
fn session(home: &Path, lease: Duration) -> (Child, String) {
    let lease = lease.as_secs().to_string();
    let mut child = Child::start_in("session", &[text(home), "new"], &[(CHILDS, &lease)]);
    let thread = child.wait_for("has");
    child.tell("one 0");
    child.wait_for("said");
    (child, thread)
}

/// A new database, and so many homes on it.
fn homes<const N: usize>() -> (String, [tempfile::TempDir; N]) {
    let database = shared().new_database();
    let home = || {
        let home = processes::folder();
        configure(home.path(), &shared().url("app", &database));
        home
    };
    let homes = std::array::from_fn(|_| home());
    (database, homes)
}

fn client(database: &str) -> Client {
    let mut client = shared().client(database);
    client.batch_execute("SET search_path = rowhouse_state").expect("the schema");
    client
}

fn message(words: &str) -> Item {
    Item::new("event_msg", &json!({"type": "agent_message", "message": words})).expect("an item")
}

fn words(item: &Item) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(item.text()).expect("JSON");
    Some(line["payload"]["message"].as_str()?.to_owned())
}

/// What was said in a thread, in its order.
fn said(store: &dyn ThreadStore, thread: &str) -> Vec<String> {
    let items = store.load_history(thread).expect("a history");
    items.filter_map(|item| words(&item.expect("an item"))).collect()
}

/// What somebody said first, and answered so often.
fn numbered(name: &str, up_to: usize) -> Vec<String> {
    (0..up_to).map(|number| format!("{name} {number}")).collect()
}

/// Asks until it is so.
fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, Error>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < end, "{what}: {error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (role, home) = (arguments[0], Path::new(arguments[1]));
    let store = store(home);
    match role {
        // Resumes a thread, or begins one; appends when told, and says what came of it.
        "session" => {
            let thread = match arguments[2] {
                "new" => store.create(&NewRollout::default()).expect("begun"),
                thread => {
                    store.resume(thread).expect("resumed");
                    thread.to_owned()
                }
            };
            say(&format!("has {thread}"));
            loop {
                match listen().as_str() {
                    "" => break,
                    "wanted" => say(&format!("wanted {}", store.is_wanted(&thread))),
                    words => match store.append_items(&thread, &[message(words)]) {
                        Ok(()) => say(&format!("said {words}")),
                        Err(error) => say(&format!("refused {} {error}", error.kind().as_str())),
                    },
                }
            }
        }
        // Says numbers in a thread of its own, some at a time, until it is ended.
        "count" => {
            let (name, most) = (arguments[2], arguments[3].parse::<usize>().expect("a number"));
            let thread = store.create(&NewRollout::default()).expect("begun");
            say(&format!("has {thread}"));
            processes::ready();
            let mut next = 0;
            while next < most {
                let some =
                    (next..most.min(next + 1 + next % 4)).map(|number| message(&format!("{name} {number}")));
                let some: Vec<_> = some.collect();
                let before = next;
                next += some.len();
                // What has no answer yet goes with a flush.
                let mut answer = store.append_items(&thread, &some);
                let end = Instant::now() + PATIENCE;
                while let Err(error) = answer {
                    assert!(Instant::now() < end, "{before}: {error}");
                    answer = store.flush(&thread);
                }
                say(&format!("said {next}"));
            }
            store.shutdown(&thread).expect("given back");
        }
        // Reads a history through, or whole; says how much memory that took.
        "read" => {
            let before = most_memory();
            let (mut read, mut all) = (0, Vec::new());
            for item in store.load_history(arguments[2]).expect("a history").skip(1) {
                let item = item.expect("an item");
                read += 1;
                assert!(
                    words(&item).expect("words").starts_with(&format!("{read} ")),
                    "in their order: {read}"
                );
                all.extend((arguments[3] == "whole").then_some(item));
            }
            say(&format!("read {read}"));
            say(&format!("took {}", most_memory() - before));
        }
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn a_program_asks_its_runtime_and_gets_the_store_of_its_home() {
    let (_, [home]) = homes();
    let there = runtime(home.path()).thread_store().expect("a store").capabilities();
    assert!(there.durable && !there.files && there.delete && there.fork && there.search && there.turns);
    let refused = LocalThreadStore::new(&runtime(home.path())).err().expect("no files here");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let local = processes::folder();
    let here = Runtime::open(Home::at(local.path())).expect("a runtime");
    assert!(here.thread_store().expect("a store").capabilities().files);
    let refused = ServerThreadStore::new(&here).err().expect("it is in files");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    for lease in [Duration::ZERO, Duration::from_hours(2)] {
        let refused = ServerThreadStore::with_lease(&runtime(home.path()), lease).err().expect("no lease");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
}

#[test]
fn a_thread_begun_in_one_home_is_gone_on_with_in_another() {
    let (_, [one, other]) = homes();
    let mut first = Child::start("session", &[text(one.path()), "new"]);
    let thread = first.wait_for("has");
    for words in numbered("one", 3) {
        first.tell(&words);
        first.wait_for("said");
    }
    first.finish();
    let here = store(other.path());
    assert_eq!(said(&here, &thread), numbered("one", 3));
    assert_eq!(here.list(&ThreadQuery::recent()).expect("a page").threads.len(), 1);
    let live = LiveThread::resume(std::sync::Arc::new(here.clone()), &thread).expect("resumed");
    live.append(&[message("two 0")]).expect("appended");
    live.close().expect("given back");
    let all = [numbered("one", 3), numbered("two", 1)].concat();
    assert_eq!(said(&store(one.path()), &thread), all);
    for home in [one, other] {
        let kept: Vec<_> = std::fs::read_dir(home.path()).expect("the home").flatten().collect();
        let is_data = |name: &str| name.contains("sqlite") || name.contains("sessions");
        assert!(kept.iter().all(|entry| !is_data(&entry.file_name().to_string_lossy())), "{kept:?}");
    }
}

/// Moves every writer of a thread to another machine, as far as anybody can tell.
fn elsewhere(client: &mut Client) {
    let moved = client.execute("UPDATE thread_writer SET host = 'far', boot_id = 'another'", &[]);
    assert!(moved.expect("moved") > 0);
}

#[test]
fn who_comes_second_is_told_who_is_first_and_on_which_host() {
    let (database, [one, other]) = homes();
    let (mut first, thread) = session(one.path(), LONG);
    let here = store(other.path());
    let pinned = rowhouse::stores::threads::ThreadPatch { is_pinned: Some(true), ..Default::default() };
    let refused = here.resume(&thread).expect_err("somebody has it");
    let pid = u32::try_from(first.pid()).expect("an id");
    assert_eq!((refused.kind(), refused.holder().map(|holder| holder.pid)), (ErrorKind::Conflict, Some(pid)));
    elsewhere(&mut client(&database));
    let errors = [
        here.resume(&thread).err(),
        here.update_metadata(&thread, &pinned).err(),
        here.archive(&thread).err(),
        here.delete(&thread, &DeleteOptions::default()).err(),
    ];
    for error in errors {
        let error = error.expect("refused");
        assert_eq!((error.kind(), error.holder()), (ErrorKind::Conflict, None), "{error}");
        assert!(error.to_string().contains("on host far"), "{error}");
    }
    // The owner learns that somebody waits, without asking the server itself.
    until("wanted", || {
        let _ = here.resume(&thread);
        first.tell("wanted");
        let wanted = first.wait_for("wanted");
        if wanted == "true" { Ok(()) } else { Err(Error::new(ErrorKind::Busy, wanted)) }
    });
    // Reading, listing and forking wait for nobody.
    assert_eq!(said(&here, &thread), ["one 0"]);
    let fork = here.fork(&thread, &ForkPoint::End, &NewRollout::default()).expect("forked");
    assert_eq!(said(&here, &fork), ["one 0"]);
    first.finish();
    here.resume(&thread).expect("its owner has ended, and gave it back");
}

/// A writer that does nothing keeps its threads for as long as it lives; one whose machine is gone, for a lease.
#[test]
fn an_idle_writer_keeps_its_thread_and_one_that_is_gone_for_a_lease() {
    let (database, [one, other]) = homes();
    let (mut idle, thread) = session(one.path(), LONG);
    let mut client = client(&database);
    elsewhere(&mut client);
    let here = store(other.path());
    let mut alive_until = || -> i64 {
        client
            .query_one("SELECT max(until) FROM thread_writer WHERE host = 'far'", &[])
            .expect("a time")
            .get(0)
    };
    // More than a lease by the server's clock.
    let first = alive_until();
    until("signs of life", || {
        assert_eq!(here.resume(&thread).expect_err("it lives").kind(), ErrorKind::Conflict);
        let longer = i64::try_from(LONG.as_millis()).expect("a number");
        if alive_until() > first + longer { Ok(()) } else { Err(Error::new(ErrorKind::Busy, "not yet")) }
    });
    idle.kill();
    let killed = Instant::now();
    assert_eq!(here.resume(&thread).expect_err("it may live").kind(), ErrorKind::Conflict);
    until("the end of the lease", || here.resume(&thread));
    assert!(killed.elapsed() >= LONG / 4, "not before the lease ended");
    assert_eq!(said(&here, &thread), ["one 0"]);
}

/// One that ended on this machine is known to be gone.
#[test]
fn a_process_that_died_here_holds_nobody_up() {
    let (_, [one, other]) = homes();
    let here =
        ServerThreadStore::with_lease(&runtime(other.path()), Duration::from_hours(1)).expect("a store");
    let (mut first, thread) = session(one.path(), SHORT);
    first.kill();
    here.resume(&thread).expect("at once");
}

/// A right to write whose taking was done and never answered, since the server went away, is of use to nobody, and its writer lives
/// on for other threads: it is given back as soon as the server can be told. Its own store may take it again at once.
///
/// Control: until then another store is refused.
#[test]
fn a_right_that_nobody_was_told_of_goes_back() {
    let (database, [home, elsewhere]) = homes();
    let wire = Wire::to(shared());
    let there = store(elsewhere.path());
    let mut threads = (0..2).map(|_| {
        let thread = there.create(&NewRollout::default()).expect("begun");
        there.append_items(&thread, &[message("one")]).expect("appended");
        there.shutdown(&thread).expect("given back");
        thread
    });
    let (one, other) = (threads.next().expect("the first"), threads.next().expect("the second"));

    configure(home.path(), &wire.url(&database));
    let mut limits = Limits::default();
    limits.deadline = Duration::from_secs(2);
    let runtime = Runtime::builder(Home::at(home.path())).domain(Domain::state()).limits(limits).open();
    // Whatever becomes free does not by the end of a lease.
    let here = ServerThreadStore::with_lease(&runtime.expect("a runtime"), Duration::from_hours(1));
    let here = here.expect("a store");
    let mine = here.create(&NewRollout::default()).expect("begun");
    here.append_items(&mine, &[message("one")]).expect("appended");

    for thread in [&one, &other] {
        wire.next_commit(Ending::CutAndDown);
        let unknown = here.resume(thread).expect_err("no answer");
        assert_eq!(unknown.kind(), ErrorKind::OutcomeUnknown, "{unknown}");
        let held = there.resume(thread).expect_err("it was taken");
        assert_eq!(held.kind(), ErrorKind::Conflict, "{held}");
        wire.heal();
        if thread == &one {
            until("given back", || there.resume(thread));
            there.append_items(thread, &[message("two")]).expect("appended");
        } else {
            until("taken again", || here.resume(thread));
            here.append_items(thread, &[message("two")]).expect("appended");
        }
        assert_eq!(said(&there, thread), ["one", "two"]);
    }
    here.append_items(&mine, &[message("two")]).expect("appended");
}

/// Appends as a program would that looks at numbers only: no token.
fn append_without_token(client: &mut Client, thread: &str, words: &str) {
    client
        .execute(
            "WITH moved AS (UPDATE thread_history SET items = items + 1 WHERE thread_id = $1 RETURNING items - 1 AS seq) \
             INSERT INTO thread_item SELECT $1, seq, 'event_msg', $2 FROM moved",
            &[&thread, &message(words).text().as_bytes()],
        )
        .expect("appended");
}

/// A writer that lost its thread while it was stopped appends nothing any more.
/// Control: the same two writers without the token in the statement write into each other.
#[test]
fn a_writer_that_lost_its_thread_cannot_write_between_anothers_items() {
    let (database, [one, other]) = homes();
    let (mut stopped, thread) = session(one.path(), SHORT);
    let mut client = client(&database);
    stopped.stop();
    elsewhere(&mut client);
    let here = store(other.path());
    until("the end of the lease", || here.resume(&thread));
    here.append_items(&thread, &[message("two 0")]).expect("appended");
    stopped.go_on();
    for _ in 0..2 {
        stopped.tell("one 1");
        let refused = stopped.wait_for("refused");
        assert!(refused.starts_with("conflict"), "{refused}");
    }
    here.append_items(&thread, &[message("two 1")]).expect("appended");
    assert_eq!(said(&here, &thread), ["one 0", "two 0", "two 1"]);
    stopped.finish();
    here.append_items(&thread, &[message("two 2")]).expect("what the other gave back was not this one's");

    let control = here.fork(&thread, &ForkPoint::End, &NewRollout::default()).expect("forked");
    append_without_token(&mut client, &control, "one 2");
    append_without_token(&mut client, &control, "two 3");
    append_without_token(&mut client, &control, "one 3");
    assert_eq!(said(&here, &control)[4..], ["one 2", "two 3", "one 3"], "nothing else would refuse it");
    let error = here.append_items(&control, &[message("two 4")]).expect_err("it notices");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// Two homes with four processes each append to threads of their own, some items at a time: each thread has all of its items
/// once and in order, though the server is stopped at once and started again while they do.
/// Scale: 8 processes, 300 items each; `ROWHOUSE_TEST_ROUNDS` restarts, 2 by default.
#[test]
fn two_homes_of_four_processes_keep_the_order_of_every_thread_while_the_server_restarts() {
    const ITEMS: usize = 300;
    let server = engines::server::Server::start();
    let database = server.new_database();
    let homes = [processes::folder(), processes::folder()];
    for home in &homes {
        configure(home.path(), &server.url("app", &database));
    }
    let mut children = Vec::new();
    for (number, home) in homes.iter().cycle().take(8).enumerate() {
        children.push(Child::start("count", &[text(home.path()), &number.to_string(), &ITEMS.to_string()]));
    }
    let threads: Vec<String> = children.iter().map(|child| child.wait_for("has")).collect();
    processes::start_together(&mut children);
    for _ in 0..processes::rounds(2) {
        // In the middle of their work.
        for child in &children {
            child.wait_for("said");
            child.wait_for("said");
        }
        server.crash();
    }
    children.into_iter().for_each(Child::finish);
    let here = store(homes[0].path());
    for (number, thread) in threads.iter().enumerate() {
        assert_eq!(said(&here, thread), numbered(&number.to_string(), ITEMS), "thread {number}");
    }
    let mut client = server.client(&database);
    let gaps = "SELECT count(*) FROM rowhouse_state.thread_history AS h WHERE items <> \
                (SELECT count(*) FROM rowhouse_state.thread_item AS i WHERE i.thread_id = h.thread_id AND seq < items)";
    assert_eq!(client.query_one(gaps, &[]).expect("a count").get::<_, i64>(0), 0);
}

/// A writer is killed in the middle of its work; what it was told is there is there, and another one goes on behind it.
#[test]
fn what_was_acknowledged_before_a_kill_is_there_and_is_gone_on_with() {
    let (_, [one, other]) = homes();
    let here = store(other.path());
    for round in 0..processes::rounds(5) {
        let mut writer = Child::start("count", &[text(one.path()), "one", "100000"]);
        let thread = writer.wait_for("has");
        writer.wait_for("ready");
        writer.tell("go");
        let mut acknowledged = 0;
        for _ in 0..5 + 3 * round {
            acknowledged = writer.wait_for("said").parse().expect("a number");
        }
        writer.kill();
        here.resume(&thread).expect("nobody has it any more");
        let kept = said(&here, &thread);
        assert!(kept.len() >= acknowledged, "{} of {acknowledged}", kept.len());
        assert_eq!(kept, numbered("one", kept.len()));
        here.append_items(&thread, &[message("two")]).expect("appended");
        assert_eq!(said(&here, &thread).last().map(String::as_str), Some("two"));
        here.shutdown(&thread).expect("given back");
    }
}

#[test]
fn what_was_appended_comes_back_byte_for_byte() {
    let (_, [home]) = homes();
    let here = store(home.path());
    let thread = here.create(&NewRollout::default()).expect("begun");
    let long = format!(r#"{{"type":"later","payload":"{}"}}"#, "\u{65e5}\\u0000".repeat(200_000));
    let lines = [
        r#"{ "type":"later", "payload" : {"n": 1.10, "b":"\u0041\u0000\ud800"} }"#,
        "{\"type\":\"a\\u0000b\"}\r",
        "{\"type\":\"\u{10ffff}\",\"payload\":\"\u{fffd}\u{202e}\"}",
        r#"{"type":"event_msg","payload":{"type":"task_started","turn_id":"t\u0000"}}"#,
        r#"{"type":"event_msg","payload":{"type":"user_message","message":"\u0000 Fix \u0000 it"}}"#,
        long.as_str(),
    ];
    let items: Vec<_> = lines.iter().map(|line| Item::line(*line).expect("a line")).collect();
    here.append_items(&thread, &items).expect("appended");
    let back: Vec<_> =
        here.load_history(&thread).expect("a history").map(|item| item.expect("an item")).collect();
    assert_eq!(back[1..], items);
    let page = here.list_turns(&thread, &TurnQuery::new().items(ItemsView::Full)).expect("turns");
    assert_eq!(page.turns[0].items.len(), 3);
    here.shutdown(&thread).expect("given back");
    assert_eq!(here.read(&thread).expect("a row").title.as_deref(), Some("Fix it"));
}

/// Bytes of this process that were in memory at most so far.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// A history is read page by page, whatever its length.
/// Scale: 30,000 items of 2 kB; `ROWHOUSE_TEST_ITEMS` for more.
/// Control: the same items kept by the caller take their room.
#[test]
fn a_long_history_is_read_in_little_memory() {
    let items = std::env::var("ROWHOUSE_TEST_ITEMS").map_or(30_000, |text| text.parse().expect("a number"));
    let (database, [home]) = homes();
    let here = store(home.path());
    let thread = here.create(&NewRollout::default()).expect("begun");
    here.persist(&thread).expect("there");
    client(&database)
        .batch_execute(&format!(
            "INSERT INTO thread_item SELECT '{thread}', n, 'event_msg', convert_to('{{\"type\":\"event_msg\",\"payload\":\
             {{\"type\":\"agent_message\",\"message\":\"' || n || ' {}\"}}}}', 'UTF8') FROM generate_series(1, {items}) AS n; \
             UPDATE thread_history SET items = {items} + 1 WHERE thread_id = '{thread}'; ANALYZE",
            "x".repeat(1_900)
        ))
        .expect("items");
    let size = 1_900 * items;
    here.shutdown(&thread).expect("given back");
    // In a process of their own: nobody else's memory counts.
    let taken = |how: &str| -> usize {
        let reader = Child::start("read", &[text(home.path()), &thread, how]);
        assert_eq!(reader.wait_for("read"), items.to_string());
        reader.wait_for("took").parse().expect("a number")
    };
    let (streamed, kept) = (taken("through"), taken("whole"));
    assert!(streamed < size / 3 && kept > size / 2, "{streamed} and {kept} of {size}");
}

/// A deletion that was cut short is finished by the next store, on whatever machine.
#[test]
fn a_deletion_that_was_cut_short_is_finished_elsewhere() {
    use rowhouse::stores::goals::NewGoal;
    let (database, [one, other]) = homes();
    let here = store(one.path());
    let thread = here.create(&NewRollout::default()).expect("begun");
    here.append_items(&thread, &[message("one")]).expect("appended");
    here.runtime().goals().replace(&thread, &NewGoal::new("Ship it")).expect("a goal");
    let mut client = client(&database);
    // What a program leaves that died between the rows and the goal; a minute ago.
    client
        .batch_execute(&format!(
            "INSERT INTO tombstone VALUES ('{thread}', NULL, 1); DELETE FROM thread WHERE id = '{thread}'; \
             DELETE FROM thread_item; DELETE FROM thread_history"
        ))
        .expect("half deleted");
    let again = NewRollout { id: Some(thread.clone()), ..NewRollout::default() };
    let refused = here.append_items(&thread, &[message("two")]).expect_err("it is gone");
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert_eq!(here.create(&again).expect_err("it is being deleted").kind(), ErrorKind::Conflict);
    let there = store(other.path());
    assert_eq!(there.runtime().goals().get(&thread).expect("read"), None);
    there.create(&again).expect("its id is free");
    there.append_items(&thread, &[message("three")]).expect("appended");
    assert_eq!(said(&there, &thread), ["three"]);
}
