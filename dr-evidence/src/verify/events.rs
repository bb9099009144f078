//! Whether the lines are those that were signed, and which of them are not.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    base::{Digest, canonical::leaf_hash},
    run::{Line, Record},
};

use super::{Code, Place, Work, listed};
use crate::{
    bundle::{Claim, EVENTS, LEAVES},
    note::Checkpoint,
    strict, tree,
};

/// The events as they were found.
pub(crate) struct Recorded {
    /// The lines of the file.
    pub(crate) lines: Vec<Line>,
    /// The leaf hashes of the record, if a signed root vouches for them.
    pub(crate) leaves: Option<Vec<Digest>>,
    /// Nothing speaks against the lines, so that they may be replayed.
    pub(crate) whole: bool,
}

impl Work<'_> {
    pub(super) fn events(&mut self, claim: Option<&Claim>, checkpoints: &[(String, Checkpoint)]) -> Recorded {
        let bytes = self.bundle.file(EVENTS).unwrap_or_default();
        let (rows, closed) = rows(bytes);
        let actual: Vec<Digest> = rows.iter().map(|row| leaf_hash(row)).collect();
        let signed = claim.map(|claim| (u64::from(claim.events), claim.root));
        let signed = signed.or_else(|| checkpoints.last().map(|(_, last)| (last.size, last.root)));
        let vouched = |leaves: &[Digest]| {
            signed.is_some_and(|(size, root)| {
                u64::try_from(leaves.len()).is_ok_and(|count| count == size) && tree::root(leaves) == root
            })
        };
        let list = listed(self);
        let lines = lines(&rows, &actual);
        if self.bundle.file(EVENTS).is_none() {
            let leaves = list.filter(|list| vouched(list));
            return Recorded { lines, leaves, whole: false };
        }
        if vouched(&actual) {
            self.checked.events = actual.len();
            if !closed {
                self.in_file(Code::Form, EVENTS, "its last line does not end with a newline");
            }
            self.leaves_differ(list.as_deref(), &actual);
            let whole = self.chain(&rows, &lines) && closed;
            return Recorded { lines, leaves: Some(actual), whole };
        }
        if let Some(list) = list.filter(|list| vouched(list)) {
            self.compare(&list, &actual);
            return Recorded { lines, leaves: Some(list), whole: false };
        }
        let whole = self.chain(&rows, &lines);
        let accused = self.accused(EVENTS);
        if signed.is_some() && !accused {
            self.in_file(
                Code::Form,
                EVENTS,
                "its lines do not have the signed root, and none of them says which it is",
            );
        }
        if self.bundle.file(LEAVES).is_some() && listed(self).as_ref() != Some(&actual) && !accused {
            self.in_file(Code::FileChanged, LEAVES, "it does not list the hashes of the events");
        }
        Recorded { lines, leaves: None, whole: whole && signed.is_none() }
    }

    fn leaves_differ(&mut self, list: Option<&[Digest]>, actual: &[Digest]) {
        if self.bundle.file(LEAVES).is_none() || list == Some(actual) {
            return;
        }
        let list = list.unwrap_or_default();
        let at = list.iter().zip(actual).take_while(|(one, other)| one == other).count().saturating_add(1);
        self.in_file(Code::FileChanged, LEAVES, format_args!("its line {at} is not the hash of event {at}"));
    }

    /// Tells which lines differ from the record.
    fn compare(&mut self, record: &[Digest], actual: &[Digest]) {
        let mut changes = changes(record, actual);
        changes.sort_by_key(|change| change.0);
        for (index, code) in changes {
            let words = [
                (Code::EventMissing, "it is missing"),
                (Code::EventsCut, "it and all after it are missing"),
                (Code::EventTwice, "this line stands there a second time"),
                (Code::EventMoved, "it stands in another place"),
                (Code::EventForeign, "this line is no event of the record"),
            ];
            let what = words.iter().find(|(of, _)| *of == code).map(|(_, what)| *what);
            let what = what.unwrap_or("its text is not the one that was signed");
            self.find(code, Place::event(index), what);
        }
    }

    /// Whether each line names the one before it and its own position.
    fn chain(&mut self, rows: &[&[u8]], lines: &[Line]) -> bool {
        let mut prev = Digest::zero();
        let before = self.findings.len();
        for (index, row) in rows.iter().enumerate() {
            let hash = leaf_hash(row);
            let read = strict::parse(row).map_err(|error| error.to_string()).and_then(|_| {
                let line = lines.get(index).ok_or("it is no text")?;
                Record::parse(line).map_err(|error| error.what)
            });
            match read {
                Err(what) => self.find(Code::EventUnreadable, Place::event(index), what),
                Ok(record) if record.prev != prev => {
                    self.find(Code::EventChain, Place::event(index), "it does not name the line before it");
                }
                Ok(_) => {}
            }
            prev = hash;
        }
        self.findings.len() == before
    }
}

