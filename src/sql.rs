//! `Session`: one SQL text, two engines. Stores speak this and nothing else.
//!
//! Parameters are written `$1` to `$n`. SQLite numbers names by first appearance, so they are bound here through
//! each name's own index; a text whose numbers have a gap is refused.

mod cost;

use std::ops::Deref;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::tx::{Snapshot, Tx};

#[doc(hidden)]
pub use cost::{StatementCost, statement_costs};

/// A value bound to a statement or read from a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A 64-bit integer, the only integer on both engines.
    Integer(i64),
    /// A double.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Bytes beside the value itself.
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            Self::Null | Self::Integer(_) | Self::Real(_) => 0,
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $make:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($v: $from) -> Self { $make }
        }
    )*};
}
value_from! {
    i64 => |v| Value::Integer(v);
    bool => |v| Value::Integer(i64::from(v));
    f64 => |v| Value::Real(v);
    &str => |v| Value::Text(v.to_owned());
    String => |v| Value::Text(v);
    Vec<u8> => |v| Value::Blob(v);
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(v) => ValueRef::Integer(*v),
            Self::Real(v) => ValueRef::Real(*v),
            Self::Text(v) => ValueRef::Text(v.as_bytes()),
            Self::Blob(v) => ValueRef::Blob(v),
        }))
    }
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// The value as this type, or `None` when it is of another one.
    fn from_value(value: &Value) -> Option<Self>;
}
macro_rules! from_value {
    ($($to:ty: $pattern:pat => $make:expr;)*) => {$(
        impl FromValue for $to {
            fn from_value(value: &Value) -> Option<Self> {
                match value { $pattern => Some($make), _ => None }
            }
        }
    )*};
}
from_value! {
    i64: Value::Integer(v) => *v;
    bool: Value::Integer(v) => *v != 0;
    f64: Value::Real(v) => *v;
    String: Value::Text(v) => v.clone();
    Vec<u8>: Value::Blob(v) => v.clone();
}
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One row, copied out of the database; columns are read by name.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

/// Bytes of rows behind which one [`Session::query`] takes no more: several times the largest page and the longest item of the
/// stores, and far less than what a process dies of.
const MOST_BYTES: usize = 256 << 20;

/// The rows of one statement, as they come.
pub(crate) struct Rows {
    columns: Arc<[String]>,
    taken: Vec<Row>,
    /// Bytes that they take.
    bytes: usize,
    most: usize,
}

impl Rows {
    pub(crate) fn of(columns: impl Iterator<Item = String>) -> Self {
        Self { columns: columns.collect(), taken: Vec::new(), bytes: 0, most: MOST_BYTES }
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// One more; `values` has one for each column.
    ///
    /// # Errors
    /// `Invalid` when those before it have taken all that one statement may. One row alone may be as large as it is.
    pub(crate) fn push(&mut self, values: Vec<Value>) -> Result<()> {
        if self.bytes >= self.most {
            let message = format!("the rows of one statement take more than {} MiB", self.most >> 20);
            return Err(Error::new(ErrorKind::Invalid, message)
                .advise("read them in pages: ORDER BY a key, LIMIT, and go on behind the last one"));
        }
        let texts: usize = values.iter().map(Value::len).sum();
        self.bytes += size_of::<Row>() + size_of_val(&values[..]) + texts;
        self.taken.push(Row { columns: self.columns.clone(), values });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.taken.len()
    }

    pub(crate) fn into_vec(self) -> Vec<Row> {
        self.taken
    }
}

impl Row {
    /// The column of this name.
    ///
    /// # Errors
    /// `Invalid` when there is no such column, or it holds another type.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let index = self
            .columns
            .iter()
            .position(|name| name == column)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("the row has no column {column}")))?;
        T::from_value(&self.values[index])
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("column {column} holds another type")))
    }
}

/// A transaction on either engine. On SQLite, [`Tx`] and [`Snapshot`] are sessions.
pub trait Session {
    /// Runs one statement that returns no rows; answers how many rows it changed.
    ///
    /// # Errors
    /// Of the engine; `Invalid` when the text's parameters are not `$1` to `$n`, each given once in `params`.
    fn execute(&self, sql: &str, params: &[Value]) -> Result<u64>;

    /// Runs one statement once for each of these lists of parameters; answers how many rows all of them changed. Cheaper
    /// than as many [`execute`](Self::execute): what is the same each time is done once, and no value is copied into a
    /// list.
    ///
    /// # Errors
    /// As [`execute`](Self::execute). What was done before stays done.
    fn execute_many<'p, P>(&self, sql: &str, lists: impl Iterator<Item = P>) -> Result<u64>
    where
        Self: Sized,
        P: IntoIterator<Item = &'p Value>,
    {
        let mut changed = 0;
        for params in lists {
            changed += self.execute(sql, &params.into_iter().cloned().collect::<Vec<_>>())?;
        }
        Ok(changed)
    }

