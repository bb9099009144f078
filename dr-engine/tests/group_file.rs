//! Group files as people write them: what is shown when one cannot be used, and where ids come from. Covers A09, story 5's
//! screen of wrong input and story 6.
#![expect(clippy::panic, reason = "tests")]

use std::{error::Error, fs, path::PathBuf};

use dr_core::{MemberId, Timestamp, base::canonical, contract::KeyPath, minutes};
use dr_engine::{GroupFile, GroupFileError};
use serde::Deserialize;
use tempfile::TempDir;

macro_rules! shipped {
    ($name:literal) => {
        include_str!(concat!("../../dr-core/tests/data/groups/", $name, ".toml"))
    };
}

/// A folder with files in it.
struct Folder(TempDir);

impl Folder {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("{error}"));
        for (name, bytes) in files {
            let file = folder.path().join(name);
            let inside = file.parent().map(fs::create_dir_all).transpose();
            inside.and_then(|_| fs::write(&file, bytes)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn refused(&self, name: &str) -> GroupFileError {
        match GroupFile::read(self.path(name)) {
            Ok(file) => panic!("read: {file:?}"),
            Err(error) => error,
        }
    }
}

fn refused(text: &str) -> GroupFileError {
    match GroupFile::parse(text, "groups/orders.toml") {
        Ok(file) => panic!("read: {file:?}"),
        Err(error) => error,
    }
}

/// The whole chain of an error, as a log prints it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\ncaused by {cause}"));
        source = cause.source();
    }
    text
}

const SMALL: &str = r#"format = 2
name = "orders"
home = "a"

[[member]]
name    = "a"
region  = "r1"
backend = "sim"
at      = { n = 1 }

[[member]]
name    = "b"
region  = "r2"
backend = "sim"
at      = { n = 2 }

[objectives]
rto        = "5 min"
rpo_forced = "60 s"
"#;

#[test]
fn a_group_file_without_outputs_is_read() {
    let folder = Folder::with(&[("billing.toml", shipped!("billing").as_bytes())]);
    let file = GroupFile::read(folder.path("billing.toml")).unwrap();
    assert_eq!((file.spec().name.as_str(), file.outputs().is_none()), ("billing", true));
    assert_eq!(file.path(), folder.path("billing.toml"));
}

/// The screen of the API document, letter by letter.
#[test]
fn a_typo_is_shown_as_on_the_screen() {
    let error = refused(&SMALL.replace("rpo_forced = ", "rpo_force  = "));
    assert_eq!(
        error.to_string(),
        "groups/orders.toml:19:1  [objectives] has no key `rpo_force`\n   \
         19 | rpo_force  = \"60 s\"\n      \
         | ^^^^^^^^^  did you mean `rpo_forced`?   known: rto, rpo, rpo_forced"
    );
    let fault = &error.faults()[0];
    assert_eq!((fault.line, fault.column, fault.underline), (Some(19), 1, (0, 9)));
    let json = serde_json::to_value(fault).unwrap();
    assert_eq!((&json["file"], &json["line"]), (&"groups/orders.toml".into(), &19.into()));
}

