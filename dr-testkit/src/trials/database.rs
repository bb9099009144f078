//! What a management plane says: capabilities, descriptions, replication, rehearsals.

use dr_core::{
    Outcome, ProviderError, Tri,
    contract::{Becomes, Description, Effort, OpHandle, OpProgress, RehearseMember, ReplicationLink, Retry, Weight},
};

use super::{
    Case, Contract,
    Need::{Lacks, Offer as Offers, Part as Has, Power as Can, Sight as Sees},
    Offer, Part, Power, Side, Sight, Stop,
    probe::still,
    trials,
};

trials! { Contract::ManagedDatabase;
    AsItWas paces "capabilities::say_how_often_to_look"
        shows "How often a running operation or a wait may be looked at." needs [];
    AsItWas no_promote "capabilities::promote_is_refused_where_it_is_not_offered"
        shows "answer \"not offered\" unless a backend writes them" needs [Lacks(Offer::Promote)];
    AsItWas no_swap "capabilities::swap_is_refused_where_it_is_not_offered"
        shows "answer \"not offered\" unless a backend writes them" needs [Lacks(Offer::Swap), Has(Part::Physical)];
    AsItWas no_snapshot "capabilities::snapshot_is_refused_where_it_is_not_offered"
        shows "answer \"not offered\" unless a backend writes them" needs [Lacks(Offer::Snapshot)];
    AsItWas edges "describe::tells_a_primary_from_a_standby"
        shows "tells a primary from a standby by its edge `follows`" needs [];
    AsItWas identity "describe::names_the_resource_that_was_opened"
        shows "Where it is found, as the group file and the edges of other members call it." needs [];
    Changed anew "describe::a_resource_made_anew_is_another_one"
        shows "a resource that was deleted and made again under the same address tells another one" needs [Can(Power::MakeAnew)];
    AsItWas lineage "describe::both_sides_carry_one_history"
        shows "The history it carries, if the provider tells." needs [Has(Part::Physical)];
    AsItWas writable "describe::says_who_accepts_writes"
        shows "Whether it accepts writes. The management view never says yes by silence." needs [];
    AsItWas people "describe::says_what_people_need"
        shows "Where applications connect." needs [];
    AsItWas fresh "describe::says_when_it_was_true"
        shows "When this was true." needs [];
    Changed by_hand "describe::sees_a_promotion_by_hand"
        shows "Facts about this member." needs [Can(Power::PromoteByHand)];
    Changed stale "describe::an_old_role_has_an_old_time"
        shows "When this was true." needs [Offers(Offer::HandOver)];
    Changed broken "describe::a_dead_server_is_not_writable"
        shows "The management view never says yes by silence." needs [Can(Power::BreakPrimary)];
    AsItWas missing "describe::a_missing_resource_is_refused"
        shows "a missing resource is [`ProviderError::Missing`], and no other answer is" needs [Has(Part::Missing)];
    Changed strange "describe::an_unknown_word_is_strange"
        shows "a word that is not understood is [`ProviderError::Strange`], never a default" needs [Can(Power::StrangeWord)];
    Changed unreachable "describe::silence_is_not_absence"
        shows "The provider could not be reached or did not answer in time." needs [Can(Power::DarkManagement)];
    AsItWas streams "replication::a_healthy_standby_streams"
        shows "How far this member is as a standby." needs [];
    AsItWas primary_streams_not "replication::a_primary_does_not_stream"
        shows "on a primary, `streaming` is `No`" needs [];
    Changed stalled "replication::a_cut_stream_has_no_lag"
        shows "a stalled or detached stream is never lag zero" needs [Can(Power::CutReplication)];
    AsItWas applies "replication::applies_what_is_written"
        shows "Applied: what a promotion right now would have." needs [Can(Power::Write), Has(Part::Told)];
    Changed of_the_source "replication::a_copy_tells_positions_of_its_source"
        shows "of a logical copy, the lineage and the positions are its source's, and never its own" needs [Has(Part::Copy)];
    AsItWas lost_handle "poll::an_unknown_handle_is_lost"
        shows "The handle is not known, or the answer is not understood: keep looking, never \"done\"." needs [];
    AsItWas rehearses "rehearse::a_healthy_pair_has_no_obstacle"
        shows "Changes nothing that an application could notice." needs [];
    Changed obstacle "rehearse::a_standby_that_refuses_applications_is_an_obstacle"
        shows "what would make applications unable to write, or a rejoin impossible, is an [`Obstacle`](crate::contract::Obstacle)"
        needs [Can(Power::RefuseApplications)];
    Changed untried "rehearse::a_silent_primary_is_named_as_untried"
        shows "what could not be tried is named, never taken for granted" needs [Can(Power::BreakPrimary)];
    AsItWas looks_only "describe::looking_changes_nothing"
        shows "How far this member is as a standby." needs [Sees(Sight::Changes)];
    AsItWas known "known_endpoint::is_the_one_that_is_told"
        shows "it is the endpoint that [`describe`](Self::describe) tells, or none" needs [];
    AsItWas manual "manual::names_commands"
        shows "What a person would type to do `verb` on this member without us, one command a line." needs [];
}

