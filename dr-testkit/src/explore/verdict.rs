//! What an exploration found.

use std::fmt;

use crate::{
    cloud::FaultPlan,
    world::{Law, TruthLine},
};

/// One schedule that broke a law, shrunk to the fewest faults that still break it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which law.
    pub law: Law,
    /// What is wrong.
    pub text: String,
    /// The faults.
    pub plan: FaultPlan,
    /// How the run ended.
    pub end: String,
    /// How many calls were made.
    pub calls: usize,
    /// The truth up to there.
    pub excerpt: Vec<TruthLine>,
    /// When the run began, in milliseconds after 1970.
    pub began: i64,
}

/// The outcome of an exploration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an exploration that nobody looks at proves nothing"]
pub struct Verdict {
    /// What was explored: group, flavour, runbook.
    pub scenario: String,
    /// How many schedules were run.
    pub schedules: usize,
    /// Those that broke a law.
    pub failures: Vec<Failure>,
    /// How the runs ended: class and count.
    pub ends: std::collections::BTreeMap<&'static str, usize>,
    /// The schedules whose run parked, with what people are asked then.
    pub parked: Vec<(FaultPlan, String)>,
}

impl Verdict {
    /// Whether no schedule broke a law.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Ends the test with the first failures, if there are any.
    ///
    /// # Panics
    /// A schedule broke a law.
    #[expect(clippy::panic, reason = "it is an assertion for tests")]
    pub fn assert_clean(self) {
        if !self.is_clean() {
            panic!("{self}");
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends: Vec<String> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        if self.is_clean() {
            write!(f, "{}: {} schedules, no law broken ({})", self.scenario, self.schedules, ends.join(", "))?;
            return self.parked.iter().try_for_each(|(plan, question)| write!(f, "\n  parked  {plan}: {question}"));
        }
        let (broken, all) = (self.failures.len(), self.schedules);
        writeln!(f, "{broken} of {all} schedules break a law ({})", ends.join(", "))?;
        for failure in self.failures.iter().take(5) {
            writeln!(f)?;
            show(f, failure, &self.scenario)?;
        }
        for failure in self.failures.iter().skip(5) {
            writeln!(f, "  also    {} {}: {}", failure.law, failure.plan, failure.text)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, failure: &Failure, scenario: &str) -> fmt::Result {
    writeln!(f, "  law     {}: {}", failure.law, failure.text)?;
    let faults = if failure.plan.is_empty() { "none".to_owned() } else { failure.plan.to_string() };
    writeln!(f, "  faults  {faults} ({} calls); the run ended: {}", failure.calls, failure.end)?;
    writeln!(f, "  replay  DR_REPLAY='{scenario} {}'", failure.plan)?;
    for line in &failure.excerpt {
        let at = line.at.saturating_sub(failure.began);
        writeln!(f, "   t+{}.{:03}  {:28} {} {}", at / 1000, at % 1000, line.by, line.what, line.text)?;
    }
    Ok(())
}
