//! `dr list`: all runs of the journal.

use dr_core::{View, base::text::human, run::RunOutcome, show::Standing};
use dr_engine::RunSummary;
use serde_json::{Value, json};

use crate::{
    Exit, Screen,
    exit::Stop,
    link::{self, Link},
};

pub(super) async fn list(link: &Link, group: Option<&str>, open: bool, screen: &mut Screen) -> Result<Exit, Stop> {
    let mut rows = vec![["RUN", "WHAT", "STATE", "BEGAN (UTC)", "BY", "BECAUSE"].map(str::to_owned)];
    let mut values: Vec<Value> = Vec::new();
    for run in link.runs().await?.into_iter().rev() {
        if group.is_some_and(|group| run.run.group().as_str() != group) || (open && run.outcome.is_some()) {
            continue;
        }
        rows.push(row(&run));
        values.push(json!(run));
    }
    let page = if rows.len() > 1 { table(&rows) } else { "There are no runs.\n".to_owned() };
    screen.reply(&page, &json!({"runs": values, "exit": 0}));
    Ok(Exit::Done)
}

fn row(run: &RunSummary) -> [String; 6] {
    // A run that this version cannot read is listed like any other.
    let Some(view) = &run.view else {
        let fault = run.fault.clone().unwrap_or_default();
        return [run.run.to_string(), "?".into(), "unreadable".into(), String::new(), String::new(), fault];
    };
    let to = view.to.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
    let alone = if run.driven || run.outcome.is_some() { "" } else { ", no engine" };
    [
        run.run.to_string(),
        format!("{}{to}", view.from),
        format!("{}{alone}", word(view)),
        run.started.map(link::minute).unwrap_or_default(),
        view.by.name.clone(),
        view.because.clone(),
    ]
}

/// Where a run stands, in a word or two.
pub(super) fn word(view: &View) -> String {
    let held = match view.held.first() {
        Some(held) if view.outcome().is_none() => format!(", {} held {}", held.node, human(held.lasts)),
        Some(_) | None => String::new(),
    };
    let word = match &view.state {
        Standing::Running => "running",
        Standing::Asking => "ASKS",
        Standing::Parked => "PARKED",
        Standing::Paused => "paused",
        Standing::TurningBack => "turning back",
        Standing::Done { outcome } => match outcome {
            RunOutcome::Succeeded => "done",
            RunOutcome::SucceededWithDebt { .. } => "done, with debts",
            RunOutcome::Refused { .. } => "refused",
            RunOutcome::Aborted { .. } => "turned back",
            RunOutcome::Cancelled { .. } => "cancelled",
            RunOutcome::HandedOver { .. } => "handed over",
        },
    };
    format!("{word}{held}")
}

/// Rows in aligned columns.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut page = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<wide$}", wide = wide(column).unwrap_or(0)))
            .collect();
        page.push_str(cells.join("  ").trim_end());
        page.push('\n');
    }
    page
}