async fn paces(c: &Case) -> Result<(), Stop> {
    let of = |side| async move { c.pair.seat(side).provider.database.capabilities().await };
    let standby = c.ok("the standby says what is offered", of(Side::Standby).await)?;
    let primary = c.ok("the primary says what is offered", of(Side::Primary).await)?;
    c.holds("a pause between looks is named", standby.poll_every.count() > 0, &standby.poll_every);
    c.holds("how long a read may lag is named", standby.visibility.count() > 0, &standby.visibility);
    c.same("both members of a pair offer the same promotion", &primary.promote, &standby.promote);
    c.same("both members of a pair offer the same swap", &primary.swap, &standby.swap);
    let promote = standby.promote.as_ref().map(|offer| offer.takes);
    let (swap, forced) = (standby.swap.as_ref(), standby.forced_swap.as_ref());
    let takes = [promote, swap.map(|offer| offer.takes), forced.map(|offer| offer.takes)];
    let snapshot = standby.snapshot.map(|offer| offer.takes);
    let named = takes.iter().chain([&snapshot]).flatten().all(|takes| takes.count() > 0);
    c.holds("every offer names how long it takes", named, &(takes, snapshot));
    let moves = swap.map(|offer| offer.moves.clone()).unwrap_or_default();
    let once = moves.iter().collect::<std::collections::BTreeSet<_>>().len() == moves.len();
    c.holds("a swap names each thing that it moves once", once, &moves);
    let again = c.ok("asked again, it says it again", of(Side::Standby).await)?;
    c.same("what is offered does not change by asking", &again, &standby);
    Ok(())
}

/// A verb that is not offered is refused for ever, and nothing happens.
async fn refused(c: &Case, outcome: Outcome<()>) -> Result<(), Stop> {
    let for_ever = matches!(&outcome, Outcome::NotDone(reason) if reason.retry == Retry::Never);
    c.holds("the verb is refused, and asking again is useless", for_ever, &outcome);
    let told = c.described(Side::Standby).await?;
    c.holds("the standby is still a standby", told.follows.is_some(), &told.follows);
    Ok(())
}

async fn no_promote(c: &Case) -> Result<(), Stop> {
    let request = c.promotion(Side::Standby).await?;
    refused(c, c.pair.standby.provider.database.promote(request).await).await
}

async fn no_swap(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    // The proof needs a quiet primary; where sessions stay open there is no such request, and nothing to refuse.
    let sessions = c.ok("the primary counts its sessions", c.pair.primary.provider.probe.writing_sessions().await)?;
    if sessions.all() == 0 {
        let request = c.swap().await?;
        refused(c, c.pair.standby.provider.database.swap_roles(request).await).await?;
    }
    c.resume(Side::Primary).await
}

async fn no_snapshot(c: &Case) -> Result<(), Stop> {
    let request = dr_core::contract::SnapshotRequest {
        target: c.target(Side::Primary).await?,
        name: "trial".into(),
        key: c.key("snapshot"),
    };
    refused(c, c.pair.primary.provider.database.snapshot(request).await).await
}

/// Whether a link's other end is this member.
fn leads_to(link: &ReplicationLink, member: &Description) -> bool {
    link.peer.means(&member.address, Some(&member.endpoint))
}

/// Whether one member follows the other.
pub(super) fn follows(member: &Description, other: &Description) -> bool {
    member.follows.as_ref().is_some_and(|link| leads_to(link, other))
}

async fn edges(c: &Case) -> Result<(), Stop> {
    let (primary, standby) = (c.described(Side::Primary).await?, c.described(Side::Standby).await?);
    c.same("the primary follows nobody", &primary.follows, &None);
    c.holds("the standby follows the primary", follows(&standby, &primary), &standby.follows);
    c.holds(
        "the primary lists the standby",
        primary.followers.iter().any(|link| leads_to(link, &standby)),
        &primary.followers,
    );
    c.holds("nobody follows the standby", standby.followers.is_empty(), &standby.followers);
    Ok(())
}

