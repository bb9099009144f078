//! What a data plane says.

use dr_core::{
    ProviderError, Tri,
    base::{Int64, SystemId},
    contract::{Position, Query, Retry, Rows, Sequences, Sessions, Table},
    millis, minutes, seconds,
};

use super::{
    Case, Contract,
    Need::{Offer as Offers, Part as Has, Power as Can, Sight as Sees},
    Offer, Part, Power, Side, Sight, Stop, trials,
};

trials! { Contract::DatabaseProbe;
    AsItWas writes "write::a_primary_takes_one"
        shows "Tries one real write that touches nothing of the applications, and says what happened." needs [];
    AsItWas standby_refuses "write::a_standby_refuses"
        shows "a refused write (recovery, read-only) is `accepted: No`" needs [];
    Changed silence "write::no_answer_is_unknown"
        shows "no answer is `accepted: Unknown`" needs [Can(Power::BreakPrimary)];
    AsItWas no_login "write_as_application::without_a_login_it_is_not_offered"
        shows "without a login of an application ([`ApplicationSpec`](crate::contract::ApplicationSpec)): `Unsupported`"
        needs [Has(Part::NoLogin)];
    AsItWas app_writes "write_as_application::an_application_writes"
        shows "Tries one write as an application makes it: its role, its database, its default settings."
        needs [Has(Part::Login)];
    Changed app_refused "write_as_application::a_refusal_has_the_servers_words"
        shows "a refused login or write is `accepted: No` with the server's words"
        needs [Has(Part::Login), Can(Power::RefuseOnPrimary)];
    AsItWas positions "position::says_where_both_sides_are"
        shows "Where the server is." needs [Has(Part::Positions)];
    AsItWas advances "position::advances_with_every_write"
        shows "Durable here: written and flushed on a primary, received and flushed on a standby."
        needs [Can(Power::Write), Has(Part::Positions)];
    Changed parted "position::says_where_histories_parted"
        shows "Where a history left its parent, or why that is not told."
        needs [Offers(Offer::HandOver), Has(Part::Positions)];
    Changed dead "position::a_dead_server_is_an_error"
        shows "The provider could not be reached or did not answer in time." needs [Can(Power::BreakPrimary)];
    AsItWas extensions "extensions::are_listed_with_versions"
        shows "Extensions with their versions (D05)." needs [];
    AsItWas available "extensions::what_is_installed_can_be_used_after_a_promotion"
        shows "Extensions that could be used here after a promotion, with the versions available." needs [];
    Changed long "long_transactions::an_open_one_is_found"
        shows "Transactions older than `limit`, prepared ones included (D04)." needs [Can(Power::OpenTransaction)];
    AsItWas no_long "long_transactions::a_quiet_standby_has_none"
        shows "Transactions older than `limit`, prepared ones included (D04)." needs [];
    Changed sessions "writing_sessions::counts_those_of_others"
        shows "How many sessions of others could write now" needs [Can(Power::OpenSession)];
    Changed busy "writing_sessions::tells_open_transactions_apart"
        shows "those in an open transaction are counted apart from those that are idle" needs [Can(Power::OpenTransaction)];
    AsItWas wrote "writes_since::an_acknowledged_write_is_never_denied"
        shows "`No` is a proof: a write that was acknowledged after the position is never `No`"
        needs [Can(Power::Write), Has(Part::Told)];
    Changed probed "writes_since::our_own_probe_writes_do_not_count"
        shows "a probe write of this toolkit alone is never `Yes`" needs [Has(Part::Told)];
    AsItWas stranger "writes_since::another_system_is_refused"
        shows "a position of another system is refused" needs [Has(Part::Told)];
    Changed sequences "sequences::a_standby_is_never_behind"
        shows "a standby that has everything is never behind its primary, unless it is a logical copy" needs [Has(Part::Physical)];
    Changed sums "checksum::the_same_rows_add_up_to_the_same"
        shows "the same rows add up to the same on a primary and on a standby that has them" needs [Has(Part::Table)];
    AsItWas no_table "checksum::a_missing_table_is_refused"
        shows "a table that is missing or may not be read is refused, never added up to nothing" needs [];
    AsItWas asks "ask::answers_a_question"
        shows "Asks one question." needs [];
    AsItWas warms "warm_up::says_how_long_it_took"
        shows "Runs synthetic reads so that caches and pools are warm (D19); answers how long the slowest of the last ones took."
        needs [];
    Changed lock "group_lock::is_taken_once"
        shows "`Ok(false)` when another holds it; `Unsupported` where the resource has none." needs [Can(Power::RivalLock)];
    AsItWas locks "group_lock::its_holder_keeps_it"
        shows "for as long as this object's connection lives" needs [];
    AsItWas looks_only "position::looking_changes_nothing"
        shows "Where the server is." needs [Sees(Sight::Changes)];
}

