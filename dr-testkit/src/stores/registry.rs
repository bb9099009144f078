//! What a registry promises.

use std::sync::Arc;

use dr_core::{
    Actor, GroupName, GroupSpec, Target, Timestamp,
    base::{Digest, ResourceAddress, SystemId},
    contract::{Lineage, PositionSample},
    run::{Closed, DebtId, KeptGroup, LastWriter},
};

use super::{Case, Stop, Trial, holds, run, trials};
use crate::{Setup, SimCloud};

pub(super) const TRIALS: &[Trial] = trials![
    a_group_is_found_as_it_was_kept,
    the_newest_file_of_a_group_counts,
    the_latest_sight_of_a_writer_counts,
    samples_come_in_order_and_per_group,
    samples_are_kept_for_a_day,
    a_notice_is_remembered,
    the_first_word_on_a_debt_counts,
];

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// A group with this gap budget, in seconds: each budget is another digest.
fn spec(c: &Case, name: &str, budget: u64) -> Result<GroupSpec, Stop> {
    let mut spec = SimCloud::new(Setup::pair(name, "neu", "weu"), Arc::clone(&c.runtime)).group()?;
    spec.limits.gap_budget = dr_core::seconds(budget);
    Ok(spec)
}

fn kept(spec: &GroupSpec, file: &str, ms: i64) -> KeptGroup {
    KeptGroup { spec: spec.clone(), file: file.into(), at: at(ms) }
}

async fn a_group_is_found_as_it_was_kept(c: &Case) -> Result<(), Stop> {
    let (five, six) = (spec(c, "orders", 5)?, spec(c, "orders", 6)?);
    c.a.registry.keep_group(&kept(&five, "/etc/dr/five.toml", 5)).await?;
    c.a.registry.keep_group(&kept(&six, "/etc/dr/six.toml", 6)).await?;
    let found = c.b.registry.group(five.digest()?).await?;
    holds!(found == Some(kept(&five, "/etc/dr/five.toml", 5)), "{found:?}");
    let none = c.b.registry.group(Digest::zero()).await?;
    holds!(none.is_none(), "{none:?}");
    Ok(())
}

async fn the_newest_file_of_a_group_counts(c: &Case) -> Result<(), Stop> {
    let (orders, newer, billing) = (spec(c, "orders", 5)?, spec(c, "orders", 6)?, spec(c, "billing", 5)?);
    let keeps = [(&orders, "a", 1), (&billing, "b", 2), (&newer, "c", 3), (&orders, "d", 4)];
    for (spec, file, ms) in keeps {
        c.a.registry.keep_group(&kept(spec, file, ms)).await?;
    }
    let files = c.b.registry.group_files().await?;
    let wanted = [(GroupName::new("billing"), "b".to_owned()), (GroupName::new("orders"), "d".to_owned())];
    holds!(files == wanted, "{files:?}");
    let found = c.b.registry.group(orders.digest()?).await?.map(|kept| kept.file);
    holds!(found.as_deref() == Some("d"), "{found:?}");
    Ok(())
}

fn writer(member: &str, ms: i64) -> LastWriter {
    let lineage = Lineage { system: SystemId::new("s"), generation: 3 };
    let address = ResourceAddress::new(member);
    let target = Target { member: member.into(), address, identity: None, lineage, receives: None };
    LastWriter { target, at: at(ms) }
}

async fn the_latest_sight_of_a_writer_counts(c: &Case) -> Result<(), Stop> {
    let (orders, billing) = (GroupName::new("orders"), GroupName::new("billing"));
    for (store, seen) in [(&c.a, writer("neu", 5)), (&c.b, writer("weu", 9)), (&c.a, writer("neu", 7))] {
        store.registry.saw_writer(&orders, &seen).await?;
    }
    let found = c.b.registry.last_writer(&orders).await?;
    holds!(found == Some(writer("weu", 9)), "{found:?}");
    let none = c.b.registry.last_writer(&billing).await?;
    holds!(none.is_none(), "{none:?}");
    Ok(())
}

fn sample(ms: i64) -> PositionSample {
    PositionSample { primary: None, standby: None, applied: None, lineage: None, lags: Vec::new(), at: at(ms) }
}

async fn times(c: &Case, group: &str, since: i64) -> Result<Vec<i64>, Stop> {
    let found = c.b.registry.samples(&GroupName::new(group), at(since)).await?;
    Ok(found.iter().map(|sample| sample.at.millis()).collect())
}

async fn samples_come_in_order_and_per_group(c: &Case) -> Result<(), Stop> {
    for (group, ms) in [("orders", 1_000), ("orders", 3_000), ("billing", 4_000), ("orders", 2_000)] {
        c.a.registry.keep_sample(&GroupName::new(group), &sample(ms)).await?;
    }
    let (all, later) = (times(c, "orders", 0).await?, times(c, "orders", 2_000).await?);
    holds!(all == [1_000, 2_000, 3_000] && later == [2_000, 3_000], "{all:?}, {later:?}");
    Ok(())
}

async fn samples_are_kept_for_a_day(c: &Case) -> Result<(), Stop> {
    let day = i64::try_from(dr_core::run::SAMPLES_KEPT.count())?;
    for ms in [1_000, 1_000 + day] {
        c.a.registry.keep_sample(&GroupName::new("orders"), &sample(ms)).await?;
    }
    let found = times(c, "orders", 0).await?;
    holds!(found == [1_000, 1_000 + day], "{found:?}");
    Ok(())
}

async fn a_notice_is_remembered(c: &Case) -> Result<(), Stop> {
    holds!(!c.b.registry.was_told("orders-1/parked/7").await?, "it was not told yet");
    for store in [&c.a, &c.b] {
        store.registry.told("orders-1/parked/7", &run(), at(9)).await?;
    }
    holds!(c.b.registry.was_told("orders-1/parked/7").await?, "it was told");
    holds!(!c.b.registry.was_told("orders-1/parked/8").await?, "another one was not");
    Ok(())
}

async fn the_first_word_on_a_debt_counts(c: &Case) -> Result<(), Stop> {
    let word = |debt: &DebtId, who: &str| {
        let (by, reason) = (Actor::local(who), format!("{who} did it"));
        Closed::ByPerson { debt: debt.clone(), by, reason, at: at(9) }
    };
    let (one, two) = (DebtId::new("orders-1/rejoin"), DebtId::new("orders-1/fence"));
    for (store, debt, who) in [(&c.a, &one, "ana"), (&c.b, &one, "ben"), (&c.b, &two, "cem")] {
        store.registry.close_debt(debt, &word(debt, who)).await?;
    }
    let found = c.b.registry.closed_debts().await?;
    holds!(found == [word(&two, "cem"), word(&one, "ana")], "{found:?}");
    Ok(())
}
