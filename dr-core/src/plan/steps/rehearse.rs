//! Trying and comparing everything that the change will need, while everything still runs: before people are asked, and once more
//! before writes are held back.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _, join, join_all};
use serde::{Deserialize, Serialize};

use super::read::{conflict, not_yet};
use crate::{
    base::{BindingName, Endpoint, Kind, MemberId, Millis, Timestamp, seconds},
    contract::{
        Becomes, Binding, Cause, Class, Dropped, Effort, Fact, Fence, ManagedDatabase, Obstacle, ProviderError,
        Rehearsal, RehearseMember, RehearseRoute, RehearseSecret, Runtime, SecretStore, Target, TrafficRouter, Weight,
        contain,
    },
    plan::{Carries, Duty, Effect, Input, Look, Marks, Observed, Output, Stage, Step, StepCx, StepError},
};

/// How long one part may take to rehearse: a login that hangs must not hold the others up for longer.
pub(crate) const PATIENCE: Millis = seconds(20);

/// Whether the change can wait for a better moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Terms {
    /// The primary is well: every obstacle stops the change, and every part must have been asked.
    Planned,
    /// The primary is gone: only what would leave nobody able to write, or two writers, stops the change.
    Forced,
}

/// What the rehearsal showed. People see it before they agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// What the change drops although no acknowledged write of the log is lost.
    pub drops: Vec<Dropped>,
    /// What could not be tried, or does not stop a forced change.
    pub untried: Vec<String>,
    /// When.
    pub at: Timestamp,
}

impl Output for Rehearsed {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "dr.rehearsed".into()
    }
}

impl Rehearsed {
    /// The rehearsal as people are shown it: a new thing that is dropped voids what they agreed to.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        let drops: Vec<String> = self.drops.iter().map(|one| format!("{} ({})", one.what, one.detail)).collect();
        let drops = if drops.is_empty() { "nothing known, beyond the log".to_owned() } else { drops.join("; ") };
        let mut facts = vec![Fact::equal("drops", drops, "rehearsal", self.at)];
        if !self.untried.is_empty() {
            facts.push(Fact::any("untried", self.untried.join("; "), "rehearsal", self.at));
        }
        facts
    }
}

/// Rehearses a change of the writer: settings, logins, the way to fence, the way back, the secret and every route are tried or
/// compared. An obstacle stops the run before anything is held back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearse {
    primary: Target,
    candidate: Target,
    terms: Terms,
}

impl Rehearse {
    /// The planned change from `primary` to `candidate`.
    #[must_use]
    pub fn planned(primary: &Target, candidate: &Target) -> Self {
        Self { primary: primary.clone(), candidate: candidate.clone(), terms: Terms::Planned }
    }

    /// The forced change to `candidate`, whose `primary` is silent.
    #[must_use]
    pub fn forced(primary: &Target, candidate: &Target) -> Self {
        Self { primary: primary.clone(), candidate: candidate.clone(), terms: Terms::Forced }
    }
}

impl Step for Rehearse {
    const KIND: Kind = Kind::new("dr.rehearse", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = Rehearsed;

    fn sentence(&self) -> String {
        match self.terms {
            Terms::Planned => format!(
                "rehearse the change to {} and the way back of {}, without changing anything",
                self.candidate.member, self.primary.member
            ),
            Terms::Forced => {
                format!("rehearse the change to {}, without changing anything", self.candidate.member)
            }
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Check).duty(Duty::Rehearsal)
    }
}

/// Rehearses the change once more after people agreed: whatever changed since the first rehearsal stops the run while nothing is held
/// back, and nothing is dropped that people were not shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearseAgain {
    change: Rehearse,
    agreed: Input<Rehearsed>,
}

impl RehearseAgain {
    /// The same change as `change`, whose first rehearsal is `agreed`.
    #[must_use]
    pub fn of(change: Rehearse, agreed: &impl Carries<Rehearsed>) -> Self {
        Self { change, agreed: Input::of(agreed) }
    }
}

impl Step for RehearseAgain {
    const KIND: Kind = Kind::new("dr.rehearse-again", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        format!("rehearse the change to {} once more, before writes are held back", self.change.candidate.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Shorten).duty(Duty::RehearsalAgain)
    }
}

