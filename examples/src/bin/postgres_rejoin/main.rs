//! Calls one verb of the PostgreSQL backend by hand, as a runbook of your own would: `pg1` shall follow `pg2` again.
//!
//! ```text
//! postgres_rejoin GROUP.toml pg1 pg2            data that only pg1 has stays, and then it cannot follow
//! postgres_rejoin GROUP.toml pg1 pg2 discard    such data is destroyed by a rewind or a fresh copy
//! ```
//!
//! It takes no lease, asks nobody and writes no journal. `dr rejoin` does the same with all of these.
#![expect(clippy::print_stdout, reason = "a program that shows something")]

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use dr_core::{
    Backend as _, GroupName, GroupSpec, ManagedDatabase, MemberId, NodeId, Outcome, RunId, Target,
    base::Digest,
    contract::{Description, OpProgress, RejoinRequest},
};
use dr_engine::GroupFile;
use dr_postgres::Postgres;
use tokio::time::{Instant, sleep};

/// Makes one server of a group file a standby of another.
#[derive(Debug, Parser)]
struct Args {
    /// The group file.
    group: PathBuf,
    /// The member that shall follow.
    old: String,
    /// The member that writes.
    new: String,
    /// Whether data that only the old member has may be destroyed.
    #[arg(default_value = "keep")]
    data: Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Data {
    Keep,
    Discard,
}

/// How long the rejoin may take before this program stops to watch it.
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let file = GroupFile::read(&args.group)?;
    let (old, new) = (open(file.spec(), &args.old)?, open(file.spec(), &args.new)?);
    let (was, is) = (old.describe().await, new.describe().await);
    println!("old: {was:?}\nnew: {is:?}");
    let is = is?;
    let primary = target(&args.new, &is).context("the writer tells no lineage")?;
    // A stopped member may tell nothing; its backend compares before it touches anything.
    let known = was.ok().and_then(|seen| target(&args.old, &seen));
    let target = known.unwrap_or_else(|| Target { member: MemberId::new(args.old.as_str()), ..primary.clone() });
    let request = RejoinRequest {
        target,
        primary,
        endpoint: is.endpoint,
        parted_at: None,
        may_discard: args.data == Data::Discard,
        key: RunId::new(GroupName::new("by-hand"), 1).key(&Digest::zero(), &NodeId::new("rejoin")),
    };
    let outcome = old.rejoin(request).await;
    println!("rejoin: {outcome:?}");
    let Outcome::Accepted(handle) = outcome else { return Ok(()) };
    let (begun, mut last) = (Instant::now(), String::new());
    while begun.elapsed() < PATIENCE {
        let progress = old.poll(&handle).await;
        let seen = format!("{progress:?}");
        if seen != last {
            println!("{:.1}s {seen}", begun.elapsed().as_secs_f64());
            last = seen;
        }
        match progress {
            Ok(OpProgress::Finished) => return Ok(()),
            Ok(OpProgress::Failed { why }) => bail!("the rejoin failed: {why}"),
            Ok(OpProgress::Running { .. } | OpProgress::Lost { .. }) | Err(_) => {}
        }
        sleep(Duration::from_millis(200)).await;
    }
    bail!("the rejoin goes on after {} s", PATIENCE.as_secs());
}

fn open(group: &GroupSpec, name: &str) -> Result<std::sync::Arc<dyn ManagedDatabase>> {
    let member = group.member(&MemberId::new(name)).with_context(|| format!("the group has no member `{name}`"))?;
    Ok(Postgres::new().open(group, member)?.database.provider)
}

fn target(name: &str, seen: &Description) -> Option<Target> {
    Some(Target {
        member: MemberId::new(name),
        address: seen.address.clone(),
        identity: seen.identity.clone(),
        lineage: seen.lineage.clone()?,
        receives: None,
    })
}
