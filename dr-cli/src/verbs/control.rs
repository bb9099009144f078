//! `dr pause`, `dr resume`, `dr finish`, `dr cancel`.

use dr_core::{View, contract::Class, show::Standing};
use dr_engine::Run;
use serde_json::json;

use super::follow;
use crate::{
    Exit, Screen,
    exit::Stop,
    link::{self, Link},
};

pub(super) async fn pause(link: &Link, name: &str, because: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let (run, view) = going(link, name).await?;
    if view.state == Standing::Paused {
        let page = format!("{} is paused already, since {}.\n", view.run, view.sentence.since.clock());
        screen.reply(&page, &json!({"run": view.run, "paused": true, "exit": 0}));
        return Ok(Exit::Done);
    }
    link.may_steer(&run).await?;
    run.pause(link.actor()?.clone(), because).await.map_err(|error| link::stop(&error))?;
    let paused = counted(&run, view.state.clone()).await?;
    let driven = link::driven(&run).await?;
    let page = format!(
        "{} {}; what is under way is driven to a known end.\n{}\n{}Go on with:  dr resume {0}\n{}",
        view.run,
        if paused {
            "begins nothing new"
        } else {
            "is asked to begin nothing new, and its engine has not taken that in yet"
        },
        view.holding(),
        stopped(&view),
        undriven(&view, driven)
    );
    screen.reply(&page, &json!({"run": view.run, "asked": "pause", "driven": driven, "exit": 0}));
    Ok(Exit::Done)
}

pub(super) async fn cancel(link: &Link, name: &str, because: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let (run, view) = going(link, name).await?;
    if view.no_return {
        let help = ["the promotion may have been sent: this run only goes forward or parks".to_owned(), view.holding()];
        return Err(Stop::refused(format!("DR311  {} cannot turn back any more", view.run), &help));
    }
    link.may_steer(&run).await?;
    run.cancel(link.actor()?.clone(), because).await.map_err(|error| link::stop(&error))?;
    let driven = link::driven(&run).await?;
    let page = format!(
        "{} is asked to turn back; what is under way is driven to a known end first.\n{}\n{}",
        view.run,
        view.holding(),
        undriven(&view, driven)
    );
    screen.reply(&page, &json!({"run": view.run, "asked": "cancel", "driven": driven, "exit": 0}));
    Ok(Exit::Done)
}

pub(super) async fn finish(link: &Link, name: &str, because: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let (run, view) = going(link, name).await?;
    link.may_steer(&run).await?;
    run.finish(link.actor()?.clone(), because).await.map_err(|error| link::stop(&error))?;
    let driven = link::driven(&run).await?;
    let when = if view.only_owed_left {
        "what is left becomes a debt"
    } else {
        "it goes on until applications write and nothing is left that anybody waits for; the rest becomes a debt then"
    };
    let page = format!(
        "{} is asked to end: {when}. See the debts with:  dr debts {}\n{}\n{}",
        view.run,
        view.group,
        view.holding(),
        undriven(&view, driven)
    );
    screen.reply(&page, &json!({"run": view.run, "asked": "finish", "driven": driven, "exit": 0}));
    Ok(Exit::Done)
}

/// What a pause does to applications, where the run keeps them from writing.
fn stopped(view: &View) -> &'static str {
    let drained = view.held.iter().any(|thing| thing.class == Class::Drain);
    if drained { "APPLICATIONS CANNOT WRITE until it goes on, or turns back at its budget\n" } else { "" }
}

/// The run, which must not be over.
async fn going(link: &Link, name: &str) -> Result<(Run, View), Stop> {
    let run = link.find(name).await?;
    let view = link::view(&run).await?;
    if view.outcome().is_some() {
        return Err(Stop::refused(format!("DR312  {} is over: {}", view.run, view.sentence.text), &[]));
    }
    Ok((run, view))
}

fn undriven(view: &View, driven: bool) -> String {
    if driven { String::new() } else { format!("No engine drives it now. Do it with:  dr resume {}\n", view.run) }
}

/// Waits a moment for the engine to take a message in: what was only queued is not said to be done. Answers whether it did.
async fn counted(run: &Run, before: Standing) -> Result<bool, Stop> {
    for _ in 0..20 {
        if !link::driven(run).await? {
            return Ok(false);
        }
        if link::view(run).await?.state != before {
            return Ok(true);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(false)
}

/// Another engine drives it: what it does, or what it waits for.
fn elsewhere(view: &View, screen: &mut Screen) -> Exit {
    let waits = match &view.state {
        Standing::Parked => Some(format!("is parked and waits for a decision:  dr decide {} CHOICE", view.run)),
        Standing::Asking => Some(format!("waits for people:  dr approve {}", view.run)),
        Standing::Paused => Some("was told to go on, and has not done so yet; look again:  dr status".to_owned()),
        Standing::Running | Standing::TurningBack | Standing::Done { .. } => None,
    };
    let exit = if waits.is_some() { Exit::Waits } else { Exit::Done };
    let says = waits.unwrap_or_else(|| "goes on there".into());
    let page = format!("{} is driven by another engine; it {says}.\n{}\n", view.run, view.holding());
    screen.reply(&page, &json!({"run": view.run, "driven": true, "state": view.state, "exit": exit.code()}));
    exit
}

pub(super) async fn resume(link: &Link, name: &str, take_over: bool, screen: &mut Screen) -> Result<Exit, Stop> {
    let (run, view) = going(link, name).await?;
    if take_over {
        link.may_steer(&run).await?;
    }
    if view.state == Standing::Paused {
        link.may_steer(&run).await?;
        run.unpause(link.actor()?.clone()).await.map_err(|error| link::stop(&error))?;
        counted(&run, Standing::Paused).await?;
    }
    if link::driven(&run).await? && !take_over {
        return Ok(elsewhere(&link::view(&run).await?, screen));
    }
    let run = link.resume(&view.run, take_over).await?;
    screen.page(&format!(
        "{}  goes on here; the engine before it can write nothing more.  Ctrl-C leaves the run where it is.\n",
        view.run
    ));
    follow::drive(link, &run, screen).await
}
