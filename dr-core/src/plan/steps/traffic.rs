//! Sending clients to the writer, and seeing that it is the one who serves them (D23, D24, D25).

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::{
    confirm::no_writer_any_more,
    read::{not_yet, offered, refuse},
};
use crate::{
    base::{BindingName, Kind, MemberId, Millis, text},
    contract::{
        Binding, Class, Fact, OpHandle, Outcome, RouteReading, RouteRequest, Touch, Tri, WriteProbe, WriterReceipt,
        verb,
    },
    plan::{
        Carries, Duty, Effect, Handler, Input, Look, Marks, Observed, Output, Prepared, Ready, Stage, Step, StepCx,
        StepError,
    },
};

/// Sends one route to the writer, all of it at once, and reads it back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftTraffic {
    route: BindingName,
    writer: Input<WriterReceipt>,
}

impl ShiftTraffic {
    /// The route of this name, to this writer.
    #[must_use]
    pub fn to(route: &BindingName, writer: &impl Carries<WriterReceipt>) -> Self {
        Self { route: route.clone(), writer: Input::of(writer) }
    }
}

impl Step for ShiftTraffic {
    const KIND: Kind = Kind::new("dr.shift-traffic", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Traffic;
    type Output = ();

    fn sentence(&self) -> String {
        format!("send the route {} to the writer", self.route)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Move)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::APPLY.on(Binding::Traffic(self.route.clone()))]
    }
}

/// Sees a route serve the writer: a write passes through every part of it, as an application makes it, where the group file has an
/// application's login; else every sample is answered by the writer. Older answers may live for the route's time to live. A route that
/// its backend cannot sample is only read, and what the step leaves behind says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyServing {
    route: BindingName,
    samples: u8,
    writer: Input<WriterReceipt>,
}

impl VerifyServing {
    /// At most `samples` samples of the route of this binding, all served by this writer.
    #[must_use]
    pub fn of(route: &BindingName, samples: u8, writer: &impl Carries<WriterReceipt>) -> Self {
        Self { route: route.clone(), samples, writer: Input::of(writer) }
    }
}

impl Step for VerifyServing {
    const KIND: Kind = Kind::new("dr.verify-serving", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = Served;

    fn sentence(&self) -> String {
        format!("see up to {} samples of the route {} served by the writer", self.samples, self.route)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::Serving).looks_at(Binding::Traffic(self.route.clone()))
    }
}

/// What was seen of a route that serves the writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// By what it was seen, for people: writes through its parts, samples, or its own word alone ("not sampled").
    pub detail: String,
}

impl Output for Served {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "dr.served".into()
    }
}

pub(super) struct Shifting;

fn sends_to(reading: &RouteReading, writer: &WriterReceipt) -> bool {
    reading.member.as_ref() == Some(&writer.target.member)
}

#[async_trait]
impl Handler for Shifting {
    type Step = ShiftTraffic;

