//! The journey on existing servers: check, plan, start, watch.

use std::path::Path;

use dr_core::Actor;
use dr_engine::Start;
use serde_json::{Value, json};

use crate::{Failure, engine};

/// Plans a switchover of the group; starts it when somebody approves.
pub(crate) async fn switch(file: &Path, approver: Option<&str>) -> Result<Value, Failure> {
    let home = file.with_extension("dr");
    let engine = engine::open(&home.join("journal"), &home.join("leases")).await?;
    let group = engine.group(file)?;
    for finding in engine.check(&group).await? {
        eprintln!("check: {}; {}", finding.what, finding.helps);
    }
    let seen = engine.situation(&group).await?;
    let to = seen.standbys.first().ok_or("the group has no standby")?.name.clone();
    let plan = engine::plan(&engine, file, to.as_str()).await?;
    eprintln!("{}", plan.preview());
    let Some(approver) = approver else {
        eprintln!("nothing was started; `--approve-as NAME` starts it");
        return Ok(json!({ "outcome": "success", "started": false, "plan": plan.hash().hex() }));
    };
    let run = engine
        .start(plan, Start::by(Actor::local("planner").authenticated("the example", "planner")).because("--group"))
        .await?;
    let mut last = String::new();
    let outcome = engine::follow(&run, approver, None, |view| {
        let line = format!("{:?}", view.sentence);
        if line != last {
            eprintln!("{line}");
            last = line;
        }
    })
    .await?;
    let report = run.report().await?;
    eprintln!("{report}");
    let word = if outcome.success() { "success" } else { "failure" };
    Ok(json!({ "outcome": word, "started": true, "run": run.id().to_string(), "report": report.to_json() }))
}
