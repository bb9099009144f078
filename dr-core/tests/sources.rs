//! What no type can say about the sources: where a phase may be assigned, and of what a finding is made. The tests read the files.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads the repository's own sources")]

use std::path::PathBuf;

use dr_core::{contract::verb, plan::Duty};

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
        ("run/machine/apply.rs", "phase: Phase::New,"),
        ("run/machine/apply.rs", "self.phase = row.to;"),
        ("run/machine/apply.rs", "self.phase = row.to;"),
        ("run/machine/state.rs", "phase: NodePhase::Waiting,"),
    ];
    let found: Vec<(&str, &str)> = found.iter().map(|(file, line)| (file.as_str(), line.as_str())).collect();
    assert_eq!(found, allowed, "a phase is assigned by a row of the table, in `enter`");
}

/// The methods of a block that answer an outcome, with their bodies where they have one: `(name, text)`.
fn mutating(block: &str) -> Vec<(String, String)> {
    let starts: Vec<usize> = block.match_indices("async fn ").map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([block.len()]);
    let methods = starts.iter().copied().zip(ends).map(|(start, end)| block.get(start..end).unwrap());
    let answers = |text: &&str| text.split(['{', ';']).next().unwrap().contains("-> Outcome<");
    methods.filter(answers).map(|text| (text.split(['(', ' ']).nth(2).unwrap().to_owned(), text.to_owned())).collect()
}

/// The blocks that begin with `what`, by the first word after it.
fn blocks(text: &str, what: &str) -> Vec<(String, String)> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let found = code.split(what).skip(1).map(|rest| {
        let name = rest.split([':', ' ', '<']).next().unwrap().to_owned();
        (name, rest.split("\n}\n").next().unwrap().to_owned())
    });
    found.collect()
}

/// What the table says about the traits and the gate: words about every mutating method without exactly one row, every row without
/// a method, and every method of the gate that does not pass by its own row.
fn amiss(traits: &[String], gate: &str, rows: &[(&str, &str, &str)]) -> Vec<String> {
    let listed = |provider: &str, method: &str| rows.iter().filter(|row| (row.0, row.1) == (provider, method)).count();
    let methods: Vec<(String, String)> = traits
        .iter()
        .flat_map(|text| blocks(text, "pub trait "))
        .flat_map(|(name, block)| mutating(&block).into_iter().map(move |(method, _)| (name.clone(), method)))
        .collect();
    let mut words: Vec<String> = methods
        .iter()
        .filter(|(provider, method)| listed(provider, method) != 1)
        .map(|(provider, method)| format!("{provider}::{method} has {} rows", listed(provider, method)))
        .collect();
    let gated: Vec<(String, String, String)> = blocks(gate, "impl ")
        .into_iter()
        .flat_map(|(name, block)| mutating(&block).into_iter().map(move |(method, body)| (name.clone(), method, body)))
        .collect();
    for (provider, method, name) in rows {
        if !methods.iter().any(|found| (found.0.as_str(), found.1.as_str()) == (*provider, *method)) {
            words.push(format!("{provider}::{method} is a row and no method"));
        }
        let pass = format!("verb::{},", name.to_uppercase().replace('-', "_"));
        let passes = |found: &&(String, String, String)| found.0 == *provider && found.1 == *method;
        if !gated.iter().any(|found| passes(&found) && found.2.contains("pass!(") && found.2.contains(&pass)) {
            words.push(format!("the gate lets {provider}::{method} through by another row, or by none"));
        }
    }
    words
}

/// A verb that is added to a trait has no class and passes no gate until it has its row.
#[test]
fn every_mutating_method_of_a_provider_has_exactly_one_row() {
    let texts = |part: &str| -> Vec<String> {
        sources().into_iter().filter(|(path, _)| path.contains(part)).map(|(_, text)| text).collect()
    };
    let (traits, gate) = (texts("dr-core/src/contract/provider/"), texts("dr-core/src/plan/gate/wrap.rs").join("\n"));
    let rows: Vec<(&str, &str, &str)> =
        verb::ALL.iter().map(|verb| (verb.provider(), verb.method(), verb.name())).collect();
    assert!(rows.len() > 12);
    assert_eq!(amiss(&traits, &gate, &rows), Vec::<String>::new());
    // The test sees what it is there for: a row that is missing, one that stands twice, one without a method, a pass left out.
    for at in 0..rows.len() {
        let mut fewer = rows.clone();
        let gone = fewer.remove(at);
        assert_eq!(amiss(&traits, &gate, &fewer), [format!("{}::{} has 0 rows", gone.0, gone.1)]);
        let mut more = rows.clone();
        more.push(gone);
        assert_eq!(amiss(&traits, &gate, &more), [format!("{}::{} has 2 rows", gone.0, gone.1)]);
        let open = gate.replace(&format!("verb::{},", gone.2.to_uppercase().replace('-', "_")), "verb::OTHER,");
        assert_eq!(amiss(&traits, &open, &rows).len(), 1, "{}", gone.2);
    }
    let mut gone = rows;
    gone.push(("AppTier", "explode", "explode"));
    assert_eq!(amiss(&traits, &gate, &gone).len(), 2);
}

/// No two verbs of one kind of thing have one name: a touch would mean both.
#[test]
fn a_touch_means_one_verb() {
    for verb in verb::ALL {
        assert_eq!(verb::find(verb.of(), verb.name()), Some(verb), "{}", verb.name());
    }
}

/// A duty that is missing in the list would be needed by no plan.
#[test]
fn every_duty_is_listed() {
    let mark = sources().into_iter().find(|(path, _)| path.ends_with("/mark.rs")).unwrap().1;
    let (_, rest) = mark.split_once("pub enum Duty {").unwrap();
    let variants = rest.split_once("\n}").unwrap().0.lines().filter(|line| line.trim_end().ends_with(','));
    let mut listed: Vec<String> = Duty::ALL.iter().map(|duty| format!("{duty:?},")).collect();
    listed.sort();
    let mut variants: Vec<String> = variants.map(|line| line.trim().to_owned()).collect();
    variants.sort();
    assert_eq!(listed, variants);
}

/// The rules name no step kind and read no parameter by its place: what they go by, a step declares (`Marks`).
#[test]
fn no_rule_names_a_kind_or_reads_a_parameter_by_its_place() {
    let by_name = |text: &str| {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.contains("const SHIPPED"));
        code.filter(|line| line.contains("\"dr.") || line.contains(".pointer(") || line.contains(".get(\"")).count()
    };
    assert_eq!(by_name("look.of_kind(\"dr.check-lag\")\nparams.pointer(\"/minimum\")\nask.get(\"people\")"), 3);
    for (path, text) in sources().into_iter().filter(|(path, _)| path.contains("/verify/")) {
        assert_eq!(by_name(&text), 0, "{path}");
    }
}
