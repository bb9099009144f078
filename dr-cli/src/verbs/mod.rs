//! One module per group of verbs. Each answers a page, the same in JSON, and an exit code.

mod about;
mod answer;
mod check;
mod control;
mod debts;
mod demo;
mod follow;
mod list;
mod notify;
mod plan;
mod report;
mod status;
mod verify;

use crate::{
    App, Exit, Screen,
    args::{ActVerb, Cli, DebtVerb, LookVerb, NotifyVerb, Places, Verb},
    exit::Stop,
    link::Link,
};

/// Runs one verb.
pub(crate) async fn run(app: &App, cli: &Cli, screen: &mut Screen) -> Result<Exit, Stop> {
    let places = &cli.places;
    match &cli.verb {
        Verb::Explain { what } => about::explain(what.as_deref(), screen),
        Verb::Verify { bundle, root, known } => verify::verify(bundle, root, known, screen),
        Verb::Version => Ok(about::version(app, screen)),
        Verb::Completions { shell } => Ok(about::completions(*shell, screen)),
        Verb::Man { into } => about::man(into, screen),
        Verb::Demo { into } => demo::demo(app, into, screen).await,
        Verb::Break { group, member } => demo::kill(places, group, member, screen),
        Verb::Check { group, look } => check::check(app, places, (group.as_deref(), *look), screen).await,
        Verb::Plan(what) => plan::plan(app, places, what, screen).await,
        Verb::Start { plan, because } => plan::start(app, places, (plan, because), screen).await,
        Verb::Rejoin { group, member, discard, because } => {
            plan::rejoin(app, places, (group, member, *discard, because), screen).await
        }
        Verb::Guard { journal, leases, run } => {
            let (app, places) =
                (app.clone().leases_in(leases), Places { dir: Some(journal.clone()), ..places.clone() });
            crate::link::guard(&app, &places, run).await.map(|()| Exit::Done)
        }
        Verb::Notify(NotifyVerb::Test { group, only }) => {
            notify::test(app, places, (group, only.as_deref()), screen).await
        }
        Verb::Look(verb) => {
            let groups = matches!(verb, LookVerb::Status { .. });
            look(&Link::looking(app, places, groups).await?, places, verb, screen).await
        }
        Verb::Act(verb) => act(&Link::open(app, places).await?, verb, screen).await,
    }
}

/// The verbs that only look.
async fn look(link: &Link, places: &Places, verb: &LookVerb, screen: &mut Screen) -> Result<Exit, Stop> {
    match verb {
        LookVerb::Watch { run, once } => follow::watch(link, run, *once, screen).await,
        LookVerb::Status { of } => status::status(link, places, of.as_deref(), screen).await,
        LookVerb::List { group, open } => list::list(link, group.as_deref(), *open, screen).await,
        LookVerb::Debts { group, verb: None } => debts::list(link, group.as_deref(), screen).await,
        LookVerb::Debts { verb: Some(DebtVerb::Close { id, reason }), .. } => {
            debts::close(link, id, reason, screen).await
        }
        LookVerb::Report { run, html } => report::report(link, run, html.as_deref(), screen).await,
    }
}

/// The verbs by which people act on a run.
async fn act(link: &Link, verb: &ActVerb, screen: &mut Screen) -> Result<Exit, Stop> {
    let wanted = |choice, code, note| answer::Wanted { choice, code, note };
    match verb {
        ActVerb::Approve { run, code, note } => {
            let answer = wanted(dr_core::APPROVE, code.as_deref(), note.as_deref());
            answer::answer(link, run, &answer, screen).await
        }
        ActVerb::Reject { run, note } => {
            answer::answer(link, run, &wanted(dr_core::run::REJECT, None, note.as_deref()), screen).await
        }
        ActVerb::Decide { run, choice, code, note } => {
            answer::answer(link, run, &wanted(choice, code.as_deref(), note.as_deref()), screen).await
        }
        ActVerb::Pause { run, because } => control::pause(link, run, because, screen).await,
        ActVerb::Resume { run, take_over } => control::resume(link, run, *take_over, screen).await,
        ActVerb::Finish { run, because } => control::finish(link, run, because, screen).await,
        ActVerb::Cancel { run, because } => control::cancel(link, run, because, screen).await,
    }
}
