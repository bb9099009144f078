//! Each notifier against servers inside this test: those that take a notice, refuse it, are slow, hang or are not there.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod doubles;
mod http;
mod smtp;

use std::{fs, path::Path, sync::Arc};

use dr_core::{
    Cause, GroupSpec, Notifier, ProviderError, RunId,
    contract::{Notice, Occasion},
};
use serde_json::{Value, json};

/// A secret that must be seen nowhere but by the server.
const CANARY: &str = "canary-4f1d7b";

/// Opens `[[notify]] with = WITH, at = AT`.
fn open(with: &str, at: &Value) -> Result<Arc<dyn Notifier>, String> {
    let member = |name: &str| json!({"name": name, "region": name, "backend": "sim", "at": {"instance": name}});
    let group = GroupSpec::read(&json!({
        "format": 2, "name": "orders", "environment": "prod", "home": "neu",
        "member": [member("neu"), member("weu")],
        "notify": [{"with": with, "at": at}],
    }));
    let group = group.unwrap();
    let backend = dr_notify::all().into_iter().find(|backend| backend.prefix() == with).unwrap();
    backend.notifier(&group, &group.notify[0]).map_err(|error| error.to_string())
}

fn secret(dir: &Path, name: &str, value: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, format!("{value}\n")).unwrap();
    format!("file:{}", path.display())
}

fn notice(occasion: Occasion) -> Notice {
    let run: RunId = "orders-1".parse().unwrap();
    let urgent = occasion == Occasion::Parked;
    Notice { key: "orders-1/parked/7".into(), run, urgent, occasion, text: "orders-1: <parked> & \"held\"".into() }
}

fn words(error: &ProviderError) -> String {
    format!("{} | {error:?}", Cause::chain(error))
}

#[test]
fn what_cannot_tell_anybody_is_refused_with_the_group() {
    let mail = |key: &str, value: Value| {
        let mut at = json!({"server": "m.example.com", "from": "dr@example.com", "to": ["a@example.com"]});
        at.as_object_mut().unwrap().insert(key.into(), value);
        at
    };
    let cases = [
        ("webhook", json!({}), "url"),
        ("webhook", json!({"url": "http://events.example.com/"}), "use `https:`"),
        ("webhook", json!({"url": "https://e.example.com/", "sign": "env:KEY", "within": "0 s"}), "no time at all"),
        ("webhook", json!({"url": "https://e.example.com/", "sign": "secret:key"}), "notifiers have none"),
        ("webhook", json!({"url": "https://e.example.com/", "sign": "file:key"}), "whole path"),
        ("webhook", json!({"url": "https://e.example.com/", "sign": CANARY}), "a secret is named, never written"),
        ("webhook", json!({"url": "https://e.example.com/", "retry": 3}), "retry"),
        ("slack", json!({"url": format!("https://hooks.slack.com/services/{CANARY}")}), "named, never written"),
        ("pagerduty", json!({"routing_key": CANARY}), "a secret is named, never written"),
        ("smtp", mail("to", json!([])), "who gets the mail"),
        ("smtp", mail("to", json!(["nobody"])), "no mail address"),
        ("smtp", mail("tls", json!("none")), "on this host"),
        ("smtp", mail("user", json!("dr")), "without a `password`"),
        ("smtp", mail("password", json!("env:KEY")), "without a `user`"),
    ];
    for (with, at, words) in cases {
        let error = open(with, &at).unwrap_err();
        assert!(error.contains(words) && !error.contains(CANARY), "{with} {at}: {error}");
    }
}

/// Nobody can say that a test of a service that takes everything shows anything: these are the ways not to take a notice.
#[tokio::test]
async fn a_secret_that_is_not_there_is_said_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let empty = secret(dir.path(), "empty", "");
    for (named, words_of) in [
        ("env:DR_NO_SUCH_SECRET".to_owned(), "env:DR_NO_SUCH_SECRET: is not set"),
        (format!("file:{}/gone", dir.path().display()), "/gone: No such file"),
        (empty, "/empty: is empty"),
    ] {
        let notifier = open("pagerduty", &json!({"routing_key": named})).unwrap();
        let error = words(&notifier.notify(notice(Occasion::Parked)).await.unwrap_err());
        assert!(error.contains(words_of), "{error}");
    }
}
