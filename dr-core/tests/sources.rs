//! What no type can say about the sources: where a phase may be assigned, and of what a finding is made. The tests read the files.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads the repository's own sources")]

use std::path::PathBuf;

/// All sources of the library and of the programs, by path, without tests.
fn sources() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut open: Vec<PathBuf> =
        ["dr-core", "dr-engine", "dr-postgres", "dr-cli"].iter().map(|krate| root.join(krate).join("src")).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.to_string_lossy().contains("tests") {
            found.push((path.to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(found.len() > 100, "the sources were not found");
    found
}

/// `Finding::new` takes a row of the registry; what is left is to write a row or a finding out by hand.
#[test]
fn every_finding_is_made_of_a_row_of_the_registry() {
    let by_hand = |text: &str, what: &str| {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        code.lines().any(|line| {
            let line = line.trim_start();
            line.contains(what)
                && !["//", "pub struct", "impl", "let "].iter().any(|word| line.starts_with(word))
                && !line.contains("->")
        })
    };
    assert!(by_hand("    Err(Finding { rule: 999 })", "Finding {") && by_hand("const A: Known = Known {", "= Known {"));
    for (path, text) in sources() {
        let registry = path.ends_with("finding/known.rs");
        let rules = path.contains("/verify/") || path.ends_with("/finding.rs");
        assert!(registry || !by_hand(&text, "= Known {"), "{path} makes a row of its own");
        assert!(
            rules || !by_hand(&text, " Finding {") && !by_hand(&text, "(Finding {"),
            "{path} makes a finding of its own"
        );
    }
}

/// The lines that give a run or a step another phase: an assignment, or a value made with one.
fn assigns_a_phase(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let assigned = |line: &&str| {
        let line = line.trim_start();
        let to = |what: &str| line.contains(&format!(".phase {what}= ")) || line.contains(&format!(".phase {what}=\n"));
        let replaced = ["replace(", "swap(", "take("].iter().any(|call| line.contains(call)) && line.contains(".phase");
        !line.starts_with("//")
            && (to("")
                || replaced
                || line.contains("&mut self.phase")
                || line.contains("phase: Phase::")
                || line.contains("phase: NodePhase::"))
    };
    code.lines().filter(assigned).map(str::trim).collect()
}

/// Covers G12: a transition that is no row of the table cannot happen, because the phase is assigned to the row's end in one function
/// of each machine, and begins as `New` and `Waiting`.
#[test]
fn no_phase_is_assigned_outside_the_table() {
    for planted in [
        "        node.phase = NodePhase::InDoubt;",
        "let state = NodeState { phase: NodePhase::Done, ..node };",
        "let was = std::mem::replace(&mut self.phase, Phase::Parked);",
    ] {
        assert_eq!(assigns_a_phase(planted), [planted.trim()], "the test sees what it is there for");
    }
    assert_eq!(assigns_a_phase("if self.phase == Phase::Ended {\n// node.phase = NodePhase::Done"), [""; 0]);
    let mut found: Vec<(String, String)> = Vec::new();
    for (path, text) in sources() {
        let file = path.rsplit_once("/src/").unwrap().1.to_owned();
        found.extend(assigns_a_phase(&text).into_iter().map(|line| (file.clone(), line.to_owned())));
    }
    found.sort();
    let allowed = [
        ("run/apply.rs", "phase: Phase::New,"),
        ("run/apply.rs", "self.phase = row.to;"),
        ("run/apply.rs", "self.phase = row.to;"),
        ("run/state.rs", "phase: NodePhase::Waiting,"),
    ];
    let found: Vec<(&str, &str)> = found.iter().map(|(file, line)| (file.as_str(), line.as_str())).collect();
    assert_eq!(found, allowed, "a phase is assigned by a row of the table, in `enter`");
}
