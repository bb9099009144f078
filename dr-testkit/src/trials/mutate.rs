//! What the mutating verbs of a management plane do, and say.

use dr_core::{
    Grade, Outcome, ProviderError, Timestamp, Tri,
    contract::{OpHandle, OpProgress, Retry, SnapshotRequest},
};

use super::{
    Case, Contract,
    Need::{Lacks, Offer as Offers, Part as Has, Power as Can},
    Offer, Part, Power, Side, Sight, Stop, Verb,
    database::follows,
    trials,
};

trials! { Contract::ManagedDatabase;
    Changed answers_first "promote::answers_before_it_is_done"
        shows "answers before it is done" needs [Offers(Offer::Promote)];
    Changed leaves_alone "promote::leaves_the_old_primary_alone"
        shows "Makes this standby a primary and leaves the old one alone." needs [Offers(Offer::Promote)];
    Changed grows "promote::begins_a_new_generation"
        shows "Grows with every promotion (a PostgreSQL timeline)." needs [Offers(Offer::Promote), Has(Part::Positions)];
    Changed stays_itself "promote::a_copy_goes_on_as_another_system"
        shows "a logical copy goes on with the history that it had, and follows nobody"
        needs [Offers(Offer::Promote), Has(Part::Copy)];
    Changed promote_lost "promote::a_lost_reply_is_unknown"
        shows "a lost reply is `Unknown`" needs [Offers(Offer::Promote), Can(Power::LoseReply(Verb::Promote))];
    AsItWas no_standby "promote::a_primary_is_a_conflict"
        shows "on a member that is no standby: `Conflict`" needs [Offers(Offer::Promote)];
    Changed polled "poll::finished_is_true"
        shows "Over, and the provider says it worked. Still to be read back." needs [Offers(Offer::Promote)];
    Changed swapped "swap::changes_both_roles"
        shows "Makes this standby the primary and the primary a standby in one provider call." needs [Offers(Offer::Swap)];
    Changed swap_lost "swap::a_lost_reply_is_unknown"
        shows "a lost reply is `Unknown`" needs [Offers(Offer::Swap), Can(Power::LoseReply(Verb::Swap))];
    Changed swap_keeps "swap::loses_nothing_or_does_not_happen"
        shows "a planned swap loses nothing or does not happen" needs [Offers(Offer::Swap), Can(Power::CutReplication)];
    Changed fence_of_swap "swap_fence::is_worth_nothing_before_it_is_told"
        shows "before the provider says so it is worth nothing" needs [Offers(Offer::Swap)];
    AsItWas no_swap_fence "swap_fence::is_not_offered_without_a_swap"
        shows "What the fence that a swap brought is worth now, for this former primary" needs [Lacks(Offer::Swap)];
    Changed by_hand "attribution::a_change_by_hand_is_not_ours"
        shows "a change by another caller is never ours" needs [Offers(Offer::HandOver), Can(Power::PromoteByHand)];
    Changed own_change "attribution::a_change_by_this_object_is_ours"
        shows "a change by this object is ours, once the record shows it; until then the answer is `None`"
        needs [Offers(Offer::Promote)];
    AsItWas is_recorded "attribution::is_told_where_histories_are_not_counted"
        shows "`Unsupported`: a swap whose answer was lost is then judged by people." needs [Offers(Offer::HandOver)];
    Changed keeps_quiet "gave_up::is_no_word_on_what_happens"
        shows "`None` as long as the change may still happen, and after it has happened" needs [Offers(Offer::Swap)];
    Changed rejoined "rejoin::done_means_streaming"
        shows "done only when it streams on the primary's current lineage" needs [Offers(Offer::Rejoin), Offers(Offer::HandOver)];
    Changed discards_not "rejoin::keeps_what_only_it_has"
        shows "data that only this member has is destroyed only if the request says so; otherwise `NotDone`"
        needs [Offers(Offer::Rejoin), Offers(Offer::Promote), Can(Power::CutReplication), Can(Power::Write)];
    Changed follows_again "follow::done_means_streaming"
        shows "done only when it streams on the primary's current lineage" needs [Offers(Offer::Follow), Can(Power::CutReplication)];
    AsItWas follows_nobody "follow::a_primary_is_a_conflict"
        shows "on a member that is no standby: `Conflict`, and what only it has stays" needs [Offers(Offer::Follow)];
    Changed one_snapshot "snapshot::the_same_name_twice_is_one"
        shows "the same name twice is one snapshot" needs [Offers(Offer::Snapshot)];
    Changed works_beside "snapshot::is_work_only_where_it_blocks"
        shows "under way, the member is [busy](Description::busy) only where the offer says that it blocks a promotion"
        needs [Offers(Offer::Snapshot)];
    AsItWas settles "settle::is_harmless_to_repeat"
        shows "Harmless to repeat." needs [];
    Changed refuses "settle::a_bad_candidate_is_refused"
        shows "a refusal that asking again does not change stops the run while nothing is held back"
        needs [Can(Power::SpoilCandidate)];
}

