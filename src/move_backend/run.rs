//! A move from its beginning to its end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::intent::{Intent, settle_alone};
use super::marker::{gone_to, refuse_cutting_over, refuse_moved};
use super::report::{Lost, MoveReport, SCHEMA_VERSION};
use super::side::{Files, OnServer, Side, Source, Target};
use super::switch::{self, tell};
use super::table::refuse_differences;
use super::transfer::{self, Found, Tables};
use super::{Backend, MoveOptions, OnProgress};
use crate::backup::finish_alone;
use crate::config::Limits;
use crate::config::backend::Backends;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Home, PreparedHome};
use crate::postgres::bulk::{Bulk, Committed};
use crate::postgres::{Server, schema_of};
use crate::presence::live::{refuse_live, who_is_there};
use crate::presence::{Alone, Presence};
use crate::registry::{RegistryEntry, RuntimeDbRegistry};
use crate::runtime::unnamed_program;
use crate::sqlite::connect::{Spec, pause};
use crate::sqlite::instant_after;
use crate::sqlite::migrate::newest_of;

/// What somebody who has a database open keeps from being done to it.
pub(super) const MOVED: &str = "moved";

/// What a move is about.
pub(super) struct Move<'m> {
    pub(super) home: &'m PreparedHome,
    /// By name.
    pub(super) domains: Vec<Domain>,
    pub(super) limits: &'m Limits,
    pub(super) options: &'m MoveOptions,
    pub(super) server: &'m Server,
    began: Instant,
    pub(super) report: MoveReport,
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

    pub(super) fn schemas(&self) -> Vec<String> {
        self.domains.iter().map(|domain| schema_of(domain.name())).collect()
    }

    pub(super) fn place(&self) -> String {
        let host = rustix::system::uname();
        format!("{}:{}", host.nodename().to_string_lossy(), self.home.path().display())
    }

    pub(super) fn spec(&self, domain: &Domain) -> Spec {
        let program = domain.program.clone().unwrap_or_else(unnamed_program);
        Spec::new(domain, self.home, program, self.limits, None, &Presence::default())
    }

    pub(super) fn begin(&self) -> Result<Bulk<'m>> {
        Bulk::begin(self.server, &self.schemas(), self.options.wait)
    }

    pub(super) fn bring_up(&self, bulk: &mut Bulk<'_>) -> Result<()> {
        for domain in &self.domains {
            let (program, version) = domain.program.clone().unwrap_or_else(unnamed_program);
            bulk.bring_up(domain, &schema_of(domain.name()), (&program, &version))
                .map_err(|error| error.in_database(domain.name(), self.server.name().as_ref()))?;
        }
        Ok(())
    }

    pub(super) fn tables(&self, side: &mut dyn Side) -> Result<Tables> {
        let of = |domain: &Domain| Ok((domain.clone(), side.tables(domain)?));
        self.domains.iter().map(of).collect()
    }

    pub(super) fn on_server<'b>(&self, bulk: &'b mut Bulk<'m>, fresh: &BTreeSet<String>) -> OnServer<'b, 'm> {
        let schemas = self.domains.iter().map(|domain| (domain.name().to_owned(), schema_of(domain.name())));
        OnServer::new(bulk, schemas.collect(), self.limits.value_bytes).with_fresh(fresh)
    }

    /// Notes what was found; refuses what would be lost.
    pub(super) fn found(&mut self, found: &Found) -> Result<()> {
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

    /// Copies, reads what came of it, and compares.
    pub(super) fn transfer(
        &mut self,
        source: &mut dyn Source,
        target: &mut dyn Target,
        tables: &Tables,
        mut found: Found,
        progress: &mut OnProgress<'_>,
    ) -> Result<()> {
        transfer::copy(source, target, tables, &mut found, progress)?;
        transfer::verify(target, tables, &found, progress)?;
        self.report.tables = found.tables;
        self.report.took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Commits, and makes the home follow. `let_go` ends what is open of the source.
    pub(super) fn cut_over(
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

pub(super) fn files<'f>(
    domains: &[Domain],
    connections: impl Iterator<Item = &'f rusqlite::Connection>,
) -> Files<'f> {
    Files::new(domains.iter().map(|domain| domain.name().to_owned()).zip(connections).collect())
}

pub(super) fn differences(source: &Tables, target: &Tables) -> Result<()> {
    source.iter().zip(target).try_for_each(|((domain, here), (_, there))| {
        refuse_differences(here, there).map_err(|error| {
            let message = format!("{}: {}", domain.name(), error.message());
            error.worded(message)
        })
    })
}
