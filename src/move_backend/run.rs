//! A move from its beginning to its end.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::histories::{FromHistories, Histories, ToTranscripts};
use super::intent::{Intent, settle_alone};
use super::marker::{gone_to, refuse_cutting_over, refuse_moved};
use super::report::{Lost, MoveReport, SCHEMA_VERSION};
use super::side::{Files, OnServer, Side};
use super::switch::{self, tell};
use super::table::{Table, refuse_differences};
use super::transcripts::{STATE, Transcripts, WithTranscripts};
use super::transfer::{self, Found, Tables};
use super::{Backend, MoveOptions, OnProgress};
use crate::backup::finish_alone;
use crate::backup::unfinished::Unfinished;
use crate::config::Limits;
use crate::config::backend::Backends;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, Home, PreparedHome};
use crate::postgres::bulk::{Bulk, Committed};
use crate::postgres::moved::Direction;
use crate::postgres::{Server, schema_of};
use crate::presence::live::{refuse_live, refuse_others, who_is_there};
use crate::presence::{Alone, Presence};
use crate::registry::{RegistryEntry, RuntimeDbRegistry};
use crate::runtime::unnamed_program;
use crate::sqlite::connect::{Spec, pause};
use crate::sqlite::migrate::newest_of;
use crate::sqlite::new_file::NewFile;
use crate::sqlite::source::Source;
use crate::sqlite::{instant_after, now_unix_ms};

/// What somebody who has a database open keeps from being done to it.
const MOVED: &str = "moved";
/// How the folder is named in which new files are written.
const STAGING: &str = ".move-unfinished-";
/// Free space that must be left over.
const SPARE: u64 = 16 << 20;

/// What a move is about.
struct Move<'m> {
    home: &'m PreparedHome,
    /// By name.
    domains: Vec<Domain>,
    limits: &'m Limits,
    options: &'m MoveOptions,
    server: &'m Server,
    began: Instant,
    report: MoveReport,
}

/// # Errors
/// As [`Builder::migrate_backend`](crate::Builder::migrate_backend).
pub(crate) fn run(
    home: &Home,
    domains: &[Domain],
    limits: &Limits,
    options: &MoveOptions,
    progress: &mut OnProgress<'_>,
) -> Result<MoveReport> {
    home.locate()?;
    let folder = home.prepare()?;
    if let Some(why) = folder.read_only() {
        return Err(why.clone());
    }
    let names: Vec<_> = domains.iter().map(|domain| domain.name().to_owned()).collect();
    if options.dry_run {
        refuse_cutting_over(&folder)?;
        return plan(&folder, domains, limits, options, progress);
    }
    let alone = enter(&folder, &names, options.wait)?;
    finish_alone(&folder, &alone)?;
    let earlier = settle_alone(&folder, &alone, progress)?;
    refuse_live(&folder, &names, MOVED)?;
    match (earlier, to_move(&folder, domains, options.to)) {
        (Some(earlier), Err(error)) if earlier.to == options.to && error.kind() == ErrorKind::Conflict => {
            Ok(MoveReport { finished_earlier: true, ..earlier })
        }
        (_, Err(error)) => Err(error),
        (_, Ok(chosen)) => {
            let server = reach(&folder, options)?;
            let mut one = Move::new(&folder, chosen, limits, options, &server)?;
            match options.to {
                Backend::Postgres => one.move_to_server(&alone, progress)?,
                Backend::Sqlite => one.move_to_files(progress)?,
            }
            if options.to == Backend::Sqlite {
                one.register(home);
            }
            Ok(one.report)
        }
    }
}

/// What would be done. Programs may go on meanwhile.
fn plan(
    home: &PreparedHome,
    domains: &[Domain],
    limits: &Limits,
    options: &MoveOptions,
    progress: &mut OnProgress<'_>,
) -> Result<MoveReport> {
    let chosen = to_move(home, domains, options.to)?;
    let server = reach(home, options)?;
    let mut one = Move::new(home, chosen, limits, options, &server)?;
    match options.to {
        Backend::Postgres => one.plan_to_server(progress)?,
        Backend::Sqlite => one.plan_to_files(progress)?,
    }
    Ok(one.report)
}

fn reach(home: &PreparedHome, options: &MoveOptions) -> Result<std::sync::Arc<Server>> {
    Server::open(&Backends::named_server(home.path())?, instant_after(options.wait))
}

