//! `smtp` against a mail server of this host.

use dr_core::{ProviderError, contract::Occasion};
use serde_json::{Value, json};

use super::{
    CANARY,
    doubles::{Post, identity, nobody, smtp},
    notice, open, secret, words,
};

fn table(port: u16, within: &str) -> Value {
    json!({"server": "127.0.0.1", "port": port, "tls": "none", "within": within,
        "from": "DR <dr@example.com>", "to": ["Ana <ana@example.com>", "ben@example.com"]})
}

#[tokio::test]
async fn a_mail_is_one_line_about_the_run_and_has_the_id_of_its_notice() {
    let (port, got) = smtp(Post::Takes, None).await;
    let notifier = open("smtp", &table(port, "5 s")).unwrap();
    let mut strange = notice(Occasion::Parked);
    strange.text = "orders-1: parked\r\nBcc: eve@example.com".into();
    notifier.notify(strange).await.unwrap();
    notifier.notify(notice(Occasion::Progress)).await.unwrap();
    let mails = got.lock().unwrap().clone();
    let [first, second] = mails.as_slice() else { panic!("{mails:?}") };
    for line in ["MAIL FROM:<dr@example.com>", "RCPT TO:<ana@example.com>", "RCPT TO:<ben@example.com>"] {
        assert!(first.contains(line), "{first}");
    }
    assert!(first.contains("Subject: [urgent] orders-1: parked  Bcc: eve@example.com\n"), "{first}");
    assert!(!first.contains("\nBcc:") || first.split_once("\n\n").unwrap().1.contains("\nBcc:"), "{first}");
    assert!(!first.contains("RCPT TO:<eve"), "{first}");
    assert!(first.contains("look: dr status orders-1"), "{first}");
    let id = |mail: &str| mail.lines().find(|line| line.starts_with("Message-ID: <")).unwrap().to_owned();
    assert!(id(first).ends_with(".dr@example.com>"), "{}", id(first));
    assert_eq!(id(first), id(second), "the same key is the same mail");
    assert!(second.contains("Subject: orders-1:"), "{second}");
}

#[tokio::test]
async fn a_login_is_sent_encrypted_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let server = identity(dir.path());
    let mut at = table(0, "5 s");
    at["server"] = json!("localhost");
    at["tls"] = json!("starttls");
    at["user"] = json!("dr");
    at["password"] = json!(secret(dir.path(), "key", CANARY));
    at["ca"] = json!(server.ca);

    let (port, got) = smtp(Post::Takes, Some(server.acceptor)).await;
    at["port"] = json!(port);
    open("smtp", &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap();
    let mails = got.lock().unwrap().clone();
    assert!(mails[0].contains("AUTH PLAIN"), "{}", mails[0]);

    // A server that offers no encryption gets neither login nor mail.
    let (port, got) = smtp(Post::Takes, None).await;
    at["port"] = json!(port);
    open("smtp", &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
    assert!(got.lock().unwrap().is_empty());

    // Nor does one whose certificate nobody vouches for.
    at.as_object_mut().unwrap().remove("ca");
    let stranger = identity(dir.path());
    let (port, got) = smtp(Post::Takes, Some(stranger.acceptor)).await;
    at["port"] = json!(port);
    let error = open("smtp", &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
    assert!(words(&error).contains("certificate"), "{}", words(&error));
    assert!(got.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_mail_server_that_refuses_hangs_or_is_not_there_has_told_nobody() {
    let cases = [
        (Post::Busy, "later", false),
        (Post::NoSuchPerson, "no such person", true),
        (Post::Hangs, "no answer within 0.3 s", false),
        (Post::HangsLater, "no answer within 0.3 s", false),
    ];
    for (manner, why, for_good) in cases {
        let (port, got) = smtp(manner, None).await;
        let error = open("smtp", &table(port, "300 ms")).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
        // The transport's own limit is the same.
        let timed_out = !for_good && words(&error).contains("timed out");
        assert!(words(&error).contains(why) || timed_out, "{manner:?}: {}", words(&error));
        assert_eq!(matches!(error, ProviderError::Refused { .. }), for_good, "{manner:?}: {error:?}");
        assert!(got.lock().unwrap().is_empty());
    }
    let at = table(nobody().await, "5 s");
    let error = open("smtp", &at).unwrap().notify(notice(Occasion::Parked)).await.unwrap_err();
    assert!(words(&error).contains("Connection refused"), "{}", words(&error));
}

/// The server repeats the password when it refuses it.
#[tokio::test]
async fn no_password_is_in_an_error_or_a_debug() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _) = smtp(Post::RefusesLogin, None).await;
    let mut at = table(port, "5 s");
    at["user"] = json!("dr");
    at["password"] = json!(secret(dir.path(), "key", CANARY));
    let notifier = open("smtp", &at).unwrap();
    let error = notifier.notify(notice(Occasion::Parked)).await.unwrap_err();
    let shown = format!("{} {notifier:?}", words(&error));
    assert!(shown.contains("127.0.0.1: answered 535") && !shown.contains(CANARY), "{shown}");
    // AUTH PLAIN carries it in base64.
    let encoded = "AGRyAGNhbmFyeS00ZjFkN2I=";
    assert!(!shown.contains(encoded), "{shown}");
}
