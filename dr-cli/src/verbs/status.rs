//! `dr status`: what is true, what runs, what waits for somebody.

use dr_core::{
    GroupName, MemberId, Timestamp, Tri, View,
    base::{Finding, text::human},
    contract::ReplicationLink,
    plan::{MemberFacts, Presence},
    run::{Debt, DebtKind},
};
use dr_engine::{GroupStatus, RunSummary};
use serde_json::{Value, json};

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
    let idle = if concerns(&status).is_empty() { Exit::Done } else { Exit::Waits };
    let exit = status.run.as_ref().map_or(idle, |view| left_alone(view, status.driven));
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

/// All groups of the directory, and every run that is not over, whether its group has a file here or not.
async fn all(link: &Link, places: &Places, screen: &mut Screen) -> Result<Exit, Stop> {
    let runs = link.runs().await?;
    let files = match files::group_files(&places.groups()) {
        Ok(files) => files,
        // Without group files the journal still knows what runs.
        Err(stop) if runs.is_empty() => return Err(stop),
        Err(_) => Vec::new(),
    };
    // All at once: a silent member costs its patience once, and not once for each group.
    let looks: Vec<_> = files
        .iter()
        .map(|(name, path)| (name.clone(), tokio::spawn(link::look(link.engine().clone(), path.clone()))))
        .collect();
    let mut seen = Seen::default();
    for (name, look) in looks {
        match look.await.map_err(|error| Stop::bug(format!("the look at {name} broke: {error}")))? {
            Ok(status) => seen.group(status),
            Err(stop) => seen.unreadable(&name, &stop),
        }
    }
    seen.elsewhere(&runs);
    let now = link::now();
    let age = seen.oldest.map(|at| format!(", oldest fact {}", human(now.since(at)))).unwrap_or_default();
    let base = match &link.without_journal {
        Some(dir) => format!("{}; there is no journal in {}", several(files.len(), "group file"), dir.display()),
        None => {
            let dir = link.engine().dir().unwrap_or_else(|| std::path::Path::new("")).display();
            format!("{}; {} in the journal {dir}", several(files.len(), "group file"), several(runs.len(), "run"))
        }
    };
    let exit = seen.exit();
    let page =
        format!("{}read {} UTC{age}; {base}\n{}\n{}", table(&seen.rows), now.clock(), seen.summary(), seen.notes);
    screen.reply(&page, &json!({"groups": seen.values, "concerns": seen.concerns, "exit": exit.code()}));
    Ok(exit)
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What was seen of all groups.
#[derive(Debug)]
struct Seen {
    rows: Vec<[String; 5]>,
    notes: String,
    values: Vec<Value>,
    /// What somebody has to look at, a line each.
    concerns: Vec<String>,
    named: Vec<GroupName>,
    running: usize,
    waiting: usize,
    owed: usize,
    oldest: Option<Timestamp>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            rows: vec![["GROUP", "WRITER", "STANDBY", "LAG", "RUN"].map(str::to_owned)],
            notes: String::new(),
            values: Vec::new(),
            concerns: Vec::new(),
            named: Vec::new(),
            running: 0,
            waiting: 0,
            owed: 0,
            oldest: None,
        }
    }
}

impl Seen {
    fn group(&mut self, status: GroupStatus) {
        if let Some(view) = &status.run {
            self.running += 1;
            self.waiting += usize::from(left_alone(view, status.driven) == Exit::Waits);
        }
        self.oldest = self.oldest.into_iter().chain(facts(&status)).min();
        let concerns = concerns(&status);
        self.notes.extend(concerns.iter().map(|concern| format!("{}: {concern}\n", status.group)));
        self.concerns.extend(concerns);
        if !status.debts.is_empty() {
            self.owed += status.debts.len();
            self.notes.push_str(&format!("{}: {} owed; see  dr debts {0}\n", status.group, status.debts.len()));
        }
        for finding in findings(&status) {
            self.notes.push_str(&format!("{}: DR{} {}\n", status.group, finding.rule, finding.what));
        }
        self.rows.push(row(&status));
        self.values.push(json!(status));
        self.named.push(status.group);
    }

