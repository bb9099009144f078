//! S11: the journal and the truth tell the same story. S24: what a promotion dropped was shown to people.

use dr_core::{
    Binding, Touch,
    contract::{Fact, verb},
    run::{Event, Record},
};

use super::Stage;
use crate::{
    cloud::{CallKind, CallRecord},
    world::{Keeps, Law},
};

/// What the promotion dropped beside the log stood in what people were asked before it; or they were told that it could not be read,
/// or that the candidate rehearsed nothing.
pub(super) fn check_told(stage: &Stage) {
    let gone = stage.cloud.with(|world| world.gone.clone());
    if gone.is_empty() {
        return;
    }
    let lines = stage.journal.lines(&stage.run);
    let (mut shown, mut plan) = (Vec::new(), None);
    // A last snapshot is begun before people are asked; it drops nothing.
    let harmless = |plan: &Option<Box<dr_core::Plan>>, node: &dr_core::NodeId| {
        plan.as_ref()
            .and_then(|plan| plan.call(node))
            .is_some_and(|call| call.class == dr_core::contract::Class::Harmless)
    };
    for record in lines.iter().filter_map(|line| Record::parse(line).ok()) {
        if let Event::Asked { ask, .. } = record.event {
            shown = ask.facts;
        } else if let Event::Started { plan: started, .. } = record.event {
            plan = Some(started);
        } else if let Event::Intended { node, .. } = record.event
            && !harmless(&plan, &node)
        {
            break;
        }
    }
    for (member, kept) in gone {
        let (what, uncounted) = (kept.what(), Keeps::uncounted(&member));
        let told = |fact: &Fact| {
            fact.value.contains(&what)
                || fact.source == "rehearsal"
                    && (fact.value.contains(&uncounted) || fact.value.contains("as the writer"))
        };
        if !shown.iter().any(told) {
            stage.cloud.violate(Law::S24, &format!("{what} of {member} is gone, and people were not shown that"));
        }
    }
}

/// Every change that was sent has a durable intent before it; once a run is over, every intent has an outcome; and no outcome speaks
/// of a call that was never made.
pub(super) fn check(stage: &Stage, over: bool) {
    let records: Vec<Record> =
        stage.journal.lines(&stage.run).iter().filter_map(|line| Record::parse(line).ok()).collect();
    let Some(Event::Started { plan, .. }) = records.first().map(|record| &record.event) else { return };
    let calls = stage.cloud.calls();
    for call in calls.iter().filter(|call| call.kind != CallKind::Read) {
        let Some(touch) = &call.touch else { continue };
        let intended = records.iter().filter(|record| u64::from(record.seq) <= call.durable).any(|record| {
            // No step turns clients away: the run itself does, and says so before.
            let turned_away = verb::FAIL_FAST.is(touch) && record.event == Event::ClientsTurnedAway;
            turned_away
                || matches!(&record.event, Event::Intended { node, .. }
                    if plan.call(node).is_some_and(|planned| planned.touches.contains(touch)))
        });
        if !intended {
            let text = format!("{} was sent, and no intent for `{touch}` was durable before it", call.name);
            stage.cloud.violate(Law::S11, &text);
        }
    }
    for (index, record) in records.iter().enumerate() {
        if let Event::Intended { node, .. } = &record.event {
            let later = records.iter().skip(index.saturating_add(1));
            let settled =
                later.filter(|record| record.event.node() == Some(node)).any(|record| is_outcome(&record.event));
            if over && !settled {
                stage.cloud.violate(Law::S11, &format!("the intent of {node} has no outcome, and the run is over"));
            }
        }
        for touch in claimed(&record.event) {
            if !made(&calls, touch) {
                let text = format!("line {} speaks of `{touch}`, and no such call was made", record.seq);
                stage.cloud.violate(Law::S11, &text);
            }
        }
    }
}

fn is_outcome(event: &Event) -> bool {
    matches!(
        event,
        Event::Finished { .. }
            | Event::NotDone { .. }
            | Event::Failed { .. }
            | Event::Owed { .. }
            | Event::Absent { .. }
    )
}

fn claimed(event: &Event) -> &[Touch] {
    if let Event::Accepted { calls, .. } | Event::Finished { calls, .. } | Event::InDoubt { calls, .. } = event {
        calls
    } else {
        &[]
    }
}

fn made(calls: &[CallRecord], touch: &Touch) -> bool {
    calls.iter().any(|call| call.touch.as_ref() == Some(touch)) || matches!(touch.resource, Binding::Custom(_))
}
