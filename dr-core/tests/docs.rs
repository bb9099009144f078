//! The documentation of the run machine is its table (covers G12): `docs/architecture.md` is compared with what the code says.
//! `DR_BLESS=1` writes the document anew.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that reads and writes the repository's own documents"
)]

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use dr_core::run::{NodePhase, Phase, node_rows, run_rows};

/// One row as the document shows it, whatever machine it belongs to.
struct Shown {
    number: u16,
    from: String,
    event: String,
    to: String,
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
    text.push_str("```\n\n| rule | from | event | to | means |\n|---|---|---|---|---|\n");
    for row in rows {
        writeln!(text, "| {} | {} | {} | {} | {} |", row.number, row.from, row.event, row.to, row.sentence).unwrap();
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
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let wanted = replaced(&found, "run machine", &run_machine());
    let wanted = replaced(&wanted, "node machine", &node_machine());
    if std::env::var_os("DR_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "docs/architecture.md is behind the table: run `DR_BLESS=1 cargo test -p dr-core --test docs`"
    );
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