    /// Runs one statement and copies its rows out, 256 MiB of them at most: texts, blobs, and about 30 bytes for each value and
    /// 40 for each row. Whatever may be more is read in pages.
    ///
    /// # Errors
    /// As [`execute`](Self::execute); `Invalid` when a row comes behind so many. A single row may be larger.
    fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>>;
}

impl Session for Snapshot {
    fn execute(&self, sql: &str, params: &[Value]) -> Result<u64> {
        let mut statement = self.prepare(sql)?;
        bind(&mut statement, params)?;
        cost::begin(&statement);
        let changed = statement.raw_execute()?;
        cost::end(&statement, sql, 0);
        Ok(changed as u64)
    }

    fn execute_many<'p, P>(&self, sql: &str, lists: impl Iterator<Item = P>) -> Result<u64>
    where
        P: IntoIterator<Item = &'p Value>,
    {
        let mut lists = lists.peekable();
        if lists.peek().is_none() {
            return Ok(0);
        }
        let mut statement = self.prepare(sql)?;
        let places = places(&statement)?;
        let mut changed = 0;
        for params in lists {
            bind_at(&mut statement, &places, params)?;
            cost::begin(&statement);
            changed += statement.raw_execute()? as u64;
            cost::end(&statement, sql, 0);
        }
        Ok(changed)
    }

    fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let mut statement = self.prepare(sql)?;
        bind(&mut statement, params)?;
        let mut rows = Rows::of(statement.column_names().into_iter().map(str::to_owned));
        let columns = rows.columns().len();
        cost::begin(&statement);
        let mut cursor = statement.raw_query();
        while let Some(row) = cursor.next()? {
            let mut values = Vec::with_capacity(columns);
            for index in 0..columns {
                values.push(match row.get_ref(index)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(v) => Value::Integer(v),
                    ValueRef::Real(v) => Value::Real(v),
                    ValueRef::Text(v) => Value::Text(String::from_utf8_lossy(v).into_owned()),
                    ValueRef::Blob(v) => Value::Blob(v.to_vec()),
                });
            }
            rows.push(values)?;
        }
        drop(cursor);
        cost::end(&statement, sql, rows.len());
        Ok(rows.into_vec())
    }
}

impl Session for Tx {
    fn execute(&self, sql: &str, params: &[Value]) -> Result<u64> {
        self.deref().execute(sql, params)
    }

    fn execute_many<'p, P>(&self, sql: &str, lists: impl Iterator<Item = P>) -> Result<u64>
    where
        P: IntoIterator<Item = &'p Value>,
    {
        self.deref().execute_many(sql, lists)
    }

    fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        self.deref().query(sql, params)
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Value]) -> Result<()> {
    let places = places(statement)?;
    bind_at(statement, &places, params)
}

