//! Every rule has a plan that violates only it, and whole plans violate none. Covers F05, E05, E11, C10, C29, O02, A01, A03.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "golden files are read here, not in the library")]

mod cases;
mod kit;
mod plans;

use std::collections::BTreeSet;

use dr_core::{Purpose, base::Finding, plan::verify};

#[test]
fn whole_plans_violate_nothing() {
    let plans = [
        plans::promotion(),
        plans::travelling(),
        plans::swap(),
        plans::forced(),
        plans::dangerous(),
        plans::custom(Purpose::Drill),
        plans::custom(Purpose::Standby),
        plans::destroy(),
        plans::redirect(),
    ];
    for plan in plans {
        let subject = plan.subject();
        assert_eq!(verify::findings(&plan, &kit::catalog()), Vec::<Finding>::new(), "{subject}");
        assert!(plan.verify(Vec::new(), &kit::catalog()).is_ok(), "{subject}");
    }
}

/// What is left out by name, with a reason, needs no step.
#[test]
fn a_plan_that_leaves_the_applications_out_by_name_violates_nothing() {
    let mut plan = plans::promotion();
    for node in ["point-secret", "shift-traffic", "verify-traffic"] {
        cases::remove(&mut plan, node);
    }
    plan.leaves_out.insert("secret:orders".into(), "the team moves it".into());
    plan.leaves_out.insert("traffic:public".into(), "the team moves it".into());
    assert_eq!(verify::findings(&plan, &kit::catalog()), Vec::<Finding>::new());
}

#[test]
fn each_case_violates_its_rule_only() {
    let mut wrong = Vec::new();
    for (rule, name, case) in cases::CASES {
        let case = case();
        let refusal = case.plan.verify(case.faults, &kit::catalog());
        let found: Vec<Finding> = refusal.map_or_else(|refusal| refusal.findings, |_| Vec::new());
        let rules: BTreeSet<u16> = found.iter().map(|finding| finding.rule).collect();
        if rules != BTreeSet::from([*rule]) {
            wrong.push(format!("{name}: wanted DR{rule}, found {found:#?}"));
        }
        for Finding { what, why, helps, .. } in &found {
            assert!(!what.is_empty() && !why.is_empty() && !helps.is_empty(), "{name}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_case() {
    let tried: BTreeSet<u16> = cases::CASES.iter().map(|(rule, ..)| *rule).collect();
    let missing: Vec<u16> = verify::rules().map(|rule| rule.number).filter(|number| !tried.contains(number)).collect();
    assert_eq!(missing, Vec::<u16>::new(), "rules without a plan that violates only them");
}

#[test]
fn rule_numbers_are_unique_and_ordered() {
    let numbers: Vec<u16> = verify::rules().map(|rule| rule.number).collect();
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
}

/// The table of the rules in the docs; `DR_BLESS=1` writes it.
#[test]
fn the_docs_list_the_rules() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
    let text = format!(
        "# The rules of a plan\n\nMade from the table in `dr-core/src/plan/verify`; the test `verify` compares (`DR_BLESS=1` writes).\n\n{}",
        verify::markdown()
    );
    if std::env::var_os("DR_BLESS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), text, "run the test once with DR_BLESS=1");
}
