//! What people read before they agree to a plan: short for a terminal, and whole, with every command, as Markdown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value;

use crate::{
    base::{Digest, Millis, NodeId, Timestamp, text::human},
    contract::{Class, Fact, Loss, ResourceKind, Touch},
    plan::{Call, Hold, Node, OnFailure, Plan, Purpose},
};

/// A plan as one screen: what it loses, how long writes stop, what it touches, whom it asks, and its steps.
#[must_use]
pub fn text(plan: &Plan, hash: Digest) -> String {
    let rows = Rows::of(plan);
    let mut page =
        format!("PLAN {}  {}   {} ({})   {}\n", hash.short(), plan.runbook, plan.group, plan.environment, way(plan));
    for (title, line) in head(plan) {
        let _infallible = writeln!(page, "  {title:<12} {line}");
    }
    page.push('\n');
    page.push_str(&rows.table());
    let _infallible = writeln!(page, "{}  Nothing was changed.", facts(&plan.facts));
    page
}

/// The whole plan: every step with its reason, limits, touches, the provider's own commands and the way back, the allow-list, and
/// every fact. What a person needs to finish a run by hand.
#[must_use]
pub fn markdown(plan: &Plan, hash: Digest) -> String {
    let rows = Rows::of(plan);
    let mut page = format!(
        "# {}\n\nPlan `{}`, hash `{}`, runbook `{}`.\n\n",
        plan.subject(),
        hash.short(),
        hash.hex(),
        plan.runbook
    );
    for (title, line) in head(plan) {
        let _infallible = writeln!(page, "- **{title}**: {line}");
    }
    page.push_str("\n## Steps\n\n|   | # | step | what | after | about |   |\n|---|---|---|---|---|---|---|\n");
    for row in &rows.rows {
        let Row { mark, number, id, what, after, about, note } = row;
        let what = cell(what);
        let _infallible = writeln!(page, "| {mark} | {number} | {id} | {what} | {after} | {about} | {note} |");
    }
    page.push_str("\n## Step by step\n");
    for row in &rows.rows {
        if let Some(node) = plan.nodes.get(row.id) {
            step(&mut page, row, node, plan.holds.get(row.id));
        }
    }
    page.push_str("\n## What may be touched\n\n");
    page.push_str(&allowed(plan));
    page.push_str("\n## Facts\n\n| fact | value | source | read |\n|---|---|---|---|\n");
    for Fact { name, value, source, at, .. } in &plan.facts {
        let _infallible = writeln!(page, "| {} | {} | {source} | {at} |", cell(name), cell(value));
    }
    page
}

/// Text that does not end a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn way(plan: &Plan) -> String {
    plan.to.as_ref().map_or_else(|| plan.expects.member.to_string(), |to| format!("{} -> {to}", plan.expects.member))
}

fn head(plan: &Plan) -> Vec<(&'static str, String)> {
    let mut lines = vec![("loses", loses(plan))];
    lines.extend(plan.leaves_out.iter().map(|(name, reason)| ("leaves out", format!("{name}: {reason}"))));
    lines.extend(writes_stop(plan).map(|line| ("writes stop", line)));
    lines.extend(clients_see(plan).map(|line| ("clients", line)));
    lines.push(("touches", touches(plan)));
    lines.push(("asks", asks(plan)));
    lines
}

fn loses(plan: &Plan) -> String {
    match &plan.loss {
        Loss::Nothing if plan.purpose == Purpose::Failover => "nothing acknowledged".into(),
        Loss::Nothing => "nothing acknowledged, or it stops".into(),
        loss @ (Loss::AtMost { .. } | Loss::Unknown { .. }) => loss.to_string(),
    }
}

