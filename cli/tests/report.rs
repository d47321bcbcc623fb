//! `rowhouse report`: one page that needs nothing else and runs nothing, whatever names it is made of.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{document, rowhouse};
use rowhouse::{Domain, Home, Migration, Runtime};
use roxmltree::{Document, ParsingOptions};
use serde_json::{Value, json};

const HOSTILE: &str = "</text><script>alert('x')</script>&amp;\"'";
const SCHEMA: &[Migration] = &[Migration {
    name: "V1__tables",
    sql: "CREATE TABLE \"</text><script>alert('x')</script>&amp;\"\"'\"(body TEXT PRIMARY KEY);
          CREATE TABLE small(body TEXT)",
}];

struct Place {
    folder: tempfile::TempDir,
    home: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("a <b>&'home'");
        Self { folder, home }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("report.html")
    }

    /// Makes the page; answers what the command told, and the page.
    fn report(&self, more: &[&str]) -> (Value, String) {
        let file = self.file().display().to_string();
        let (code, told) = document(&self.home, &[&["report", "--html", &file, "--force"], more].concat());
        assert_eq!(code, Some(0), "{told}");
        (told, fs::read_to_string(self.file()).expect("the page"))
    }
}

/// The page as XML, in which everything is closed and nested as it should be.
fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{error}\n{page}"))
}

fn open(home: &Path) -> (Runtime, rowhouse::Database) {
    let cache = Domain::new("cache").migrations(SCHEMA);
    let runtime = Runtime::builder(Home::at(home)).domain(cache).open().expect("opened");
    let database = runtime.database("cache").expect("the domain");
    (runtime, database)
}

#[test]
fn the_page_is_whole_and_what_a_name_holds_is_no_markup() {
    let place = Place::new();
    let (_runtime, cache) = open(&place.home);
    for number in 0..300 {
        let sql = "INSERT INTO \"</text><script>alert('x')</script>&amp;\"\"'\" VALUES (?1)";
        cache.write(|tx| tx.execute(sql, [format!("{number}{}", "x".repeat(500))])).expect("written");
    }
    let (told, page) = place.report(&[]);
    let findings = told["findings"].as_array().expect("findings");
    assert!(findings.iter().all(|finding| finding["database"] != "cache"), "{told}");
    assert_eq!(told["bytes"], page.len(), "{told}");
    let parsed = parsed(&page);
    let is = |name: &'static str| parsed.descendants().filter(move |node| node.has_tag_name(name));
    assert_eq!((is("script").count(), is("b").count()), (0, 0), "names became markup");
    let titles: Vec<_> = is("h2").filter_map(|node| node.text()).collect();
    assert_eq!(
        titles,
        ["Findings", "Databases", "Sizes by table", "Growth", "Write times", "Write-ahead logs", "Processes"]
    );
    assert!(is("title").any(|title| title.text().is_some_and(|text| text.starts_with(HOSTILE))), "the table");
    let own = std::process::id().to_string();
    assert!(is("td").any(|cell| cell.text() == Some(&own)), "this process");
    assert!(page.contains("300 batches") || page.contains("301 batches"), "{page}");
    assert!(is("svg").all(|svg| svg.attribute("aria-label").is_some() && svg.attribute("viewBox").is_some()));
}

#[test]
fn the_page_does_not_name_the_users_folder_when_it_is_a_link() {
    let place = Place::new();
    drop(open(&place.home));
    let link = place.folder.path().join("linked");
    std::os::unix::fs::symlink(place.folder.path(), &link).expect("a link");
    let status = std::process::Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .arg("--home")
        .arg(&place.home)
        .args(["report", "--html"])
        .arg(place.file())
        .env("HOME", &link)
        .env_remove("ROWHOUSE_HOME")
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("it runs").success());
    let page = fs::read_to_string(place.file()).expect("the page");
    let own = place.folder.path().file_name().expect("a name").to_str().expect("plain");
    assert!(!page.contains(own), "{page}");
}

#[test]
fn the_page_loads_and_runs_nothing() {
    let place = Place::new();
    drop(open(&place.home));
    let (_, page) = place.report(&[]);
    let parsed = parsed(&page);
    for node in parsed.descendants().filter(roxmltree::Node::is_element) {
        assert!(!["script", "link", "img", "iframe", "object", "form"].contains(&node.tag_name().name()));
        for attribute in node.attributes() {
            let name = attribute.name();
            assert!(
                !["src", "href", "srcset", "action"].contains(&name) && !name.starts_with("on"),
                "{name}"
            );
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains("http://"), "{page}");
    assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("width=device-width"));
}

