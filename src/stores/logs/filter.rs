//! A query, checked and made ready: what SQL compares, and what is compared here.
//!
//! SQL leaves out what a column alone decides (level, time, process, no thread). Prefixes, endings and text are compared
//! here: the engines differ in what `LIKE` and `lower` mean, and know lower case of English letters only.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::query::{LogQuery, OfThreads};
use super::scan::THREADS_BY_INDEX;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Row, Value};
use crate::stores::threads::Direction;
use crate::stores::threads::row::thread_id;

/// The longest text of a filter, in bytes: far beyond any name, and beyond what anybody looks for.
pub const LONGEST_FILTER: usize = 4096;

/// The most rows of a page.
pub(super) const LARGEST_PAGE: u32 = 1000;

#[derive(Clone)]
pub(super) struct Filter {
    pub(super) direction: Direction,
    level: i64,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    process: Option<String>,
    /// Sorted; none of them begins with another one.
    targets: Option<Vec<String>>,
    module: Option<String>,
    file: Option<String>,
    /// Ids in lower case, sorted, each once.
    threads: OfThreads,
    text: Option<Needle>,
    /// The same in every process and version; not of the time range, which may move on from page to page.
    pub(super) fingerprint: u64,
}

impl Filter {
    pub(super) fn of(query: &LogQuery) -> Result<Self> {
        if !(1..=LARGEST_PAGE).contains(&query.limit) {
            return Err(Error::new(ErrorKind::Invalid, "a page holds 1 to 1,000 log rows")
                .advise("ask for less and go on with the next cursor"));
        }
        let targets = query.targets.as_ref().map(|all| prefixes(all)).transpose()?;
        let of = |text: &Option<String>| text.as_deref().map(checked).transpose();
        let mut filter = Self {
            direction: query.direction,
            level: query.level.number(),
            since: query.since,
            until: query.until,
            process: of(&query.process)?,
            targets,
            module: of(&query.module)?,
            file: of(&query.file)?,
            threads: threads(&query.threads)?,
            text: of(&query.text)?.map(|text| Needle::of(&text)),
            fingerprint: 0,
        };
        filter.fingerprint = filter.hash();
        Ok(filter)
    }

    pub(super) fn walking(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    fn hash(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        // What a text or a list hashes to is the standard library's business; its bytes and lengths are ours.
        let mut add = |bytes: &[u8]| {
            hasher.write(&(bytes.len() as u64).to_le_bytes());
            hasher.write(bytes);
        };
        add(&self.level.to_le_bytes());
        for text in [&self.process, &self.module, &self.file] {
            add(&[u8::from(text.is_some())]);
            add(text.as_deref().unwrap_or_default().as_bytes());
        }
        add(self.text.as_ref().map_or(&[], |needle| needle.message.as_bytes()));
        let (kind, ids) = match &self.threads {
            OfThreads::Any => (0, &[][..]),
            OfThreads::None => (1, &[][..]),
            OfThreads::These(ids) => (2, &ids[..]),
        };
        add(&[kind, u8::from(self.targets.is_some())]);
        for list in [ids, self.targets.as_deref().unwrap_or_default()] {
            add(&(list.len() as u64).to_le_bytes());
            for one in list {
                add(one.as_bytes());
            }
        }
        hasher.finish()
    }

    /// What the statements of a page compare, from `$3` on: level, first and last moment, process, whether without a thread.
    pub(super) fn params(&self) -> [Value; 5] {
        [
            self.level.into(),
            self.since.unwrap_or(i64::MIN).into(),
            self.until.map_or(i64::MAX, |until| until.saturating_sub(1)).into(),
            self.process.clone().into(),
            (self.threads == OfThreads::None).into(),
        ]
    }

    /// True when no row can match.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.threads, OfThreads::These(ids) if ids.is_empty())
            || self.targets.as_ref().is_some_and(Vec::is_empty)
            || matches!((self.since, self.until), (Some(since), Some(until)) if since >= until)
            || self.until == Some(i64::MIN)
    }

