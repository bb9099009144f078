//! Rounds under load: orchestrated and bare in alternating order, read back at the end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dr_core::{
    Grade, ManagedDatabase, Outcome, Tri,
    base::IdempotencyKey,
    contract::{OpProgress, RejoinRequest},
};
use dr_engine::Engine;
use dr_postgres::{
    Member, PostgresDatabase,
    testing::{ClusterOptions, LocalCluster, LossCheck, WriterReport, Writers, bare_switchover},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{Failure, engine, logs};

/// What one round measured.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    orchestrated: Duration,
    bare: Duration,
    floor: Option<Duration>,
    bare_floor: Option<Duration>,
    command: Duration,
}

struct Show {
    cluster: LocalCluster,
    members: [Arc<Member>; 2],
    engine: Engine,
    group: PathBuf,
    writers: Writers,
}

/// Runs the rounds and reads everything back.
pub(crate) async fn run(writers: u16, rounds: u32, direct: bool) -> Result<Value, Failure> {
    eprintln!("starting two PostgreSQL servers{} …", if direct { "" } else { " and a PgBouncer" });
    let mut show = Show::start(writers, direct).await?;
    let mut all = Vec::new();
    let (mut failed, mut fenced, mut rejoined) = (0_u32, 0_u32, 0_u32);
    for number in 0..rounds {
        match show.round(number, direct).await {
            Ok((round, facts)) => {
                fenced += u32::from(facts.fenced);
                rejoined += u32::from(facts.rejoined);
                tell(number, &round);
                all.push(round);
            }
            Err(error) => {
                failed += 1;
                eprintln!("round {:>2}: {}", number + 1, crate::chain(error.as_ref()));
            }
        }
    }
    show.writers.stop().await;
    let report = show.writers.report();
    let writer = show.writer().await?;
    let check = show.writers.check(&show.cluster.app(&show.cluster.nodes[writer])).await?;
    let seen = Seen { rounds, direct, failed, fenced, rejoined };
    Ok(seen.result(&all, &report, &check))
}

/// What is known when the rounds are over.
struct Seen {
    rounds: u32,
    direct: bool,
    failed: u32,
    fenced: u32,
    rejoined: u32,
}

impl Seen {
    fn result(&self, all: &[Round], report: &WriterReport, check: &LossCheck) -> Value {
        let Self { rounds, direct, failed, fenced, rejoined } = *self;
        let worst = report.errors.iter().max().copied().unwrap_or(0);
        // Every round has two switchovers; a direct client may lose the one write that is in flight in each.
        let allowed = if direct { u64::from(rounds) * 2 } else { 0 };
        let limit = if direct { 1.4 } else { 1.25 };
        let ratio = median(all.iter().map(|round| round.orchestrated.as_secs_f64() / round.bare.as_secs_f64()));
        let good = failed == 0 && check.lost == 0 && worst <= allowed && fenced == rounds && rejoined == rounds;
        let outcome = match (good, ratio <= limit) {
            (true, true) => "success",
            (true, false) => "slow",
            (false, _) => "failure",
        };
        let (gaps, bare) = (
            || all.iter().map(|round| round.orchestrated.as_secs_f64()),
            || all.iter().map(|round| round.bare.as_secs_f64()),
        );
        let commands = || all.iter().map(|round| round.command.as_secs_f64());
        let to_floor =
            all.iter().filter_map(|round| Some(round.orchestrated.as_secs_f64() / round.floor?.as_secs_f64()));
        let bare_to_floor =
            all.iter().filter_map(|round| Some(round.bare.as_secs_f64() / round.bare_floor?.as_secs_f64()));
        eprintln!(
            "{outcome}: {} acknowledged writes, {} lost, {} client errors; write gap {} ms, gap ratio {ratio:.2}",
            check.acknowledged,
            check.lost,
            report.error_count(),
            ms(median(gaps()))
        );
        json!({
            "outcome": outcome,
            "rounds": rounds,
            "failed_rounds": failed,
            "writers": report.errors.len(),
            "direct": direct,
            "acknowledged_writes": check.acknowledged,
            "lost_acknowledged_writes": check.lost,
            "unknown_writes_found": check.unknown_present,
            "client_errors": report.error_count(),
            "client_errors_most_for_one_client": worst,
            "first_client_error": report.first_error,
            "old_primary_proven_fenced": fenced,
            "rejoined_and_streaming": rejoined,
            "gap_ms_median": ms(median(gaps())),
            "gap_ms_max": ms(gaps().fold(0.0, f64::max)),
            "bare_gap_ms_median": ms(median(bare())),
            "gap_ratio_median": round3(ratio),
            "gap_to_postgres_own_log_median": round3(median(to_floor)),
            "bare_gap_to_postgres_own_log_median": round3(median(bare_to_floor)),
            "command_ms_median": ms(median(commands())),
            "command_ms_max": ms(commands().fold(0.0, f64::max)),
        })
    }
}

/// What was seen after an orchestrated switchover.
struct Facts {
    fenced: bool,
    rejoined: bool,
}

impl Show {
    async fn start(writers: u16, direct: bool) -> Result<Self, Failure> {
        let cluster = LocalCluster::start(ClusterOptions { pooler: !direct, ..ClusterOptions::default() }).await?;
        let group = cluster.folder().join("group.toml");
        std::fs::write(&group, cluster.group_file())?;
        let engine = engine::open(&cluster.folder().join("journal"), &cluster.folder().join("leases")).await?;
        let targets = match cluster.app_through_pooler() {
            Some(pooler) => vec![pooler],
            None => cluster.nodes.iter().map(|node| cluster.app(node)).collect(),
        };
        let writers = Writers::start(targets, writers).await?;
        Ok(Self { members: cluster.members(), cluster, engine, group, writers })
    }

