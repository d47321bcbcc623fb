//! From files to a server.

use std::collections::BTreeSet;
use std::fs;

use super::OnProgress;
use super::intent::Intent;
use super::run::{MOVED, Move, differences, files};
use super::side::Files;
use super::switch::{self, tell};
use super::table::{self, Table};
use super::transcripts::{STATE, Transcripts, WithTranscripts, items_among};
use super::transfer::{self, Tables};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::bulk::Bulk;
use crate::postgres::moved::Direction;
use crate::postgres::schema_of;
use crate::presence::Alone;
use crate::presence::live::refuse_others;
use crate::sqlite::source::Source;

impl Move<'_> {
    pub(super) fn plan_to_server(&mut self, progress: &mut OnProgress<'_>) -> Result<()> {
        let specs: Vec<_> = self.domains.iter().map(|domain| self.spec(domain)).collect();
        let there = specs.iter().filter(|spec| fs::symlink_metadata(&spec.path).is_ok());
        let sources = there.map(|spec| Source::look(spec, self.options.wait)).collect::<Result<Vec<_>>>()?;
        self.domains.retain(|domain| fs::symlink_metadata(self.home.database_path(domain.name())).is_ok());
        // All that the server is asked to do is done, and rolled back.
        let mut bulk = self.begin()?;
        let fresh = self.fresh(&mut bulk)?;
        self.bring_up(&mut bulk)?;
        let settled = sources.iter().all(|source| source.is_settled);
        let files = files(&self.domains, sources.iter().map(Source::connection));
        let transcripts = if settled { self.transcripts(&files, progress)? } else { None };
        let mut files = WithTranscripts { files, transcripts: transcripts.as_ref() };
        let tables = self.tables(&mut files)?;
        if settled {
            let target = self.tables(&mut self.on_server(&mut bulk, &fresh))?;
            differences(&tables, &target)?;
            self.refuse_rows(&mut bulk, &target, &fresh)?;
        } else {
            self.report.warnings.push("the files are brought to the newest schema first".to_owned());
        }
        drop(bulk);
        let found = transfer::look(&mut files, &tables, progress)?;
        self.found(&found)
    }

    pub(super) fn move_to_server(&mut self, alone: &Alone, progress: &mut OnProgress<'_>) -> Result<()> {
        if !self.domains.iter().any(|domain| self.home.database_path(domain.name()).exists()) {
            return Err(Error::new(ErrorKind::NotFound, "there is nothing to move in this home yet")
                .at_path(self.home.path())
                .advise(
                    "name another home with --home, or write backend = \"postgres\" into its config.toml",
                ));
        }
        // Before the files are touched: a server that will not do leaves everything as it is.
        let mut bulk = self.begin()?;
        let fresh = self.fresh(&mut bulk)?;
        self.bring_up(&mut bulk)?;
        let target = self.tables(&mut self.on_server(&mut bulk, &fresh))?;
        for (domain, tables) in &target {
            lock(&mut bulk, &schema_of(domain.name()), tables)?;
        }
        self.refuse_rows(&mut bulk, &target, &fresh)?;
        let hold = |domain: &Domain| Source::hold(&self.spec(domain), alone, self.options.wait);
        let sources = self.domains.iter().map(hold).collect::<Result<Vec<_>>>()?;
        let files = files(&self.domains, sources.iter().map(Source::connection));
        let transcripts = self.transcripts(&files, progress)?;
        let transcripts = transcripts.as_ref();
        transcripts.map_or(Ok(()), Transcripts::refuse)?;
        let mut files = WithTranscripts { files, transcripts };
        let tables = self.tables(&mut files)?;
        differences(&tables, &target)?;
        let found = transfer::look(&mut files, &tables, progress)?;
        self.found(&found)?;
        self.transfer(&mut files, &mut self.on_server(&mut bulk, &fresh), &tables, found, progress)?;
        let place = self.place();
        for schema in self.schemas() {
            bulk.mark(&schema, &self.report.id, Direction::In, &place)?;
        }
        tell(progress, "a last look");
        refuse_others(self.home, &self.report.domains, MOVED)?;
        tell(progress, "move.json");
        let folders = transcripts.map_or_else(Vec::new, |all| all.folders.clone());
        let intent = Intent::announce(self.home, self.report.clone(), None, folders)?;
        // From now on nobody begins to write a transcript: what was read is what is there.
        if let Err(error) = transcripts.map_or(Ok(()), |all| all.refuse_changed(self.home)) {
            switch::take_back(self.home, &intent)?;
            return Err(error);
        }
        drop(files);
        self.cut_over(bulk, intent, progress, || drop(sources))
    }

    /// The schemas that are made in this move.
    fn fresh(&self, bulk: &mut Bulk<'_>) -> Result<BTreeSet<String>> {
        let mut fresh = BTreeSet::new();
        for schema in self.schemas() {
            if bulk.says(&format!(
                "NOT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = '{schema}' AND tablename <> 'rowhouse_move')"
            ))? {
                fresh.insert(schema);
            }
        }
        Ok(fresh)
    }

    /// Refuses a server that holds rows of its own. What migrations put into a schema that was just made are none.
    fn refuse_rows(&self, bulk: &mut Bulk<'_>, target: &Tables, fresh: &BTreeSet<String>) -> Result<()> {
        for (domain, tables) in target {
            let schema = schema_of(domain.name());
            for table in tables.iter().filter(|_| !fresh.contains(&schema)) {
                if bulk.says(&format!("EXISTS (SELECT 1 FROM {schema}.{})", table.quoted()))? {
                    let message = format!("the server holds rows of its own in {schema}.{}", table.name);
                    return Err(Error::new(ErrorKind::Conflict, message)
                        .in_database(domain.name(), self.server.name().as_ref())
                        .advise(format!(
                            "another home uses it: name another database of the server, or, if nobody needs these rows, \
                             DROP SCHEMA {schema} CASCADE; nothing was changed"
                        )));
                }
            }
        }
        Ok(())
    }

    fn transcripts(
        &mut self,
        files: &Files<'_>,
        progress: &mut OnProgress<'_>,
    ) -> Result<Option<Transcripts>> {
        let of_threads = self.domains.iter().find(|domain| domain.name() == STATE);
        let Some((domain, state)) = of_threads.zip(files.get(STATE)) else { return Ok(None) };
        let tables = table::of_file(state, domain)?;
        let found = Transcripts::look(self.home, state, items_among(&tables)?, progress)?;
        self.report.warnings.extend(found.warnings());
        Ok(Some(found))
    }
}

/// Nobody writes them until the transaction ends.
fn lock(bulk: &mut Bulk<'_>, schema: &str, tables: &[Table]) -> Result<()> {
    let names: Vec<_> = tables.iter().map(|table| format!("{schema}.{}", table.quoted())).collect();
    if names.is_empty() {
        Ok(())
    } else {
        bulk.batch(&format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", ")))
    }
}
