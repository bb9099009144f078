//! Group files: the four of the API document, the faults that stop the reader, and the findings of the check.
//! Covers A09 (in part), E05, E06 and story 6.
#![expect(clippy::panic, reason = "tests")]

use dr_core::{
    Grade, GroupSpec, MemberId, Millis,
    base::Endpoint,
    contract::{AtTable, ConfigError, ConfigFault, IntendedRole, KeyPath, SecretRef},
    minutes, seconds,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

macro_rules! shipped {
    ($name:literal) => {
        include_str!(concat!("data/groups/", $name, ".toml"))
    };
}

fn value(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn group(text: &str) -> GroupSpec {
    GroupSpec::read(&value(text)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> ConfigError {
    match GroupSpec::read(&value(text)) {
        Ok(group) => panic!("read: {group:?}"),
        Err(error) => error,
    }
}

/// The smallest file: two members and a home.
const SMALL: &str = r#"
format = 2
name = "orders"
home = "a"
[[member]]
name = "a"
region = "r1"
backend = "sim"
at = { n = 1 }
[[member]]
name = "b"
region = "r2"
backend = "sim"
at = { n = 2 }
"#;

#[test]
fn the_four_files_of_the_api_document_are_read_and_have_no_findings() {
    for text in [shipped!("orders"), shipped!("ledger"), shipped!("catalog"), shipped!("billing")] {
        let group = group(text);
        assert_eq!(group.check(), [], "{}", group.name);
        assert_eq!(group.members.len(), 2);
        assert!(group.member(&group.home).is_some());
    }
}

#[test]
fn every_key_of_the_first_file_lands_where_it_belongs() {
    let group = group(shipped!("orders"));
    assert_eq!((group.name.as_str(), group.environment.as_str(), group.tier), ("orders", "prod", 1));
    assert_eq!(group.iac_outputs.as_deref(), Some("outputs/orders.json"));
    assert_eq!((group.objectives.rto, group.objectives.rpo), (Some(minutes(5)), Millis::ZERO));
    assert_eq!(group.objectives.rpo_forced, seconds(60));
    let weu = group.member(&MemberId::new("weu")).unwrap();
    assert_eq!(
        (weu.region.as_str(), weu.backend.prefix(), weu.backend.service()),
        ("westeurope", "azure", Some("pg-flexible"))
    );
    assert_eq!(weu.at.place().to_string(), "member[1].at");
    assert_eq!(group.probe.as_ref().unwrap().password, Some(SecretRef::Stored("orders-dr-probe".into())));
    let writer = Endpoint::new("orders-weu.postgres.example");
    let secret = group.secrets.first().unwrap();
    let filled = secret.patterns().into_iter().map(|(field, form)| (field, form.fill(&writer)));
    assert_eq!(filled.collect::<Vec<_>>(), [("host".into(), Some(writer.to_string()))]);
    let app = group.apps.first().unwrap();
    assert_eq!((app.drain.within, app.drain.client_limit), (seconds(30), None));
    assert_eq!(app.at.value().get("flag"), Some(&json!("secret:orders-read-only")));
    let origin = group.traffic.first().unwrap().origin(&MemberId::new("weu"), &writer);
    assert_eq!(origin.as_deref(), Some("origin-weu"));
    assert_eq!(group.fences.first().unwrap().grade, Grade::Confirmed);
    let failover = group.approval("failover");
    assert_eq!((failover.people, failover.expires), (2, minutes(10)));
}

#[test]
fn a_route_by_endpoint_is_filled_in() {
    let group = group(shipped!("catalog"));
    let origin = group.traffic.first().unwrap().origin(&MemberId::new("belgium"), &Endpoint::new("10.0.0.7"));
    assert_eq!(origin.as_deref(), Some("10.0.0.7"));
}

#[test]
fn what_is_not_said_has_the_documented_default() {
    let group = group(SMALL);
    let limits = &group.limits;
    assert_eq!(limits.lag_before_drain, seconds(10));
    assert_eq!((limits.long_transaction, limits.fact_age, limits.proof_age), (seconds(30), seconds(60), seconds(60)));
    assert_eq!(limits.gap_budget, seconds(60));
    assert_eq!((group.environment.as_str(), group.tier), ("prod", 1));
    let approval = group.approval("switchover");
    assert_eq!((approval.people, approval.roles.len(), approval.expires), (1, 0, minutes(15)));
    assert!(group.automatic("switchover").is_none(), "E05: nothing runs without a person by default");
    assert_eq!(group.check(), []);
}

/// A typo is an error at every level, with the key, the known keys and what was meant.
#[test]
fn an_unknown_key_is_refused_at_every_level() {
    let small = |extra: &str| format!("{extra}\n{SMALL}");
    let cases = [
        (small("nam = 'x'"), "nam", "name"),
        (format!("{SMALL}\n[objectives]\nrpo_force = '60 s'"), "objectives.rpo_force", "rpo_forced"),
        (SMALL.replacen("region", "regon", 1), "member[0].regon", "region"),
        (format!("{SMALL}\n[probe]\nusr = 'x'"), "probe.usr", "user"),
        (format!("{SMALL}\n[[secret]]\nname = 's'\nstor = 'x'"), "secret[0].stor", "store"),
        (
            format!("{SMALL}\n[[app]]\nname = 'api'\ntier = 'x'\ndrain = {{ wihin = '1 s' }}"),
            "app[0].drain.wihin",
            "within",
        ),
        (format!("{SMALL}\n[[app]]\nname = 'api'\nteir = 'x'"), "app[0].teir", "tier"),
        (format!("{SMALL}\n[[traffic]]\nname = 'public'\nroter = 'x'"), "traffic[0].roter", "router"),
        (format!("{SMALL}\n[[fence]]\nwit = 'x'"), "fence[0].wit", "with"),
        (format!("{SMALL}\n[limits]\nfact_ag = '1 s'"), "limits.fact_ag", "fact_age"),
        (format!("{SMALL}\n[approval.switchover]\npeple = 1"), "approval.switchover.peple", "people"),
        (format!("{SMALL}\n[automatic]\nrsk = ''"), "automatic.rsk", "risk"),
    ];
    for (text, path, meant) in cases {
        let error = refused(&text);
        assert_eq!(error.path().to_string(), path);
        let help = error.help().unwrap();
        assert!(help.starts_with(&format!("did you mean `{meant}`?   known: ")), "{path}: {help}");
    }
}

#[test]
fn errors_read_as_on_the_screens() {
    let error = refused(&format!("{SMALL}\n[objectives]\nrpo_force = '60 s'"));
    assert_eq!(
        error.to_string(),
        "[objectives] has no key `rpo_force`; did you mean `rpo_forced`?   known: rto, rpo, rpo_forced"
    );
    let text = |text: &str| refused(text).to_string();
    assert_eq!(text(&SMALL.replacen("name = \"a\"\n", "", 1)), "[[member]] 1 lacks the key `name`");
    assert_eq!(text("format = 2"), "the group file lacks the key `name`");
    assert_eq!(text(&SMALL.replacen("\"orders\"", "7", 1)), "`name` is a number, not a string");
    assert_eq!(text(&SMALL.replacen("at = { n = 1 }", "at = 'x'", 1)), "`member[0].at` is text, not a map");
    assert_eq!(text(&format!("tier = 300\n{SMALL}")), "`tier` is a number out of range, not u8");
    assert_eq!(
        text(&format!("{SMALL}\n[limits]\nfact_age = 60")),
        "`limits.fact_age`: `60` has no unit: is it `60 s` or `60 min`? units: ms, s, min, h, d"
    );
    assert!(text(&format!("{SMALL}\n[limits]\nfact_age = '60 seconds'")).contains("did you mean `s`?"));
    assert_eq!(
        text(&format!("{SMALL}\n[[fence]]\nwith = 'x'\ngrade = 'confirmd'")),
        "`fence[0].grade` cannot be `confirmd`; did you mean `confirmed`?   known: unconfirmable, partial, enforced, \
         confirmed, role-swap"
    );
    assert!(text(&format!("allow = ['kafka']\n{SMALL}")).contains("such as `kafka:billing set-running`"));
}

#[test]
fn another_format_is_named_before_anything_else() {
    let error = refused(&SMALL.replacen("format = 2", "format = 3\nnew_key = true", 1));
    assert_eq!(error.to_string(), "`format`: is 3; this release reads format 2, and format 1 as its short form");
    assert!(refused(&SMALL.replacen("format = 2", "format = 'two'", 1)).to_string().contains("reads format 2"));
}

/// A password in the wrong place must not travel on in an error message.
#[test]
fn a_literal_password_is_refused_and_not_repeated() {
    let error = refused(&format!("{SMALL}\n[probe]\nuser = 'dr'\npassword = 'hunter2'"));
    assert_eq!(error.path().to_string(), "probe.password");
    assert!(error.to_string().contains("`secret:NAME`, `file:PATH` or `env:NAME`"), "{error}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
    let error = refused(&format!("{SMALL}\n[probe]\nuser = 'dr'\npassword = 481516"));
    assert!(!format!("{error:?} {error}").contains("481516"));
}

fn findings(text: &str) -> Vec<(String, String, String)> {
    group(text).check().into_iter().map(|found| (found.path.to_string(), found.message, found.helps)).collect()
}

/// How many members a change needs is the runbook's affair: a group may have one, or many, each with what it is meant for.
#[test]
fn a_group_has_as_many_members_as_there_are() {
    let third =
        format!("{SMALL}\n[[member]]\nname = 'c'\nregion = 'r3'\nrole = 'follower'\nbackend = 'sim'\nat = {{ n = 3 }}");
    let lone = SMALL.rsplit_once("[[member]]").unwrap().0.to_owned();
    for (text, roles) in [
        (lone, vec![IntendedRole::Candidate]),
        (third.clone(), vec![IntendedRole::Candidate, IntendedRole::Candidate, IntendedRole::Follower]),
    ] {
        let group = group(&text);
        assert_eq!(group.check(), []);
        assert_eq!(group.members.iter().map(|member| member.role).collect::<Vec<_>>(), roles);
    }
    let error = refused(&third.replacen("follower", "spare", 1)).to_string();
    assert!(
        error.contains("`member[2].role` cannot be `spare`") && error.contains("candidate, follower, reader"),
        "{error}"
    );
}

/// Each case trips exactly one rule, at the right place.
fn trips_one_rule_each(cases: &[(String, &str, &str)]) {
    for (text, path, message) in cases {
        let found = findings(text);
        let [(place, said, helps)] = found.as_slice() else { panic!("{path}: {found:?}") };
        assert_eq!(place, path);
        assert!(said.contains(message), "{path}: {said}");
        assert!(!helps.is_empty() && !format!("{said}{helps}").contains("hunter2"));
    }
}

#[test]
fn each_rule_about_things_has_its_own_culprit() {
    let add = |extra: &str| format!("{SMALL}\n{extra}");
    let top = |extra: &str| format!("{extra}\n{SMALL}");
    trips_one_rule_each(&[
        (SMALL.replacen("\"orders\"", "\"Orders DB\"", 1), "name", "`Orders DB` is no name"),
        (top("tier = 4"), "tier", "there is no tier 4"),
        (SMALL.replacen("home = \"a\"", "home = \"aa\"", 1), "home", "group `orders` has no member `aa`"),
        (
            SMALL.replacen("region = \"r1\"", "region = \"r1\"\nrole = \"reader\"", 1),
            "home",
            "`a` is a reader and never becomes the writer",
        ),
        (SMALL.replacen("n = 2", "n = 1", 1), "member[1].at", "`a` and `b` are the same database"),
        (add("[objectives]\nrto = '0 s'"), "objectives.rto", "nobody can promise 0 s"),
        (add("[objectives]\nrpo = '5 s'"), "objectives.rpo", "`5 s` cannot be asked for"),
        (
            add("[[secret]]\nname = 's'\nstore = 'x.kv'\nset = { host = '{writer.host}', password = 'hunter2' }"),
            "secret[0].set.password",
            "a secret is written here",
        ),
        (add("[[secret]]\nname = 's'\nstore = 'none'"), "secret[0]", "no reason is given"),
        (add("[[secret]]\nname = 's'\nstore = 'x.kv'"), "secret[0]", "nothing would be written into x.kv"),
        (
            add("[[secret]]\nname = 's'\nstore = 'none'\nbecause = 'y'\nset = { h = 'v' }"),
            "secret[0].set",
            "no store to write it into",
        ),
        (
            add("[[secret]]\nname = 's'\nstore = 'x.kv'\nset = { h = '{writer.name}', p = '{writer.port}' }"),
            "secret[0].set.h",
            "a placeholder that is unknown",
        ),
        (
            add("[[traffic]]\nname = 'public'\nrouter = 'x'\nmember = { a = '1', b = '2', bb = '3' }"),
            "traffic[0].member.bb",
            "no member `bb`",
        ),
        (
            add("[[traffic]]\nname = 'public'\nrouter = 'x.dns'\nmember = { a = '1' }"),
            "traffic[0]",
            "the route public is not told where `b` is",
        ),
    ]);
}

#[test]
fn each_rule_about_people_and_limits_has_its_own_culprit() {
    let add = |extra: &str| format!("{SMALL}\n{extra}");
    trips_one_rule_each(&[
        (add("[limits]\ngap_budget = '0 s'"), "limits.gap_budget", "no drain can be taken within 0 s"),
        (
            add("[[app]]\nname = 'api'\ntier = 'x'\ndrain = { client_limit = '60 s' }"),
            "limits.gap_budget",
            "clients of api give up after 1 min, but a drain may hold for 1 min",
        ),
        (add("[limits]\nfact_age = '0 s'"), "limits.fact_age", "that fresh"),
        (add("[limits]\nproof_age = '0 s'"), "limits.proof_age", "that fresh"),
        (add("[approval.switchover]\npeople = 0"), "approval.switchover.people", "nobody's approval"),
        (add("[approval.switchover]\nexpires = '0 s'"), "approval.switchover.expires", "expire at once"),
        (add("[approval.switchovr]\npeople = 2"), "approval.switchovr", "there is no operation `switchovr`"),
        (add("[automatic]\noperations = ['switchover']\nrisk = 'none'"), "automatic.risk", "is not named"),
        (
            add("[[fence]]\nwith = 'x.stop'\ngrade = 'confirmed'\nmember = 'c'"),
            "fence[0].member",
            "group `orders` has no member `c`",
        ),
        (add("[approval.drill]\npeople = 2"), "approval.drill", "there is no operation `drill`"),
        (
            add("[automatic]\noperations = ['failback']\nrisk = 'a wrong reading moves the writer'"),
            "automatic.operations[0]",
            "`failback` never runs without a person",
        ),
        (
            add(
                "[[secret]]\nname = 's'\nstore = 'none'\nbecause = 'y'\n[[secret]]\nname = 's'\nstore = 'none'\nbecause = 'y'",
            ),
            "secret[1].name",
            "two secrets are called `s`",
        ),
        (add("[automatic]\noperations = []\nrisk = 'a split brain'"), "automatic.operations", "names nothing"),
        (SMALL.replacen("n = 2", "password = 'hunter2'", 1), "member[1].at.password", "a secret is written here"),
        (SMALL.replacen("n = 2", "api_key = ['k']", 1), "member[1].at.api_key[0]", "a secret is written here"),
        (SMALL.replacen("n = 2", "url = 'pg://u:p@host/db'", 1), "member[1].at.url", "a secret is written here"),
        (SMALL.replacen("n = 2", "n = 5000000000", 1), "member[1].at", "the number 5000000000"),
        (SMALL.replacen("n = 2", "n = 0.5", 1), "member[1].at", "the number 0.5"),
    ]);
}

#[test]
fn two_members_of_one_name_are_found() {
    let found = findings(&SMALL.replacen("name = \"b\"", "name = \"a\"", 1));
    let said: Vec<_> = found.iter().map(|(path, said, _)| (path.as_str(), said.as_str())).collect();
    assert_eq!(said, [("member[1].name", "two members are called `a`")]);
}

#[test]
fn a_secret_has_to_name_the_writer_somewhere() {
    let set =
        |fields: &str| findings(&format!("{SMALL}\n[[secret]]\nname = 's'\nstore = 'x.kv'\nset = {{ {fields} }}"));
    let found = set("sslmode = 'require'");
    let said: Vec<_> = found.iter().map(|(path, said, _)| (path.as_str(), said.as_str())).collect();
    assert_eq!(said, [("secret[0].set", "no field of it names the writer")]);
    assert_eq!(set("sslmode = 'require', port = '{writer.port}'"), []);
}

#[test]
fn custom_operations_and_placeholders_that_are_known_pass() {
    let text = format!(
        "{SMALL}\n[approval.\"acme.settled-switchover\"]\npeople = 2\n[automatic]\noperations = ['switchover']\n\
         risk = 'a wrong reading moves the writer'\n[[secret]]\nname = 's'\nstore = 'x.kv'\nset = {{ url = 'pg://{{writer.endpoint}}/db', host = '{{writer.host}}', port = '{{writer.port}}' }}"
    );
    assert_eq!(findings(&text), []);
    assert!(group(&text).automatic("switchover").is_some());
    assert!(group(&text).automatic("failover").is_none());
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    host: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    run: Option<Run>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Run {
    Local,
    Ssh { user: String },
}

/// A backend's own table is read with the same care, and the fault names the table's place in the file.
#[test]
fn a_backends_own_table_is_read_with_the_same_care() {
    let server = |table: &str| group(&SMALL.replacen("{ n = 2 }", table, 1)).members.pop().unwrap().at::<Server>();
    let run = Some(Run::Ssh { user: "pg".into() });
    assert_eq!(
        server("{ host = 'h', run = { ssh = { user = 'pg' } } }"),
        Ok(Server { host: "h".into(), port: None, run })
    );
    assert_eq!(server("{ host = 'h', run = 'local' }").unwrap().run, Some(Run::Local));
    let said = |table: &str| server(table).unwrap_err().to_string();
    assert_eq!(
        said("{ hots = 'h' }"),
        "`at` of [[member]] 2 has no key `hots`; did you mean `host`?   known: host, port, run"
    );
    assert_eq!(said("{ port = 1 }"), "`at` of [[member]] 2 lacks the key `host`");
    assert_eq!(said("{ host = 'h', port = 70000 }"), "`member[1].at.port` is a number out of range, not u16");
    assert_eq!(
        said("{ host = 'h', run = 'lokal' }"),
        "`member[1].at.run` cannot be `lokal`; did you mean `local`?   known: local, ssh"
    );
    assert_eq!(said("{ host = 'h', run = 5 }"), "`member[1].at.run` is a number, not one of local, ssh");
    assert!(said("{ host = 'h', run = { ssh = { usr = 'x' } } }").contains("did you mean `user`?"));
    assert_eq!(said("{ host = 'h', run = { local = 1 } }"), "`member[1].at.run.local`: takes no value");
    let table = AtTable::from(json!({"host": ""}));
    assert_eq!(table.fault("host", "is empty").to_string(), "`at.host`: is empty");
}

/// The digest is over what the file says, not how; it changes with every value.
#[test]
fn the_digest_follows_the_meaning() {
    let digest = |text: &str| group(text).digest().unwrap();
    let same =
        SMALL.replace(" = ", "=").replacen("format=2\nname=\"orders\"", "# a comment\nname='orders'\nformat=2", 1);
    assert_eq!(digest(SMALL), digest(&same));
    assert_eq!(digest(SMALL), digest(&format!("{SMALL}\n[limits]\nfact_age = '1 min'")), "a default that is spelt out");
    assert_ne!(digest(SMALL), digest(&SMALL.replacen("n = 2", "n = 3", 1)));
    assert_ne!(digest(SMALL), digest(&format!("{SMALL}\n[limits]\nfact_age = '61 s'")));
}

#[test]
fn a_group_is_written_and_read_back() {
    for text in [shipped!("orders"), shipped!("ledger"), shipped!("catalog"), shipped!("billing"), SMALL] {
        let group = group(text);
        let written = dr_core::base::canonical::to_string(&group).unwrap();
        assert_eq!(GroupSpec::read(&serde_json::from_str(&written).unwrap()), Ok(group));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![Just("member"), Just("at"), Just("name"), Just("format"), Just("approval"), Just("limits")];
    leaf.prop_recursive(4, 30, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    /// Whatever stands in the file, the answer is a group or an error with a sentence.
    #[test]
    fn no_json_upsets_the_reader(value in any_json()) {
        match GroupSpec::read(&value) {
            Ok(group) => drop(group.check()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// A misplaced value is reported at its own place.
    #[test]
    fn the_path_names_the_place(index in 0_usize..2, wrong in any::<bool>()) {
        let mut file = value(SMALL);
        file["member"][index]["region"] = wrong.into();
        let error = GroupSpec::read(&file).unwrap_err();
        prop_assert_eq!(error.path(), &KeyPath::root().then("member").then(index).then("region"));
        let is_type = matches!(error.fault(), ConfigFault::Type { .. });
        prop_assert!(is_type);
    }
}

/// A promise that nothing keeps is refused: a file with a key that had no effect said more than was done.
#[test]
fn bug_keys_without_an_effect_are_refused() {
    for (text, path) in [
        ("[notify]\npark = ['slack:#orders']", "notify"),
        ("[limits]\nlag_promote = '60 s'", "limits.lag_promote"),
        ("[limits]\nlag_health = '60 s'", "limits.lag_health"),
        ("[limits]\nbackup_age = '26 h'", "limits.backup_age"),
    ] {
        assert_eq!(refused(&format!("{SMALL}\n{text}")).path().to_string(), path);
    }
}

/// The short form is another spelling of the same group: plans of either are plans of the other.
#[test]
fn the_short_form_is_the_same_group() {
    let long = format!(
        "{SMALL}\n[[secret]]\nname = 'kv'\nstore = 'x.kv'\nset = {{ host = '{{writer.host}}' }}\n\
         [[app]]\nname = 'x'\ntier = 'x'\n[[traffic]]\nname = 'dns'\nrouter = 'x.dns'\nmember = {{ a = '1', b = '2' }}"
    );
    let short = long.replacen("format = 2", "format = 1", 1).replace("[[secret]]\nname = 'kv'\n", "[secret]\n");
    let short = short.replace("[[app]]\nname = 'x'\n", "[app]\n").replace("name = 'dns'\n", "");
    assert_eq!(group(&short), group(&long));
    assert_eq!(group(&short).digest().unwrap(), group(&long).digest().unwrap());
    assert_eq!(refused(&short.replacen("format = 1", "format = 2", 1)).path().to_string(), "app");
    let twice = format!("{short}\n[[traffic]]\nrouter = 'x.dns'\nmember = {{ a = '3', b = '4' }}");
    assert_eq!(findings(&twice).first().unwrap().1, "two routes are called `dns`");
}
