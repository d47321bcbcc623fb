//! Which tables there are: as this program knows them, and as far as the damaged file still says.
//!
//! A declaration is never interpreted here. SQLite reads it, in a database in memory, and is asked what it made of it.
//! The damaged file's own declarations go the same way, for they may be of an older or newer program.

use std::cell::RefCell;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::table::{Collation, Field, Part, Storage, Table, Tree};
use crate::error::Result;

/// SQLite's own table of declarations.
pub(super) const SCHEMA: &str = "sqlite_schema";
/// The highest ids of AUTOINCREMENT tables (<https://sqlite.org/fileformat.html#seqtab>).
pub(super) const SEQUENCE: &str = "sqlite_sequence";

/// The tables that a program expects in a file.
#[derive(Clone, Debug)]
pub struct Known {
    pub(super) tables: Vec<Table>,
    /// Virtual tables. Of what they are made of only the texts of those in `full_text` are salvaged.
    pub(super) virtual_tables: Vec<String>,
    /// FTS5 tables (<https://sqlite.org/fts5.html>).
    pub(super) full_text: Vec<String>,
    /// What virtual tables are made of, but for texts. Known so that no page of theirs is taken for another table's.
    shadows: Vec<String>,
}

/// The names of all full-text indexes of this version.
pub(super) fn full_text_indexes(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let names = "SELECT name FROM main.sqlite_schema
             WHERE type = 'table' AND rootpage = 0 AND sql LIKE 'CREATE VIRTUAL TABLE%USING%fts5%'";
    connection.prepare(names)?.query_map([], |row| row.get(0))?.collect()
}

/// Where an FTS5 table keeps its texts, unless they are in another table, or nowhere
/// (<https://sqlite.org/fts5.html>, section 4.4).
pub(super) fn texts_of(full_text: &str) -> String {
    format!("{full_text}_content")
}

impl Known {
    /// Learns the tables of a database that the program's migrations were applied to. It may be empty and in memory.
    /// Made with the same `auto_vacuum` and in the same order as the damaged one, its root pages help to tell tables
    /// of one shape apart when the file has lost its schema.
    ///
    /// # Errors
    /// Of SQLite.
    pub fn of(connection: &Connection) -> Result<Self> {
        let mut known = Self {
            tables: Vec::new(),
            virtual_tables: Vec::new(),
            full_text: Vec::new(),
            shadows: Vec::new(),
        };
        known.full_text = full_text_indexes(connection)?;
        let mut list = connection.prepare(
            "SELECT l.name, l.type, l.wr, l.strict, s.sql, s.rootpage
             FROM pragma_table_list AS l JOIN main.sqlite_schema AS s ON s.name = l.name AND s.type = 'table'
             WHERE l.schema = 'main' ORDER BY s.rowid",
        )?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let kind: String = row.get(1)?;
            match kind.as_str() {
                "table" | "shadow" => {
                    let mut table = table(connection, name.clone(), row.get(2)?, row.get(3)?)?;
                    table.sql = row.get(4)?;
                    table.usual_root = row.get(5)?;
                    if name == SEQUENCE {
                        table = sequence(table);
                    }
                    if kind == "shadow" {
                        // They are always written whole, with no column that came later.
                        table.fields.iter_mut().for_each(|field| field.default = None);
                        // A full-text table's texts are rows like any others, and all that its index is made from.
                        if !known.full_text.iter().any(|own| texts_of(own) == name) {
                            known.shadows.push(name.clone());
                        }
                    }
                    let at = known.tables.len();
                    known.tables.push(table);
                    known.indexes(connection, at)?;
                }
                "virtual" => known.virtual_tables.push(name),
                _ => {}
            }
        }
        Ok(known)
    }

    /// Adds the shapes of a table's indexes.
    fn indexes(&mut self, connection: &Connection, table: usize) -> Result<()> {
        let mut list = connection.prepare(
            "SELECT l.name, s.rootpage FROM pragma_index_list(?1) AS l
             JOIN main.sqlite_schema AS s ON s.name = l.name AND s.type = 'index' WHERE s.rootpage > 0",
        )?;
        let found: Vec<(String, u32)> = list
            .query_map([&self.tables[table].name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (name, usual_root) in found {
            let owner = &self.tables[table];
            let any = Field { storage: Storage::Any, not_null: false, default: None, column: None };
            let mut parts =
                connection.prepare_cached("SELECT cid, name FROM pragma_index_xinfo(?1) ORDER BY seqno")?;
            let fields = parts
                .query_map([&name], |row| {
                    let column: Option<String> = row.get(1)?;
                    Ok(match (row.get(0)?, column) {
                        (-1, _) => Field { storage: Storage::Integer, not_null: true, ..any.clone() },
                        (0.., Some(column)) => owner
                            .columns
                            .iter()
                            .position(|known| *known == column)
                            .and_then(|at| owner.fields.iter().position(|field| field.column == Some(at)))
                            .map_or(any.clone(), |at| Field {
                                // What is NULL in the table is the rowid here.
                                storage: if owner.alias == Some(at) {
                                    Storage::Integer
                                } else {
                                    owner.fields[at].storage
                                },
                                not_null: owner.fields[at].not_null,
                                ..any.clone()
                            }),
                        _ => any.clone(),
                    })
                })?
                .collect::<Result<_, _>>()?;
            self.tables.push(Table {
                name,
                sql: None,
                columns: Vec::new(),
                fields,
                alias: None,
                tree: Tree::Index,
                usual_root,
            });
        }
        Ok(())
    }

    /// A table in which a virtual table keeps what it is made of.
    pub(super) fn is_shadow(&self, name: &str) -> bool {
        let of = |own: &String| name.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('_'));
        self.shadows.iter().any(|own| own == name)
            || (self.virtual_tables.iter().any(of) && self.table(name).is_none())
    }

    /// Virtual tables of which no rows are read.
    pub(super) fn not_read(&self) -> Vec<String> {
        let has_texts =
            |name: &String| self.full_text.contains(name) && self.table(&texts_of(name)).is_some();
        self.virtual_tables.iter().filter(|name| !has_texts(name)).cloned().collect()
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }
}

