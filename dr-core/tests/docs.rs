//! The documentation of the run machine is its table (covers G12), that of the findings their registry: the documents are compared
//! with what the code says. `DR_BLESS=1` writes them anew.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that reads and writes the repository's own documents"
)]

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use dr_core::{
    base::known,
    contract::verb,
    plan::verify,
    run::{NodePhase, Phase, node_rows, run_rows},
};

/// One row as the document shows it, whatever machine it belongs to.
struct Shown {
    number: u16,
    from: String,
    event: String,
    to: String,
    when: &'static str,
    does: String,
    sentence: &'static str,
}

fn mermaid(rows: &[Shown], first: &str, last: &[String]) -> String {
    let mut arrows: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for row in rows {
        arrows.entry((&row.from, &row.to)).or_default().push(format!("{} {}", row.number, row.event));
    }
    let mut text = format!("```mermaid\nstateDiagram-v2\n    [*] --> {first}\n");
    for ((from, to), events) in arrows {
        // A phase that a machine stays in is in the list below; in a picture it is only noise.
        if from != to {
            writeln!(text, "    {from} --> {to} : {}", events.join(", ")).unwrap();
        }
    }
    for phase in last {
        writeln!(text, "    {phase} --> [*]").unwrap();
    }
    text.push_str("```\n\n| rule | from | event | when | to | does | means |\n|---|---|---|---|---|---|---|\n");
    for Shown { number, from, event, to, when, does, sentence } in rows {
        writeln!(text, "| {number} | {from} | {event} | {when} | {to} | {does} | {sentence} |").unwrap();
    }
    text
}

fn run_machine() -> String {
    let rows: Vec<Shown> = run_rows()
        .iter()
        .map(|row| Shown {
            number: row.number,
            from: format!("{:?}", row.from),
            event: format!("{:?}", row.event),
            to: format!("{:?}", row.to),
            when: row.when.words(),
            does: row.does.iter().map(|does| does.words()).collect::<Vec<_>>().join(", "),
            sentence: row.sentence,
        })
        .collect();
    mermaid(&rows, &format!("{:?}", Phase::New), &[format!("{:?}", Phase::Ended)])
}

fn node_machine() -> String {
    let rows: Vec<Shown> = node_rows()
        .iter()
        .map(|row| Shown {
            number: row.number,
            from: format!("{:?}", row.from),
            event: format!("{:?}", row.event),
            to: format!("{:?}", row.to),
            when: row.when.words(),
            does: row.does.iter().map(|does| does.words()).collect::<Vec<_>>().join(", "),
            sentence: row.sentence,
        })
        .collect();
    let last = [NodePhase::Done, NodePhase::Failed, NodePhase::Owed].map(|phase| format!("{phase:?}"));
    mermaid(&rows, &format!("{:?}", NodePhase::Waiting), &last)
}

fn replaced(document: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = document.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_architecture_shows_the_table_of_transitions() {
    compare(
        "architecture.md",
        &[("run machine", run_machine()), ("node machine", node_machine()), ("verbs", verb::markdown())],
    );
}

#[test]
fn the_page_of_findings_shows_the_registry() {
    compare("findings.md", &[("findings", known::markdown())]);
}

/// Compares the named parts of a document with what the code says.
fn compare(document: &str, parts: &[(&str, String)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let found = std::fs::read_to_string(&path).unwrap();
    let wanted = parts.iter().fold(found.clone(), |text, (name, part)| replaced(&text, name, part));
    if std::env::var_os("DR_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(found == wanted, "docs/{document} is behind: run `DR_BLESS=1 cargo test -p dr-core --test docs`");
}

/// Covers B22: a number means one thing, and its range says what kind of thing.
#[test]
fn bug_no_two_things_share_a_number() {
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    let mut take = |number: u16, name: String, range: std::ops::RangeInclusive<u16>| {
        assert!(range.contains(&number), "{name} has the number {number}, its range is {range:?}");
        let other = taken.insert(number, name.clone());
        assert_eq!(other, None, "{number} is also {name}");
    };
    verify::rules().for_each(|rule| take(rule.number, format!("the rule {}", rule.name), 100..=199));
    known::ALL.iter().for_each(|row| {
        let range = match row.number {
            0..300 => 200..=299,
            300..400 => 300..=399,
            _ => 600..=699,
        };
        take(row.number, format!("the finding {}", row.name), range);
    });
    run_rows().iter().for_each(|row| take(row.number, format!("{:?} of a run", row.event), 400..=499));
    node_rows().iter().for_each(|row| take(row.number, format!("{:?} of a step", row.event), 500..=599));
}

#[test]
fn the_pictures_hold_every_phase() {
    for phase in Phase::ALL {
        assert!(run_machine().contains(&format!("{phase:?}")), "{phase:?} is in no row");
    }
    for phase in NodePhase::ALL {
        assert!(node_machine().contains(&format!("{phase:?}")), "{phase:?} is in no row");
    }
}