/// What is shown, for each kind of fault: the line, the place under the caret, and the words.
#[test]
fn every_fault_points_at_its_line() {
    let cases = [
        (SMALL.replacen("format = 2", "format = 2\nnam = 'x'", 1), 2, "nam", "the group file has no key `nam`"),
        (SMALL.replacen("region  = \"r2\"", "regoin  = \"r2\"", 1), 13, "regoin", "[[member]] 2 has no key `regoin`"),
        (SMALL.replacen("{ n = 2 }", "'n'", 1), 15, "'n'", "`member[1].at` is text, not a map"),
        (SMALL.replacen("\"5 min\"", "5", 1), 18, "5", "`5` has no unit: is it `5 s` or `5 min`?"),
        (SMALL.replacen("5 min", "5 minutes", 1), 18, "\"5 minutes\"", "did you mean `min`?"),
        (
            SMALL.replacen("5 min", "5 parsecs", 1),
            18,
            "\"5 parsecs\"",
            "unknown unit `parsecs`; units: ms, s, min, h, d",
        ),
        (SMALL.replacen("\"5 min\"", "[1]", 1), 18, "[1]", "is a list, not text with a unit"),
        (SMALL.replacen("\"5 min\"", "1979-05-27", 1), 18, "1979-05-27", "dates are not used here"),
        (SMALL.replacen("format = 2", "format = 3", 1), 1, "3", "this release reads format 2"),
        (SMALL.replacen("\"b\"", "\"a\"", 1), 12, "\"a\"", "two members are called `a`"),
        (SMALL.replacen("home = \"a\"", "home = \"c\"", 1), 3, "\"c\"", "has no member `c`"),
        (SMALL.replacen("n = 2", "n = 1", 1), 15, "{ n = 1 }", "`a` and `b` are the same database"),
        (SMALL.replacen("n = 2", "n = nan", 1), 15, "nan", "is no number that can be used"),
        (SMALL.replacen("n = 2", "n = 99999999999999999999", 1), 15, "99999999999999999999", "the number is too large"),
        (SMALL.replacen("n = 2", "n = 5000000000", 1), 15, "{ n = 5000000000 }", "only whole numbers of 32 bits"),
        (SMALL.replacen("n = 2", "id = 'output:x'", 1), 15, "'output:x'", "name it: iac_outputs = \"outputs.json\""),
        (
            SMALL.replacen("[objectives]", "[limits]\ngap_budget = '0 s'\n[objectives]", 1),
            18,
            "'0 s'",
            "no drain can be taken",
        ),
        (
            SMALL.replacen("[objectives]", "[approval.switchovr]\n[objectives]", 1),
            17,
            "[approval.switchovr]",
            "no operation `switchovr`",
        ),
        (
            SMALL.replacen("[objectives]", "[[traffic]]\nname = 'public'\nrouter = 'x'\n[objectives]", 1),
            17,
            "[[traffic]]",
            "not told where `a` is",
        ),
        (SMALL.replacen("[objectives]", "[objectives\n", 1), 17, "\n", ""),
        (SMALL.replacen("home = \"a\"", "home = \"a\"\nhome = \"b\"", 1), 4, "home", "duplicate key"),
        (SMALL.replacen("\"orders\"", "orders", 1), 2, "orders", "quoted"),
        (SMALL.replacen("region  = \"r2\"\n", "", 1), 11, "[[member]]", "[[member]] 2 lacks the key `region`"),
    ];
    for (text, line, under, words) in cases {
        let error = refused(&text);
        let fault = &error.faults()[0];
        assert_eq!(fault.line, Some(line), "{error}");
        let (start, length) = (fault.underline.0 as usize, fault.underline.1 as usize);
        let underlined: String = fault.excerpt.chars().skip(start).take(length).collect();
        assert_eq!(underlined, under.trim_end(), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().starts_with(&format!("groups/orders.toml:{line}:")), "{error}");
    }
}

#[test]
fn what_is_missing_from_the_file_as_a_whole_has_no_line() {
    let error = refused("# nothing but a comment\n");
    assert_eq!(error.to_string(), "groups/orders.toml  the group file lacks the key `format`");
    assert_eq!(error.faults()[0].line, None);
    let error = refused("format = 2\nname = 'x'\nhome = 'a'\n");
    assert!(error.to_string().contains("group `x` has no members"), "{error}");
    assert_eq!(error.faults().len(), 2, "the home is missing too: {error}");
}

/// Every finding is shown at once: nobody likes to mend a file fault by fault.
#[test]
fn all_findings_are_shown_together() {
    let text = SMALL.replacen("home = \"a\"", "home = \"c\"\ntier = 9", 1) + "[approval.drill]\npeople = 2\n";
    let error = refused(&text);
    let lines: Vec<_> = error.faults().iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [Some(4), Some(3), Some(21)]);
    assert_eq!(error.to_string().lines().count(), 9);
}

#[test]
fn a_file_that_is_not_there_empty_or_no_text_is_named() {
    let folder = Folder::with(&[("empty.toml", b" \n\n"), ("latin.toml", b"format = 2\nname = \"caf\xe9\"\n")]);
    let missing = folder.refused("missing.toml");
    assert!(missing.to_string().starts_with("there is no group file `"), "{missing}");
    let said = chain(&missing);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    let directory = folder.refused("");
    assert!(directory.to_string().contains("cannot be read"), "{directory}");
    assert!(
        folder.refused("empty.toml").to_string().contains("empty.toml  the file is empty; a group file begins with")
    );
    assert!(folder.refused("latin.toml").to_string().contains("latin.toml:2  the file is not UTF-8 text"));
}

