//! One value on its way between the engines, and whether the other side can hold it.
//!
//! What it cannot hold is never changed silently: the value is given with the reason, and whoever reads decides.

use std::borrow::Cow;
use std::error::Error as StdError;

use rusqlite::types::{ToSqlOutput, ValueRef};
use sha2::{Digest, Sha256};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut};

use super::table::Kind;

/// A value, borrowed from where it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(&'a [u8]),
}

/// Why the other side cannot hold a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unholdable {
    /// A text with a NUL character, which a server does not keep.
    NulInText,
    /// A text that is not UTF-8, which a server does not keep.
    InvalidUtf8,
    /// A value of another type than its column has.
    OtherType,
    /// A number that is none (NaN), which a file keeps as NULL.
    NotANumber,
    /// Longer than a database in a file takes ([`Limits::value_bytes`](crate::Limits)).
    TooLong,
}

impl Unholdable {
    /// Whether U+FFFD may stand in its place.
    pub fn is_replaceable(self) -> bool {
        matches!(self, Self::NulInText | Self::InvalidUtf8)
    }

    /// What it is, for a person.
    pub fn told(self) -> &'static str {
        match self {
            Self::NulInText => "a NUL character in a text",
            Self::InvalidUtf8 => "a text that is not UTF-8",
            Self::OtherType => "a value of another type than its column",
            Self::NotANumber => "a number that is none (NaN)",
            Self::TooLong => "a value that is too long for a file",
        }
    }
}

/// A value of a file, as a server would hold it.
pub(super) fn of_file(value: ValueRef<'_>, kind: Kind) -> (Cell<'_>, Option<Unholdable>) {
    match (value, kind) {
        (ValueRef::Null, _) => (Cell::Null, None),
        (ValueRef::Integer(value), Kind::Integer) => (Cell::Integer(value), None),
        (ValueRef::Real(value), Kind::Real) => (Cell::Real(value), None),
        (ValueRef::Blob(value), Kind::Blob) => (Cell::Blob(value), None),
        (ValueRef::Text(bytes), Kind::Text) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => (Cell::Text(text.into()), None),
            Ok(text) => (Cell::Text(without_nul(text).into()), Some(Unholdable::NulInText)),
            Err(_) => {
                let text = without_nul(&String::from_utf8_lossy(bytes));
                (Cell::Text(text.into()), Some(Unholdable::InvalidUtf8))
            }
        },
        _ => (Cell::Null, Some(Unholdable::OtherType)),
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

impl Cell<'_> {
    /// Why a file cannot hold a value of a server.
    pub(super) fn not_for_a_file(&self, longest: u32) -> Option<Unholdable> {
        let length = match self {
            Self::Real(value) if value.is_nan() => return Some(Unholdable::NotANumber),
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        (length > longest as usize).then_some(Unholdable::TooLong)
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }

    /// Each value in one way only: its type, its length where it has one, and its bytes.
    pub(super) fn hash(&self, hash: &mut Sha256) {
        let mut long = |tag: u8, bytes: &[u8]| {
            hash.update([tag]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        match self {
            Self::Text(text) => long(3, text.as_bytes()),
            Self::Blob(bytes) => long(4, bytes),
            Self::Null => hash.update([0]),
            Self::Integer(value) => {
                hash.update([1]);
                hash.update(value.to_be_bytes());
            }
            Self::Real(value) => {
                hash.update([2]);
                // A file keeps -0.0 as 0.0; they are the same number.
                let value = if *value == 0.0 { 0.0 } else { *value };
                hash.update(value.to_bits().to_be_bytes());
            }
        }
    }
}

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(value) => value.to_sql(ty, out),
            Self::Real(value) => value.to_sql(ty, out),
            Self::Text(text) => text.as_ref().to_sql(ty, out),
            Self::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::BYTEA => Self::Blob(raw),
            _ => Self::Text(<&str>::from_sql(ty, raw)?.into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        Kind::ALL.iter().any(|kind| kind.of_server() == *ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_cannot_hold_is_told_and_can_be_replaced() {
        let text = |bytes: &'static [u8]| of_file(ValueRef::Text(bytes), Kind::Text);
        assert_eq!(text("日本".as_bytes()), (Cell::Text("日本".into()), None));
        assert_eq!(text(b""), (Cell::Text("".into()), None));
        assert_eq!(text(b"a\0b"), (Cell::Text("a\u{FFFD}b".into()), Some(Unholdable::NulInText)));
        assert_eq!(text(b"a\xFF\0"), (Cell::Text("a\u{FFFD}\u{FFFD}".into()), Some(Unholdable::InvalidUtf8)));
        assert_eq!(of_file(ValueRef::Integer(1), Kind::Text), (Cell::Null, Some(Unholdable::OtherType)));
        assert_eq!(of_file(ValueRef::Null, Kind::Text), (Cell::Null, None));
    }

    #[test]
    fn what_a_file_cannot_hold_is_told() {
        assert_eq!(Cell::Real(f64::NAN).not_for_a_file(9), Some(Unholdable::NotANumber));
        assert_eq!(Cell::Real(f64::INFINITY).not_for_a_file(9), None);
        assert_eq!(Cell::Text("12345".into()).not_for_a_file(4), Some(Unholdable::TooLong));
        assert_eq!(Cell::Blob(&[1, 2]).not_for_a_file(4), None);
    }
}
