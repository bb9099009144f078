//! Progress on standard error: live bars on a terminal, plain lines elsewhere.
#![expect(clippy::print_stderr, reason = "the progress of an example")]

use std::{collections::BTreeMap, time::Duration};

use dr_core::{
    NodeId, View,
    base::text::human,
    run::NodePhase,
    show::{Standing, StepView},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows the views of one run.
#[derive(Debug)]
pub struct Board {
    all: MultiProgress,
    steps: ProgressBar,
    now: ProgressBar,
    live: bool,
    shown: BTreeMap<NodeId, NodePhase>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        let all = MultiProgress::new();
        let live = !all.is_hidden();
        let (steps, now) = (all.add(ProgressBar::new(0)), all.add(ProgressBar::new_spinner()));
        if let Ok(style) = ProgressStyle::with_template("{bar:30.green} {pos}/{len} steps   {msg}") {
            steps.set_style(style.progress_chars("█▌·"));
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            now.set_style(style);
        }
        if live {
            now.enable_steady_tick(Duration::from_millis(80));
        }
        Self { all, steps, now, live, shown: BTreeMap::new() }
    }

    /// Says something between the bars.
    pub fn say(&self, text: &str) {
        for line in text.trim_end().lines() {
            if !self.live {
                eprintln!("{line}");
            } else if self.all.println(line).is_err() {
                // A terminal that went away does not stop a run.
                return;
            }
        }
    }

    /// Shows what is true now.
    pub fn show(&mut self, view: &View) {
        let width = view.steps.iter().map(|step| step.id.as_str().len()).max().unwrap_or(0);
        for step in &view.steps {
            let before = self.shown.insert(step.id.clone(), step.state);
            if before != Some(step.state)
                && let Some(line) = line(step, width)
            {
                self.say(&line);
            }
        }
        self.steps.set_length(u64::try_from(view.progress.total).unwrap_or(0));
        self.steps.set_position(u64::try_from(view.progress.done).unwrap_or(0));
        self.steps.set_message(view.holding());
        let state = match &view.state {
            Standing::Running => "",
            Standing::Asking => "asks: ",
            Standing::Parked => "parked: ",
            Standing::Paused => "paused: ",
            Standing::TurningBack => "turning back: ",
            Standing::Done { .. } => "ended: ",
        };
        self.now.set_message(format!("{state}{}", view.sentence.text));
    }

    /// Takes the bars away; what was said stays.
    pub fn end(&self) {
        self.steps.finish_and_clear();
        self.now.finish_and_clear();
    }
}

fn line(step: &StepView, width: usize) -> Option<String> {
    let (mark, why) = match step.state {
        NodePhase::Done => ("✓", step.detail.clone()),
        NodePhase::Failed => ("✗", step.cause.as_ref().map(ToString::to_string)),
        NodePhase::Owed => ("!", step.cause.as_ref().map(ToString::to_string)),
        NodePhase::InDoubt => ("?", Some("nobody knows what became of it; looking".to_owned())),
        NodePhase::Backoff => ("↻", step.cause.as_ref().map(ToString::to_string)),
        NodePhase::Waiting | NodePhase::Looking | NodePhase::Asking | NodePhase::Intended | NodePhase::Accepted => {
            return None;
        }
    };
    let took = step.took.map(human).unwrap_or_default();
    let line = format!("{mark} {:<width$}  {took:>8}  {}", step.id, step.sentence);
    Some(match why.filter(|why| !why.is_empty()) {
        Some(why) => format!("{line}: {why}"),
        None => line,
    })
}
