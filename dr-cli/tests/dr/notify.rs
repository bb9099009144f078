//! Whether everybody can be told who shall be.

use std::fs;

use dr_cli::Exit;
use serde_json::{Value, json};

use crate::stage::{GROUP, Stage};

/// One entry that runs a program, and what the program does.
fn runs(script: &str) -> String {
    format!("[[notify]]\nwith = \"exec\"\nat = {{ run = [\"/bin/sh\", \"-c\", {script:?}] }}\n")
}

#[test]
fn a_test_notice_shows_who_took_it() {
    let stage = Stage::new();
    let none = stage.dr("notify test orders");
    assert_eq!(none.exit, Exit::Input, "{none:?}");
    assert!(none.err.contains("runs of `orders` tell nobody"), "{}", none.err);

    let out = stage.path("told");
    let (takes, fails) = (runs(&format!("cat > {}", out.display())), runs("exit 3"));
    let file = format!("{GROUP}\n{takes}{fails}[[notify]]\nwith = \"sim\"\nonly = \"urgent\"\n");
    fs::write(stage.path("groups/orders.toml"), file).unwrap();

    let one = stage.dr("notify test orders --only exec");
    assert_eq!((one.exit, one.out.as_str()), (Exit::Done, "exec  took it\n"), "{one:?}");
    let told: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&told["occasion"], &told["run"]), (&json!("test"), &json!("orders-0")));

    let all = stage.dr("notify test orders");
    assert_eq!(all.exit, Exit::Ended, "{all:?}");
    assert!(all.out.contains("exec-2  DID NOT TAKE IT: "), "{}", all.out);
    assert!(all.out.contains("ended with exit status: 3") && all.out.contains("sim  took it"), "{}", all.out);

    let said = stage.dr("notify test orders --json").json();
    let took: Vec<_> = said["notify"].as_array().unwrap().iter().map(|one| json!([one["name"], one["took"]])).collect();
    assert_eq!(took, [json!(["exec", true]), json!(["exec-2", false]), json!(["sim", true])]);
    assert!(said["notify"][1]["why"].as_str().unwrap().contains("exit status: 3"), "{said}");
    assert_eq!(said["exit"], 5);

    let typo = stage.dr("notify test orders --only exce");
    assert_eq!(typo.exit, Exit::Input);
    assert!(typo.err.contains("did you mean `exec`?"), "{}", typo.err);
    assert!(!stage.path("journal").exists(), "looking whom to tell makes no journal");
}

/// `dr start` ended with the run, and cut off whoever was telling its end: an incident stayed open that the end would have closed.
#[test]
fn bug_the_end_of_a_run_is_told_before_the_program_ends() {
    let stage = Stage::new();
    let out = stage.path("told");
    let slow = runs(&format!("read line; sleep 0.5; echo \"$line\" >> {}", out.display()));
    fs::write(stage.path("groups/orders.toml"), format!("{GROUP}\n{slow}")).unwrap();
    assert_eq!(stage.dr("plan switchover orders --to weu --save DIR/orders.plan").exit, Exit::Done);
    let start = stage.begin("start DIR/orders.plan --because CHG-1");
    start.until("ASK");
    let code = stage.code("orders-1");
    assert_eq!(stage.by("ana", Some("dba"), &format!("approve orders-1 --code {code}"), None).exit, Exit::Done);
    assert_eq!(start.end().exit, Exit::Done);
    let told = fs::read_to_string(&out).unwrap_or_default();
    let occasions: Vec<Value> =
        told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["occasion"].clone()).collect();
    assert!(occasions.contains(&json!("asked")) && occasions.contains(&json!("ended-well")), "{told}");
}