async fn identity(c: &Case) -> Result<(), Stop> {
    let (primary, standby) = (c.described(Side::Primary).await?, c.described(Side::Standby).await?);
    c.same("the primary is what was opened", &primary.address, &c.pair.primary.address);
    c.same("the standby is what was opened", &standby.address, &c.pair.standby.address);
    c.holds("the two are not one", primary.address != standby.address, &primary.address);
    let again = c.described(Side::Primary).await?;
    c.same("asked again, it is the same", &again.identity, &primary.identity);
    Ok(())
}

async fn anew(c: &Case) -> Result<(), Stop> {
    let before = c.described(Side::Standby).await?;
    c.act(Power::MakeAnew).await?;
    c.settle_view().await;
    let after = c.described(Side::Standby).await?;
    c.same("the address is the same", &after.address, &before.address);
    c.holds("the identity is told", after.identity.is_some(), &after.identity);
    c.holds("and is another one", after.identity != before.identity, &(before.identity, after.identity.clone()));
    Ok(())
}

async fn lineage(c: &Case) -> Result<(), Stop> {
    let (primary, standby) = (c.described(Side::Primary).await?, c.described(Side::Standby).await?);
    if let (Some(one), Some(other)) = (&primary.lineage, &standby.lineage) {
        c.same("the standby carries the primary's history", other, one);
    }
    let inside = c.target(Side::Primary).await?.lineage;
    let told = primary.lineage.unwrap_or_else(|| inside.clone());
    c.same("management and database name one history", &told, &inside);
    Ok(())
}

async fn writable(c: &Case) -> Result<(), Stop> {
    let (primary, standby) = (c.described(Side::Primary).await?, c.described(Side::Standby).await?);
    c.same("the primary accepts writes", &primary.writable, &Tri::Yes);
    c.same("the standby does not", &standby.writable, &Tri::No);
    c.same("the primary is healthy", &primary.healthy, &Tri::Yes);
    c.same("the standby is healthy", &standby.healthy, &Tri::Yes);
    Ok(())
}

async fn people(c: &Case) -> Result<(), Stop> {
    let (primary, standby) = (c.described(Side::Primary).await?, c.described(Side::Standby).await?);
    c.holds("the endpoint is named", !primary.endpoint.as_str().is_empty(), &primary.endpoint);
    c.holds("each side has its own endpoint", primary.endpoint != standby.endpoint, &primary.endpoint);
    c.holds(
        "the version begins with a number",
        primary.version.starts_with(|c: char| c.is_ascii_digit()),
        &primary.version,
    );
    c.holds("the state has a word", !primary.status.is_empty(), &primary.status);
    c.same("nothing is going on", &primary.busy, &None);
    Ok(())
}

async fn fresh(c: &Case) -> Result<(), Stop> {
    let first = c.described(Side::Primary).await?.at;
    c.settle_view().await;
    let second = c.described(Side::Primary).await?.at;
    let now = c.clock().now_wall();
    c.holds("the answer does not come from the future", second <= now, &(second, now));
    c.holds("a later look is newer", second > first, &(first, second));
    Ok(())
}

async fn by_hand(c: &Case) -> Result<(), Stop> {
    c.act(Power::PromoteByHand).await?;
    let database = &c.pair.standby.provider.database;
    let told = c
        .until("the promoted member follows nobody", || async {
            database.describe().await.ok().filter(|told| told.follows.is_none())
        })
        .await?;
    c.holds("it does not deny that it accepts writes", told.writable != Tri::No, &told.writable);
    Ok(())
}

async fn stale(c: &Case) -> Result<(), Stop> {
    let before = c.described(Side::Standby).await?;
    c.holds("before, it follows", before.follows.is_some(), &before.follows);
    c.hand_over().await?;
    let seen = c.left("the database has left recovery").await?;
    c.settle_view().await;
    let told = c.described(Side::Standby).await?;
    let honest = told.follows.is_none() || told.at < seen;
    c.holds("an answer that is newer than the change tells the change", honest, &(told.at, seen, &told.follows));
    let database = &c.pair.standby.provider.database;
    let look = || async { database.describe().await.ok().filter(|told| told.follows.is_none()) };
    c.until("the new role is told in the end", look).await.map(drop)
}

async fn broken(c: &Case) -> Result<(), Stop> {
    c.act(Power::BreakPrimary).await?;
    c.settle_view().await;
    match c.pair.primary.provider.database.describe().await {
        Ok(told) => {
            c.holds("a dead server does not accept writes", told.writable != Tri::Yes, &told.writable);
            c.holds("a dead server is not healthy", told.healthy != Tri::Yes, &told.healthy);
        }
        Err(error) => c.holds("a dead server may be unreachable", not_absent(&error), &error),
    }
    Ok(())
}

