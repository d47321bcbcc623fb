//! From a server to files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::histories::{FromHistories, Histories, ToTranscripts, sync};
use super::intent::Intent;
use super::run::{Move, differences, files};
use super::side::{OnServer, Side};
use super::switch::tell;
use super::transcripts::{STATE, items_among};
use super::{OnProgress, said, transfer};
use crate::backup::unfinished::Unfinished;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::postgres::bulk::Bulk;
use crate::postgres::schema_of;
use crate::runtime::unnamed_program;
use crate::sqlite::connect::pause;
use crate::sqlite::new_file::NewFile;
use crate::sqlite::{instant_after, now_unix_ms};

/// How the folder is named in which new files are written.
const STAGING: &str = ".move-unfinished-";
/// Free space that must be left over.
const SPARE: u64 = 16 << 20;

impl<'m> Move<'m> {
    pub(super) fn plan_to_files(&mut self, progress: &mut OnProgress<'_>) -> Result<()> {
        self.refuse_files()?;
        let mut bulk = self.begin()?;
        self.refuse_moved(&mut bulk)?;
        self.bring_up(&mut bulk)?;
        let mut server = self.on_server(&mut bulk, &BTreeSet::new());
        let histories = self.histories(&mut server, progress)?;
        let mut source = FromHistories { server, histories: &histories, home: self.home.path() };
        let tables = self.tables(&mut source)?;
        let found = transfer::look(&mut source, &tables, progress)?;
        self.found(&found)
    }

    pub(super) fn move_to_files(&mut self, progress: &mut OnProgress<'_>) -> Result<()> {
        self.refuse_files()?;
        let mut bulk = self.begin_held()?;
        let mut schemas = BTreeMap::new();
        let (place, stamp) = (self.place(), now_unix_ms());
        for domain in &self.domains {
            let schema = schema_of(domain.name());
            let aside = format!("{schema}_moved_{stamp}");
            bulk.put_aside(&schema, &aside, &self.report.id, &place)?;
            schemas.insert(domain.name().to_owned(), aside);
        }
        self.report.kept = schemas.values().cloned().collect();
        let mut server = OnServer::new(&mut bulk, schemas, self.limits.value_bytes);
        let histories = self.histories(&mut server, progress)?;
        let mut source = FromHistories { server, histories: &histories, home: self.home.path() };
        let tables = self.tables(&mut source)?;
        let found = transfer::look(&mut source, &tables, progress)?;
        self.found(&found)?;
        // Values, once more in indexes, and the index of texts.
        let bytes: u64 = found.tables.iter().map(|table| table.bytes + 64 * table.rows).sum();
        home::refuse_too_full(bytes.saturating_mul(3).saturating_add(SPARE), self.home.path(), "the move")?;
        let staging = Unfinished::begin(self.home.path(), STAGING)?;
        let create = |domain: &Domain| {
            let (program, version) = domain.program.clone().unwrap_or_else(unnamed_program);
            let file = staging.path().join(format!("{}.sqlite", domain.name()));
            NewFile::create(&file, domain, (&program, &version))
        };
        let new = self.domains.iter().map(create).collect::<Result<Vec<_>>>()?;
        let files = files(&self.domains, new.iter().map(NewFile::connection));
        let mut files = ToTranscripts::new(files, &histories, staging.path());
        differences(&tables, &self.tables(&mut files)?)?;
        self.transfer(&mut source, &mut files, &tables, found, progress)?;
        drop(files);
        tell(progress, "what users said");
        self.say_again(&histories, staging.path(), &new)?;
        tell(progress, "the new files");
        new.into_iter().try_for_each(NewFile::finish)?;
        staging.sync()?;
        tell(progress, "move.json");
        let intent =
            Intent::announce(self.home, self.report.clone(), Some(staging.path()), histories.folders())?;
        staging.keep();
        self.cut_over(bulk, intent, progress, || {})
    }

    /// Puts what users said on the server into the new transcripts.
    fn say_again(&mut self, histories: &Histories, staging: &Path, new: &[NewFile]) -> Result<()> {
        let connection = |name: &str| {
            let at = self.domains.iter().position(|domain| domain.name() == name)?;
            new.get(at).map(NewFile::connection)
        };
        let Some(state) = connection(STATE) else { return Ok(()) };
        let (any, too_long) = said::say_again(histories, staging, state, connection("goals"))?;
        if !too_long.is_empty() {
            self.report.warnings.push(format!(
                "what was said of these threads is too long for a line of a transcript, and is in their rows alone: {}",
                too_long.told()
            ));
        }
        if any { sync(staging) } else { Ok(()) }
    }

    /// Refuses a home that has files of its own in the place of those to come.
    fn refuse_files(&self) -> Result<()> {
        for domain in &self.domains {
            let file = self.home.database_path(domain.name());
            if fs::symlink_metadata(&file).is_ok() {
                return Err(Error::new(ErrorKind::Conflict, "this file is in the place of the one to come")
                    .in_database(domain.name(), &file)
                    .advise(
                        "it is not in use: move it elsewhere, with what is beside it; nothing was changed",
                    ));
            }
        }
        Ok(())
    }

    /// Those of a schema, when threads are moved; refuses a home that has transcripts in their place.
    fn histories(
        &mut self,
        server: &mut OnServer<'_, '_>,
        progress: &mut OnProgress<'_>,
    ) -> Result<Histories> {
        let Some(state) = self.domains.iter().find(|domain| domain.name() == STATE) else {
            return Ok(Histories::default());
        };
        let tables = server.tables(state)?;
        let found = Histories::look(server, items_among(&tables)?, progress)?;
        self.report.warnings.extend(found.warnings());
        for folder in found.folders() {
            let folder = self.home.path().join(folder);
            if fs::symlink_metadata(&folder).is_ok() {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "this folder is in the place of the transcripts to come",
                )
                .at_path(&folder)
                .advise("its transcripts are not in use: move it elsewhere; nothing was changed"));
            }
        }
        Ok(found)
    }

    fn refuse_moved(&self, bulk: &mut Bulk<'_>) -> Result<()> {
        for domain in &self.domains {
            bulk.refuse_moved(&schema_of(domain.name()))
                .map_err(|error| error.in_database(domain.name(), self.server.name().as_ref()))?;
        }
        Ok(())
    }

    /// Begins, at the newest schema, with every table locked for all machines: they may read, and not write. Two that lock
    /// tables in different orders can be in each other's way; then one of them begins again.
    fn begin_held(&self) -> Result<Bulk<'m>> {
        let until = instant_after(self.options.wait);
        loop {
            let held = || -> Result<Bulk<'m>> {
                let mut bulk = self.begin()?;
                self.refuse_moved(&mut bulk)?;
                self.bring_up(&mut bulk)?;
                for domain in &self.domains {
                    let schema = schema_of(domain.name());
                    let all = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = ";
                    let found = bulk.rows(&format!("{all}'{schema}' ORDER BY tablename"))?;
                    let names = found.into_iter().flatten().flatten().map(|name| format!("{schema}.{name}"));
                    let names: Vec<_> = names.collect();
                    bulk.batch(&format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", ")))?;
                }
                Ok(bulk)
            };
            match held() {
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < until => pause(),
                answer => return answer,
            }
        }
    }
}
