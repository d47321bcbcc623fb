//! What there is to walk: every table, then every index, then whether they fit to each other.
//!
//! Not walked: virtual tables (what they hold is in other tables) and indexes on expressions, whose entries cannot be asked
//! for by their value. A damaged page of such an index is met by [`pass`](super::pass)'s last step in a small file, and
//! else by who uses it.
//!
//! Tests: below; `walk`.

use rusqlite::{Connection, Row};

use super::walk::{Key, Look, Walk, quoted};
use crate::error::Result;

const TABLES: &str = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') ORDER BY name";
const INDEXES: &str = "SELECT l.name, l.origin, s.sql FROM pragma_index_list(?1) AS l LEFT JOIN sqlite_schema AS s ON s.name = l.name AND s.type = 'index' ORDER BY l.seq DESC";
const KEYS: &str = "SELECT i.name, i.cid, i.coll, i.\"desc\", i.key, c.type FROM pragma_index_xinfo(?1) AS i LEFT JOIN pragma_table_xinfo(?2) AS c ON c.cid = i.cid ORDER BY i.seqno";
const COLUMNS: &str = "SELECT name FROM pragma_table_xinfo(?1)";
/// Nobody's name for a second look at a table.
const OTHER: &str = "rowhouse_other";

struct Index {
    name: String,
    keys: Vec<Key>,
    /// The condition of a partial index.
    only: Option<String>,
}

/// All walks: first every page is read once, then the trees are compared.
pub(super) fn walks(connection: &Connection) -> Result<Vec<Walk>> {
    let (mut trees, mut compared) = (Vec::new(), Vec::new());
    let tables: Vec<(String, bool)> = all(connection, TABLES, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (table, without_rowid) in tables {
        // When all three names of its rowid are columns nobody can ask for it.
        let Some(keys) = own_keys(connection, &table, without_rowid)? else { continue };
        trees.push(walk(&table, None, Look::Rows, &keys, ", *", None));
        for index in indexes(connection, &table, &keys)? {
            let name = &index.name;
            trees.push(walk(&table, Some(name), Look::Entries, &index.keys, "", index.only.clone()));
            let no_row = format!(
                ", NOT EXISTS (SELECT 1 FROM {} AS {OTHER} {} WHERE {})",
                quoted(&table),
                if without_rowid { "" } else { "NOT INDEXED" },
                same(&table, &keys)
            );
            compared.push(walk(&table, Some(name), Look::HasRow, &index.keys, &no_row, index.only.clone()));
            let no_entry = format!(
                ", {}NOT EXISTS (SELECT 1 FROM {} AS {OTHER} INDEXED BY {} WHERE {}{})",
                index.only.as_ref().map_or(String::new(), |only| format!("({only}) IS TRUE AND ")),
                quoted(&table),
                quoted(name),
                index.only.as_ref().map_or(String::new(), |only| format!("({only}) AND ")),
                same(&table, &index.keys)
            );
            let mut walk = walk(&table, None, Look::HasEntry, &keys, &no_entry, None);
            walk.index = Some(name.clone());
            compared.push(walk);
        }
    }
    trees.extend(compared);
    Ok(trees)
}

fn walk(
    table: &str,
    index: Option<&str>,
    look: Look,
    keys: &[Key],
    columns: &str,
    only: Option<String>,
) -> Walk {
    let by = index.map_or_else(|| "NOT INDEXED".to_owned(), |index| format!("INDEXED BY {}", quoted(index)));
    Walk {
        look,
        table: table.to_owned(),
        index: index.map(str::to_owned),
        keys: keys.to_vec(),
        columns: columns.to_owned(),
        from: format!("{} {by}", quoted(table)),
        only,
        after: None,
    }
}

/// The same key in the other look at the table.
fn same(table: &str, keys: &[Key]) -> String {
    let terms: Vec<String> = keys
        .iter()
        .map(|key| match &key.collation {
            Some(collation) => format!(
                "{OTHER}.{name} COLLATE {collation} IS {}.{name}",
                quoted(table),
                name = key.name,
                collation = quoted(collation)
            ),
            None => format!("{OTHER}.{name} = {}.{name}", quoted(table), name = key.name),
        })
        .collect();
    terms.join(" AND ")
}

/// What a table itself is sorted by. `None` when it cannot be told.
fn own_keys(connection: &Connection, table: &str, without_rowid: bool) -> Result<Option<Vec<Key>>> {
    if without_rowid {
        let primary: Vec<String> =
            all(connection, "SELECT name FROM pragma_index_list(?1) WHERE origin = 'pk'", [table], |row| {
                row.get(0)
            })?;
        return Ok(match primary.first() {
            Some(primary) => keys(connection, table, primary, "", true)?,
            None => None,
        });
    }
    let columns: Vec<String> = all(connection, COLUMNS, [table], |row| row.get(0))?;
    let taken = |name: &str| columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    let free = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name));
    Ok(free
        .map(|name| vec![Key { name: name.to_owned(), collation: None, descending: false, is_text: false }]))
}

