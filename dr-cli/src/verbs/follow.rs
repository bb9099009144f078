//! Following a run: what changed, one line each, until it is over or left.

use std::{collections::BTreeMap, pin::pin};

use dr_core::{
    NodeId, View,
    base::{Digest, text::human},
    contract::Class,
    run::NodePhase,
    show::{Standing, StepView},
};
use dr_engine::Run;
use serde_json::json;

use crate::{
    Exit, Screen,
    exit::Stop,
    link::{self, Link},
};

/// What was printed already.
#[derive(Debug, Default)]
struct Printed {
    steps: BTreeMap<NodeId, (NodePhase, u8)>,
    ask: Option<(Digest, usize)>,
    held: Vec<NodeId>,
    state: Option<Standing>,
    seq: u32,
}

impl Printed {
    /// What is new in `view`.
    fn news(&mut self, view: &View) -> String {
        let mut page = String::new();
        for step in view.steps.iter().filter(|step| self.is_new(step)) {
            page.push_str(&view.step_line(step));
            page.push('\n');
        }
        let held: Vec<NodeId> = view.held.iter().map(|held| held.node.clone()).collect();
        if held != self.held {
            page.push_str(&view.holding());
            page.push('\n');
            self.held = held;
        }
        page.push_str(&self.question(view));
        if self.state.as_ref() != Some(&view.state) {
            match &view.state {
                Standing::Paused => page.push_str(&format!("PAUSED  go on with:  dr resume {}\n", view.run)),
                Standing::TurningBack => page.push_str(&format!("TURNING BACK  {}\n", view.reason())),
                Standing::Running | Standing::Asking | Standing::Parked | Standing::Done { .. } => {}
            }
            self.state = Some(view.state.clone());
        }
        self.seq = view.seq;
        page
    }

    fn is_new(&mut self, step: &StepView) -> bool {
        let now = (step.state, step.attempt);
        let was = self.steps.insert(step.id.clone(), now);
        step.state != NodePhase::Waiting && was != Some(now)
    }

    fn question(&mut self, view: &View) -> String {
        let now = view.ask_digest.map(|digest| (digest, view.given.len()));
        let was = self.ask;
        self.ask = now;
        match (was, now) {
            (_, None) => String::new(),
            (Some((before, has)), Some((digest, given))) if before == digest && has == given => String::new(),
            (Some((before, _)), Some((digest, given))) if before == digest => {
                let people = view.ask.as_ref().map_or(1, |ask| ask.people);
                let last = view.given.last().map(|given| format!("{} by {}", given.choice, given.by));
                format!("   {given} of {people}: {}\n", last.unwrap_or_default())
            }
            (_, Some(_)) => view.question().unwrap_or_default(),
        }
    }
}

fn show(printed: &mut Printed, view: &View, screen: &mut Screen) {
    if screen.is_json() {
        if printed.seq != view.seq {
            screen.line(&json!(view));
        }
        printed.seq = view.seq;
    } else {
        let news = printed.news(view);
        if !news.is_empty() {
            screen.page(&news);
        }
    }
}

/// The last page of a run that is over.
async fn over(run: &Run, view: &View, screen: &mut Screen) -> Result<Exit, Stop> {
    let report = link::report(run).await?;
    if screen.is_json() {
        screen.line(&report.to_json());
    } else {
        screen.page(&report.to_string());
    }
    // The report is there already; whoever is told of the end must not be cut off by the end of this program.
    run.all_told(TELL_WITHIN).await;
    Ok(view.outcome().map_or(Exit::Waits, Exit::of))
}

/// How long this program stays for notices after the end of a run.
const TELL_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);

/// How following ended.
enum Followed {
    Over(Box<View>),
    Interrupted(Option<Box<View>>),
    Stopped(Option<Box<View>>, Stop),
}

/// Shows every view until the run is over, its driver stops, or somebody presses Ctrl-C. Says so when the engine that drives it is gone,
/// and when one is there again.
async fn follow(run: &Run, mut driven: bool, printed: &mut Printed, screen: &mut Screen) -> Followed {
    let mut watch = run.watch_from(u64::from(printed.seq));
    let mut interrupted = pin!(interrupted());
    let mut last: Option<Box<View>> = None;
    loop {
        let mut next = pin!(watch.next());
        let next = loop {
            tokio::select! {
                next = &mut next => break next,
                () = &mut interrupted => return Followed::Interrupted(last),
                () = changed(run, driven) => {
                    driven = !driven;
                    tell_driven(run, driven, screen).await;
                }
                never = tick(run, driven, screen) => match never {},
            }
        };
        match next {
            Ok(Some(view)) => {
                show(printed, &view, screen);
                if view.outcome().is_some() {
                    return Followed::Over(Box::new(view));
                }
                last = Some(Box::new(view));
            }
            Ok(None) => return Followed::Stopped(last, Stop::bug("the run ended without saying how")),
            Err(error) => return Followed::Stopped(last, link::stop(&error)),
        }
    }
}

