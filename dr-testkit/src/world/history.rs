//! Histories of writes: who wrote what, where, and how far a copy had it at any time.
//!
//! Writes are kept as runs of equal pace, not one by one, so that a day of writes costs nothing.

use dr_core::contract::Lineage;
use serde::{Deserialize, Serialize};

/// How many bytes one write takes in the log.
pub(crate) const WRITE: u64 = 128;

/// One history: a lineage, where it left its parent, and everything written in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) lineage: Lineage,
    /// The parent and the position where this history left it.
    pub(crate) parent: Option<(Lineage, u64)>,
    pub(crate) base: u64,
    /// Whether a promotion has left this history behind: nothing may be written in it any more (S10).
    pub(crate) retired: bool,
    pub(crate) stretches: Vec<Stretch>,
}

/// A time in which the same clients wrote at the same pace; or, without clients, a record of the server's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) pace: i64,
    /// In the order of their first write in this stretch.
    pub(crate) clients: Vec<Turn>,
}

/// One client's part of a stretch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) client: u32,
    pub(crate) first_seq: u64,
    pub(crate) first_at: i64,
}

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Write {
    /// Which client.
    pub client: u32,
    /// The client's own count, from 1.
    pub seq: u64,
    /// The history that took it.
    pub lineage: Lineage,
    /// Where it ends in that history.
    pub position: u64,
}

impl Stretch {
    pub(crate) fn writes(&self) -> u64 {
        if self.clients.is_empty() { 0 } else { (self.end.saturating_sub(self.start)) / WRITE }
    }

    /// How many of its writes had happened at `at`.
    fn writes_until(&self, at: i64) -> u64 {
        let each = |turn: &Turn| {
            let passed = at.saturating_sub(turn.first_at);
            if passed < 0 { 0 } else { u64::try_from(passed / self.pace.max(1)).unwrap_or(0).saturating_add(1) }
        };
        self.clients.iter().map(each).sum::<u64>().min(self.writes())
    }

    fn position_at(&self, at: i64) -> u64 {
        if self.clients.is_empty() {
            return if at >= self.from { self.end } else { self.start };
        }
        self.start.saturating_add(self.writes_until(at).saturating_mul(WRITE)).min(self.end)
    }

    /// The writes with an end beyond `position`.
    fn beyond<'a>(&'a self, lineage: &'a Lineage, position: u64) -> impl Iterator<Item = Write> + 'a {
        let first = position.saturating_sub(self.start) / WRITE;
        let people = u64::try_from(self.clients.len()).unwrap_or(1).max(1);
        (first..self.writes()).filter_map(move |nth| {
            let turn = self.clients.get(usize::try_from(nth % people).unwrap_or(0))?;
            Some(Write {
                client: turn.client,
                seq: turn.first_seq.saturating_add(nth / people),
                lineage: lineage.clone(),
                position: self.start.saturating_add(nth.saturating_add(1).saturating_mul(WRITE)),
            })
        })
    }
}

impl History {
    pub(crate) fn new(lineage: Lineage, parent: Option<(Lineage, u64)>, base: u64) -> Self {
        Self { lineage, parent, base, retired: false, stretches: Vec::new() }
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.stretches.last().map_or(self.base, |stretch| stretch.end)
    }

    /// How far it was written at `at`.
    pub(crate) fn position_at(&self, at: i64) -> u64 {
        let after = self.stretches.partition_point(|stretch| stretch.from <= at);
        after
            .checked_sub(1)
            .and_then(|last| self.stretches.get(last))
            .map_or(self.base, |stretch| stretch.position_at(at))
    }

    /// How many acknowledged writes it holds.
    pub(crate) fn writes(&self) -> u64 {
        self.stretches.iter().map(Stretch::writes).sum()
    }

    /// How many acknowledged writes end at `position` or before it.
    pub(crate) fn writes_until(&self, position: u64) -> u64 {
        let of = |stretch: &Stretch| stretch.writes().min(position.saturating_sub(stretch.start) / WRITE);
        self.stretches.iter().filter(|stretch| stretch.start < position).map(of).sum()
    }

    /// The acknowledged writes that lie beyond `position`.
    pub(crate) fn beyond(&self, position: u64) -> Vec<Write> {
        let later = self.stretches.iter().filter(|stretch| stretch.end > position);
        later.flat_map(|stretch| stretch.beyond(&self.lineage, position)).collect()
    }

    /// A record of the server's own, such as a shutdown checkpoint.
    pub(crate) fn record(&mut self, at: i64, bytes: u64) {
        let start = self.end();
        let end = start.saturating_add(bytes);
        self.stretches.push(Stretch { from: at, to: at, start, end, pace: 1, clients: Vec::new() });
    }

    /// Appends a stretch of writes of `clients`, each as often as `counts` says.
    pub(crate) fn write(&mut self, (from, to): (i64, i64), pace: i64, clients: Vec<Turn>, count: u64) {
        if count == 0 {
            return;
        }
        let start = self.end();
        let end = start.saturating_add(count.saturating_mul(WRITE));
        self.stretches.push(Stretch { from, to, start, end, pace, clients });
    }

    /// The longest time without an acknowledged write after the first one, until `now`.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.stretches.iter().filter(|stretch| stretch.writes() > 0).map(|stretch| {
            let first = stretch.clients.first().map_or(stretch.from, |turn| turn.first_at);
            let people = u64::try_from(stretch.clients.len()).unwrap_or(1).max(1);
            let last_nth = stretch.writes().saturating_sub(1);
            let turn = stretch.clients.get(usize::try_from(last_nth % people).unwrap_or(0));
            let rounds = i64::try_from(last_nth / people).unwrap_or(i64::MAX);
            let last =
                turn.map_or(stretch.to, |turn| turn.first_at.saturating_add(rounds.saturating_mul(stretch.pace)));
            (first, last)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dr_core::base::SystemId;

    fn lineage() -> Lineage {
        Lineage { system: SystemId::new("7"), generation: 1 }
    }

    #[test]
    fn positions_and_lost_writes_follow_the_order_of_the_clients() {
        let mut history = History::new(lineage(), None, 1000);
        let turns = vec![Turn { client: 0, first_seq: 1, first_at: 0 }, Turn { client: 1, first_seq: 1, first_at: 25 }];
        history.write((0, 100), 50, turns, 4);
        assert_eq!(history.end(), 1000 + 4 * WRITE);
        assert_eq!(history.position_at(-1), 1000);
        assert_eq!(history.position_at(24), 1000 + WRITE);
        assert_eq!(history.position_at(25), 1000 + 2 * WRITE);
        assert_eq!(history.position_at(75), 1000 + 4 * WRITE);
        let lost = history.beyond(1000 + 2 * WRITE);
        let who: Vec<(u32, u64)> = lost.iter().map(|write| (write.client, write.seq)).collect();
        assert_eq!(who, [(0, 2), (1, 2)]);
        history.record(200, 64);
        assert_eq!(history.writes(), 4);
        assert_eq!(history.position_at(199), 1000 + 4 * WRITE);
        assert_eq!(history.position_at(200), 1000 + 4 * WRITE + 64);
        assert_eq!(history.spans().collect::<Vec<_>>(), [(0, 75)]);
    }
}
