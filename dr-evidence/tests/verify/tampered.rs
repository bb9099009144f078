//! What was changed is found, and the place is named.

use std::collections::BTreeSet;

use dr_core::base::canonical::leaf_hash;
use dr_evidence::{
    Bundle, Class, Code, RunKey, SecretKey, Verdict, Verifier,
    bundle::{self, EVENTS, FIXED, LEAVES, PLAN, RUN_KEY, STATEMENT, checkpoint_file},
    dsse::{Envelope, IN_TOTO, Statement, Subject},
    note::Checkpoint,
};

use crate::runs::{self, Sealed};

/// The codes with the events that they name.
fn found(verdict: &Verdict) -> Vec<(Code, Option<u32>)> {
    verdict.findings.iter().map(|finding| (finding.code, finding.place.event)).collect()
}

/// The number of the event with this index.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap() + 1
}

/// The files that are accused of a change.
fn culprits(verdict: &Verdict) -> BTreeSet<&str> {
    let changed = verdict.findings.iter().filter(|finding| finding.code.class() == Class::Tampered);
    changed.map(|finding| finding.place.file.as_str()).collect()
}

/// The bundle with other lines in its file of events.
fn with_lines(bundle: &Bundle, lines: &[&str]) -> Bundle {
    let mut other = bundle.clone();
    let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
    other.files.insert(EVENTS.to_owned(), text.into_bytes());
    other
}

fn text(bundle: &Bundle) -> String {
    String::from_utf8(bundle.file(EVENTS).unwrap().to_vec()).unwrap()
}

/// Every bit of every file of a small bundle is flipped under CI, and each seventh elsewhere (seven and eight have no common divisor, so
/// that each bit of a byte has its turn): each change is found, and no other file is accused of it.
#[test]
fn every_flipped_bit_is_found_in_its_file() {
    let run = runs::smallest();
    let bundle = run.bundle(&[1]);
    let verifier = run.verifier();
    let every = if std::env::var("CI").is_ok_and(|ci| ci == "true") { 1 } else { 7 };
    let mut flips = 0;
    for (name, bytes) in &bundle.files {
        let mut other = bundle.clone();
        for at in (0..bytes.len() * 8).step_by(every) {
            other.files.get_mut(name).unwrap()[at / 8] ^= 1 << (at % 8);
            let verdict = verifier.check(&other);
            assert_eq!(culprits(&verdict), BTreeSet::from([name.as_str()]), "bit {at} of {name}: {verdict}");
            other.files.get_mut(name).unwrap()[at / 8] ^= 1 << (at % 8);
            flips += 1;
        }
    }
    assert_eq!(bundle.files.len(), 7);
    assert!(flips * every > 40_000, "{flips}");
}

/// A changed event is named by its number, wherever its text was changed.
#[test]
fn changed_event_is_named() {
    let run = runs::cancelled();
    let bundle = run.bundle(&[]);
    let text = text(&bundle);
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        for at in (0..line.len()).step_by(line.len() / 5 + 1) {
            let mut changed = line.as_bytes().to_vec();
            changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
            let changed = String::from_utf8_lossy(&changed).into_owned();
            let mut other = lines.clone();
            other[index] = &changed;
            let verdict = run.verifier().check(&with_lines(&bundle, &other));
            assert_eq!(found(&verdict), [(Code::EventChanged, Some(number(index)))], "{verdict}");
        }
    }
}

#[test]
fn dropped_doubled_and_moved_events_are_named() {
    let run = runs::succeeded();
    let bundle = run.bundle(&[run.promotion()]);
    let text = text(&bundle);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len() - 1;
    for index in 0..lines.len() {
        let number = number(index);
        let mut dropped = lines.clone();
        dropped.remove(index);
        let code = if index == last { Code::EventsCut } else { Code::EventMissing };
        assert_eq!(found(&run.verifier().check(&with_lines(&bundle, &dropped))), [(code, Some(number))]);

        let mut doubled = lines.clone();
        doubled.insert(index, lines[index]);
        assert_eq!(
            found(&run.verifier().check(&with_lines(&bundle, &doubled))),
            [(Code::EventTwice, Some(number + 1))]
        );

        if index < last {
            let mut swapped = lines.clone();
            swapped.swap(index, index + 1);
            let verdict = run.verifier().check(&with_lines(&bundle, &swapped));
            let one_of = [vec![(Code::EventMoved, Some(number))], vec![(Code::EventMoved, Some(number + 1))]];
            assert!(one_of.contains(&found(&verdict)), "{verdict}");
        }
        let verdict = run.verifier().check(&with_lines(&bundle, &lines[..index]));
        assert_eq!(found(&verdict), [(Code::EventsCut, Some(number))]);
    }
    let torn = &lines[last][..lines[last].len() / 2];
    let mut half = lines.clone();
    half[last] = torn;
    assert_eq!(found(&run.verifier().check(&with_lines(&bundle, &half))), [(Code::EventChanged, Some(number(last)))]);
}

