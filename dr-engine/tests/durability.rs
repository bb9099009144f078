//! What the journal keeps when a process is killed and when a real disk is full or read-only.
//!
//! Each test starts this very program again as a child, so that what dies is a process and not a value.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
};

use common::{House, Moment, answer, fill};
use dr_core::{
    RunId,
    base::canonical,
    run::{EventKind, RunOutcome},
};
use dr_core::{
    Timestamp,
    base::{Epoch, ResourceAddress},
    run::{Head, Journal as _, JournalError, LeaseRequest, LeaseStore as _, Line},
};
use dr_engine::{APPROVE, FileLeases, SqliteJournal};

fn run() -> RunId {
    "orders-1".parse().unwrap()
}

fn line(head: Head, word: &str) -> Vec<Line> {
    let seq = head.seq + 1;
    let text = format!(r#"{{"prev":"{}","seq":"{seq}","word":"{word}"}}"#, head.hash.hex());
    vec![Line { seq, hash: canonical::leaf_hash(text.as_bytes()), text }]
}

fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("DR_TEST_DIR", dir).stdout(Stdio::piped());
    command
}

fn given_dir() -> PathBuf {
    std::env::var_os("DR_TEST_DIR").expect("started by another test of this file").into()
}

fn words_of(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_appends_until_it_is_killed() {
    let journal = SqliteJournal::open(given_dir()).unwrap();
    let mut head = journal.create(&run(), Epoch::new(1), line(Head::EMPTY, "first")).await.unwrap();
    loop {
        println!("acknowledged {}", head.seq);
        std::io::stdout().flush().unwrap();
        head = journal.append(&run(), Epoch::new(1), head.seq, line(head, "next")).await.unwrap();
    }
}

/// Covers G01: whatever was acknowledged is there after SIGKILL, whole, and at most one line more.
#[tokio::test]
async fn everything_acknowledged_survives_a_kill() {
    for after in [1, 7, 40] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = child("child_appends_until_it_is_killed", dir.path()).spawn().unwrap();
        let mut acknowledged = 0;
        for word in words_of(&mut writer) {
            if let Some((_, seq)) = word.rsplit_once("acknowledged ") {
                acknowledged = seq.parse().unwrap();
                if acknowledged >= after {
                    writer.kill().unwrap();
                }
            }
        }
        writer.wait().unwrap();
        assert!(acknowledged >= after);
        let journal = SqliteJournal::open(dir.path()).unwrap();
        let kept = u64::try_from(journal.read(&run(), 0).await.unwrap().len()).unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&kept), "acknowledged {acknowledged}, kept {kept}");
        let head = journal.head(&run()).await.unwrap();
        journal.take_over(&run(), Epoch::new(2)).await.unwrap();
        journal.append(&run(), Epoch::new(2), head.seq, line(head, "resumed")).await.unwrap();
    }
}

fn ask(run: &str) -> LeaseRequest {
    LeaseRequest {
        keys: vec![ResourceAddress::new("neu")],
        run: run.parse().unwrap(),
        holder: "a test".into(),
        above: Epoch::new(0),
        take_over: false,
        at: Timestamp::from_millis(0),
    }
}

#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_holds_a_lease_until_it_is_killed() {
    let leases = FileLeases::open(given_dir()).unwrap();
    let lease = leases.acquire(ask("orders-1")).await.unwrap();
    println!("holds {}", lease.epoch);
    std::io::stdout().flush().unwrap();
    std::thread::park();
}

/// Covers G06: a killed holder is replaced at once, a living one is not, however long ago it renewed.
#[tokio::test]
async fn a_killed_holder_is_replaced_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = child("child_holds_a_lease_until_it_is_killed", dir.path()).spawn().unwrap();
    let epoch: u64 = words_of(&mut holder)
        .find_map(|word| word.rsplit_once("holds ").map(|(_, epoch)| epoch.parse().unwrap()))
        .unwrap();
    let leases = FileLeases::open(dir.path()).unwrap();
    assert!(leases.acquire(ask("orders-2")).await.is_err(), "it lives");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(leases.acquire(ask("orders-2")).await.unwrap().epoch > Epoch::new(epoch));
}