/// From where to where writes stop, and how long if every step on the way says how long it takes: the longest way from the first
/// step that stops them to the last one that opens them again.
fn writes_stop(plan: &Plan) -> Option<String> {
    let all = |class| plan.nodes.iter().filter(move |(_, node)| node.call.class == class).map(|(id, _)| id);
    let stopped = plan.purpose == Purpose::Failover;
    let from = if stopped {
        plan.pivot()?
    } else {
        all(Class::Drain).chain(all(Class::Fence)).next().or_else(|| plan.pivot())?
    };
    let opens = |class| {
        let ids: Vec<&NodeId> = all(class).filter(|id| plan.ancestors(id).contains(from)).collect();
        (!ids.is_empty()).then_some(ids)
    };
    let until = opens(Class::Resume).or_else(|| opens(Class::Traffic)).or_else(|| opens(Class::ConfirmWriter))?;
    let names = until.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
    let mut line = if stopped {
        format!("they stopped with {}; they go on with {names}", plan.expects.member)
    } else {
        format!("from {from} to {names}")
    };
    let estimates: Option<Vec<Millis>> = until.iter().map(|id| longest(plan, from, id)).collect();
    if let Some(about) = estimates.and_then(|estimates| estimates.into_iter().max()) {
        let _infallible = write!(line, ", about {}", human(about));
    }
    if plan.nodes.get(from).is_some_and(|node| node.call.class == Class::Drain) {
        let budget = human(plan.policy.gap_budget);
        let _infallible = match plan.policy.unguarded {
            false => write!(line, "; given back if the promotion was not asked for within {budget}"),
            true => write!(line, "; NOBODY gives them back if the orchestrator dies (unguarded by choice)"),
        };
    }
    Some(line)
}

/// What clients see where the promotion may take longer than they wait.
fn clients_see(plan: &Plan) -> Option<String> {
    let drained = plan.nodes.values().any(|node| node.call.class == Class::Drain);
    let limit = plan.policy.client_limit.filter(|_| drained)?;
    let pivot = plan.pivot()?;
    let node = plan.nodes.get(pivot)?;
    let takes = node.about.unwrap_or(node.within);
    (takes > limit).then(|| {
        let (longest, wait, errors) = (human(takes), human(limit), human(takes.saturating_sub(limit)));
        format!("{pivot} takes up to {longest}; clients that wait at most {wait} will see errors for {errors}")
    })
}

/// The longest sum of estimates on any way from the beginning of `from` to the end of `to`, if every step on the way has one.
fn longest(plan: &Plan, from: &NodeId, to: &NodeId) -> Option<Millis> {
    let before = plan.ancestors(to);
    let mut ends: BTreeMap<NodeId, Millis> = BTreeMap::new();
    for id in plan.topological() {
        let Some(node) = plan.nodes.get(&id) else { continue };
        let begins = if id == *from {
            Some(Millis::ZERO)
        } else {
            node.before_it().iter().filter_map(|before| ends.get(before).copied()).max()
        };
        if let Some(begins) = begins.filter(|_| id == *to || before.contains(&id)) {
            ends.insert(id, begins.saturating_add(node.about?));
        }
    }
    ends.get(to).copied()
}

fn touches(plan: &Plan) -> String {
    let mut by_resource: BTreeMap<(u8, String), BTreeSet<String>> = BTreeMap::new();
    for Touch { resource, verb } in plan.touches() {
        let (rank, word) = match plan.bindings.get(&resource).map(|bound| bound.kind) {
            Some(ResourceKind::Database) => (0, "database "),
            Some(ResourceKind::Secret) => (1, ""),
            Some(ResourceKind::Traffic) => (2, ""),
            Some(ResourceKind::Readers) => (3, ""),
            Some(ResourceKind::App) => (3, ""),
            Some(ResourceKind::Custom) | None => (4, ""),
        };
        by_resource.entry((rank, format!("{word}{resource}"))).or_default().insert(verb);
    }
    if by_resource.is_empty() {
        return "nothing".into();
    }
    let words = by_resource
        .into_iter()
        .map(|((_, name), verbs)| format!("{name} ({})", verbs.into_iter().collect::<Vec<_>>().join(", ")));
    words.collect::<Vec<_>>().join(" · ")
}

