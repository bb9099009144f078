//! Applications are pointed at the present writer, and nobody is promoted.

use super::{
    after, checks,
    pace::{CHECK, Pace},
    ready::{self, ask, askable, edge},
};
use crate::{
    base::{Finding, MemberId, Refusal, known, minutes, seconds},
    contract::{Consent, Tri, WriterReceipt},
    plan::{
        Edge, PlanBuilder, Ref, Situation, StepExt,
        steps::{CheckWriter, FactSpec, Notify, ObserveWriter, TakeGroupLock},
    },
};

/// People agreed that applications are pointed at the writer.
#[derive(Clone, Debug)]
#[must_use = "nothing is moved until the writer is observed"]
pub struct Agreed {
    /// What people agreed to.
    pub consent: Ref<Consent>,
    told: Ref<()>,
}

/// Plans the lock, the question and the first notice of a redirect to `to`, which must be the writer already.
///
/// # Errors
/// Everything that speaks against it now; nothing was changed.
pub fn ready_to_redirect(plan: &mut PlanBuilder, now: &Situation, to: &MemberId) -> Result<Agreed, Refusal> {
    let findings = against(plan, now, to);
    if !findings.is_empty() {
        return Err(Refusal { subject: format!("{}: {} to {to}", now.group.name, plan.purpose()), findings });
    }
    let lock = plan.add("group-lock", TakeGroupLock { at: to.clone() }.within(CHECK));
    let moved = moved(plan, now).join(", ");
    let question = format!("{}: point {moved} at {to}, which is the writer; nobody is promoted", now.group.name)
        + &ready::outside(plan, now);
    let lock = ready::window(plan, now, "in-window", lock);
    let ask = ask(plan, now, (question, vec![FactSpec::Writer { member: to.clone() }]), None);
    let consent = plan.add("consent", askable(ask).after(&lock));
    let text = format!("{}: {} to {to} begins", now.group.name, plan.purpose());
    let still = ready::window(plan, now, "still-in-window", edge(&consent));
    let told = plan.add("notify-start", Notify { urgent: false, text }.after(&still).within(CHECK));
    Ok(Agreed { consent, told })
}

/// What would be pointed at the writer.
fn moved(plan: &PlanBuilder, now: &Situation) -> Vec<String> {
    let secrets = now.secrets.keys().map(|name| crate::contract::Binding::Secret(name.clone()));
    let all = secrets.chain(now.routes.keys().map(|name| crate::contract::Binding::Traffic(name.clone())));
    all.filter(|name| !plan.leaves_out().contains_key(name)).map(|name| name.to_string()).collect()
}

fn against(plan: &PlanBuilder, now: &Situation, to: &MemberId) -> Vec<Finding> {
    let writer = &now.writer.member;
    if to != writer {
        let finding = match checks::target(now, to) {
            Ok(_) => Finding::new(&known::IS_NO_WRITER, format!("`{to}` is no writer; `{writer}` is")).helps(format!(
                "dr plan redirect {0} --to {writer}; or: dr plan switchover {0} --to {to}",
                now.group.name
            )),
            Err(unknown) => unknown,
        };
        return vec![finding];
    }
    if !now.primary_answers || now.primary.reach.server == Tri::No {
        return vec![
            Finding::new(&known::SILENT_WRITER, format!("`{to}`, the writer, does not answer"))
                .helps(format!("make it answer, or: dr plan failover {}", now.group.name)),
        ];
    }
    if moved(plan, now).is_empty() {
        let what = format!("group `{}` has no secret and no route that could be pointed at `{to}`", now.group.name);
        return vec![Finding::new(&known::NOTHING_TO_POINT, what)];
    }
    checks::unhealthy(&now.primary)
}

/// Sees exactly one writer: the expected one, with every other member kept from writing at the policy's grade.
pub fn observe(plan: &mut PlanBuilder, now: &Situation, agreed: &Agreed) -> Ref<WriterReceipt> {
    let pace = Pace::of_check(now, &now.primary);
    let observe =
        ObserveWriter::of(&now.writer, plan.policy().fence).or_accepted().after_all(&[&agreed.consent, &agreed.told]);
    plan.add("observe-writer", observe.within(pace.within).every(pace.every))
}

/// Points the secrets and the routes at the observed writer, sees it take one more write and every route serve it, and tells people.
pub fn redirect(plan: &mut PlanBuilder, now: &Situation, writer: &Ref<WriterReceipt>) {
    let done = after::point(plan, now, &now.writer.member, writer);
    let edges: Vec<&dyn Edge> = done.iter().map(|edge| edge as &dyn Edge).collect();
    let every = Pace::of_check(now, &now.primary).every;
    let check = CheckWriter::of(writer).after_all(&edges).within(minutes(5)).every(every);
    let ready = plan.add("writer-ready", check);
    let mut seen = after::verify_routes(plan, now, writer, &[&ready]);
    seen.push(edge(&ready));
    let edges: Vec<&dyn Edge> = seen.iter().map(|edge| edge as &dyn Edge).collect();
    let text = format!("{}: applications are pointed at {}", now.group.name, now.writer.member);
    plan.add("notify-end", Notify { urgent: false, text }.after_all(&edges).within(seconds(30)));
    after::readers(plan, now, writer, &[edge(&ready)]);
}