const fn not_absent(error: &ProviderError) -> bool {
    match error {
        ProviderError::Unreachable { .. } | ProviderError::Throttled { .. } | ProviderError::Strange { .. } => true,
        ProviderError::Refused { .. } | ProviderError::Missing { .. } | ProviderError::Unsupported { .. } => false,
    }
}

async fn missing(c: &Case) -> Result<(), Stop> {
    let Some(nobody) = c.pair.missing.clone() else { return Err(Stop) };
    let told = nobody.describe().await;
    c.holds("a missing resource is told as missing", matches!(told, Err(ProviderError::Missing { .. })), &told);
    let told = nobody.replication().await;
    c.holds("it does not stream either", matches!(told, Err(ProviderError::Missing { .. })), &told);
    Ok(())
}

async fn strange(c: &Case) -> Result<(), Stop> {
    c.act(Power::StrangeWord).await?;
    let told = c.pair.primary.provider.database.describe().await;
    c.holds("the word is told as strange", matches!(told, Err(ProviderError::Strange { .. })), &told);
    Ok(())
}

async fn unreachable(c: &Case) -> Result<(), Stop> {
    c.act(Power::DarkManagement).await?;
    let told = c.pair.primary.provider.database.describe().await;
    let silent = matches!(&told, Err(error) if not_absent(error));
    c.holds("silence is told as silence", silent, &told);
    let again = matches!(&told, Err(error) if error.retry() != Retry::Never);
    c.holds("asking again may help", again, &told);
    Ok(())
}

async fn streams(c: &Case) -> Result<(), Stop> {
    let database = &c.pair.standby.provider.database;
    let reading = c
        .until("the standby streams and says how far it is behind", || async {
            database.replication().await.ok().filter(|reading| reading.streaming == Tri::Yes && reading.lag.is_some())
        })
        .await?;
    if let (Some(received), Some(applied)) = (&reading.received, &reading.applied) {
        c.holds("nothing is applied that was not received", received.reaches(applied), &(received, applied));
    }
    let standby = c.target(Side::Standby).await?;
    let told = reading.lineage.unwrap_or_else(|| standby.holds().clone());
    c.same("it receives the history that it holds", &told, standby.holds());
    c.holds("the answer does not come from the future", reading.at <= c.clock().now_wall(), &reading.at);
    Ok(())
}

async fn primary_streams_not(c: &Case) -> Result<(), Stop> {
    let reading = c.ok("the primary answers", c.pair.primary.provider.database.replication().await)?;
    c.same("a primary does not stream", &reading.streaming, &Tri::No);
    c.same("a primary is behind nobody", &reading.lag, &None);
    Ok(())
}

async fn stalled(c: &Case) -> Result<(), Stop> {
    c.act(Power::CutReplication).await?;
    let database = &c.pair.standby.provider.database;
    let reading = c
        .until("a cut stream does not stream", || async {
            database.replication().await.ok().filter(|reading| reading.streaming != Tri::Yes)
        })
        .await?;
    c.same("its lag is unknown, not zero", &reading.lag, &None);
    let told = c.described(Side::Standby).await?;
    c.same("a standby without a stream accepts no writes", &told.writable, &Tri::No);
    Ok(())
}

async fn applies(c: &Case) -> Result<(), Stop> {
    let database = &c.pair.standby.provider.database;
    let before = c.ok("the standby answers", database.replication().await)?.applied;
    let before = c.some("it says what it applied", before)?;
    c.act(Power::Write).await?;
    let there = c.ok("the primary says where it is", c.pair.primary.provider.probe.position().await)?.durable;
    let after = c
        .until("the standby applies what was written", || async {
            let applied = database.replication().await.ok()?.applied?;
            applied.reaches(&there).then_some(applied)
        })
        .await?;
    c.holds("it is further than before", after.reaches(&before) && after != before, &(before, after.clone()));
    Ok(())
}

async fn lost_handle(c: &Case) -> Result<(), Stop> {
    let never_given = c.ok("a handle is a word", OpHandle::new("a-handle-that-nobody-gave"))?;
    let told = c.pair.standby.provider.database.poll(&never_given).await;
    let lost = matches!(told, Ok(OpProgress::Lost { .. }) | Err(_));
    c.holds("an unknown handle is lost or an error", lost, &told);
    let told = c.described(Side::Standby).await?;
    c.holds("asking for it changes nothing", told.follows.is_some(), &told.follows);
    Ok(())
}