#[test]
fn sizes_that_were_kept_become_a_line() {
    let place = Place::new();
    drop(open(&place.home));
    let (_, page) = place.report(&["--no-sample"]);
    assert!(page.contains("nothing to compare with") && !place.home.join("sizes.jsonl").exists());
    place.report(&[]);
    place.report(&[]);
    let kept = fs::read_to_string(place.home.join("sizes.jsonl")).expect("kept");
    assert_eq!(kept.lines().count(), 1, "the second came too soon after: {kept}");
    let line = |day: i64| {
        let at = jiff::Timestamp::from_second(1_600_000_000 + day * 86_400).expect("a day");
        json!({ "at": at.to_string(), "bytes": { "cache": 1000 * day, "gone": 5 } }).to_string()
    };
    let earlier = (0..600).map(line).collect::<Vec<_>>().join("\n");
    let future = json!({ "at": "2999-01-01T00:00:00Z", "bytes": { "cache": 1 } });
    fs::write(place.home.join("sizes.jsonl"), format!("{earlier}\nno JSON\n{future}\n")).expect("written");
    let (_, page) = place.report(&[]);
    let parsed = parsed(&page);
    let line = parsed.descendants().find(|node| node.has_tag_name("polyline")).expect("a line");
    let points: Vec<f64> = line
        .attribute("points")
        .expect("points")
        .split(' ')
        .map(|point| point.split_once(',').expect("two").0.parse().expect("a number"))
        .collect();
    assert!(points.len() > 400 && points.is_sorted(), "{points:?}");
    let kept = fs::read_to_string(place.home.join("sizes.jsonl")).expect("kept");
    assert!(kept.lines().count() <= 500, "{}", kept.lines().count());
}

#[test]
fn a_backup_tells_sizes_too() {
    let place = Place::new();
    drop(open(&place.home));
    assert_eq!(rowhouse(&place.home, &["backup"]).0, Some(0));
    let (_, page) = place.report(&["--no-sample"]);
    assert!(page.contains("polyline") && page.contains("2 samples"), "{page}");
}

#[test]
fn what_is_broken_is_a_finding_and_keeps_nothing_from_being_shown() {
    let place = Place::new();
    drop(open(&place.home));
    for name in ["cache.sqlite-wal", "cache.sqlite-shm"] {
        let _ = fs::remove_file(place.home.join(name));
    }
    fs::write(place.home.join("cache.sqlite"), [b'x'; 8192]).expect("broken");
    fs::write(place.home.join("registry.json"), "{").expect("broken");
    let (told, page) = place.report(&[]);
    assert_eq!(told["status"], "fail", "{told}");
    let findings = told["findings"].as_array().expect("findings");
    assert_eq!(
        (&findings[0]["level"], &findings[0]["database"]),
        (&json!("fail"), &json!("cache")),
        "{told}"
    );
    assert!(parsed(&page).descendants().any(|node| node.attribute("class") == Some("fail")));
    let (code, told) = document(&place.home, &["report", "--html", "/dev/null"]);
    assert_eq!((code, &told["error"]["kind"]), (Some(1), &json!("invalid")), "{told}");
}

/// Control: the length of the file, which says the same before and after.
#[test]
fn a_log_is_shown_by_what_is_not_in_its_database_yet() {
    let place = Place::new();
    let (_runtime, cache) = open(&place.home);
    cache.write(|tx| tx.execute("INSERT INTO small VALUES (zeroblob(1000000))", [])).expect("written");
    let file = || fs::metadata(place.home.join("cache.sqlite-wal")).expect("a log").len();
    let length = file();
    let lag = |page: &str| {
        let parsed = parsed(page);
        let mut lines =
            parsed.descendants().filter(|node| node.has_tag_name("li")).filter_map(|node| node.text());
        let line = lines.find(|text| text.starts_with("cache: "));
        line.expect("a line for the log").to_owned()
    };
    let before = lag(&place.report(&["--no-sample"]).1);
    assert!(!before.contains(": 0 pages") && before.contains(" in a file of "), "{before}");
    let other = rowhouse::rusqlite::Connection::open(place.home.join("cache.sqlite")).expect("opened");
    other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("worked off");
    let after = lag(&place.report(&["--no-sample"]).1);
    assert!(after.starts_with("cache: 0 pages, 0 B in a file of "), "{after}");
    assert_eq!(file(), length, "the control");
}

#[test]
fn a_home_without_databases_has_a_page() {
    let place = Place::new();
    let (told, page) = place.report(&[]);
    assert!(
        told["findings"].as_array().expect("findings").iter().any(|of| of["id"] == "home.folder"),
        "{told}"
    );
    parsed(&page);
    assert!(page.contains("There are none in this home yet") && !place.home.exists());
}
