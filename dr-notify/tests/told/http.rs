//! `webhook`, `slack` and `pagerduty` against an HTTP server of this host.

use std::time::Duration;

use dr_core::{ProviderError, contract::Occasion};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use super::{
    CANARY,
    doubles::{Got, Manner, http, identity, nobody},
    notice, open, secret, words,
};

/// The table of each notifier that speaks HTTP, for a server at `url`. Whatever is secret of it is the canary.
fn tables(dir: &std::path::Path, base: &str, within: &str) -> Vec<(&'static str, Value)> {
    let key = secret(dir, "key", CANARY);
    let url = secret(dir, "url", &format!("{base}/services/{CANARY}"));
    vec![
        ("webhook", json!({"url": format!("{base}/hook"), "sign": key, "within": within})),
        ("slack", json!({"url": url, "within": within})),
        ("pagerduty", json!({"routing_key": key, "url": format!("{base}/v2/enqueue"), "within": within})),
    ]
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn header(request: &str, name: &str) -> Option<String> {
    let head = request.split_once("\r\n\r\n").unwrap().0;
    let mut pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

fn all(got: &Got) -> Vec<String> {
    got.lock().unwrap().clone()
}

#[tokio::test]
async fn a_webhook_is_signed_and_carries_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let (port, got) = http(Manner::Answers(204, ""), None).await;
    let at = json!({"url": format!("http://127.0.0.1:{port}/hook?x=1"), "sign": secret(dir.path(), "key", CANARY)});
    let notifier = open("webhook", &at).unwrap();
    notifier.notify(notice(Occasion::Parked)).await.unwrap();
    notifier.notify(notice(Occasion::Parked)).await.unwrap();
    let requests = all(&got);
    let request = &requests[0];
    assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(request, "host"), Some(format!("127.0.0.1:{port}")));
    assert_eq!(header(request, "content-type").as_deref(), Some("application/json"));
    assert_eq!(header(request, "idempotency-key"), header(&requests[1], "idempotency-key"), "the same notice");
    assert_eq!(header(request, "idempotency-key").as_deref(), Some("orders-1/parked/7"));
    let told = json!({"key": "orders-1/parked/7", "run": "orders-1", "occasion": "parked", "urgent": true,
        "text": "orders-1: <parked> & \"held\""});
    assert_eq!(body(request), told);
    let (at, raw) = (header(request, "dr-timestamp").unwrap(), request.split_once("\r\n\r\n").unwrap().1);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(CANARY.as_bytes()).unwrap();
    mac.update(format!("{at}.{raw}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header(request, "dr-signature"), Some(format!("v1={hex}")));
    assert!(!request.contains(CANARY), "the key itself is never sent");
}

#[tokio::test]
async fn slack_is_given_a_text_that_calls_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (port, got) = http(Manner::Answers(200, "ok"), None).await;
    let url = secret(dir.path(), "url", &format!("http://127.0.0.1:{port}/services/T/B/{CANARY}"));
    let notifier = open("slack", &json!({"url": url})).unwrap();
    notifier.notify(notice(Occasion::Parked)).await.unwrap();
    notifier.notify(notice(Occasion::Progress)).await.unwrap();
    let requests = all(&got);
    assert!(requests[0].starts_with(&format!("POST /services/T/B/{CANARY} HTTP/1.1")), "{}", requests[0]);
    let texts: Vec<Value> = requests.iter().map(|request| body(request)["text"].clone()).collect();
    let text = "orders-1: &lt;parked&gt; &amp; \"held\"";
    assert_eq!(texts, [format!(":rotating_light: {text}"), text.to_owned()]);
}

#[tokio::test]
async fn pagerduty_opens_one_incident_a_run_and_closes_it_when_the_run_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    let (port, got) = http(Manner::Answers(202, r#"{"status":"success"}"#), None).await;
    let key = secret(dir.path(), "key", CANARY);
    let at = json!({"routing_key": key, "url": format!("http://127.0.0.1:{port}/v2/enqueue")});
    let notifier = open("pagerduty", &at).unwrap();
    assert!(notifier.closes());
    let occasions = [
        Occasion::Progress,
        Occasion::Asked,
        Occasion::Parked,
        Occasion::Parked,
        Occasion::TurningBack,
        Occasion::Ended,
        Occasion::EndedWell,
    ];
    for occasion in occasions {
        notifier.notify(notice(occasion)).await.unwrap();
    }
    // Its clients were turned away, so it is urgent to the end: the incident is closed all the same.
    notifier.notify(dr_core::contract::Notice { urgent: true, ..notice(Occasion::EndedWell) }).await.unwrap();
    let events: Vec<Value> = all(&got).iter().map(|request| body(request)).collect();
    let actions: Vec<&str> = events.iter().map(|event| event["event_action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["trigger", "trigger", "resolve", "resolve"]);
    assert!(events.iter().all(|event| event["dedup_key"] == "dr/prod/orders-1" && event["routing_key"] == CANARY));
    let payload = &events[0]["payload"];
    assert_eq!((&payload["severity"], &payload["source"]), (&json!("critical"), &json!("orders")));
    assert_eq!(payload["summary"], "orders-1: <parked> & \"held\"");

    got.lock().unwrap().clear();
    notifier.notify(notice(Occasion::Test)).await.unwrap();
    let events: Vec<Value> = all(&got).iter().map(|request| body(request)).collect();
    let tested: Vec<_> = events.iter().map(|event| (&event["event_action"], &event["dedup_key"])).collect();
    let key = json!("dr/prod/orders-1/test");
    assert_eq!(tested, [(&json!("trigger"), &key), (&json!("resolve"), &key)], "a test leaves no incident behind");
}

#[tokio::test]
async fn a_server_that_refuses_hangs_or_is_not_there_has_told_nobody() {
    let cases = [
        (Manner::Answers(500, "oh"), "answered 500: oh"),
        (Manner::Answers(404, "no_service"), "answered 404: no_service"),
        (Manner::Answers(302, ""), "answered 302"),
        (Manner::Answers(429, ""), "throttled"),
        (Manner::Hangs, "no answer within 0.2 s"),
        (Manner::Drips, "127.0.0.1"),
        (Manner::HangsUp, "127.0.0.1"),
    ];
    for (manner, why) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (port, got) = http(manner.clone(), None).await;
        for (with, at) in tables(dir.path(), &format!("http://127.0.0.1:{port}"), "200 ms") {
            let error = open(with, &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
            let drips = matches!(manner, Manner::Drips) && words(&error).contains("no answer");
            assert!(words(&error).contains(why) || drips, "{with} {manner:?}: {}", words(&error));
        }
        assert_eq!(all(&got).len(), 3, "one attempt each");
    }
    let dir = tempfile::tempdir().unwrap();
    for (with, at) in tables(dir.path(), &format!("http://127.0.0.1:{}", nobody().await), "2 s") {
        let error = open(with, &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
        assert!(words(&error).contains("127.0.0.1: Connection refused"), "{with}: {}", words(&error));
    }
}

#[tokio::test]
async fn a_server_may_say_how_long_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _) = http(Manner::Answers(429, ""), None).await;
    for (with, at) in tables(dir.path(), &format!("http://127.0.0.1:{port}"), "2 s") {
        let error = open(with, &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
        assert!(matches!(error, ProviderError::Throttled { wait, .. } if wait == dr_core::seconds(7)), "{error:?}");
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _) = http(Manner::Slow(Duration::from_millis(100)), None).await;
    for (with, at) in tables(dir.path(), &format!("http://127.0.0.1:{port}"), "20 s") {
        open(with, &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap();
    }
}

/// The server repeats everything, secrets too, and no error, `Debug` or description has it.
#[tokio::test]
async fn no_secret_is_in_an_error_or_a_debug() {
    for status in [400, 401, 500] {
        let dir = tempfile::tempdir().unwrap();
        let (port, got) = http(Manner::Repeats(status), None).await;
        for (with, at) in tables(dir.path(), &format!("http://127.0.0.1:{port}"), "2 s") {
            let notifier = open(with, &at).unwrap();
            let error = notifier.notify(notice(Occasion::Parked)).await.unwrap_err();
            let shown = format!("{} {notifier:?} {notifier:#?}", words(&error));
            assert!(!shown.contains(CANARY), "{with}: {shown}");
            assert!(shown.contains("127.0.0.1"), "{with}: {shown}");
        }
        assert!(all(&got).iter().any(|request| request.contains(CANARY)), "the server had it to repeat");
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_by_name_or_nothing_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let server = identity(dir.path());
    let (port, got) = http(Manner::Answers(200, "ok"), Some(server.acceptor)).await;
    let base = format!("https://localhost:{port}");
    for (with, mut at) in tables(dir.path(), &base, "5 s") {
        at["ca"] = json!(server.ca);
        open(with, &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap();
    }
    assert_eq!(all(&got).len(), 3);
    // Not trusted, or another name than the certificate's.
    let strangers = [(base, None), (format!("https://127.0.0.1:{port}"), Some(&server.ca))];
    for (base, ca) in strangers {
        for (with, mut at) in tables(dir.path(), &base, "5 s") {
            if let Some(ca) = ca {
                at["ca"] = json!(ca);
            }
            let error = open(with, &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
            assert!(words(&error).contains("certificate"), "{with}: {}", words(&error));
        }
    }
    assert_eq!(all(&got).len(), 3, "nobody else was sent anything");
}
