//! How durations, sizes and names are read from people and shown to them.
//!
//! A number without a unit is never accepted: thirty *what* is the question of an incident.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::time::Millis;

/// The units of durations with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration with units: `30 s`, `100 ms`, `5 min`, `1 h`, `4 min 12 s`, `0.5 s`.
///
/// # Errors
/// There is no unit, an unknown one, or something that is no number.
///
/// ```
/// use dr_core::{seconds, base::text};
///
/// assert_eq!(text::parse_duration("4 min 12 s")?, seconds(252));
/// let refused = text::parse_duration("30").unwrap_err();
/// assert_eq!(refused.to_string(), "`30` has no unit: is it `30 s` or `30 min`? units: ms, s, min, h, d");
/// # Ok::<(), text::BadDuration>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Millis, BadDuration> {
    let mut rest = text.trim();
    let (mut total, mut shorter_than) = (0_u64, u64::MAX);
    if rest.is_empty() {
        return Err(BadDuration::Shape { text: text.into() });
    }
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, tail) = split(tail.trim_start(), |c| !c.is_whitespace() && !c.is_ascii_digit());
        if number.is_empty() {
            return Err(BadDuration::Shape { text: text.into() });
        }
        let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(if unit.is_empty() {
                BadDuration::NoUnit { text: text.trim().into() }
            } else {
                BadDuration::Unit { text: text.into(), unit: unit.into() }
            });
        };
        if *length >= shorter_than {
            return Err(BadDuration::Shape { text: text.into() });
        }
        shorter_than = *length;
        let part = scaled(number, *length).ok_or_else(|| BadDuration::Number { text: text.into() })?;
        total = total.checked_add(part).ok_or_else(|| BadDuration::Number { text: text.into() })?;
        rest = tail.trim_start();
    }
    Ok(Millis::new(total))
}

/// Writes a duration so that [`parse_duration`] reads the same one: in the longest unit that divides it.
#[must_use]
pub fn duration(duration: Millis) -> String {
    let ms = duration.count();
    if ms == 0 {
        return "0 s".into();
    }
    let unit = UNITS.iter().find(|(_, length)| ms.is_multiple_of(*length));
    unit.map_or_else(|| format!("{ms} ms"), |(name, length)| format!("{} {name}", ms / length))
}

/// Writes a duration for people, as exact as it matters: `0.1 s`, `18 s`, `4 min 12 s`, `2 h 10 min`, `203 days`.
#[must_use]
pub fn human(duration: Millis) -> String {
    let ms = duration.count();
    let rounded = |unit: u64| ms / unit + u64::from(ms % unit >= unit.div_ceil(2));
    let (tenths, seconds, minutes) = (rounded(100), rounded(1000), rounded(60_000));
    if ms == 0 {
        "0 s".into()
    } else if ms < 100 {
        format!("{ms} ms")
    } else if tenths < 100 {
        match tenths % 10 {
            0 => format!("{} s", tenths / 10),
            tenth => format!("{}.{tenth} s", tenths / 10),
        }
    } else if seconds < 60 {
        format!("{seconds} s")
    } else if seconds < 3600 {
        pair((seconds / 60, "min"), (seconds % 60, "s"))
    } else if minutes < 48 * 60 {
        pair((minutes / 60, "h"), (minutes % 60, "min"))
    } else {
        format!("{} days", rounded(86_400_000))
    }
}

