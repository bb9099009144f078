//! What `dr` says at three in the morning is true: nothing is called quiet that is not.

use std::{process::Child, sync::Arc};

use dr_cli::Exit;
use dr_engine::TokioRuntime;
use dr_testkit::{Setup, SimCloud};

use crate::{
    process::{spawn, until},
    stage::{GROUP, Stage},
};

/// An engine whose run waits for people.
fn asking(stage: &Stage) -> Child {
    let said = stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let plan = stage.path("orders.plan").display().to_string();
    let mut child = spawn(stage, &["start", &plan, "--because", "CHG-1"]);
    until(&mut child, "answer with:");
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Looking in the wrong directory made a journal there, and said that there were no runs.
#[test]
fn bug_looking_makes_no_journal() {
    let stage = Stage::new();
    for line in ["list", "watch orders-1 --once", "report orders-1", "debts"] {
        let said = stage.dr(line);
        assert_eq!(said.exit, Exit::Input, "{line}");
        assert!(said.err.contains("there is no journal in "), "{line}: {}", said.err);
    }
    let said = stage.dr("status");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert!(said.out.contains("there is no journal in ") && said.out.contains("orders  neu"), "{}", said.out);
    assert!(!stage.path("journal").exists() && !stage.path("leases").exists());
}

/// Open runs were called nothing, because their group file was in another directory, or had a typo.
#[test]
fn bug_a_run_is_seen_whatever_became_of_its_group_file() {
    let stage = Stage::new();
    end(asking(&stage));
    std::fs::rename(stage.path("groups/orders.toml"), stage.path("orders.toml")).unwrap();
    let said = stage.dr("status");
    assert_eq!(said.exit, Exit::Waits, "{}", said.out);
    assert!(said.out.contains("orders-1 ASKS, no engine: its group has no file here"), "{}", said.out);
    assert!(said.out.contains("1 not over, 1 waiting for somebody."), "{}", said.out);

    std::fs::write(stage.path("groups/orders.toml"), GROUP.replace("rpo_forced", "rpo_force")).unwrap();
    let said = stage.dr("status --json");
    let json = said.json();
    assert_eq!(said.exit, Exit::Waits);
    assert!(json["groups"][0]["error"]["error"].as_str().unwrap().contains("rpo_force"), "{json}");
    assert_eq!(json["groups"][1]["run"]["run"], "orders-1", "{json}");
}

/// The primary was dead, and the page said that nothing waits for anybody.
#[test]
fn bug_a_writer_that_does_not_answer_is_no_quiet_group() {
    let stage = Stage::new();
    assert_eq!(stage.dr("plan switchover orders --to weu").exit, Exit::Done, "the writer is known from here on");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let setup = Setup::pair("orders", "neu", "weu");
        let time = Arc::new(TokioRuntime::current().unwrap());
        SimCloud::open(&stage.path("sim/orders.json"), setup, time).unwrap().break_down("neu");
    });
    for line in ["status", "status orders"] {
        let said = stage.dr(line);
        assert_eq!(said.exit, Exit::Waits, "{line}: {}", said.out);
        let words = "THE WRITER neu DOES NOT ANSWER; if it is down:  dr plan failover orders --to weu";
        assert!(said.out.contains(words) && !said.out.contains("nothing waits"), "{line}: {}", said.out);
    }
}

/// A watcher's line went on for ever after the engine had been killed.
#[test]
fn bug_a_watcher_is_told_that_the_engine_is_gone() {
    let stage = Stage::new();
    let engine = asking(&stage);
    let mut watcher = spawn(&stage, &["watch", "orders-1"]);
    until(&mut watcher, "answer with:");
    end(engine);
    until(&mut watcher, "ITS ENGINE IS GONE.  No engine drives orders-1 now");
    end(watcher);
}

/// A parked or asking run was said to go on elsewhere, with exit code 0.
#[test]
fn bug_resuming_says_what_the_run_waits_for() {
    let stage = Stage::new();
    let engine = asking(&stage);
    let said = stage.dr("resume orders-1");
    assert_eq!(said.exit, Exit::Waits, "{}", said.out);
    assert!(said.out.contains("driven by another engine; it waits for people:  dr approve orders-1"), "{}", said.out);
    end(engine);
}

/// A run can be told early that nobody waits for its rest; a run that is over has none.
#[test]
fn a_run_is_asked_to_end_before_its_rest_is_done() {
    let stage = Stage::new();
    end(asking(&stage));
    let said = stage.by("mira", Some("dba"), "finish orders-1 --because later", None);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert!(said.out.contains("orders-1 is asked to end: it goes on until applications write"), "{}", said.out);
    assert!(said.out.contains("No engine drives it now. Do it with:  dr resume orders-1"), "{}", said.out);
    let said = stage.by("mira", Some("dba"), "finish orders-1 --because later --json", None);
    assert_eq!((said.json()["asked"].as_str(), said.json()["driven"].as_bool()), (Some("finish"), Some(false)));
    let said = stage.by("eve", None, "finish orders-1 --because mine", None);
    assert_eq!(said.exit, Exit::Refused, "{}", said.err);
}

/// Every number that a screen shows is explained, and a mistyped one says what it may have been.
#[test]
fn every_number_is_explained() {
    let stage = Stage::new();
    let all = stage.dr("explain --json").json();
    let all = all["numbers"].as_array().unwrap();
    assert!(all.len() > 150, "{}", all.len());
    for one in all {
        let said = stage.dr(&format!("explain {}", one["number"].as_str().unwrap()));
        assert_eq!(said.exit, Exit::Done, "{one}");
        let shown = ["means", "why", "helps"].iter().all(|key| said.out.contains(one[*key].as_str().unwrap()));
        assert!(shown, "{one}: {}", said.out);
    }
    // What people may be told by an answer that does not count stands among them.
    for number in 301..=308 {
        assert_eq!(stage.dr(&format!("explain DR{number}")).exit, Exit::Done, "DR{number}");
    }
    assert_eq!(stage.dr("explain 205").out, stage.dr("explain no-writer").out);
    let said = stage.dr("explain no-wirter");
    assert!(said.exit == Exit::Input && said.err.contains("did you mean `no-writer`?"), "{}", said.err);
}

/// The program says what it is without a journal or a group, and writes completions and manual pages.
#[test]
fn the_program_speaks_of_itself() {
    let stage = Stage::new();
    let json = stage.dr("version --json").json();
    assert_eq!((json["plan_format"].as_u64(), json["group_format"].as_u64()), (Some(4), Some(2)), "{json}");
    assert!(json["steps"].as_array().unwrap().iter().any(|kind| kind == "dr.promote@1"), "{json}");
    for (shell, word) in [("bash", "_dr()"), ("zsh", "#compdef dr"), ("fish", "complete -c dr")] {
        let said = stage.dr(&format!("completions {shell}"));
        assert!(said.exit == Exit::Done && said.out.contains(word), "{shell}: {}", said.err);
    }
    assert_eq!(stage.dr("man DIR/man").exit, Exit::Done);
    let page = std::fs::read_to_string(stage.path("man/dr-plan-switchover.1")).unwrap();
    assert!(page.contains("outside\\-window"), "{page}");
    assert!(!stage.path("journal").exists());
}
