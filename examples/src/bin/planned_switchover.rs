//! A planned switchover on the simulated cloud, on a real clock, with clients that write all the time.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use dr_core::PlannedSwitchover;
use dr_engine::Start;
use dr_examples::{Board, People, Shown, Stage, follow, requester};
use dr_testkit::{Flavour, Setup};

/// Watch a planned switchover happen on the simulated cloud: preview, consent, write gap, report.
#[derive(Debug, Parser)]
struct Args {
    /// Writes one JSON object to standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
    /// How many clients write.
    #[arg(long, default_value_t = 8)]
    writers: u32,
    /// How the provider moves the primary: separate, role-swap or storage-fence.
    #[arg(long, default_value_t = Flavour::Separate)]
    flavour: Flavour,
    /// Where journal and leases lie; without it, in a directory that is deleted at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let setup = Setup::pair("orders", "neu", "weu").fast().flavour(args.flavour).writers(args.writers);
    let stage = Stage::open(args.dir, setup)?;
    let engine = stage.engine().start().await?;
    let group = engine.group(stage.group_file())?;

    let plan = engine.plan(&group, PlannedSwitchover::to("weu")).await?;
    let mut board = Board::new();
    board.say(&plan.preview());

    let run = engine.start(plan, Start::by(requester()).because("the first example")).await?;
    let followed = follow(&run, &mut board, &mut People::new(!args.json)).await?;
    Shown::of(&stage.cloud, followed.report).print(args.json)
}
