//! Connection secrets in files: in which form they name the writer, what is compared before a change, and what a change leaves alone.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use dr_core::{
    Grade, GroupName, MemberId, NodeId, Outcome, RunId, SecretStore, Target, Timestamp, Tri,
    base::{Digest, Endpoint, IdempotencyKey, ResourceAddress, SecretVersion, SystemId},
    contract::{Effort, Lineage, PatchSecret, Rehearsal, RehearseSecret, WriterOrigin, WriterReceipt},
};
use dr_postgres::FileSecret;

const OLD: &str = "10.1.0.11:5432";
const NEW: &str = "10.2.0.11:5433";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

struct Stage {
    _folder: tempfile::TempDir,
    path: PathBuf,
    store: FileSecret,
}

fn stage(fields: &[(&str, &str)], set: &[(&str, &str)]) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    FileSecret::create(&path, map(fields)).unwrap();
    let store = FileSecret::new(&path, map(set)).with_members(vec![Endpoint::new(OLD), Endpoint::new(NEW)]);
    Stage { _folder: folder, path, store }
}

impl Stage {
    async fn rehearse(&self, effort: Effort) -> Rehearsal {
        let request = RehearseSecret { from: Endpoint::new(OLD), to: Endpoint::new(NEW), effort };
        self.store.rehearse(&request).await.unwrap()
    }

    async fn patch(&self) -> Outcome<SecretVersion> {
        let run = RunId::new(GroupName::new("app"), 1);
        let lineage = Lineage { system: SystemId::new("1"), generation: 2 };
        let target = Target {
            member: MemberId::new("pg2"),
            address: ResourceAddress::new("pg2"),
            identity: None,
            lineage,
            receives: None,
        };
        let (endpoint, at) = (Endpoint::new(NEW), Timestamp::from_millis(0));
        let key: IdempotencyKey = run.key(&dr_core::base::Digest::zero(), &NodeId::new("secret"));
        let writer = WriterReceipt {
            run,
            target,
            endpoint,
            origin: WriterOrigin::Observed,
            old_side: Grade::Confirmed,
            waived: None,
            at,
        };
        self.store.patch(PatchSecret { writer, expected: SecretVersion::new("1"), key }).await
    }

    fn fields(&self) -> BTreeMap<String, String> {
        #[derive(serde::Deserialize)]
        struct Stored {
            fields: BTreeMap<String, String>,
        }
        serde_json::from_slice::<Stored>(&fs::read(self.path.join("current")).unwrap()).unwrap().fields
    }

    fn names(&self) -> Vec<String> {
        let mut all: Vec<String> = names(&self.path);
        all.sort();
        all
    }
}

fn names(path: &Path) -> Vec<String> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn only(found: &Rehearsal, part: &str) {
    let one = found.obstacles.first().is_some_and(|one| one.what.contains(part));
    assert!(one && found.obstacles.len() == 1, "not only {part}: {found:#?}");
    assert!(!format!("{found:?}").contains("hush"), "a secret is shown: {found:#?}");
}

