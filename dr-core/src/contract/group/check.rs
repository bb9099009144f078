//! What is wrong with a group although its file could be read: one small function per rule.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::{
    AtTable, GroupSpec, IntendedRole, KeyPath, LimitsSpec, SecretPattern, SecretSpec, Serves, TrafficSpec,
    written_secret,
};
use crate::base::{MemberId, Millis, canonical, text};

/// The operations for which a runbook asks people; other names belong to users' runbooks and have a dot.
const OPERATIONS: [&str; 6] = ["switchover", "failover", "promotion", "failback", "redirect", "restore"];

/// The operations that a window may hold back: a failover waits for none.
const PLANNED: [&str; 4] = ["switchover", "promotion", "failback", "redirect"];

/// The operations that may run without a person.
const AUTOMATIC: [&str; 2] = ["switchover", "failover"];

/// Something in a group that cannot work or would not be safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFinding {
    /// Where.
    pub path: KeyPath,
    /// What is wrong, naming the culprit.
    pub message: String,
    /// What helps.
    pub helps: String,
}

impl fmt::Display for GroupFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}; {}", self.path, self.message, self.helps)
    }
}

type Findings = Vec<GroupFinding>;

fn finding(path: KeyPath, message: impl Into<String>, helps: impl Into<String>) -> GroupFinding {
    GroupFinding { path, message: message.into(), helps: helps.into() }
}

fn at(key: &str) -> KeyPath {
    KeyPath::root().then(key)
}

impl GroupSpec {
    /// Everything that is wrong with the group, in the order of the file; empty if it can be worked with.
    #[must_use]
    pub fn check(&self) -> Vec<GroupFinding> {
        let rules: [fn(&Self) -> Findings; 17] = [
            format,
            names,
            distinct_names,
            tier,
            home,
            number_of_members,
            distinct_members,
            objectives,
            secrets,
            placeholders,
            traffic,
            hardening,
            windows,
            limits,
            approvals,
            fences,
            automatic,
        ];
        let mut findings: Findings = rules.iter().flat_map(|rule| rule(self)).collect();
        for (place, text) in forms(self) {
            literal_secrets(&Value::from(text), &place, &mut findings);
        }
        for table in tables(self) {
            numbers(table, &mut findings);
            literal_secrets(table.value(), table.place(), &mut findings);
        }
        findings
    }
}

fn tables(group: &GroupSpec) -> impl Iterator<Item = &AtTable> {
    let members = group.members.iter().map(|member| &member.at);
    let around = group.secrets.iter().map(|secret| &secret.at).chain(group.apps.iter().map(|app| &app.at));
    let routes = group.traffic.iter().map(|route| &route.at).chain(group.fences.iter().map(|fence| &fence.at));
    members.chain(around).chain(routes).chain(group.notify.iter().map(|told| &told.at))
}

fn format(group: &GroupSpec) -> Findings {
    let known = group.format == GroupSpec::FORMAT;
    let wrong = || finding(at("format"), format!("format {} is unknown", group.format), "this release reads format 2");
    (!known).then(wrong).into_iter().collect()
}

/// A name is part of run ids and file names, and is typed by tired people.
fn names(group: &GroupSpec) -> Findings {
    let speakable = |name: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits) && name.len() <= 40
    };
    let helps = "a name has small letters, digits, `-` and `_`, begins with a letter and has at most 40 of them";
    let group_name = (at("name"), group.name.as_str());
    let wrong = |(path, name): (KeyPath, &str)| {
        (!speakable(name)).then(|| finding(path, format!("`{name}` is no name"), helps))
    };
    std::iter::once(group_name).chain(named(group).into_iter().flat_map(|(_, list)| list)).filter_map(wrong).collect()
}

/// The names of each kind of thing, with their places.
fn named(group: &GroupSpec) -> [(&str, Vec<(KeyPath, &str)>); 4] {
    fn list<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Vec<(KeyPath, &'a str)> {
        names.enumerate().map(|(index, name)| (at(key).then(index).then("name"), name)).collect()
    }
    [
        ("members", list("member", group.members.iter().map(|member| member.name.as_str()))),
        ("secrets", list("secret", group.secrets.iter().map(|secret| secret.name.as_str()))),
        ("application tiers", list("app", group.apps.iter().map(|app| app.name.as_str()))),
        ("routes", list("traffic", group.traffic.iter().map(|route| route.name.as_str()))),
    ]
}

