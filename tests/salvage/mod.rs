//! What the tests of the salvage share: databases to damage, what they held, and a seeded source of accidents.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "a test's own database")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use rowhouse::rusqlite::types::{Value, ValueRef};
use rowhouse::rusqlite::{Connection, params, params_from_iter};
use rowhouse::salvage::Known;

/// splitmix64: the same accidents for the same seed, on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn word(&mut self, letters: usize) -> String {
        (0..letters).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

/// A row as the salvage gives it: the rowid where no column shows it, and the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub rowid: Option<i64>,
    pub values: Vec<Value>,
}

/// A value that can be a key of a map: type and bytes.
pub fn identity(rowid: Option<i64>, values: &[Value]) -> Vec<u8> {
    let mut bytes = format!("{rowid:?}").into_bytes();
    for value in values {
        match value {
            Value::Null => bytes.push(0),
            Value::Integer(whole) => bytes.extend([&[1], &whole.to_be_bytes()[..]].concat()),
            Value::Real(number) => bytes.extend([&[2], &number.to_be_bytes()[..]].concat()),
            Value::Text(text) => {
                bytes.extend([&[3], &text.len().to_be_bytes()[..], text.as_bytes()].concat());
            }
            Value::Blob(blob) => bytes.extend([&[4], &blob.len().to_be_bytes()[..], blob].concat()),
        }
    }
    bytes
}

pub fn owned(value: ValueRef<'_>) -> Value {
    Value::try_from(value).expect("UTF-8")
}

/// A table of a subject, as far as the tests must know it apart from the code under test.
#[derive(Clone, Copy, Debug)]
pub struct TableFacts {
    pub name: &'static str,
    /// The column that is the rowid.
    pub alias: Option<usize>,
    pub without_rowid: bool,
    /// The columns that are given and stored, in SQL.
    pub columns: &'static str,
}

impl TableFacts {
    const fn plain(name: &'static str, alias: Option<usize>, columns: &'static str) -> Self {
        Self { name, alias, without_rowid: false, columns }
    }

    pub fn hides_rowid(&self) -> bool {
        self.alias.is_none() && !self.without_rowid
    }
}

/// A schema and its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    State,
    Logs,
    Goals,
    Keys,
    Mixed,
    Many,
}

pub const SUBJECTS: [Subject; 6] =
    [Subject::State, Subject::Logs, Subject::Goals, Subject::Keys, Subject::Mixed, Subject::Many];

const MIXED: &str = "
    CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT NOT NULL, body BLOB, weight REAL);
    CREATE TABLE pair(owner TEXT NOT NULL COLLATE NOCASE, at INTEGER NOT NULL, body TEXT,
                      PRIMARY KEY (owner, at DESC)) WITHOUT ROWID;
    CREATE TABLE part(id TEXT PRIMARY KEY, data BLOB) STRICT, WITHOUT ROWID;
    CREATE TABLE bag(kind, thing, more, even_more);
    CREATE TABLE made(a INTEGER NOT NULL, b TEXT CHECK (length(b) > 2),
                      half REAL GENERATED ALWAYS AS (a / 2.0) VIRTUAL);
    CREATE INDEX note_title ON note(title);
    CREATE INDEX pair_body ON pair(body);
    CREATE INDEX bag_thing ON bag(thing, kind);";

/// Thirty tables, each of another shape.
fn many() -> (String, Vec<TableFacts>) {
    let mut sql = String::new();
    let mut facts = Vec::new();
    for number in 0..30 {
        let types = ["TEXT", "INTEGER", "BLOB"];
        let columns: Vec<String> = (0..=number / 3).map(|at| format!("c{at}")).collect();
        let declared: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, name)| format!("{name} {} NOT NULL", types[(number + at) % 3]))
            .collect();
        let declared = declared.join(", ");
        writeln!(sql, "CREATE TABLE t{number}(id INTEGER PRIMARY KEY, {declared}) STRICT;")
            .expect("a string");
        if number % 4 == 0 {
            writeln!(sql, "CREATE INDEX i{number} ON t{number}(c0);").expect("a string");
        }
        let name = Box::leak(format!("t{number}").into_boxed_str());
        let all = Box::leak(format!("id, {}", columns.join(", ")).into_boxed_str());
        facts.push(TableFacts::plain(name, Some(0), all));
    }
    (sql, facts)
}

