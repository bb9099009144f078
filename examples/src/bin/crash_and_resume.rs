//! The orchestrator is killed in the middle of a switchover, for good; a new one finds out what is true and goes on to the same end.
//!
//! ```text
//!   parent ──spawns──► child: engine, plan, run ──SIGKILL at the chosen step
//!     │                          │
//!     │        journal, leases and the simulated cloud lie in files and outlive it; clients go on writing
//!     └──► new engine: takes the dead one's lease, replays, looks at what was under way, goes on ──► compared with a run nobody killed
//! ```

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use dr_core::{
    PlannedSwitchover, millis,
    run::{NodePhase, RunOutcome},
};
use dr_engine::{Run, Start};
use dr_examples::{Board, People, Shown, Stage, follow, requester};
use dr_testkit::{EndState, Setup, Timing};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// Kill the orchestrator in the middle of a switchover, resume with a new one, and compare with a run that nobody killed.
#[derive(Debug, Parser)]
struct Args {
    /// Writes one JSON object to standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
    /// The step at whose beginning the orchestrator is killed, as it is called in the preview.
    #[arg(long, value_name = "STEP", default_value = "promote")]
    at: String,
    /// The process that is killed: runs the switchover in this directory and says how each step stands.
    #[arg(long, value_name = "DIR", hide = true)]
    child: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match args.child {
        Some(dir) => child(dir).await,
        None => parent(&args).await,
    }
}

fn setup() -> Setup {
    // Long enough that the kill meets the promotion under way.
    let timing = Timing { promote: millis(500), ..Timing::fast() };
    Setup::pair("orders", "neu", "weu").fast().timing(timing).writers(4)
}

async fn begin(stage: &Stage) -> Result<Run> {
    let engine = stage.engine().start().await?;
    let plan = engine.plan(&engine.group(stage.group_file())?, PlannedSwitchover::to("weu")).await?;
    Ok(engine.start(plan, Start::by(requester()).because("nobody is here for ever")).await?)
}

/// Runs the switchover and says on standard output which step has begun.
#[expect(clippy::print_stdout, reason = "how the parent knows when to kill")]
async fn child(dir: PathBuf) -> Result<()> {
    let run = begin(&Stage::kept(dir, setup())?).await?;
    let mut watch = run.watch();
    let mut people = People::new(false);
    let mut board = Board::new();
    while let Some(view) = watch.next().await? {
        for step in view.steps.iter().filter(|step| step.state != NodePhase::Waiting) {
            println!("{}", step.id);
        }
        if view.ask.is_some() {
            people.answer(&run, &view, &mut board).await?;
        }
    }
    Ok(())
}

async fn parent(args: &Args) -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut board = Board::new();

    board.say("--- a run that nobody kills");
    let wanted = uncrashed(place.path().join("calm"), &args.at).await?;

    board.say(&format!("--- a run whose orchestrator is killed at `{}`", args.at));
    let dir = place.path().join("killed");
    kill_at(&args.at, &dir, &board).await?;

    let stage = Stage::kept(dir, setup())?;
    let engine = stage.engine().start().await?;
    let resumed = engine.resume().await?;
    if let Some((run, error)) = resumed.broken.into_iter().next() {
        return Err(error).with_context(|| format!("{run} could not be resumed"));
    }
    let id = resumed.runs.into_iter().next().context("there is no run to resume")?;
    board.say(&format!("--- {id} resumed by a new engine; it looks before it acts"));
    let followed = follow(&engine.run(&id)?, &mut board, &mut People::new(false)).await?;
    let found = end_state(&stage);
    let shown = Shown::of(&stage.cloud, followed.report)
        .with("killed_at", args.at.as_str())
        .with("epoch", followed.view.epoch.to_string())
        .with("same_end", found == wanted);
    shown.print(args.json)?;
    if found != wanted {
        bail!("the end differs: without a kill {wanted:?}, with it {found:?}");
    }
    Ok(())
}

fn end_state(stage: &Stage) -> EndState {
    stage.cloud.look(|truth| truth.end_state())
}

async fn uncrashed(dir: PathBuf, at: &str) -> Result<EndState> {
    let stage = Stage::kept(dir, setup())?;
    let run = begin(&stage).await?;
    let steps: Vec<String> = run.view().await?.steps.iter().map(|step| step.id.to_string()).collect();
    if !steps.iter().any(|step| step == at) {
        bail!("the plan has no step `{at}`; it has: {}", steps.join(", "));
    }
    let followed = follow(&run, &mut Board::new(), &mut People::new(false)).await?;
    if !followed.report.outcome.as_ref().is_some_and(RunOutcome::success) {
        bail!("the run that nobody kills did not succeed: {}", followed.report);
    }
    Ok(end_state(&stage))
}

async fn kill_at(step: &str, dir: &PathBuf, board: &Board) -> Result<()> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg("--child").arg(dir).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn().context("cannot start the process that is to be killed")?;
    let mut lines = BufReader::new(process.stdout.take().context("it has no standard output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line == step {
            process.start_kill()?; // SIGKILL: nothing is tidied up
            process.wait().await?;
            board.say(&format!("SIGKILL: `{step}` had begun, and nobody holds the run now"));
            return Ok(());
        }
    }
    bail!("the run ended before `{step}` began")
}
