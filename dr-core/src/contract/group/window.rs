//! The times at which planned operations may begin: `Sat 02:00-05:00`, in UTC.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::Timestamp;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: i64 = 24 * 60;
const MINUTE: i64 = 60_000;

/// A time of the week, in UTC: `Sat 02:00-05:00`, `Mon-Fri 22:00-02:00` (which ends on the next day), `daily 01:00-04:00`.
///
/// ```
/// use dr_core::{Timestamp, contract::Window};
///
/// let window: Window = "Sat 02:00-05:00".parse()?;
/// let friday = Timestamp::from_millis(1_764_288_000_000); // 2025-11-28 00:00 UTC
/// assert!(!window.holds(friday));
/// assert_eq!(window.opens(friday).to_string(), "2025-11-29T02:00:00.000Z");
/// # Ok::<(), dr_core::contract::BadWindow>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first and the last day, from Monday as 0; they may lie in either order.
    days: (u8, u8),
    /// Minutes of the day.
    from: u16,
    /// Minutes of the day; at or before `from` it is the next day.
    to: u16,
}

/// The text is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no window; write `Sat 02:00-05:00`, `Mon-Fri 22:00-02:00` or `daily 01:00-04:00`, in UTC")]
pub struct BadWindow(String);

impl Window {
    /// Tells whether an operation may begin at `at`.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        let (day, minute) = day_and_minute(at);
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to {
            return self.on(day) && (from..to).contains(&minute);
        }
        self.on(day) && minute >= from || self.on(day.saturating_sub(1)) && minute < to
    }

    /// Returns when it opens next, at or after `at`; `at` itself where it is open.
    #[must_use]
    pub fn opens(&self, at: Timestamp) -> Timestamp {
        if self.holds(at) {
            return at;
        }
        let (today, minute) = day_and_minute(at);
        let later = (today..=today.saturating_add(7)).filter(|day| self.on(*day));
        let starts = later.map(|day| day.saturating_mul(DAY).saturating_add(i64::from(self.from)));
        let now = today.saturating_mul(DAY).saturating_add(minute);
        let next = starts.filter(|start| *start > now).min().unwrap_or(now);
        Timestamp::from_millis(next.saturating_mul(MINUTE))
    }

    /// Whether the day, counted from 1970-01-01 (a Thursday), is one of its days.
    fn on(&self, day: i64) -> bool {
        let weekday = u8::try_from(day.saturating_add(3).rem_euclid(7)).unwrap_or(0);
        let (first, last) = self.days;
        if first <= last { (first..=last).contains(&weekday) } else { weekday >= first || weekday <= last }
    }
}

fn day_and_minute(at: Timestamp) -> (i64, i64) {
    let minutes = at.millis().div_euclid(MINUTE);
    (minutes.div_euclid(DAY), minutes.rem_euclid(DAY))
}

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let read = || {
            let (days, times) = text.trim().split_once(' ')?;
            let (from, to) = times.trim().split_once('-')?;
            let (from, to) = (minutes(from)?, minutes(to)?);
            let days = match (days, days.split_once('-')) {
                ("daily", _) => (0, 6),
                (_, Some((first, last))) => (weekday(first)?, weekday(last)?),
                (day, None) => (weekday(day)?, weekday(day)?),
            };
            (from != to && from < 24 * 60).then_some(Self { days, from, to })
        };
        read().ok_or_else(|| BadWindow(text.to_owned()))
    }
}

fn weekday(text: &str) -> Option<u8> {
    DAYS.iter().position(|day| *day == text).and_then(|day| u8::try_from(day).ok())
}

/// `02:00`; `24:00` is the end of a day.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let fits = minutes < 60 && (hours < 24 || (hours, minutes) == (24, 0));
    fits.then(|| hours.saturating_mul(60).saturating_add(minutes))
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |number: u8| DAYS.get(usize::from(number)).copied().unwrap_or("?");
        match self.days {
            (0, 6) => f.write_str("daily")?,
            (first, last) if first == last => f.write_str(day(first))?,
            (first, last) => write!(f, "{}-{}", day(first), day(last))?,
        }
        let clock = |minutes: u16| (minutes / 60, minutes % 60);
        let ((from_h, from_m), (to_h, to_m)) = (clock(self.from), clock(self.to));
        write!(f, " {from_h:02}:{from_m:02}-{to_h:02}:{to_m:02}")
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-24, a Monday, 00:00 UTC.
    const MONDAY: i64 = 1_763_942_400_000;

    fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
        Timestamp::from_millis(MONDAY + ((day * 24 + hour) * 60 + minute) * MINUTE)
    }

    #[test]
    fn a_window_holds_on_its_days_and_hours() {
        let table = [
            ("Sat 02:00-05:00", at(5, 2, 0), true),
            ("Sat 02:00-05:00", at(5, 4, 59), true),
            ("Sat 02:00-05:00", at(5, 5, 0), false),
            ("Sat 02:00-05:00", at(4, 3, 0), false),
            ("daily 01:00-04:00", at(2, 3, 0), true),
            ("Mon-Fri 22:00-02:00", at(4, 23, 0), true),
            ("Mon-Fri 22:00-02:00", at(5, 1, 59), true),
            ("Mon-Fri 22:00-02:00", at(6, 1, 0), false),
            ("Mon-Fri 22:00-02:00", at(0, 1, 0), false),
            ("Sat-Mon 00:00-24:00", at(0, 12, 0), true),
            ("Sat-Mon 00:00-24:00", at(1, 0, 0), false),
        ];
        for (text, time, want) in table {
            let window: Window = text.parse().unwrap();
            assert_eq!((window.holds(time), window.to_string().as_str()), (want, text), "{text} at {time}");
        }
    }

    #[test]
    fn a_window_says_when_it_opens() {
        let table = [
            ("Sat 02:00-05:00", at(0, 0, 0), at(5, 2, 0)),
            ("Sat 02:00-05:00", at(5, 3, 0), at(5, 3, 0)),
            ("Sat 02:00-05:00", at(5, 5, 0), at(12, 2, 0)),
            ("daily 22:00-02:00", at(1, 2, 0), at(1, 22, 0)),
        ];
        for (text, time, want) in table {
            assert_eq!(text.parse::<Window>().unwrap().opens(time), want, "{text} at {time}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused_with_its_text() {
        for text in [
            "",
            "Sat",
            "Sat 2:00-5:00",
            "sat 02:00-05:00",
            "Sat 02:00-02:00",
            "Sat 25:00-26:00",
            "24:00-01:00",
            "Sat 02:00-05:60",
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }
}