#[test]
fn lines_of_another_run_are_named() {
    let (run, other) = (runs::succeeded(), runs::turned_back());
    let bundle = run.bundle(&[run.promotion()]);
    let (text, foreign) = (text(&bundle), text(&other.bundle(&[])));
    let (lines, strange): (Vec<&str>, Vec<&str>) = (text.lines().collect(), foreign.lines().collect());

    let mut inserted = lines.clone();
    inserted.insert(5, strange.last().unwrap());
    assert_eq!(found(&run.verifier().check(&with_lines(&bundle, &inserted))), [(Code::EventForeign, Some(6))]);

    let spliced = [&lines[..lines.len() - 3], &strange[strange.len() - 3..]].concat();
    let verdict = run.verifier().check(&with_lines(&bundle, &spliced));
    let places: Vec<u32> = verdict.findings.iter().filter_map(|finding| finding.place.event).collect();
    let end = number(lines.len() - 1);
    assert_eq!((culprits(&verdict), places), (BTreeSet::from([EVENTS]), vec![end - 2, end - 1, end]));
}

/// Lines that are not signed yet for themselves: whoever changes one and all links after it is found by the root.
#[test]
fn forged_chain_is_found_by_the_signed_root() {
    let run = runs::cancelled();
    let bundle = run.bundle(&[]);
    let text = text(&bundle);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let old = leaf_hash(lines[1].as_bytes()).hex();
    lines[1] = lines[1].replace("engine", "zngine");
    let new = leaf_hash(lines[1].as_bytes()).hex();
    assert_ne!(old, new);
    lines[2] = lines[2].replace(&old, &new);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let verdict = run.verifier().check(&with_lines(&bundle, &lines));
    assert_eq!(found(&verdict), [(Code::EventChanged, Some(2)), (Code::EventChanged, Some(3))]);

    let mut listed = with_lines(&bundle, &lines);
    let hashes: String = lines.iter().map(|line| format!("{}\n", leaf_hash(line.as_bytes()).hex())).collect();
    listed.files.insert(LEAVES.to_owned(), hashes.into_bytes());
    let verdict = run.verifier().check(&listed);
    assert!(culprits(&verdict).contains(EVENTS) && culprits(&verdict).contains(LEAVES), "{verdict}");
}

#[test]
fn missing_and_added_files_are_named() {
    let run = runs::cancelled();
    let bundle = run.bundle(&[1]);
    for name in bundle.files.keys() {
        let mut other = bundle.clone();
        other.files.remove(name);
        let verdict = run.verifier().check(&other);
        assert_eq!(culprits(&verdict), BTreeSet::from([name.as_str()]), "{verdict}");
        assert!(found(&verdict).contains(&(Code::FileMissing, None)), "{verdict}");
    }
    for name in ["notes.txt", "checkpoints/0000000002.note", "checkpoints/2.note", "checkpoints/x"] {
        let mut other = bundle.clone();
        other.files.insert(name.to_owned(), bundle.file(PLAN).unwrap().to_vec());
        let verdict = run.verifier().check(&other);
        assert!(verdict.findings.iter().any(|finding| finding.code == Code::FileUnknown && finding.place.file == name));
        assert_eq!(culprits(&verdict), BTreeSet::from([name]), "{verdict}");
    }
    let mut linked = bundle.clone();
    linked.strange.insert("link".to_owned());
    assert_eq!(found(&run.verifier().check(&linked)), [(Code::FileUnknown, None)]);
    let empty = run.verifier().check(&Bundle::default());
    assert_eq!((empty.class(), culprits(&empty)), (Class::Tampered, BTreeSet::from(FIXED)));
}

/// A file of another sealed bundle of the very same run, signed by another key of it, does not fit.
#[test]
fn files_of_another_bundle_are_named() {
    let run = runs::cancelled();
    let again = Sealed::of(run.run.clone(), run.lines.clone());
    let (bundle, other) = (run.bundle(&[1]), again.bundle(&[1]));
    for name in [RUN_KEY, STATEMENT, &checkpoint_file(1)] {
        let mut mixed = bundle.clone();
        mixed.files.insert(name.to_owned(), other.file(name).unwrap().to_vec());
        let verdict = run.verifier().check(&mixed);
        assert_eq!(verdict.class(), Class::Tampered, "{name}");
        if name != RUN_KEY {
            assert!(culprits(&verdict).contains(name), "{name}: {verdict}");
        }
    }
}

/// Whoever signs everything once more with a key of his own has no certificate of a trusted root for it.
#[test]
fn swapped_keys_are_named() {
    let run = runs::cancelled();
    let mallory = SecretKey::from_seed("example.com/dr-root", &[9; 32]).unwrap();
    let at = run.records()[0].at;
    let key = RunKey::issue(&mallory, (&run.run, run.lines[0].hash), at, dr_core::minutes(600)).unwrap();
    let forged = Sealed { key, ..run };
    let verdict = forged.verifier().check(&forged.bundle(&[]));
    assert_eq!(found(&verdict), [(Code::CertificateNotTrusted, None)]);
    assert_eq!(culprits(&verdict), BTreeSet::from([RUN_KEY]));
}