/// Runs the test `name` on a disk of its own, mounted for that process alone: by root, or by whoever may be root in a namespace of
/// their own. Answers false where this host lets nobody; under `CI` that is a failure.
fn on_a_disk(options: &str, name: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mount = |then: &str| format!("mount -t tmpfs -o {options} none {} && {then}", dir.path().display());
    let allowed = |how: &&str| {
        let may = Command::new("unshare").args([how, "sh", "-c", &mount("true")]).stderr(Stdio::null()).status();
        may.is_ok_and(|status| status.success())
    };
    let Some(how) = ["-m", "-rm"].into_iter().find(allowed) else {
        assert!(std::env::var_os("CI").is_none(), "this host lets no ordinary account mount a disk");
        eprintln!("skipped: this host lets no ordinary account mount a disk");
        return false;
    };
    let exe = std::env::current_exe().unwrap();
    let trial = mount(&format!("exec {} --exact {name} --ignored --nocapture", exe.display()));
    let output = Command::new("unshare")
        .args([how, "sh", "-c", &trial])
        .env("DR_TEST_DIR", dir.path())
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// Covers "after an effect the outcome is still recorded through the reserve" on a disk that is really full.
#[test]
fn a_full_disk_refuses_the_intent_and_still_takes_the_outcome() {
    on_a_disk("size=8m", "child_on_a_full_disk");
}

#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_on_a_full_disk() {
    let dir = given_dir();
    let journal = SqliteJournal::open(&dir).unwrap();
    let mut head = journal.create(&run(), Epoch::new(1), line(Head::EMPTY, "first")).await.unwrap();
    fill(&dir.join("other-program"));
    // The log may still have room that it took before; then the disk is really full.
    let refused = loop {
        match journal.append(&run(), Epoch::new(1), head.seq, line(head, &"x".repeat(2_000))).await {
            Ok(next) => head = next,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, JournalError::Store { full: true, .. }), "{refused:?}");
    assert_eq!(journal.head(&run()).await.unwrap(), head, "the refused line is not there");

    assert!(journal.use_reserve(&run()).await, "there is a reserve");
    let head = journal.append(&run(), Epoch::new(1), head.seq, line(head, "outcome")).await.unwrap();
    assert_eq!(u64::try_from(journal.read(&run(), 0).await.unwrap().len()).unwrap(), head.seq);

    fill(&dir.join("other-program-again"));
    let other: RunId = "orders-2".parse().unwrap();
    let refused = journal.create(&other, Epoch::new(2), line(Head::EMPTY, "x")).await.unwrap_err();
    assert!(matches!(&refused, JournalError::Store { full: true, .. }), "no run begins without a reserve: {refused:?}");

    std::fs::remove_file(dir.join("other-program")).unwrap();
    std::fs::remove_file(dir.join("other-program-again")).unwrap();
    journal.create(&other, Epoch::new(2), line(Head::EMPTY, "x")).await.unwrap();
    assert!(journal.use_reserve(&run()).await, "it is kept again when there is room");
}

/// A run whose disk is filled by another program at `moment`: how it ended, what was switched, and what its journal says.
async fn filled_at(moment: Moment) -> (RunOutcome, u32, Vec<EventKind>) {
    // The leases lie elsewhere, as they do on a host.
    let leases = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let house = House::new();
    let engine = house.builder("journal").leases(leases.path()).start().await.unwrap();
    house.lamp.fills.set((moment, house.dir.path().join("other-program"))).unwrap();
    let run = house.begin(&engine).await.unwrap();
    assert!(house.dir.path().join("journal/reserve").exists(), "no run begins without a reserve");
    answer(&run, "ana", APPROVE).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert!(!house.dir.path().join("journal/reserve").exists(), "it was needed");
    let mut events = run.events(0);
    let mut kinds = Vec::new();
    while let Some(record) = events.next().await.unwrap() {
        kinds.push(record.event.kind());
    }
    assert!(!house.lamp.on.load(Ordering::SeqCst));
    (outcome, house.lamp.switched.load(Ordering::SeqCst), kinds)
}

/// Covers "before the intent nothing is sent": the whole engine, the real journal, a disk that is really full.
#[test]
fn a_disk_that_fills_before_the_intent_sends_nothing() {
    on_a_disk("size=8m", "child_whose_disk_fills_before_the_intent");
}

#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_whose_disk_fills_before_the_intent() {
    let (outcome, switched, kinds) = filled_at(Moment::BeforeTheIntent).await;
    let full = "the journal's disk is full";
    assert!(matches!(&outcome, RunOutcome::Refused { reason } if reason.contains(full)), "{outcome:?}");
    assert_eq!(switched, 0, "nothing is sent");
    assert!(!kinds.contains(&EventKind::Intended) && kinds.contains(&EventKind::SpaceLow), "{kinds:?}");
}

/// Covers "after an effect the outcome is recorded through the reserve": then what was taken is given back.
#[test]
fn a_disk_that_fills_after_the_effect_still_takes_the_outcome_and_the_way_back() {
    on_a_disk("size=8m", "child_whose_disk_fills_after_the_effect");
}

#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_whose_disk_fills_after_the_effect() {
    let (outcome, switched, kinds) = filled_at(Moment::AfterTheEffect).await;
    let full = "the journal's disk is full";
    assert!(matches!(&outcome, RunOutcome::Aborted { reason } if reason.contains(full)), "{outcome:?}");
    assert_eq!(switched, 2, "on, and off again: nothing new");
    let after: Vec<EventKind> = kinds.into_iter().skip_while(|kind| *kind != EventKind::Intended).collect();
    let [intended, finished, rest @ ..] = after.as_slice() else { panic!("{after:?}") };
    assert_eq!((*intended, *finished), (EventKind::Intended, EventKind::Finished));
    assert!(rest.contains(&EventKind::SpaceLow) && rest.ends_with(&[EventKind::Ended]), "{rest:?}");
}

/// Root ignores permissions, so the disk itself is read-only.
#[test]
fn a_read_only_disk_is_refused_by_name() {
    on_a_disk("size=8m", "child_on_a_read_only_disk");
}

#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_on_a_read_only_disk() {
    let dir = given_dir();
    let journal = SqliteJournal::open(&dir).unwrap();
    let head = journal.create(&run(), Epoch::new(1), line(Head::EMPTY, "first")).await.unwrap();
    drop(journal);
    // The thread of the closed journal lets the file go a moment later; a read-only mount waits for that.
    let mut mounted = false;
    for _ in 0..200 {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&dir).stderr(Stdio::null()).status();
        mounted = status.unwrap().success();
        if mounted {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(mounted);
    let refused = SqliteJournal::open(&dir).unwrap_err().to_string();
    assert!(refused.contains("journal.db is read-only"), "{refused}");
    let refused = FileLeases::open(dir.join("leases")).unwrap_err();
    assert!(refused.to_string().contains("leases"), "{refused}");
    assert_eq!(head.seq, 1);
}
