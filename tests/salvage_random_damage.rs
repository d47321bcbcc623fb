//! Whatever happened to a file, the salvage ends, invents no row, brings none back that was deleted, and keeps the rest.
//!
//! `ROWHOUSE_TEST_ROUNDS` files (default 60) of six schemas are damaged at random, with a fixed seed. With
//! `ROWHOUSE_SALVAGE_SHELL` set to an `sqlite3` with `.recover`, both are shown side by side, as `scripts/salvage.sh`
//! does, and no file may give fewer rows than `.recover` puts into the right tables. `ROWHOUSE_TEST_SEED` runs one file
//! and leaves it, and its original, in the temporary folder.
//!
//! How rows are counted, the same for both: a row is kept when it is in its table with every value right.
//! - `altered`: its own bytes were changed in place, and it reads as they are now. SQLite keeps no checksums.
//! - `moved`: the damage put a whole page of deleted rows where a living page was.
//! - `by chance`: of `.recover`'s rows where it has more, those whose bytes are not whole in the file; it takes NULL for what is missing.
//! - `lost_and_found`: rows that `.recover` could not give a table, and that only the original tells where to put.
#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "a test's own database")]

mod salvage;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rowhouse::rusqlite::Connection;
use rowhouse::rusqlite::types::Value;
use salvage::{ACCIDENTS, Damaged, Kept, Original, Random, SUBJECTS, TableFacts, cell, identity, owned};

/// Far more than a file of these sizes takes; a salvage that takes longer hangs.
const HANG: Duration = Duration::from_secs(30);

