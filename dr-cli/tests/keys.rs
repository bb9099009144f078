//! No key of a group file without an effect: each one that the reader accepts changes a plan, a finding, or what a backend opens.
//!
//! The list of keys is not written down here. It is what the reader itself says when it meets a key that it does not know, table by table,
//! so a key that is added to the schema fails this test until it stands in the files below and something depends on it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use dr_core::{
    Backend, GroupSpec, Plan, PlannedSwitchover, Runbook, UnplannedFailover,
    base::{Digest, text::parse_duration},
    contract::{ConfigFault, GroupFinding},
};
use dr_engine::{Engine, GroupFile, TokioRuntime};
use dr_postgres::Postgres;
use dr_testkit::{Flavour, Setup, SimCloud, Timing};
use serde_json::{Value, json};

/// A group of the simulated cloud, with everything that changes a plan.
const SIMULATED: &str = r#"
format      = 2
name        = "orders"
environment = "test"
tier        = 2
home        = "neu"
iac_outputs = "outputs.json"
allow       = ["kafka:billing set-running"]
objectives  = { rto = "5 min", rpo = "0 s", rpo_forced = "60 s" }
windows     = { switchover = ["Sat 02:00-05:00"] }
hardening   = { high_availability = true, deletion_protection = true, point_in_time = true, retention = "7 d" }
limits      = { lag_before_drain = "10 s", long_transaction = "30 s", fact_age = "60 s", proof_age = "60 s", gap_budget = "5 s" }

[[member]]
name    = "neu"
region  = "r1"
role    = "candidate"
backend = "sim"
at      = { instance = "output:neu" }

[[member]]
name    = "weu"
region  = "r2"
role    = "candidate"
planned = true
backend = "sim"
at      = { instance = "weu" }

[[member]]
name    = "uks"
region  = "r3"
role    = "follower"
backend = "sim"
at      = { instance = "uks" }

[[secret]]
name   = "orders"
region = "r1"
store  = "sim"
set    = { host = "{writer.endpoint}" }

[[app]]
name  = "api"
tier  = "sim"
drain = { within = "3 s", client_limit = "9 s" }

[[traffic]]
name   = "public"
router = "sim"
member = { neu = "neu", weu = "weu", uks = "uks" }

[[traffic]]
name   = "reports"
serves = "readers"
router = "sim"
member = { neu = "neu", weu = "weu" }

[[fence]]
member = "neu"
with   = "sim"
grade  = "confirmed"

[approval.switchover]
people  = 2
roles   = ["dba"]
expires = "10 min"

[approval.failover]
people  = 2
roles   = ["dba"]
expires = "10 min"

[automatic]
operations = ["failover"]
risk       = "nobody is awake at night"
"#;

/// A group of servers of one's own, with everything that a backend reads.
const SERVERS: &str = r#"
format = 2
name   = "billing"
home   = "pg1"

[[member]]
name    = "pg1"
region  = "a"
backend = "postgres"
at      = { host = "10.1.0.11", data = "/var/lib/postgresql/15/main" }

[[member]]
name    = "pg2"
region  = "b"
backend = "postgres"
at      = { host = "10.2.0.11", data = "/var/lib/postgresql/15/main" }

[probe]
user     = "dr_probe"
password = "env:PROBE"

[application]
user     = "orders"
password = "env:ORDERS"
database = "orders"
table    = "orders"

[[secret]]
name    = "billing"
store   = "postgres.file"
at      = { path = "/etc/billing/secret" }
set     = { host = "{writer.host}" }

[[secret]]
name    = "other"
store   = "none"
because = "it names nobody"

[[app]]
name = "pooler"
tier = "postgres.pgbouncer"
at   = { admin = ["10.1.0.20:6432"], database = "billing" }

[[traffic]]
name   = "public"
router = "postgres.pgbouncer"
at     = { admin = ["10.1.0.21:6432"], database = "billing" }
member = { pg1 = "10.1.0.12", pg2 = "10.2.0.12" }

[[fence]]
with  = "postgres.hba"
grade = "confirmed"
at    = { spare = ["admin"] }

[[notify]]
with = "exec"
only = "urgent"
at   = { run = ["/usr/local/bin/page", "billing"], within = "5 s" }
"#;

/// One step into a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Into {
    Key(String),
    Item(usize),
}

type Place = Vec<Into>;

fn at<'a>(file: &'a mut Value, place: &[Into]) -> &'a mut Value {
    place.iter().fold(file, |value, step| match step {
        Into::Key(key) => value.get_mut(key).unwrap(),
        Into::Item(index) => value.get_mut(index).unwrap(),
    })
}

/// The name of a key in the schema: the place without the numbers of list items.
fn name(place: &[Into]) -> String {
    let keys = place.iter().filter_map(|step| if let Into::Key(key) = step { Some(key.as_str()) } else { None });
    keys.collect::<Vec<_>>().join(".")
}

