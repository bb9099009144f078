//! The contract trials themselves: they hold on every flavour of the simulated cloud, find every wrong backend, and leave no sentence of
//! the contract out.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use dr_testkit::trials::{self, Contract, Report, Shown, SimSubject, Tier, Wrong};

fn reports() -> Vec<Report> {
    SimSubject::all().iter().map(|subject| subject.run(None).unwrap()).collect()
}

#[test]
fn every_trial_holds_on_every_flavour_with_150_assertions_over_nine_traits() {
    let reports = reports();
    for report in &reports {
        assert!(report.failed().is_empty(), "{report}");
        assert!(report.tier() > Tier::None, "{report}");
    }
    let distinct: BTreeSet<_> = reports.iter().flat_map(Report::distinct).collect();
    assert!(distinct.len() >= 150, "{} assertions", distinct.len());
    for contract in Contract::ALL {
        let of = distinct.iter().filter(|(trial, _)| trial.starts_with(contract.word())).count();
        assert!(of >= 4, "{contract:?} has {of} assertions");
    }
}

/// A body that never runs shows nothing: what the simulated cloud cannot show is listed, with who does.
#[test]
fn every_trial_is_shown_by_the_simulation_or_listed() {
    const ELSEWHERE: [&str; 6] = [
        "database::capabilities::snapshot_is_refused_where_it_is_not_offered", // PostgreSQL
        "database::describe::an_unknown_word_is_strange",                      // the stories
        "database::settle::a_bad_candidate_is_refused",                        // PostgreSQL
        "probe::write_as_application::an_application_writes",                  // PostgreSQL
        "probe::write_as_application::a_refusal_has_the_servers_words",        // PostgreSQL
        "traffic::write::without_a_login_it_is_not_offered",                   // PostgreSQL
    ];
    let reports = reports();
    let held: BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| &report.results)
        .filter(|result| result.shown == Shown::Held)
        .map(|result| result.trial.as_str())
        .collect();
    let names: BTreeSet<String> = trials::all().iter().map(|trial| trial.full_name()).collect();
    assert_eq!(names.len(), trials::all().len(), "two trials have one name");
    let missing: Vec<&str> = names.iter().map(String::as_str).filter(|name| !held.contains(name)).collect();
    assert_eq!(missing.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(ELSEWHERE));
}

/// Which trials find which wrong backend is a table in the library; here it is compared with what happens.
#[test]
fn each_wrong_backend_fails_the_trials_that_match_it_and_no_others() {
    assert!(Wrong::ALL.len() >= 10);
    let mut table = String::new();
    for wrong in Wrong::ALL {
        let verdict = wrong.judge().unwrap();
        let (failed, should) = (&verdict.failed, wrong.fails());
        assert!(!should.is_empty() && verdict.is_found(), "{}: failed {failed:?}, should {should:?}", wrong.name());
        writeln!(table, "{:<32} {}", wrong.name(), should.join(", ")).unwrap();
    }
    println!("{table}");
}

/// Documentation as one line of text: without marks, with single spaces.
fn squashed(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("///").trim());
    lines.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sources() -> Vec<String> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dr-core/src");
    let mut files: Vec<_> =
        fs::read_dir(core.join("contract/provider")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    files.into_iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// The behaviour bullets of methods: `- ` in the documentation of an item that is indented.
fn bullets(source: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        if let Some(first) = line.strip_prefix("    /// - ") {
            found.push(first.to_owned());
            inside = true;
        } else if let Some(more) = line.strip_prefix("    ///   ").filter(|_| inside) {
            let last = found.last_mut().unwrap();
            *last = format!("{last} {}", more.trim());
        } else {
            inside = false;
        }
    }
    found
}

#[test]
fn every_bullet_of_the_contract_has_a_trial_that_quotes_it() {
    /// What no rig can show yet: a part of several that refuses, where a sample came from, a route without a way to sample, a role that
    /// had no login before it was fenced (a test of PostgreSQL does).
    const NOT_SHOWN: [&str; 5] = [
        "gives back what a fence took, and nothing else",
        "several records or poolers change together or not at all",
        "everywhere or nowhere: a part that refuses undoes the rest",
        "each value was seen by itself, in a connection or a request of its own: none is repeated to make up the number",
        "without a way to sample: `Unsupported`",
    ];
    let bullets: Vec<String> = sources().iter().flat_map(|source| bullets(source)).collect();
    assert!(bullets.len() > 30, "the bullets are not found any more: {bullets:?}");
    let shown: BTreeSet<&str> = trials::all().iter().map(|trial| trial.shows).collect();
    let open: Vec<&String> = bullets
        .iter()
        .filter(|bullet| !shown.contains(bullet.as_str()) && !NOT_SHOWN.contains(&bullet.as_str()))
        .collect();
    assert!(open.is_empty(), "no trial shows: {open:#?}");
}

#[test]
fn every_trial_quotes_the_contract_word_for_word() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dr-core/src");
    let others = ["contract/outcome.rs", "contract/model.rs", "contract/guard/request.rs"]
        .map(|file| fs::read_to_string(core.join(file)).unwrap());
    let text: String = sources().iter().chain(&others).map(|source| squashed(source)).collect();
    let wrong: Vec<String> = trials::all()
        .iter()
        .filter(|trial| !text.contains(trial.shows))
        .map(|trial| format!("{}: {}", trial.full_name(), trial.shows))
        .collect();
    assert!(wrong.is_empty(), "the documentation does not say: {wrong:#?}");
}
