//! `Value` as the server's types, and back. Integers are 64 bits wide, texts UTF-8 without NUL; nothing else is known.

use std::error::Error as StdError;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::Value;

/// A value to bind. [`check`] has found that its parameter can be it.
#[derive(Debug)]
pub(super) struct Param<'v>(pub(super) &'v Value);

/// A value of a row.
pub(super) struct Cell(pub(super) Value);

fn is_text(ty: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN].contains(ty)
}

/// Refuses what the server would: an error of its own ends the transaction, one found here does not.
///
/// # Errors
/// `Invalid`.
pub(super) fn check(value: &Value, ty: &Type) -> Result<()> {
    let fits = match value {
        Value::Null => true,
        Value::Integer(v) => match *ty {
            Type::INT8 | Type::BOOL | Type::FLOAT8 => true,
            Type::INT4 => i32::try_from(*v).is_ok(),
            Type::INT2 => i16::try_from(*v).is_ok(),
            _ => false,
        },
        Value::Real(_) => *ty == Type::FLOAT8,
        Value::Text(v) if v.contains('\0') => {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a text with a NUL character cannot be kept on a server",
            ));
        }
        Value::Text(_) => is_text(ty),
        Value::Blob(_) => *ty == Type::BYTEA,
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("a parameter of type {} is given another value", ty.name())))
}

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(v) => match *ty {
                Type::BOOL => (*v != 0).to_sql(ty, out),
                Type::FLOAT8 => (*v as f64).to_sql(ty, out),
                Type::INT4 => i32::try_from(*v)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(*v)?.to_sql(ty, out),
                _ => v.to_sql(ty, out),
            },
            Value::Real(v) => v.to_sql(ty, out),
            Value::Text(v) => v.to_sql(ty, out),
            Value::Blob(v) => v.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(match *ty {
            Type::INT8 => Value::Integer(i64::from_sql(ty, raw)?),
            Type::INT4 => Value::Integer(i32::from_sql(ty, raw)?.into()),
            Type::INT2 => Value::Integer(i16::from_sql(ty, raw)?.into()),
            Type::BOOL => Value::Integer(bool::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Value::Real(f64::from_sql(ty, raw)?),
            Type::FLOAT4 => Value::Real(f32::from_sql(ty, raw)?.into()),
            Type::BYTEA => Value::Blob(raw.to_vec()),
            _ if is_text(ty) => Value::Text(String::from_sql(ty, raw)?),
            _ => return Err(format!("a column of type {} is no value", ty.name()).into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_would_refuse_is_refused_here() {
        for (value, ty) in [
            (Value::Integer(1 << 40), Type::INT4),
            (Value::Integer(1), Type::TEXT),
            (Value::Text("1".to_owned()), Type::INT8),
            (Value::Text("a\0b".to_owned()), Type::TEXT),
            (Value::Blob(vec![1]), Type::TEXT),
            (Value::Real(1.0), Type::INT8),
        ] {
            assert_eq!(check(&value, &ty).expect_err("refused").kind(), ErrorKind::Invalid, "{value:?} {ty}");
        }
        for (value, ty) in [
            (Value::Null, Type::INT8),
            (Value::Integer(i64::MIN), Type::INT8),
            (Value::Integer(1), Type::INT4),
            (Value::Text(String::new()), Type::TEXT),
            (Value::Blob(vec![0]), Type::BYTEA),
            (Value::Real(0.5), Type::FLOAT8),
        ] {
            check(&value, &ty).expect("it fits");
        }
    }

    #[test]
    fn a_value_comes_back_as_it_was_bound() {
        for (value, ty) in [
            (Value::Integer(i64::MIN), Type::INT8),
            (Value::Integer(-7), Type::INT4),
            (Value::Text("日本".to_owned()), Type::TEXT),
            (Value::Blob(vec![0, 255]), Type::BYTEA),
            (Value::Real(f64::MIN_POSITIVE), Type::FLOAT8),
        ] {
            let mut bytes = BytesMut::new();
            Param(&value).to_sql(&ty, &mut bytes).expect("bound");
            assert_eq!(Cell::from_sql(&ty, &bytes).expect("read").0, value);
        }
    }
}