    async fn observe(&self, cx: &StepCx, step: &ShiftTraffic) -> Result<Observed<()>, StepError> {
        let reading = cx.traffic(&step.route)?.read().await?;
        Ok(match (sends_to(&reading, step.writer.get()?), reading.settled) {
            (true, Tri::Yes) => Observed::Done(()),
            (true, Tri::No | Tri::Unknown) => Observed::InProgress { handle: OpHandle::none(), percent: None },
            (false, _) => Observed::NotStarted,
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &ShiftTraffic) -> Result<Prepared<()>, StepError> {
        let writer = step.writer.get()?;
        let router = cx.traffic(&step.route)?;
        let (gone, reading) = join(no_writer_any_more(cx, writer), router.read()).await;
        if let Some(why) = gone? {
            return Ok(refuse(why));
        }
        let reading = reading?;
        if sends_to(&reading, writer) && reading.settled == Tri::Yes {
            return Ok(Prepared::AlreadyDone(()));
        }
        let facts =
            vec![Fact::any(&Binding::Traffic(step.route.clone()).to_string(), reading.detail, "router", reading.at)];
        Ok(Prepared::Ready(Ready { facts, pre_image: None }))
    }

    async fn submit(&self, cx: &StepCx, step: &ShiftTraffic) -> Result<Outcome<()>, StepError> {
        let request = RouteRequest { writer: step.writer.get()?.clone(), key: cx.key() };
        let outcome = cx.traffic(&step.route)?.apply(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}

pub(super) struct Serving;

/// Whether a write of an application passed through every part of the route.
fn written(route: &BindingName, writes: &[WriteProbe]) -> Observed<Served> {
    let refused: Vec<&str> =
        writes.iter().filter(|write| write.accepted != Tri::Yes).map(|write| write.detail.as_str()).collect();
    if writes.is_empty() {
        return not_yet(format_args!("`{route}` has no part through which an application could write"));
    }
    if refused.is_empty() {
        return served(format!("an application's write passed through {} of {0} parts", writes.len()));
    }
    let (failed, all) = (refused.len(), writes.len());
    not_yet(format_args!(
        "an application's write fails through {failed} of {all} parts of `{route}`: {}",
        refused.join("; ")
    ))
}

fn served(detail: impl Into<String>) -> Observed<Served> {
    Observed::Done(Served { detail: detail.into() })
}

/// Whether every sample was answered by `member`; `None` where the backend takes no samples.
fn sampled(
    samples: Option<&[Option<MemberId>]>,
    route: &BindingName,
    member: &MemberId,
    ttl: Millis,
) -> Observed<Served> {
    let Some(samples) = samples else {
        return served("not sampled: its backend only tells where it sends");
    };
    let (by_it, all) = (samples.iter().filter(|sample| sample.as_ref() == Some(member)).count(), samples.len());
    if all == 0 {
        return served("not sampled: nobody was connected");
    }
    if by_it == all {
        return served(format!("{by_it} of {all} samples"));
    }
    not_yet(format_args!(
        "{by_it} of {all} samples of `{route}` are served by `{member}`; older answers may live for {}",
        text::human(ttl)
    ))
}

#[async_trait]
impl Look for Serving {
    type Step = VerifyServing;

    async fn look(&self, cx: &StepCx, step: &VerifyServing) -> Result<Observed<Served>, StepError> {
        let writer = step.writer.get()?;
        let router = cx.traffic(&step.route)?;
        let (reading, samples) = join(router.read(), router.sample(step.samples)).await;
        let reading = reading?;
        let (route, member) = (&step.route, &writer.target.member);
        if !sends_to(&reading, writer) {
            return Ok(not_yet(format_args!("`{route}` does not send to `{member}`: {}", reading.detail)));
        }
        // A write that an application makes itself is worth more than any sample of who answers.
        if let Some(writes) = offered(router.write().await)? {
            return Ok(written(route, &writes));
        }
        Ok(sampled(offered(samples)?.as_deref(), route, member, reading.ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One answer was repeated until it made "10 of 10 samples", and a route that nobody can sample passed without a word.
    #[test]
    fn bug_samples_are_counted_and_their_absence_is_told() {
        let (new, old) = (Some(MemberId::new("new")), Some(MemberId::new("old")));
        let table = [
            (None, Ok("not sampled: its backend only tells where it sends")),
            (Some(vec![]), Ok("not sampled: nobody was connected")),
            (Some(vec![new.clone()]), Ok("1 of 1 samples")),
            (Some(vec![new.clone(), new.clone()]), Ok("2 of 2 samples")),
            (Some(vec![new.clone(), old.clone()]), Err("1 of 2 samples")),
            (Some(vec![new, None]), Err("1 of 2 samples")),
            (Some(vec![old]), Err("0 of 1 samples")),
        ];
        for (samples, want) in table {
            match (sampled(samples.as_deref(), &"public".into(), &"new".into(), Millis::seconds(5)), want) {
                (Observed::Done(served), Ok(words)) => assert_eq!(served.detail, words, "{samples:?}"),
                (Observed::Unknown(cause), Err(words)) => assert!(cause.as_str().starts_with(words), "{cause}"),
                (seen, _) => panic!("{samples:?}: {seen:?}"),
            }
        }
    }
}