struct Column {
    name: String,
    storage: Storage,
    not_null: bool,
    default: Option<String>,
    key: i64,
    hidden: i64,
}

/// Asks SQLite for the shape of a table.
fn table(connection: &Connection, name: String, without_rowid: bool, strict: bool) -> Result<Table> {
    let mut info = connection.prepare_cached(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid",
    )?;
    let columns: Vec<Column> = info
        .query_map([&name], |row| {
            Ok(Column {
                name: row.get(0)?,
                storage: Storage::of(&row.get::<_, Option<String>>(1)?.unwrap_or_default(), strict),
                not_null: row.get::<_, bool>(2)? || (without_rowid && row.get::<_, i64>(4)? > 0),
                default: row.get(3)?,
                key: row.get(4)?,
                hidden: row.get(5)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let key_index: Option<String> = connection
        .query_row("SELECT name FROM pragma_index_list(?1) WHERE origin = 'pk'", [&name], |row| row.get(0))
        .optional()?;
    let given: Vec<String> =
        columns.iter().filter(|column| column.hidden == 0).map(|column| column.name.clone()).collect();
    let integer_key = columns.iter().any(|column| column.key > 0) && !without_rowid && key_index.is_none();
    // 2 is a virtual generated column, which is not stored.
    let mut stored: Vec<&Column> = columns.iter().filter(|column| column.hidden != 2).collect();
    let mut tree = Tree::Rowid;
    if without_rowid {
        let (parts, order) = key_order(connection, &key_index.unwrap_or_default())?;
        stored.sort_by_key(|column| order.iter().position(|name| *name == column.name));
        tree = Tree::Keyed(parts);
    }
    let mut fields = Vec::with_capacity(stored.len());
    for column in &stored {
        let default = match &column.default {
            _ if column.key > 0 => None,
            Some(text) => default_value(connection, text, column.storage),
            None => Some(Value::Null),
        };
        fields.push(Field {
            storage: column.storage,
            not_null: column.not_null,
            default: default.filter(|value| !(column.not_null && *value == Value::Null)),
            column: given.iter().position(|name| *name == column.name),
        });
    }
    // A column that was added later is behind all that were not.
    let last_original = fields.iter().rposition(|field| field.default.is_none()).unwrap_or(0);
    for field in &mut fields[..=last_original.min(stored.len().saturating_sub(1))] {
        field.default = None;
    }
    let alias = stored.iter().position(|column| integer_key && column.key > 0);
    Ok(Table { name, sql: None, columns: given, fields, alias, tree, usual_root: 0 })
}

/// The parts of the key of a WITHOUT ROWID table, and all columns in the order in which they are stored.
fn key_order(connection: &Connection, index: &str) -> Result<(Option<Vec<Part>>, Vec<String>)> {
    let mut info = connection
        .prepare_cached("SELECT name, \"desc\", coll, key FROM pragma_index_xinfo(?1) ORDER BY seqno")?;
    let mut rows = info.query([index])?;
    let (mut parts, mut names) = (Some(Vec::new()), Vec::new());
    while let Some(row) = rows.next()? {
        names.push(row.get::<_, Option<String>>(0)?.unwrap_or_default());
        if row.get(3)? {
            let collation = Collation::named(&row.get::<_, String>(2)?);
            let descending = row.get(1)?;
            parts = parts.zip(collation).map(|(mut parts, collation)| {
                parts.push(Part { collation, descending });
                parts
            });
        }
    }
    Ok((parts, names))
}

/// What `DEFAULT` gives to rows that are older than their column; `None` when it is no constant.
fn default_value(connection: &Connection, text: &str, storage: Storage) -> Option<Value> {
    let text_wanted = matches!(storage, Storage::Text | Storage::TextAffinity);
    let sql = if text_wanted { format!("SELECT CAST(({text}) AS TEXT)") } else { format!("SELECT ({text})") };
    if text.to_ascii_uppercase().starts_with("CURRENT_") || text.contains('(') {
        return None;
    }
    connection.query_row(&sql, [], |row| row.get(0)).ok()
}

/// `sqlite_sequence` is declared without types, and always filled in one way.
fn sequence(mut table: Table) -> Table {
    for (field, storage) in table.fields.iter_mut().zip([Storage::Text, Storage::Integer]) {
        *field = Field { storage, not_null: true, default: None, column: field.column };
    }
    table.sql = None;
    table
}

/// The shape of SQLite's own table of declarations (`#storage_of_the_sql_database_schema`).
pub(super) fn schema_table() -> Table {
    let names = ["type", "name", "tbl_name", "rootpage", "sql"];
    let fields = names.iter().enumerate().map(|(at, _)| Field {
        storage: if at == 3 { Storage::Integer } else { Storage::Text },
        not_null: at != 4,
        default: None,
        column: Some(at),
    });
    Table {
        name: SCHEMA.into(),
        sql: None,
        columns: names.map(String::from).into(),
        fields: fields.collect(),
        alias: None,
        tree: Tree::Rowid,
        usual_root: 1,
    }
}

/// A row of `sqlite_schema` in the damaged file.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) index: bool,
    pub(super) name: String,
    pub(super) root: u32,
    pub(super) sql: Option<String>,
}

impl Declared {
    /// `None` for what has no pages: views, triggers, virtual tables.
    pub(super) fn of(values: &[ValueRef<'_>]) -> Option<Self> {
        let text = |at: usize| values[at].as_str().ok();
        let root = u32::try_from(values[3].as_i64().ok()?).ok().filter(|root| *root > 1)?;
        let index = match text(0)? {
            "table" => false,
            "index" => true,
            _ => return None,
        };
        Some(Self { index, name: text(1)?.into(), root, sql: text(4).map(String::from) })
    }
}

/// A declaration that is a known one but for a few bytes is that one, damaged.
fn corrected(known: &Known, found: &Declared) -> Declared {
    let Some(sql) = found.sql.as_ref().filter(|_| !found.index) else { return found.clone() };
    let differ = |table: &Table| {
        let known = table.sql.as_ref().filter(|known| known.len() == sql.len())?;
        Some(known.bytes().zip(sql.bytes()).filter(|(one, other)| one != other).count())
    };
    if known.tables.iter().any(|table| table.name == found.name && differ(table) == Some(0)) {
        return found.clone();
    }
    let nearest = known
        .tables
        .iter()
        .filter_map(|table| Some((differ(table)?, table)))
        .filter(|(bytes, table)| *bytes == 0 || (*bytes < 16 && table.name == found.name))
        .min_by_key(|(bytes, _)| *bytes);
    match nearest {
        Some((_, table)) => Declared { name: table.name.clone(), sql: table.sql.clone(), ..found.clone() },
        None => found.clone(),
    }
}

/// Gives the file's own tables a shape: by their declarations, or by what is known under that name. Returns them with
/// their roots; known tables that the file does not name come without.
pub(super) fn resolve(
    known: &Known,
    declared: &[Declared],
    complete: bool,
) -> Result<Vec<(Table, Option<u32>)>> {
    let scratch = Connection::open_in_memory()?;
    let declared: Vec<Declared> = declared.iter().map(|found| corrected(known, found)).collect();
    for found in &declared {
        let Some(sql) = &found.sql else { continue };
        let is_table = sql.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("CREATE TABLE"));
        if found.index || !is_table || found.name.starts_with("sqlite_") {
            continue;
        }
        if scratch.prepare(sql).and_then(|mut create| create.execute([])).is_err()
            && let Some(sql) = known.table(&found.name).and_then(|own| own.sql.as_ref())
        {
            // A table that is known and declared twice fails here, and stays as it is.
            let _ = scratch.execute(sql, []);
        }
    }
    let of_file = Known::of(&scratch)?;
    let mut resolved: Vec<(Table, Option<u32>)> = Vec::new();
    let mut roots = std::collections::HashMap::new();
    for found in &declared {
        *roots.entry(found.root).or_insert(0) += 1;
    }
    let root_of = |table: &Table| {
        declared
            .iter()
            .find(|found| found.name == table.name && (table.tree == Tree::Index) == found.index)
            .map(|found| found.root)
            .filter(|root| roots[root] == 1)
    };
    for table in of_file.tables.iter().filter(|table| !matches!(table.tree, Tree::Index)) {
        let usual_root = known.table(&table.name).map_or(0, |known| known.usual_root);
        resolved.push((Table { usual_root, ..table.clone() }, root_of(table)));
    }
    for table in &known.tables {
        let listed = resolved.iter().any(|(listed, _)| listed.name == table.name);
        let root = root_of(table);
        if !listed && (root.is_some() || !complete) {
            resolved.push((table.clone(), root));
        }
    }
    // Indexes that only the file knows: their pages are not free for others.
    for found in declared.iter().filter(|found| found.index) {
        if !resolved.iter().any(|(listed, _)| listed.name == found.name) {
            let fields = Vec::new();
            let table = Table {
                name: found.name.clone(),
                sql: None,
                columns: Vec::new(),
                fields,
                alias: None,
                tree: Tree::Index,
                usual_root: 0,
            };
            resolved.push((table, Some(found.root).filter(|root| roots[root] == 1)));
        }
    }
    Ok(resolved)
}

/// The tables once more, empty and in memory: a row fits when SQLite takes it there, CHECK included.
pub(super) struct Probe {
    connection: Connection,
    /// `INSERT` and `DELETE` by table; `None` where SQLite cannot be asked.
    texts: RefCell<Vec<Option<(String, String)>>>,
}

impl Probe {
    pub(super) fn new<'a>(tables: impl Iterator<Item = &'a Table>) -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch("PRAGMA foreign_keys=OFF")?;
        let texts = tables
            .map(|table| {
                let sql = table.sql.as_ref()?;
                connection.execute(sql, []).ok()?;
                let (insert, _) = insert_text(table, "INSERT");
                connection.prepare(&insert).ok()?;
                Some((insert, format!("DELETE FROM {}", quoted(&table.name))))
            })
            .collect();
        Ok(Self { connection, texts: RefCell::new(texts) })
    }

    /// SQLite would have let the row in.
    pub(super) fn admits(&self, table: usize, rowid: Option<i64>, values: &[ValueRef<'_>]) -> Result<bool> {
        let texts = self.texts.borrow();
        let Some((insert, delete)) = &texts[table] else { return Ok(true) };
        let admitted = {
            let mut statement = self.connection.prepare_cached(insert)?;
            let values = rowid.map(ValueRef::Integer).into_iter().chain(values.iter().copied());
            statement.execute(params_from_iter(values.map(ToSqlOutput::Borrowed))).is_ok()
        };
        self.connection.prepare_cached(delete)?.execute([])?;
        Ok(admitted)
    }
}

/// A name as SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An insert of a row, and whether its first parameter is the rowid.
pub(super) fn insert_text(table: &Table, verb: &str) -> (String, bool) {
    let mut names: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
    let with_rowid = hidden_rowid(table);
    if let Some(name) = with_rowid {
        names.insert(0, name.into());
    }
    let places: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let sql =
        format!("{verb} INTO {}({}) VALUES ({})", quoted(&table.name), names.join(", "), places.join(", "));
    (sql, with_rowid.is_some())
}

/// The name of a rowid that no column shows.
pub(super) fn hidden_rowid(table: &Table) -> Option<&'static str> {
    if table.tree != Tree::Rowid || table.alias.is_some() {
        return None;
    }
    let taken = |name: &str| table.columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name))
}
