//! The terminal's page of a run: what is true, what was done, what can be done, in this order.

use std::fmt::{self, Write as _};

use super::{HeldView, Standing, StepView, View, ended};
use crate::{
    base::{NodeId, text::human},
    contract::{Class, Fact},
    run::{Ask, AskKind, NodePhase},
};

const WIDTH: usize = 100;

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}   plan {}   {} UTC", self.title(), self.plan, self.now.clock())?;
        self.write_steps(f)?;
        writeln!(f, "{}", self.holding())?;
        if let Some(reason) = &self.cancel {
            writeln!(f, "asked to turn back by {reason}")?;
        }
        if let Some(reason) = &self.finish {
            writeln!(f, "asked to end as soon as only work is left for which nobody waits, by {reason}")?;
        }
        match &self.state {
            Standing::Running if self.only_owed_left && self.finish.is_none() => writeln!(
                f,
                "applications write; nobody waits for the rest. What is left becomes a debt with:  dr finish {} --because TEXT",
                self.run
            )?,
            Standing::Running => {}
            Standing::Asking | Standing::Parked => f.write_str(&self.question().unwrap_or_default())?,
            Standing::Paused => writeln!(f, "PAUSED  since {}; go on with:  dr resume {}", self.since(), self.run)?,
            Standing::TurningBack => writeln!(f, "TURNING BACK  since {}: {}", self.since(), self.reason())?,
            Standing::Done { outcome } => writeln!(f, "ENDED  {}: {}", self.since(), ended(outcome))?,
        }
        Ok(())
    }
}

impl View {
    /// `orders-17  neu -> weu`.
    #[must_use]
    pub fn title(&self) -> String {
        let to = self.to.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
        format!("{}  {}{to}", self.run, self.from)
    }

    /// What the application feels right now; never left out.
    #[must_use]
    pub fn holding(&self) -> String {
        let held = if self.held.is_empty() {
            "held: nothing".to_owned()
        } else {
            let list: Vec<String> = self.held.iter().map(held).collect();
            format!("held: {}", list.join(", "))
        };
        let Some(eta) = self.progress.eta else { return held };
        let (early, late) = (eta.earliest, eta.latest);
        let spread = late.since(early);
        let middle = early + crate::base::Millis::new(spread.count() / 2);
        if spread.count() < 2000 {
            format!("{held}   expected end {}", middle.clock())
        } else {
            format!(
                "{held}   expected end {} ± {}",
                middle.clock(),
                human(crate::base::Millis::new(spread.count() / 2))
            )
        }
    }

    /// What people are asked, with everything they need to decide and the code that confirms it. `None` when nothing is asked.
    #[must_use]
    pub fn question(&self) -> Option<String> {
        let ask = self.ask.as_ref()?;
        Some(match ask.kind {
            AskKind::Consent => self.consent(ask),
            AskKind::Park => self.park(ask),
            AskKind::Waiver => self.grade(ask),
        })
    }

    /// One step on one line, aligned with the others of this view.
    #[must_use]
    pub fn step_line(&self, step: &StepView) -> String {
        let named = self.steps.iter().map(|step| step.id.as_str().chars().count()).max().unwrap_or(0);
        let wide = self.steps.len().to_string().len();
        line_of(step, wide, named)
    }

    /// Why the run turns back, without the words that say that it does.
    #[must_use]
    pub fn reason(&self) -> &str {
        let text = self.sentence.text.as_str();
        text.strip_prefix("turning back: ").unwrap_or(text)
    }

    fn since(&self) -> String {
        self.sentence.since.clock()
    }

