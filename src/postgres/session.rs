//! `Session` over a transaction on a server.

use std::cell::RefCell;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Column, Row as Found};

use super::connection::{Connection, Params};
use super::failure::Failure;
use super::statements::Prepared;
use super::value::{Cell, Param, check};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{self, Row, Rows, Value};

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
        self.run(text, params, |on, prepared, bound| {
            let mut rows = None;
            let walked = on.query(prepared, bound, |found| {
                let rows = rows.get_or_insert_with(|| Rows::of(names(found)));
                let values = values(found).map_err(Refused::Unreadable)?;
                rows.push(values).map_err(Refused::TooMany)
            })?;
            match walked {
                Ok(()) => Ok(Ok(rows.map_or_else(Vec::new, Rows::into_vec))),
                Err(Refused::Unreadable(error)) => Ok(Err(error)),
                Err(Refused::TooMany(error)) => {
                    on.abandon();
                    Err(Failure::told(error))
                }
            }
        })?
    }
}

/// Why a row is not taken.
enum Refused {
    /// None of this statement can be; what goes on on the connection is not touched by it.
    Unreadable(Error),
    /// It is one too many.
    TooMany(Error),
}

fn names(row: &Found) -> impl Iterator<Item = String> {
    row.columns().iter().map(|column| column.name().to_owned())
}

fn values(row: &Found) -> Result<Vec<Value>> {
    let value = |(index, column): (usize, &Column)| {
        row.try_get::<_, Cell>(index).map(|cell| cell.0).map_err(|_| unknown(column.name()))
    };
    row.columns().iter().enumerate().map(value).collect()
}

fn unknown(column: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("column {column} is of a type that only a server has"))
        .advise("cast it to a text, an integer, a double or bytes in the statement")
}