fn asks(plan: &Plan) -> String {
    if let Some(risk) = &plan.policy.automatic {
        return format!("nobody: automatic by policy ({risk})");
    }
    let asks: Vec<String> = plan
        .order
        .iter()
        .filter_map(|id| plan.nodes.get(id))
        .filter(|node| node.call.class == Class::Consent)
        .map(|node| whom(node).unwrap_or_else(|| node.call.sentence.clone()))
        .collect();
    if asks.is_empty() { "nobody".into() } else { asks.join("; ") }
}

/// `2 of dba, service-owner, not the requester`, as far as the ask says.
fn whom(ask: &Node) -> Option<String> {
    let params = &ask.call.params.0;
    let people = params.get("people")?.as_u64()?;
    let roles: Vec<&str> = params.get("roles")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let of = if roles.is_empty() { String::new() } else { format!(" of {}", roles.join(", ")) };
    let noun = match (people, roles.is_empty()) {
        (1, true) => " person",
        (_, true) => " people",
        (_, false) => "",
    };
    Some(format!("{people}{noun}{of}, not the requester"))
}

fn facts(facts: &[Fact]) -> String {
    let ages: Option<(Timestamp, Timestamp)> =
        facts.iter().map(|fact| fact.at).min().zip(facts.iter().map(|fact| fact.at).max());
    match ages {
        None => "facts: none.".into(),
        Some((oldest, newest)) if oldest.clock() == newest.clock() => {
            format!("facts: {}, read {} UTC.", facts.len(), oldest.clock())
        }
        Some((oldest, newest)) => {
            format!("facts: {}, read {} to {} UTC.", facts.len(), oldest.clock(), newest.clock())
        }
    }
}

/// One line of the table.
struct Row<'a> {
    mark: &'static str,
    number: usize,
    id: &'a NodeId,
    what: &'a str,
    after: String,
    about: String,
    note: String,
}

struct Rows<'a> {
    rows: Vec<Row<'a>>,
}

impl<'a> Rows<'a> {
    fn of(plan: &'a Plan) -> Self {
        let order = plan.topological();
        let number: BTreeMap<&NodeId, usize> = order.iter().zip(1..).collect();
        let rows = order.iter().filter_map(|id| {
            let (id, node) = plan.nodes.get_key_value(id)?;
            let pivot = node.call.class == Class::Pivot;
            Some(Row {
                mark: if pivot { "■" } else { " " },
                number: number.get(id).copied()?,
                id,
                what: &node.call.sentence,
                after: after(plan, node, &number),
                about: node.about.map_or_else(|| "-".into(), human),
                note: note(plan, id, node, &number),
            })
        });
        Self { rows: rows.collect() }
    }

    fn table(&self) -> String {
        let wrapped: Vec<Vec<String>> = self.rows.iter().map(|row| wrap(row.what)).collect();
        let width = |column: fn(&Row<'_>) -> usize, title: &str| {
            self.rows.iter().map(column).max().unwrap_or_default().max(title.chars().count())
        };
        let step = width(|row| row.id.as_str().chars().count(), "step");
        let what = wrapped.iter().flatten().map(|line| line.chars().count()).max().unwrap_or_default().max(4);
        let after = width(|row| row.after.chars().count(), "after");
        let about = width(|row| row.about.chars().count(), "about");
        let mut table = format!("    #  {:step$}  {:what$}  {:after$}  {:about$}\n", "step", "what", "after", "about");
        trim(&mut table);
        for (row, lines) in self.rows.iter().zip(&wrapped) {
            let Row { mark, number, id, after: edges, about: takes, note, .. } = row;
            for (index, sentence) in lines.iter().enumerate() {
                let mut line = if index == 0 {
                    let id = id.as_str();
                    format!(
                        " {mark} {number:>2}  {id:step$}  {sentence:what$}  {edges:after$}  {takes:about$}  {note}\n"
                    )
                } else {
                    format!("       {:step$}  {sentence}\n", "")
                };
                trim(&mut line);
                table.push_str(&line);
            }
        }
        table
    }
}