/// What follows VALUES for so many rows, each of what stands in `before` and so many parameters, counted from `first` on.
#[cfg(feature = "agent")]
pub(crate) fn rows_of_values(rows: usize, before: &str, first: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers = first + row * columns..first + (row + 1) * columns;
        let values: Vec<_> = numbers.map(|number| format!("${number}")).collect();
        format!("({before}{})", values.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Where SQLite has the parameter of each number, from `$1` on.
fn places(statement: &rusqlite::Statement<'_>) -> Result<Vec<usize>> {
    let count = statement.parameter_count();
    let mut places = vec![0; count];
    for place in 1..=count {
        let name = statement.parameter_name(place).and_then(|name| name.strip_prefix('$'));
        let number = name.and_then(|digits| digits.parse::<usize>().ok()).unwrap_or_default();
        if let Some(of) = number.checked_sub(1).and_then(|at| places.get_mut(at)) {
            *of = place;
        }
    }
    if places.contains(&0) {
        return Err(Error::new(ErrorKind::Invalid, "parameters are written $1 to $n, without a gap"));
    }
    Ok(places)
}

fn bind_at<'p>(
    statement: &mut rusqlite::Statement<'_>,
    places: &[usize],
    params: impl IntoIterator<Item = &'p Value>,
) -> Result<()> {
    let mut given = 0;
    for value in params {
        if let Some(place) = places.get(given) {
            statement.raw_bind_parameter(*place, value)?;
        }
        given += 1;
    }
    if given != places.len() {
        let message = format!("the statement takes {} parameters, {given} were given", places.len());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Snapshot {
        Snapshot::in_memory("CREATE TABLE page(url TEXT PRIMARY KEY, body TEXT)")
    }

    #[test]
    fn parameters_are_bound_by_number_not_by_first_appearance() {
        let session = session();
        session.execute("INSERT INTO page VALUES ($1, $2)", &["a".into(), "one".into()]).expect("insert");
        let changed = session
            .execute("UPDATE page SET body = $2 WHERE url = $1", &["a".into(), "two".into()])
            .expect("update");
        assert_eq!(changed, 1);
        let rows = session.query("SELECT body FROM page WHERE url = $1", &["a".into()]).expect("query");
        assert_eq!(rows[0].get::<String>("body").expect("text"), "two");
    }

    #[test]
    fn a_statement_is_run_for_each_of_many_parameters() {
        let session = session();
        let rows: Vec<[Value; 2]> = ["a", "b", "c"].map(|url| [url.into(), "new".into()]).into();
        let rows = || rows.iter().map(|row| &row[..]);
        assert_eq!(
            session.execute_many("INSERT INTO page(body, url) VALUES ($2, $1)", rows()).expect("rows"),
            3
        );
        let found =
            session.query("SELECT url FROM page WHERE body = 'new' ORDER BY url", &[]).expect("query");
        assert_eq!(found[2].get::<String>("url").expect("text"), "c");
        assert_eq!(
            session
                .execute_many("DELETE FROM page WHERE url = $1", std::iter::empty::<&[Value]>())
                .expect("none"),
            0
        );
        let error =
            session.execute_many("DELETE FROM page WHERE url = $1", rows()).expect_err("one too many");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn one_statement_answers_so_many_bytes_and_one_row_whatever_it_has() {
        let rows = |sizes: &[usize]| {
            let mut rows = Rows { most: 1 << 20, ..Rows::of(["body".to_owned()].into_iter()) };
            sizes.iter().try_for_each(|size| rows.push(vec![vec![0; *size].into()])).map(|()| rows.len())
        };
        assert_eq!(rows(&[2 << 20]).expect("one alone"), 1);
        assert_eq!(rows(&[1 << 19, 1 << 19]).expect("as many as fit"), 2);
        let refused = rows(&[1 << 19, 1 << 19, 0]).expect_err("one behind them");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.advice().is_some_and(|advice| advice.contains("pages")), "{refused}");
        // Small ones are not for nothing.
        assert!(rows(&vec![0; 20_000]).is_err());
    }

    #[test]
    fn values_of_rows_are_numbered_one_after_the_other() {
        assert_eq!(rows_of_values(2, "$1, ", 2, 2), "($1, $2, $3), ($1, $4, $5)");
        assert_eq!(rows_of_values(1, "", 1, 1), "($1)");
    }

    #[test]
    fn one_number_may_stand_twice() {
        let session = session();
        session.execute("INSERT INTO page VALUES ($1, $1)", &["same".into()]).expect("insert");
        let rows = session.query("SELECT url, body FROM page", &[]).expect("query");
        assert_eq!(rows[0].get::<String>("url").expect("url"), rows[0].get::<String>("body").expect("body"));
    }

    #[test]
    fn a_scan_costs_more_than_a_search_and_only_while_somebody_counts() {
        let session = session();
        for url in 0..100_i64 {
            session.execute("INSERT INTO page VALUES ($1, NULL)", &[url.to_string().into()]).expect("insert");
        }
        let all = "SELECT url FROM page WHERE body IS NOT NULL";
        let one = "SELECT url FROM page WHERE url = $1";
        let ((), costs) = statement_costs(|| {
            session.query(all, &[]).expect("a scan");
            session.query(one, &["7".into()]).expect("a search");
        });
        session.query(all, &[]).expect("not counted");
        let of = |sql| costs.iter().find(|cost| cost.sql == sql).expect("counted").clone();
        assert!(of(all).full_scan_steps >= 99 && of(all).rows == 0, "{costs:?}");
        assert!(of(one).full_scan_steps == 0 && of(one).rows == 1, "{costs:?}");
        assert!(of(all).vm_steps > 10 * of(one).vm_steps, "{costs:?}");
    }

    #[test]
    fn gaps_and_other_styles_are_refused() {
        let session = session();
        for sql in [
            "INSERT INTO page VALUES ($1, $3)",
            "INSERT INTO page VALUES (?1, ?2)",
            "INSERT INTO page VALUES (:a, :b)",
        ] {
            let error = session.execute(sql, &["a".into(), "b".into()]).expect_err(sql);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}");
        }
        let error = session.execute("INSERT INTO page VALUES ($1, $2)", &["a".into()]).expect_err("too few");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