/// A password that somebody wrote into the file is not shown again: not in the message, the excerpt, `Debug` or JSON.
#[test]
fn a_written_secret_is_starred_out() {
    let cases = [
        SMALL.to_owned() + "[probe]\nuser = 'dr'\npassword = 'hunter2'\n",
        SMALL.to_owned() + "[probe]\nuser = 'dr'\npassword = hunter2\n",
        SMALL.replacen("{ n = 2 }", "{ password = 'hunter2', n = 2 }", 1),
        SMALL.replacen("{ n = 2 }", "{ url = 'pg://dr:hunter2@host/db' }", 1),
        SMALL.replacen("{ n = 2 }", "{ api_key = '''\nhunter2''', n = 'output:x' }", 1),
        SMALL.replacen("{ n = 2 }", "{ password = 'hunter2', n = nan }", 1),
    ];
    for text in cases {
        let error = refused(&text);
        let json = serde_json::to_string(error.faults()).unwrap();
        let shown = format!("{error}\n{error:?}\n{json}\n{}", chain(&error));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let error = refused(&SMALL.replacen("{ n = 2 }", "{ password = 'hunter2', n = nan }", 1));
    let fault = &error.faults()[0];
    assert_eq!(fault.excerpt, "at      = { password = ***, n = nan }");
    assert_eq!(fault.excerpt.find("nan"), Some(fault.underline.0 as usize), "the caret moves with the text: {error}");
}

const OUTPUTS: &str = r#"{
  "orders_neu_id": { "sensitive": false, "type": "string", "value": "/subscriptions/1/neu" },
  "orders_weu_id": { "sensitive": false, "type": "string", "value": "/subscriptions/1/weu" },
  "orders_app_id": "/subscriptions/1/app",
  "front_door_id": "/subscriptions/1/fd",
  "topic": "arn:topic",
  "all_ids": { "sensitive": false, "type": ["list", "string"], "value": ["a", "b"] },
  "db_password": { "sensitive": true, "type": "string", "value": "hunter2" },
  "empty": "",
  "twice": "one", "twice": "two",
  "same": "one", "same": "one"
}"#;

