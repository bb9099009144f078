//! Positions in the write-ahead log, timelines and the names of log segments.

use std::{fmt, str::FromStr};

use tokio_postgres::types::PgLsn;

/// A position in the write-ahead log. Compared as a number, never as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The position with this number of bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// How many bytes lie between `earlier` and this position; none if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl From<PgLsn> for Lsn {
    fn from(lsn: PgLsn) -> Self {
        Self(u64::from(lsn))
    }
}

/// The text is no log position.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no log position; one looks like `16/B374D848`")]
pub struct BadLsn(String);

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let bad = || BadLsn(text.into());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let part = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| bad());
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// The number of a timeline. It grows by one with every promotion within one known history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(u32);

impl Timeline {
    /// The timeline that every cluster begins with; it has no history.
    pub const FIRST: Self = Self(1);

    /// Timeline `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The timeline that a promotion from this one starts.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The file in `pg_wal` that tells where this timeline left its parent.
    #[must_use]
    pub fn history_file(self) -> String {
        format!("{:08X}.history", self.0)
    }

    /// The segment file of this timeline that holds the byte before `end`: what a server that has replayed up to `end` has read last.
    #[must_use]
    pub fn segment_before(self, end: Lsn, segment_bytes: u64) -> String {
        let segment = end.0.saturating_sub(1) / segment_bytes.max(1);
        let per_id = 0x1_0000_0000_u64 / segment_bytes.max(1);
        format!("{:08X}{:08X}{:08X}", self.0, segment / per_id.max(1), segment % per_id.max(1))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One line of a timeline's history: where the child left its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The timeline that ended.
    pub parent: Timeline,
    /// The position at which it ended for the child.
    pub at: Lsn,
}

/// Reads a `.history` file: its last line is the newest fork. Comments and empty lines are skipped.
#[must_use]
pub fn forks(history: &str) -> Vec<Fork> {
    history
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let parent = Timeline::new(fields.next()?.parse().ok()?);
            Some(Fork { parent, at: fields.next()?.parse().ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text() {
        for text in ["0/0", "0/30EE060", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert!("16".parse::<Lsn>().is_err());
        assert!("1/100000000".parse::<Lsn>().is_err());
    }

    #[test]
    fn positions_compare_as_numbers() {
        assert!("9/0".parse::<Lsn>().unwrap() < "10/0".parse::<Lsn>().unwrap());
        assert_eq!("0/90".parse::<Lsn>().unwrap().since(Lsn::new(0x60)), 0x30);
    }

    #[test]
    fn a_segment_is_named_by_the_last_byte_read() {
        let sixteen = 16 * 1024 * 1024;
        assert_eq!(Timeline::new(2).segment_before(Lsn::new(0x30E_E060), sixteen), "000000020000000000000003");
        assert_eq!(Timeline::new(2).segment_before(Lsn::new(0x300_0000), sixteen), "000000020000000000000002");
        assert_eq!(Timeline::new(1).segment_before(Lsn::new(0x1_0000_0001), sixteen), "000000010000000100000000");
        assert_eq!(Timeline::new(1).segment_before(Lsn::new(0x1_0000_0001), 1024 * 1024), "000000010000000100000000");
    }

    #[test]
    fn the_history_of_a_timeline_is_read() {
        let text = "1\t0/30EE060\tno recovery target specified\n\n# note\n2\t0/5000060\tno recovery target specified\n";
        let all = forks(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all.last().unwrap(), &Fork { parent: Timeline::new(2), at: Lsn::new(0x500_0060) });
    }
}
