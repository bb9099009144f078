//! `dr notify test`: can everybody be told who shall be?

use std::{sync::Arc, time::Duration};

use dr_core::{
    Cause, Notifier, RunId,
    base::text::suggest,
    contract::{Notice, Occasion},
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    App, Exit, Screen,
    args::Places,
    exit::{Stop, chain},
    files, link,
};

/// How long one of them may take, whatever its own limit is.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn test(
    app: &App,
    places: &Places,
    (group, only): (&str, Option<&str>),
    screen: &mut Screen,
) -> Result<Exit, Stop> {
    let file = files::group(&places.groups(), group)?;
    let name = &file.spec().name;
    let told = dr_engine::notifiers(&link::backends(app, places), &file);
    let mut told = told.map_err(|error| Stop::input(chain(&error), &[]))?;
    if told.is_empty() {
        let help = format!("list who shall be told as [[notify]] in {}", file.path().display());
        return Err(Stop::input(format!("runs of `{name}` tell nobody"), &[help]));
    }
    if let Some(only) = only {
        let known: Vec<String> = told.iter().map(|told| told.name.clone()).collect();
        told.retain(|told| told.name == only);
        if told.is_empty() {
            let near = suggest(only, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            let help = near.unwrap_or_else(|| format!("`{name}` tells: {}", known.join(", ")));
            return Err(Stop::input(format!("`{name}` tells nobody by `{only}`"), &[help]));
        }
    }
    let (mut page, mut answers, mut all) = (String::new(), Vec::new(), true);
    let asked: Vec<_> = told.into_iter().map(|told| (told.name, begin(told.notifier, notice(name)))).collect();
    for (who, attempt) in asked {
        let why = taken(attempt).await.err();
        all &= why.is_none();
        match &why {
            None => page.push_str(&format!("{who}  took it\n")),
            Some(why) => page.push_str(&format!("{who}  DID NOT TAKE IT: {why}\n")),
        }
        answers.push(json!({"name": who, "took": why.is_none(), "why": why}));
    }
    let exit = if all { Exit::Done } else { Exit::Ended };
    screen.reply(&page, &json!({"group": name, "notify": answers, "exit": exit.code()}));
    Ok(exit)
}

/// A notice of no run: the number 0 is that of none. Each test has a key of its own, so that a service does not take it for the last one.
fn notice(group: &dr_core::GroupName) -> Notice {
    let now = link::now();
    let run = RunId::new(group.clone(), 0);
    Notice {
        key: format!("{group}/test/{}", now.millis()),
        run,
        urgent: true,
        occasion: Occasion::Test,
        text: format!("{group}: this is a test of who is told; nothing has happened, and nobody has to do anything"),
    }
}

/// Begins one attempt, in a task of its own: a notifier that panics or hangs is its own matter.
fn begin(notifier: Arc<dyn Notifier>, notice: Notice) -> JoinSet<Result<(), String>> {
    let mut tasks = JoinSet::new();
    let tell = async move { notifier.notify(notice).await.map_err(|error| Cause::chain(&error).to_string()) };
    tasks.spawn(async move {
        tokio::time::timeout(PATIENCE, tell).await.unwrap_or_else(|_| Err("no answer within 1 min".to_owned()))
    });
    tasks
}

async fn taken(mut attempt: JoinSet<Result<(), String>>) -> Result<(), String> {
    match attempt.join_next().await {
        Some(Ok(answer)) => answer,
        Some(Err(failed)) => Err(format!("it failed: {failed}")),
        None => Err("it was not asked".to_owned()),
    }
}