impl Subject {
    pub fn schema(self) -> String {
        let built_in =
            |migrations: &[rowhouse::Migration]| migrations.iter().map(|m| m.sql).collect::<String>();
        match self {
            Self::State => built_in(rowhouse::migrations!("migrations_state")),
            Self::Logs => built_in(rowhouse::migrations!("migrations_logs")),
            Self::Goals => built_in(rowhouse::migrations!("migrations_goals")),
            Self::Keys => built_in(rowhouse::migrations!("migrations_device_keys")),
            Self::Mixed => MIXED.into(),
            Self::Many => many().0,
        }
    }

    pub fn tables(self) -> Vec<TableFacts> {
        let plain = TableFacts::plain;
        match self {
            Self::State => vec![plain("thread", None, "*"), plain("thread_text", Some(0), "*")],
            Self::Logs => vec![plain("log", Some(0), "*"), plain("sqlite_sequence", None, "*")],
            Self::Goals => vec![plain("goal", None, "*")],
            Self::Keys => vec![plain("binding", None, "*")],
            Self::Many => many().1,
            Self::Mixed => vec![
                plain("note", Some(0), "*"),
                TableFacts { without_rowid: true, ..plain("pair", None, "*") },
                TableFacts { without_rowid: true, ..plain("part", None, "*") },
                plain("bag", None, "*"),
                plain("made", None, "a, b"),
            ],
        }
    }

