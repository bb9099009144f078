//! `dr status`: what is true, what runs, what waits for somebody.

use dr_core::{
    Timestamp, View,
    base::text::human,
    contract::ReplicationLink,
    plan::{MemberFacts, Presence},
};
use dr_engine::GroupStatus;
use serde_json::json;

use super::{follow::code, list::table};
use crate::{
    Exit, Screen,
    args::Places,
    exit::Stop,
    files,
    link::{self, Link},
};

pub(super) async fn status(link: &Link, places: &Places, of: Option<&str>, screen: &mut Screen) -> Result<Exit, Stop> {
    let dir = places.groups();
    let Some(name) = of else { return all(link, places, screen).await };
    // A run by its number; otherwise a group, with its run.
    let is_run = link.runs().await?.iter().any(|run| run.run.to_string() == name.to_lowercase().replace(' ', "-"));
    if is_run || name.rsplit_once('-').is_some_and(|(_, number)| number.parse::<u32>().is_ok()) {
        return one_run(link, name, screen).await;
    }
    let status = link.status(&files::group(&dir, name)?).await?;
    let exit = status.run.as_ref().map_or(Exit::Done, |view| left_alone(view, status.driven));
    screen.reply(&group_page(&status), &json!({"group": status, "exit": exit.code()}));
    Ok(exit)
}

async fn one_run(link: &Link, name: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let run = link.find(name).await?;
    let (view, driven) = (link::view(&run).await?, link::driven(&run).await?);
    let exit = left_alone(&view, driven);
    let mut page = view.to_string();
    if view.outcome().is_none() && !driven {
        page.push_str(&nobody(&view));
    }
    screen.reply(&page, &json!({"view": view, "driven": driven, "exit": exit.code()}));
    Ok(exit)
}

/// A run that nobody drives waits for somebody who resumes it.
fn left_alone(view: &View, driven: bool) -> Exit {
    if view.outcome().is_none() && !driven { Exit::Waits } else { code(view) }
}

/// What is said of a run that nobody drives.
pub(super) fn nobody(view: &View) -> String {
    format!("No engine drives {0} now, since {1}. Go on with:  dr resume {0}\n", view.run, last(view).clock())
}

fn last(view: &View) -> Timestamp {
    let times = view.steps.iter().flat_map(|step| [step.started, step.sent]).flatten();
    times.max().unwrap_or(view.sentence.since).max(view.sentence.since)
}

async fn all(link: &Link, places: &Places, screen: &mut Screen) -> Result<Exit, Stop> {
    let mut rows = vec![["GROUP", "WRITER", "STANDBY", "LAG", "RUN"].map(str::to_owned)];
    let mut values = Vec::new();
    let (mut waiting, mut oldest, mut notes) = (0_usize, None::<Timestamp>, String::new());
    let (mut running, mut owed) = (0_usize, 0_usize);
    for (_, path) in files::group_files(&places.groups())? {
        let looked = match link.status_of(&path).await {
            Ok(status) => status,
            Err(stop) => {
                rows.push(
                    [path.file_stem().unwrap_or_default().to_string_lossy().as_ref(), "?", "?", "?", "?"]
                        .map(str::to_owned),
                );
                notes.push_str(&stop.page.replace("nothing was sent\n", ""));
                continue;
            }
        };
        if let Some(view) = &looked.run {
            running += 1;
            waiting += usize::from(left_alone(view, looked.driven) == Exit::Waits);
        }
        oldest = oldest.into_iter().chain(facts(&looked)).min();
        if !looked.debts.is_empty() {
            let debts = looked.debts.len();
            owed += debts;
            notes.push_str(&format!("{}: {debts} owed; see  dr debts {0}\n", looked.group));
        }
        for finding in &looked.findings {
            notes.push_str(&format!("{}: DR{} {}\n", looked.group, finding.rule, finding.what));
        }
        rows.push(row(&looked));
        values.push(json!(looked));
    }
    let now = link::now();
    let age = oldest.map(|at| format!(", oldest fact {}", human(now.since(at)))).unwrap_or_default();
    let page = format!("{}read {} UTC{age}. {}\n{notes}", table(&rows), now.clock(), summary(running, waiting, owed));
    let exit = if waiting > 0 { Exit::Waits } else { Exit::Done };
    screen.reply(&page, &json!({"groups": values, "exit": exit.code()}));
    Ok(exit)
}