/// The usual secret, a connection string and a URL with a password: only what names the writer changes.
#[tokio::test]
async fn only_what_names_the_writer_is_changed() {
    let usual =
        [("engine", "postgres"), ("host", "10.1.0.11"), ("port", "5432"), ("password", "hush"), ("dbname", "app")];
    let url = "postgresql://app:hush@10.1.0.11:5432/app?sslmode=require";
    let dsn = "user=app password='hush 5432' host=10.1.0.11 port=5432 dbname=app";
    type Case<'c> = (&'c [(&'c str, &'c str)], &'c [(&'c str, &'c str)], &'c [(&'c str, &'c str)]);
    let cases: [Case<'_>; 6] = [
        (&usual, &[("host", "{writer.host}"), ("port", "{writer.port}")], &[("host", "10.2.0.11"), ("port", "5433")]),
        (&[("host", OLD)], &[("host", "{writer.endpoint}")], &[("host", NEW)]),
        (
            &[("url", url)],
            &[("url", "{writer.host}:{writer.port}")],
            &[("url", "postgresql://app:hush@10.2.0.11:5433/app?sslmode=require")],
        ),
        (
            &[("url", "pg://app:1234@10.1.0.11:5432/app")],
            &[("url", "{writer.endpoint}")],
            &[("url", "pg://app:1234@10.2.0.11:5433/app")],
        ),
        (
            &[("dsn", dsn)],
            &[("dsn", "host={writer.host} port={writer.port}")],
            &[("dsn", "user=app password='hush 5432' host=10.2.0.11 port=5433 dbname=app")],
        ),
        (
            &[("host", "10.1.0.11"), ("port", "5432"), ("stays", "10.1.0.11")],
            &[("host", "{writer.host}"), ("port", "{writer.port}"), ("stays", "10.1.0.11")],
            &[("host", "10.2.0.11"), ("port", "5433")],
        ),
    ];
    for (fields, set, changed) in cases {
        let stage = stage(fields, set);
        assert_eq!(stage.rehearse(Effort::Look).await, Rehearsal::default(), "{set:?}");
        assert_eq!(stage.rehearse(Effort::Try).await, Rehearsal::default(), "{set:?}");
        assert_eq!(stage.store.read().await.unwrap().endpoint, Some(Endpoint::new(OLD)), "{set:?}");
        assert!(matches!(stage.patch().await, Outcome::Done(_)));
        let mut wanted = map(fields);
        wanted.extend(map(changed));
        assert_eq!(stage.fields(), wanted);
        assert_eq!(stage.store.read().await.unwrap().endpoint, Some(Endpoint::new(NEW)));
        assert!(matches!(stage.patch().await, Outcome::Done(version) if version == SecretVersion::new("2")));
    }
}

/// `host` was written as `10.2.0.11:5433` while `port` kept the old primary's: no application could connect.
#[tokio::test]
async fn bug_a_secret_in_another_form_is_refused_before_anything_is_done() {
    let usual = [("host", "10.1.0.11"), ("port", "5432"), ("password", "hush")];
    let with = |field: &str, value: &'static str| {
        usual.map(|(name, before)| if name == field { (name, value) } else { (name, before) })
    };
    let both = [("host", "{writer.host}"), ("port", "{writer.port}")];
    let wrong = stage(&usual, &[("host", "{writer.endpoint}")]).rehearse(Effort::Look).await;
    assert!(
        wrong.obstacles[0].what.contains("the field `host` does not name the present writer 10.1.0.11:5432"),
        "{wrong:?}"
    );
    assert!(wrong.obstacles[1].what.contains("the field `port` holds the present writer's port"), "{wrong:?}");
    only(
        &stage(&usual, &[("host", "{writer.host}")]).rehearse(Effort::Look).await,
        "`port` holds the present writer's port",
    );
    only(
        &stage(&usual, &[("port", "{writer.port}")]).rehearse(Effort::Look).await,
        "`host` holds the present writer's host",
    );
    only(&stage(&with("host", "10.9.9.9"), &both).rehearse(Effort::Look).await, "the field `host` does not name");
    only(&stage(&with("port", "hush"), &both).rehearse(Effort::Look).await, "the field `port` does not hold that form");
    only(&stage(&usual[..1], &both).rehearse(Effort::Look).await, "it has no field `port`");
    let url = [("url", "pg://app:hush@10.1.0.11:5432/a"), ("host", "10.1.0.11"), ("port", "5432")];
    only(&stage(&url, &both).rehearse(Effort::Look).await, "the field `url` holds the present writer's endpoint");
    let twice = [("url", "pg://10.1.0.11:5432,10.1.0.11:5432/hush")];
    only(&stage(&twice, &[("url", "{writer.endpoint}")]).rehearse(Effort::Look).await, "more than once");
}