fn pair(large: (u64, &str), small: (u64, &str)) -> String {
    match small {
        (0, _) => format!("{} {}", large.0, large.1),
        (count, unit) => format!("{} {} {count} {unit}", large.0, large.1),
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// `number` units of `length`, exactly or not at all.
fn scaled(number: &str, length: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(length)?;
    if fraction.is_empty() {
        return (!number.ends_with('.')).then_some(whole);
    }
    let parts = fraction.parse::<u64>().ok()?.checked_mul(length)?;
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    (parts % scale == 0).then(|| whole.checked_add(parts / scale)).flatten()
}

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// A number alone.
    #[error("`{text}` has no unit: is it `{text} s` or `{text} min`? units: ms, s, min, h, d")]
    NoUnit {
        /// What was written.
        text: String,
    },
    /// A number with something that is no unit of time.
    #[error("`{text}` has the unknown unit `{unit}`{} units: ms, s, min, h, d", hint(meant(.unit)))]
    Unit {
        /// What was written.
        text: String,
        /// What stands in the place of the unit.
        unit: String,
    },
    /// The number is too large, or finer than a millisecond.
    #[error("`{text}` is too long a time or finer than 1 ms")]
    Number {
        /// What was written.
        text: String,
    },
    /// No sequence of numbers and units, longest first.
    #[error("`{text}` is no duration; one looks like `30 s` or `4 min 12 s`")]
    Shape {
        /// What was written.
        text: String,
    },
}

/// What a person meant who wrote `unit`.
fn meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" | "s" => Some("s"),
        "m" | "mins" | "minute" | "minutes" | "min" => Some("min"),
        "msec" | "millis" | "millisecond" | "milliseconds" | "ms" => Some("ms"),
        "hr" | "hrs" | "hour" | "hours" | "h" => Some("h"),
        "day" | "days" | "d" => Some("d"),
        _ => None,
    }
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(|| ";".into(), |meant| format!(": did you mean `{meant}`?"))
}

/// A number of bytes; read and written with its unit: `16 MiB`, `500 MB`, `0 B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl Size {
    /// `count` bytes.
    #[must_use]
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZES.iter().find(|(_, length)| self.0 != 0 && self.0.is_multiple_of(*length));
        let (name, length) = unit.unwrap_or(&("B", 1));
        f.pad(&format!("{} {name}", self.0 / length))
    }
}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let (number, unit) = split(text.trim(), |c| c.is_ascii_digit() || c == '.');
        let found = SIZES.iter().find(|(name, _)| *name == unit.trim_start());
        found.and_then(|(_, length)| scaled(number, *length)).map(Self).ok_or_else(|| BadSize(text.into()))
    }
}

/// The text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size; one looks like `16 MiB`; units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB")]
pub struct BadSize(String);

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Units(|text: &str| text.parse().map_err(|error: BadSize| error.to_string())))
    }
}

/// For `#[serde(with = "dr_core::base::text::as_duration")]`: a [`Millis`] written with its unit, as in group files.
pub mod as_duration {
    use super::{Deserializer, Millis, Serializer, Units, duration, parse_duration};

    /// Writes the duration with its unit.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration(*time))
    }

    /// Reads a duration with its unit.
    ///
    /// # Errors
    /// The unit is missing or unknown, or the value is no text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
        deserializer.deserialize_str(Units(|text: &str| parse_duration(text).map_err(|error| error.to_string())))
    }

    /// The same for a duration that may be absent.
    pub mod optional {
        use serde::Deserialize;

        use super::{Deserializer, Millis, Serializer};

        /// Writes the duration with its unit, or null.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(time: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads a duration with its unit.
        ///
        /// # Errors
        /// The unit is missing or unknown, or the value is no text.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
            #[derive(Deserialize)]
            #[serde(transparent)]
            struct Present(#[serde(with = "super")] Millis);

            Ok(Option::<Present>::deserialize(deserializer)?.map(|present| present.0))
        }
    }
}

/// Reads text with a unit, and answers a bare number with the advice to add one.
struct Units<F>(F);

impl<T, F: Fn(&str) -> Result<T, String>> de::Visitor<'_> for Units<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text with a unit, such as \"30 s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// The known word that was probably meant by `word`, if one is near enough.
#[must_use]
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let word = word.to_lowercase();
    let near = |candidate: &'a str| {
        let lower = candidate.to_lowercase();
        (if swapped(&word, &lower) { 1 } else { distance(&word, &lower) }, candidate)
    };
    let best = known.into_iter().map(near).min_by_key(|(distance, _)| *distance);
    best.filter(|(distance, _)| *distance <= limit).map(|(_, candidate)| candidate)
}

/// Whether two neighbouring letters changed places, and nothing else.
fn swapped(left: &str, right: &str) -> bool {
    let pairs = left.chars().zip(right.chars()).enumerate();
    let different: Vec<_> = pairs.filter(|(_, (a, b))| a != b).collect();
    let crossed = matches!(different.as_slice(), [(i, (a, b)), (j, (c, d))] if i + 1 == *j && a == d && b == c);
    crossed && left.chars().count() == right.chars().count()
}

