//! People: questions, answers, and what they ask of the run.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::{DriveError, Driver, outcome::Doubt, task};
use crate::{
    base::{Actor, Millis, NodeId, Role, canonical},
    contract::{AskedLoss, Cause, Class, Consent, Fact, Loss, LossBound, Occasion, admit::differences},
    plan::{
        Input, Output as _, Prepared, StepCx, StepError, StepErrorClass, catalog::ErasedHandler, not_done, references,
        stop,
    },
    run::{APPROVE, Ask, AskKind, Choice, Event, InboxRow, NodePhase, Phase, REJECT, Request, decided, judge},
};

/// How long a consent that nobody was asked for is good, where the loss grows meanwhile.
const PROMPT: Millis = Millis::seconds(60);

/// What every step of class [`Class::Consent`] says in its parameters; the facts to show come from its handler's `prepare`.
#[derive(Debug, Deserialize)]
pub(super) struct Terms {
    question: String,
    loss: Option<Input<LossBound>>,
    #[serde(default)]
    loss_limit: Option<Millis>,
    people: u8,
    #[serde(default)]
    people_beyond: u8,
    roles: Vec<Role>,
    expires_in: Millis,
}

impl Terms {
    /// How many people must agree to this loss. Nobody is asked only where the policy says so by name, and then only for a loss that is
    /// known to be within the limit (E05).
    fn people(&self, loss: &Loss, asked: Option<&AskedLoss>, automatic: bool) -> u8 {
        // Nobody takes time to answer then, and the consent is good for a moment only.
        let sooner = asked.map_or(Millis::ZERO, |asked| asked.answer.saturating_sub(PROMPT));
        let within = match loss {
            Loss::Nothing => true,
            Loss::AtMost { time, .. } => self.loss_limit.is_some_and(|limit| time.saturating_sub(sooner) <= limit),
            Loss::Unknown { .. } => false,
        };
        match (automatic, within) {
            (true, true) => self.people,
            (true, false) => self.people.max(self.people_beyond).max(1),
            (false, _) => self.people.max(1),
        }
    }
}

/// Reads the facts that people are shown.
pub(super) async fn gather(handler: &dyn ErasedHandler, cx: &StepCx, params: &Value) -> Result<Vec<Fact>, StepError> {
    match handler.prepare(cx, params).await? {
        Prepared::Ready(ready) => Ok(ready.facts),
        Prepared::NotReady(reason) => Err(not_done(reason.cause)),
        Prepared::Conflict(cause) => Err(stop(cause)),
        Prepared::AlreadyDone(_) => Err(stop("a question cannot be answered by its own step")),
    }
}

impl Driver {
    /// Asks, or goes on waiting for answers.
    pub(super) async fn ask(&mut self, node: &NodeId) -> Result<(), DriveError> {
        if self.state.plan.call(node).is_some_and(|call| call.class != Class::Consent) {
            return self.wait_for_grade(node).await;
        }
        if self.busy.contains(node) {
            return Ok(());
        }
        if self.state.phase_of(node) == NodePhase::Asking {
            match self.state.ask.as_ref().and_then(|ask| decided(ask, &self.state.given)) {
                Some(choice) if choice == REJECT => {
                    let cause = self.refusal();
                    return self.fail(node, cause, Doubt::None).await;
                }
                Some(_) => {}
                None => {
                    let expires = self.state.ask.as_ref().and_then(|ask| ask.expires);
                    let left = expires.map_or(Millis::minutes(10), |at| at.since(self.drive.runtime.now_wall()));
                    self.busy.insert(node.clone());
                    let runtime = Arc::clone(&self.drive.runtime);
                    self.jobs.push(task::ask_timer(runtime, node.clone(), left.saturating_add(Millis::new(1))));
                    return Ok(());
                }
            }
        }
        self.gather(node).await
    }

    /// Names the person who refused, as the cause of the failure.
    pub(super) fn refusal(&self) -> Cause {
        let who = self.state.given.iter().find(|given| given.choice == REJECT).map(|given| given.by.to_string());
        Cause::new(format!("{} said no", who.unwrap_or_default()))
    }

