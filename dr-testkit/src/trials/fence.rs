//! What a fence does, and says.

use dr_core::{
    Grade, Outcome, Target, Tri,
    contract::{ClearFence, Effort, FencePlace, Reach, RetireFence, Weight},
};

use super::{
    Case, Contract,
    Need::{Offer as Offers, Part as Has, Power as Can, Sight as Sees},
    Offer, Part, Power, Side, Sight, Stop, Verb, trials,
};

const FENCE: super::Need = Has(Part::Fence);
const TRAVELS: super::Need = Has(Part::Travelling);

trials! { Contract::Fence;
    AsItWas says "promises::are_worth_something"
        shows "What it is worth on each plane once engaged and read back, at best." needs [FENCE];
    Changed offers "offers::nothing_over_a_closed_way"
        shows "nothing is offered over a way that is closed" needs [FENCE, Can(Power::DarkManagement)];
    Changed known "prepare::claims_to_know_only_what_was_read"
        shows "a token is `known` only if all that stood before was read" needs [FENCE, Can(Power::DarkManagement)];
    AsItWas prepares "prepare::changes_nothing"
        shows "Reads what a later release needs. Changes nothing; called before the intent." needs [FENCE];
    Changed prepares_in_silence "prepare::a_silent_primary_is_no_obstacle"
        shows "a fence whose state before it cannot be read is still engaged when the primary is silent"
        needs [FENCE, Can(Power::BreakPrimary)];
    AsItWas rehearses "rehearse::leaves_nothing_behind"
        shows "Changes nothing that lasts." needs [FENCE];
    Changed stops "engage::stops_the_applications_path"
        shows "stops the path that applications use, for new *and* open sessions as far as [`Fence::promises`] says"
        needs [FENCE, Sees(Sight::Commits(Side::Primary))];
    Changed keeps_worth "engage::is_worth_what_it_promises"
        shows "The grade on each plane." needs [FENCE];
    Changed twice "engage::an_engaged_fence_does_not_change"
        shows "engaging an engaged fence is no change" needs [FENCE];
    Changed lets_through "engage::the_standby_gets_everything"
        shows "replication to standbys goes on until they have everything, where the kind of fence allows it"
        needs [FENCE, Has(Part::Told)];
    Changed engage_lost "engage::a_lost_reply_is_unknown"
        shows "It was sent, and there is no proof either way. Only a look decides what happens next."
        needs [FENCE, Can(Power::LoseReply(Verb::Engage))];
    Changed lifted "inspect::sees_a_fence_lifted_by_hand"
        shows "sees a fence that was lifted behind its back" needs [FENCE, Can(Power::LiftFence)];
    Changed dark "inspect::silence_is_worth_nothing"
        shows "unreachability never raises a grade" needs [FENCE, Can(Power::DarkManagement)];
    Changed dead "inspect::a_death_is_no_fence"
        shows "unreachability never raises a grade" needs [FENCE, Can(Power::BreakPrimary)];
    AsItWas looks "inspect::changes_nothing"
        shows "Looks, and changes nothing." needs [FENCE];
    AsItWas speaks_of "inspect::speaks_of_its_member"
        shows "Where the member that was looked at is found; `None` where nobody could say." needs [FENCE];
    Changed end "inspect::the_end_does_not_move"
        shows "while the fence stands the end does not move" needs [FENCE];
    Changed tells_end "inspect::only_a_clean_stop_tells_an_end"
        shows "Only a clean stop tells an end (a shutdown checkpoint)" needs [FENCE];
    Changed releases "release::the_member_writes_again"
        shows "Lets the member write again." needs [FENCE];
    Changed releases_twice "release::a_released_fence_does_not_change"
        shows "releasing a released fence is no change" needs [FENCE];
    Changed releases_others "release::an_order_for_another_member_is_not_followed"
        shows "Which member, with its lineage." needs [FENCE];
    Changed retires_not "retire::a_primary_keeps_its_fence"
        shows "refused with `Conflict` unless the member is seen to be a standby of the named lineage" needs [FENCE];
    Changed retires "retire::a_standby_needs_none"
        shows "Takes what is left of the fence away from a member that follows the new primary."
        needs [FENCE, Offers(Offer::Promote), Offers(Offer::Rejoin)];
    Changed leaves_open "travels::a_fence_that_stays_leaves_the_new_writer_open"
        shows "a fence that does not travel leaves the new writer open"
        needs [FENCE, Offers(Offer::Promote), Sees(Sight::Commits(Side::Standby))];
    Changed carries "carried::tells_what_keeps_applications_out"
        shows "empty only if nothing of it keeps applications out"
        needs [TRAVELS, Offers(Offer::Promote), Sees(Sight::Commits(Side::Standby))];
    Changed clears "clear::the_applications_are_let_in"
        shows "Takes from a new writer what travelled to it, so that its applications are let in."
        needs [TRAVELS, Offers(Offer::Promote), Sees(Sight::Commits(Side::Standby))];
    Changed clears_twice "clear::a_cleared_writer_does_not_change"
        shows "clearing what is clear is no change" needs [TRAVELS, Offers(Offer::Promote)];
    Changed clears_not "clear::a_former_primary_keeps_its_fence"
        shows "refused unless the member is seen to write on a later history than [`ClearFence::was`]" needs [TRAVELS];
    Changed clear_lost "clear::a_lost_reply_is_unknown"
        shows "It was sent, and there is no proof either way. Only a look decides what happens next."
        needs [TRAVELS, Offers(Offer::Promote), Can(Power::LoseReply(Verb::Clear))];
    Changed in_time "place::is_engaged_while_a_standby_follows"
        shows "a fence that stands before the promotion is engaged while a standby follows" needs [FENCE];
    AsItWas manual "manual::names_commands"
        shows "What a person would type to do `verb` (`engage`, `release`, and where the fence travels `clear`) without us." needs [FENCE];
}

