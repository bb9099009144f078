//! The people around a run: they answer what it asks, and say when it parked.

use dr_core::{
    APPROVE, Actor, Answer, RunId,
    base::{Json, canonical},
    contract::Runtime,
    millis,
    run::{Ask, Event, InboxRow, Journal, Record, Request},
};

use crate::{journal::MemoryJournal, runtime::VirtualRuntime};

/// How long people take to answer.
const THINKING: dr_core::Millis = millis(250);

/// Approves every consent that is asked for; answers when the run parks.
pub(super) async fn until_parked(journal: MemoryJournal, runtime: VirtualRuntime, run: RunId) -> Box<Ask> {
    let mut read = 0;
    loop {
        let mark = journal.mark(&run);
        let lines = journal.lines_after(&run, read);
        let mut consent = None;
        let mut parked = None;
        for line in &lines {
            let Ok(record) = Record::parse(line) else { continue };
            if let Event::Asked { ask, .. } = record.event {
                consent = Some(ask);
            } else if let Event::Parked { ask } = record.event {
                parked = Some(ask);
            } else if let Event::Decided { .. } = record.event {
                parked = None;
            }
        }
        read = lines.len().saturating_add(read);
        if let Some(ask) = parked {
            return ask;
        }
        if let Some(ask) = consent {
            runtime.sleep_until(runtime.now_mono() + THINKING).await;
            approve(&journal, &runtime, &run, &ask).await;
        }
        if read == 0 {
            runtime.sleep_until(runtime.now_mono() + millis(1)).await;
        } else {
            journal.changed(&run, mark).await;
        }
    }
}

async fn approve(journal: &MemoryJournal, runtime: &VirtualRuntime, run: &RunId, ask: &Ask) {
    let Ok(digest) = ask.digest() else { return };
    for person in ["ana", "ben", "cleo", "dora"].into_iter().take(usize::from(ask.people.max(1))) {
        let mut by = Actor::local(person).authenticated("testkit", person);
        by.roles.extend(ask.roles.iter().cloned());
        let request = Request::Answer(Answer::choose(APPROVE, digest, by));
        let Ok(request) = canonical::to_value(&request) else { return };
        let row = InboxRow { id: format!("{}-{person}", digest.hex()), at: runtime.now_wall(), request: Json(request) };
        // A run that is gone has nobody to answer.
        drop(journal.post(run, row).await);
    }
}