/// The keys that the reader knows in the table at `place`; those of the file, where the table is a map whose keys are the user's own or
/// the backend's.
fn known(file: &Value, place: &[Into]) -> Vec<String> {
    let mut asked = file.clone();
    at(&mut asked, place).as_object_mut().unwrap().insert("no_such_key".into(), json!(1));
    match GroupSpec::read(&asked).map_err(|error| error.fault().clone()) {
        Err(ConfigFault::UnknownKey { known }) => known,
        _ => at(&mut asked, place).as_object().unwrap().keys().filter(|key| *key != "no_such_key").cloned().collect(),
    }
}

/// Every key of the schema that `file` holds, and, by its name, every one that it does not.
fn walk(file: &Value, place: &Place, held: &mut Vec<Place>, missing: &mut BTreeSet<String>) {
    for key in known(file, place) {
        let below = [place.clone(), vec![Into::Key(key)]].concat();
        let mut value = file.clone();
        let found = place.iter().try_fold(&value, |value, step| match step {
            Into::Key(key) => value.get(key),
            Into::Item(index) => value.get(index),
        });
        let Some(Into::Key(key)) = below.last() else { continue };
        if found.and_then(|table| table.get(key)).is_none() {
            missing.insert(name(&below));
            continue;
        }
        held.push(below.clone());
        match at(&mut value, &below).clone() {
            Value::Object(_) => walk(file, &below, held, missing),
            Value::Array(items) => {
                for (index, _) in items.iter().enumerate().filter(|(_, item)| item.is_object()) {
                    walk(file, &[below.clone(), vec![Into::Item(index)]].concat(), held, missing);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Other values that the reader takes in place of this one.
fn others(file: &Value, place: &Place) -> Vec<Value> {
    let mut copy = file.clone();
    let mut values = match at(&mut copy, place).clone() {
        Value::String(text) => match parse_duration(&text) {
            Ok(time) => vec![json!(format!("{} ms", time.count() + 1000)), json!(format!("{} ms", time.count() / 2))],
            Err(_) => {
                let mut texts = vec![json!(format!("{text}x")), json!("weu"), json!("pg2"), json!("none"), json!("r2")];
                texts.extend(choices(file, place).into_iter().map(Value::String));
                texts
            }
        },
        Value::Number(number) => vec![json!(number.as_u64().unwrap() + 1), json!(1)],
        Value::Array(items) if items.iter().all(Value::is_string) => {
            vec![json!([]), json!(["switchover"]), json!(["kafka:orders stop"]), json!(["service-owner"])]
        }
        Value::Bool(is) => vec![json!(!is)],
        Value::Null | Value::Array(_) | Value::Object(_) => Vec::new(),
    };
    values.retain(|value| value != at(&mut copy, place));
    values
}

/// The words that may stand here, if they are a list of choices.
fn choices(file: &Value, place: &Place) -> Vec<String> {
    let mut asked = file.clone();
    *at(&mut asked, place) = json!("no such choice");
    match GroupSpec::read(&asked).map_err(|error| error.fault().clone()) {
        Err(ConfigFault::Choice { known, .. }) => known,
        _ => Vec::new(),
    }
}

/// The file with other values at a place, and without it.
fn changed(file: &Value, place: &Place) -> Vec<Value> {
    let mut files: Vec<Value> = others(file, place)
        .into_iter()
        .map(|other| {
            let mut copy = file.clone();
            *at(&mut copy, place) = other;
            copy
        })
        .collect();
    let mut without = file.clone();
    let (last, table) = place.split_last().unwrap();
    if let Into::Key(key) = last {
        at(&mut without, table).as_object_mut().unwrap().remove(key);
        files.push(without);
    }
    files
}

/// What the program makes of a file; `None` where the reader does not take it.
async fn seen(file: &Value, dir: &Path, primary: Primary) -> Option<String> {
    let spec = GroupSpec::read(file).ok()?;
    let findings: Vec<String> = spec.check().iter().map(GroupFinding::to_string).collect();
    if !findings.is_empty() {
        return Some(findings.join("\n"));
    }
    Some(if spec.members.iter().any(|member| member.backend.prefix() == "postgres") {
        opened(&spec)
    } else {
        planned(file, dir, primary).await
    })
}

/// Whether the primary of the simulated group lives.
#[derive(Clone, Copy, Debug)]
enum Primary {
    Lives,
    Died,
    /// It lives, and the member that shall take its place does not exist.
    Alone,
}

/// What is opened for a group of servers: every provider, as it describes itself.
fn opened(spec: &GroupSpec) -> String {
    let backend = Postgres::new();
    let mut all = Vec::new();
    for member in &spec.members {
        all.push(format!("{:?}", backend.open(spec, member)));
        for fence in spec.fences.iter().filter(|fence| !fence.with.is_none()) {
            all.push(format!("{:?} {:?}", fence.grade, backend.fence(spec, fence, member)));
        }
    }
    for told in &spec.notify {
        let known = told.with.prefix() == "exec";
        all.push(format!("{:?} {:?}", told.only, known.then(|| dr_cli::Exec.notifier(spec, told))));
    }
    for secret in spec.secrets.iter().filter(|secret| !secret.store.is_none()) {
        all.push(format!("{} {:?}", secret.name, backend.secret(spec, secret)));
    }
    all.extend(spec.traffic.iter().map(|route| format!("{} {:?}", route.name, backend.route(spec, route))));
    all.extend(spec.apps.iter().map(|app| format!("{} {:?}", app.name, backend.app(spec, app))));
    all.join("\n")
}

/// A value as TOML writes it on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key:?} = {}", inline(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// The plan of a group in the simulated cloud, or why there is none.
async fn planned(file: &Value, dir: &Path, primary: Primary) -> String {
    let path = dir.join("orders.toml");
    let lines = file.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {}\n", inline(value)));
    fs::write(&path, lines.collect::<String>()).unwrap();
    let read = match GroupFile::read(&path) {
        Ok(read) => read,
        Err(error) => return error.to_string(),
    };
    let mut setup =
        Setup::pair("orders", "neu", "weu").with("uks", dr_core::contract::IntendedRole::Follower).writers(0);
    setup.flavour = Flavour::Separate;
    setup.readers = 1;
    setup.timing = Timing::brisk();
    let cloud = SimCloud::new(setup, Arc::new(TokioRuntime::current().unwrap()));
    match primary {
        Primary::Lives => {}
        Primary::Died => cloud.break_down("neu"),
        Primary::Alone => cloud.delete("weu"),
    }
    let journal = tempfile::tempdir().unwrap();
    let engine = Engine::open(journal.path().join("journal")).backend(cloud.backend()).without_watcher().unguarded();
    let engine = engine.leases(journal.path().join("leases")).start().await.unwrap();
    let group = match engine.group(read.path()) {
        Ok(group) => group,
        Err(error) => return error.to_string(),
    };
    let runbook: Box<dyn Runbook> = match primary {
        Primary::Lives | Primary::Alone => Box::new(PlannedSwitchover::to("weu")),
        Primary::Died => Box::new(UnplannedFailover::to("weu")),
    };
    match engine.plan_with(&group, &*runbook).await {
        Ok(plan) => settled(plan.plan()),
        Err(error) => error.to_string(),
    }
}

/// A plan without what differs from one look to the next, and without the digest of the file, which every key changes.
fn settled(plan: &Plan) -> String {
    let mut plan = plan.clone();
    plan.group_digest = Digest::zero();
    plan.facts.retain(|fact| fact.source == "group file");
    plan.facts.iter_mut().for_each(|fact| fact.at = dr_core::Timestamp::default());
    plan.canonical().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_of_a_group_file_is_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("outputs.json"), r#"{"neu": "neu"}"#).unwrap();
    let read = |text: &str| toml::from_str::<Value>(text).unwrap();
    let files =
        [(read(SIMULATED), vec![Primary::Lives, Primary::Died, Primary::Alone]), (read(SERVERS), vec![Primary::Lives])];
    let (mut keys, mut missing): (Vec<(usize, Place)>, Vec<BTreeSet<String>>) = Default::default();
    for (number, (file, _)) in files.iter().enumerate() {
        let (mut held, mut lacking) = Default::default();
        walk(file, &Vec::new(), &mut held, &mut lacking);
        keys.extend(held.into_iter().map(|place| (number, place)));
        missing.push(lacking);
    }
    let there: BTreeSet<String> = keys.iter().map(|(_, place)| name(place)).collect();
    let nowhere: Vec<&String> = missing.iter().flatten().filter(|key| !there.contains(*key)).collect();
    assert!(nowhere.is_empty(), "keys of the schema that stand in no file of this test: {nowhere:?}");
    assert!(there.len() > 60, "the reader tells its keys: {there:?}");

    let mut effective = BTreeSet::from(["format".to_owned()]);
    for (number, (file, lives)) in files.iter().enumerate() {
        for primary in lives {
            let before = seen(file, dir.path(), *primary).await.unwrap();
            let planned = before.starts_with('{') || matches!(primary, Primary::Alone);
            assert!(planned || number == 1, "the group as it stands can be planned: {before}");
            assert_eq!(
                Some(&before),
                seen(file, dir.path(), *primary).await.as_ref(),
                "the same file comes to the same"
            );
            for (_, place) in keys.iter().filter(|(of, _)| *of == number) {
                if effective.contains(&name(place)) {
                    continue;
                }
                for other in changed(file, place) {
                    if seen(&other, dir.path(), *primary).await.is_some_and(|after| after != before) {
                        effective.insert(name(place));
                        break;
                    }
                }
            }
        }
    }
    // A table is what its keys are.
    let table = |key: &String| there.iter().any(|other| other.starts_with(&format!("{key}.")));
    let idle: Vec<&String> = there.iter().filter(|key| !effective.contains(*key) && !table(key)).collect();
    assert!(idle.is_empty(), "keys that are accepted and change nothing: {idle:?}");

    // The only key of which no other value is taken at all.
    let mut other = read(SERVERS);
    *at(&mut other, &[Into::Key("format".into())]) = json!(3);
    GroupSpec::read(&other).unwrap_err();
}