    /// Inserts rows, enough for trees of several pages.
    #[allow(clippy::too_many_lines, reason = "one arm for each schema")]
    fn insert(self, db: &Connection, random: &mut Random, count: usize) {
        let uuid = |random: &mut Random| {
            let hex = format!("{:016x}{:016x}", random.next(), random.next());
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        };
        let now = |random: &mut Random| 1_700_000_000_000 + random.below(1_000_000_000) as i64;
        let insert = |table: &str, values: Vec<Value>| {
            let marks = vec!["?"; values.len()].join(",");
            let mut statement =
                db.prepare_cached(&format!("INSERT OR IGNORE INTO {table} VALUES ({marks})")).expect("SQL");
            statement.execute(params_from_iter(values)).expect("a row");
        };
        for number in 0..count {
            match self {
                Self::State => {
                    let mut statement = db
                        .prepare_cached(
                            "INSERT INTO thread(id, created_at, updated_at, recency_at, archived_at, cwd, title,
                                 first_user_message, tokens_used, rollout_path) VALUES (?1,?2,?2,?2,?3,?4,?5,?6,?7,?8)",
                        )
                        .expect("SQL");
                    let archived = (random.below(4) == 0).then(|| now(random));
                    let long = 1 + random.below(if number % 20 == 0 { 3000 } else { 120 });
                    statement
                        .execute(params![
                            uuid(random),
                            now(random),
                            archived,
                            format!("/home/{}", random.word(6)),
                            random.word(20),
                            random.word(long),
                            random.below(100_000) as i64,
                            format!("sessions/{}.jsonl", random.word(30)),
                        ])
                        .expect("a row");
                }
                Self::Logs => {
                    let mut statement = db
                        .prepare_cached(
                            "INSERT INTO log(ts, level, target, message, fields, thread_id, process_id, line, bytes)
                             VALUES (?,?,?,?,?,?,?,?,?)",
                        )
                        .expect("SQL");
                    let long = 5 + random.below(100);
                    statement
                        .execute(params![
                            1_700_000_000_000_000_000 + number as i64 * 1_000_003,
                            1 + random.below(5) as i64,
                            random.word(12),
                            random.word(long),
                            (number % 3 == 0).then(|| format!("{{\"{}\":1}}", random.word(8))),
                            (number % 2 == 0).then(|| uuid(random)),
                            random.word(16),
                            random.below(2000) as i64,
                            long as i64,
                        ])
                        .expect("a row");
                }
                Self::Goals => insert(
                    "goal",
                    vec![
                        uuid(random).into(),
                        uuid(random).into(),
                        random.word(80).into(),
                        ["active", "paused", "complete"][number % 3].to_owned().into(),
                        if number % 2 == 0 { Value::Null } else { (random.below(1 << 20) as i64).into() },
                        (random.below(1 << 20) as i64).into(),
                        (random.below(5000) as i64).into(),
                        now(random).into(),
                        now(random).into(),
                    ],
                ),
                Self::Keys => insert(
                    "binding",
                    vec![
                        format!("dk_osn_{}", random.word(43)).into(),
                        random.word(20).into(),
                        random.word(20).into(),
                        now(random).into(),
                        now(random).into(),
                    ],
                ),
                Self::Mixed => {
                    let large = if number % 7 == 0 { random.below(9000) } else { random.below(60) };
                    let weight = random.below(100_000) as f64 + 0.25;
                    insert(
                        "note",
                        vec![Value::Null, random.word(10).into(), random.bytes(large).into(), weight.into()],
                    );
                    let owner = random.word(3);
                    let body = random.word(30);
                    insert("pair", vec![owner.into(), (random.below(1 << 30) as i64).into(), body.into()]);
                    let long = if number % 9 == 0 { 5000 } else { 40 };
                    insert("part", vec![uuid(random).into(), random.bytes(long).into()]);
                    let thing = match number % 4 {
                        0 => Value::Null,
                        1 => (random.next() as i64).into(),
                        2 => random.word(25).into(),
                        _ => random.bytes(20).into(),
                    };
                    insert("bag", vec![random.word(4).into(), thing, weight.into(), random.word(9).into()]);
                    let b = random.word(12);
                    db.prepare_cached("INSERT INTO made(a, b) VALUES (?1, ?2)")
                        .and_then(|mut made| made.execute(params![random.below(1 << 40) as i64, b]))
                        .expect("a row");
                }
                Self::Many => {
                    let table = random.below(30);
                    let mut values = vec![Value::Null];
                    for at in 0..=table / 3 {
                        values.push(match (table + at) % 3 {
                            0 => random.word(20).into(),
                            1 => (random.next() as i64 >> 20).into(),
                            _ => random.bytes(15).into(),
                        });
                    }
                    insert(&format!("t{table}"), values);
                }
            }
        }
    }

    fn delete(self, db: &Connection) {
        for table in self.tables() {
            if table.name == "sqlite_sequence" {
                continue;
            }
            let order = if table.without_rowid { "1" } else { "rowid" };
            let key = match table.name {
                "pair" => "(owner, at)",
                "part" => "id",
                _ => "rowid",
            };
            let keys = key.trim_matches(['(', ')']);
            let name = table.name;
            db.execute_batch(&format!(
                "DELETE FROM {name} WHERE {key} IN (SELECT {keys} FROM {name} ORDER BY {order}
                     LIMIT (SELECT count(*) / 5 FROM {name}) OFFSET (SELECT count(*) / 3 FROM {name}));
                 DELETE FROM {name} WHERE {key} IN (SELECT {keys} FROM {name} ORDER BY {order} LIMIT 3 OFFSET 2)",
            ))
            .expect("deleted");
        }
    }
}