/// Has the home alone, when those who have it open leave in time.
fn enter(home: &PreparedHome, names: &[String], wait: Duration) -> Result<Alone> {
    let until = instant_after(wait);
    loop {
        if let Some(alone) = Alone::try_enter(home)? {
            return Ok(alone);
        }
        if Instant::now() >= until {
            return Err(who_is_there(home, names, MOVED));
        }
        pause();
    }
}

/// The domains that can be on a server and are not yet where they are to go.
fn to_move(home: &PreparedHome, domains: &[Domain], to: Backend) -> Result<Vec<Domain>> {
    let mut chosen: Vec<_> =
        domains.iter().filter(|domain| !domain.server_migrations.is_empty()).cloned().collect();
    chosen.sort_by(|one, other| one.name().cmp(other.name()));
    let found = Backends::of(home.path(), chosen.iter().map(Domain::name))?;
    chosen.retain(|domain| {
        let is_there = found.is_on_server(domain.name());
        // Also what was moved there, and of which the configuration does not say so any more.
        if to == Backend::Sqlite { is_there || is_gone(home, domain) } else { !is_there }
    });
    if to == Backend::Postgres {
        chosen.iter().try_for_each(|domain| refuse_moved(home, domain.name()))?;
    }
    if chosen.is_empty() {
        let place = if to == Backend::Postgres { "on a server" } else { "in files" };
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("everything that can be moved is {place} already"),
        )
        .at_path(home.path())
        .advise("`rowhouse status` shows where the databases of a home are"));
    }
    Ok(chosen)
}

fn is_gone(home: &PreparedHome, domain: &Domain) -> bool {
    // A mark that cannot be read is there.
    gone_to(home, domain.name()).map_or(true, |place| place.is_some())
}

impl<'m> Move<'m> {
    fn new(
        home: &'m PreparedHome,
        domains: Vec<Domain>,
        limits: &'m Limits,
        options: &'m MoveOptions,
        server: &'m Server,
    ) -> Result<Self> {
        let names: Vec<_> = domains.iter().map(|domain| domain.name().to_owned()).collect();
        let to_server = options.to == Backend::Postgres;
        let mut report = MoveReport {
            schema_version: SCHEMA_VERSION,
            id: uuid::Uuid::now_v7().to_string(),
            at: jiff::Timestamp::now().to_string(),
            home: home.path().to_owned(),
            to: options.to,
            server: server.name().to_owned(),
            dry_run: options.dry_run,
            tables: Vec::new(),
            unholdable: Vec::new(),
            replaced: false,
            config: switch::plan_config(home, &names, to_server)?,
            domains: names,
            kept: Vec::new(),
            folder: None,
            finished_earlier: false,
            took_ms: 0,
            warnings: Vec::new(),
        };
        if to_server && !Backends::names_server_in_file(home.path())? {
            report.warnings.push(
                "the server's URL comes from the environment: every program that opens this home needs it there"
                    .to_owned(),
            );
        }
        Ok(Self { home, domains, limits, options, server, began: Instant::now(), report })
    }

    fn schemas(&self) -> Vec<String> {
        self.domains.iter().map(|domain| schema_of(domain.name())).collect()
    }

    fn place(&self) -> String {
        let host = rustix::system::uname();
        format!("{}:{}", host.nodename().to_string_lossy(), self.home.path().display())
    }

    fn spec(&self, domain: &Domain) -> Spec {
        let program = domain.program.clone().unwrap_or_else(unnamed_program);
        Spec::new(domain, self.home, program, self.limits, None, &Presence::default())
    }

