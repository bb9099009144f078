//! The kill matrix on real servers: SIGKILL of the orchestrator at every generated position, restarted at once, and again restarted
//! only after the gap budget (until then nobody but the drain guard is there).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use dr_core::{Actor, ManagedDatabase, Millis, NodeId, Tri, run::NodePhase};
use dr_engine::{Engine, Start};
use dr_postgres::{
    Member, PostgresDatabase,
    testing::{ClusterOptions, DirectProber, LocalCluster, Writers},
};
use serde_json::{Value, json};
use tokio::{process::Command, time::sleep};

use crate::{
    Failure,
    crash::{At, Crash, Killing},
    engine,
};

/// The hidden verb of the orchestrator that is killed.
pub(crate) const CHILD_VERB: &str = "__orchestrate";
/// How long a drain may last in the matrix.
const BUDGET: Duration = Duration::from_secs(4);

/// `__orchestrate JOURNAL LEASES GROUP TO POSITION`; `TO` is `-` to resume, `+` to resume and to decide when the run is parked.
/// Prints one JSON object.
pub(crate) async fn child(words: &[String]) -> Result<(), Failure> {
    let [_, _, journal, leases, group, to, position] = words else { return Err("bad words".into()) };
    let at = match position.split_once(':') {
        Some(("record", number)) => At::Record(number.parse()?),
        Some(("call", number)) => At::Call(number.parse()?),
        _ => At::Never,
    };
    let crash = Crash::new(at);
    let builder = engine::builder_with(Path::new(journal), Path::new(leases), Killing::new(crash.clone()));
    let engine = builder.guarded_by(std::env::current_exe()?, []).without_watcher().start().await?;
    let run = if to == "-" || to == "+" {
        let resumed = engine.resume().await?;
        if let Some((run, error)) = resumed.broken.first() {
            return Err(format!("{run}: {}", crate::chain(error)).into());
        }
        match resumed.runs.first() {
            Some(run) => engine.run(run)?,
            None => {
                println!("{}", json!({ "outcome": "nothing to resume" }));
                return Ok(());
            }
        }
    } else {
        let plan = engine::plan(&engine, Path::new(group), to).await?;
        engine
            .start(
                plan,
                Start::by(Actor::local("planner").authenticated("the example", "planner")).because("kill matrix"),
            )
            .await?
    };
    let mut records = run.events(0);
    let watcher = crash.clone();
    let counter = tokio::spawn(async move {
        let mut last = 0;
        while let Ok(Some(record)) = records.next().await {
            last = u64::from(record.seq);
            watcher.record(last);
        }
        last
    });
    let decider = (to == "+").then_some("incident-commander");
    let followed = engine::follow(&run, "approver", decider, |_| {}).await;
    let records = if followed.is_ok() { counter.await.unwrap_or(0) } else { 0 };
    let outcome = match followed {
        Ok(outcome) => serde_json::to_value(&outcome)?,
        Err(error) => json!({ "is": "parked", "of": error.to_string() }),
    };
    println!("{}", json!({ "outcome": outcome, "records": records, "calls": crash.calls() }));
    Ok(())
}

/// How the orchestrator says that the run ended.
fn outcome_of(said: &Value) -> String {
    let outcome = said.get("outcome").cloned().unwrap_or_default();
    outcome.get("is").and_then(Value::as_str).or(outcome.as_str()).unwrap_or("?").to_owned()
}

struct Matrix {
    cluster: LocalCluster,
    members: [Arc<Member>; 2],
    group: PathBuf,
    ends: BTreeMap<String, u64>,
    wrong: Vec<String>,
    promotions: u64,
    held_past_budget: u64,
    resumed_by_guard: u64,
}

