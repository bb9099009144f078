//! What a journal promises.

use std::time::Duration;

use dr_core::{
    RunId, Timestamp,
    base::{Digest, Epoch, Json},
    run::{Head, InboxRow, JournalError, Line},
};
use futures_util::future::join_all;

use super::{Case, Damage, Stop, Trial, end, holds, lines, next_run, run, trials};

pub(super) const TRIALS: &[Trial] = trials![
    what_is_created_is_found_by_other_processes,
    a_run_is_created_once,
    runs_are_listed_in_the_order_of_their_creation,
    an_append_goes_on_from_the_end,
    an_append_is_all_or_nothing,
    an_append_at_another_end_conflicts,
    an_append_under_another_epoch_is_fenced,
    of_appends_at_one_end_one_is_stored,
    an_append_that_lost_its_answer_is_stored_once,
    a_take_over_needs_a_larger_epoch,
    the_epoch_is_the_one_that_may_append,
    what_does_not_exist_is_unknown,
    a_read_answers_what_follows,
    damage_is_found_and_nothing_shorter_is_read,
    only_what_is_there_is_sealed,
    a_request_is_kept_once_and_in_order,
    news_of_another_process_wakes,
    news_between_the_mark_and_the_wait_is_not_missed,
];

const ONE: Epoch = Epoch::new(1);
const TWO: Epoch = Epoch::new(2);

/// A run with three lines.
async fn begun(c: &Case) -> Result<(Vec<Line>, Head), Stop> {
    let all = lines(Head::EMPTY, &["a", "b", "c"]);
    let head = c.a.journal.create(&run(), ONE, all.clone()).await?;
    Ok((all, head))
}

async fn stored(c: &Case) -> Result<Vec<Line>, Stop> {
    Ok(c.b.journal.read(&run(), 0).await?)
}

async fn what_is_created_is_found_by_other_processes(c: &Case) -> Result<(), Stop> {
    let (all, head) = begun(c).await?;
    holds!(head == end(&all), "created up to {head:?}");
    holds!(stored(c).await? == all, "another process reads something else");
    Ok(())
}

async fn a_run_is_created_once(c: &Case) -> Result<(), Stop> {
    let (all, _) = begun(c).await?;
    let again = c.b.journal.create(&run(), TWO, lines(Head::EMPTY, &["x"])).await;
    holds!(matches!(again, Err(JournalError::Conflict { found: 3, .. })), "created twice: {again:?}");
    holds!(stored(c).await? == all, "the first run was changed");
    let many = join_all([&c.a, &c.b, &c.a, &c.b].map(|store| {
        let first = lines(Head::EMPTY, &["a"]);
        async move { store.journal.create(&next_run(), ONE, first).await }
    }));
    let made = many.await.into_iter().filter(Result::is_ok).count();
    holds!(made == 1, "{made} of four made the same run");
    Ok(())
}

async fn runs_are_listed_in_the_order_of_their_creation(c: &Case) -> Result<(), Stop> {
    let names = ["orders-2", "billing-7", "orders-1"];
    for (at, name) in names.iter().enumerate() {
        let run: RunId = name.parse()?;
        let store = if at == 1 { &c.b } else { &c.a };
        store.journal.create(&run, ONE, lines(Head::EMPTY, &["a"])).await?;
    }
    let listed: Vec<String> = c.b.journal.runs().await?.iter().map(ToString::to_string).collect();
    holds!(listed == names, "{listed:?}");
    Ok(())
}

async fn an_append_goes_on_from_the_end(c: &Case) -> Result<(), Stop> {
    let (mut all, head) = begun(c).await?;
    let more = lines(head, &["d", "e"]);
    let answered = c.a.journal.append(&run(), ONE, 3, more.clone()).await?;
    holds!(answered == end(&more), "{answered:?}");
    all.extend(more);
    holds!(stored(c).await? == all, "something else is stored");
    Ok(())
}

async fn an_append_is_all_or_nothing(c: &Case) -> Result<(), Stop> {
    let (all, head) = begun(c).await?;
    let mut torn = lines(head, &["d", "e", "f"]);
    if let Some(line) = torn.get_mut(1) {
        line.text = line.text.replace("\"e\"", "\"x\"");
    }
    let refused = c.a.journal.append(&run(), ONE, 3, torn).await;
    holds!(matches!(refused, Err(JournalError::Corrupt { seq: 5, .. })), "a changed line: {refused:?}");
    let loose = lines(Head { seq: 3, hash: Digest::zero() }, &["d"]);
    let refused = c.a.journal.append(&run(), ONE, 3, loose).await;
    holds!(refused.is_err(), "a line that follows another one was stored");
    holds!(stored(c).await? == all, "a part of it is stored");
    Ok(())
}

