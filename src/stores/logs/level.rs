//! Which events are taken, by their target.
//!
//! Invariants:
//! 1. The longest target that an event's target begins with decides; without one, the default does.
//! 2. A text that cannot be understood changes nothing: it is refused, or, from the environment, its bad parts are left
//!    out.
//!
//! Tests: below; `tests/log_levels.rs`.

use std::fmt;
use std::str::FromStr;

use super::LogLevel;
use crate::error::{Error, ErrorKind, Result};

/// The longest text that is looked at, in bytes.
const LONGEST: usize = 16 << 10;

/// Which events are taken: a level for everything, and others for targets that begin with a name.
///
/// Written as the directives of `RUST_LOG`: `warn`, `info,hyper=warn,my_app::store=trace`, `off`. A name alone
/// (`my_app`) takes everything of it. Unlike there, targets that no directive names are taken at `info`, unless a level
/// stands alone; and spans and fields (`[request{id}]=debug`) cannot be chosen by.
///
/// ```
/// use rowhouse::stores::logs::{LogLevel, LogLevels};
/// let levels: LogLevels = "info,my_app::net=debug,noisy=off".parse()?;
/// assert!(levels.takes("my_app::net::tls", LogLevel::Debug));
/// assert!(!levels.takes("my_app", LogLevel::Debug) && !levels.takes("noisy", LogLevel::Error));
/// # Ok::<(), rowhouse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    /// `None` is `off`.
    default: Option<LogLevel>,
    /// The longest names first.
    targets: Vec<(String, Option<LogLevel>)>,
}

impl Default for LogLevels {
    /// `info`.
    fn default() -> Self {
        Self::all(LogLevel::Info)
    }
}

impl LogLevels {
    /// Every target at this level and above.
    pub fn all(level: LogLevel) -> Self {
        Self { default: Some(level), targets: Vec::new() }
    }

    /// Nothing is taken.
    pub fn off() -> Self {
        Self { default: None, targets: Vec::new() }
    }

    /// True when nothing is ever taken.
    pub fn is_off(&self) -> bool {
        self.most().is_none()
    }

    /// Whether an event of this target and level is taken.
    pub fn takes(&self, target: &str, level: LogLevel) -> bool {
        let named = self.targets.iter().find(|(name, _)| target.starts_with(name.as_str()));
        named.map_or(self.default, |(_, least)| *least).is_some_and(|least| level >= least)
    }

    /// The least important level that some target is taken at.
    pub(super) fn most(&self) -> Option<LogLevel> {
        let all = self.targets.iter().map(|(_, level)| *level).chain([self.default]);
        all.flatten().min()
    }

    /// Those of the directives that can be understood, and how many cannot.
    pub(super) fn parse_lossy(text: &str) -> (Option<Self>, usize) {
        let (mut levels, mut known, mut bad) = (Self::default(), 0, 0);
        for directive in directives(text) {
            match levels.add(directive) {
                Ok(()) => known += 1,
                Err(_) => bad += 1,
            }
        }
        levels.sort();
        ((known > 0).then_some(levels), bad)
    }

    fn add(&mut self, directive: &str) -> Result<()> {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (target.trim(), level_of(level.trim())?),
            None => match level_of(directive) {
                Ok(level) => {
                    self.default = level;
                    return Ok(());
                }
                Err(_) => (directive, Some(LogLevel::Trace)),
            },
        };
        let is_odd = |letter: char| "[]{}=\"\0".contains(letter) || letter.is_whitespace();
        if target.is_empty() || target.contains(is_odd) {
            return Err(no_directive());
        }
        // The last word about a target counts.
        self.targets.retain(|(known, _)| known != target);
        self.targets.push((target.to_owned(), level));
        Ok(())
    }

    fn sort(&mut self) {
        self.targets.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    }
}

fn directives(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|directive| !directive.is_empty())
}

