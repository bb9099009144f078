//! A planned switchover on the simulated cloud, on a real clock, with clients that write all the time; or, with `--forced`, a failover
//! of a primary whose server died.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;
use dr_core::{PlannedSwitchover, UnplannedFailover, millis};
use dr_engine::Start;
use dr_examples::{Board, Evidence, People, Shown, Stage, follow, requester};
use dr_testkit::{Flavour, Preset, Setup, SimCloud};

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
    /// The service that the simulated cloud imitates, such as aurora-global; a wrong name lists them all.
    #[arg(long, conflicts_with = "flavour")]
    preset: Option<Preset>,
    /// Lets the primary's server die first, and fails over to the standby.
    #[arg(long)]
    forced: bool,
    /// Where journal and leases lie; without it, in a directory that is deleted at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Seals the run in DIR, with a root key made there, and says how to verify it.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let setup = match args.preset {
        Some(preset) => Setup::preset(preset, "orders", "neu", "weu"),
        None => Setup::pair("orders", "neu", "weu").flavour(args.flavour),
    };
    let setup = setup.fast().writers(args.writers);
    let stage = Stage::open(args.dir, setup)?;
    let evidence = args.evidence.map(|dir| Evidence::open(dir, &stage)).transpose()?;
    let builder = stage.engine();
    let builder = if let Some(evidence) = &evidence { builder.evidence(evidence.recorder()) } else { builder };
    let engine = builder.start().await?;
    let group = engine.group(stage.group_file())?;

    let plan = if args.forced {
        // The first look at a group begins its watch, and what is lost is bounded by what the watch saw.
        drop(engine.plan(&group, PlannedSwitchover::to("weu")).await?);
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.cloud.break_down("neu");
        tokio::spawn(return_after_promotion(stage.cloud.clone(), "neu"));
        engine.plan(&group, UnplannedFailover::to("weu")).await?
    } else {
        engine.plan(&group, PlannedSwitchover::to("weu")).await?
    };
    let mut board = Board::new();
    board.say(&plan.preview());

    let run = engine.start(plan, Start::by(requester()).because("the first example")).await?;
    let followed = follow(&run, &mut board, &mut People::new(!args.json)).await?;
    let mut report = followed.report;
    if let Some(evidence) = &evidence {
        let place = evidence.finish(run.id()).await?;
        board.say(&evidence.how_to_verify(&place));
        report = report.with_evidence(place);
    }
    let shown = Shown::of(&stage.cloud, report);
    let shown = if args.forced { shown.may_lose() } else { shown };
    shown.print(args.json)
}

/// The dead server comes back when another member has become the writer.
async fn return_after_promotion(cloud: SimCloud, member: &'static str) {
    while cloud.look(|truth| truth.promotions().count()) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cloud.comes_back(member, millis(500));
}
