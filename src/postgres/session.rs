//! `Session` over a transaction on a server.

use std::cell::RefCell;
use std::sync::Arc;

use tokio_postgres::Row as Found;
use tokio_postgres::types::ToSql;

use super::connection::{Connection, Params};
use super::failure::Failure;
use super::statements::Prepared;
use super::value::{Cell, Param, check};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{self, Row, Value};

/// What a job and a read see of a server.
pub(crate) struct Session<'a> {
    connection: RefCell<&'a mut Connection>,
    schema: &'a str,
    /// The first statement that failed: the server does nothing more in this transaction.
    failed: RefCell<Option<Failure>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(connection: &'a mut Connection, schema: &'a str) -> Self {
        Self { connection: RefCell::new(connection), schema, failed: RefCell::default() }
    }

    /// What ended its transaction, if something did.
    pub(super) fn into_failure(self) -> Option<Failure> {
        self.failed.into_inner()
    }

    /// Prepares the text, checks the values, and does `then`.
    fn run<T>(
        &self,
        text: &str,
        params: &[Value],
        then: impl FnOnce(&mut Connection, &Prepared, &Params<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        if let Some(failure) = &*self.failed.borrow() {
            return Err(failure.error.clone());
        }
        let mut connection = self.connection.borrow_mut();
        let prepared = connection.prepare(self.schema, text);
        let prepared = prepared.map_err(|failure| self.ends_with(failure))?;
        let types = prepared.params();
        if types.len() != params.len() {
            let message =
                format!("the statement takes {} parameters, {} were given", types.len(), params.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        params.iter().zip(types).try_for_each(|(value, ty)| check(value, ty))?;
        let bound: Vec<_> = params.iter().map(Param).collect();
        let bound: Vec<_> = bound.iter().map(|one| one as &(dyn ToSql + Sync)).collect();
        then(&mut connection, &prepared, &bound).map_err(|failure| self.ends_with(failure))
    }

    fn ends_with(&self, failure: Failure) -> Error {
        let error = failure.error.clone();
        self.failed.borrow_mut().get_or_insert(failure);
        error
    }
}

impl sql::Session for Session<'_> {
    fn execute(&self, text: &str, params: &[Value]) -> Result<u64> {
        self.run(text, params, |on, prepared, bound| on.execute(prepared, bound))
    }

    fn query(&self, text: &str, params: &[Value]) -> Result<Vec<Row>> {
        let rows = self.run(text, params, |on, prepared, bound| on.query(prepared, bound))?;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
        let values = |row: &Found| {
            (0..columns.len())
                .map(|index| {
                    row.try_get::<_, Cell>(index).map(|cell| cell.0).map_err(|_| unknown(&columns[index]))
                })
                .collect::<Result<Vec<_>>>()
        };
        rows.iter().map(|row| Ok(Row::new(columns.clone(), values(row)?))).collect()
    }
}

fn unknown(column: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("column {column} is of a type that only a server has"))
        .advise("cast it to a text, an integer, a double or bytes in the statement")
}
