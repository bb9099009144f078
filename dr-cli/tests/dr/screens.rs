//! The screens, held against golden files: what people see when they operate a group of the simulated provider (covers F06, E06,
//! I04, J10). Times, digests and codes are replaced.

use crate::stage::{GROUP, Stage, golden, normal, settled};
use dr_cli::Exit;

#[test]
fn wrong_input_names_what_was_meant() {
    let stage = Stage::new();
    let bad = GROUP.replace("rpo_forced = ", "rpo_force  = ");
    std::fs::write(stage.path("groups/billing.toml"), bad.replace("\"orders\"", "\"billing\"")).unwrap();
    let mut page = String::new();
    for line in [
        "plan switchover orders --to weuu",
        "plan switchover order --to weu",
        "plan with acme.settled orders",
        "check DIR/groups/billing.toml",
        "check",
        "start DIR/nothing.plan --because CHG-1",
        "approve orders-71",
        "statsu",
        "plan switchover orders",
    ] {
        let said = stage.dr(line);
        assert_eq!(said.exit, Exit::Input, "{line}: {}{}", said.out, said.err);
        assert_eq!(said.out, "", "{line}");
        page.push_str(&format!("$ dr {line}\n{}\n", said.err));
    }
    golden("wrong-input", &stage, &page);
}

#[test]
fn every_help_is_complete() {
    let stage = Stage::new();
    let mut page = String::new();
    for verb in [
        "--help",
        "-h",
        "demo --help",
        "break --help",
        "check --help",
        "plan --help",
        "plan switchover --help",
        "start --help",
        "watch --help",
        "status --help",
        "approve --help",
        "reject --help",
        "decide --help",
        "pause --help",
        "resume --help",
        "cancel --help",
        "list --help",
        "report --help",
        "debts --help",
        "plan promotion --help",
        "plan redirect --help",
        "notify test --help",
        "verify --help",
    ] {
        let said = stage.dr(verb);
        assert_eq!(said.exit, Exit::Done, "{verb}");
        page.push_str(&format!("$ dr {verb}\n{}\n", said.out));
    }
    golden("help", &stage, &page);
    assert!(!page.contains("__guard"));
}

fn shows_what_is_held(out: &str) {
    for held in ["\nheld: drain for ", "fence for ", "\nheld: nothing\nDONE  orders-1"] {
        assert!(out.contains(held), "{held:?} is missing in\n{out}");
    }
}

#[test]
fn a_switchover_from_the_plan_to_the_report() {
    let stage = Stage::new();
    let mut page = String::new();
    let mut tell = |line: &str, text: String| page.push_str(&format!("$ dr {line}\n{text}\n"));
    let said = stage.dr("status");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    tell("status", said.out);
    let line = "plan switchover orders --to weu --save DIR/orders.plan";
    let said = stage.dr(line);
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    tell(line, said.out);

    let line = "start DIR/orders.plan --because CHG-4711";
    let going = stage.begin(line);
    going.until("answer with:");
    let asked = going.out.text();
    tell(line, settled(&asked));
    let said = stage.by("mira", Some("dba"), "approve orders-1", Some("0000"));
    assert_eq!(said.exit, Exit::Refused);
    tell("approve orders-1      (mira)", said.err);
    let said = stage.by("eve", None, "approve orders-1", Some("0000"));
    assert_eq!(said.exit, Exit::Refused);
    tell("approve orders-1      (eve)", said.err);
    let said = stage.by("ana", Some("dba"), "approve orders-1", None);
    assert_eq!(said.exit, Exit::Input, "no option skips a question");
    tell("approve orders-1      (ana, in a script)", said.err);
    let said = stage.by("ana", Some("dba"), "approve orders-1", Some("yes\n"));
    assert_eq!(said.exit, Exit::Waits);
    tell("approve orders-1      (ana, types `yes`)", said.out + &said.err);
    let said = stage.by("ana", Some("dba"), "decide orders-1 approved --code 1", None);
    assert_eq!(said.exit, Exit::Input);
    tell("decide orders-1 approved", said.err);
    let said = stage.dr("status orders");
    assert_eq!(said.exit, Exit::Waits);
    tell("status orders", said.out);
    let code = stage.code("orders-1");
    let said = stage.by("ana", Some("dba"), "approve orders", Some(&format!("{code}\n")));
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    tell("approve orders      (ana, types the code)", said.out);

    let said = going.end();
    assert_eq!(said.exit, Exit::Done, "{}{}", said.out, said.err);
    shows_what_is_held(&said.out);
    tell("start      (its terminal goes on)", settled(said.out.strip_prefix(&asked).unwrap()));
    for line in ["list", "report orders-1", "watch orders-1 --once", "status"] {
        let said = stage.dr(line);
        assert_eq!(said.exit, Exit::Done, "{line}: {}", said.err);
        tell(line, said.out);
    }
    let said = stage.dr("cancel orders-1 --because late");
    assert_eq!(said.exit, Exit::Refused);
    tell("cancel orders-1 --because late", said.err);
    golden("switchover", &stage, &page);
}