/// Only whole values and `host:port` were compared, so a connection string beside went on naming the former writer.
#[tokio::test]
async fn bug_a_connection_string_beside_the_fields_stayed_at_the_former_writer() {
    let both = [("host", "{writer.host}"), ("port", "{writer.port}")];
    let beside = |value: &str| stage(&[("dsn", value), ("host", "10.1.0.11"), ("port", "5432")], &both);
    for (value, part) in [
        ("host=10.1.0.11 port=5432 dbname=app password=hush", "endpoint"),
        ("Server=10.1.0.11;Port=5432;Database=app;Password=hush", "endpoint"),
        ("postgresql://app:hush@10.1.0.11/app", "host"),
        ("postgresql://app:hush@/app?host=10.1.0.11&port=5432", "endpoint"),
        ("postgresql://app:hush@10.1.0.11:5432,10.2.0.11:5433/app", "endpoint"),
    ] {
        let found = beside(value).rehearse(Effort::Look).await;
        only(&found, &format!("the field `dsn` holds the present writer's {part}"));
    }
    for value in [
        "host=10.1.0.110 port=5432",
        "postgresql://app:hush@10.1.0.11:6432/app",
        "host=10.1.0.11 port=6432",
        "postgresql://app:hush@10.1.0.11:5432,10.2.0.11:5433/app?target_session_attrs=read-write",
        "jdbc:postgresql://10.1.0.11:5432,10.2.0.11:5433/app?targetServerType=primary",
    ] {
        assert_eq!(beside(value).rehearse(Effort::Look).await, Rehearsal::default(), "{value}");
    }
}

/// A link by its whole path was refused; one that leads out of the directory still is.
#[tokio::test]
async fn bug_a_current_that_is_linked_by_its_whole_path_was_refused() {
    let both = [("host", "{writer.host}"), ("port", "{writer.port}")];
    let stage = stage(&[("host", "10.1.0.11"), ("port", "5432")], &both);
    let link = |to: PathBuf| {
        fs::remove_file(stage.path.join("current")).unwrap();
        std::os::unix::fs::symlink(to, stage.path.join("current")).unwrap();
    };
    link(stage.path.join("v00000001.json"));
    assert_eq!(stage.rehearse(Effort::Try).await, Rehearsal::default());
    assert!(matches!(stage.patch().await, Outcome::Done(_)));
    assert_eq!(stage.fields().get("host").map(String::as_str), Some("10.2.0.11"));
    link(PathBuf::from("/elsewhere/v00000001.json"));
    only(&stage.rehearse(Effort::Look).await, "leads to /elsewhere/v00000001.json");
}