/// Kills at every position, twice.
pub(crate) async fn run(writers: u16, every: usize, skip: usize) -> Result<Value, Failure> {
    let mut matrix = Matrix::start().await?;
    let pooler = matrix.cluster.app_through_pooler().ok_or("no pooler")?;
    let mut load = Writers::start(vec![pooler], writers).await?;
    let prober = DirectProber::start(matrix.cluster.nodes.iter().map(|node| node.admin.clone()).collect());
    let counted = matrix.uninterrupted().await?;
    let number = |key: &str| counted.get(key).and_then(Value::as_u64).unwrap_or(0);
    let mut positions: Vec<String> = (1..=number("records")).map(|n| format!("record:{n}")).collect();
    positions.extend((1..=number("calls")).map(|n| format!("call:{n}")));
    eprintln!("{} positions: {} records, {} call boundaries", positions.len(), number("records"), number("calls"));
    let chosen: Vec<&String> = positions.iter().skip(skip).step_by(every).collect();
    for position in &chosen {
        for late in [false, true] {
            let word = if late { "beyond the budget" } else { "at once" };
            match matrix.position(position, late, &load).await {
                Ok(end) => {
                    eprintln!("{position:>12}, restarted {word}: {end}");
                    *matrix.ends.entry(end).or_default() += 1;
                }
                Err(error) => {
                    eprintln!("{position:>12}, restarted {word}: WRONG: {}", crate::chain(error.as_ref()));
                    matrix.wrong.push(format!("{position} {word}: {}", crate::chain(error.as_ref())));
                }
            }
        }
    }
    load.stop().await;
    let seen = prober.stop().await;
    let writer = matrix.writer().await?;
    let check = load.check(&matrix.cluster.app(&matrix.cluster.nodes[writer])).await?;
    let good = matrix.wrong.is_empty() && check.lost == 0 && seen.two_writers == 0 && seen.changes == matrix.promotions;
    Ok(json!({
        "outcome": if good { "success" } else { "failure" },
        "positions": positions.len(),
        "positions_tried": chosen.len(),
        "kills": chosen.len() * 2,
        "ends": matrix.ends,
        "wrong": matrix.wrong,
        "promotions": matrix.promotions,
        "writer_changes_seen": seen.changes,
        "two_writers": seen.two_writers,
        "probes_per_second": seen.rate.round(),
        "resumed_by_guard": matrix.resumed_by_guard,
        "held_past_budget_after_the_fence": matrix.held_past_budget,
        "acknowledged_writes": check.acknowledged,
        "lost_acknowledged_writes": check.lost,
        "client_errors": load.report().error_count(),
    }))
}

impl Matrix {
    async fn start() -> Result<Self, Failure> {
        let cluster = LocalCluster::start(ClusterOptions::default()).await?;
        let group = cluster.folder().join("group.toml");
        let text = cluster.group_file().replace("gap_budget       = \"30 s\"", "gap_budget       = \"4 s\"");
        std::fs::write(&group, text)?;
        Ok(Self {
            members: cluster.members(),
            cluster,
            group,
            ends: BTreeMap::new(),
            wrong: Vec::new(),
            promotions: 0,
            held_past_budget: 0,
            resumed_by_guard: 0,
        })
    }

    fn dirs(&self) -> (PathBuf, PathBuf) {
        (self.cluster.folder().join("journal"), self.cluster.folder().join("leases"))
    }