/// A whole database, and what it holds.
pub struct Original {
    pub subject: Subject,
    pub auto_vacuum: bool,
    pub page_size: usize,
    pub bytes: Vec<u8>,
    pub rows: BTreeMap<&'static str, Vec<Kept>>,
    /// What each row is stored as, the rowid's alias NULL.
    pub stored: BTreeMap<&'static str, Vec<(i64, Vec<Value>)>>,
    pub interior: Vec<usize>,
    pub leaves: Vec<usize>,
    pub overflow: BTreeSet<usize>,
    pub trunks: Vec<usize>,
}

pub fn known(schema: &str, auto_vacuum: bool) -> Known {
    let db = Connection::open_in_memory().expect("a database");
    db.execute_batch(if auto_vacuum { "PRAGMA auto_vacuum=INCREMENTAL" } else { "" }).expect("set");
    db.execute_batch(schema).expect("a schema");
    Known::of(&db).expect("known")
}

impl Original {
    /// Makes a database with rows, deleted rows, and a dropped table whose rows had the shape of a living one.
    pub fn make(
        folder: &Path,
        subject: Subject,
        page_size: usize,
        auto_vacuum: bool,
        rows: usize,
        seed: u64,
    ) -> Self {
        let path = folder.join("original.sqlite");
        let _ = std::fs::remove_file(&path);
        let db = Connection::open(&path).expect("a database");
        let mode = if auto_vacuum { 2 } else { 0 };
        db.execute_batch(&format!("PRAGMA page_size={page_size}; PRAGMA auto_vacuum={mode}; BEGIN"))
            .expect("set");
        db.execute_batch(&subject.schema()).expect("the schema");
        let mut random = Random(seed);
        subject.insert(&db, &mut random, rows);
        let first = subject.tables()[0].name;
        db.execute_batch(&format!("COMMIT; CREATE TABLE dropped AS SELECT * FROM {first}; BEGIN"))
            .expect("copied");
        subject.insert(&db, &mut random, rows / 4);
        subject.delete(&db);
        // Other rowids: a dropped row that comes back is none of the living ones.
        db.execute_batch("UPDATE dropped SET rowid = rowid + 1000000; COMMIT; DROP TABLE dropped")
            .expect("dropped");
        let mut original = Self {
            subject,
            auto_vacuum,
            page_size,
            bytes: Vec::new(),
            rows: BTreeMap::new(),
            stored: BTreeMap::new(),
            interior: pages(&db, "pagetype = 'internal'"),
            leaves: pages(&db, "pagetype = 'leaf'"),
            overflow: pages(&db, "pagetype = 'overflow'").into_iter().collect(),
            trunks: Vec::new(),
        };
        for table in subject.tables() {
            original.rows.insert(table.name, read(&db, &table));
            let rowid = if table.without_rowid { "0" } else { "rowid" };
            let mut all =
                db.prepare(&format!("SELECT {rowid}, {} FROM {}", table.columns, table.name)).expect("SQL");
            let width = all.column_count();
            let stored = all
                .query_map([], |row| {
                    let mut values: Vec<Value> =
                        (1..width).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                    if let Some(alias) = table.alias {
                        values[alias] = Value::Null;
                    }
                    Ok((row.get(0)?, values))
                })
                .expect("rows")
                .collect::<Result<_, _>>()
                .expect("rows");
            original.stored.insert(table.name, stored);
        }
        drop(db);
        original.bytes = std::fs::read(&path).expect("the file");
        let mut trunk = u32::from_be_bytes(original.bytes[32..36].try_into().expect("four")) as usize;
        while trunk != 0 {
            original.trunks.push(trunk);
            let at = (trunk - 1) * page_size;
            trunk = u32::from_be_bytes(original.bytes[at..at + 4].try_into().expect("four")) as usize;
        }
        original
    }

    pub fn known(&self) -> Known {
        known(&self.subject.schema(), self.auto_vacuum)
    }

    pub fn pages(&self) -> usize {
        self.bytes.len() / self.page_size
    }

    pub fn count(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }
}

