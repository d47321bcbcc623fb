//! One look after the other, and what happened between two of them.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;
use rowhouse::{DatabaseStats, Error, ErrorKind, Home, ProcessStatus, RuntimeDbRegistry, Stats};

use super::view::{Database, Found, Process};

/// What each process had counted of each database.
type Counted = HashMap<(String, u32), Stats>;

/// Remembers the look before.
pub(super) struct Watch {
    registry: RuntimeDbRegistry,
    home: String,
    only: Option<String>,
    before: Option<(Instant, Counted)>,
}

impl Watch {
    /// Looks at nothing yet but whether there is such a database.
    ///
    /// # Errors
    /// `NotFound` when there is not; those of listing.
    pub(super) fn new(home: &Home, only: Option<&str>) -> Result<Self> {
        let registry = RuntimeDbRegistry::new(home);
        if let Some(name) = only
            && !registry.list()?.iter().any(|found| found.name == name)
        {
            return Err(Error::new(ErrorKind::NotFound, format!("no database named {name}"))
                .at_path(home.path())
                .advise("`rowhouse status` lists those that are there")
                .into());
        }
        Ok(Self {
            registry,
            home: home.path().display().to_string(),
            only: only.map(str::to_owned),
            before: None,
        })
    }

    /// What is so now, and what happened since the last look.
    ///
    /// # Errors
    /// Those of listing the home.
    pub(super) fn look(&mut self) -> Result<Found> {
        let mut databases = self.registry.stats()?;
        databases.retain(|database| self.only.as_ref().is_none_or(|name| *name == database.info.name));
        let pages = self.registry.processes()?;
        let now = Instant::now();
        let (seconds, before) = match self.before.take() {
            Some((then, before)) => (now.duration_since(then).as_secs_f64(), before),
            None => (0.0, Counted::new()),
        };
        let mut found = Found { home: self.home.clone(), at: clock(), processes: 0, databases: Vec::new() };
        let mut seen = Counted::new();
        let mut pids: Vec<u32> = Vec::new();
        for database in &databases {
            found.databases.push(self.database(database, &pages, &before, seconds));
            for process in &database.processes {
                pids.push(process.pid);
                seen.insert((database.info.name.clone(), process.pid), process.stats.clone());
            }
        }
        pids.sort_unstable();
        pids.dedup();
        found.processes = pids.len();
        self.before = Some((now, seen));
        Ok(found)
    }

    fn database(
        &self,
        database: &DatabaseStats,
        pages: &[ProcessStatus],
        before: &Counted,
        seconds: f64,
    ) -> Database {
        let name = &database.info.name;
        // Who is inside a write transaction may be no process of ours; where the system does not tell, nobody is.
        let writer = self.registry.holder(name).ok().flatten().map(|holder| holder.pid);
        let mut all = Stats::default();
        let mut processes = Vec::new();
        for process in &database.processes {
            // One that began between two looks did everything since.
            let earlier = before.get(&(name.clone(), process.pid)).cloned().unwrap_or_default();
            let since = process.stats.since(&earlier);
            let page = pages.iter().find(|page| page.pid == process.pid);
            let own = page.and_then(|page| page.databases.iter().find(|of| of.name == *name));
            processes.push(Process {
                pid: process.pid,
                program: process.program.clone(),
                queue: process.stats.queued,
                commits_per_s: rate(since.commits, seconds),
                p99_us: p99(&since),
                job: own.and_then(|own| own.label.clone()),
                running_ms: own.and_then(|own| own.since_unix_ms).map(age_ms),
                writes: writer == Some(process.pid),
                latched: process.latched,
            });
            all.merge(&since);
        }
        Database {
            // Who has it open here; others are the server's to tell.
            name: if database.info.is_on_server() { format!("{name} (server)") } else { name.clone() },
            queue: database.total.queued,
            commits_per_s: rate(all.commits, seconds),
            jobs_per_s: rate(all.jobs, seconds),
            errors_per_s: rate(all.errors.total(), seconds),
            p99_us: p99(&all),
            lag_pages: database.total.checkpoint_lag,
            wal_bytes: database.info.wal_bytes,
            bytes: database.info.main_bytes,
            writer,
            processes,
        }
    }
}

/// How long the write lock was held for a batch, its commit included: what 99 % did not exceed.
fn p99(stats: &Stats) -> Option<u64> {
    (stats.hold_us.count() > 0).then(|| stats.hold_us.quantile(0.99))
}

fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

fn age_ms(since_unix_ms: u64) -> u64 {
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    now.saturating_sub(since_unix_ms)
}

fn clock() -> String {
    jiff::Zoned::now().strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowhouse::{Domain, Runtime};

    #[test]
    fn rates_are_of_what_happened_between_two_looks() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        let runtime = Runtime::builder(home.clone()).domain(Domain::new("cache")).open().expect("opened");
        let cache = runtime.database("cache").expect("the domain");
        cache.write(|tx| tx.execute("CREATE TABLE page(url TEXT)", [])).expect("written");
        let mut watch = Watch::new(&home, Some("cache")).expect("it is there");
        let first = watch.look().expect("a look");
        assert_eq!(first.databases[0].commits_per_s, None, "nothing to compare with");
        for _ in 0..10 {
            cache.write(|tx| tx.execute("INSERT INTO page VALUES ('x')", [])).expect("written");
        }
        let then = watch.before.as_ref().expect("a look").0;
        let second = watch.look().expect("a look");
        let [database] = &second.databases[..] else { panic!("one database") };
        let seconds = watch.before.as_ref().expect("a look").0.duration_since(then).as_secs_f64();
        let commits = database.commits_per_s.expect("two looks") * seconds;
        assert!((commits - 10.0).abs() < 0.01, "{commits}");
        assert_eq!((second.processes, database.processes[0].pid), (1, std::process::id()));
        assert!(database.p99_us.is_some() && database.bytes > 0);
        assert_eq!(watch.look().expect("a look").databases[0].p99_us, None, "nothing since");
        assert!(Watch::new(&home, Some("nowhere")).is_err());
    }
}
