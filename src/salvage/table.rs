//! The shape of a table or index, and whether a record fits it.
//!
//! A record fits when it is what SQLite would have stored for the declaration: the number of fields, the types of a
//! STRICT table or the affinity of another, NOT NULL. CHECK is asked of SQLite
//! itself, see [`Probe`](super::schema::Probe).

use std::cmp::Ordering;
use std::rc::Rc;

use rusqlite::types::{Value, ValueRef};

use super::record::Serial;

/// What a column stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Any,
    /// INTEGER or INT in a STRICT table.
    Integer,
    /// REAL in a STRICT table: integers are stored for whole numbers.
    Real,
    /// TEXT in a STRICT table.
    Text,
    /// BLOB in a STRICT table.
    Blob,
    /// TEXT affinity (<https://sqlite.org/datatype3.html>): never a number.
    TextAffinity,
    /// INTEGER affinity: usually numbers.
    IntegerAffinity,
    /// REAL affinity: anything, with whole numbers as integers.
    RealAffinity,
}

impl Storage {
    pub(super) fn of(declared: &str, strict: bool) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        match (strict, &declared[..]) {
            (true, "INT" | "INTEGER") => Self::Integer,
            (true, "REAL") => Self::Real,
            (true, "TEXT") => Self::Text,
            (true, "BLOB") => Self::Blob,
            (false, _) if has("INT") => Self::IntegerAffinity,
            (false, _) if has("CHAR") || has("CLOB") || has("TEXT") => Self::TextAffinity,
            (false, _) if has("REAL") || has("FLOA") || has("DOUB") => Self::RealAffinity,
            _ => Self::Any,
        }
    }

    fn admits(self, serial: Serial) -> bool {
        let integer = matches!(serial, Serial::Int(_) | Serial::Bit(_));
        match (self, serial) {
            (Self::Any | Self::IntegerAffinity | Self::RealAffinity, _) => true,
            (Self::Integer, _) => integer,
            (Self::Real, _) => integer || serial == Serial::Float,
            (Self::Text, _) => matches!(serial, Serial::Text(_)),
            (Self::Blob, _) => matches!(serial, Serial::Blob(_)),
            (Self::TextAffinity, _) => matches!(serial, Serial::Text(_) | Serial::Blob(_)),
        }
    }

    /// What a column of this declaration usually holds.
    fn usual(self, serial: Serial) -> bool {
        let number = matches!(serial, Serial::Int(_) | Serial::Bit(_) | Serial::Float);
        match self {
            Self::IntegerAffinity | Self::RealAffinity => number,
            Self::TextAffinity => matches!(serial, Serial::Text(_)),
            Self::Any | Self::Integer | Self::Real | Self::Text | Self::Blob => true,
        }
    }

    fn read(self, value: ValueRef<'_>) -> ValueRef<'_> {
        match (self, value) {
            (Self::Real | Self::RealAffinity, ValueRef::Integer(whole)) => ValueRef::Real(whole as f64),
            _ => value,
        }
    }
}

/// One field of the records of a b-tree, in the order in which they are stored.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) storage: Storage,
    pub(super) not_null: bool,
    /// What older records without the field have there; `None`: every record has it.
    pub(super) default: Option<Value>,
    /// The place among the columns of a row; `None` for a generated column.
    pub(super) column: Option<usize>,
}

/// How the next field of a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) collation: Collation,
    pub(super) descending: bool,
}

/// <https://sqlite.org/datatype3.html#collating_sequences>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collation {
    Binary,
    NoCase,
    RightTrim,
}

/// A table or an index.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// `CREATE TABLE`; `None` for indexes and SQLite's own tables.
    pub(super) sql: Option<String>,
    /// The columns that a row is given with: all but generated ones.
    pub(super) columns: Vec<String>,
    pub(super) fields: Vec<Field>,
    /// The field that is stored as NULL because it is the rowid.
    pub(super) alias: Option<usize>,
    pub(super) tree: Tree,
    /// The root page in a database that was made new.
    pub(super) usual_root: u32,
}

/// What kind of b-tree it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Rowid,
    /// WITHOUT ROWID, with the parts of its key; `None` when a collation is not known here.
    Keyed(Option<Vec<Part>>),
    /// An index: no rows come from it, but a page of it must not be taken for one of a table.
    Index,
}

/// The place of a row in its table.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Rowid(i64),
    Fields(Rc<[Value]>),
}

