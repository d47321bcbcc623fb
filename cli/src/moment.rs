//! A moment as people write it: so long ago, a date, a time of a day, RFC 3339.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use rowhouse::{Error, ErrorKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(Timestamp);

impl Moment {
    /// In Unix nanoseconds; the last one there is for what lies beyond.
    pub(crate) fn unix_ns(self) -> i64 {
        let ns = self.0.as_nanosecond();
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }

    fn read(text: &str, now: &Zoned) -> Option<Self> {
        let text = text.trim();
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(Self(time));
        }
        if let Ok(local) = text.parse::<DateTime>() {
            return Some(Self(local.to_zoned(now.time_zone().clone()).ok()?.timestamp()));
        }
        let ago = text.strip_suffix("ago").unwrap_or(text).parse::<Span>().ok()?;
        Some(Self(now.checked_sub(ago.abs()).ok()?.timestamp()))
    }
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::read(text, &Timestamp::now().to_zoned(TimeZone::system())).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "a time is so long ago (2h, 3 days), a date (2026-03-01), a local time (2026-03-01T14:30) or RFC 3339",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = "2026-03-10T12:00:00+01:00[+01:00]".parse::<Zoned>().expect("a time");
        for (text, expected) in [
            ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z"),
            ("2026-03-01T10:00:00.5+02:00", "2026-03-01T08:00:00.5Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("2026-03-01T14:30", "2026-03-01T13:30:00Z"),
            ("2026-03-01 14:30:15", "2026-03-01T13:30:15Z"),
            ("2h", "2026-03-10T09:00:00Z"),
            ("90 min", "2026-03-10T09:30:00Z"),
            ("1d 2h ago", "2026-03-09T09:00:00Z"),
            ("1 week", "2026-03-03T11:00:00Z"),
            (" 0s ", "2026-03-10T11:00:00Z"),
        ] {
            let read = Moment::read(text, &now).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(read.0.to_string(), expected, "{text}");
        }
        for bad in ["", "soon", "2026-13-01", "2", "h", "99999 years", "2026-03-01T25:00"] {
            assert_eq!(Moment::read(bad, &now), None, "{bad}");
        }
        assert_eq!(Moment(Timestamp::MAX).unix_ns(), i64::MAX);
        assert_eq!(Moment(Timestamp::MIN).unix_ns(), i64::MIN);
    }
}
