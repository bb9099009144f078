//! What came of the trials on one subject.

use std::{collections::BTreeSet, fmt};

use serde_json::{Value, json};

use super::{Check, Contract, Reach};

/// What became of one trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Every check held.
    Held,
    /// A check did not hold.
    Failed,
    /// It was not tried.
    Ignored {
        /// Why.
        because: String,
        /// Whether the rig would have to do or see more; otherwise the backend does not offer it.
        beyond_rig: bool,
    },
}

/// One trial on one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Result {
    /// Its full name.
    pub trial: String,
    /// The trait.
    pub of: Contract,
    /// The sentence.
    pub shows: &'static str,
    /// What became of it.
    pub shown: Shown,
    /// The checks that were made, in order.
    pub checks: Vec<Check>,
}

impl Result {
    /// The checks that did not hold, in words.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let failed = self.checks.iter().filter_map(|check| Some((check.words, check.failure.as_ref()?)));
        failed.map(|(words, failure)| format!("{words}: {failure}"))
    }
}

/// What a backend was shown to be, computed from what ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// A trial failed, or none was shown.
    None,
    /// Everything that the rig could show held; some trials are beyond the rig.
    Partly(Reach),
    /// Everything that the backend offers was shown.
    Wholly(Reach),
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reach = |reach: &Reach| match reach {
            Reach::Simulated => "by simulation",
            Reach::Double => "against a double",
            Reach::Real => "on real servers",
        };
        match self {
            Self::None => f.write_str("not shown"),
            Self::Partly(by) => write!(f, "shown in part {}", reach(by)),
            Self::Wholly(by) => write!(f, "shown {}", reach(by)),
        }
    }
}

/// All trials on one subject.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was on trial.
    pub subject: String,
    /// How close to the real service.
    pub reach: Reach,
    /// One result per trial.
    pub results: Vec<Result>,
}

impl Report {
    /// A report without results.
    #[must_use]
    pub fn new(subject: impl Into<String>, reach: Reach) -> Self {
        Self { subject: subject.into(), reach, results: Vec::new() }
    }

    /// How many trials held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.results.iter().filter(|result| result.shown == Shown::Held).count()
    }

    /// The names of the trials that failed, sorted.
    #[must_use]
    pub fn failed(&self) -> BTreeSet<&str> {
        self.results.iter().filter(|result| result.shown == Shown::Failed).map(|result| result.trial.as_str()).collect()
    }

    /// How many trials were ignored, and how many of those because the rig cannot do enough.
    #[must_use]
    pub fn ignored(&self) -> (usize, usize) {
        let beyond = |result: &Result| match result.shown {
            Shown::Ignored { beyond_rig, .. } => Some(beyond_rig),
            Shown::Held | Shown::Failed => None,
        };
        let all: Vec<bool> = self.results.iter().filter_map(beyond).collect();
        (all.len(), all.iter().filter(|beyond_rig| **beyond_rig).count())
    }

    /// How many assertions were made.
    #[must_use]
    pub fn assertions(&self) -> usize {
        self.results.iter().map(|result| result.checks.len()).sum()
    }

    /// The assertions as trial and words: a set, because loops and several subjects make the same ones again.
    #[must_use]
    pub fn distinct(&self) -> BTreeSet<(&str, &'static str)> {
        let of = |result: &'_ Result| -> Vec<&'static str> { result.checks.iter().map(|check| check.words).collect() };
        let pairs = self.results.iter().map(|result| (result.trial.as_str(), of(result)));
        pairs.flat_map(|(trial, words)| words.into_iter().map(move |words| (trial, words))).collect()
    }

    /// What this shows of the backend.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match (self.failed().is_empty(), self.held(), self.ignored().1) {
            (false, _, _) | (true, 0, _) => Tier::None,
            (true, _, 0) => Tier::Wholly(self.reach),
            (true, _, _) => Tier::Partly(self.reach),
        }
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let (ignored, beyond_rig) = self.ignored();
        let results: Vec<Value> = self.results.iter().map(line).collect();
        json!({
            "subject": self.subject,
            "tier": self.tier().to_string(),
            "trials": self.held() + self.failed().len(),
            "failures": self.failed().len(),
            "ignored": ignored,
            "ignored_beyond_rig": beyond_rig,
            "assertions": self.assertions(),
            "results": results,
        })
    }
}

fn line(result: &Result) -> Value {
    let failures: Vec<String> = result.failures().collect();
    match &result.shown {
        Shown::Held => json!({ "trial": result.trial, "is": "held", "assertions": result.checks.len() }),
        Shown::Failed => json!({ "trial": result.trial, "is": "failed", "shows": result.shows, "failures": failures }),
        Shown::Ignored { because, .. } => json!({ "trial": result.trial, "is": "ignored", "because": because }),
    }
}

/// A short table: a line for each trait that was tried, then what failed, then what was ignored and why.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.subject, self.tier())?;
        for contract in Contract::ALL {
            let of: Vec<&Result> = self.results.iter().filter(|result| result.of == contract).collect();
            if of.is_empty() {
                continue;
            }
            let held = of.iter().filter(|result| result.shown == Shown::Held).count();
            let failed = of.iter().filter(|result| result.shown == Shown::Failed).count();
            let checks: usize = of.iter().map(|result| result.checks.len()).sum();
            let ignored = of.len().saturating_sub(held).saturating_sub(failed);
            let word = contract.word();
            writeln!(f, "  {word:<9} {held:>3} held {failed:>3} failed {ignored:>3} ignored {checks:>4} assertions")?;
        }
        for result in self.results.iter().filter(|result| result.shown == Shown::Failed) {
            writeln!(f, "  FAILED   {}\n           the contract says: {}", result.trial, result.shows)?;
            for failure in result.failures() {
                writeln!(f, "           {failure}")?;
            }
        }
        for result in &self.results {
            if let Shown::Ignored { because, .. } = &result.shown {
                writeln!(f, "  ignored  {}, because {because}", result.trial)?;
            }
        }
        Ok(())
    }
}