/// Plans, approvals and `allow` entries call things by their names.
fn distinct_names(group: &GroupSpec) -> Findings {
    let mut findings = Findings::new();
    for (kind, list) in named(group) {
        let mut seen = BTreeSet::new();
        for (path, name) in list.into_iter().filter(|(_, name)| !seen.insert(*name)) {
            findings.push(finding(path, format!("two {kind} are called `{name}`"), "give each its own name"));
        }
    }
    findings
}

/// The forms that are written into secrets, with their places.
fn forms(group: &GroupSpec) -> impl Iterator<Item = (KeyPath, &str)> {
    group.secrets.iter().enumerate().flat_map(|(index, secret)| {
        let place = move |field: &str| at("secret").then(index).then("set").then(field);
        secret.set.iter().map(move |(field, text)| (place(field), text.as_str()))
    })
}

fn tier(group: &GroupSpec) -> Findings {
    let wrong = || finding(at("tier"), format!("there is no tier {}", group.tier), "tiers are 1, 2 and 3");
    (!(1..=3).contains(&group.tier)).then(wrong).into_iter().collect()
}

fn home(group: &GroupSpec) -> Findings {
    let wrong = match group.member(&group.home) {
        None => Some(no_member(group, at("home"), &group.home)),
        Some(home) if home.role != IntendedRole::Candidate => {
            let message = format!("`{}` is a {} and never becomes the writer", home.name, home.role);
            Some(finding(at("home"), message, "name a candidate, or give that member `role = \"candidate\"`"))
        }
        Some(_) => None,
    };
    wrong.into_iter().collect()
}

fn no_member(group: &GroupSpec, path: KeyPath, name: &MemberId) -> GroupFinding {
    let names: Vec<&str> = group.members.iter().map(|member| member.name.as_str()).collect();
    let meant = text::suggest(name.as_str(), names.iter().copied());
    let meant = meant.map(|meant| format!("did you mean `{meant}`?   ")).unwrap_or_default();
    finding(
        path,
        format!("group `{}` has no member `{name}`", group.name),
        format!("{meant}members: {}", names.join(", ")),
    )
}

fn number_of_members(group: &GroupSpec) -> Findings {
    let none = || {
        let message = format!("group `{}` has no members", group.name);
        finding(at("member"), message, "name the databases, each in a [[member]] table")
    };
    group.members.is_empty().then(none).into_iter().collect()
}

fn distinct_members(group: &GroupSpec) -> Findings {
    let mut findings = Findings::new();
    for (index, member) in group.members.iter().enumerate() {
        let place = at("member").then(index);
        for earlier in group.members.iter().take(index) {
            if earlier.name != member.name && earlier.backend == member.backend && earlier.at == member.at {
                let message = format!("`{}` and `{}` are the same database", earlier.name, member.name);
                findings.push(finding(place.then("at"), message, "a copy of this table was not changed"));
            }
        }
    }
    findings
}

fn objectives(group: &GroupSpec) -> Findings {
    let zero = group.objectives.rto == Some(Millis::ZERO);
    let wrong =
        || finding(at("objectives").then("rto"), "nobody can promise 0 s", "leave it out or say what is promised");
    let planned = group.objectives.rpo != Millis::ZERO;
    let loss = || {
        finding(
            at("objectives").then("rpo"),
            format!(
                "a planned operation loses nothing or stops; `{}` cannot be asked for",
                text::duration(group.objectives.rpo)
            ),
            "write `0 s`; what a forced failover may lose is `rpo_forced`",
        )
    };
    zero.then(wrong).into_iter().chain(planned.then(loss)).collect()
}

fn secrets(group: &GroupSpec) -> Findings {
    let regions: BTreeSet<&str> = group.members.iter().map(|member| member.region.as_str()).collect();
    let mut findings = Findings::new();
    for (index, one) in group.secrets.iter().enumerate() {
        let place = at("secret").then(index);
        findings.extend(secret(one, place.clone()));
        if let Some(region) = one.region.as_ref().filter(|region| !regions.contains(region.as_str())) {
            let message = format!("no member is in the region `{region}`");
            let regions: Vec<&str> = regions.iter().copied().collect();
            findings.push(finding(place.then("region"), message, format!("regions: {}", regions.join(", "))));
        }
    }
    findings
}