    async fn gather(&mut self, node: &NodeId) -> Result<(), DriveError> {
        if let Err(cause) = self.terms(node) {
            return self.fail(node, cause, Doubt::None).await;
        }
        // The step's time is for reading what is shown; how long people thought about it does not count.
        let within = self.state.paced(node).map_or(Millis::minutes(5), |paced| paced.within);
        let now = self.drive.runtime.now_mono();
        self.clocks.entry(node.clone()).or_insert(super::Clock { deadline: now + within, next: now });
        if let Some(work) = self.work(node, Vec::new()).await? {
            self.jobs.push(task::gather(Arc::clone(&self.drive.runtime), work));
        }
        Ok(())
    }

    fn terms(&self, node: &NodeId) -> Result<Terms, Cause> {
        serde_json::from_value(self.resolved(node)?)
            .map_err(|error| Cause::new(format!("the question is no question: {error}")))
    }

    pub(super) async fn on_gathered(
        &mut self,
        node: &NodeId,
        result: Result<Vec<Fact>, StepError>,
    ) -> Result<(), DriveError> {
        let phase = self.state.phase_of(node);
        if !matches!(phase, NodePhase::Waiting | NodePhase::Asking) || self.state.aborting.is_some() {
            return Ok(());
        }
        let no = self.state.ask.as_ref().and_then(|ask| decided(ask, &self.state.given));
        if phase == NodePhase::Asking && no.is_some_and(|choice| choice == REJECT) {
            self.clocks.remove(node);
            return Ok(());
        }
        let facts = match result.map(|facts| self.with_attestation(facts)).and_then(within_limits) {
            Ok(facts) => facts,
            Err(error) => {
                if error.class == StepErrorClass::Stop || self.drive.runtime.now_mono() >= self.clock(node).deadline {
                    let cause = Cause::new(format!("it cannot be asked: {}", error.cause));
                    return self.fail(node, cause, Doubt::None).await;
                }
                self.again_in(node, Millis::seconds(1));
                return Ok(());
            }
        };
        self.clocks.remove(node);
        if phase == NodePhase::Asking
            && let Some(ask) = self.state.ask.clone()
            && decided(&ask, &self.state.given).is_some_and(|choice| choice == APPROVE)
            && differences(&ask.facts, &facts).is_empty()
        {
            return self.grant(node, ask).await;
        }
        let ask = match self.question(node, facts) {
            Ok(ask) => ask,
            Err(cause) => return self.fail(node, cause, Doubt::None).await,
        };
        if ask.people == 0 && phase == NodePhase::Waiting {
            return self.grant(node, ask).await;
        }
        let text = ask.question.clone();
        self.append(vec![Event::Asked { node: node.clone(), ask: Box::new(ask) }]).await?;
        self.notify("asked", Occasion::Asked, &text);
        Ok(())
    }

    /// What two people attested stands in every later question: others agree to what follows from it.
    fn with_attestation(&self, mut facts: Vec<Fact>) -> Vec<Fact> {
        if let Some(waived) = self.state.attested() {
            let people: Vec<&str> = waived.given.iter().map(|given| given.by.name.as_str()).collect();
            let notes: Vec<&str> = waived.given.iter().filter_map(|given| given.note.as_deref()).collect();
            let notes = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
            let words = format!("{} by {}{notes}", waived.accepts, people.join(" and "));
            facts.push(Fact::any("attested", words, "people", waived.expires));
        }
        facts
    }

    fn question(&self, node: &NodeId, facts: Vec<Fact>) -> Result<Ask, Cause> {
        let terms = self.terms(node)?;
        let (loss, mut asked) = match &terms.loss {
            None => (Loss::Nothing, None),
            Some(input) => {
                let bound = input.get().map_err(|error| Cause::chain(&error))?;
                (bound.loss.clone(), bound.asked.clone())
            }
        };
        let now = self.drive.runtime.now_wall();
        let people = terms.people(&loss, asked.as_ref(), self.state.plan.policy.automatic.is_some());
        if let Some(asked) = asked.as_mut().filter(|_| people == 0) {
            asked.good_until = asked.good_until.min(now + PROMPT);
        }
        Ok(Ask {
            kind: AskKind::Consent,
            node: Some(node.clone()),
            plan: self.state.hash,
            question: terms.question.clone(),
            facts,
            loss,
            asked,
            choices: vec![
                Choice::new(APPROVE, "run the plan", "what the plan's preview says"),
                Choice::new(REJECT, "end the run; nothing is changed", "nothing"),
            ],
            people,
            roles: terms.roles.clone(),
            not: (people > 0).then(|| self.state.by.clone()),
            since: now,
            expires: Some(now + terms.expires_in),
            short: None,
            rule: None,
        })
    }