fn no_directive() -> Error {
    let message = "a directive is a level (off, error, warn, info, debug, trace), or target=level";
    Error::new(ErrorKind::Invalid, message).advise("for example: info,hyper=warn,my_app=debug")
}

/// A level by its name or number; `None` is `off`. Numbers are those of `tracing`'s filters: 0 is off, 5 everything.
fn level_of(text: &str) -> Result<Option<LogLevel>> {
    if text.eq_ignore_ascii_case("off") || text == "0" {
        return Ok(None);
    }
    let by_number = || {
        let number: usize = text.parse().ok()?;
        LogLevel::ALL.into_iter().rev().nth(number.checked_sub(1)?)
    };
    text.parse().ok().or_else(by_number).map(Some).ok_or_else(no_directive)
}

impl FromStr for LogLevels {
    type Err = Error;

    /// # Errors
    /// `Invalid` for a directive that is none, an empty text, and one of more than 16 KiB.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST || directives(text).next().is_none() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "levels are one or more directives, in at most 16 KiB",
            )
            .advise("for example: info,hyper=warn,my_app=debug"));
        }
        let mut levels = Self::default();
        directives(text).try_for_each(|directive| levels.add(directive))?;
        levels.sort();
        Ok(levels)
    }
}

impl fmt::Display for LogLevels {
    /// As directives, which read the same again.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |level: Option<LogLevel>| level.map_or("off", LogLevel::as_str);
        formatter.write_str(word(self.default))?;
        self.targets.iter().try_for_each(|(target, level)| write!(formatter, ",{target}={}", word(*level)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> LogLevels {
        text.parse().expect(text)
    }

    #[test]
    fn the_longest_name_decides() {
        let levels = levels("warn, my=info ,my::net=off,my::net::tls=TRACE,bare,numeric=4");
        assert!(levels.takes("other", LogLevel::Warn) && !levels.takes("other", LogLevel::Info));
        assert!(levels.takes("my::store", LogLevel::Info) && !levels.takes("my::store", LogLevel::Debug));
        assert!(!levels.takes("my::net", LogLevel::Error));
        assert!(levels.takes("my::net::tls", LogLevel::Trace) && levels.takes("bare", LogLevel::Trace));
        assert!(levels.takes("numeric", LogLevel::Debug) && !levels.takes("numeric", LogLevel::Trace));
        assert_eq!(levels.most(), Some(LogLevel::Trace));
        assert_eq!(levels.to_string().parse::<LogLevels>().expect("its own text"), levels);
    }

    #[test]
    fn what_is_not_named_is_taken_at_info() {
        let levels = levels("my_app=debug");
        assert!(levels.takes("other", LogLevel::Info) && !levels.takes("other", LogLevel::Debug));
        assert_eq!(LogLevels::default(), LogLevels::all(LogLevel::Info));
    }

    #[test]
    fn off_is_off_only_when_nothing_is_left() {
        assert!(levels("off").is_off() && levels("off,a=off").is_off() && levels("0").is_off());
        assert!(!levels("off,a=error").is_off() && !levels("a=off").is_off());
        assert!(levels("off,a=error").takes("a::b", LogLevel::Error));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_or_left_out() {
        let long = "a".repeat(LONGEST + 1);
        for bad in ["", " , ", "a=loud", "=info", "[span]=info", "a{b}=info", "a b=info", "a\0=info", &long] {
            assert_eq!(bad.parse::<LogLevels>().expect_err(bad).kind(), ErrorKind::Invalid);
        }
        let (found, bad) = LogLevels::parse_lossy("warn,[span{x}]=debug,a=loud,b=debug");
        assert_eq!((found.map(|found| found.to_string()), bad), (Some("warn,b=debug".to_owned()), 2));
        assert_eq!(LogLevels::parse_lossy("a=loud"), (None, 1));
        assert_eq!(LogLevels::parse_lossy(""), (None, 0));
    }
}