/// The number of letters to add, drop or change (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut above_left = i;
        let mut last = i + 1;
        for (b, cell) in right.chars().zip(row.iter_mut().skip(1)) {
            let changed = above_left + usize::from(a != b);
            above_left = *cell;
            last = changed.min(above_left + 1).min(last + 1);
            *cell = last;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::time::{millis, minutes, seconds};

    #[test]
    fn durations_with_units_are_read() {
        for (text, expected) in [
            ("30 s", seconds(30)),
            ("5 min", minutes(5)),
            ("100 ms", millis(100)),
            ("1 h", minutes(60)),
            ("2 d", minutes(2880)),
            ("0 s", Millis::ZERO),
            ("30s", seconds(30)),
            ("  10   min ", minutes(10)),
            ("4 min 12 s", seconds(252)),
            ("0.5 s", millis(500)),
            ("1.25 min", seconds(75)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_advice() {
        let refused = |text: &str| parse_duration(text).unwrap_err().to_string();
        assert_eq!(refused("30"), "`30` has no unit: is it `30 s` or `30 min`? units: ms, s, min, h, d");
        assert_eq!(
            refused("5 minutes"),
            "`5 minutes` has the unknown unit `minutes`: did you mean `min`? units: ms, s, min, h, d"
        );
        assert!(refused("5 m").contains("did you mean `min`?"));
        assert_eq!(refused("5 weeks"), "`5 weeks` has the unknown unit `weeks`; units: ms, s, min, h, d");
        assert!(refused("0.0001 s").contains("finer than 1 ms"));
        assert!(refused("1.2.3 s").contains("finer than 1 ms"));
        assert!(refused("99999999999999999 d").contains("too long"));
        for text in ["", " ", "s", "soon", "-5 s", "12 s 4 min", "1 s 1 s", "5 s and more"] {
            assert!(refused(text).contains("is no duration; one looks like `30 s`"), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn durations_are_shown_as_exactly_as_it_matters() {
        for (ms, text) in [
            (0, "0 s"),
            (42, "42 ms"),
            (100, "0.1 s"),
            (400, "0.4 s"),
            (3_000, "3 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (18_200, "18 s"),
            (59_499, "59 s"),
            (59_500, "1 min"),
            (252_000, "4 min 12 s"),
            (300_000, "5 min"),
            (3_599_500, "1 h"),
            (7_800_000, "2 h 10 min"),
            (86_400_000, "24 h"),
            (203 * 86_400_000, "203 days"),
            (u64::MAX, "213503982335 days"),
        ] {
            assert_eq!(human(millis(ms)), text, "{ms}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!("16 MiB".parse(), Ok(Size::bytes(16 << 20)));
        assert_eq!("1.5 kB".parse(), Ok(Size::bytes(1500)));
        assert_eq!(Size::bytes(0).to_string(), "0 B");
        assert_eq!(Size::bytes(1 << 30).to_string(), "1 GiB");
        assert_eq!("16".parse::<Size>().unwrap_err().to_string().split(';').next(), Some("`16` is no size"));
        assert!("16 mib".parse::<Size>().is_err());
    }

    #[test]
    fn the_word_that_was_meant_is_suggested() {
        assert_eq!(suggest("rpo_force", ["rto", "rpo", "rpo_forced"]), Some("rpo_forced"));
        assert_eq!(suggest("weuu", ["neu", "weu"]), Some("weu"));
        assert_eq!(suggest("RTO", ["rto"]), Some("rto"));
        assert_eq!(suggest("hots", ["port", "host"]), Some("host"));
        assert_eq!(suggest("bananas", ["rto", "rpo"]), None);
        assert_eq!(suggest("x", []), None);
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(ms in any::<u64>(), scale in 0_u32..8) {
            let time = millis(ms / 10_u64.pow(scale * 2));
            prop_assert_eq!(parse_duration(&duration(time)), Ok(time));
        }

        #[test]
        fn a_written_size_is_read_back(count in any::<u64>(), shift in 0_u32..50) {
            let size = Size::bytes(count >> shift << (shift / 2));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_upsets_the_readers(text in "\\PC*") {
            let _either = (parse_duration(&text), text.parse::<Size>(), suggest(&text, ["rto", "rpo"]));
        }
    }
}