/// The lines of a file, and whether the last one is closed.
fn rows(bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    if bytes.is_empty() {
        return (Vec::new(), true);
    }
    match bytes.strip_suffix(b"\n") {
        Some(closed) => (closed.split(|byte| *byte == b'\n').collect(), true),
        None => (bytes.split(|byte| *byte == b'\n').collect(), false),
    }
}

fn lines(rows: &[&[u8]], hashes: &[Digest]) -> Vec<Line> {
    let numbered = (1_u64..).zip(rows.iter().zip(hashes));
    numbered
        .map(|(seq, (row, hash))| Line { seq, text: String::from_utf8_lossy(row).into_owned(), hash: *hash })
        .collect()
}

/// The differences between the record and the lines: indices from 0, in the record, or in the lines for what is not of the record.
fn changes(record: &[Digest], actual: &[Digest]) -> Vec<(usize, Code)> {
    let places: BTreeMap<&Digest, usize> = record.iter().enumerate().map(|(index, hash)| (hash, index)).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut known = Vec::new();
    let mut strays = Vec::new();
    for (line, hash) in actual.iter().enumerate() {
        match places.get(hash) {
            Some(place) if seen.insert(*place) => known.push(*place),
            Some(_) => found.push((line, Code::EventTwice)),
            None => strays.push((line, known.last().map_or(0, |last| last + 1))),
        }
    }
    let mut missing: BTreeSet<usize> = (0..record.len()).filter(|place| !seen.contains(place)).collect();
    for (line, after) in strays {
        // A stray line takes the place of the missing event nearest to where it stands.
        let near = missing.range(after..).next().or_else(|| missing.range(..after).next_back()).copied();
        match near {
            Some(place) => {
                missing.remove(&place);
                found.push((place, Code::EventChanged));
            }
            None => found.push((line, Code::EventForeign)),
        }
    }
    let rest = record.len().saturating_sub(1);
    let mut cut = record.len();
    while cut > 0 && missing.remove(&(cut - 1)) {
        cut -= 1;
    }
    if cut <= rest && cut < record.len() {
        found.push((cut, Code::EventsCut));
    }
    found.extend(missing.into_iter().map(|place| (place, Code::EventMissing)));
    let stays = rising(&known);
    found.extend(known.iter().filter(|place| !stays.contains(place)).map(|place| (*place, Code::EventMoved)));
    found
}

/// The longest rising part of a row of different numbers: what need not have been moved.
fn rising(row: &[usize]) -> BTreeSet<usize> {
    let mut piles: Vec<usize> = Vec::new();
    let mut before: BTreeMap<usize, Option<usize>> = BTreeMap::new();
    for &number in row {
        let at = piles.partition_point(|top| *top < number);
        let under = at.checked_sub(1).and_then(|at| piles.get(at)).copied();
        before.insert(number, under);
        match piles.get_mut(at) {
            Some(top) => *top = number,
            None => piles.push(number),
        }
    }
    let mut stays = BTreeSet::new();
    let mut next = piles.last().copied();
    while let Some(number) = next {
        stays.insert(number);
        next = before.get(&number).copied().flatten();
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(words: &str) -> Vec<Digest> {
        words.chars().map(|word| leaf_hash(word.to_string().as_bytes())).collect()
    }

    fn found(actual: &str) -> Vec<(usize, Code)> {
        let mut found = changes(&record("abcdef"), &record(actual));
        found.sort_unstable();
        found
    }

    #[test]
    fn each_change_is_named_with_its_place() {
        assert_eq!(found("abcdef"), []);
        assert_eq!(found("abXdef"), [(2, Code::EventChanged)]);
        assert_eq!(found("abdef"), [(2, Code::EventMissing)]);
        assert_eq!(found("abccdef"), [(3, Code::EventTwice)]);
        assert_eq!(found("abcd"), [(4, Code::EventsCut)]);
        assert_eq!(found(""), [(0, Code::EventsCut)]);
        assert_eq!(found("abcXdef"), [(3, Code::EventForeign)]);
        assert_eq!(found("abcdefX"), [(6, Code::EventForeign)]);
        assert_eq!(found("bcdefa"), [(0, Code::EventMoved)]);
        assert_eq!(found("acbdef").len(), 1);
        assert_eq!(found("abcdX"), [(4, Code::EventChanged), (5, Code::EventsCut)]);
        assert_eq!(found("Xbcdef"), [(0, Code::EventChanged)]);
        assert_eq!(found("aXYdef"), [(1, Code::EventChanged), (2, Code::EventChanged)]);
    }
}
