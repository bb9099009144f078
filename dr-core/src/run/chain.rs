//! Whether lines fit together: positions without gaps, texts with their hashes, each naming the line before.

use crate::{
    base::{Digest, RunId, canonical},
    run::{Head, JournalError, Line},
};

/// Checks that `lines` go on from `head` without a fault, and answers the new end. Every store does this before it stores lines.
///
/// # Errors
/// [`JournalError::Corrupt`] with the first line that does not fit.
pub fn follow(run: &RunId, head: Head, lines: &[Line]) -> Result<Head, JournalError> {
    lines.iter().try_fold(head, |head, line| {
        fault(head, line).map_or(Ok(Head { seq: line.seq, hash: line.hash }), |what| {
            Err(JournalError::Corrupt { run: run.clone(), seq: head.seq.saturating_add(1), what })
        })
    })
}

/// Checks what a store read of a run that ends at `end`: the lines from position `from` on, that one included. Answers the lines after
/// `from`.
///
/// # Errors
/// [`JournalError::Corrupt`] with the first line that is missing or does not fit: a chain is answered whole or not at all.
pub fn whole(run: &RunId, from: u64, mut lines: Vec<Line>, end: Head) -> Result<Vec<Line>, JournalError> {
    let missing = |seq| JournalError::Corrupt { run: run.clone(), seq, what: "it is missing".to_owned() };
    let start = match lines.first() {
        _ if from == 0 => Head::EMPTY,
        _ if from > end.seq => return Ok(Vec::new()),
        Some(line) if line.seq == from => {
            let start = Head { seq: from, hash: line.hash };
            drop(lines.remove(0));
            start
        }
        Some(_) | None => return Err(missing(from)),
    };
    let found = follow(run, start, &lines)?;
    if found.seq < end.seq {
        return Err(missing(found.seq.saturating_add(1)));
    }
    if found != end {
        let what = "it is not the line that the run ended with".to_owned();
        return Err(JournalError::Corrupt { run: run.clone(), seq: found.seq, what });
    }
    Ok(lines)
}

/// The hash of the line before `line`, as `line` names it.
#[must_use]
pub fn named_before(line: &Line) -> Option<Digest> {
    let record: serde_json::Value = serde_json::from_str(&line.text).ok()?;
    record.get("prev")?.as_str()?.parse().ok()
}

/// What is wrong with `line` as the successor of `head`.
fn fault(head: Head, line: &Line) -> Option<String> {
    let expected = head.seq.saturating_add(1);
    if line.seq != expected {
        return Some(format!("it is missing; the next one is {}", line.seq));
    }
    if canonical::leaf_hash(line.text.as_bytes()) != line.hash {
        return Some("its text was changed: it does not have the hash that was stored with it".to_owned());
    }
    let record: serde_json::Value = match serde_json::from_str(&line.text) {
        Ok(record) => record,
        Err(error) => return Some(format!("it is no JSON ({error})")),
    };
    match record.get("prev").and_then(serde_json::Value::as_str).map(str::parse::<Digest>) {
        Some(Ok(prev)) if prev == head.hash => {}
        Some(Ok(prev)) => return Some(format!("it follows {prev}, and the line before it is {}", head.hash)),
        Some(Err(_)) | None => return Some("it does not name the line before it (`prev`)".to_owned()),
    }
    let seq = record.get("seq").and_then(|seq| seq.as_u64().or_else(|| seq.as_str()?.parse().ok()));
    (seq != Some(expected)).then(|| "it does not carry its own position (`seq`)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines `from+1 ..` after `head`, with `words` inside.
    fn lines(mut head: Head, words: &[&str]) -> Vec<Line> {
        words
            .iter()
            .map(|word| {
                let seq = head.seq + 1;
                let text = format!(r#"{{"prev":"{}","seq":"{seq}","word":"{word}"}}"#, head.hash.hex());
                let hash = canonical::leaf_hash(text.as_bytes());
                head = Head { seq, hash };
                Line { seq, text, hash }
            })
            .collect()
    }

    fn run() -> RunId {
        "orders-1".parse().unwrap()
    }

    fn complaint(lines: &[Line]) -> String {
        follow(&run(), Head::EMPTY, lines).unwrap_err().to_string()
    }

    #[test]
    fn whole_chain_is_followed_to_its_end() {
        let all = lines(Head::EMPTY, &["a", "b", "c"]);
        let end = follow(&run(), Head::EMPTY, &all).unwrap();
        assert_eq!((end.seq, end.hash), (3, all[2].hash));
        let middle = follow(&run(), Head::EMPTY, &all[..1]).unwrap();
        assert_eq!(follow(&run(), middle, &all[1..]).unwrap(), end);
    }

    #[test]
    fn a_chain_is_answered_whole_or_not_at_all() {
        let all = lines(Head::EMPTY, &["a", "b", "c"]);
        let end = follow(&run(), Head::EMPTY, &all).unwrap();
        assert_eq!(whole(&run(), 0, all.clone(), end).unwrap(), all);
        assert_eq!(whole(&run(), 2, all[1..].to_vec(), end).unwrap(), all[2..]);
        assert_eq!(whole(&run(), 4, Vec::new(), end).unwrap(), []);
        for (from, found) in [(0, &all[..2]), (0, &all[..0]), (2, &all[2..]), (3, &all[3..])] {
            assert!(whole(&run(), from, found.to_vec(), end).is_err(), "{from} {found:?}");
        }
        let forged = Head { hash: Digest::zero(), ..end };
        assert!(whole(&run(), 0, all, forged).unwrap_err().to_string().contains("line 3: it is not the line"));
    }

    /// Covers G02: every way to change a stored journal is seen, and names the line.
    #[test]
    fn every_change_is_found_and_named() {
        let all = lines(Head::EMPTY, &["a", "b", "c"]);

        let gap = [all[0].clone(), all[2].clone()];
        assert_eq!(complaint(&gap), "the journal of orders-1 is damaged at line 2: it is missing; the next one is 3");

        let mut edited = all.clone();
        edited[1].text = edited[1].text.replace("\"b\"", "\"x\"");
        assert!(complaint(&edited).contains("line 2: its text was changed"));

        edited[1].hash = canonical::leaf_hash(edited[1].text.as_bytes());
        assert!(complaint(&edited).contains("line 3: it follows"), "a forged hash breaks the next link");

        let torn = [Line { seq: 1, text: "{\"prev\":".into(), hash: canonical::leaf_hash(b"{\"prev\":") }];
        assert!(complaint(&torn).contains("line 1: it is no JSON"));

        let bare = [Line { seq: 1, text: "{}".into(), hash: canonical::leaf_hash(b"{}") }];
        assert!(complaint(&bare).contains("`prev`"));

        let text = format!(r#"{{"prev":"{}","seq":"2"}}"#, Digest::zero().hex());
        let misplaced = [Line { seq: 1, hash: canonical::leaf_hash(text.as_bytes()), text }];
        assert!(complaint(&misplaced).contains("`seq`"));
    }
}