    /// The threads whose rows are found by the index, if that is the way to find them.
    pub(super) fn by_index(&self) -> Option<&[String]> {
        match &self.threads {
            OfThreads::These(ids) if ids.len() <= THREADS_BY_INDEX => Some(ids),
            _ => None,
        }
    }

    /// True when SQL answers rows that [`matches`](Self::matches) may still leave out.
    pub(super) fn is_decided_here(&self) -> bool {
        self.targets.is_some()
            || self.module.is_some()
            || self.file.is_some()
            || self.text.is_some()
            || (matches!(self.threads, OfThreads::These(_)) && self.by_index().is_none())
    }

    /// Whether a row that SQL answered belongs to the list.
    pub(super) fn matches(&self, row: &Row) -> Result<bool> {
        if let Some(targets) = &self.targets
            && !begins_with_one_of(&row.get::<String>("target")?, targets)
        {
            return Ok(false);
        }
        let holds = |column: &str, wanted: &Option<String>, holds: fn(&str, &str) -> bool| {
            let Some(wanted) = wanted else { return Ok(true) };
            Ok::<_, Error>(row.get::<Option<String>>(column)?.is_some_and(|found| holds(&found, wanted)))
        };
        if !holds("module", &self.module, |found, prefix| found.starts_with(prefix))?
            || !holds("file", &self.file, |found, ending| found.ends_with(ending))?
        {
            return Ok(false);
        }
        if let OfThreads::These(ids) = &self.threads
            && self.by_index().is_none()
            && row.get::<Option<String>>("thread_id")?.is_none_or(|id| ids.binary_search(&id).is_err())
        {
            return Ok(false);
        }
        let Some(needle) = &self.text else { return Ok(true) };
        Ok(needle.is_in_message(&row.get::<String>("message")?)
            || row.get::<Option<String>>("fields")?.is_some_and(|fields| needle.is_in_json(&fields)))
    }
}

/// A text to look for, in lower case.
#[derive(Clone)]
struct Needle {
    message: String,
    /// As it stands inside a JSON string.
    json: String,
}

impl Needle {
    fn of(text: &str) -> Self {
        let message = text.to_lowercase();
        let quoted = serde_json::Value::from(message.as_str()).to_string();
        Self { json: quoted[1..quoted.len() - 1].to_owned(), message }
    }

    fn is_in_message(&self, message: &str) -> bool {
        message.to_lowercase().contains(&self.message)
    }

    fn is_in_json(&self, fields: &str) -> bool {
        fields.to_lowercase().contains(&self.json)
    }
}

fn checked(text: &str) -> Result<String> {
    if text.len() > LONGEST_FILTER {
        return Err(Error::new(ErrorKind::Invalid, "a text to filter by is longer than 4,096 bytes"));
    }
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::Invalid, "a text to filter by holds a NUL"));
    }
    Ok(text.to_owned())
}

/// Sorted, without those that begin with another one: so only the last one that is not greater can be a prefix of a text.
fn prefixes(all: &[String]) -> Result<Vec<String>> {
    let mut all = all.iter().map(|one| checked(one)).collect::<Result<Vec<_>>>()?;
    all.sort_unstable();
    all.dedup_by(|later, kept| later.starts_with(kept.as_str()));
    Ok(all)
}

fn begins_with_one_of(text: &str, prefixes: &[String]) -> bool {
    let greater = prefixes.partition_point(|prefix| prefix.as_str() <= text);
    greater > 0 && text.starts_with(prefixes[greater - 1].as_str())
}

fn threads(of: &OfThreads) -> Result<OfThreads> {
    let OfThreads::These(ids) = of else { return Ok(of.clone()) };
    let mut ids = ids.iter().map(|id| thread_id(id)).collect::<Result<Vec<_>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(OfThreads::These(ids))
}