async fn an_append_at_another_end_conflicts(c: &Case) -> Result<(), Stop> {
    let (all, head) = begun(c).await?;
    for (expected, after) in [(2, Head { seq: 2, ..head }), (4, Head { seq: 4, ..head })] {
        let said = c.a.journal.append(&run(), ONE, expected, lines(after, &["x"])).await;
        let fits = matches!(said, Err(JournalError::Conflict { found: 3, expected: named, .. }) if named == expected);
        holds!(fits, "an append at {expected} of 3: {said:?}");
    }
    holds!(stored(c).await? == all, "it is stored");
    Ok(())
}

async fn an_append_under_another_epoch_is_fenced(c: &Case) -> Result<(), Stop> {
    let (all, head) = begun(c).await?;
    c.b.journal.take_over(&run(), Epoch::new(5)).await?;
    for epoch in [ONE, Epoch::new(4), Epoch::new(6)] {
        let said = c.a.journal.append(&run(), epoch, 3, lines(head, &["x"])).await;
        let fits = matches!(said, Err(JournalError::Fenced { held, mine }) if held == Epoch::new(5) && mine == epoch);
        holds!(fits, "epoch {epoch} of 5: {said:?}");
    }
    holds!(stored(c).await? == all, "it is stored");
    c.a.journal.append(&run(), Epoch::new(5), 3, lines(head, &["d"])).await?;
    Ok(())
}

async fn of_appends_at_one_end_one_is_stored(c: &Case) -> Result<(), Stop> {
    let (_, head) = begun(c).await?;
    let words = ["p", "q", "r", "s", "t", "u", "v", "w"];
    let racing = words.iter().zip([&c.a, &c.b].into_iter().cycle());
    let racing = racing.map(|(word, store)| store.journal.append(&run_ref().0, ONE, 3, lines(head, &[word])));
    let said = join_all(racing).await;
    let done = said.iter().filter(|one| one.is_ok()).count();
    let refused = said.iter().filter(|one| matches!(one, Err(JournalError::Conflict { found: 4, .. }))).count();
    holds!((done, refused) == (1, 7), "{said:?}");
    holds!(stored(c).await?.len() == 4, "more than one is stored");
    Ok(())
}

/// The run, for futures that borrow it.
fn run_ref() -> &'static (RunId,) {
    static RUN: std::sync::OnceLock<(RunId,)> = std::sync::OnceLock::new();
    RUN.get_or_init(|| (run(),))
}

async fn an_append_that_lost_its_answer_is_stored_once(c: &Case) -> Result<(), Stop> {
    let (_, head) = begun(c).await?;
    let more = lines(head, &["d"]);
    // Whether it was begun, sent or stored: nobody listens to the answer any more.
    let run = run();
    let mut call = c.a.journal.append(&run, ONE, 3, more.clone());
    let _begun = futures_util::poll!(call.as_mut()).is_ready();
    drop(call);
    let again = c.a.journal.append(&run, ONE, 3, more.clone()).await;
    holds!(matches!(again, Ok(_) | Err(JournalError::Conflict { found: 4, .. })), "the same append again: {again:?}");
    let found = c.b.journal.read(&run, 3).await?;
    holds!(found == more, "{found:?}");
    Ok(())
}

async fn a_take_over_needs_a_larger_epoch(c: &Case) -> Result<(), Stop> {
    begun(c).await?;
    c.a.journal.take_over(&run(), Epoch::new(5)).await?;
    for epoch in [ONE, Epoch::new(5)] {
        let said = c.b.journal.take_over(&run(), epoch).await;
        let fits = matches!(said, Err(JournalError::Fenced { held, mine }) if held == Epoch::new(5) && mine == epoch);
        holds!(fits, "epoch {epoch} over 5: {said:?}");
    }
    Ok(())
}

async fn the_epoch_is_the_one_that_may_append(c: &Case) -> Result<(), Stop> {
    begun(c).await?;
    let created = c.b.journal.epoch(&run()).await?;
    c.a.journal.take_over(&run(), Epoch::new(9)).await?;
    let raised = c.b.journal.epoch(&run()).await?;
    holds!((created, raised) == (ONE, Epoch::new(9)), "{created}, then {raised}");
    Ok(())
}

