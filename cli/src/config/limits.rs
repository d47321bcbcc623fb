//! The limits of a database, which only a program can set.

use std::time::Duration;

use rowhouse::Limits;

use super::{Origin, Said, Setting};

/// As the library has them.
pub(super) fn defaults() -> impl Iterator<Item = Setting> {
    let limits = Limits::default();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    [
        ("limits.deadline_ms", ms(limits.deadline)),
        ("limits.queue_jobs", limits.queue_jobs as u64),
        ("limits.backlog_jobs", limits.backlog_jobs as u64),
        ("limits.backlog_bytes", limits.backlog_bytes as u64),
        ("limits.batch_jobs", limits.batch_jobs as u64),
        ("limits.batch_time_ms", ms(limits.batch_time)),
        ("limits.turn_wait_ms", ms(limits.turn_wait)),
        ("limits.readers", limits.readers.into()),
        ("limits.reader_age_ms", ms(limits.reader_age)),
        ("limits.statement_cache", limits.statement_cache as u64),
        ("limits.wal_soft_bytes", limits.wal_soft),
        ("limits.wal_cap_bytes", limits.wal_cap),
        ("limits.disk_reserve_bytes", limits.disk_reserve),
        ("limits.page_cache_bytes", limits.page_cache),
        ("limits.value_bytes", limits.value_bytes.into()),
        ("limits.check_every_ms", ms(limits.check_every)),
        ("limits.quarantine_sets", limits.quarantine_sets as u64),
        ("limits.close_deadline_ms", ms(limits.close_deadline)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Setting::of(name, vec![Said::new(Origin::Default, None, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_shown() {
        let shown = defaults().count();
        let fields = format!("{:#?}", Limits::default());
        // A line for each, a brace before and after.
        assert_eq!(shown, fields.lines().count() - 2, "{fields}");
    }
}