    async fn grant(&mut self, node: &NodeId, ask: Ask) -> Result<(), DriveError> {
        let now = self.drive.runtime.now_wall();
        let expires = ask.expires.unwrap_or(now);
        let good_until = ask.asked.as_ref().map_or(expires, |asked| asked.good_until);
        let digest = ask.digest().map_err(|source| DriveError::Canonical { run: self.drive.run.clone(), source })?;
        let consent = Consent {
            run: self.drive.run.clone(),
            plan: self.state.hash,
            ask: digest,
            facts: ask.facts,
            loss: ask.loss,
            given: self.state.given.clone(),
            at: now,
            expires: expires.min(good_until),
        };
        let output = canonical::to_value(&consent)
            .map(crate::base::Json)
            .map_err(|source| DriveError::Canonical { run: self.drive.run.clone(), source })?;
        self.append(vec![Event::Finished { node: node.clone(), output, calls: Vec::new() }]).await
    }

    pub(super) async fn on_ask_timer(&mut self, node: &NodeId) -> Result<(), DriveError> {
        if self.state.phase_of(node) != NodePhase::Asking {
            return Ok(());
        }
        let expires = self.state.ask.as_ref().and_then(|ask| ask.expires);
        let undecided = self.state.ask.as_ref().is_some_and(|ask| decided(ask, &self.state.given).is_none());
        match expires {
            Some(at) if undecided && self.drive.runtime.now_wall() > at => {
                let cause = Cause::new(format!("nobody answered until {at}"));
                self.fail(node, cause, Doubt::None).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The first change found that the consent does not hold any more: people are asked again.
    pub(super) async fn void(&mut self, diff: Vec<String>) -> Result<(), DriveError> {
        let plan = Arc::clone(&self.state.plan);
        let Some((id, ask)) = plan.nodes.iter().find(|(_, node)| node.call.class == Class::Consent) else {
            return Ok(());
        };
        // What people are shown of the loss is as old as what they agreed to: it is bounded anew before they are asked.
        let bound = LossBound::type_name();
        let bounds = references(&ask.call.params.0).into_iter().map(|found| found.node);
        let stale = bounds.filter(|node| {
            let call = plan.call(node).filter(|call| call.output == bound);
            call.is_some() && self.state.phase_of(node) == NodePhase::Done
        });
        let anew: BTreeSet<NodeId> = stale.collect();
        // Nothing that waits for the answer loses its time by it.
        self.clocks.retain(|node, _| self.state.phase_of(node) != NodePhase::Waiting && node != id);
        self.clocks.retain(|node, _| !anew.contains(node));
        let voided = |node: NodeId| Event::Voided { node, diff: diff.clone() };
        self.append(std::iter::once(id.clone()).chain(anew).map(voided).collect()).await
    }

    /// Turns what was posted into events, each row once.
    pub(super) async fn read_inbox(&mut self, rows: Vec<InboxRow>) -> Result<(), DriveError> {
        for row in rows {
            if self.state.rows.contains(&row.id) || self.state.phase == Phase::Ended {
                continue;
            }
            let event = match serde_json::from_value::<Request>(row.request.0) {
                Ok(request) => self.event_of(row.id, request),
                Err(error) => Event::TurnedAway { row: row.id, why: format!("not understood: {error}") },
            };
            let answered = matches!(event, Event::Answered { .. });
            self.append(vec![event]).await?;
            if answered && let Some(node) = self.state.ask.as_ref().and_then(|ask| ask.node.clone()) {
                // The timer that waits for this question must not hold the answer up.
                if self.state.phase_of(&node) == NodePhase::Asking {
                    self.busy.remove(&node);
                }
            }
            self.settle_decisions().await?;
        }
        Ok(())
    }

    fn event_of(&self, row: String, request: Request) -> Event {
        let away = |why: &str| Event::TurnedAway { row: row.clone(), why: why.to_owned() };
        if let Request::Pause { by, .. }
        | Request::Resume { by }
        | Request::Cancel { by, .. }
        | Request::Finish { by, .. } = &request
            && let Err(refused) = self.state.may_steer(by)
        {
            return away(&refused.to_string());
        }
        match request {
            Request::Answer(answer) => {
                let Some(ask) = &self.state.ask else { return away("DR302  the run asks nothing now") };
                match judge(ask, &self.state.given, &answer, self.drive.runtime.now_wall()) {
                    Ok(given) => Event::Answered { row, given },
                    Err(refused) => away(&refused.to_string()),
                }
            }
            Request::Pause { by, because } if self.state.phase == Phase::Running => {
                Event::PauseSet { row, by, on: true, because: Some(because) }
            }
            Request::Resume { by } if self.state.phase == Phase::Paused => {
                Event::PauseSet { row, by, on: false, because: None }
            }
            Request::Pause { .. } => away("it cannot be paused now"),
            Request::Resume { .. } => away("it is not paused"),
            Request::Cancel { by, because } => self.cancel_of(row, by, because),
            Request::Finish { by, because } => match self.state.phase {
                Phase::Running | Phase::Paused => Event::FinishAsked { row, by, because },
                Phase::Aborting => away("it is turning back"),
                Phase::Parked => away("it is parked: decide instead"),
                Phase::New | Phase::Ended => away("it does not run"),
            },
        }
    }

    fn cancel_of(&self, row: String, by: Actor, because: String) -> Event {
        let away = |why: &str| Event::TurnedAway { row: row.clone(), why: why.to_owned() };
        if self.state.pivot_stands() {
            return away("the promotion was asked for: this run only goes forward");
        }
        match self.state.phase {
            Phase::Running | Phase::Paused => Event::CancelAsked { row, by, because },
            Phase::Aborting => away("it is turning back already"),
            Phase::Parked => away("it is parked: decide instead"),
            Phase::New | Phase::Ended => away("it does not run"),
        }
    }
}

/// Facts beyond their own limits would void the consent to them again and again: nobody is asked, they are read again instead.
fn within_limits(facts: Vec<Fact>) -> Result<Vec<Fact>, StepError> {
    let beyond = facts.iter().filter(|fact| fact.voided_by(fact));
    let beyond: Vec<String> = beyond.map(|fact| format!("{} is {}", fact.name, fact.value)).collect();
    if beyond.is_empty() {
        return Ok(facts);
    }
    Err(not_done(format_args!("beyond what the plan lets pass: {}", beyond.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::seconds;

    /// An automatic failover granted itself whatever loss was bounded, an unknown one too; the limit of the group file was read by
    /// nothing.
    #[test]
    fn bug_nobody_is_left_out_when_more_may_be_lost_than_the_group_lets() {
        let at_most = |time| Loss::AtMost { time, amount: None, because: "sampled".into() };
        let unknown = Loss::Unknown { because: "no sample".into() };
        let table = [
            ("nothing", Some(seconds(60)), Loss::Nothing, 0, 2),
            ("within the limit", Some(seconds(60)), at_most(seconds(60)), 0, 2),
            ("beyond it", Some(seconds(60)), at_most(seconds(61)), 2, 2),
            ("unknown", Some(seconds(60)), unknown, 2, 2),
            ("no limit", None, at_most(seconds(1)), 2, 2),
        ];
        for (name, loss_limit, loss, automatic, asked) in table {
            let terms = |people| Terms {
                question: "?".into(),
                loss: None,
                loss_limit,
                people,
                people_beyond: 2,
                roles: Vec::new(),
                expires_in: seconds(60),
            };
            assert_eq!(terms(0).people(&loss, None, true), automatic, "{name}");
            assert_eq!(terms(2).people(&loss, None, false), asked, "{name}");
            assert_eq!(terms(0).people(&loss, None, false), 1, "{name}: a policy that asks");
        }
    }
}