async fn answers_first(c: &Case) -> Result<(), Stop> {
    let database = c.pair.standby.provider.database.as_ref();
    let outcome = database.promote(c.promotion(Side::Standby).await?).await;
    match outcome {
        Outcome::Done(()) => {
            let now = c.some("the database answers", c.standing(Side::Standby).await)?;
            c.same("what is called done is done", &now.0, &Tri::No);
        }
        Outcome::Accepted(op) => {
            // As a later engine reads it from the journal.
            let kept = c.ok("the handle is short and carries no signature", OpHandle::new(op.as_str()))?;
            let told = c.ok("the handle is known", database.poll(&kept).await)?;
            c.holds("the operation goes on, or is over", !matches!(told, OpProgress::Lost { .. }), &told);
            c.polled(database, &op).await?;
        }
        Outcome::NotDone(_) | Outcome::Unknown(_) | Outcome::Conflict(_) => {
            c.holds("a promotion of a standby is taken", false, &outcome);
        }
    }
    Ok(())
}

async fn leaves_alone(c: &Case) -> Result<(), Stop> {
    c.promote(c.promotion(Side::Standby).await?).await?;
    let old = c.ok("the old primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("nobody fenced the old primary", &old.accepted, &Tri::Yes);
    let told = c.described(Side::Primary).await?;
    c.same("the old primary follows nobody", &told.follows, &None);
    let new = c.ok("the new primary is tried", c.pair.standby.provider.probe.write().await)?;
    c.same("the new primary takes writes", &new.accepted, &Tri::Yes);
    c.holds("their histories are two", new.lineage != old.lineage, &(new.lineage.clone(), old.lineage));
    Ok(())
}

async fn stays_itself(c: &Case) -> Result<(), Stop> {
    let before = c.target(Side::Standby).await?;
    c.hand_over().await?;
    let now = c.ok("the new primary says where it is", c.pair.standby.provider.probe.position().await)?;
    c.same("its history is the one that it had", &now.lineage, &before.lineage);
    c.holds("it is no history of its source", now.lineage.system != before.holds().system, &before);
    c.settle_view().await;
    c.same("it follows nobody", &c.described(Side::Standby).await?.follows, &None);
    Ok(())
}

async fn grows(c: &Case) -> Result<(), Stop> {
    let before = c.target(Side::Standby).await?.lineage;
    c.hand_over().await?;
    let now = c.ok("the new primary says where it is", c.pair.standby.provider.probe.position().await)?;
    c.same("the system is the same", &now.lineage.system, &before.system);
    let newer = now.lineage.generation > before.generation || (now.lineage.generation, before.generation) == (0, 0);
    c.holds("the generation is newer, or never told", newer, &(&now.lineage, &before));
    if let Some(parted) = now.parted_at.at() {
        c.holds("the histories parted before the present", now.durable.reaches(parted), &(parted, &now.durable));
    }
    c.settle_view().await;
    let told = c.described(Side::Standby).await?.lineage.unwrap_or_else(|| now.lineage.clone());
    c.same("management tells the new history", &told, &now.lineage);
    Ok(())
}

/// A lost reply is told as such, and the effect is found by looking.
async fn lost(c: &Case, outcome: Outcome<()>) -> Result<(), Stop> {
    c.holds("without a reply nobody knows", matches!(outcome, Outcome::Unknown(_)), &outcome);
    c.left("a look finds the effect").await.map(drop)
}

async fn promote_lost(c: &Case) -> Result<(), Stop> {
    let request = c.promotion(Side::Standby).await?;
    c.act(Power::LoseReply(Verb::Promote)).await?;
    lost(c, c.pair.standby.provider.database.promote(request).await).await
}

async fn no_standby(c: &Case) -> Result<(), Stop> {
    let before = c.target(Side::Primary).await?.lineage;
    let outcome = c.pair.primary.provider.database.promote(c.promotion(Side::Primary).await?).await;
    c.holds("a primary cannot be promoted", matches!(outcome, Outcome::Conflict(_)), &outcome);
    let now = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("it goes on taking writes", &now.accepted, &Tri::Yes);
    c.same("on the same history", &now.lineage, &Some(before));
    Ok(())
}

async fn polled(c: &Case) -> Result<(), Stop> {
    let database = c.pair.standby.provider.database.as_ref();
    let outcome = database.promote(c.promotion(Side::Standby).await?).await;
    let Outcome::Accepted(op) = outcome else {
        c.holds("a promotion is taken", matches!(outcome, Outcome::Done(())), &outcome);
        return Ok(());
    };
    c.polled(database, &op).await?;
    // A view of the management plane may be older than the end of the operation; a server is not.
    if Part::Positions.is_in(&c.pair) {
        let now = c.some("the new primary answers", c.standing(Side::Standby).await)?;
        c.same("finished means that it has left recovery", &now.0, &Tri::No);
    } else {
        c.left("finished means that it is no standby any more").await?;
    }
    let probe = c.ok("the new primary is tried", c.pair.standby.provider.probe.write().await)?;
    c.same("and that it takes writes", &probe.accepted, &Tri::Yes);
    Ok(())
}

async fn swapped(c: &Case) -> Result<(), Stop> {
    c.hand_over().await?;
    c.settle_view().await;
    let (old, new) = (c.described(Side::Primary).await?, c.described(Side::Standby).await?);
    c.same("the standby became the primary", &new.follows, &None);
    c.holds("the primary became its standby", follows(&old, &new), &old.follows);
    c.same("the old primary accepts no writes", &old.writable, &Tri::No);
    let probe = c.ok("the new primary is tried", c.pair.standby.provider.probe.write().await)?;
    c.same("the new primary takes writes", &probe.accepted, &Tri::Yes);
    let refused = c.ok("the old primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.holds("the old primary takes none", refused.accepted != Tri::Yes, &refused);
    Ok(())
}

async fn swap_lost(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let request = c.swap().await?;
    c.act(Power::LoseReply(Verb::Swap)).await?;
    lost(c, c.pair.standby.provider.database.swap_roles(request).await).await
}

async fn swap_keeps(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let request = c.swap().await?;
    c.act(Power::CutReplication).await?;
    c.resume(Side::Primary).await?;
    let written = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary has something that the standby has not", &written.accepted, &Tri::Yes);
    let database = c.pair.standby.provider.database.as_ref();
    match database.swap_roles(request).await {
        Outcome::NotDone(reason) => c.holds("the swap is refused", true, &reason),
        Outcome::Accepted(op) => {
            let ended = c.until("the swap ends", || async {
                match database.poll(&op).await {
                    Ok(OpProgress::Failed { why }) => Some(why),
                    Ok(OpProgress::Running { .. } | OpProgress::Finished | OpProgress::Lost { .. }) | Err(_) => None,
                }
            });
            ended.await?;
        }
        other @ (Outcome::Done(()) | Outcome::Unknown(_) | Outcome::Conflict(_)) => {
            c.holds("a swap that would lose is not done", matches!(other, Outcome::Conflict(_)), &other);
        }
    }
    let look = || async { c.standing(Side::Standby).await.filter(|(standby, _)| *standby == Tri::Yes) };
    c.until("the standby is still one", look).await?;
    let probe = c.ok("the primary is tried again", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary goes on taking writes", &probe.accepted, &Tri::Yes);
    Ok(())
}

async fn fence_of_swap(c: &Case) -> Result<(), Stop> {
    let since: Timestamp = c.clock().now_wall();
    let database = &c.pair.primary.provider.database;
    if let Ok(reading) = database.swap_fence(since).await {
        c.same("before a swap its fence is worth nothing", &reading.grade(), &Grade::Unconfirmable);
    }
    c.hand_over().await?;
    let look = || async { database.swap_fence(since).await.ok().filter(|reading| reading.grade() >= Grade::Enforced) };
    let reading = c.until("after the swap the provider says what its fence is worth", look).await?;
    let mine = reading.address.as_ref().is_none_or(|address| *address == c.pair.primary.address);
    c.holds("it speaks of the former primary", mine, &reading.address);
    Ok(())
}

async fn no_swap_fence(c: &Case) -> Result<(), Stop> {
    let told = c.pair.primary.provider.database.swap_fence(c.clock().now_wall()).await;
    let nothing = match &told {
        Ok(reading) => reading.grade() == Grade::Unconfirmable,
        Err(_) => true,
    };
    c.holds("without a swap there is no fence of one", nothing, &told);
    Ok(())
}

/// The old primary is a standby on the history of the new one.
async fn carries_the_new_history(c: &Case) -> Result<(), Stop> {
    let new = c.target(Side::Standby).await?;
    let now = c.some("the old primary says what it is", c.standing(Side::Primary).await)?;
    c.same("it is in recovery", &now.0, &Tri::Yes);
    c.same("it carries the new primary's history", &c.target(Side::Primary).await?.lineage, &new.lineage);
    Ok(())
}

async fn rejoined(c: &Case) -> Result<(), Stop> {
    let lineage = c.target(Side::Primary).await?.lineage;
    c.hand_over().await?;
    let old = c.pair.primary.provider.database.as_ref();
    let request = c.rejoin_request(lineage, false).await?;
    let outcome = old.rejoin(request.clone()).await;
    c.finish(old, outcome).await?;
    carries_the_new_history(c).await?;
    let look = || async { old.replication().await.ok().filter(|reading| reading.streaming == Tri::Yes) };
    c.until("it streams", look).await?;
    let primary = c.described(Side::Standby).await?;
    let look = || async { old.describe().await.ok().filter(|told| follows(told, &primary)) };
    c.until("it follows the new primary", look).await?;
    let again = old.rejoin(request).await;
    let harmless = matches!(again, Outcome::Done(()) | Outcome::Accepted(_));
    c.holds("asking again is no change", harmless, &again);
    if let Outcome::Accepted(op) = again {
        c.polled(old, &op).await?;
    }
    Ok(())
}

async fn by_hand(c: &Case) -> Result<(), Stop> {
    let (database, since) = (c.pair.standby.provider.database.as_ref(), c.clock().now_wall());
    c.act(Power::PromoteByHand).await?;
    c.settle_view().await;
    let told = database.attribution(since).await;
    let not_ours = !matches!(&told, Ok(Some(found)) if found.ours == Tri::Yes);
    c.holds("a change by hand is not called ours", not_ours, &told);
    Ok(())
}

async fn own_change(c: &Case) -> Result<(), Stop> {
    let (database, since) = (c.pair.standby.provider.database.as_ref(), c.clock().now_wall());
    let before = database.attribution(since).await;
    if matches!(before, Err(ProviderError::Unsupported { .. })) {
        c.holds("there is no record", true, &before);
        return Ok(());
    }
    c.holds("nothing is recorded before", matches!(before, Ok(None)), &before);
    c.promote(c.promotion(Side::Standby).await?).await?;
    let look = || async { database.attribution(since).await.ok().flatten().filter(|found| found.ours == Tri::Yes) };
    c.until("the record calls the change ours", look).await?;
    Ok(())
}

async fn is_recorded(c: &Case) -> Result<(), Stop> {
    let database = c.pair.standby.provider.database.as_ref();
    let lineage = c.target(Side::Standby).await?.lineage;
    let told = database.attribution(c.clock().now_wall()).await;
    let offered = !matches!(told, Err(ProviderError::Unsupported { .. }));
    c.holds("a record is told where generations are not", offered || lineage.generation > 0, &told);
    Ok(())
}

async fn keeps_quiet(c: &Case) -> Result<(), Stop> {
    let (database, since) = (c.pair.standby.provider.database.as_ref(), c.clock().now_wall());
    let before = database.gave_up(since).await;
    c.holds("nothing was given up before a swap", !matches!(before, Ok(Some(_))), &before);
    c.hand_over().await?;
    let after = database.gave_up(since).await;
    c.holds("a swap that happened was not given up", !matches!(after, Ok(Some(_))), &after);
    Ok(())
}

async fn discards_not(c: &Case) -> Result<(), Stop> {
    let lineage = c.target(Side::Primary).await?.lineage;
    c.act(Power::CutReplication).await?;
    c.act(Power::Write).await?;
    c.promote(c.promotion(Side::Standby).await?).await?;
    if c.pair.primary.provider.fence.is_some() {
        c.engage().await?;
    }
    let old = c.pair.primary.provider.database.as_ref();
    let outcome = old.rejoin(c.rejoin_request(lineage, false).await?).await;
    let refused = matches!(outcome, Outcome::NotDone(_) | Outcome::Conflict(_));
    c.holds("a rejoin that would destroy data is not done", refused, &outcome);
    let before = c.see_if(Sight::Changes).await?;
    c.settle_view().await;
    c.same("and nothing of it happens later", &c.see_if(Sight::Changes).await?, &before);
    Ok(())
}

async fn follows_again(c: &Case) -> Result<(), Stop> {
    c.act(Power::CutReplication).await?;
    let standby = c.pair.standby.provider.database.as_ref();
    let request = c.follow_request(Side::Standby).await?;
    let outcome = standby.follow(request.clone()).await;
    c.finish(standby, outcome).await?;
    let look = || async { standby.replication().await.ok().filter(|reading| reading.streaming == Tri::Yes) };
    let now = c.until("it streams", look).await?;
    let lineage = c.target(Side::Primary).await?.lineage;
    c.holds("it receives the primary's history", now.lineage.is_none_or(|of| of == lineage), &lineage);
    let again = standby.follow(request).await;
    let harmless = matches!(again, Outcome::Done(()) | Outcome::Accepted(_));
    c.holds("asking again is no change", harmless, &again);
    if let Outcome::Accepted(op) = again {
        c.polled(standby, &op).await?;
    }
    Ok(())
}

async fn follows_nobody(c: &Case) -> Result<(), Stop> {
    let database = c.pair.primary.provider.database.as_ref();
    let outcome = database.follow(c.follow_request(Side::Primary).await?).await;
    c.holds("a primary is not made a standby", matches!(outcome, Outcome::Conflict(_)), &outcome);
    c.settle_view().await;
    let probe = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary takes writes", &probe.accepted, &Tri::Yes);
    Ok(())
}

async fn one_snapshot(c: &Case) -> Result<(), Stop> {
    let database = c.pair.primary.provider.database.as_ref();
    let request =
        SnapshotRequest { target: c.target(Side::Primary).await?, name: "trial-1".into(), key: c.key("snapshot") };
    let none = c.ok("snapshots can be asked for", database.has_snapshot("trial-1").await)?;
    c.holds("it is not there before", none != Tri::Yes, &none);
    let outcome = database.snapshot(request.clone()).await;
    c.finish(database, outcome).await?;
    let look = || async { database.has_snapshot("trial-1").await.ok().filter(|there| *there == Tri::Yes) };
    c.until("the snapshot exists under its name", look).await?;
    let again = database.snapshot(request).await;
    c.same("the same name again is done already", &again, &Outcome::Done(()));
    let other = c.ok("another name is asked for", database.has_snapshot("trial-2").await)?;
    c.holds("another name is not there", other != Tri::Yes, &other);
    Ok(())
}

async fn works_beside(c: &Case) -> Result<(), Stop> {
    let database = c.pair.primary.provider.database.as_ref();
    let offers = c.ok("the offers are told", database.capabilities().await)?;
    let Some(offer) = offers.snapshot else { return Ok(()) };
    let request =
        SnapshotRequest { target: c.target(Side::Primary).await?, name: "trial-1".into(), key: c.key("snapshot") };
    let outcome = database.snapshot(request).await;
    let seen = c.ok("the member is described", database.describe().await)?;
    c.holds("it is no work where it blocks nothing", offer.blocks_promotion || seen.busy.is_none(), &seen.busy);
    c.finish(database, outcome).await?;
    c.settle_view().await;
    let seen = c.ok("the member is described", database.describe().await)?;
    c.same("it is at rest afterwards", &seen.busy, &None);
    Ok(())
}

async fn settles(c: &Case) -> Result<(), Stop> {
    let before = c.target(Side::Standby).await?.lineage;
    for side in [Side::Standby, Side::Primary, Side::Standby] {
        let outcome = c.pair.seat(side).provider.database.settle().await;
        c.same("a healthy member settles", &outcome, &Outcome::Done(()));
    }
    let now = c.target(Side::Standby).await?.lineage;
    c.same("the history is the same", &now, &before);
    let probe = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary takes writes", &probe.accepted, &Tri::Yes);
    Ok(())
}

async fn refuses(c: &Case) -> Result<(), Stop> {
    c.act(Power::SpoilCandidate).await?;
    let outcome = c.pair.standby.provider.database.settle().await;
    let for_ever = matches!(&outcome, Outcome::NotDone(reason) if reason.retry == Retry::Never);
    c.holds("a candidate that would hang is refused for ever", for_ever, &outcome);
    let probe = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("nothing is held back", &probe.accepted, &Tri::Yes);
    Ok(())
}

impl Case {
    /// What the rig sees, where it can.
    async fn see_if(&self, sight: Sight) -> Result<Option<u64>, Stop> {
        if self.sees(sight) { self.see(sight).await.map(Some) } else { Ok(None) }
    }
}