    async fn orchestrate(&self, to: &str, position: &str) -> Result<Option<Value>, Failure> {
        let (journal, leases) = self.dirs();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD_VERB).arg(journal).arg(leases).arg(&self.group).arg(to).arg(position);
        command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await??;
        if output.status.success() {
            return Ok(Some(serde_json::from_slice(&output.stdout)?));
        }
        use std::os::unix::process::ExitStatusExt as _;
        if output.status.signal() == Some(9) {
            return Ok(None);
        }
        Err(format!("the orchestrator failed: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    async fn look(&self, index: usize) -> Result<dr_core::contract::Description, Failure> {
        Ok(PostgresDatabase::new(Arc::clone(&self.members[index])).describe().await?)
    }

    async fn writer(&self) -> Result<usize, Failure> {
        for index in 0..self.members.len() {
            if self.look(index).await?.writable == Tri::Yes {
                return Ok(index);
            }
        }
        Err("no server takes writes".into())
    }

    async fn uninterrupted(&mut self) -> Result<Value, Failure> {
        let new = 1 - self.writer().await?;
        let name = self.cluster.nodes[new].name.clone();
        let ended = self.orchestrate(&name, "never").await?.ok_or("killed without a position")?;
        self.healthy(new).await?;
        self.promotions += 1;
        Ok(ended)
    }

    /// Kills at one position, lets a successor go on, and looks what became of the servers.
    async fn position(&mut self, position: &str, late: bool, load: &Writers) -> Result<String, Failure> {
        let old = self.writer().await?;
        let new = 1 - old;
        let before = self.look(old).await?.lineage.ok_or("no lineage")?.generation;
        let name = self.cluster.nodes[new].name.clone();
        let mut ended = self.orchestrate(&name, position).await?;
        let killed = ended.is_none();
        if killed {
            if late {
                sleep(BUDGET + Duration::from_secs(2)).await;
                self.alone(load).await?;
            }
            ended = self.orchestrate("-", "never").await?;
        }
        let ended = ended.ok_or("killed without a position")?;
        let mut word = outcome_of(&ended);
        if word == "parked" {
            // A named decision: a person takes the first choice, and the run goes on to its end.
            let decided = self.orchestrate("+", "never").await?.ok_or("killed without a position")?;
            word = format!("parked, then {}", outcome_of(&decided));
        }
        self.settled(&word, (old, before), load).await.map_err(|error| format!("{error}; the run said {ended}"))?;
        let writer = self.writer().await?;
        self.promotions += u64::from(writer == new);
        let side = if writer == new { "the new primary" } else { "the old primary" };
        let how = if killed { "" } else { " (not reached)" };
        Ok(format!("{word} on {side}{how}"))
    }

    /// The servers are a pair again, clients write, and the history parted once or not at all.
    async fn settled(&self, word: &str, (old, before): (usize, u32), load: &Writers) -> Result<(), Failure> {
        let writer = self.writer().await?;
        let after = self.look(writer).await?.lineage.ok_or("no lineage")?.generation;
        let expected = before + u32::from(writer != old);
        if after != expected {
            return Err(format!("timeline {before} became {after}, writer {writer}, {word}").into());
        }
        load.await_flow(Duration::from_secs(10)).await?;
        self.healthy(writer).await
    }

    /// Nobody drives the run and its budget is over: either the guard let the writes through on the old primary, or the fence stands.
    async fn alone(&mut self, load: &Writers) -> Result<(), Failure> {
        if load.silent_for() < Duration::from_secs(1) {
            self.resumed_by_guard += 1;
            return Ok(());
        }
        let (journal, leases) = self.dirs();
        let engine: Engine = engine::open(&journal, &leases).await?;
        let last = engine.runs().await?.pop().ok_or("no run")?;
        let view = last.view.ok_or("the run cannot be read")?;
        let fence = NodeId::new("fence");
        let fenced = view.steps.iter().any(|step| step.id == fence && step.state != NodePhase::Waiting);
        if !fenced {
            return Err("writes are held past the budget although no fence was intended".into());
        }
        self.held_past_budget += 1;
        Ok(())
    }

    /// The pair is a pair again: one writer, and the other one streams and keeps up, so that the next switchover may begin. A standby
    /// that was just started tells its lag only once it has replayed a commit, so one good look is not enough.
    async fn healthy(&self, writer: usize) -> Result<(), Failure> {
        let standby = PostgresDatabase::new(Arc::clone(&self.members[1 - writer]));
        let mut good = 0;
        for _ in 0..1000 {
            let keeps_up = matches!(
                (standby.describe().await, standby.replication().await),
                (Ok(told), Ok(lag)) if told.writable == Tri::No
                    && lag.streaming == Tri::Yes
                    && lag.lag.is_some_and(|lag| lag <= Millis::new(500))
            );
            good = if keeps_up { good + 1 } else { 0 };
            if good == 10 {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        let (seen, lag) = (standby.describe().await, standby.replication().await);
        Err(format!("the standby does not stream again: {seen:?}, {lag:?}").into())
    }
}