async fn writes(c: &Case) -> Result<(), Stop> {
    let probe = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary takes it", &probe.accepted, &Tri::Yes);
    let inside = c.target(Side::Primary).await?.lineage;
    c.same("the history that took it is the primary's", &probe.lineage, &Some(inside));
    c.holds("people are told what happened", !probe.detail.is_empty(), &probe.detail);
    Ok(())
}

async fn standby_refuses(c: &Case) -> Result<(), Stop> {
    let probe = c.ok("the standby is tried", c.pair.standby.provider.probe.write().await)?;
    c.same("the standby takes none", &probe.accepted, &Tri::No);
    c.same("no history took it", &probe.lineage, &None);
    c.holds("the refusal has words", !probe.detail.is_empty(), &probe.detail);
    Ok(())
}

async fn silence(c: &Case) -> Result<(), Stop> {
    c.act(Power::BreakPrimary).await?;
    let probe = c.ok("a write that gets no answer is no error", c.pair.primary.provider.probe.write().await)?;
    c.same("nobody knows whether it was taken", &probe.accepted, &Tri::Unknown);
    c.same("no history is named", &probe.lineage, &None);
    Ok(())
}

async fn no_login(c: &Case) -> Result<(), Stop> {
    let told = c.pair.primary.provider.probe.write_as_application().await;
    c.holds("without a login it is not offered", matches!(told, Err(ProviderError::Unsupported { .. })), &told);
    Ok(())
}

async fn app_writes(c: &Case) -> Result<(), Stop> {
    let probe = c.ok("an application tries", c.pair.primary.provider.probe.write_as_application().await)?;
    c.same("the primary takes it", &probe.accepted, &Tri::Yes);
    let probe = c.ok("an application tries the standby", c.pair.standby.provider.probe.write_as_application().await)?;
    c.same("the standby does not", &probe.accepted, &Tri::No);
    Ok(())
}

async fn app_refused(c: &Case) -> Result<(), Stop> {
    c.act(Power::RefuseOnPrimary).await?;
    let probe = c.ok("an application tries", c.pair.primary.provider.probe.write_as_application().await)?;
    c.same("the refusal is a no", &probe.accepted, &Tri::No);
    c.holds("the server's words are told", !probe.detail.is_empty(), &probe.detail);
    Ok(())
}

async fn positions(c: &Case) -> Result<(), Stop> {
    let here = c.ok("the primary says where it is", c.pair.primary.provider.probe.position().await)?;
    let there = c.ok("the standby says where it is", c.pair.standby.provider.probe.position().await)?;
    c.same("the primary is not in recovery", &here.in_recovery, &Tri::No);
    c.same("the standby is", &there.in_recovery, &Tri::Yes);
    c.same("both carry one history", &there.lineage, &here.lineage);
    c.holds("positions of the two sides compare", here.durable.compare(&there.applied).is_some(), &(&here, &there));
    c.holds("nothing is visible that is not durable", there.durable.reaches(&there.applied), &there);
    c.same("on a primary the two are the same", &here.applied, &here.durable);
    c.holds("the answer does not come from the future", here.at <= c.clock().now_wall(), &here.at);
    Ok(())
}

async fn advances(c: &Case) -> Result<(), Stop> {
    let before = c.ok("the primary says where it is", c.pair.primary.provider.probe.position().await)?.durable;
    c.act(Power::Write).await?;
    let after = c.ok("the primary says where it is now", c.pair.primary.provider.probe.position().await)?.durable;
    c.holds("a write moves the primary on", after.reaches(&before) && after != before, &(&before, &after));
    let probe = &c.pair.standby.provider.probe;
    let look = || async { probe.position().await.ok().filter(|reading| reading.applied.reaches(&after)) };
    c.until("the standby gets there", look).await.map(drop)
}

async fn parted(c: &Case) -> Result<(), Stop> {
    let before = c.ok("the standby says where it is", c.pair.standby.provider.probe.position().await)?;
    c.hand_over().await?;
    let now = c.ok("the new primary says where it is", c.pair.standby.provider.probe.position().await)?;
    let at = c.some("it says where the histories parted", now.parted_at.at().cloned())?;
    c.holds("not before what the standby had", at.reaches(&before.applied), &(&at, &before.applied));
    c.holds("not after where it is", now.durable.reaches(&at), &(&at, &now.durable));
    c.same("it is not in recovery", &now.in_recovery, &Tri::No);
    Ok(())
}

async fn dead(c: &Case) -> Result<(), Stop> {
    c.act(Power::BreakPrimary).await?;
    let told = c.pair.primary.provider.probe.position().await;
    let silent = matches!(&told, Err(ProviderError::Unreachable { .. }));
    c.holds("a dead server is unreachable, not absent", silent, &told);
    let again = matches!(&told, Err(error) if error.retry() != Retry::Never);
    c.holds("asking again may help", again, &told);
    Ok(())
}