fn indexes(connection: &Connection, table: &str, own: &[Key]) -> Result<Vec<Index>> {
    let rowid = own.first().filter(|key| key.collation.is_none()).map_or("", |key| &*key.name);
    let found: Vec<(String, String, Option<String>)> =
        all(connection, INDEXES, [table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut indexes = Vec::new();
    for (name, origin, sql) in found {
        if origin == "pk" && rowid.is_empty() {
            // It is the table.
            continue;
        }
        if let Some(keys) = keys(connection, table, &name, rowid, false)? {
            indexes.push(Index { name, keys, only: sql.as_deref().and_then(condition) });
        }
    }
    Ok(indexes)
}

/// `None` when one of its keys is an expression.
fn keys(
    connection: &Connection,
    table: &str,
    index: &str,
    rowid: &str,
    keys_only: bool,
) -> Result<Option<Vec<Key>>> {
    let found: Vec<Option<Key>> = all(connection, KEYS, [index, table], |row| {
        let (name, column): (Option<String>, i64) = (row.get(0)?, row.get(1)?);
        let (collation, descending) = (row.get(2)?, row.get(3)?);
        let declared: Option<String> = row.get(5)?;
        if keys_only && !row.get::<_, bool>(4)? {
            return Ok(None);
        }
        Ok(match (column, name) {
            (-1, _) => Some(Key { name: rowid.to_owned(), collation: None, descending, is_text: false }),
            (_, name) => Some(Key {
                // An expression has none.
                name: name.map(|name| quoted(&name)).unwrap_or_default(),
                collation: Some(collation),
                descending,
                is_text: is_text(&declared.unwrap_or_default()),
            }),
        })
    })?;
    let keys: Vec<Key> = found.into_iter().flatten().collect();
    Ok(keys.iter().all(|key| !key.name.is_empty()).then_some(keys))
}

/// <https://sqlite.org/datatype3.html>, section 3.1.
fn is_text(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    let says = |word| declared.contains(word);
    !says("INT") && (says("CHAR") || says("CLOB") || says("TEXT"))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    Ok(statement.query_map(parameters, read)?.collect::<Result<_, _>>()?)
}

/// What follows WHERE in the text of an index, outside of names, texts, comments and brackets.
fn condition(sql: &str) -> Option<String> {
    let bytes = sql.as_bytes();
    let ends =
        |from: usize, mark: &str| sql[from..].find(mark).map_or(bytes.len(), |at| from + at + mark.len());
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        at = match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => ends(at + 1, &char::from(quote).to_string()),
            b'[' => ends(at + 1, "]"),
            b'-' if sql[at..].starts_with("--") => ends(at, "\n"),
            b'/' if sql[at..].starts_with("/*") => ends(at + 2, "*/"),
            b'(' => {
                depth += 1;
                at + 1
            }
            b')' => {
                depth -= 1;
                at + 1
            }
            letter if letter.is_ascii_alphanumeric() || letter == b'_' || letter >= 0x80 => {
                let word = bytes[at..]
                    .iter()
                    .take_while(|letter| {
                        letter.is_ascii_alphanumeric() || **letter == b'_' || **letter >= 0x80
                    })
                    .count();
                if depth == 0 && sql[at..at + word].eq_ignore_ascii_case("where") {
                    return Some(sql[at + word..].trim().to_owned());
                }
                at + word
            }
            _ => at + 1,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_of_an_index_is_found_where_it_is_one() {
        for (sql, expected) in [
            ("CREATE INDEX i ON t(a)", None),
            ("CREATE INDEX i ON t(a) WHERE a > 0", Some("a > 0")),
            ("CREATE INDEX \"where\" ON [t where](`where`) where(a)", Some("(a)")),
            (
                "CREATE INDEX i ON t(a, 'where') -- where x\n /* where y */ WHERE a <> 'where'",
                Some("a <> 'where'"),
            ),
            ("CREATE INDEX nowhere ON t(iff(a, where_is)) /* where", None),
            ("CREATE INDEX i ON t('it''s') WHERE é IS NOT NULL", Some("é IS NOT NULL")),
        ] {
            assert_eq!(condition(sql).as_deref(), expected, "{sql}");
        }
    }
}