/// Everybody who has a part in a change.
pub(crate) struct Cast {
    pub(crate) from: MemberId,
    pub(crate) to: MemberId,
    /// The endpoints of both, where both are known.
    pub(crate) endpoints: Option<(Endpoint, Endpoint)>,
    pub(crate) candidate: Arc<dyn ManagedDatabase>,
    /// The present writer, when it shall come back as a standby.
    pub(crate) primary: Option<Arc<dyn ManagedDatabase>>,
    pub(crate) fence: Option<Arc<dyn Fence>>,
    pub(crate) secrets: Vec<(BindingName, Arc<dyn SecretStore>)>,
    pub(crate) routes: Vec<(BindingName, Arc<dyn TrafficRouter>)>,
}

/// Whether the change can be judged without a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// The candidate lives, whatever became of the primary: it has to say what it would be like as the writer.
    Always,
    /// It may be silent together with the primary's region.
    WhenPlanned,
}

/// What one part answered.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) needed: Needed,
    pub(crate) found: Result<Rehearsal, String>,
}

type Asked = BoxFuture<'static, Result<Rehearsal, ProviderError>>;

impl Cast {
    /// Lets every part rehearse, all at once. One that does not answer in time is told as such.
    pub(crate) async fn rehearse(self, runtime: &dyn Runtime, effort: Effort) -> Vec<Part> {
        let within = |(name, needed, asked): (String, Needed, Asked)| async move {
            let found = match contain::within(runtime, PATIENCE, asked).await {
                Ok(found) => found.map_err(|error| Cause::chain(&error).to_string()),
                Err(silent) => Err(silent.to_string()),
            };
            Part { name, needed, found }
        };
        join_all(self.parts(effort).into_iter().map(within)).await
    }

    fn parts(self, effort: Effort) -> Vec<(String, Needed, Asked)> {
        let Self { from, to, endpoints, candidate, primary, fence, secrets, routes } = self;
        let mut parts: Vec<(String, Needed, Asked)> = Vec::new();
        let writer = RehearseMember { becomes: Becomes::Writer { instead_of: from.clone() }, effort };
        parts.push((
            format!("`{to}` as the writer"),
            Needed::Always,
            async move { candidate.rehearse(&writer).await }.boxed(),
        ));
        if let Some(primary) = primary {
            let standby = RehearseMember { becomes: Becomes::Standby { of: to.clone() }, effort };
            let name = format!("`{from}` as a standby");
            parts.push((name, Needed::WhenPlanned, async move { primary.rehearse(&standby).await }.boxed()));
        }
        if let Some(fence) = fence {
            parts.push((
                format!("the fence of `{from}`"),
                Needed::WhenPlanned,
                async move { fence.rehearse(effort).await }.boxed(),
            ));
        }
        if let Some((from, to)) = endpoints {
            for (name, secret) in secrets {
                let request = RehearseSecret { from: from.clone(), to: to.clone(), effort };
                parts.push((
                    format!("the secret `{name}`"),
                    Needed::WhenPlanned,
                    async move { secret.rehearse(&request).await }.boxed(),
                ));
            }
        }
        for (name, route) in routes {
            let request = RehearseRoute { from: from.clone(), to: to.clone(), effort };
            parts.push((
                format!("the route `{name}`"),
                Needed::WhenPlanned,
                async move { route.rehearse(&request).await }.boxed(),
            ));
        }
        parts
    }
}

/// All that was found, sorted: what stops the change, what is dropped, what stays untried, who did not answer.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) stops: Vec<Obstacle>,
    pub(crate) drops: Vec<Dropped>,
    pub(crate) untried: Vec<String>,
    pub(crate) silent: Vec<String>,
}

impl Found {
    pub(crate) fn of(parts: Vec<Part>, terms: Terms) -> Self {
        let mut all = Self::default();
        for Part { name, needed, found } in parts {
            match found {
                Ok(found) => {
                    let stops = |obstacle: &Obstacle| terms == Terms::Planned || obstacle.weight == Weight::Always;
                    let (stops, told): (Vec<_>, Vec<_>) = found.obstacles.into_iter().partition(stops);
                    all.stops.extend(stops);
                    all.untried.extend(told.into_iter().map(|one| format!("{} ({})", one.what, one.helps)));
                    all.drops.extend(found.drops);
                    all.untried.extend(found.untried);
                }
                Err(why) if terms == Terms::Planned || needed == Needed::Always => {
                    all.silent.push(format!("{name}: {why}"))
                }
                Err(why) => all.untried.push(format!("{name}: {why}")),
            }
        }
        all.drops.sort();
        all.drops.dedup();
        all
    }