/// Waits until the run has an engine, or none any more.
async fn changed(run: &Run, driven: bool) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // A look that fails tells nothing.
        if link::driven(run).await.is_ok_and(|now| now != driven) {
            return;
        }
    }
}

/// Says that the engine is gone, with what that means for applications, or that one is there again.
async fn tell_driven(run: &Run, driven: bool, screen: &mut Screen) {
    let Ok(view) = run.view().await else { return };
    if view.outcome().is_some() {
        return;
    }
    if screen.is_json() {
        screen.line(&json!({"run": view.run, "driven": driven}));
    } else if driven {
        screen.page(&format!("An engine drives {} again.\n", view.run));
    } else {
        let held = if view.writes_stopped() { format!("  {}\n", stopped(&view)) } else { String::new() };
        screen.page(&format!("ITS ENGINE IS GONE.  {}{held}", super::status::nobody(&view)));
    }
}

/// Says once a second what is under way and held, where a line can be written over another one.
async fn tick(run: &Run, driven: bool, screen: &mut Screen) -> std::convert::Infallible {
    if !screen.moves() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if let Ok(view) = run.view().await {
            let alone = if driven { "" } else { " no engine;" };
            screen.moving(&format!("{alone}{}", now(&view)));
        }
    }
}

/// One line: what is under way, for how long, and what is held.
fn now(view: &View) -> String {
    let under_way = view.steps.iter().filter(|step| step.state.in_flight() || step.state == NodePhase::Looking);
    let words: Vec<String> = under_way
        .map(|step| {
            let lasts = step.took.map(human).unwrap_or_default();
            format!("{} {lasts}", step.id)
        })
        .collect();
    let doing = if words.is_empty() { view.sentence.text.clone() } else { words.join(", ") };
    format!(" … {}   {doing}   ({} of {})", view.holding(), view.progress.done, view.progress.total)
}

/// Drives a run and shows it, until it is over or somebody presses Ctrl-C.
pub(super) async fn drive(link: &Link, run: &Run, screen: &mut Screen) -> Result<Exit, Stop> {
    let ended = match follow(run, true, &mut Printed::default(), screen).await {
        Followed::Over(view) => over(run, &view, screen).await,
        Followed::Interrupted(view) => Err(leave(run, view.as_deref())),
        Followed::Stopped(view, mut stop) => {
            let held = view.map(|view| view.holding()).unwrap_or_default();
            stop.page.push_str(&format!("{held}\ngo on with:  dr resume {}\n", run.id()));
            Err(stop)
        }
    };
    link.engine().clone().close().await;
    ended
}

/// Shows a run that somebody else drives.
pub(super) async fn watch(link: &Link, name: &str, once: bool, screen: &mut Screen) -> Result<Exit, Stop> {
    let run = link.find(name).await?;
    let view = link::view(&run).await?;
    if once {
        screen.reply(&view.to_string(), &json!(view));
        return Ok(code(&view));
    }
    let mut printed = Printed::default();
    // Looked at before the page: what changes after it is told.
    let driven = link::driven(&run).await?;
    screen.page(&view.to_string());
    screen.line(&json!(view));
    drop(printed.news(&view));
    if view.outcome().is_some() {
        return over(&run, &view, screen).await;
    }
    if !driven {
        screen.page(&super::status::nobody(&view));
    }
    match follow(&run, driven, &mut printed, screen).await {
        Followed::Over(view) => over(&run, &view, screen).await,
        Followed::Interrupted(last) => Ok(code(&last.unwrap_or_else(|| Box::new(view)))),
        Followed::Stopped(_, stop) => Err(stop),
    }
}

/// The code for a run that is only looked at.
pub(super) fn code(view: &View) -> Exit {
    match &view.state {
        Standing::Running | Standing::TurningBack => Exit::Done,
        Standing::Asking | Standing::Parked | Standing::Paused => Exit::Waits,
        Standing::Done { outcome } => Exit::of(outcome),
    }
}

/// How often it is looked whether an engine drives the run.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether writes come back by themselves: only as long as no fence may stand, because a drain that ends behind a fence lets
/// applications run into it.
fn stopped(view: &View) -> String {
    let fenced = view.no_return || view.held.iter().any(|held| held.class == Class::Fence);
    if fenced {
        return format!(
            "APPLICATIONS CANNOT WRITE until this run goes on, or is finished by hand:  dr resume {}",
            view.run
        );
    }
    format!(
        "applications cannot write; if nobody goes on, the drain ends by itself or by its guard, and {} writes again",
        view.from
    )
}

/// Ctrl-C: the run stays where it is.
fn leave(run: &Run, view: Option<&View>) -> Stop {
    let mut help = Vec::new();
    if let Some(view) = view {
        help.push(view.holding());
        if view.writes_stopped() {
            help.push(stopped(view));
        }
    }
    help.push(format!("go on with:  dr resume {}", run.id()));
    let doing = view.map(|view| view.sentence.text.clone()).unwrap_or_default();
    Stop::waits(format!("{} stays where it is: {doing}", run.id()), &help)
}