fn summary(running: usize, waiting: usize, owed: usize) -> String {
    match (running, waiting) {
        (0, _) if owed > 0 => format!("Nothing is running, {owed} owed."),
        (0, _) => "Nothing is running, nothing waits for you.".into(),
        (running, 0) if owed > 0 => format!("{running} running, {owed} owed."),
        (running, 0) => format!("{running} running, nothing waits for you."),
        (running, waiting) => format!("{running} not over, {waiting} waiting for somebody."),
    }
}

fn facts(status: &GroupStatus) -> Vec<Timestamp> {
    status.members.iter().filter_map(|member| member.replication.as_ref()).map(|seen| seen.at).collect()
}

fn standbys(status: &GroupStatus) -> Vec<&MemberFacts> {
    status.members.iter().filter(|member| Some(&member.name) != status.writer.as_ref()).collect()
}

fn lag(member: &MemberFacts) -> String {
    member.replication.as_ref().and_then(|seen| seen.lag).map_or_else(|| "?".into(), human)
}

fn row(status: &GroupStatus) -> [String; 5] {
    let writer = match &status.writer {
        Some(writer) if status.writer_answers => writer.to_string(),
        Some(writer) => format!("{writer}?"),
        None => "?".into(),
    };
    let standbys = standbys(status);
    let names: Vec<&str> = standbys.iter().map(|member| member.name.as_str()).collect();
    let lags: Vec<String> = standbys.iter().map(|member| lag(member)).collect();
    let run = status.run.as_ref().map_or_else(
        || "-".to_owned(),
        |view| {
            let alone = if status.driven { "" } else { ", no engine" };
            format!("{} {}{alone}", view.run, super::list::word(view))
        },
    );
    [status.group.to_string(), writer, names.join(", "), lags.join(", "), run]
}

/// The member at the other end of a link, or how the link calls a stranger.
fn called(status: &GroupStatus, link: &ReplicationLink) -> String {
    let known = status.members.iter().find(|member| member.is_at(&link.peer));
    known.map_or_else(|| link.to_string(), |member| member.name.to_string())
}

fn group_page(status: &GroupStatus) -> String {
    let mut rows = vec![["MEMBER", "ROLE", "WRITES", "FOLLOWS", "LAG", "READ"].map(str::to_owned)];
    for member in &status.members {
        let seen = member.description.as_ref();
        let role = match &status.writer {
            Some(writer) if *writer == member.name => "writer",
            Some(_) if member.presence == Presence::Planned => "planned",
            Some(_) if member.presence == Presence::Absent => "missing",
            Some(_) => "standby",
            None => "?",
        };
        let silent = member.silence.first().cloned();
        rows.push([
            member.name.to_string(),
            role.to_owned(),
            seen.map_or_else(|| "?".into(), |seen| seen.writable.to_string()),
            seen.and_then(|seen| seen.follows.as_ref()).map_or_else(|| "-".into(), |id| called(status, id)),
            if role == "writer" { "-".into() } else { lag(member) },
            silent.map_or_else(|| status.at.clock(), |why| format!("silent: {why}")),
        ]);
    }
    let mut page = format!("{}   {} UTC\n{}", status.group, status.at.clock(), table(&rows));
    for finding in &status.findings {
        page.push_str(&format!("{finding}\n"));
    }
    if !status.debts.is_empty() {
        page.push_str(&format!("\n{}\n", super::debts::rows(&status.debts)));
    }
    match &status.run {
        None => page.push_str(&format!("{}\n", summary(0, 0, status.debts.len()))),
        Some(view) => {
            page.push('\n');
            page.push_str(&view.to_string());
            if !status.driven {
                page.push_str(&nobody(view));
            }
        }
    }
    page
}