fn with_outputs(group: &str) -> Folder {
    Folder::with(&[("groups/orders.toml", group.as_bytes()), ("groups/outputs/orders.json", OUTPUTS.as_bytes())])
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Azure {
    id: String,
    virtual_endpoint: String,
}

/// A09: ids are resolved from the snapshot, and its age is there to be shown.
#[test]
fn ids_come_from_the_outputs() {
    let folder = with_outputs(shipped!("orders"));
    let file = GroupFile::read(folder.path("groups/orders.toml")).unwrap();
    let weu = file.spec().member(&MemberId::new("weu")).unwrap();
    let expected = Azure { id: "/subscriptions/1/weu".into(), virtual_endpoint: "orders".into() };
    assert_eq!(weu.at::<Azure>(), Ok(expected));
    let outputs = file.outputs().unwrap();
    let later = outputs.taken() + minutes(90);
    assert_eq!(outputs.age(later), minutes(90));
    assert!(outputs.taken() > Timestamp::from_millis(0));
    assert_eq!(outputs.digest(), canonical::sha256(OUTPUTS.as_bytes()));
    assert_eq!(file.place(weu.at.place()), format!("{}:24", folder.path("groups/orders.toml").display()));
    assert!(!format!("{file:?}").contains("hunter2"));
}

/// An id may stand behind a service; what is the same twice is not ambiguous.
#[test]
fn outputs_stand_behind_a_service_too() {
    let text = SMALL.replacen("n = 2", "n = 2, topics = ['sns:output:topic', 'sns:output:same']", 1);
    let folder = with_outputs(&format!("iac_outputs = 'outputs/orders.json'\n{text}"));
    let file = GroupFile::read(folder.path("groups/orders.toml")).unwrap();
    assert_eq!(file.spec().members[1].at.value()["topics"], serde_json::json!(["sns:arn:topic", "sns:one"]));
}

/// Another id behind the same name makes another configuration: the plan's pin sees it.
#[test]
fn the_digest_holds_the_resolved_ids() {
    let digest = |outputs: &str| {
        let files = [("g/o.toml", shipped!("orders").as_bytes()), ("g/outputs/orders.json", outputs.as_bytes())];
        GroupFile::read(Folder::with(&files).path("g/o.toml")).unwrap().spec().digest().unwrap()
    };
    assert_eq!(digest(OUTPUTS), digest(OUTPUTS));
    assert_ne!(digest(OUTPUTS), digest(&OUTPUTS.replace("/1/weu", "/2/weu")));
}

#[test]
fn an_output_that_is_no_single_id_is_refused() {
    let cases = [
        ("orders_wue_id", "cannot be `output:orders_wue_id`", "did you mean `output:orders_weu_id`?"),
        ("twice", "is ambiguous", "holds two values for it"),
        ("all_ids", "is a list of 2, not one id", ""),
        ("empty", "is empty, not one id", ""),
        ("db_password", "is sensitive; a secret is named", ""),
    ];
    for (name, words, help) in cases {
        let folder = with_outputs(&shipped!("orders").replace("output:orders_weu_id", &format!("output:{name}")));
        let error = folder.refused("groups/orders.toml");
        let said = error.to_string();
        assert!(said.contains(words) && said.contains(help), "{said}");
        assert_eq!(error.faults()[0].line, Some(24), "{said}");
        assert!(!said.contains("hunter2"));
    }
}

#[test]
fn a_snapshot_that_is_none_is_refused() {
    let group = shipped!("orders").as_bytes();
    let with = |outputs: &[u8]| Folder::with(&[("o.toml", group), ("outputs/orders.json", outputs)]);
    let missing = Folder::with(&[("o.toml", group)]).refused("o.toml");
    assert!(chain(&missing).contains("`terraform output -json > FILE`\ncaused by No such file"), "{}", chain(&missing));
    for outputs in ["[]", "no json", ""] {
        let said = chain(&with(outputs.as_bytes()).refused("o.toml"));
        assert!(said.contains("is no snapshot of outputs"), "{said}");
    }
    let state = with(br#"{"version": 4, "terraform_version": "1.9", "outputs": {}}"#).refused("o.toml");
    assert!(chain(&state).contains("is a state file, which holds secrets"), "{}", chain(&state));
}

/// A backend's complaint about its own table gets the line from the file.
#[test]
fn a_backends_complaint_is_given_its_line() {
    let text = SMALL.replacen("{ n = 2 }", "{ id = 'x', virtual_endpont = 'orders' }", 1);
    let file = GroupFile::parse(&text, "groups/orders.toml").unwrap();
    let weu = &file.spec().members[1];
    let located = file.locate(&weu.at::<Azure>().unwrap_err());
    assert_eq!(
        located.to_string(),
        "groups/orders.toml:15:23  `at` of [[member]] 2 has no key `virtual_endpont`\n   \
         15 | at      = { id = 'x', virtual_endpont = 'orders' }\n      \
         |                       ^^^^^^^^^^^^^^^  did you mean `virtual_endpoint`?   known: id, virtual_endpoint"
    );
    let own = file.locate(&weu.at.fault("id", "is no Azure resource id"));
    assert!(
        own.to_string().starts_with("groups/orders.toml:15:18  `member[1].at.id`: is no Azure resource id\n"),
        "{own}"
    );
    assert_eq!(file.place(&KeyPath::root().then("member").then(1).then("name")), "groups/orders.toml:12");
}

/// A table may stand in its own section, and a list of tables too; places are found all the same.
#[test]
fn tables_in_sections_of_their_own_have_their_lines() {
    let text = SMALL.replacen("at      = { n = 2 }\n", "[member.at]\nid = 'x'\nvirtual_endpont = 'y'\n", 1);
    let file = GroupFile::parse(&text, "g.toml").unwrap();
    let located = file.locate(&file.spec().members[1].at::<Azure>().unwrap_err());
    assert!(located.to_string().starts_with("g.toml:17:1  "), "{located}");
}

#[test]
fn lines_of_windows_files_and_tabs_are_shown_well() {
    let error = refused(&SMALL.replace('\n', "\r\n").replace("rpo_forced = ", "rpo_force\t= "));
    assert_eq!(error.faults()[0].excerpt, "rpo_force = \"60 s\"");
    let error = refused(&SMALL.replacen("[objectives]", "[objectives] # größer\nß = 1", 1));
    assert!(error.to_string().contains(":18:1  "), "{error}");
}

/// A file that was cut off, or lost a letter anywhere, is read or refused with a place: never a panic, never without words.
#[test]
fn a_damaged_file_is_answered() {
    let text = format!("{SMALL}[probe]\nuser = 'größer'\npassword = 'hunter2'\n");
    for (at, letter) in text.char_indices() {
        let (before, after) = (&text[..at], &text[at + letter.len_utf8()..]);
        for damaged in
            [before.to_owned(), format!("{before}{after}"), format!("{before}\"{after}"), format!("{before}\n{after}")]
        {
            match GroupFile::parse(&damaged, "g.toml") {
                Ok(file) => assert!((1..=2).contains(&file.spec().members.len())),
                Err(error) => {
                    assert!(error.to_string().starts_with("g.toml"), "{error}");
                    assert!(error.faults().iter().all(|fault| !fault.message.is_empty()), "{error}");
                }
            }
        }
    }
}