    fn write_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps.iter().filter(|step| step.state != NodePhase::Waiting) {
            writeln!(f, "{}", self.step_line(step))?;
        }
        let turned = matches!(self.state, Standing::TurningBack | Standing::Done { .. });
        let label = if turned { "not begun:" } else { "" };
        let left = self.steps.iter().filter(|step| step.state == NodePhase::Waiting);
        let words: Vec<String> = left
            .map(|step| match step.number {
                Some(number) => format!("{number} {}", step.id),
                None => step.id.to_string(),
            })
            .collect();
        for line in wrapped(&words, label) {
            writeln!(f, "   {line}")?;
        }
        Ok(())
    }

    fn consent(&self, ask: &Ask) -> String {
        let code = self.code().unwrap_or_default();
        let until = ask.expires.map(|at| format!("   until {} UTC", at.clock())).unwrap_or_default();
        let node = ask.node.as_ref().map(NodeId::as_str).unwrap_or_default();
        let mut page = format!("ASK  {}  {node}   code {code}{until}\n  {}\n", self.run, ask.question);
        match &ask.asked {
            None => line(&mut page, format_args!("  may lose {}", ask.loss)),
            Some(asked) => {
                line(&mut page, format_args!("  may lose {} now", asked.now));
                let until = asked.good_until.clock();
                line(
                    &mut page,
                    format_args!("  agrees to {}; asked again if it has not begun by {until} UTC", ask.loss),
                );
            }
        }
        for fact in &ask.facts {
            line(&mut page, format_args!("  {}", shown(fact)));
        }
        line(&mut page, format_args!("  plan {}   requested by {}: {}", self.plan, self.by, self.because));
        line(&mut page, format_args!("  needs {}; has {}", needs(ask), self.answers()));
        line(&mut page, format_args!("  answer with:  dr approve {0}   or   dr reject {0}", self.run));
        page
    }

    fn grade(&self, ask: &Ask) -> String {
        let code = self.code().unwrap_or_default();
        let until = ask.expires.map(|at| format!("   until {} UTC", at.clock())).unwrap_or_default();
        let place = ask.node.as_ref().map(|node| self.place(node)).unwrap_or_default();
        let mut page = format!("ASK  {}{place}   code {code}{until}\n  {}\n", self.run, ask.question);
        for fact in &ask.facts {
            line(&mut page, format_args!("  {}", shown(fact)));
        }
        line(&mut page, format_args!("  needs {}; has {}", needs(ask), self.answers()));
        page.push_str(
            "  goes on by itself when enough is measured; parks when someone rejects, or nobody answers in time\n",
        );
        line(&mut page, format_args!("  answer with:  dr approve {0}   or   dr reject {0}", self.run));
        page
    }

    fn park(&self, ask: &Ask) -> String {
        let code = self.code().unwrap_or_default();
        let place = ask.node.as_ref().map(|node| self.place(node)).unwrap_or_default();
        let writes =
            self.drain().map(|held| format!("   writes are stopped ({} held {})", held.node, human(held.lasts)));
        let mut page = format!(
            "PARKED  {}{place}  since {}{}   code {code}\n",
            self.run,
            self.since(),
            writes.unwrap_or_default()
        );
        line(&mut page, format_args!("  rule {}  {}", ask.rule.unwrap_or(self.sentence.rule), ask.question));
        for fact in &ask.facts {
            line(&mut page, format_args!("     {}", shown(fact)));
        }
        for step in self.steps.iter().filter(|step| step.class == Class::Pivot && step.sent.is_some()) {
            let sent = step.sent.map(|at| at.clock()).unwrap_or_default();
            line(&mut page, format_args!("  sent   {} {}, {sent}, {}", step.id, times(step.attempt), word(step.state)));
        }
        line(&mut page, format_args!("  who    {}; has {}", needs(ask), self.answers()));
        page.push_str("  choices\n");
        let wide = ask.choices.iter().map(|choice| choice.name.chars().count()).max().unwrap_or(0);
        for choice in &ask.choices {
            line(
                &mut page,
                format_args!("     {:<wide$}  {}   changes: {}", choice.name, choice.means, choice.changes),
            );
        }
        if self.no_return {
            page.push_str(
                "  not offered: turning back. The promotion may have been sent; this run only goes forward.\n",
            );
        }
        let first = ask.choices.first().map(|choice| choice.name.as_str()).unwrap_or_default();
        line(&mut page, format_args!("  decide with:  dr decide {} {first} --code {code}", self.run));
        page
    }

    fn drain(&self) -> Option<&HeldView> {
        self.held.iter().find(|held| held.class == Class::Drain)
    }

    fn place(&self, node: &NodeId) -> String {
        let number = self.steps.iter().find(|step| step.id == *node).and_then(|step| step.number);
        number.map_or_else(|| format!("  {node}"), |number| format!("  {number} {node}"))
    }

    fn answers(&self) -> String {
        if self.given.is_empty() {
            return "0".into();
        }
        let people: Vec<String> =
            self.given.iter().map(|given| format!("{} by {}", given.choice, super::step::person(given))).collect();
        format!("{} ({})", self.given.len(), people.join(", "))
    }
}