/// How wide a sentence may be in the table.
const SENTENCE: usize = 60;

/// A sentence in lines of at most [`SENTENCE`] characters, broken between words.
fn wrap(sentence: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= SENTENCE => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn trim(line: &mut String) {
    line.truncate(line.trim_end().len());
    line.push('\n');
}

/// The numbers of the steps it directly waits for; those that follow from others are left out.
fn after(plan: &Plan, node: &Node, number: &BTreeMap<&NodeId, usize>) -> String {
    let direct = node.before_it();
    let implied: BTreeSet<NodeId> = direct.iter().flat_map(|id| plan.ancestors(id)).collect();
    let mut numbers: Vec<usize> =
        direct.iter().filter(|id| !implied.contains(id)).filter_map(|id| number.get(id).copied()).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return "-".into();
    }
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn note(plan: &Plan, id: &NodeId, node: &Node, number: &BTreeMap<&NodeId, usize>) -> String {
    let mut notes = Vec::new();
    if node.call.class == Class::Pivot {
        notes.push("no way back from here".to_owned());
    }
    if let Some(hold) = plan.holds.get(id) {
        let back = hold.released_by.as_ref().and_then(|by| number.get(by)).map(|by| {
            let word = if node.call.class == Class::Fence { "retired" } else { "given back" };
            format!("taken, {word} in {by}")
        });
        notes.push(back.unwrap_or_else(|| "taken, never given back".into()));
    }
    if let OnFailure::Debt { owner, .. } = &node.on_failure {
        notes.push(format!("may fail; then {owner} owes it"));
    }
    notes.join("; ")
}

fn step(page: &mut String, row: &Row<'_>, node: &Node, hold: Option<&Hold>) {
    let Row { number, id, what, .. } = row;
    let _infallible = write!(page, "\n### {number}. {id}\n\n{what}");
    let _infallible = match &node.why {
        Some(why) => writeln!(page, ", because {why}.\n"),
        None => writeln!(page, ".\n"),
    };
    let kind = &node.call.kind;
    let _infallible = writeln!(
        page,
        "- `{kind}`, at most {} and {} attempts, looking every {}",
        human(node.within),
        node.attempts,
        human(node.every)
    );
    let _infallible = writeln!(page, "- touches {}", list(&node.call));
    if let OnFailure::Debt { text, owner } = &node.on_failure {
        let _infallible = writeln!(page, "- if it fails, {owner} owes: {text}");
    }
    by_hand(page, "by hand", &node.call);
    if let Some(hold) = hold {
        let _infallible =
            writeln!(page, "- way back: {} (`{}`), touches {}", hold.undo.sentence, hold.undo.kind, list(&hold.undo));
        by_hand(page, "way back by hand", &hold.undo);
    }
}

fn list(call: &Call) -> String {
    if call.touches.is_empty() {
        return "nothing".into();
    }
    call.touches.iter().map(|touch| format!("`{touch}`")).collect::<Vec<_>>().join(", ")
}

fn by_hand(page: &mut String, title: &str, call: &Call) {
    if call.manual.is_empty() {
        return;
    }
    let _infallible = writeln!(page, "- {title}:\n\n  ```sh");
    for command in &call.manual {
        let _infallible = writeln!(page, "  {command}");
    }
    page.push_str("  ```\n");
}

fn allowed(plan: &Plan) -> String {
    let mut page = String::new();
    for touch in plan.touches() {
        let what = plan.bindings.get(&touch.resource).map_or_else(
            || "allowed by the group file".to_owned(),
            |bound| format!("{} `{}`", bound.provider, bound.address),
        );
        let _infallible = writeln!(page, "- `{touch}`: {what}");
    }
    if page.is_empty() { "- nothing\n".into() } else { page }
}
