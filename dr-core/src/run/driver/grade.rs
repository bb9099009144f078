//! Asking two people for what a look lacks: to accept the grade that was measured of a former primary, or to attest that a primary is down.

use serde::Deserialize;

use super::{Clock, DriveError, Driver, outcome::Doubt};
use crate::{
    base::{Json, Millis, Mono, NodeId, Role},
    contract::{Accepted, Cause, Class, Fact, Lack, Loss, Occasion, Shortfall, Waived},
    plan::{Observed, StepError, StepErrorClass},
    run::{APPROVE, Ask, AskKind, Choice, Event, Phase, REJECT, decided},
};

/// A question stays open this long where the plan has no approval of its own to take the time from.
const OPEN: Millis = Millis::minutes(60);

/// The plan's own approval names the roles that answer and how long the question stays open.
#[derive(Deserialize)]
struct Approval {
    roles: Vec<Role>,
    expires_in: Millis,
}

impl Driver {
    /// Tells whether people are asked now: the measurement has had `visibility` to improve, or the step has no time left, and nobody has
    /// accepted the grade before.
    pub(super) fn asks_for_less(&mut self, node: &NodeId, began: Mono, short: &Shortfall) -> bool {
        let now = self.drive.runtime.now_wall();
        let covers = |waived: &Waived| short.lack.is_covered_by(&waived.accepts) && now <= waived.expires;
        if self.state.node(node).waived.as_ref().is_some_and(covers) {
            return false;
        }
        let first = *self.short_since.entry(node.clone()).or_insert(began);
        let apart = self.state.paced(node).map_or(Millis::seconds(1), |paced| paced.visibility);
        // A look that takes as long as this one would be cut off by the deadline, and tell nothing.
        let now = self.drive.runtime.now_mono();
        let took = Millis::new(u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX));
        let next = now + took;
        began >= first + apart || next >= self.clock(node).deadline
    }

    /// Asks two people whether what was measured is enough. The step goes on looking meanwhile.
    pub(super) async fn ask_for_less(&mut self, node: &NodeId, short: Shortfall) -> Result<(), DriveError> {
        self.short_since.remove(node);
        let ask = self.grade_question(node, short);
        let text = ask.question.clone();
        self.append(vec![Event::Asked { node: node.clone(), ask: Box::new(ask) }]).await?;
        self.notify("asked", Occasion::Asked, &text);
        self.look_while_asking(node);
        Ok(())
    }

    fn grade_question(&self, node: &NodeId, short: Shortfall) -> Ask {
        let now = self.drive.runtime.now_wall();
        let approval = self.state.plan.nodes.values().find(|node| node.call.class == Class::Consent);
        let approval = approval.and_then(|node| serde_json::from_value(node.call.params.0.clone()).ok());
        let Approval { roles, expires_in } =
            approval.unwrap_or_else(|| Approval { roles: Vec::new(), expires_in: OPEN });
        let fact = |name: &str, value: String| Fact::any(name, value, "measured", now);
        Ask {
            kind: AskKind::Waiver,
            node: Some(node.clone()),
            plan: self.state.hash,
            question: match &short.lack {
                Lack::Grade { measured, needed } => format!(
                    "the writer writes, but what keeps the other side from writing is worth `{measured}`, and the plan asks for `{needed}`: is that enough?"
                ),
                Lack::Silence { member } => format!(
                    "only one place does not see {member}, and no other one can tell; do you know from elsewhere that it is down?"
                ),
            },
            facts: [
                Some(fact("why", short.why.to_string())),
                short.owes.clone().map(|owes| fact("owed afterwards", owes)),
            ]
            .into_iter()
            .flatten()
            .collect(),
            loss: Loss::Nothing,
            asked: None,
            choices: vec![
                match &short.lack {
                    Lack::Grade { .. } => {
                        Choice::new(APPROVE, "accept what was measured and go on", "what the remaining steps change")
                    }
                    Lack::Silence { .. } => {
                        let means = "attest that it is down, and say with --note how you know; an answer of its own still counts more";
                        Choice::new(APPROVE, means, "nothing yet")
                    }
                },
                Choice::new(REJECT, "stop here; a person decides how the run goes on", "nothing"),
            ],
            people: 2,
            roles,
            not: Some(self.state.by.clone()),
            since: now,
            expires: Some(now + expires_in),
            rule: None,
            short: Some(short),
        }
    }

    /// The step looks again after its pace, for as long as the question is open.
    fn look_while_asking(&mut self, node: &NodeId) {
        let (wall, now) = (self.drive.runtime.now_wall(), self.drive.runtime.now_mono());
        let open = self.state.ask.as_ref().and_then(|ask| ask.expires).map_or(OPEN, |at| at.since(wall));
        let next = now + self.every(node).max(Millis::new(100));
        self.clocks.insert(node.clone(), Clock { deadline: now + open, next });
    }

    /// Goes on with what people answered, or looks again while they think: what was measured may come true meanwhile.
    pub(super) async fn wait_for_grade(&mut self, node: &NodeId) -> Result<(), DriveError> {
        let ask = self.state.ask.clone().filter(|ask| ask.node.as_ref() == Some(node));
        let answer = ask.as_ref().and_then(|ask| decided(ask, &self.state.given));
        match (ask, answer) {
            (Some(_), Some(choice)) if choice == REJECT => {
                let cause = self.refusal();
                self.fail(node, cause, Doubt::None).await
            }
            (Some(ask), Some(_)) => self.waive(node, ask).await,
            (Some(Ask { expires: Some(at), .. }), None) if self.drive.runtime.now_wall() > at => {
                let cause = Cause::new(format!("nobody answered until {at}"));
                self.fail(node, cause, Doubt::None).await
            }
            (_, None) | (None, Some(_)) => self.look(node).await,
        }
    }

    async fn waive(&mut self, node: &NodeId, ask: Ask) -> Result<(), DriveError> {
        let digest = ask.digest().map_err(|source| DriveError::Canonical { run: self.drive.run.clone(), source })?;
        let Some(short) = ask.short else {
            return self
                .fail(node, Cause::new("the question names nothing that people could accept"), Doubt::None)
                .await;
        };
        let given = self.state.given.iter().filter(|given| given.choice == APPROVE).cloned().collect();
        let waived = Waived {
            run: self.drive.run.clone(),
            plan: self.state.hash,
            ask: digest,
            given,
            reason: short.why.to_string(),
            accepts: match short.lack {
                Lack::Grade { measured, .. } => Accepted::Grade(measured),
                Lack::Silence { member } => Accepted::Silence(member),
            },
            owes: short.owes,
            expires: ask.expires.unwrap_or_else(|| self.drive.runtime.now_wall()),
        };
        self.clocks.remove(node);
        self.append(vec![Event::Waived { node: node.clone(), waived: Box::new(waived) }]).await
    }

    /// A look that was made while people are asked.
    pub(super) async fn on_watched_while_asking(
        &mut self,
        node: &NodeId,
        result: Result<Observed<Json>, StepError>,
    ) -> Result<(), DriveError> {
        if self.state.aborting.is_some() || self.state.phase == Phase::Parked {
            return Ok(());
        }
        match result {
            Ok(Observed::Done(output)) => {
                self.clocks.remove(node);
                self.append(vec![Event::Finished { node: node.clone(), output, calls: Vec::new() }]).await
            }
            Ok(Observed::Conflict(cause)) | Err(StepError { class: StepErrorClass::Stop, cause }) => {
                self.fail(node, cause, Doubt::None).await
            }
            Ok(Observed::Short(short)) if self.shows_another_grade(node, &short) => {
                self.ask_for_less(node, short).await
            }
            Ok(
                Observed::Short(_)
                | Observed::NotStarted
                | Observed::Partial { .. }
                | Observed::InProgress { .. }
                | Observed::Unknown(_)
                | Observed::GivenUp(_),
            )
            | Err(_) => {
                self.look_while_asking(node);
                Ok(())
            }
        }
    }

    /// Tells whether people were shown something else than this, or nothing at all since the run parked.
    fn shows_another_grade(&self, node: &NodeId, short: &Shortfall) -> bool {
        let ask = self.state.ask.as_ref().filter(|ask| ask.node.as_ref() == Some(node));
        ask.and_then(|ask| ask.short.as_ref()).is_none_or(|shown| shown.lack != short.lack)
    }
}
