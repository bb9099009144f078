//! `dr verify`: exit code 6 means that evidence does not verify.

use std::{fs, path::PathBuf};

use dr_cli::Exit;
use dr_engine::{SqliteJournal, TokioRuntime};
use dr_evidence::{Recorder, SecretKey};

use crate::{
    process::{spawn, until},
    stage::Stage,
};

/// The bundle of a run that waits for people, with the key that vouches for it.
fn sealed(stage: &Stage) -> (PathBuf, String) {
    let said = stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let plan = stage.path("orders.plan").display().to_string();
    let mut child = spawn(stage, &["start", &plan, "--because", "CHG-1"]);
    until(&mut child, "answer with:");
    child.kill().unwrap();
    child.wait().unwrap();

    let root = SecretKey::generate("example.com/dr").unwrap();
    let public = root.public().to_string();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = runtime.block_on(async {
        let journal = SqliteJournal::open(stage.path("journal")).unwrap();
        let recorder = Recorder::new(stage.path("evidence"), root, journal, TokioRuntime::current().unwrap(), "dr");
        recorder.finish(&"orders-1".parse().unwrap()).await.unwrap()
    });
    (place, public)
}

#[test]
fn evidence_that_does_not_verify_ends_with_six() {
    let stage = Stage::new();
    let (place, root) = sealed(&stage);
    let line = format!("verify {} --root {root}", place.display());
    let said = stage.dr(&line);
    assert_eq!(said.exit, Exit::Waits, "{}{}", said.out, said.err);
    assert!(said.out.starts_with("UNTERMINATED  orders-1\n  EV701  events.jsonl, event "), "{}", said.out);

    let said = stage.dr(&format!("verify {}", place.display()));
    assert_eq!(said.exit, Exit::Evidence, "{}", said.out);
    assert!(said.out.contains("EV204"), "{}", said.out);

    let events = place.join("events.jsonl");
    let text = fs::read_to_string(&events).unwrap();
    fs::write(&events, text.replace("CHG-1", "CHG-2")).unwrap();
    let said = stage.dr(&line);
    assert_eq!(said.exit, Exit::Evidence);
    assert!(said.out.starts_with("TAMPERED  orders-1\n  EV501  events.jsonl, event 1: "), "{}", said.out);
    let json = stage.dr(&format!("{line} --json")).json();
    assert_eq!((&json["exit"], &json["findings"][0]["code"]), (&6.into(), &"EV501".into()));
}

#[test]
fn bundle_or_key_that_is_not_there_is_wrong_input() {
    let stage = Stage::new();
    for line in ["verify DIR/nothing", "verify DIR --root example.com/dr+1+AQ", "verify DIR --known DIR/nothing"] {
        let said = stage.dr(line);
        assert_eq!(said.exit, Exit::Input, "{line}: {}", said.out);
        assert_eq!(said.out, "", "{line}");
    }
    assert!(!stage.path("journal").exists(), "verifying makes no journal");
}