    /// A file that cannot be read may be that of a group on which something runs: it is no silence.
    fn unreadable(&mut self, name: &str, stop: &Stop) {
        self.rows.push([name, "?", "?", "?", "?"].map(str::to_owned));
        self.notes.push_str(&stop.page.replace("nothing was sent\n", ""));
        self.values.push(json!({"file": name, "error": stop.json}));
        self.concerns.push(format!("the file of {name} cannot be read"));
    }

    /// Runs whose group has no readable file here.
    fn elsewhere(&mut self, runs: &[RunSummary]) {
        for run in runs.iter().filter(|run| run.outcome.is_none() && !self.named.contains(run.run.group())) {
            self.running += 1;
            self.waiting += 1;
            let word = run.view.as_ref().map_or_else(|| "unreadable".to_owned(), super::list::word);
            let alone = if run.driven { "" } else { ", no engine" };
            self.notes
                .push_str(&format!("{} {word}{alone}: its group has no file here; see  dr status {0}\n", run.run));
            self.values.push(json!({"group": run.run.group(), "run": run}));
        }
    }

    fn exit(&self) -> Exit {
        if self.waiting > 0 || !self.concerns.is_empty() { Exit::Waits } else { Exit::Done }
    }

    fn summary(&self) -> String {
        let looked_at = self.concerns.len();
        let said = summary(self.running, self.waiting, self.owed);
        match looked_at {
            0 => said,
            1 => "One thing needs a look, below.".into(),
            many => format!("{many} things need a look, below."),
        }
    }
}

/// What is wrong with a group in which nothing runs. What a run does to its group on purpose is no finding: a fenced primary is not to be
/// repaired.
fn findings(status: &GroupStatus) -> &[Finding] {
    if status.run.is_some() { &[] } else { &status.findings }
}

/// Whether the writer answers, its server as well as its provider, and is not called ill.
fn answers(status: &GroupStatus, writer: &MemberId) -> bool {
    let ill = |member: &&MemberFacts| {
        let healthy = member.description.as_ref().map(|seen| seen.healthy);
        member.reach.server == Tri::No || healthy == Some(Tri::No)
    };
    status.writer_answers && !status.members.iter().filter(|member| member.name == *writer).any(|member| ill(&member))
}

/// What somebody has to look at, although no run asks for it.
fn concerns(status: &GroupStatus) -> Vec<String> {
    let mut concerns = Vec::new();
    if status.run.is_none() {
        match &status.writer {
            Some(writer) if !answers(status, writer) => {
                let to = standbys(status).first().map_or_else(|| "MEMBER".to_owned(), |member| member.name.to_string());
                concerns.push(format!(
                    "THE WRITER {writer} DOES NOT ANSWER; if it is down:  dr plan failover {} --to {to}",
                    status.group
                ));
            }
            Some(_) => {}
            None => concerns.push("IT CANNOT BE SAID WHO WRITES".into()),
        }
    }
    let by_hand = |debt: &&Debt| matches!(debt.kind, DebtKind::ByHand | DebtKind::StillHeld);
    let left = status.debts.iter().filter(by_hand).count();
    if left > 0 {
        concerns.push(format!("{left} left to do by hand after a run; see  dr debts {}", status.group));
    }
    concerns
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
    for finding in findings(status) {
        page.push_str(&format!("{finding}\n"));
    }
    for concern in concerns(status) {
        page.push_str(&format!("{concern}\n"));
    }
    if !status.debts.is_empty() {
        page.push_str(&format!("\n{}\n", super::debts::rows(&status.debts)));
    }
    match &status.run {
        None if !concerns(status).is_empty() => page.push_str("Nothing is running.\n"),
        None => page.push_str(&format!("{}\n", summary(0, 0, status.debts.len()))),
        Some(view) => {
            page.push_str(&format!(
                "\n{} works on this group; what it fenced and holds back is so on purpose:\n",
                view.run
            ));
            page.push_str(&view.to_string());
            if !status.driven {
                page.push_str(&nobody(view));
            }
        }
    }
    page
}