fn pages(db: &Connection, which: &str) -> Vec<usize> {
    let mut list = db.prepare(&format!("SELECT pageno FROM dbstat WHERE {which}")).expect("SQL");
    list.query_map([], |row| row.get::<_, i64>(0))
        .expect("pages")
        .map(|page| page.expect("a page") as usize)
        .collect()
}

/// All rows of a table, through SQLite.
pub fn read(db: &Connection, table: &TableFacts) -> Vec<Kept> {
    let rowid = if table.hides_rowid() { "rowid" } else { "NULL" };
    let Ok(mut all) = db.prepare(&format!("SELECT {rowid}, {} FROM {}", table.columns, table.name)) else {
        return Vec::new();
    };
    let width = all.column_count();
    let mut rows = all.query([]).expect("rows");
    let mut kept = Vec::new();
    while let Ok(Some(row)) = rows.next() {
        let values = (1..width).map(|at| row.get(at)).collect::<Result<_, _>>();
        // Text that is not UTF-8 was never written.
        if let (Ok(rowid), Ok(values)) = (row.get(0), values) {
            kept.push(Kept { rowid, values });
        }
    }
    kept
}

/// Where things were before and what was done to them.
pub struct Damaged {
    pub bytes: Vec<u8>,
    pub what: &'static str,
    /// Which page of the original each page was.
    pub from: Vec<usize>,
}

pub const ACCIDENTS: [&str; 15] = [
    "one byte",
    "many bytes",
    "zeroed pages",
    "random pages",
    "cut short",
    "swapped pages",
    "page 1 zeroed",
    "file header random",
    "page 1 bytes",
    "interior pages",
    "free list",
    "pointer map",
    "overflow pages",
    "page copied over",
    "sectors",
];

impl Damaged {
    pub fn new(original: &Original) -> Self {
        Self { bytes: original.bytes.clone(), what: "several", from: (0..original.pages()).collect() }
    }

    /// One accident of a kind.
    pub fn strike(&mut self, original: &Original, kind: usize, random: &mut Random) {
        self.what = ACCIDENTS[kind];
        let size = original.page_size;
        let pages = self.bytes.len() / size;
        if pages == 0 {
            return;
        }
        let some = 1 + random.below(3);
        match kind {
            0 => self.flip(random, 0..pages * size, 1),
            1 => {
                let count = 1 + random.below(40);
                self.flip(random, 0..pages * size, count);
            }
            2 => (0..some).for_each(|_| self.fill(random.below(pages), size, |_| 0)),
            3 => (0..some).for_each(|_| self.overwrite(random.below(pages), size, random)),
            4 => {
                let end = random.below(self.bytes.len());
                self.bytes.truncate(end);
            }
            5 => {
                for _ in 0..some {
                    let (one, other) = (random.below(pages), random.below(pages));
                    for at in 0..size {
                        self.bytes.swap(one * size + at, other * size + at);
                    }
                    self.from.swap(one, other);
                }
            }
            6 => self.fill(0, size, |_| 0),
            7 => {
                let noise = random.bytes(100);
                self.bytes[..100].copy_from_slice(&noise);
            }
            8 => {
                let count = 1 + random.below(20);
                self.flip(random, 0..size, count);
            }
            9 => {
                for _ in 0..some {
                    let page = random.pick(&original.interior).unwrap_or(1) - 1;
                    self.hurt(page.min(pages - 1), size, random);
                }
            }
            10 => {
                if random.below(2) == 0 {
                    self.flip(random, 32..40, 1);
                } else {
                    let page = random.pick(&original.trunks).unwrap_or(1) - 1;
                    self.hurt(page.min(pages - 1), size, random);
                }
            }
            11 => self.hurt(1.min(pages - 1), size, random),
            12 => {
                let overflow: Vec<usize> = original.overflow.iter().copied().collect();
                for _ in 0..some {
                    let page = random.pick(&overflow).unwrap_or(1) - 1;
                    self.hurt(page.min(pages - 1), size, random);
                }
            }
            13 => {
                let (one, other) = (random.below(pages), random.below(pages));
                self.bytes.copy_within(one * size..(one + 1) * size, other * size);
                self.from[other] = self.from[one];
            }
            _ => {
                for _ in 0..some {
                    let sector = random.below(pages * size / 512) * 512;
                    let noise = if random.below(2) == 0 { vec![0; 512] } else { random.bytes(512) };
                    self.bytes[sector..sector + 512].copy_from_slice(&noise);
                }
            }
        }
    }

