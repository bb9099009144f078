//! What was not changed verifies, however the run ended.

use dr_core::run::{Phase, RunOutcome};
use dr_evidence::{Bundle, Class, Code, SecretKey, Verdict, Verifier};

use crate::runs::{self, Sealed};

fn codes(verdict: &Verdict) -> Vec<Code> {
    verdict.findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn finished_run_verifies_with_all_that_was_checked() {
    let run = runs::succeeded();
    assert!(matches!(runs::state(&run).outcome, Some(RunOutcome::Succeeded | RunOutcome::SucceededWithDebt { .. })));
    let verdict = run.verifier().check(&run.bundle(&[run.promotion()]));
    assert_eq!(verdict.class(), Class::Valid, "{verdict}");
    assert_eq!(verdict.checked.events, run.lines.len());
    assert_eq!(verdict.checked.replayed, run.lines.len());
    assert_eq!((verdict.checked.files, verdict.checked.signatures), (6, 4));
    assert_eq!(verdict.records, run.records());
    assert_eq!(verdict.claim.unwrap().run, run.run);
}

/// Covers E04: a promotion whose record was not signed before the call left is told.
#[test]
fn promotion_without_a_checkpoint_is_a_gap() {
    let run = runs::succeeded();
    for sizes in [vec![], vec![1], vec![run.promotion() - 1], vec![run.lines.len() - 1]] {
        let verdict = run.verifier().check(&run.bundle(&sizes));
        assert_eq!(codes(&verdict), [Code::NoCheckpointBeforePromotion], "{sizes:?}: {verdict}");
        assert_eq!(verdict.class(), Class::ValidWithGaps);
    }
}

#[test]
fn run_that_turned_back_verifies() {
    let run = runs::turned_back();
    assert!(matches!(runs::state(&run).outcome, Some(RunOutcome::Aborted { .. })), "{:?}", runs::state(&run).outcome);
    let verdict = run.verifier().check(&run.bundle(&[run.promotion()]));
    assert_eq!(verdict.class(), Class::Valid, "{verdict}");
}

#[test]
fn run_that_was_handed_over_verifies() {
    let run = runs::handed_over();
    assert!(
        matches!(runs::state(&run).outcome, Some(RunOutcome::HandedOver { .. })),
        "{:?}",
        runs::state(&run).outcome
    );
    let verdict = run.verifier().check(&run.bundle(&[run.promotion()]));
    assert_eq!(verdict.class(), Class::Valid, "{verdict}");
}

#[test]
fn cancelled_run_verifies() {
    let run = runs::cancelled();
    assert!(matches!(runs::state(&run).outcome, Some(RunOutcome::Cancelled { .. })), "{:?}", runs::state(&run).outcome);
    let verdict = run.verifier().check(&run.bundle(&[]));
    assert_eq!(verdict.class(), Class::Valid, "{verdict}");
}

#[test]
fn run_without_steps_verifies() {
    let run = runs::smallest();
    let verdict = run.verifier().check(&run.bundle(&[]));
    assert_eq!(verdict.class(), Class::Valid, "{verdict}");
}

#[test]
fn parked_run_is_unterminated() {
    let run = runs::parked();
    assert_eq!(runs::state(&run).phase, Phase::Parked);
    let verdict = run.verifier().check(&run.bundle(&[run.promotion()]));
    assert_eq!((verdict.class(), codes(&verdict)), (Class::Unterminated, vec![Code::NotOver]), "{verdict}");
}

/// A run that goes on can be sealed at any of its lines.
#[test]
fn every_beginning_of_a_run_verifies_as_unterminated() {
    let whole = runs::succeeded();
    for size in 1..whole.lines.len() {
        let run = Sealed::of(whole.run.clone(), whole.lines[..size].to_vec());
        let verdict = run.verifier().check(&run.bundle(&[]));
        let expected =
            codes(&verdict).iter().all(|code| matches!(code, Code::NotOver | Code::NoCheckpointBeforePromotion));
        assert!(expected && verdict.class() == Class::Unterminated, "{size}: {verdict}");
    }
}

#[test]
fn bundle_is_written_once_and_read_back() {
    let run = runs::cancelled();
    let bundle = run.bundle(&[1]);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("evidence/orders-1");
    bundle.write(&place).unwrap();
    assert_eq!(Bundle::read(&place).unwrap(), bundle);
    bundle.write(&place).unwrap();
    let error = runs::cancelled().bundle(&[1]).write(&place).unwrap_err().to_string();
    assert!(error.starts_with("could not create"), "{error}");
    assert_eq!(Bundle::read(&place).unwrap(), bundle);
}

#[test]
fn nobody_vouches_for_a_key_without_a_root() {
    let run = runs::cancelled();
    let verdict = Verifier::default().check(&run.bundle(&[]));
    assert_eq!((verdict.class(), codes(&verdict)), (Class::Unverifiable, vec![Code::NoRootKey]));
    let other = SecretKey::from_seed("example.com/dr-root", &[8; 32]).unwrap();
    let verdict = Verifier::new([other.public().clone()]).check(&run.bundle(&[]));
    assert_eq!((verdict.class(), codes(&verdict)), (Class::Tampered, vec![Code::CertificateNotTrusted]));
    let both = Verifier::new([other.public().clone(), run.root.clone()]);
    assert_eq!(both.check(&run.bundle(&[])).class(), Class::Valid);
}
