//! What an example shows at the end: the run's own report beside what the simulated cloud knows to be true.
#![expect(clippy::print_stdout, reason = "the result of an example")]

use anyhow::{Result, bail};
use dr_core::{Report, run::RunOutcome};
use dr_testkit::SimCloud;
use serde::Serialize;
use serde_json::{Map, Value};

/// The result of an example. Counted in the simulated cloud, not by the engine.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// How the run ended.
    pub outcome: &'static str,
    /// Writes that a client was told to be safe, and that the writer does not have.
    pub lost_acknowledged_writes: usize,
    /// Attempts of clients that failed.
    pub client_errors: u64,
    /// Writes that clients were told to be safe.
    pub acknowledged_writes: u64,
    /// How often a standby really became a primary.
    pub promotions: usize,
    /// Who could commit at the end.
    pub writers: Vec<String>,
    /// The longest time in which no write was acknowledged.
    pub write_gap_ms: u64,
    /// Laws of the simulated cloud that were broken, such as "never two writers".
    pub broken_laws: Vec<String>,
    /// Writes may be lost, as far as people accepted.
    #[serde(skip)]
    pub may_lose: bool,
    /// What an example adds.
    #[serde(flatten)]
    pub more: Map<String, Value>,
    /// The engine's own report.
    pub report: Report,
}

impl Shown {
    /// Counts.
    #[must_use]
    pub fn of(cloud: &SimCloud, report: Report) -> Self {
        cloud.look(|truth| Self {
            outcome: report.outcome.as_ref().map_or("parked", word),
            lost_acknowledged_writes: truth.lost_acknowledged().len(),
            client_errors: truth.client_errors(),
            acknowledged_writes: truth.acknowledged(),
            promotions: truth.promotions().count(),
            writers: truth.writers_now().iter().map(ToString::to_string).collect(),
            write_gap_ms: truth.write_gap().count(),
            broken_laws: truth.violations().iter().map(|broken| format!("{broken:?}")).collect(),
            may_lose: false,
            more: Map::new(),
            report,
        })
    }

    /// For a forced change: a loss that people accepted is no failure of the example.
    #[must_use]
    pub fn may_lose(self) -> Self {
        Self { may_lose: true, ..self }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Writes one JSON object, or the report and a summary for people.
    ///
    /// # Errors
    /// The run did not do what it was for; a write was lost; a law was broken.
    pub fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            println!("{}", self.report);
            println!(
                "counted by the simulated cloud: {} writes acknowledged, {} lost, {} client errors, {} promotion(s), \
                 no write for {} ms, writer: {}",
                self.acknowledged_writes,
                self.lost_acknowledged_writes,
                self.client_errors,
                self.promotions,
                self.write_gap_ms,
                self.writers.join(" and "),
            );
            for (name, value) in &self.more {
                println!("{}: {value}", name.replace('_', " "));
            }
        }
        let lost = self.lost_acknowledged_writes > 0 && !self.may_lose;
        if lost || !self.broken_laws.is_empty() {
            bail!("{} writes lost, laws broken: {:?}", self.lost_acknowledged_writes, self.broken_laws);
        }
        if !self.report.outcome.as_ref().is_some_and(RunOutcome::success) {
            bail!("the run ended as `{}`", self.outcome);
        }
        Ok(())
    }
}

/// The outcome in one word, as it stands in the JSON of the examples.
#[must_use]
pub fn word(outcome: &RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::SucceededWithDebt { .. } => "succeeded-with-debt",
        RunOutcome::Refused { .. } => "refused",
        RunOutcome::Aborted { .. } => "aborted",
        RunOutcome::Cancelled { .. } => "cancelled",
        RunOutcome::HandedOver { .. } => "handed-over",
    }
}