fn secret(secret: &SecretSpec, place: KeyPath) -> Findings {
    let mut findings = Findings::new();
    if secret.store.is_none() {
        if secret.because.as_deref().is_none_or(|because| because.trim().is_empty()) {
            let message = "there is no secret to write, and no reason is given";
            findings.push(finding(place.clone(), message, "say how applications find the writer: because = \"...\""));
        }
        if !secret.set.is_empty() {
            findings.push(finding(
                place.then("set"),
                "there is no store to write it into",
                "name the store, or drop `set`",
            ));
        }
    } else if secret.set.is_empty() {
        let helps = "name the fields that say where the writer is: set = { host = \"{writer.host}\", port = \"{writer.port}\" }";
        findings.push(finding(place, format!("nothing would be written into {}", secret.store), helps));
    } else if !secret.patterns().values().any(SecretPattern::names_writer) {
        let helps = "give one field a form with {writer.host}, {writer.port} or {writer.endpoint}";
        findings.push(finding(place.then("set"), "no field of it names the writer", helps));
    }
    findings
}

/// A brace that is not understood would be written into the secret or the route as it stands.
fn placeholders(group: &GroupSpec) -> Findings {
    let mut findings = Findings::new();
    let mut look = |path: KeyPath, text: &str, known: &[&str]| {
        let rest = known.iter().fold(text.to_owned(), |rest, word| rest.replace(word, ""));
        if rest.contains(['{', '}']) {
            findings.push(finding(
                path,
                format!("`{text}` has a placeholder that is unknown"),
                format!("known: {}", known.join(", ")),
            ));
        }
    };
    for (place, text) in forms(group) {
        look(place, text, &SecretPattern::PLACEHOLDERS);
    }
    for (index, route) in group.traffic.iter().enumerate() {
        for (member, text) in &route.members {
            look(at("traffic").then(index).then("member").then(member.as_str()), text, &[TrafficSpec::MEMBER]);
        }
    }
    findings
}

fn traffic(group: &GroupSpec) -> Findings {
    let mut findings = Findings::new();
    for (index, route) in group.traffic.iter().enumerate() {
        let place = at("traffic").then(index);
        for member in route.members.keys().filter(|member| group.member(member).is_none()) {
            findings.push(no_member(group, place.then("member").then(member.as_str()), member));
        }
        if route.serves == Serves::Readers {
            if route.members.is_empty() {
                let message = format!("the route {} leads readers to no member", route.name);
                findings.push(finding(place, message, "name the members that readers may use: member = { ... }"));
            }
            continue;
        }
        for member in group.members.iter().filter(|member| !route.members.contains_key(&member.name)) {
            let message = format!("the route {} is not told where `{}` is", route.name, member.name);
            findings.push(finding(place.clone(), message, format!("add it: member = {{ {} = \"...\" }}", member.name)));
        }
    }
    findings
}

/// A table that asks for nothing looks like one that does.
fn hardening(group: &GroupSpec) -> Findings {
    let Some(want) = &group.hardening else { return Vec::new() };
    let mut findings = Findings::new();
    if want.wants().is_empty() {
        let helps =
            "say `high_availability`, `deletion_protection`, `point_in_time` or `retention`, or leave the table out";
        findings.push(finding(at("hardening"), "asks for no protection", helps));
    }
    if want.retention == Some(Millis::ZERO) {
        let message = "backups that are kept for no time are none";
        findings.push(finding(at("hardening").then("retention"), message, "`7 d` is usual"));
    }
    findings
}

fn windows(group: &GroupSpec) -> Findings {
    let mut findings = Findings::new();
    for (operation, windows) in &group.windows {
        let place = at("windows").then(operation.as_str());
        let known = PLANNED.contains(&operation.as_str());
        if !known {
            let meant = text::suggest(operation, PLANNED).map(|meant| format!("did you mean `{meant}`?   "));
            let helps = format!("{}windows are for: {}", meant.unwrap_or_default(), PLANNED.join(", "));
            findings.push(finding(place, format!("`{operation}` waits for no window"), helps));
        } else if windows.is_empty() {
            let message = format!("{operation} could never begin");
            findings.push(finding(place, message, "name a window, such as `Sat 02:00-05:00`, or leave the key out"));
        }
    }
    findings
}

