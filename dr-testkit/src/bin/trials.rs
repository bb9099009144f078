//! Runs the contract trials on the simulated cloud, and the wrong backends that trials have to find.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{collections::BTreeSet, process::ExitCode};

use dr_testkit::trials::{self, Report, SimSubject, Wrong, WrongVerdict};
use serde_json::json;

const HELP: &str = "\
Usage: trials [--subject NAME] [--json]
       trials --list

Runs every contract trial on every subject of the simulated cloud, then on every wrong backend.

  --subject NAME   only this subject, and no wrong backends; or one wrong backend
  --json           one JSON object: trials, failures, assertions, wrong_backends_found, wrong_backends_total, subjects
  --list           the subjects, the wrong backends, and each trial with the sentence that it shows
  --help           this text

Exit status: 0 when no trial failed and every wrong backend was found, 1 otherwise, 2 for a wrong argument.";

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    subject: Option<String>,
    json: bool,
    list: bool,
    help: bool,
}

fn main() -> ExitCode {
    match asked().and_then(|asked| answer(&asked)) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("trials: {why}");
            ExitCode::from(2)
        }
    }
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => asked.json = true,
            "--list" => asked.list = true,
            "--help" | "-h" => asked.help = true,
            "--subject" => asked.subject = Some(words.next().ok_or("--subject needs a name; --list shows them")?),
            other => return Err(format!("`{other}` is no argument; --help shows them")),
        }
    }
    Ok(asked)
}

fn answer(asked: &Asked) -> Result<ExitCode, String> {
    if asked.help {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    if asked.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |name: &str| asked.subject.as_deref().is_none_or(|subject| subject == name);
    let subjects = SimSubject::all().into_iter().filter(|subject| wanted(subject.name));
    let reports: Result<Vec<Report>, _> = subjects.map(|subject| subject.run(None)).collect();
    let reports = reports.map_err(|halt| format!("the simulation did not end: {halt}"))?;
    let verdicts: Result<Vec<WrongVerdict>, _> =
        Wrong::ALL.into_iter().filter(|wrong| wanted(wrong.name())).map(Wrong::judge).collect();
    let verdicts = verdicts.map_err(|halt| format!("the simulation did not end: {halt}"))?;
    if reports.is_empty() && verdicts.is_empty() {
        let name = asked.subject.as_deref().unwrap_or_default();
        return Err(format!("there is no subject `{name}`; --list shows them"));
    }
    if asked.json {
        println!("{}", json(&reports, &verdicts));
    } else {
        people(&reports, &verdicts);
    }
    let clean = reports.iter().all(|report| report.failed().is_empty()) && verdicts.iter().all(WrongVerdict::is_found);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list() {
    SimSubject::all().iter().for_each(|subject| println!("{}", subject.name));
    Wrong::ALL.iter().for_each(|wrong| println!("{}", wrong.name()));
    for trial in trials::all() {
        println!("{}\n    {}", trial.full_name(), trial.shows);
    }
}

fn json(reports: &[Report], verdicts: &[WrongVerdict]) -> serde_json::Value {
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let distinct: BTreeSet<_> = reports.iter().flat_map(Report::distinct).collect();
    let failures = sum(|report| report.failed().len());
    let wrong: Vec<serde_json::Value> = verdicts
        .iter()
        .map(|verdict| {
            let (name, fails) = (verdict.wrong.name(), verdict.wrong.fails());
            json!({ "wrong": name, "found": verdict.is_found(), "failed": verdict.failed, "should_fail": fails })
        })
        .collect();
    json!({
        "trials": sum(Report::held).saturating_add(failures),
        "failures": failures,
        "ignored": sum(|report| report.ignored().0),
        "assertions": sum(Report::assertions),
        "distinct_assertions": distinct.len(),
        "wrong_backends_found": verdicts.iter().filter(|verdict| verdict.is_found()).count(),
        "wrong_backends_total": verdicts.len(),
        "subjects": reports.iter().map(Report::json).collect::<Vec<_>>(),
        "wrong_backends": wrong,
    })
}

fn people(reports: &[Report], verdicts: &[WrongVerdict]) {
    reports.iter().for_each(|report| println!("{report}"));
    for verdict in verdicts {
        let (name, failed) = (verdict.wrong.name(), &verdict.failed);
        if verdict.is_found() {
            println!("found    {name} by {}", failed.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        } else {
            println!("MISSED   {name}\n         failed {failed:?}\n         should {:?}", verdict.wrong.fails());
        }
    }
    let found = verdicts.iter().filter(|verdict| verdict.is_found()).count();
    let distinct: BTreeSet<_> = reports.iter().flat_map(Report::distinct).collect();
    let failures: usize = reports.iter().map(|report| report.failed().len()).sum();
    let (subjects, total) = (reports.len(), verdicts.len());
    let assertions = distinct.len();
    println!(
        "{subjects} subjects, {assertions} assertions, {failures} failures, {found} of {total} wrong backends found"
    );
}