    /// A part whose answer is needed and does not come is asked again until the step's time is over.
    fn verdict(self, at: Timestamp) -> Observed<Rehearsed> {
        if !self.stops.is_empty() {
            let all: Vec<String> =
                self.stops.iter().map(|one| format!("{}: {} ({})", one.what, one.why, one.helps)).collect();
            return conflict(all.join("; "));
        }
        if !self.silent.is_empty() {
            return not_yet(format_args!("not rehearsed: {}", self.silent.join("; ")));
        }
        Observed::Done(Rehearsed { drops: self.drops, untried: self.untried, at })
    }
}

impl Rehearse {
    async fn rehearse(&self, cx: &StepCx) -> Result<Observed<Rehearsed>, StepError> {
        let parts = self.cast(cx).await?.rehearse(cx.runtime(), Effort::Try).await;
        let mut found = Found::of(parts, self.terms);
        if self.candidate.is_copy() {
            found.untried.push(format!(
                "`{}` is a logical copy: whether large objects, roles and changes of the schema came along was not compared",
                self.candidate.member
            ));
        }
        Ok(found.verdict(cx.now()))
    }

    async fn cast(&self, cx: &StepCx) -> Result<Cast, StepError> {
        let (from, to) = (&self.primary.member, &self.candidate.member);
        let (old, new) = (cx.database(from)?, cx.database(to)?);
        let endpoints = match join(old.describe(), new.describe()).await {
            (Ok(old), Ok(new)) => Some((old.endpoint, new.endpoint)),
            (Err(_), _) | (_, Err(_)) => None,
        };
        let fences = cx.plan().nodes.values().any(|node| node.call.class == Class::Fence);
        let planned = self.terms == Terms::Planned;
        let (mut secrets, mut routes) = (Vec::new(), Vec::new());
        for binding in cx.plan().bindings.keys() {
            match binding {
                Binding::Secret(name) => secrets.push((name.clone(), cx.secret(name)?)),
                Binding::Traffic(name) => routes.push((name.clone(), cx.traffic(name)?)),
                Binding::Member(_) | Binding::App(_) | Binding::Readers(_) | Binding::Custom(_) => {}
            }
        }
        Ok(Cast {
            from: from.clone(),
            to: to.clone(),
            endpoints,
            candidate: new,
            primary: planned.then_some(old),
            fence: (planned && fences).then(|| cx.fence(from)).transpose()?,
            secrets,
            routes,
        })
    }
}

pub(super) struct Rehearsing;

#[async_trait]
impl Look for Rehearsing {
    type Step = Rehearse;

    async fn look(&self, cx: &StepCx, step: &Rehearse) -> Result<Observed<Rehearsed>, StepError> {
        step.rehearse(cx).await
    }
}

pub(super) struct RehearsingAgain;

#[async_trait]
impl Look for RehearsingAgain {
    type Step = RehearseAgain;

    async fn look(&self, cx: &StepCx, step: &RehearseAgain) -> Result<Observed<()>, StepError> {
        let agreed = step.agreed.get()?;
        Ok(match step.change.rehearse(cx).await? {
            Observed::Done(now) => {
                let shown = |one: &Dropped| agreed.drops.iter().any(|known| known.what == one.what);
                let new: Vec<String> = now
                    .drops
                    .iter()
                    .filter(|one| !shown(one))
                    .map(|one| format!("{} ({})", one.what, one.detail))
                    .collect();
                if new.is_empty() {
                    Observed::Done(())
                } else {
                    conflict(format_args!(
                        "the change would also drop what people were not shown: {}; make a new plan",
                        new.join("; ")
                    ))
                }
            }
            Observed::Conflict(cause) => Observed::Conflict(cause),
            Observed::GivenUp(cause) => Observed::GivenUp(cause),
            Observed::Short(short) => Observed::Short(short),
            Observed::Unknown(cause) => Observed::Unknown(cause),
            Observed::NotStarted => Observed::NotStarted,
            Observed::Partial { done, missing } => Observed::Partial { done, missing },
            Observed::InProgress { handle, percent } => Observed::InProgress { handle, percent },
        })
    }
}