async fn says(c: &Case) -> Result<(), Stop> {
    let fence = c.fence()?;
    let promised = fence.promises();
    c.holds("the promise is worth something", promised.grade() > Grade::Unconfirmable, &promised);
    c.holds("the fence has a name", !fence.name().is_empty(), &fence.name());
    c.holds("a pause between looks is named", fence.poll_every().count() > 0, &fence.poll_every());
    Ok(())
}

/// The fence of a member that authorises its promotion can be had before it.
async fn in_time(c: &Case) -> Result<(), Stop> {
    let fence = c.fence()?;
    c.same("the fence stands before the promotion", &fence.place(), &FencePlace::BeforePromotion);
    let standby = c.ok("the standby is described", c.pair.standby.provider.database.describe().await)?;
    c.holds("it follows", standby.follows.is_some(), &standby.follows);
    let receipt = c.engage().await?;
    c.holds("the fence is engaged all the same", receipt.grade() >= fence.promises().grade(), &receipt.planes);
    Ok(())
}

/// What is offered in the dark can be had in the dark; what cannot be had is named.
async fn offers(c: &Case) -> Result<(), Stop> {
    let fence = c.fence()?;
    c.act(Power::DarkManagement).await?;
    let reach = Reach { management: Tri::No, server: Tri::Yes };
    let (offered, promised) = (fence.offers(reach), fence.promises());
    c.holds("the dark adds nothing", offered.combined(promised) == promised, &offered);
    let named = fence.out_of_reach(reach);
    c.same("what cannot be reached is named", &named.is_empty(), &(offered == promised));
    if offered.grade() > Grade::Unconfirmable {
        let receipt = c.engage().await?;
        c.holds("what is offered can be had", receipt.grade() >= offered.grade(), &receipt.planes);
    }
    Ok(())
}