    fn begin(&self) -> Result<Bulk<'m>> {
        Bulk::begin(self.server, &self.schemas(), self.options.wait)
    }

    fn bring_up(&self, bulk: &mut Bulk<'_>) -> Result<()> {
        for domain in &self.domains {
            let (program, version) = domain.program.clone().unwrap_or_else(unnamed_program);
            bulk.bring_up(domain, &schema_of(domain.name()), (&program, &version))
                .map_err(|error| error.in_database(domain.name(), self.server.name().as_ref()))?;
        }
        Ok(())
    }

    fn tables(&self, side: &mut dyn Side) -> Result<Tables> {
        let of = |domain: &Domain| Ok((domain.clone(), side.tables(domain)?));
        self.domains.iter().map(of).collect()
    }

    fn on_server<'b>(&self, bulk: &'b mut Bulk<'m>) -> OnServer<'b, 'm> {
        let schemas = self.domains.iter().map(|domain| (domain.name().to_owned(), schema_of(domain.name())));
        OnServer { bulk, schemas: schemas.collect(), longest: self.limits.value_bytes }
    }

    /// Notes what was found; refuses what would be lost.
    fn found(&mut self, found: &Found) -> Result<()> {
        self.report.tables.clone_from(&found.tables);
        self.report.unholdable.clone_from(&found.lost);
        self.report.replaced = self.options.replace_unholdable && !found.lost.is_empty();
        let agreed = |lost: &&Lost| self.options.replace_unholdable && lost.why.is_replaceable();
        let refused: Vec<_> = found.lost.iter().filter(|lost| !agreed(lost)).collect();
        if refused.is_empty() || self.options.dry_run {
            return Ok(());
        }
        let one = |lost: &&Lost| {
            let Lost { domain, table, column, why, values, .. } = lost;
            format!("{values} in {domain}.{table}.{column} ({})", why.told())
        };
        let named: Vec<_> = refused.iter().map(one).collect();
        let message = format!("the other side cannot hold these values: {}", named.join(", "));
        let advice = if refused.iter().all(|lost| lost.why.is_replaceable()) {
            "change them, or say --replace-unholdable: then U+FFFD stands for them, and the originals stay in the file that \
             is put aside; nothing was changed"
        } else {
            "change these values first; nothing was changed"
        };
        Err(Error::new(ErrorKind::Invalid, message).advise(advice))
    }

    /// Copies, reads both sides back, and compares.
    fn transfer(
        &mut self,
        source: &mut dyn Side,
        target: &mut dyn Side,
        tables: &Tables,
        mut found: Found,
        progress: &mut OnProgress<'_>,
    ) -> Result<()> {
        transfer::copy(source, target, tables, &mut found, progress)?;
        transfer::verify(source, target, tables, &found, progress)?;
        self.report.tables = found.tables;
        self.report.took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn plan_to_server(&mut self, progress: &mut OnProgress<'_>) -> Result<()> {
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
        let transcripts = if settled { self.transcripts(&files)? } else { None };
        let mut files = WithTranscripts { files, transcripts: transcripts.as_ref() };
        let tables = self.tables(&mut files)?;
        if settled {
            let target = self.tables(&mut self.on_server(&mut bulk))?;
            differences(&tables, &target)?;
            self.refuse_rows(&mut bulk, &target, &fresh)?;
        } else {
            self.report.warnings.push("the files are brought to the newest schema first".to_owned());
        }
        drop(bulk);
        let found = transfer::look(&mut files, &tables, progress)?;
        self.found(&found)
    }

    fn move_to_server(&mut self, alone: &Alone, progress: &mut OnProgress<'_>) -> Result<()> {
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
        let target = self.tables(&mut self.on_server(&mut bulk))?;
        for (domain, tables) in &target {
            lock(&mut bulk, &schema_of(domain.name()), tables)?;
        }
        self.refuse_rows(&mut bulk, &target, &fresh)?;
        let hold = |domain: &Domain| Source::hold(&self.spec(domain), alone, self.options.wait);
        let sources = self.domains.iter().map(hold).collect::<Result<Vec<_>>>()?;
        let files = files(&self.domains, sources.iter().map(Source::connection));
        let transcripts = self.transcripts(&files)?;
        let transcripts = transcripts.as_ref();
        transcripts.map_or(Ok(()), Transcripts::refuse)?;
        let mut files = WithTranscripts { files, transcripts };
        let tables = self.tables(&mut files)?;
        differences(&tables, &target)?;
        let found = transfer::look(&mut files, &tables, progress)?;
        self.found(&found)?;
        self.transfer(&mut files, &mut self.on_server(&mut bulk), &tables, found, progress)?;
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

    /// Whether each domain's schema is made in this move.
    fn fresh(&self, bulk: &mut Bulk<'_>) -> Result<Vec<bool>> {
        let fresh = |schema: String| {
            bulk.says(&format!(
                "NOT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = '{schema}' AND tablename <> 'rowhouse_move')"
            ))
        };
        self.schemas().into_iter().map(fresh).collect()
    }

    /// Refuses a server that holds rows of its own. What migrations put into a schema that was just made are none.
    fn refuse_rows(&self, bulk: &mut Bulk<'_>, target: &Tables, fresh: &[bool]) -> Result<()> {
        for ((domain, tables), _) in target.iter().zip(fresh).filter(|(_, fresh)| !**fresh) {
            let schema = schema_of(domain.name());
            for table in tables {
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

    fn plan_to_files(&mut self, progress: &mut OnProgress<'_>) -> Result<()> {
        self.refuse_files()?;
        let mut bulk = self.begin()?;
        self.refuse_moved(&mut bulk)?;
        self.bring_up(&mut bulk)?;
        let histories = self.histories(&mut bulk, &schema_of(STATE))?;
        let server = self.on_server(&mut bulk);
        let mut source = FromHistories { server, histories: &histories, home: self.home.path() };
        let tables = self.tables(&mut source)?;
        let found = transfer::look(&mut source, &tables, progress)?;
        self.found(&found)
    }

    fn move_to_files(&mut self, progress: &mut OnProgress<'_>) -> Result<()> {
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
        let longest = self.limits.value_bytes;
        let aside = schemas.get(STATE).cloned().unwrap_or_default();
        let histories = self.histories(&mut bulk, &aside)?;
        let server = OnServer { bulk: &mut bulk, schemas, longest };
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
        let mut files = ToTranscripts { files, histories: &histories, folder: staging.path() };
        differences(&tables, &self.tables(&mut files)?)?;
        self.transfer(&mut source, &mut files, &tables, found, progress)?;
        drop(files);
        tell(progress, "the new files");
        new.into_iter().try_for_each(NewFile::finish)?;
        staging.sync()?;
        tell(progress, "move.json");
        let intent =
            Intent::announce(self.home, self.report.clone(), Some(staging.path()), histories.folders())?;
        staging.keep();
        self.cut_over(bulk, intent, progress, || {})
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

    fn transcripts(&mut self, files: &Files<'_>) -> Result<Option<Transcripts>> {
        let Some(state) = files.0.get(STATE) else { return Ok(None) };
        let found = Transcripts::look(self.home, state)?;
        self.report.warnings.extend(found.warnings());
        Ok(Some(found))
    }

    /// Those of a schema, when threads are moved; refuses a home that has transcripts in their place.
    fn histories(&mut self, bulk: &mut Bulk<'_>, schema: &str) -> Result<Histories> {
        if !self.domains.iter().any(|domain| domain.name() == STATE) {
            return Ok(Histories::default());
        }
        let found = Histories::look(bulk, schema)?;
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

    /// Commits, and makes the home follow. `let_go` ends what is open of the source.
    fn cut_over(
        &mut self,
        bulk: Bulk<'_>,
        intent: Intent,
        progress: &mut OnProgress<'_>,
        let_go: impl FnOnce(),
    ) -> Result<()> {
        tell(progress, "the commit");
        let committed = match bulk.commit() {
            Committed::Yes => Ok(true),
            Committed::No(error) => {
                switch::take_back(self.home, &intent)?;
                return Err(error);
            }
            Committed::Unknown => intent.was_committed(self.server),
        };
        let_go();
        if !committed? {
            switch::take_back(self.home, &intent)?;
            let error = Error::new(ErrorKind::Io, "the connection was lost before the move was committed");
            return Err(error.at_path(self.server.name().as_ref()).advise("try again; nothing was changed"));
        }
        switch::finish(self.home, &intent, progress)?;
        self.report = intent.report;
        Ok(())
    }

    /// The registry describes; what counts is in the databases.
    fn register(&mut self, home: &Home) {
        let entry = |domain: &Domain| RegistryEntry {
            name: domain.name().to_owned(),
            role: domain.role(),
            durability: domain.durability,
            schema_version: newest_of(domain),
            program: Some(domain.program.clone().unwrap_or_else(unnamed_program)),
            written_at: None,
        };
        let entries: Vec<_> = self.domains.iter().map(entry).collect();
        if let Err(error) = RuntimeDbRegistry::new(home).record_all(&entries) {
            self.report.warnings.push(format!("the registry could not be written: {error}"));
        }
    }
}

fn files<'f>(domains: &[Domain], connections: impl Iterator<Item = &'f rusqlite::Connection>) -> Files<'f> {
    Files(domains.iter().map(|domain| domain.name().to_owned()).zip(connections).collect())
}

fn differences(source: &Tables, target: &Tables) -> Result<()> {
    source.iter().zip(target).try_for_each(|((domain, here), (_, there))| {
        refuse_differences(here, there).map_err(|error| {
            let message = format!("{}: {}", domain.name(), error.message());
            error.worded(message)
        })
    })
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