async fn extensions(c: &Case) -> Result<(), Stop> {
    let here = c.ok("the primary lists them", c.pair.primary.provider.probe.extensions().await)?;
    let there = c.ok("the standby lists them", c.pair.standby.provider.probe.extensions().await)?;
    c.same("a standby has what its primary has", &there, &here);
    c.holds("each has a version", here.values().all(|version| !version.is_empty()), &here);
    Ok(())
}

async fn available(c: &Case) -> Result<(), Stop> {
    let installed = c.ok("the primary lists them", c.pair.primary.provider.probe.extensions().await)?;
    let usable =
        c.ok("the standby lists what could be used", c.pair.standby.provider.probe.available_extensions().await)?;
    let missing: Vec<&String> = installed
        .iter()
        .filter(|(name, version)| !usable.get(*name).is_some_and(|versions| versions.contains(version)))
        .map(|(name, _)| name)
        .collect();
    c.holds("all that is installed can be used on the standby", missing.is_empty(), &missing);
    Ok(())
}

async fn long(c: &Case) -> Result<(), Stop> {
    c.act(Power::OpenTransaction).await?;
    c.sleep(millis(60)).await;
    let probe = &c.pair.primary.provider.probe;
    let open = c.ok("open transactions are listed", probe.long_transactions(millis(50)).await)?;
    let found = c.some("the open one is found", open.first())?;
    c.holds("it has a name", !found.id.is_empty(), found);
    c.holds("what ends it is named", !found.helps.is_empty(), found);
    c.holds("it is older than the limit", found.age > millis(50), &found.age);
    let older = c.ok("those of days are listed", probe.long_transactions(minutes(60 * 24 * 7)).await)?;
    c.holds("it is not older than a week", older.is_empty(), &older);
    Ok(())
}

async fn no_long(c: &Case) -> Result<(), Stop> {
    let open =
        c.ok("open transactions are listed", c.pair.standby.provider.probe.long_transactions(seconds(60)).await)?;
    c.holds("a quiet standby has none", open.is_empty(), &open);
    Ok(())
}

async fn sessions(c: &Case) -> Result<(), Stop> {
    c.act(Power::OpenSession).await?;
    let here = c.ok("the primary counts", c.pair.primary.provider.probe.writing_sessions().await)?;
    c.holds("the open session is counted", here.all() > 0, &here);
    let there = c.ok("the standby counts", c.pair.standby.provider.probe.writing_sessions().await)?;
    c.same("nobody can write on a standby", &there, &Sessions::default());
    Ok(())
}

async fn busy(c: &Case) -> Result<(), Stop> {
    let probe = &c.pair.primary.provider.probe;
    let before = c.ok("the primary counts", probe.writing_sessions().await)?;
    c.act(Power::OpenTransaction).await?;
    let after = c.ok("the primary counts again", probe.writing_sessions().await)?;
    c.holds("the open transaction is counted", after.in_transaction > before.in_transaction, &after);
    c.holds("it is not counted as idle", after.idle <= before.idle, &after);
    Ok(())
}

/// What a backend offers of a verb; `None` where it says that it does not.
pub(super) fn offered<T>(c: &Case, told: Result<T, ProviderError>) -> Option<Result<T, ProviderError>> {
    match told {
        Err(ProviderError::Unsupported { verb }) => {
            c.holds("what is not offered has a name", !verb.is_empty(), &verb);
            None
        }
        told => Some(told),
    }
}

/// Nobody writes any more, whatever the tier says of itself: what the two sides tell can become equal.
pub(super) async fn still(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    c.sleep(millis(1500)).await;
    Ok(())
}

async fn wrote(c: &Case) -> Result<(), Stop> {
    let probe = &c.pair.primary.provider.probe;
    let before = c.ok("the primary says where it is", probe.position().await)?.durable;
    c.act(Power::Write).await?;
    let Some(told) = offered(c, probe.writes_since(&before).await) else { return Ok(()) };
    let told = c.ok("the primary says whether anybody wrote", told)?;
    c.holds("a write is not denied", told.written != Tri::No, &told);
    c.holds("people are told what was seen", !told.detail.is_empty(), &told);
    Ok(())
}

async fn probed(c: &Case) -> Result<(), Stop> {
    still(c).await?;
    let probe = &c.pair.primary.provider.probe;
    let before = c.ok("the primary says where it is", probe.position().await)?.durable;
    c.ok("the primary is tried", probe.write().await)?;
    if let Some(told) = offered(c, probe.writes_since(&before).await) {
        let told = c.ok("the primary says whether anybody wrote", told)?;
        c.holds("our own write is none", told.written != Tri::Yes, &told);
    }
    c.resume(Side::Primary).await
}