async fn known(c: &Case) -> Result<(), Stop> {
    let fence = c.fence()?;
    let before = c.ok("what a release needs is read", fence.prepare().await)?;
    c.holds("of a healthy primary it is known", before.known, &before);
    c.act(Power::DarkManagement).await?;
    match fence.prepare().await {
        Ok(token) if token.known => c.same("what is called known was read", &token, &before),
        Ok(token) => c.holds("what could not be read is not called known", !token.known, &token),
        Err(error) => c.holds("a fence that cannot be asked is an error", true, &error),
    }
    Ok(())
}

/// The primary takes writes and its fence is not engaged.
async fn open(c: &Case) -> Result<(), Stop> {
    let reading = c.ok("the fence is looked at", c.fence()?.inspect().await)?;
    c.same("the fence is not engaged", &reading.engaged(), &Tri::No);
    let probe = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary takes writes", &probe.accepted, &Tri::Yes);
    Ok(())
}

/// The fence is worth what it promises.
async fn shut(c: &Case) -> Result<(), Stop> {
    let fence = c.fence()?;
    let reading = c.ok("the fence is looked at", fence.inspect().await)?;
    c.holds("the fence is still engaged", reading.grade() >= fence.promises().grade(), &reading);
    // A fence of sessions lets the role of this toolkit in; what it keeps out are the applications.
    if reading.silent {
        let probe = c.pair.primary.provider.probe.write().await;
        let accepted = probe.map_or(Tri::Unknown, |probe| probe.accepted);
        c.holds("the primary takes no writes", accepted != Tri::Yes, &accepted);
    }
    if c.sees(Sight::Commits(Side::Primary)) {
        let commits = c.see(Sight::Commits(Side::Primary)).await?;
        c.same("no application commits on the primary", &commits, &0);
    }
    Ok(())
}

async fn prepares(c: &Case) -> Result<(), Stop> {
    let fence = c.fence()?;
    let token = c.ok("what a release needs is read", fence.prepare().await)?;
    c.same("the token says which fence made it", &token.fence, &fence.name());
    let again = c.ok("it may be read again", fence.prepare().await)?;
    c.same("and is the same", &again, &token);
    open(c).await
}

async fn prepares_in_silence(c: &Case) -> Result<(), Stop> {
    c.act(Power::BreakPrimary).await?;
    let fence = c.fence()?;
    let token = c.ok("a silent primary can still be fenced", fence.prepare().await)?;
    c.same("the token says which fence made it", &token.fence, &fence.name());
    Ok(())
}

async fn rehearses(c: &Case) -> Result<(), Stop> {
    for effort in [Effort::Look, Effort::Try] {
        let found = c.ok("the fence rehearses", c.fence()?.rehearse(effort).await)?;
        let always = found.obstacles.iter().any(|obstacle| obstacle.weight == Weight::Always);
        c.holds("nothing forbids fencing a healthy primary", !always, &found.obstacles);
    }
    open(c).await
}

async fn stops(c: &Case) -> Result<(), Stop> {
    let before = c.see(Sight::Commits(Side::Primary)).await?;
    c.same("applications commit before", &before, &1);
    c.engage().await?;
    let after = c.see(Sight::Commits(Side::Primary)).await?;
    c.same("no application commits, through no session", &after, &0);
    shut(c).await
}

async fn keeps_worth(c: &Case) -> Result<(), Stop> {
    let (fence, receipt) = (c.fence()?, c.engage().await?);
    let (promised, seen) = (fence.promises(), receipt.planes);
    c.holds("new sessions are kept out as promised", seen.new_sessions >= promised.new_sessions, &seen);
    c.holds("open sessions are ended as promised", seen.open_sessions >= promised.open_sessions, &seen);
    c.holds("a restart is kept from writing as promised", seen.restart >= promised.restart, &seen);
    shut(c).await
}