fn rounds() -> usize {
    std::env::var("ROWHOUSE_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60)
}

/// Rows of the original, by what they are, each to be found once.
struct Expected<'a> {
    left: HashMap<(&'a str, Vec<u8>), usize>,
}

impl<'a> Expected<'a> {
    fn new(original: &'a Original) -> Self {
        let mut left = HashMap::new();
        for (table, rows) in &original.rows {
            for row in rows {
                *left.entry((*table, identity(row.rowid, &row.values))).or_insert(0) += 1;
            }
        }
        Self { left }
    }

    /// Takes a row out; false when it is not there, or not any more.
    fn take(&mut self, table: &'a str, row: &Kept) -> bool {
        match self.left.get_mut(&(table, identity(row.rowid, &row.values))) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Why a row that was not there is no invention.
enum Excuse {
    /// Its own bytes were changed where it stands, and it reads as they are now: nothing in the file tells.
    Altered,
    /// The damage itself put a page of deleted rows whole into the place of a living one.
    Moved,
}

fn excuse(original: &Original, damaged: &Damaged, table: &TableFacts, row: &Kept) -> Option<Excuse> {
    let mut fields = row.values.clone();
    let mut rowid = row.rowid.or(table.without_rowid.then_some(0));
    if let Some(alias) = table.alias {
        let Value::Integer(id) = fields[alias] else { return None };
        rowid = Some(id);
        fields[alias] = Value::Null;
    }
    let rowid = rowid.filter(|_| !table.without_rowid);
    let stored = &original.stored[table.name];
    excuse_cell(original, damaged, stored, rowid, &fields)
}

fn excuse_cell(
    original: &Original,
    damaged: &Damaged,
    stored: &[(i64, Vec<Value>)],
    rowid: Option<i64>,
    fields: &[Value],
) -> Option<Excuse> {
    let size = original.page_size;
    let now = cell(rowid, fields, size);
    let was: Vec<Vec<u8>> = stored
        .iter()
        .map(|(id, values)| cell(rowid.map(|_| *id), values, size))
        .filter(|was| was.len() == now.len())
        .collect();
    let same = |at: &usize| damaged.bytes[*at..].starts_with(&now);
    let mut places = (0..=damaged.bytes.len().saturating_sub(now.len())).filter(same);
    places.find_map(|place| {
        let page = place / size;
        let before = damaged.from[page] * size + place % size;
        if was.iter().any(|was| original.bytes[before..].starts_with(was)) {
            return Some(Excuse::Altered);
        }
        (damaged.from[page] != page && original.bytes[before..].starts_with(&now)).then_some(Excuse::Moved)
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    files: usize,
    rows: usize,
    kept: usize,
    altered: usize,
    moved: usize,
    recovered: usize,
    found: usize,
    by_chance: usize,
    fewer: usize,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.files += other.files;
        self.rows += other.rows;
        self.kept += other.kept;
        self.altered += other.altered;
        self.moved += other.moved;
        self.recovered += other.recovered;
        self.found += other.found;
        self.by_chance += other.by_chance;
        self.fewer += other.fewer;
    }
}

fn salvage_one(original: &Original, damaged: &Damaged, path: &Path, name: &str) -> Tally {
    let tables: HashMap<String, TableFacts> =
        original.subject.tables().into_iter().map(|table| (table.name.to_owned(), table)).collect();
    let mut expected = Expected::new(original);
    let mut tally = Tally { files: 1, rows: original.count(), ..Tally::default() };
    let begun = Instant::now();
    let report = rowhouse::salvage::salvage(path, None, &original.known(), |row| {
        let kept = Kept { rowid: row.rowid, values: row.values.iter().map(|value| owned(*value)).collect() };
        let table = tables.get(row.table).unwrap_or_else(|| panic!("{name}: rows of {}", row.table));
        if expected.take(table.name, &kept) {
            tally.kept += 1;
        } else {
            match excuse(original, damaged, table, &kept) {
                Some(Excuse::Altered) => tally.altered += 1,
                Some(Excuse::Moved) => tally.moved += 1,
                None if seed_named() => {
                    let id = kept.values[0].clone();
                    let was = original.rows[table.name]
                        .iter()
                        .find(|row| row.values[0] == id || row.rowid == kept.rowid && row.rowid.is_some());
                    panic!("{name}: invented in {}: {}\nwas {:?}", row.table, shown(&kept), was.map(shown))
                }
                None => panic!("{name}: invented in {}: {}", row.table, shown(&kept)),
            }
        }
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(begun.elapsed() < HANG, "{name}: {:?}", begun.elapsed());
    assert_eq!(report.kept() as usize, tally.kept + tally.altered + tally.moved, "{name}: {report:?}");
    if seed_named() {
        println!("{report:#?}\nnot kept:");
        for (table, rows) in &original.rows {
            for row in rows {
                if expected.take(table, row) {
                    println!("{table} {}", shown(row));
                }
            }
        }
    }
    tally
}

fn seed_named() -> bool {
    std::env::var_os("ROWHOUSE_TEST_SEED").is_some()
}

fn shown(row: &Kept) -> String {
    format!("{row:?}").chars().take(400).collect()
}

/// What `.recover` makes of the file: rows in the right table, and rows of `lost_and_found` that, with the original at
/// hand, can be told a table. A row counts when all its values are right, as it does for the salvage.
///
/// And of those in the right table, rows whose own bytes are not whole in the file any more: `.recover` reads what does
/// not fit as NULL, and was right by chance.
fn recover(
    shell: &str,
    original: &Original,
    damaged: &Damaged,
    path: &Path,
    folder: &Path,
    kept: usize,
) -> (usize, usize, usize) {
    let out = folder.join("recovered.sqlite");
    let _ = std::fs::remove_file(&out);
    let mut reader = Command::new(shell)
        .args([path.as_os_str(), ".recover".as_ref()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the shell");
    let sql = reader.stdout.take().expect("its output");
    let written = Command::new(shell)
        .arg(&out)
        .stdin(sql)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the shell");
    let _ = (reader.wait(), written);
    let db = Connection::open(&out).expect("what it recovered");
    let mut expected = Expected::new(original);
    let (mut in_tables, mut recovered) = (0, Vec::new());
    for table in original.subject.tables() {
        for row in salvage::read(&db, &table) {
            if expected.take(table.name, &row) {
                in_tables += 1;
                recovered.push((table, row));
            }
        }
    }
    let mut by_fields: HashMap<Vec<u8>, (&str, &Kept)> = HashMap::new();
    for table in original.subject.tables() {
        for ((rowid, fields), row) in original.stored[table.name].iter().zip(&original.rows[table.name]) {
            let rowid = (!table.without_rowid).then_some(*rowid);
            by_fields.insert(identity(rowid, fields), (table.name, row));
        }
    }
    let mut found = 0;
    if let Ok(mut all) = db.prepare("SELECT * FROM lost_and_found") {
        let width = all.column_count();
        let mut rows = all.query([]).expect("rows");
        while let Ok(Some(row)) = rows.next() {
            let fields: usize = row.get::<_, i64>("nfield").unwrap_or(0) as usize;
            let values: Vec<Value> =
                (4..width.min(4 + fields)).map(|at| row.get(at).unwrap_or(Value::Null)).collect();
            if let Some((table, kept)) = by_fields.get(&identity(row.get("id").ok().flatten(), &values)) {
                found += usize::from(expected.take(table, kept));
            }
        }
    }
    // Only asked where it decides.
    let by_chance = if in_tables > kept {
        recovered.iter().filter(|(table, row)| !stands_whole(original, damaged, table, row)).count()
    } else {
        0
    };
    (in_tables, found, by_chance)
}

/// The cell of a row is where it was, as it was written.
fn stands_whole(original: &Original, damaged: &Damaged, table: &TableFacts, row: &Kept) -> bool {
    let at = original.rows[table.name].iter().position(|was| was == row).expect("it was there");
    let (rowid, fields) = &original.stored[table.name][at];
    let was = cell((!table.without_rowid).then_some(*rowid), fields, original.page_size);
    let size = original.page_size;
    // On a free page may be an older copy.
    let page = |number: usize, of: &[u8]| of.get((number - 1) * size..number * size).map(<[u8]>::to_vec);
    let places = original.leaves.iter().filter_map(|leaf| {
        let bytes = page(*leaf, &original.bytes)?;
        bytes.windows(was.len()).position(|bytes| bytes == was).map(|at| (*leaf, at))
    });
    places.into_iter().any(|(leaf, at)| {
        let copies = (1..=damaged.from.len()).filter(|number| damaged.from[number - 1] == leaf - 1);
        copies
            .into_iter()
            .any(|number| page(number, &damaged.bytes).is_some_and(|bytes| bytes[at..].starts_with(&was)))
    })
}

#[test]
fn no_damage_makes_it_stop_or_invent() {
    let folder = tempfile::tempdir().expect("a folder");
    let shell = std::env::var("ROWHOUSE_SALVAGE_SHELL").ok();
    let seed: Option<usize> = std::env::var("ROWHOUSE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut fewer = Vec::new();
    for round in seed.map_or(0..rounds(), |seed| seed..seed + 1) {
        let mut random = Random(round as u64 * 7919);
        let subject = SUBJECTS[round % SUBJECTS.len()];
        let page_size = [4096, 1024, 512, 4096, 8192][random.below(5)];
        let auto_vacuum = random.below(4) > 0;
        let rows = 40 + random.below(400);
        let original = Original::make(folder.path(), subject, page_size, auto_vacuum, rows, round as u64);
        let mut damaged = Damaged::new(&original);
        let kind = (round / SUBJECTS.len()) % (ACCIDENTS.len() + 1);
        if kind == ACCIDENTS.len() {
            for _ in 0..2 + random.below(3) {
                let kind = random.below(ACCIDENTS.len());
                damaged.strike(&original, kind, &mut random);
            }
            damaged.what = "several";
        } else {
            damaged.strike(&original, kind, &mut random);
        }
        let path = damaged.write(folder.path());
        let name =
            format!("seed {round}, {subject:?}, {page_size}, auto_vacuum {auto_vacuum}, {}", damaged.what);
        if seed.is_some() {
            let moved = damaged.from.iter().enumerate().filter(|(page, from)| page != *from);
            println!("{name}, moved {:?}", moved.collect::<Vec<_>>());
            let keep = |name: &str| std::env::temp_dir().join(format!("salvage-seed-{round}-{name}.sqlite"));
            std::fs::copy(&path, keep("damaged")).expect("kept");
            std::fs::write(keep("original"), &original.bytes).expect("kept");
        }
        let mut tally = salvage_one(&original, &damaged, &path, &name);
        if let Some(shell) = &shell {
            (tally.recovered, tally.found, tally.by_chance) =
                recover(shell, &original, &damaged, &path, folder.path(), tally.kept);
            if tally.kept < tally.recovered - tally.by_chance {
                tally.fewer = 1;
                fewer.push(format!("{name}: {} of {}, .recover {}", tally.kept, tally.rows, tally.recovered));
            }
        }
        if seed.is_some() {
            println!("{name}: {tally:?}");
        }
        tallies.entry(damaged.what).or_default().add(tally);
    }
    print(&tallies, shell.is_some());
    assert!(fewer.is_empty(), "fewer than .recover:\n{}", fewer.join("\n"));
}

fn print(tallies: &BTreeMap<&str, Tally>, compared: bool) {
    println!(
        "{:<20}{:>6}{:>9}{:>9}{:>9}{:>7}{:>10}{:>10}{:>16}{:>7}",
        "damage",
        "files",
        "rows",
        "kept",
        "altered",
        "moved",
        ".recover",
        "by chance",
        "lost_and_found",
        "fewer"
    );
    let mut all = Tally::default();
    let line = |what: &str, tally: &Tally| {
        let Tally { files, rows, kept, altered, moved, recovered, found, by_chance, fewer } = tally;
        let [recovered, by_chance, found] =
            [recovered, by_chance, found].map(|count| if compared { count.to_string() } else { "-".into() });
        println!(
            "{what:<20}{files:>6}{rows:>9}{kept:>9}{altered:>9}{moved:>7}{recovered:>10}{by_chance:>10}{found:>16}{fewer:>7}"
        );
    };
    for (what, tally) in tallies {
        line(what, tally);
        all.add(*tally);
    }
    line("all", &all);
}

/// Undamaged, every row comes back, of every schema and page size.
#[test]
fn an_undamaged_file_gives_every_row() {
    let folder = tempfile::tempdir().expect("a folder");
    for subject in SUBJECTS {
        for page_size in [512, 1024, 4096, 65_536] {
            for auto_vacuum in [true, false] {
                let original = Original::make(folder.path(), subject, page_size, auto_vacuum, 250, 1);
                let damaged = Damaged::new(&original);
                let path = damaged.write(folder.path());
                let name = format!("{subject:?} {page_size} {auto_vacuum}");
                let tally = salvage_one(&original, &damaged, &path, &name);
                if let Ok(shell) = std::env::var("ROWHOUSE_SALVAGE_SHELL") {
                    // The comparison is fair: here both find all.
                    let recovered = recover(&shell, &original, &damaged, &path, folder.path(), tally.rows);
                    assert_eq!(recovered, (tally.rows, 0, 0), "{name}");
                }
                assert_eq!((tally.kept, tally.altered), (tally.rows, 0), "{name}");
            }
        }
    }
}