/// What is not in the form is not overwritten: a URL keeps its password whatever happens.
#[tokio::test]
async fn a_field_in_another_form_is_not_overwritten() {
    let stage = stage(&[("url", "pg://app:hush@/run/postgresql")], &[("url", "@{writer.host}:{writer.port}/")]);
    match stage.patch().await {
        Outcome::NotDone(reason) => {
            assert!(reason.cause.as_str().contains("`url` does not hold that form"), "{reason:?}");
            assert!(!reason.cause.as_str().contains("hush"), "{reason:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.names(), ["current", "v00000001.json"]);
    assert!(!format!("{:?}", stage.store).contains("hush"));
    let half = self::stage(&[("host", "10.1.0.11"), ("port", "5432")], &[("host", "{writer.endpoint}")]);
    assert!(matches!(half.patch().await, Outcome::NotDone(_)));
    assert_eq!(half.fields(), map(&[("host", "10.1.0.11"), ("port", "5432")]));
}

/// A trial leaves nothing behind, moves nothing, and finds what would keep the next version from being written.
#[tokio::test]
async fn a_trial_finds_what_would_stop_the_next_version() {
    let stage = stage(&[("host", OLD), ("password", "hush")], &[("host", "{writer.endpoint}")]);
    let before = (stage.names(), fs::read_link(stage.path.join("current")).unwrap());
    assert_eq!(stage.rehearse(Effort::Try).await, Rehearsal::default());
    assert_eq!((stage.names(), fs::read_link(stage.path.join("current")).unwrap()), before);
    fs::write(stage.path.join("rotating"), "").unwrap();
    only(&stage.rehearse(Effort::Try).await, "is being rotated");
    assert_eq!(stage.rehearse(Effort::Look).await, Rehearsal::default(), "a rotation may be over when the run begins");
    fs::remove_file(stage.path.join("rotating")).unwrap();
    fs::write(stage.path.join("v00000002.json"), "{}").unwrap();
    only(&stage.rehearse(Effort::Try).await, "v00000002.json exists");
    fs::remove_file(stage.path.join("v00000002.json")).unwrap();
    // A directory that cannot be written into, for root too: the name of the draft is taken by a directory.
    fs::create_dir(stage.path.join(".rehearsal.draft")).unwrap();
    only(&stage.rehearse(Effort::Try).await, "nothing can be written");
    fs::remove_dir(stage.path.join(".rehearsal.draft")).unwrap();
    fs::set_permissions(stage.path.join("v00000001.json"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(stage.path.join("v00000001.json"), "hush {").unwrap();
    only(&stage.rehearse(Effort::Try).await, "cannot be read");
    assert_eq!(stage.store.versions().await.unwrap(), [SecretVersion::new("1")]);
    assert!(stage.store.read().await.is_err());
}

/// The host alone is said, and members share a port: which one it is, the members tell.
#[tokio::test]
async fn half_an_endpoint_is_completed_by_the_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    FileSecret::create(&path, map(&[("host", "a")])).unwrap();
    let members = ["a:5432", "b:5432"].map(Endpoint::new).to_vec();
    let store = FileSecret::new(&path, map(&[("host", "{writer.host}")])).with_members(members);
    let told = store.read().await.unwrap();
    assert_eq!((told.endpoint, told.rotating), (Some(Endpoint::new("a:5432")), Tri::No));
    let request = RehearseSecret { from: Endpoint::new("a:5432"), to: Endpoint::new("b:5432"), effort: Effort::Try };
    assert_eq!(store.rehearse(&request).await.unwrap(), Rehearsal::default());
}

/// A call that arrives once more after others wrote does not write its endpoint again.
#[tokio::test]
async fn bug_a_token_of_an_older_version_wrote_a_second_one() {
    let stage = stage(&[("host", OLD)], &[("host", "{writer.endpoint}")]);
    let run = RunId::new(GroupName::new("app"), 1);
    let ask = |endpoint: &str, expected: &str, node: &str| {
        let lineage = Lineage { system: SystemId::new("1"), generation: 2 };
        let target = Target {
            member: MemberId::new("pg2"),
            address: ResourceAddress::new("pg2"),
            identity: None,
            lineage,
            receives: None,
        };
        let (endpoint, at) = (Endpoint::new(endpoint), Timestamp::from_millis(0));
        let writer = WriterReceipt {
            run: run.clone(),
            target,
            endpoint,
            origin: WriterOrigin::Observed,
            old_side: Grade::Confirmed,
            waived: None,
            at,
        };
        PatchSecret {
            writer,
            expected: SecretVersion::new(expected),
            key: run.key(&Digest::zero(), &NodeId::new(node)),
        }
    };
    assert_eq!(stage.store.patch(ask(NEW, "1", "there")).await, Outcome::Done(SecretVersion::new("2")));
    assert_eq!(stage.store.patch(ask(OLD, "2", "back")).await, Outcome::Done(SecretVersion::new("3")));
    assert_eq!(stage.store.patch(ask(NEW, "3", "there")).await, Outcome::Done(SecretVersion::new("2")));
    assert_eq!(stage.store.read().await.unwrap().endpoint, Some(Endpoint::new(OLD)));
    assert_eq!(stage.store.versions().await.unwrap().len(), 3);
}
