//! `Session` over a transaction on a server.

use std::cell::RefCell;
use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row as Found, Statement};

use super::connection::Connection;
use super::failure::Failure;
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
        then: impl FnOnce(&mut Connection, &Statement, &[&(dyn ToSql + Sync)]) -> Result<T, Failure>,
    ) -> Result<(Statement, T)> {
        if let Some(failure) = &*self.failed.borrow() {
            return Err(failure.error.clone());
        }
        let mut connection = self.connection.borrow_mut();
        let statement = connection.prepare(self.schema, text).map_err(|failure| self.ends_with(failure))?;
        let types = statement.params();
        if types.len() != params.len() {
            let message =
                format!("the statement takes {} parameters, {} were given", types.len(), params.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        params.iter().zip(types).try_for_each(|(value, ty)| check(value, ty))?;
        let bound: Vec<_> = params.iter().map(Param).collect();
        let bound: Vec<_> = bound.iter().map(|one| one as &(dyn ToSql + Sync)).collect();
        match then(&mut connection, &statement, &bound) {
            Ok(answer) => Ok((statement, answer)),
            Err(failure) => Err(self.ends_with(failure)),
        }
    }

    fn ends_with(&self, failure: Failure) -> Error {
        let error = failure.error.clone();
        self.failed.borrow_mut().get_or_insert(failure);
        error
    }
}

impl sql::Session for Session<'_> {
    fn execute(&self, text: &str, params: &[Value]) -> Result<u64> {
        self.run(text, params, |on, statement, bound| on.execute(statement, bound))
            .map(|(_, changed)| changed)
    }

    fn query(&self, text: &str, params: &[Value]) -> Result<Vec<Row>> {
        let (statement, rows) = self.run(text, params, |on, statement, bound| on.query(statement, bound))?;
        let columns: Arc<[String]> =
            statement.columns().iter().map(|column| column.name().to_owned()).collect();
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