fn writer(c: &Case, effort: Effort) -> RehearseMember {
    RehearseMember { becomes: Becomes::Writer { instead_of: c.pair.primary.member.clone() }, effort }
}

async fn rehearses(c: &Case) -> Result<(), Stop> {
    for effort in [Effort::Look, Effort::Try] {
        let found = c.pair.standby.provider.database.rehearse(&writer(c, effort)).await;
        let found = c.ok("the candidate rehearses", found)?;
        c.holds("nothing speaks against a healthy candidate", found.obstacles.is_empty(), &found.obstacles);
        let becomes = Becomes::Standby { of: c.pair.standby.member.clone() };
        let found = c.pair.primary.provider.database.rehearse(&RehearseMember { becomes, effort }).await;
        let found = c.ok("the old primary rehearses", found)?;
        let always = found.obstacles.iter().any(|obstacle| obstacle.weight == Weight::Always);
        c.holds("nothing forbids its coming back", !always, &found.obstacles);
    }
    let (told, probe) = (c.described(Side::Standby).await?, c.pair.primary.provider.probe.write().await);
    c.holds("the standby is still one", told.follows.is_some(), &told.follows);
    c.same("the primary still takes writes", &c.ok("the primary is tried", probe)?.accepted, &Tri::Yes);
    Ok(())
}

async fn obstacle(c: &Case) -> Result<(), Stop> {
    c.act(Power::RefuseApplications).await?;
    let found = c.pair.standby.provider.database.rehearse(&writer(c, Effort::Look)).await;
    let found = c.ok("the candidate rehearses", found)?;
    let always = found.obstacles.iter().find(|obstacle| obstacle.weight == Weight::Always);
    let always = c.some("a standby that no application can use is an obstacle to every change", always)?;
    c.holds("the obstacle says what helps", !always.helps.is_empty(), always);
    Ok(())
}

async fn untried(c: &Case) -> Result<(), Stop> {
    c.act(Power::BreakPrimary).await?;
    match c.pair.standby.provider.database.rehearse(&writer(c, Effort::Look)).await {
        Ok(found) => c.holds("what a silent primary cannot tell is named", !found.untried.is_empty(), &found),
        Err(error) => c.holds("or nothing is known", not_absent(&error), &error),
    }
    Ok(())
}

async fn looks_only(c: &Case) -> Result<(), Stop> {
    let before = c.see(Sight::Changes).await?;
    for side in [Side::Primary, Side::Standby] {
        c.described(side).await?;
        let database = &c.pair.seat(side).provider.database;
        c.ok("replication is told", database.replication().await)?;
        c.ok("the offers are told", database.capabilities().await)?;
        c.ok("a rehearsal is told", database.rehearse(&writer(c, Effort::Look)).await)?;
    }
    c.same("looking changed nothing", &c.see(Sight::Changes).await?, &before);
    Ok(())
}

async fn manual(c: &Case) -> Result<(), Stop> {
    let verb = if c.offers_verb(Offer::Promote) { "promote" } else { "swap-roles" };
    let commands = c.pair.standby.provider.database.manual(verb);
    c.holds("the verb that moves the primary has a command", !commands.is_empty(), &commands);
    let whole = commands.iter().all(|line| !line.trim().is_empty() && !line.contains('\n'));
    c.holds("each entry is one line", whole, &commands);
    Ok(())
}

/// A logical copy has what its source wrote, by the source's positions, and a history of its own beside that.
async fn of_the_source(c: &Case) -> Result<(), Stop> {
    still(c).await?;
    let [old, new] = [&c.pair.primary.provider.probe, &c.pair.standby.provider.probe];
    let source = c.ok("the source says where it is", old.position().await)?;
    let own = c.ok("the copy says where it is", new.position().await)?;
    c.holds("the copy is another system", own.lineage.system != source.lineage.system, &own.lineage);
    let told = c.ok("the copy says what it is fed", c.pair.standby.provider.database.replication().await)?;
    c.same("it is fed from its source's history", &told.lineage.as_ref(), &Some(&source.lineage));
    let look = || async {
        let told = c.pair.standby.provider.database.replication().await.ok()?;
        told.applied.filter(|applied| applied.reaches(&source.durable))
    };
    c.until("it has everything, by positions of its source", look).await?;
    c.resume(Side::Primary).await
}

async fn known(c: &Case) -> Result<(), Stop> {
    for side in [Side::Primary, Side::Standby] {
        let told = c.described(side).await?.endpoint;
        let known = c.pair.seat(side).provider.database.known_endpoint();
        c.holds("what is known is what is told", known.as_ref().is_none_or(|known| *known == told), &(known, told));
    }
    Ok(())
}