async fn twice(c: &Case) -> Result<(), Stop> {
    let request = c.engage_request().await?;
    let receipt = c.engage().await?;
    let again = c.fence()?.engage(request).await;
    c.holds("an engaged fence may be engaged", matches!(again, Outcome::Done(()) | Outcome::Accepted(_)), &again);
    let fence = c.fence()?;
    let promised = fence.promises().grade();
    let look = || async { fence.inspect().await.ok().filter(|reading| reading.grade() >= promised) };
    let now = c.until("it is still worth the same", look).await?;
    c.same("the end has not moved", &now.end, &receipt.end);
    shut(c).await
}

async fn lets_through(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    let (database, probe) = (&c.pair.standby.provider.database, &c.pair.standby.provider.probe);
    let has = || async {
        if c.pair.copy {
            let fed = database.replication().await.ok()?;
            fed.lineage.zip(fed.applied)
        } else {
            let now = probe.position().await.ok()?;
            Some((now.lineage, now.applied))
        }
    };
    let (lineage, _) = has().await.ok_or(Stop)?;
    c.same("it is still on the fenced history", &lineage, &receipt.target.lineage);
    if let Some(end) = receipt.end {
        c.until("the standby gets everything", || async { has().await.filter(|(_, applied)| applied.reaches(&end)) })
            .await?;
    }
    Ok(())
}

async fn engage_lost(c: &Case) -> Result<(), Stop> {
    let (fence, request) = (c.fence()?, c.engage_request().await?);
    c.act(Power::LoseReply(Verb::Engage)).await?;
    let outcome = fence.engage(request).await;
    c.holds("without a reply nobody knows", matches!(outcome, Outcome::Unknown(_)), &outcome);
    let promised = fence.promises().grade();
    let look = || async { fence.inspect().await.ok().filter(|reading| reading.grade() >= promised) };
    c.until("a look finds the fence", look).await?;
    shut(c).await
}

async fn lifted(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    c.act(Power::LiftFence).await?;
    let fence = c.fence()?;
    let look = || async { fence.inspect().await.ok().filter(|reading| reading.grade() < receipt.grade()) };
    let reading = c.until("the fence is seen to be lifted", look).await?;
    c.same("it is worth nothing", &reading.grade(), &Grade::Unconfirmable);
    c.holds("it does not call the member silent", !reading.silent, &reading.detail);
    Ok(())
}

/// A fence that nobody engaged is worth nothing, whatever can be asked.
async fn worthless(c: &Case) -> Result<(), Stop> {
    match c.fence()?.inspect().await {
        Ok(reading) => c.same("nothing is worth nothing", &reading.grade(), &Grade::Unconfirmable),
        Err(error) => c.holds("a fence that cannot be asked is an error", true, &error),
    }
    Ok(())
}

async fn dark(c: &Case) -> Result<(), Stop> {
    c.act(Power::DarkManagement).await?;
    worthless(c).await
}

async fn dead(c: &Case) -> Result<(), Stop> {
    c.act(Power::BreakPrimary).await?;
    match c.fence()?.inspect().await {
        Ok(reading) => {
            c.holds("a death is no fence that could be relied upon", reading.grade() < Grade::Enforced, &reading)
        }
        Err(error) => c.holds("a fence that cannot be asked is an error", true, &error),
    }
    Ok(())
}

async fn looks(c: &Case) -> Result<(), Stop> {
    let changes = if c.sees(Sight::Changes) { c.see(Sight::Changes).await? } else { 0 };
    for _ in 0..3_u8 {
        open(c).await?;
    }
    let now = if c.sees(Sight::Changes) { c.see(Sight::Changes).await? } else { 0 };
    c.same("looking changed nothing", &now, &changes);
    Ok(())
}

async fn speaks_of(c: &Case) -> Result<(), Stop> {
    let reading = c.ok("the fence is looked at", c.fence()?.inspect().await)?;
    let seat = &c.pair.primary;
    let mine = reading.address.as_ref().is_none_or(|address| *address == seat.address);
    c.holds("it speaks of its member", mine, &reading.address);
    let lineage = c.target(Side::Primary).await?.lineage;
    c.same("and of its history", &reading.lineage.clone().unwrap_or_else(|| lineage.clone()), &lineage);
    c.holds("the answer does not come from the future", reading.at <= c.clock().now_wall(), &reading.at);
    c.holds("everything could be read", reading.unread.is_empty(), &reading.unread);
    c.same("a running history has no end", &reading.end, &None);
    Ok(())
}

