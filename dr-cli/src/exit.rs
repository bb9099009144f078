//! How `dr` ends: seven codes, each of which says what is true of the databases and what to do next.

use std::process::ExitCode;

use dr_core::{base::Refusal, run::RunOutcome};
use serde_json::{Value, json};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to say.
    Done = 0,
    /// Wrong input; nothing was sent.
    Input = 2,
    /// Refused by a rule; nothing was changed.
    Refused = 3,
    /// The run waits for a person: asking, parked, paused, or left without an engine.
    Waits = 4,
    /// The run ended in a known state that is not success.
    Ended = 5,
    /// Evidence does not verify.
    Evidence = 6,
    /// A bug of ours; the run is untouched and can be resumed.
    Bug = 70,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code for a run that ended like this.
    #[must_use]
    pub fn of(outcome: &RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded | RunOutcome::SucceededWithDebt { .. } => Self::Done,
            RunOutcome::Refused { .. } => Self::Refused,
            RunOutcome::Aborted { .. } | RunOutcome::Cancelled { .. } | RunOutcome::HandedOver { .. } => Self::Ended,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The part of `dr --help` that lists the codes.
pub(crate) const TABLE: &str = "\
Exit codes:
   0  done, or nothing to say
   2  wrong input; nothing was sent
   3  refused by a rule; nothing was changed
   4  waits for a person (asking, parked, paused, or left where it is)
   5  ended in a known state that is not success (turned back, cancelled, handed over)
   6  evidence does not verify
  70  a bug of ours; the run is untouched and can be resumed";

/// Why a command stopped. What it says is for people; with `--json` the same stands in one JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) page: String,
    pub(crate) json: Value,
}

impl Stop {
    /// Wrong input: what is wrong, and lines that help.
    pub(crate) fn input(what: impl Into<String>, help: &[String]) -> Self {
        Self::told(Exit::Input, "error", what, help, "nothing was sent")
    }

    /// A rule refuses.
    pub(crate) fn refused(what: impl Into<String>, help: &[String]) -> Self {
        Self::told(Exit::Refused, "REFUSED", what, help, "nothing was changed")
    }

    /// The run is left as it is, and a person must do something.
    pub(crate) fn waits(what: impl Into<String>, help: &[String]) -> Self {
        Self::told(Exit::Waits, "WAITS", what, help, "the run is as it was")
    }

    /// Our own fault.
    pub(crate) fn bug(what: impl Into<String>) -> Self {
        Self::told(Exit::Bug, "BUG", what, &[], "the run is untouched and can be resumed")
    }

    fn told(exit: Exit, word: &str, what: impl Into<String>, help: &[String], end: &str) -> Self {
        let what = what.into();
        let colon = if word == "error" { ":" } else { " " };
        let mut page = format!("{word}{colon} {what}\n");
        for line in help {
            page.push_str("  ");
            page.push_str(line);
            page.push('\n');
        }
        page.push_str(end);
        page.push('\n');
        let json = json!({"error": what, "help": help, "exit": exit.code()});
        Self { exit, page, json }
    }
}

impl From<&Refusal> for Stop {
    fn from(refusal: &Refusal) -> Self {
        let mut page = format!("REFUSED  {}\n", refusal.subject);
        for finding in &refusal.findings {
            let node = finding.node.as_ref().map(|node| format!("  at {node}")).unwrap_or_default();
            page.push_str(&format!("  DR{}  {}{node}\n", finding.rule, indented(&finding.what, 9)));
            page.push_str(&format!("         why    {}\n", indented(&finding.why, 16)));
            page.push_str(&format!("         helps  {}\n", indented(&finding.helps, 16)));
        }
        page.push_str("nothing was changed\n");
        let json = json!({"refused": refusal, "exit": Exit::Refused.code()});
        Self { exit: Exit::Refused, page, json }
    }
}

fn indented(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{:by$}", ""))
}

/// An error with all its sources, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    dr_core::Cause::chain(error).to_string()
}