    async fn writer(&self) -> Result<usize, Failure> {
        for (index, member) in self.members.iter().enumerate() {
            let told = PostgresDatabase::new(Arc::clone(member)).describe().await?;
            if told.writable == Tri::Yes {
                return Ok(index);
            }
        }
        Err("no server takes writes".into())
    }

    async fn round(&mut self, number: u32, direct: bool) -> Result<(Round, Facts), Failure> {
        let mut round = Round::default();
        let orchestrated_first = number.is_multiple_of(2);
        let mut facts = None;
        for turn in [true, false] {
            self.settle().await?;
            if turn == orchestrated_first {
                facts = Some(self.orchestrated(&mut round).await?);
            } else {
                (round.bare, round.bare_floor) = self.bare(direct).await?;
            }
        }
        Ok((round, facts.ok_or("no orchestrated switchover in this round")?))
    }

    /// Lets the servers and the writers run quietly for a moment.
    async fn settle(&self) -> Result<(), Failure> {
        sleep(Duration::from_millis(400)).await;
        self.writers.await_flow(Duration::from_secs(10)).await?;
        self.writers.mark();
        Ok(())
    }

    async fn orchestrated(&self, round: &mut Round) -> Result<Facts, Failure> {
        let old = self.writer().await?;
        let new = 1 - old;
        let plan = engine::plan(&self.engine, &self.group, &self.cluster.nodes[new].name).await?;
        self.writers.mark();
        let switched = engine::start(&self.engine, plan, "approver").await?;
        self.writers.await_flow(Duration::from_secs(10)).await?;
        round.orchestrated = self.writers.gap();
        round.command = switched.took;
        round.floor = self.floor(old, new);
        if !switched.outcome.success() {
            return Err(format!("the run ended with {:?}", switched.outcome).into());
        }
        let debts = &switched.report.follow_ups;
        let (former, writer) = (self.database(old).describe().await?, self.database(new).describe().await?);
        let replication = self.database(old).replication().await?;
        let follows = former.follows(&writer.address, None) && former.lineage == writer.lineage;
        let rejoined = replication.streaming == Tri::Yes && follows && debts.is_empty();
        if !rejoined {
            let (is, lineage, writes) = (&former.status, &former.lineage, &writer.lineage);
            eprintln!("  the former primary is {is} on {lineage:?}, the writer on {writes:?}; {replication:?}");
        }
        for debt in debts {
            let because = debt.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
            eprintln!("  left to do: {}{because}", debt.text);
        }
        let fenced = switched.fence >= Some(Grade::Confirmed);
        Ok(Facts { fenced, rejoined })
    }

    /// What the servers' own logs say of the switchover that just ended.
    fn floor(&self, old: usize, new: usize) -> Option<Duration> {
        let log = |index: usize| self.cluster.nodes[index].server.site().log.as_path();
        logs::floor(log(old), log(new))
    }

    fn database(&self, index: usize) -> PostgresDatabase {
        PostgresDatabase::new(Arc::clone(&self.members[index]))
    }

    /// The bare sequence, and the rejoin of its old primary outside of the measurement.
    async fn bare(&self, direct: bool) -> Result<(Duration, Option<Duration>), Failure> {
        let old = self.writer().await?;
        let new = 1 - old;
        let pooler = if direct { None } else { Some(self.cluster.pgbouncer()?) };
        self.writers.mark();
        bare_switchover(&self.cluster.nodes[old], &self.cluster.nodes[new], pooler.as_ref()).await?;
        self.writers.await_flow(Duration::from_secs(10)).await?;
        let gap = (self.writers.gap(), self.floor(old, new));
        let (former, writer) = (self.database(old).describe().await?, self.database(new).describe().await?);
        let target = self.members[old].bound(former.lineage.ok_or("no lineage")?);
        let primary = self.members[new].bound(writer.lineage.ok_or("no lineage")?);
        let endpoint = self.members[new].endpoint();
        let key = IdempotencyKey::new("bare/rejoin");
        let request = RejoinRequest { target, primary, endpoint, parted_at: None, may_discard: false, key };
        let handle = match self.database(old).rejoin(request).await {
            Outcome::Accepted(handle) => handle,
            other @ (Outcome::Done(()) | Outcome::NotDone(_) | Outcome::Unknown(_) | Outcome::Conflict(_)) => {
                return Err(format!("the bare round's rejoin: {other:?}").into());
            }
        };
        let begun = Instant::now();
        loop {
            match self.database(old).poll(&handle).await? {
                OpProgress::Finished => return Ok(gap),
                OpProgress::Failed { why } => return Err(why.into()),
                OpProgress::Running { .. } | OpProgress::Lost { .. } => {}
            }
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("the bare round's rejoin takes too long".into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn tell(number: u32, round: &Round) {
    let ratio = round.orchestrated.as_secs_f64() / round.bare.as_secs_f64();
    eprintln!(
        "round {:>2}: write gap {:>4} ms, bare sequence {:>4} ms, ratio {ratio:.2}; whole command {:>4} ms",
        number + 1,
        round.orchestrated.as_millis(),
        round.bare.as_millis(),
        round.command.as_millis()
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    match (all.get(all.len() / 2), all.get((all.len().max(1) - 1) / 2)) {
        (Some(upper), Some(lower)) => (upper + lower) / 2.0,
        _ => f64::NAN,
    }
}

fn ms(seconds: f64) -> f64 {
    (seconds * 10_000.0).round() / 10.0
}

fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