#[test]
fn json_is_one_value_and_says_the_same() {
    let stage = Stage::new();
    let plan = stage.dr("plan switchover orders --to weu --save DIR/orders.plan --json");
    assert_eq!(plan.json()["plan"]["group"], "orders");
    let going = stage.begin("start DIR/orders.plan --because CHG-1 --json");
    going.until("\"asking\"");
    let status = stage.dr("status orders-1 --json");
    assert_eq!((status.exit, status.json()["view"]["state"]["is"].as_str()), (Exit::Waits, Some("asking")));
    let code = stage.code("orders-1");
    let wrong = stage.by("ana", Some("dba"), "approve orders-1 --code zzzz --json", None);
    assert_eq!((wrong.exit, wrong.json()["exit"].as_u64()), (Exit::Refused, Some(3)));
    let right = stage.by("ana", Some("dba"), &format!("approve orders-1 --code {code} --json"), None);
    assert_eq!((right.exit, right.json()["as"].as_str()), (Exit::Done, Some("dba")));
    let said = going.end();
    assert_eq!(said.exit, Exit::Done);
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 3, "{} lines", lines.len());
    assert_eq!(lines.last().unwrap()["schema"], "dr.report/2");
    let report = stage.dr("report orders-1 --json --html DIR/report.html");
    assert_eq!(report.json()["lost"]["is"], "nothing");
    assert!(std::fs::read_to_string(stage.path("report.html")).unwrap().starts_with("<!doctype html>"));
    let list = stage.dr("list --json");
    assert_eq!(list.json()["runs"][0]["outcome"]["is"], "succeeded");
    let unknown = stage.dr("watch orders-9 --json");
    assert_eq!((unknown.exit, unknown.json()["exit"].as_u64()), (Exit::Input, Some(2)));
}

/// What a promotion leaves to people is listed with its run, closed by a person with a reason, and shown with the group until then.
#[test]
fn debts_are_listed_and_closed() {
    let stage = Stage::new();
    let plan = stage.dr("plan promotion orders --to weu --because the-shop-team --save DIR/orders.plan");
    assert!(plan.out.contains("leaves out") && plan.out.contains("the-shop-team"), "{}{}", plan.out, plan.err);
    let going = stage.begin("start DIR/orders.plan --because CHG-1");
    going.until("answer with:");
    let code = stage.code("orders-1");
    stage.by("ana", Some("dba"), &format!("approve orders-1 --code {code}"), None);
    assert_eq!(going.end().exit, Exit::Done);

    let listed = stage.dr("debts orders --json").json()["debts"].clone();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|debt| debt["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| id.starts_with("orders-1/")) && !ids.is_empty(), "{ids:?}");
    assert!(stage.dr("status orders").out.contains(ids[0]), "beside the group");
    assert!(stage.dr("status").out.contains("owed; see  dr debts orders"), "beside all groups");
    assert_eq!(stage.dr("status orders --json").json()["group"]["debts"], listed);
    let said = stage.dr("debts close orders-1/nothing --reason gone");
    assert_eq!(said.exit, Exit::Refused, "{}{}", said.out, said.err);
    for id in &ids {
        let said = stage.dr(&format!("debts close {id} --reason moved-by-hand"));
        assert_eq!(said.exit, Exit::Done, "{}", said.err);
    }
    let again = stage.dr(&format!("debts close {} --reason again", ids[0]));
    assert!(again.exit == Exit::Refused && again.err.contains("moved-by-hand"), "{}", again.err);
    assert_eq!(stage.dr("debts").out, "Nobody owes anything.\n");
    let refused = stage.dr("plan redirect orders --to neu");
    assert!(refused.exit == Exit::Refused && refused.err.contains("DR250"), "{}", refused.err);
    assert_eq!(stage.dr("plan redirect orders --to weu").exit, Exit::Done);
}

#[test]
fn one_no_turns_the_run_back_without_a_change() {
    let stage = Stage::new();
    stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    let going = stage.begin("start DIR/orders.plan --because CHG-1");
    going.until("answer with:");
    let said = stage.by("ana", Some("dba"), "reject orders-1 --note not-today", None);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Done, "rejected as dba.  1 of 1.\n"));
    let said = going.end();
    assert_eq!(said.exit, Exit::Refused, "{}", said.out);
    golden("rejected", &stage, &settled(&said.out));
}

