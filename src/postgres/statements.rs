//! The statements of one connection: prepared by name on the server, or, behind a pooler, known here by the types of
//! their parameters. Either way a text means the same and refuses the same values.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// How many a connection keeps.
const MOST: usize = 256;

/// A text whose parameters are known.
#[derive(Clone)]
pub(super) enum Prepared {
    /// The server has it, under a name.
    Named(Statement),
    /// It is sent each time, with these types.
    Typed(Arc<Typed>),
}

pub(super) struct Typed {
    pub(super) text: Box<str>,
    pub(super) types: Vec<Type>,
}

impl Prepared {
    /// The types of its parameters.
    pub(super) fn params(&self) -> &[Type] {
        match self {
            Self::Named(statement) => statement.params(),
            Self::Typed(typed) => &typed.types,
        }
    }
}

#[derive(Default)]
pub(super) struct Statements {
    /// By schema, then by text: one text means other tables in another schema.
    known: HashMap<Box<str>, HashMap<Box<str>, Prepared>>,
    kept: usize,
}

impl Statements {
    pub(super) fn get(&self, schema: &str, text: &str) -> Option<Prepared> {
        self.known.get(schema)?.get(text).cloned()
    }

    pub(super) fn keep(&mut self, schema: &str, text: &str, made: Prepared) {
        if self.kept == MOST {
            self.known.clear();
            self.kept = 0;
        }
        self.kept += 1;
        self.known.entry(schema.into()).or_default().insert(text.into(), made);
    }
}

/// The types of a list of their numbers, as the server writes an array: `{20,25}`. What this library has no value for is
/// left to the server to name.
pub(super) fn types_of(list: &str) -> Option<Vec<Type>> {
    let numbers = list.strip_prefix('{')?.strip_suffix('}')?;
    let numbers = numbers.split(',').filter(|number| !number.is_empty());
    numbers.map(|number| Some(Type::from_oid(number.parse().ok()?).unwrap_or(Type::UNKNOWN))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_types_is_read_as_the_server_writes_it() {
        assert_eq!(types_of("{20,25}"), Some(vec![Type::INT8, Type::TEXT]));
        assert_eq!(types_of("{}"), Some(vec![]));
        assert_eq!(types_of("{4000000000}"), Some(vec![Type::UNKNOWN]));
        for other in ["", "20", "{a}"] {
            assert_eq!(types_of(other), None);
        }
    }
}