#[test]
fn key_of_another_run_or_time_does_not_seal() {
    let run = runs::cancelled();
    let other = runs::smallest();
    let wrong = Sealed { key: other.key, ..run };
    let error = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wrong.bundle(&[])));
    assert!(error.is_err());

    let run = runs::cancelled();
    let from = run.sealed_at() + dr_core::minutes(5);
    let key = RunKey::issue(&runs::root(), (&run.run, run.lines[0].hash), from, dr_core::minutes(1)).unwrap();
    let late = Sealed { key, ..run };
    assert_eq!(found(&late.verifier().check(&late.bundle(&[]))), [(Code::KeyOutOfTime, None)]);
}

/// An earlier bundle of the run is sound by itself, and contradicts a checkpoint that was kept elsewhere.
#[test]
fn cut_record_contradicts_a_checkpoint_kept_elsewhere() {
    let run = runs::succeeded();
    let kept: Vec<Checkpoint> = run.notes(&[9]).iter().map(|note| Checkpoint::parse(note.text()).unwrap()).collect();
    let knowing = |kept: &Checkpoint| Verifier::new([run.root.clone()]).with_known(kept.clone());
    assert_eq!(knowing(&kept[0]).check(&run.bundle(&[run.promotion()])).class(), Class::Valid);

    let cut = Sealed::of(run.run.clone(), run.lines[..8].to_vec());
    let verdict = knowing(&kept[0]).check(&cut.bundle(&[]));
    assert!(found(&verdict).contains(&(Code::KnownCheckpoint, None)), "{verdict}");
    assert_eq!(verdict.class(), Class::Tampered);

    let forked = Checkpoint { root: leaf_hash(b"another history"), ..kept[0].clone() };
    assert_eq!(knowing(&forked).check(&run.bundle(&[run.promotion()])).class(), Class::Tampered);
    let strange = Checkpoint { origin: "dr-toolkit/orders-2/0".into(), ..kept[0].clone() };
    assert_eq!(knowing(&strange).check(&run.bundle(&[run.promotion()])).class(), Class::Unverifiable);
}

/// The owner of the run's key signs that there was nothing.
#[test]
fn empty_record_is_named() {
    let run = runs::cancelled();
    let origin = bundle::origin_of(&run.run, &run.lines[0].hash);
    let key = SecretKey::from_seed(&origin, &[5; 32]).unwrap();
    let mut bundle = run.bundle(&[]);
    let envelope = Envelope::parse(bundle.file(STATEMENT).unwrap()).unwrap();
    let mut statement: Statement<bundle::Claim> = Statement::parse(envelope.unverified(), bundle::CLAIM_TYPE).unwrap();
    let root = dr_evidence::tree::root(&[]);
    (statement.predicate.events, statement.predicate.root) = (0, root);
    let nothing = Checkpoint { origin, size: 0, root }.sign(&key).unwrap().to_string().into_bytes();
    bundle.files.retain(|name, _| !name.starts_with("checkpoints"));
    bundle.files.insert(checkpoint_file(0), nothing);
    for name in [EVENTS, LEAVES] {
        bundle.files.insert(name.to_owned(), Vec::new());
    }
    bundle.files.remove(STATEMENT);
    statement.subject = bundle.files.iter().map(|(name, bytes)| Subject::of(name, bytes)).collect();
    let signed = Envelope::sign(IN_TOTO, statement.bytes().unwrap(), &key).bytes().unwrap();
    bundle.files.insert(STATEMENT.to_owned(), signed);
    let verdict = Verifier::default().check(&bundle);
    assert_eq!(found(&verdict), [(Code::NoRootKey, None), (Code::EventsCut, Some(1))], "{verdict}");
}

/// The owner of the run's key states something that the events do not say.
#[test]
fn statement_that_contradicts_the_events_is_named() {
    let run = runs::cancelled();
    let key = SecretKey::from_seed(&bundle::origin_of(&run.run, &run.lines[0].hash), &[5; 32]).unwrap();
    let mut bundle = run.bundle(&[]);
    let envelope = Envelope::parse(bundle.file(STATEMENT).unwrap()).unwrap();
    let mut statement: Statement<bundle::Claim> = Statement::parse(envelope.unverified(), bundle::CLAIM_TYPE).unwrap();
    statement.predicate.outcome = Some(dr_core::run::RunOutcome::Succeeded);
    statement.subject.retain(|subject: &Subject| subject.name != PLAN);
    let signed = Envelope::sign(IN_TOTO, statement.bytes().unwrap(), &key).bytes().unwrap();
    bundle.files.insert(STATEMENT.to_owned(), signed);
    // Without a root the statement's own key is taken, as it would be with a stolen key of the run.
    let verdict = Verifier::default().check(&bundle);
    let codes: Vec<Code> = verdict.findings.iter().map(|finding| finding.code).collect();
    assert!(codes.iter().filter(|code| **code == Code::StatementClaim).count() == 2, "{verdict}");
}