#[test]
fn a_paused_run_begins_nothing_and_goes_on_when_told() {
    let stage = Stage::new();
    stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    let going = stage.begin("start DIR/orders.plan --because CHG-1");
    going.until("answer with:");
    let said = stage.dr("pause orders-1 --because look");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    going.until("PAUSED");
    let code = stage.code("orders-1");
    stage.by("ana", Some("dba"), &format!("approve orders-1 --code {code}"), None);
    let list = stage.dr("list --open");
    assert!(list.out.contains("paused"), "{}", list.out);
    let said = stage.dr("resume orders-1");
    assert_eq!(said.exit, Exit::Done);
    assert!(said.out.contains("is driven by another engine"), "{}", said.out);
    assert_eq!(going.end().exit, Exit::Done);
}

#[test]
fn a_cancelled_run_ends_in_a_known_state() {
    let stage = Stage::new();
    stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    let going = stage.begin("start DIR/orders.plan --because CHG-1");
    going.until("answer with:");
    let said = stage.dr("cancel orders-1 --because wrong-night");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let said = going.end();
    assert_eq!(said.exit, Exit::Ended, "{}", said.out);
    assert!(said.out.contains("CANCELLED  orders-1  switchover neu -> weu"), "{}", said.out);
}

#[test]
fn an_edited_plan_is_not_started() {
    let stage = Stage::new();
    stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    let text = std::fs::read_to_string(stage.path("orders.plan")).unwrap();
    let bolder = text.replacen("\"effect\":\"at-most-once\"", "\"effect\":\"idempotent\"", 1);
    assert_ne!(bolder, text);
    std::fs::write(stage.path("orders.plan"), bolder).unwrap();
    let said = stage.dr("start DIR/orders.plan --because CHG-1");
    assert_eq!(said.exit, Exit::Refused, "{}", said.err);
    std::fs::write(stage.path("orders.plan"), format!(" {text}")).unwrap();
    let said = stage.dr("start DIR/orders.plan --because CHG-1");
    assert_eq!(said.exit, Exit::Input);
    assert!(said.err.contains("is not as dr plan wrote it"), "{}", said.err);
}

#[test]
fn the_normaliser_replaces_times_and_digests_only() {
    assert_eq!(normal(" ✓ 1 look            4 s\n"), " ✓ 1 look  <time>\n");
    assert_eq!(normal("took 2 min 4 s, plan 7f3a-91c2 at 03:12:04 UTC\n"), "took <time>, plan <hash> at <clock> UTC\n");
    assert_eq!(normal("orders-17, weu 2 routes"), "orders-17, weu 2 routes");
    assert_eq!(normal("code 5d1e   until 03:34:00 UTC"), "code <code>   until <clock> UTC");
    assert_eq!(normal("at 1A/9F002468; n/a"), "at <position>; n/a");
}