async fn what_does_not_exist_is_unknown(c: &Case) -> Result<(), Stop> {
    begun(c).await?;
    let (none, journal) = (next_run(), &c.a.journal);
    let said = [
        journal.read(&none, 0).await.map(drop),
        journal.append(&none, ONE, 0, lines(Head::EMPTY, &["a"])).await.map(drop),
        journal.take_over(&none, TWO).await,
        journal.epoch(&none).await.map(drop),
        journal.post(&none, row("1")).await,
    ];
    for (at, one) in said.iter().enumerate() {
        holds!(matches!(one, Err(JournalError::Unknown(run)) if *run == none), "call {at}: {one:?}");
    }
    holds!(journal.runs().await? == [run()], "a question made a run");
    Ok(())
}

async fn a_read_answers_what_follows(c: &Case) -> Result<(), Stop> {
    let (all, _) = begun(c).await?;
    for from in 0..=4_usize {
        let found = c.b.journal.read(&run(), u64::try_from(from)?).await?;
        holds!(found == all.get(from..).unwrap_or_default(), "after {from}: {found:?}");
    }
    Ok(())
}

async fn damage_is_found_and_nothing_shorter_is_read(c: &Case) -> Result<(), Stop> {
    let harms = [Damage::Edits(2, "{}".into()), Damage::Loses(1), Damage::Loses(2), Damage::Loses(3)];
    for (number, harm) in (1..).zip(harms) {
        let run = RunId::new(dr_core::GroupName::new("orders"), number);
        let all = lines(Head::EMPTY, &["a", "b", "c"]);
        c.a.journal.create(&run, ONE, all).await?;
        if !c.place.damage(&run, &harm).await {
            return Err(Stop::Skipped("nobody can change what this store holds"));
        }
        for store in [&c.a, &c.b] {
            let said = store.journal.read(&run, 0).await;
            let named = match harm {
                Damage::Edits(seq, _) | Damage::Loses(seq) => seq,
            };
            let fits = matches!(&said, Err(JournalError::Corrupt { seq, .. }) if *seq == named);
            holds!(fits, "{harm:?}: {said:?}");
        }
    }
    Ok(())
}

async fn only_what_is_there_is_sealed(c: &Case) -> Result<(), Stop> {
    begun(c).await?;
    c.a.journal.seal(&run(), 3).await?;
    let said = c.a.journal.seal(&run(), 4).await;
    holds!(said.is_err(), "a line that is not there was sealed");
    Ok(())
}

fn row(id: &str) -> InboxRow {
    let request = Json(serde_json::json!({ "asks": id, "text": "ümlaut \" and \\" }));
    InboxRow { id: id.into(), at: Timestamp::from_millis(5), request }
}

async fn a_request_is_kept_once_and_in_order(c: &Case) -> Result<(), Stop> {
    begun(c).await?;
    for (store, id) in [(&c.a, "2"), (&c.b, "1"), (&c.a, "2"), (&c.b, "2"), (&c.b, "3")] {
        store.journal.post(&run(), row(id)).await?;
    }
    for store in [&c.a, &c.b] {
        let found = store.journal.inbox(&run()).await?;
        holds!(found == [row("2"), row("1"), row("3")], "{found:?}");
    }
    Ok(())
}

async fn news_of_another_process_wakes(c: &Case) -> Result<(), Stop> {
    let (_, head) = begun(c).await?;
    let run = run();
    for posts in [true, false] {
        // Whatever is still on its way of what was done before.
        c.pause(dr_core::millis(50)).await;
        let mark = c.a.journal.mark(&run);
        let mut woken = c.a.journal.changed(&run, mark);
        let _early = futures_util::poll!(woken.as_mut()).is_ready();
        if posts {
            c.b.journal.post(&run, row("1")).await?;
        } else {
            c.b.journal.append(&run, ONE, 3, lines(head, &["d"])).await?;
        }
        if !_early {
            holds!(c.soon(woken).await, "nobody was woken by {}", if posts { "a post" } else { "an append" });
        }
    }
    Ok(())
}

async fn news_between_the_mark_and_the_wait_is_not_missed(c: &Case) -> Result<(), Stop> {
    begun(c).await?;
    let run = run();
    let mark = c.a.journal.mark(&run);
    c.a.journal.inbox(&run).await?;
    c.b.journal.post(&run, row("1")).await?;
    c.pause(dr_core::Millis::of(Duration::from_millis(50))).await;
    holds!(c.soon(c.a.journal.changed(&run, mark)).await, "it was missed");
    holds!(c.a.journal.inbox(&run).await?.len() == 1, "it is not there");
    Ok(())
}