async fn stranger(c: &Case) -> Result<(), Stop> {
    let probe = &c.pair.primary.provider.probe;
    let here = c.ok("the primary says where it is", probe.position().await)?.durable;
    let elsewhere = Position { system: SystemId::new("a-system-of-nobody"), ..here };
    let Some(told) = offered(c, probe.writes_since(&elsewhere).await) else { return Ok(()) };
    c.holds("a position of another system is refused", matches!(told, Err(ProviderError::Refused { .. })), &told);
    Ok(())
}

async fn sequences(c: &Case) -> Result<(), Stop> {
    still(c).await?;
    let Some(here) = offered(c, c.pair.primary.provider.probe.sequences().await) else {
        return c.resume(Side::Primary).await;
    };
    let here = c.ok("the primary tells its sequences", here)?;
    let probe = &c.pair.standby.provider.probe;
    let look = || async { probe.sequences().await.ok().filter(|there| reaches(there, &here)) };
    c.until("the standby tells as much", look).await?;
    c.resume(Side::Primary).await
}

/// Whether one side has every sequence of the other, and none of them behind it.
fn reaches(there: &Sequences, here: &Sequences) -> bool {
    let behind = |(name, last): (&String, &Option<Int64>)| there.values.get(name).is_none_or(|there| there < last);
    !here.values.iter().any(behind)
}

async fn sums(c: &Case) -> Result<(), Stop> {
    still(c).await?;
    let tables: Vec<Table> = c.pair.table.iter().cloned().collect();
    let Some(here) = offered(c, c.pair.primary.provider.probe.checksum(&tables).await) else {
        return c.resume(Side::Primary).await;
    };
    let here = c.ok("the primary adds its table up", here)?;
    c.same("every table is there", &here.len(), &tables.len());
    let probe = &c.pair.standby.provider.probe;
    let look = || async { probe.checksum(&tables).await.ok().filter(|there| *there == here) };
    c.until("the standby adds up to the same", look).await?;
    c.resume(Side::Primary).await
}

async fn no_table(c: &Case) -> Result<(), Stop> {
    let nowhere = [Table::new("a_schema_of_nobody", "a_table_of_nobody")];
    let Some(told) = offered(c, c.pair.primary.provider.probe.checksum(&nowhere).await) else { return Ok(()) };
    c.holds("a missing table is refused", matches!(told, Err(ProviderError::Refused { .. })), &told);
    Ok(())
}

async fn asks(c: &Case) -> Result<(), Stop> {
    let rows = c.ok("the question is answered", c.pair.primary.provider.probe.ask(&c.pair.question).await)?;
    c.same("with one row of one", &rows, &Rows::one(1));
    let standby = c.ok("the standby answers it too", c.pair.standby.provider.probe.ask(&c.pair.question).await)?;
    c.same("with the same", &standby, &rows);
    let nonsense = Query::new("nonsense", "SELECT * FROM a_table_that_no_trial_has");
    let told = c.pair.primary.provider.probe.ask(&nonsense).await;
    c.holds("a question without an answer is an error", told.is_err(), &told);
    Ok(())
}

async fn warms(c: &Case) -> Result<(), Stop> {
    let took = c.ok("the primary warms up", c.pair.primary.provider.probe.warm_up().await)?;
    c.holds("it took less than a minute", took < minutes(1), &took);
    let again = c.ok("it may be repeated", c.pair.standby.provider.probe.warm_up().await)?;
    c.holds("the standby took less than a minute", again < minutes(1), &again);
    Ok(())
}

async fn lock(c: &Case) -> Result<(), Stop> {
    c.act(Power::RivalLock).await?;
    let told = c.pair.primary.provider.probe.group_lock("trial").await;
    c.holds("somebody else holds it", matches!(told, Ok(false) | Err(ProviderError::Unsupported { .. })), &told);
    Ok(())
}

async fn locks(c: &Case) -> Result<(), Stop> {
    for words in ["the free lock is taken", "its holder may ask again"] {
        let told = c.pair.primary.provider.probe.group_lock("trial").await;
        c.holds(words, matches!(told, Ok(true) | Err(ProviderError::Unsupported { .. })), &told);
    }
    Ok(())
}

async fn looks_only(c: &Case) -> Result<(), Stop> {
    let before = c.see(Sight::Changes).await?;
    for side in [Side::Primary, Side::Standby] {
        let probe = &c.pair.seat(side).provider.probe;
        if let Some(told) = offered(c, probe.position().await) {
            c.ok("the position is told", told)?;
        }
        c.ok("the sessions are counted", probe.writing_sessions().await)?;
        c.ok("long transactions are listed", probe.long_transactions(seconds(60)).await)?;
    }
    c.same("looking changed nothing", &c.see(Sight::Changes).await?, &before);
    Ok(())
}
