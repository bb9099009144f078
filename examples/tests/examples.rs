//! Every example runs, and with `--json` writes exactly one JSON object to standard output (issue 2, "Examples").

use std::{
    path::Path,
    process::{Command, Stdio},
};

use dr_evidence::{Bundle, Class, input};
use dr_testkit::Preset;
use serde_json::Value;

const PLANNED: &str = env!("CARGO_BIN_EXE_planned_switchover");
const CRASH: &str = env!("CARGO_BIN_EXE_crash_and_resume");
const CUSTOM: &str = env!("CARGO_BIN_EXE_custom_runbook");

/// Runs an example without a terminal and answers its one JSON object.
#[expect(clippy::panic, clippy::unwrap_used, reason = "tests")]
fn shown(program: &str, args: &[&str]) -> Value {
    let out = Command::new(program).args(args).arg("--json").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?} failed: {said}");
    let mut values = serde_json::Deserializer::from_slice(&out.stdout).into_iter::<Value>();
    let shown = values.next().unwrap_or_else(|| panic!("{program} wrote nothing: {said}")).unwrap();
    assert!(shown.is_object(), "{shown}");
    assert!(values.next().is_none(), "{program} wrote more than one value");
    assert!(!said.is_empty(), "{program} showed no progress");
    shown
}

fn nothing_lost(shown: &Value) {
    well_ended(shown, "succeeded");
}

fn well_ended(shown: &Value, outcome: &str) {
    assert_eq!(shown["outcome"], outcome, "{shown}");
    assert_eq!(shown["lost_acknowledged_writes"], 0, "{shown}");
    assert!(shown["client_errors"].is_u64(), "{shown}");
    assert_eq!(shown["promotions"], 1, "{shown}");
    assert_eq!(shown["writers"], serde_json::json!(["weu"]), "{shown}");
    assert_eq!(shown["broken_laws"], serde_json::json!([]), "{shown}");
    assert!(shown["acknowledged_writes"].as_u64().is_some_and(|writes| writes > 0), "{shown}");
}

#[test]
fn a_planned_switchover_succeeds_on_every_flavour() {
    for flavour in ["separate", "role-swap", "storage-fence"] {
        nothing_lost(&shown(PLANNED, &["--flavour", flavour]));
    }
}

#[test]
fn a_planned_switchover_and_a_failover_end_well_on_every_preset() {
    for preset in Preset::ALL {
        let planned = shown(PLANNED, &["--preset", preset.name()]);
        // Where a former primary never comes back, a new standby and its fence are owed.
        let owes = matches!(preset, Preset::RdsReplica | Preset::CloudSqlExternal);
        well_ended(&planned, if owes { "succeeded-with-debt" } else { "succeeded" });
        let owed = planned["report"]["outcome"]["debts"].as_array().map_or(0, Vec::len);
        assert_eq!(owed, if owes { 2 } else { 0 }, "{preset}: {planned}");
        let forced = shown(PLANNED, &["--preset", preset.name(), "--forced"]);
        assert!(forced["outcome"].as_str().is_some_and(|end| end.starts_with("succeeded")), "{preset}: {forced}");
        assert_eq!(forced["promotions"], 1, "{preset}: {forced}");
        assert_eq!(forced["writers"], serde_json::json!(["weu"]), "{preset}: {forced}");
        assert_eq!(forced["broken_laws"], serde_json::json!([]), "{preset}: {forced}");
    }
}

#[test]
fn the_journal_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    nothing_lost(&shown(PLANNED, &["--writers", "3", "--dir", &kept.to_string_lossy()]));
    assert!(kept.join("journal/journal.db").is_file());
}

/// Covers promise 3: killed anywhere, the same end.
#[test]
fn a_killed_orchestrator_is_replaced_and_the_end_is_the_same() {
    for step in ["drain", "fence", "promote", "release-drain"] {
        let shown = shown(CRASH, &["--at", step]);
        nothing_lost(&shown);
        assert_eq!(shown["killed_at"], step);
        assert_eq!(shown["same_end"], true, "{shown}");
    }
}

#[test]
fn a_step_that_is_not_there_is_named() {
    let out = Command::new(CRASH).args(["--at", "brew-tea", "--json"]).stdin(Stdio::null()).output().unwrap();
    assert!(!out.status.success());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("brew-tea"), "{said}");
}

#[test]
fn a_custom_runbook_pauses_the_consumers_and_starts_them_again() {
    let shown = shown(CUSTOM, &[]);
    nothing_lost(&shown);
    assert_eq!(shown["consumers_running"], true);
    let timeline = shown["report"]["timeline"].to_string();
    assert!(timeline.contains("consumers"), "{timeline}");
    let lines = include_str!("../src/bin/custom_runbook.rs").lines().count();
    assert!(lines < 150, "the example has {lines} lines");
}

#[test]
fn every_example_explains_itself() {
    for program in [PLANNED, CRASH, CUSTOM] {
        let out = Command::new(program).arg("--help").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("--json"), "{program}: {text}");
    }
}

/// Covers E04, I01, I02 and O06: the run of an example leaves evidence that verifies without the engine, with a checkpoint from before the
/// promotion, and no byte of it is a secret key.
#[test]
fn a_planned_switchover_leaves_evidence_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("evidence");
    let shown = shown(PLANNED, &["--evidence", place.to_str().unwrap()]);
    nothing_lost(&shown);
    let bundle = shown["report"]["evidence"].as_str().unwrap();
    let root = input::read_secret(&place.join("root.key")).unwrap();
    let verdict = input::verify_directory(Path::new(bundle), &[root.public().to_string()], &[]).unwrap();
    assert_eq!(verdict.class(), Class::Valid, "{verdict}");
    assert!(verdict.checked.replayed > 20 && verdict.checked.signatures > 3, "{verdict}");
    assert_eq!(verdict.claim.unwrap().run.to_string(), shown["report"]["run"].as_str().unwrap());
    for bytes in Bundle::read(Path::new(bundle)).unwrap().files.values() {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("PRIVATE+KEY"));
    }
}