impl Table {
    /// The record's types are those of this table.
    pub(super) fn admits(&self, serials: &[Serial]) -> bool {
        serials.len() <= self.fields.len()
            && self.fields[serials.len()..].iter().all(|field| field.default.is_some())
            && serials.iter().enumerate().zip(&self.fields).all(|((at, serial), field)| {
                // What stands in the alias's place is not read.
                self.alias == Some(at)
                    || if *serial == Serial::Null { !field.not_null } else { field.storage.admits(*serial) }
            })
    }

    /// The rowid's alias is stored as NULL. Only damage, or another table's record, has something else there.
    pub(super) fn hides_alias(&self, serials: &[Serial]) -> bool {
        self.alias.is_none_or(|alias| serials.get(alias) == Some(&Serial::Null))
    }

    /// Beyond that, every field is there, and holds what its declaration makes one expect. Another table's records may
    /// be admitted; they are hardly ever usual.
    pub(super) fn expects(&self, serials: &[Serial]) -> bool {
        let usual =
            |(serial, field): (&Serial, &Field)| *serial == Serial::Null || field.storage.usual(*serial);
        serials.len() == self.fields.len()
            && self.admits(serials)
            && self.hides_alias(serials)
            && serials.iter().zip(&self.fields).all(usual)
    }

    /// The values of a row, by column, from the fields that it is stored in.
    pub(super) fn values<'a>(&'a self, rowid: i64, fields: &[ValueRef<'a>]) -> Vec<ValueRef<'a>> {
        let mut values = vec![ValueRef::Null; self.columns.len()];
        for (at, field) in self.fields.iter().enumerate() {
            let Some(column) = field.column else { continue };
            values[column] = match (fields.get(at), &field.default) {
                _ if self.alias == Some(at) => ValueRef::Integer(rowid),
                (Some(value), _) => field.storage.read(*value),
                (None, Some(default)) => default.into(),
                (None, None) => ValueRef::Null,
            };
        }
        values
    }

    /// A row's place.
    pub(super) fn key(&self, rowid: i64, fields: &[ValueRef<'_>]) -> Key {
        match &self.tree {
            Tree::Rowid => Key::Rowid(rowid),
            Tree::Keyed(Some(parts)) => {
                Key::Fields(fields.iter().take(parts.len()).map(|value| owned(*value)).collect())
            }
            Tree::Keyed(None) | Tree::Index => Key::Fields(Rc::new([])),
        }
    }

    /// How two places follow each other.
    pub(super) fn compare(&self, one: &Key, other: &Key) -> Ordering {
        match (one, other, &self.tree) {
            (Key::Rowid(one), Key::Rowid(other), _) => one.cmp(other),
            (Key::Fields(one), Key::Fields(other), Tree::Keyed(Some(parts))) => parts
                .iter()
                .zip(one.iter().zip(other.iter()))
                .map(|(part, (one, other))| {
                    let order = part.collation.compare(one, other);
                    if part.descending { order.reverse() } else { order }
                })
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal),
            // Unknown order: nothing is refused for it.
            _ => Ordering::Less,
        }
    }

    /// Places of this table can be compared.
    pub(super) fn ordered(&self) -> bool {
        matches!(self.tree, Tree::Rowid | Tree::Keyed(Some(_)))
    }
}

/// Text was checked to be UTF-8 when it was read.
fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => Value::Integer(whole),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

impl Collation {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "BINARY" => Self::Binary,
            "NOCASE" => Self::NoCase,
            "RTRIM" => Self::RightTrim,
            _ => return None,
        })
    }

    /// NULL, numbers, text, blobs (`#sort_order`).
    fn compare(self, one: &Value, other: &Value) -> Ordering {
        let class = |value: &Value| match value {
            Value::Null => 0,
            Value::Integer(_) | Value::Real(_) => 1,
            Value::Text(_) => 2,
            Value::Blob(_) => 3,
        };
        match (one, other) {
            (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
            (Value::Real(one), Value::Real(other)) => one.total_cmp(other),
            (Value::Integer(one), Value::Real(other)) => (*one as f64).total_cmp(other),
            (Value::Real(one), Value::Integer(other)) => one.total_cmp(&(*other as f64)),
            (Value::Text(one), Value::Text(other)) => match self {
                Self::Binary => one.cmp(other),
                Self::NoCase => one.to_ascii_lowercase().cmp(&other.to_ascii_lowercase()),
                Self::RightTrim => one.trim_end_matches(' ').cmp(other.trim_end_matches(' ')),
            },
            (Value::Blob(one), Value::Blob(other)) => one.cmp(other),
            _ => class(one).cmp(&class(other)),
        }
    }
}