fn line(page: &mut String, args: fmt::Arguments<'_>) {
    let _infallible = writeln!(page, "{args}");
}

fn held(held: &HeldView) -> String {
    format!("{} for {}", held.node, human(held.lasts))
}

fn needs(ask: &Ask) -> String {
    let roles: Vec<&str> = ask.roles.iter().map(crate::base::Role::as_str).collect();
    let roles = if roles.is_empty() { "any role".to_owned() } else { roles.join(", ") };
    let not = ask.not.as_ref().map(|not| format!(", not {not}")).unwrap_or_default();
    format!("{} of {roles}{not}", ask.people)
}

/// `lag 3 s (metrics, 03:18:40)`.
pub(super) fn shown(fact: &Fact) -> String {
    format!("{} {} ({}, {})", fact.name, fact.value, fact.source, fact.at.clock())
}

fn times(attempts: u8) -> String {
    if attempts <= 1 { "once".into() } else { format!("{attempts} times") }
}

fn word(state: NodePhase) -> &'static str {
    match state {
        NodePhase::Waiting => "not begun",
        NodePhase::Looking => "looking",
        NodePhase::Asking => "people are asked",
        NodePhase::Intended => "no answer yet",
        NodePhase::Accepted => "accepted",
        NodePhase::InDoubt => "nobody knows what became of it",
        NodePhase::Backoff => "not done, will be tried again",
        NodePhase::Done => "done",
        NodePhase::Failed => "failed",
        NodePhase::Owed => "owed",
    }
}

fn mark(state: NodePhase) -> char {
    match state {
        NodePhase::Waiting => ' ',
        NodePhase::Looking | NodePhase::Intended | NodePhase::Accepted => '▶',
        NodePhase::Asking => '?',
        NodePhase::InDoubt => '↻',
        NodePhase::Backoff => '…',
        NodePhase::Done => '✓',
        NodePhase::Failed => '✗',
        NodePhase::Owed => '!',
    }
}

fn line_of(step: &StepView, wide: usize, named: usize) -> String {
    let number = step.number.map(|number| number.to_string()).unwrap_or_default();
    let took = step.took.map(human).unwrap_or_default();
    let going = step.state.in_flight() || step.state == NodePhase::Looking;
    let took = match (going, step.percent, step.about) {
        (true, Some(percent), _) => format!("{took}, {percent} %"),
        (true, None, Some(about)) => format!("{took} of about {}", human(about)),
        (_, _, _) => took,
    };
    let asked = step.class == Class::Consent;
    let middle = if asked { String::new() } else { format!("{took:<10}  ") };
    let detail = step.detail.clone().unwrap_or_default();
    let row = format!(" {} {number:>wide$} {:<named$}  {middle}{detail}", mark(step.state), step.id);
    row.trim_end().to_owned()
}

/// The words on as few lines as fit.
fn wrapped(words: &[String], label: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(last) if last.chars().count() + word.chars().count() + 2 <= WIDTH => {
                last.push_str("  ");
                last.push_str(word);
            }
            Some(_) => lines.push(word.clone()),
            None if label.is_empty() => lines.push(word.clone()),
            None => lines.push(format!("{label}  {word}")),
        }
    }
    lines
}