fn limits(group: &GroupSpec) -> Findings {
    let limits = &group.limits;
    let mut findings = Findings::new();
    let budget = at("limits").then("gap_budget");
    if limits.gap_budget < LimitsSpec::SHORTEST_GAP {
        let message = format!("no drain can be taken within {}", text::duration(limits.gap_budget));
        findings.push(finding(budget.clone(), message, "the least is `100 ms`; `60 s` is usual"));
    }
    for app in &group.apps {
        let Some(limit) = app.drain.client_limit.filter(|limit| *limit <= limits.gap_budget) else { continue };
        let (gap, limit) = (text::duration(limits.gap_budget), text::duration(limit));
        let message = format!("clients of {} give up after {limit}, but a drain may hold for {gap}", app.name);
        findings.push(finding(budget.clone(), message, "keep it below the clients' own limit"));
    }
    for (key, limit) in [("fact_age", limits.fact_age), ("proof_age", limits.proof_age)] {
        if limit == Millis::ZERO {
            let message = "nothing that is read is that fresh, so no run could go on";
            findings.push(finding(at("limits").then(key), message, "`60 s` is usual"));
        }
    }
    findings
}

fn approvals(group: &GroupSpec) -> Findings {
    let mut findings = Findings::new();
    for (operation, approval) in &group.approval {
        let place = at("approval").then(operation.as_str());
        findings.extend(unknown_operation(place.clone(), operation));
        if approval.people == 0 {
            let helps = "at least one person must agree; [automatic] is the way to run without one";
            findings.push(finding(place.then("people"), format!("{operation} would need nobody's approval"), helps));
        }
        if approval.expires == Millis::ZERO {
            let message = format!("the question about {operation} would expire at once");
            findings.push(finding(place.then("expires"), message, "`15 min` is usual"));
        }
    }
    findings
}

/// A misspelt operation would leave the real one with the default approval.
fn unknown_operation(path: KeyPath, operation: &str) -> Option<GroupFinding> {
    if OPERATIONS.contains(&operation) || operation.contains('.') {
        return None;
    }
    let meant =
        text::suggest(operation, OPERATIONS).map(|meant| format!("did you mean `{meant}`?   ")).unwrap_or_default();
    let helps = format!("{meant}known: {}; a runbook of your own has a dot in its name", OPERATIONS.join(", "));
    Some(finding(path, format!("there is no operation `{operation}`"), helps))
}

fn fences(group: &GroupSpec) -> Findings {
    let named = group.fences.iter().enumerate().filter_map(|(index, fence)| Some((index, fence.member.as_ref()?)));
    let unknown = named.filter(|(_, member)| group.member(member).is_none());
    unknown.map(|(index, member)| no_member(group, at("fence").then(index).then("member"), member)).collect()
}

fn automatic(group: &GroupSpec) -> Findings {
    let Some(opt_in) = &group.automatic else { return Vec::new() };
    let place = at("automatic");
    let mut findings = Findings::new();
    if opt_in.risk.split_whitespace().count() < 3 {
        let message = "the risk of acting without a person is not named";
        let helps = "say in a sentence what may go wrong and is accepted (E05)";
        findings.push(finding(place.then("risk"), message, helps));
    }
    if opt_in.operations.is_empty() {
        findings.push(finding(place.then("operations"), "names nothing that would be automatic", "drop [automatic]"));
    }
    for (index, operation) in opt_in.operations.iter().enumerate() {
        if !AUTOMATIC.contains(&operation.as_str()) {
            let message = format!("`{operation}` never runs without a person");
            let helps = format!("what may: {}", AUTOMATIC.join(", "));
            findings.push(finding(place.then("operations").then(index), message, helps));
        }
    }
    let distinct: BTreeSet<_> = opt_in.operations.iter().collect();
    if distinct.len() < opt_in.operations.len() {
        findings.push(finding(place.then("operations"), "names an operation twice", "name each once"));
    }
    findings
}

/// The table becomes part of the plan's hash, which holds no wide numbers.
fn numbers(table: &AtTable, findings: &mut Findings) {
    if let Err(error) = canonical::to_value(table) {
        let message = format!("the table cannot be hashed: {error}");
        findings.push(finding(table.place().clone(), message, "write the number in quotes"));
    }
}

/// A password in a group file would end in plans, journals and evidence.
fn literal_secrets(value: &Value, path: &KeyPath, findings: &mut Findings) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| literal_secrets(value, &path.then(key.as_str()), findings))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| literal_secrets(item, &path.then(index), findings))
        }
        Value::String(text) if written_secret(path, text) => findings.push(finding(
            path.clone(),
            "a secret is written here",
            "name it instead: `secret:NAME`, `file:PATH` or `env:NAME`",
        )),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
