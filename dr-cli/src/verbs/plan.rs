//! `dr plan` and `dr start`: what would be done, and doing exactly that.

use std::{path::Path, sync::Arc};

use dr_core::{
    Plan, Runbook,
    base::text::suggest,
    contract::Fact,
    plan::{OutsideWindow, PromotionOnly, Redirect, Verified, preview},
};
use serde_json::json;

use super::follow;
use crate::{
    App, Exit, Screen,
    args::{Places, PlanOptions, PlanVerb, Risks},
    exit::{Stop, chain},
    files,
    link::{self, Link},
};

pub(super) async fn plan(app: &App, places: &Places, what: &PlanVerb, screen: &mut Screen) -> Result<Exit, Stop> {
    let (group, how, runbook) = match what {
        PlanVerb::Show { plan, markdown } => return show(app, plan, *markdown, screen),
        PlanVerb::Switchover { group, to, how } => (group, how, Wanted::Switchover(to)),
        PlanVerb::Promotion { group, to, because, how } => (group, how, Wanted::Promotion(to, because)),
        PlanVerb::Redirect { group, to, how } => (group, how, Wanted::Redirect(to)),
        PlanVerb::Failover { group, to, accepts, how } => (group, how, Wanted::Failover(to, accepts)),
        PlanVerb::Rejoin { group, member, discard, how } => (group, how, Wanted::Rejoin(member, *discard)),
        PlanVerb::With { runbook, group, how } => (group, how, Wanted::Own(own(app, runbook)?)),
    };
    let file = files::group(&places.groups(), group)?;
    let runbook: Arc<dyn Runbook> = match runbook {
        Wanted::Switchover(to) => link::switchover(&files::member(&file, to)?),
        Wanted::Promotion(to, because) => {
            Arc::new(PromotionOnly::to(files::member(&file, to)?, because)) as Arc<dyn Runbook>
        }
        Wanted::Redirect(to) => Arc::new(Redirect::to(files::member(&file, to)?)),
        Wanted::Failover(to, accepts) => link::failover(&files::member(&file, to)?, accepts),
        Wanted::Rejoin(member, discard) => link::rejoin(&files::member(&file, member)?, discard),
        Wanted::Own(runbook) => runbook,
    };
    let runbook = match &how.outside_window {
        Some(because) => Arc::new(OutsideWindow::of(runbook, because)) as Arc<dyn Runbook>,
        None => runbook,
    };
    let link = Link::open(app, places).await?;
    let verified = link.plan(&file, &*runbook).await?;
    reply(&verified, how, screen)
}

enum Wanted<'a> {
    Switchover(&'a str),
    Promotion(&'a str, &'a str),
    Redirect(&'a str),
    Failover(&'a str, &'a Risks),
    Rejoin(&'a str, bool),
    Own(Arc<dyn Runbook>),
}

fn own(app: &App, name: &str) -> Result<Arc<dyn Runbook>, Stop> {
    if let Some(runbook) = app.runbooks.get(name) {
        return Ok(Arc::clone(runbook));
    }
    let known: Vec<&str> = app.runbooks.keys().map(String::as_str).collect();
    let mut help = vec![match known.is_empty() {
        true => "this program was built without runbooks of its own".to_owned(),
        false => format!("runbooks: {}", known.join(", ")),
    }];
    help.extend(suggest(name, known).map(|near| format!("did you mean `{near}`?")));
    Err(Stop::input(format!("there is no runbook `{name}`"), &help))
}

fn reply(verified: &Verified, how: &PlanOptions, screen: &mut Screen) -> Result<Exit, Stop> {
    let (plan, hash) = (verified.plan(), verified.hash());
    let mut page = if how.markdown { preview::markdown(plan, hash) } else { preview::text(plan, hash) };
    if how.all {
        page.push_str("\nfacts\n");
        for fact in &plan.facts {
            page.push_str(&format!("  {}\n", shown(fact)));
        }
    }
    if let Some(path) = &how.save {
        save(plan, path)?;
        if !how.markdown {
            page.push_str(&format!("Start it with:  dr start {} --because TEXT\n", path.display()));
        }
    }
    screen.reply(&page, &json!({"hash": hash, "plan": plan, "saved": how.save, "exit": 0}));
    Ok(Exit::Done)
}

fn shown(fact: &Fact) -> String {
    format!("{}  {}   ({}, {})", fact.name, fact.value, fact.source, fact.at)
}

/// What is saved is the canonical text: its hash is the plan's.
fn save(plan: &Plan, path: &Path) -> Result<(), Stop> {
    let text = plan.canonical().map_err(|error| Stop::bug(chain(&error)))?;
    std::fs::write(path, text)
        .map_err(|error| Stop::input(format!("the plan cannot be written to `{}`: {error}", path.display()), &[]))
}

/// Reads a saved plan and holds it against the rules again.
fn load(app: &App, path: &Path) -> Result<Verified, Stop> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let help = ["a plan is written by:  dr plan switchover GROUP --to MEMBER --save FILE".to_owned()];
        Stop::input(format!("there is no plan in `{place}`: {error}"), &help)
    })?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| {
        Stop::input(format!("`{place}` is no plan of this version: {error}"), &["make it again with dr plan".into()])
    })?;
    if plan.canonical().ok().as_deref() != Some(text.as_str()) {
        let help =
            ["plans are never edited, because approval means this very text; make it again with dr plan".to_owned()];
        return Err(Stop::input(format!("`{place}` is not as dr plan wrote it"), &help));
    }
    plan.verify(Vec::new(), &link::catalog(app)).map_err(|refusal| Stop::from(&refusal))
}

fn show(app: &App, path: &Path, markdown: bool, screen: &mut Screen) -> Result<Exit, Stop> {
    let how = PlanOptions { save: None, outside_window: None, all: false, markdown };
    reply(&load(app, path)?, &how, screen)
}

pub(super) async fn start(
    app: &App,
    places: &Places,
    (path, because): (&Path, &str),
    screen: &mut Screen,
) -> Result<Exit, Stop> {
    let verified = load(app, path)?;
    let link = Link::open(app, places).await?;
    begin(&link, verified, because, screen).await
}

/// Plans the way back of a member and runs that plan at once.
pub(super) async fn rejoin(
    app: &App,
    places: &Places,
    (group, member, discard, because): (&str, &str, bool, &str),
    screen: &mut Screen,
) -> Result<Exit, Stop> {
    let file = files::group(&places.groups(), group)?;
    let runbook = link::rejoin(&files::member(&file, member)?, discard);
    let link = Link::open(app, places).await?;
    let verified = link.plan(&file, &*runbook).await?;
    screen.page(&preview::text(verified.plan(), verified.hash()));
    begin(&link, verified, because, screen).await
}

async fn begin(link: &Link, verified: Verified, because: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let run = link.start(verified, because).await?;
    screen.page(&format!(
        "{} started by {}.  Ctrl-C leaves the run where it is; `dr resume {0}` goes on.\n",
        run.id(),
        link.actor()?.name
    ));
    follow::drive(link, &run, screen).await
}
