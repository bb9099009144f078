//! `dr explain`, `dr version`, `dr completions`, `dr man`: the program about itself. None of them opens a journal.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use dr_core::{
    GroupSpec,
    base::{known, text::suggest},
    plan::{PLAN_FORMAT, RULES_VERSION, verify},
    run::{node_rows, run_rows},
};
use serde_json::json;

use crate::{
    App, Exit, Screen,
    args::Cli,
    exit::{Stop, chain},
    link,
};

/// What a number stands for.
struct Numbered {
    number: u16,
    name: String,
    /// What must be so, or what is so.
    means: String,
    why: String,
    helps: String,
}

/// Everything that has a number.
fn all() -> Vec<Numbered> {
    let rules = verify::rules().map(|rule| Numbered {
        number: rule.number,
        name: rule.name.to_owned(),
        means: format!("A rule over plans. {}.", rule.sentence),
        why: rule.why.to_owned(),
        helps: rule.helps.to_owned(),
    });
    let found = known::ALL.iter().map(|known| Numbered {
        number: known.number,
        name: known.name.to_owned(),
        means: format!("It is found that {}.", known.means),
        why: known.why.to_owned(),
        helps: known.helps.to_owned(),
    });
    let run = run_rows().iter().map(|row| (row.number, row.sentence, "A run"));
    let step = node_rows().iter().map(|row| (row.number, row.sentence, "A step of a run"));
    let moved = run.chain(step).map(|(number, sentence, what)| Numbered {
        number,
        name: "transition".to_owned(),
        means: format!("{what} moved on: {sentence}."),
        why: "it stands in the journal, and reports quote it".to_owned(),
        helps: "dr report RUN tells when and why".to_owned(),
    });
    let mut all: Vec<Numbered> = rules.chain(found).chain(moved).collect();
    all.sort_by_key(|one| one.number);
    all
}

pub(super) fn explain(what: Option<&str>, screen: &mut Screen) -> Result<Exit, Stop> {
    let all = all();
    let Some(what) = what else {
        let lines: String =
            all.iter().map(|one| format!("DR{}  {:<30} {}\n", one.number, one.name, one.means)).collect();
        let list: Vec<_> = all.iter().map(shown).collect();
        screen.reply(&lines, &json!({"numbers": list, "exit": 0}));
        return Ok(Exit::Done);
    };
    let digits = what.trim().trim_start_matches(['D', 'd']).trim_start_matches(['R', 'r']);
    let by_number = digits.parse::<u16>().ok();
    let found = all.iter().find(|one| by_number == Some(one.number) || one.name == what && one.name != "transition");
    let Some(one) = found else {
        let names = all.iter().map(|one| one.name.as_str());
        let mut help = vec!["all of them:  dr explain".to_owned()];
        help.extend(suggest(what, names).map(|near| format!("did you mean `{near}`?")));
        return Err(Stop::input(format!("nothing is called `{what}`"), &help));
    };
    let page = format!("DR{}  {}\n{}\nwhy: {}\nhelps: {}\n", one.number, one.name, one.means, one.why, one.helps);
    screen.reply(&page, &json!({"explained": shown(one), "exit": 0}));
    Ok(Exit::Done)
}

fn shown(one: &Numbered) -> serde_json::Value {
    let Numbered { number, name, means, why, helps } = one;
    json!({"number": format!("DR{number}"), "name": name, "means": means, "why": why, "helps": helps})
}

pub(super) fn version(app: &App, screen: &mut Screen) -> Exit {
    let backends: Vec<&str> = app.backends.iter().map(|backend| backend.prefix()).collect();
    let runbooks: Vec<&str> = app.runbooks.keys().map(String::as_str).collect();
    let catalog = link::catalog(app);
    let steps: Vec<String> = catalog.kinds().map(ToString::to_string).collect();
    let version = env!("CARGO_PKG_VERSION");
    let words = |list: &[&str]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let page = format!(
        "dr {version}\nplans: format {PLAN_FORMAT}, rules {RULES_VERSION}\ngroup files: format {}\nbackends: {}\nrunbooks of your own: {}\nstep kinds: {}\n",
        GroupSpec::FORMAT,
        words(&backends),
        words(&runbooks),
        steps.len(),
    );
    let json = json!({
        "version": version, "plan_format": PLAN_FORMAT, "rules": RULES_VERSION, "group_format": GroupSpec::FORMAT,
        "backends": backends, "runbooks": runbooks, "steps": steps, "exit": 0,
    });
    screen.reply(&page, &json);
    Exit::Done
}

pub(super) fn completions(shell: Shell, screen: &mut Screen) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dr", &mut script);
    let script = String::from_utf8_lossy(&script);
    screen.reply(&script, &json!({"completions": script, "exit": 0}));
    Exit::Done
}

/// One page for the program and one for each verb: `dr.1`, `dr-plan.1`, `dr-plan-switchover.1`.
pub(super) fn man(into: &Path, screen: &mut Screen) -> Result<Exit, Stop> {
    let failed = |error: std::io::Error| {
        Stop::input(format!("the pages cannot be written to `{}`: {}", into.display(), chain(&error)), &[])
    };
    std::fs::create_dir_all(into).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), into).map_err(failed)?;
    let page = format!("the pages are in {0}; read one with:  man -l {0}/dr.1\n", into.display());
    screen.reply(&page, &json!({"pages": into, "exit": 0}));
    Ok(Exit::Done)
}