    fn hurt(&mut self, page: usize, size: usize, random: &mut Random) {
        match random.below(3) {
            0 => self.fill(page, size, |_| 0),
            1 => self.overwrite(page, size, random),
            _ => {
                let count = 1 + random.below(8);
                self.flip(random, page * size..(page + 1) * size, count);
            }
        }
    }

    fn flip(&mut self, random: &mut Random, range: std::ops::Range<usize>, count: usize) {
        for _ in 0..count {
            let at = range.start + random.below(range.len());
            self.bytes[at] ^= 1 + random.below(255) as u8;
        }
    }

    fn fill(&mut self, page: usize, size: usize, with: impl Fn(usize) -> u8) {
        for at in 0..size {
            self.bytes[page * size + at] = with(at);
        }
    }

    fn overwrite(&mut self, page: usize, size: usize, random: &mut Random) {
        let noise = random.bytes(size);
        self.bytes[page * size..(page + 1) * size].copy_from_slice(&noise);
    }

    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("damaged.sqlite");
        std::fs::write(&path, &self.bytes).expect("a file");
        path
    }
}

fn varint(value: u64) -> Vec<u8> {
    if value >> 56 != 0 {
        let mut bytes: Vec<u8> = (0..8).rev().map(|at| (value >> (8 + 7 * at)) as u8 | 0x80).collect();
        bytes.push(value as u8);
        return bytes;
    }
    let groups = (1..9).find(|groups| value >> (7 * groups) == 0).expect("56 bits");
    (0..groups).rev().map(|at| (value >> (7 * at)) as u8 & 0x7F | if at > 0 { 0x80 } else { 0 }).collect()
}

/// A cell of a leaf as SQLite writes it, up to where its payload leaves the page.
pub fn cell(rowid: Option<i64>, values: &[Value], usable: usize) -> Vec<u8> {
    let (mut types, mut contents) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Null => types.push(0),
            Value::Integer(whole @ 0..=1) => types.push(8 + *whole as u8),
            Value::Integer(whole) => {
                let magnitude = if *whole < 0 { !*whole } else { *whole };
                let width = [1, 2, 3, 4, 6, 8].into_iter().find(|width| magnitude >> (8 * width - 1) == 0);
                let width = width.unwrap_or(8);
                types.push([0, 1, 2, 3, 4, 0, 5, 0, 6][width]);
                contents.extend(&whole.to_be_bytes()[8 - width..]);
            }
            Value::Real(number) => {
                types.push(7);
                contents.extend(number.to_be_bytes());
            }
            Value::Text(text) => {
                types.extend(varint(13 + 2 * text.len() as u64));
                contents.extend(text.as_bytes());
            }
            Value::Blob(blob) => {
                types.extend(varint(12 + 2 * blob.len() as u64));
                contents.extend(blob);
            }
        }
    }
    let mut payload = varint(types.len() as u64 + if types.len() > 126 { 2 } else { 1 });
    payload.extend(types);
    payload.extend(contents);
    let mut bytes = varint(payload.len() as u64);
    bytes.extend(rowid.map(|rowid| varint(rowid.cast_unsigned())).unwrap_or_default());
    let most = if rowid.is_some() { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    let least = (usable - 12) * 32 / 255 - 23;
    let local = match payload.len() {
        all if all <= most => all,
        all => Some(least + (all - least) % (usable - 4)).filter(|fits| *fits <= most).unwrap_or(least),
    };
    bytes.extend(&payload[..local]);
    bytes
}