async fn end(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    for _ in 0..3_u8 {
        c.settle_view().await;
        let now = c.ok("the fence is looked at again", c.fence()?.inspect().await)?;
        c.same("the end does not move", &now.end, &receipt.end);
        c.same(
            "the history is the fenced one",
            &now.lineage.unwrap_or_else(|| receipt.target.lineage.clone()),
            &receipt.target.lineage,
        );
    }
    Ok(())
}

async fn tells_end(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    c.holds("only a stopped server has an end", receipt.end.is_none() || receipt.silent, &receipt);
    Ok(())
}

async fn releases(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    let fence = c.fence()?;
    let outcome = fence.release(c.release_order(&receipt, receipt.target.clone())).await;
    c.holds("the order is followed", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
    let probe = &c.pair.primary.provider.probe;
    let look = || async { probe.write().await.ok().filter(|probe| probe.accepted == Tri::Yes) };
    let written = c.until("the member writes again", look).await?;
    c.same("on the same history", &written.lineage.as_ref(), &Some(&receipt.target.lineage));
    open(c).await
}

async fn releases_twice(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    let fence = c.fence()?;
    for words in ["the first order is followed", "the second one is no change"] {
        let outcome = fence.release(c.release_order(&receipt, receipt.target.clone())).await;
        c.holds(words, matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
    }
    let probe = &c.pair.primary.provider.probe;
    let look = || async { probe.write().await.ok().filter(|probe| probe.accepted == Tri::Yes) };
    c.until("the member writes", look).await?;
    open(c).await
}

async fn releases_others(c: &Case) -> Result<(), Stop> {
    let other = c.target(Side::Standby).await?;
    let receipt = c.engage().await?;
    let outcome = c.fence()?.release(c.release_order(&receipt, other)).await;
    let refused = matches!(outcome, Outcome::Conflict(_) | Outcome::NotDone(_));
    c.holds("an order for another member is not followed", refused, &outcome);
    shut(c).await
}

async fn retires_not(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    let retire = RetireFence { target: receipt.target, token: receipt.token, key: c.key("retire") };
    let outcome = c.fence()?.retire(retire).await;
    let refused = matches!(outcome, Outcome::Conflict(_) | Outcome::NotDone(_));
    c.holds("a member that is no standby keeps its fence", refused, &outcome);
    shut(c).await
}

async fn retires(c: &Case) -> Result<(), Stop> {
    let Some(receipt) = c.hand_over().await? else { return Err(Stop) };
    let old = c.pair.primary.provider.database.as_ref();
    let request = c.rejoin_request(receipt.target.lineage.clone(), false).await?;
    let outcome = old.rejoin(request).await;
    c.finish(old, outcome).await?;
    let look = || async { old.replication().await.ok().filter(|reading| reading.streaming == Tri::Yes) };
    c.until("the member follows the new primary", look).await?;
    let lineage = c.target(Side::Standby).await?.lineage;
    let fence = c.fence()?;
    let stale = RetireFence { target: receipt.target.clone(), token: receipt.token.clone(), key: c.key("retire") };
    let outcome = fence.retire(stale).await;
    c.holds("a standby of another history is a conflict", matches!(outcome, Outcome::Conflict(_)), &outcome);
    let target = Target { lineage, ..receipt.target };
    let retire = RetireFence { target, token: receipt.token, key: c.key("retire") };
    c.same("a standby needs no fence", &fence.retire(retire).await, &Outcome::Done(()));
    let reading = c.ok("it streams on", old.replication().await)?;
    c.same("retiring does not stop the stream", &reading.streaming, &Tri::Yes);
    Ok(())
}

/// The fence that travelled, and the request to clear the new writer of it.
async fn travelled(c: &Case) -> Result<ClearFence, Stop> {
    let Some(receipt) = c.hand_over_uncleared().await? else { return Err(Stop) };
    c.clear_request(&receipt).await
}

async fn leaves_open(c: &Case) -> Result<(), Stop> {
    c.hand_over_uncleared().await?;
    let wanted = u64::from(!c.fence()?.travels());
    c.settle_view().await;
    c.same(
        "the new writer lets applications in unless the fence travels",
        &c.see(Sight::Commits(Side::Standby)).await?,
        &wanted,
    );
    Ok(())
}

async fn carries(c: &Case) -> Result<(), Stop> {
    let fence = c.far_fence()?;
    c.same("nothing is carried before", &c.ok("the standby is asked", fence.carried().await)?, &Vec::new());
    travelled(c).await?;
    c.same("the new writer keeps its applications out", &c.see(Sight::Commits(Side::Standby)).await?, &0);
    let left = c.ok("the new writer is asked", fence.carried().await)?;
    c.holds("and says why", left.iter().any(|word| !word.trim().is_empty()), &left);
    Ok(())
}

async fn clears(c: &Case) -> Result<(), Stop> {
    let (request, fence) = (travelled(c).await?, c.far_fence()?);
    c.same("the new writer is cleared", &fence.clear(request).await, &Outcome::Done(()));
    c.same("nothing is left", &c.ok("the new writer is asked", fence.carried().await)?, &Vec::new());
    c.same("its applications are let in", &c.see(Sight::Commits(Side::Standby)).await?, &1);
    Ok(())
}

async fn clears_twice(c: &Case) -> Result<(), Stop> {
    let (request, fence) = (travelled(c).await?, c.far_fence()?);
    for words in ["the first request is followed", "the second one is no change"] {
        c.same(words, &fence.clear(request.clone()).await, &Outcome::Done(()));
    }
    c.same("nothing is left", &c.ok("the new writer is asked", fence.carried().await)?, &Vec::new());
    Ok(())
}

async fn clears_not(c: &Case) -> Result<(), Stop> {
    let receipt = c.engage().await?;
    let (target, was) = (receipt.target.clone(), receipt.target.lineage.clone());
    let request = ClearFence { target, was, token: Some(receipt.token), key: c.key("clear") };
    let outcome = c.fence()?.clear(request.clone()).await;
    let refused = matches!(outcome, Outcome::Conflict(_) | Outcome::NotDone(_));
    c.holds("the member that was fenced is not cleared", refused, &outcome);
    let request = ClearFence { target: c.target(Side::Standby).await?, ..request };
    let outcome = c.far_fence()?.clear(request).await;
    let refused = matches!(outcome, Outcome::Conflict(_) | Outcome::NotDone(_));
    c.holds("nor is a standby that was not promoted", refused, &outcome);
    shut(c).await
}

async fn clear_lost(c: &Case) -> Result<(), Stop> {
    let (request, fence) = (travelled(c).await?, c.far_fence()?);
    c.act(Power::LoseReply(Verb::Clear)).await?;
    let outcome = fence.clear(request).await;
    c.holds("without a reply nobody knows", matches!(outcome, Outcome::Unknown(_)), &outcome);
    let look = || async { fence.carried().await.ok().filter(Vec::is_empty) };
    c.until("a look finds the effect", look).await.map(drop)
}

async fn manual(c: &Case) -> Result<(), Stop> {
    let travels = c.fence()?.travels();
    for verb in ["engage", "release", "clear"].into_iter().filter(|verb| *verb != "clear" || travels) {
        let commands = c.fence()?.manual(verb);
        c.holds("the verb has a command", !commands.is_empty(), &verb);
        c.holds("no entry is empty", commands.iter().all(|line| !line.trim().is_empty()), &commands);
    }
    Ok(())
}
