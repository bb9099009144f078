use proptest::prelude::*;

use super::*;

fn to(text: &str) -> String {
    String::from_utf8(aimed(text.as_bytes(), "app", "10.2.0.11", 5433).unwrap()).unwrap()
}

fn refusal(text: &str) -> String {
    aimed(text.as_bytes(), "app", "10.2.0.11", 5433).unwrap_err().to_string()
}

#[test]
fn bug_an_entry_with_blanks_keeps_one_host() {
    assert_eq!(
        to("[databases]\napp = host = 10.1.0.11 port = 5432 dbname = app pool_size=7\n"),
        "[databases]\napp = host = 10.2.0.11 port = 5433 dbname = app pool_size=7\n"
    );
}

#[test]
fn an_edit_keeps_the_style_of_the_entry() {
    for (before, after) in [
        ("app=host=a port=1", "app=host=10.2.0.11 port=5433"),
        ("app = host='a' port='1' user=x", "app = host='10.2.0.11' port='5433' user=x"),
        ("app = port=1 dbname=d host=a", "app = port=5433 dbname=d host=10.2.0.11"),
        ("app = host=a dbname=d", "app = host=10.2.0.11 port=5433 dbname=d"),
        ("app = host = a dbname = d", "app = host = 10.2.0.11 port = 5433 dbname = d"),
        ("app = dbname=d", "app = host=10.2.0.11 port=5433 dbname=d"),
        ("app = port=1", "app = host=10.2.0.11 port=5433"),
        ("app =", "app = host=10.2.0.11 port=5433"),
        ("app = ", "app = host=10.2.0.11 port=5433"),
        ("app = host=old host=a port=1 port=2", "app = host=old host=10.2.0.11 port=1 port=5433"),
        ("app = host=a port=1 password='it''s host=b'", "app = host=10.2.0.11 port=5433 password='it''s host=b'"),
        (
            "app = host=a port=1 connect_query='set x = ''a b'''",
            "app = host=10.2.0.11 port=5433 connect_query='set x = ''a b'''",
        ),
        ("app = host=a port=1   \t", "app = host=10.2.0.11 port=5433   \t"),
    ] {
        for end in ["", "\n", "\r\n", "\nother = host=z\n"] {
            let text =
                |entry: &str| format!("; first\r\n[databases]\n# app = host=c\nxapp = host=b port=1\n{entry}{end}");
            assert_eq!(to(&text(before)), text(after));
            assert_eq!(to(&text(after)), text(after), "saying it twice is no change");
        }
    }
    let default = aimed(b"[databases]\napp = host=a", "app", "b", 5432).unwrap();
    assert_eq!(default, b"[databases]\napp = host=b", "the port that is meant anyway is not added");
}

#[test]
fn bug_other_entries_and_sections_stay() {
    let rest = "[pgbouncer]\nlisten_port = 6432\napp = host=no\n[databases]\nreporting = host=10.1.0.11\n";
    let tail = "* = host=10.1.0.11 pool_size=7\n[users]\napp = pool_mode=session\n";
    assert_eq!(
        to(&format!("{rest}app = host=10.1.0.11 port=5432\n{tail}")),
        format!("{rest}app = host=10.2.0.11 port=5433\n{tail}")
    );
    assert_eq!(
        to("[databases]\napp = host=a\napp = host=b"),
        "[databases]\napp = host=a\napp = host=10.2.0.11 port=5433"
    );
    assert_eq!(to("app = host=a\n"), "app = host=10.2.0.11 port=5433\n", "included inside of [databases]");
    assert_eq!(to("[databases] app = host=a\n"), "[databases] app = host=10.2.0.11 port=5433\n");
}

#[test]
fn what_names_no_single_server_is_refused() {
    let entry = |said: &str| format!("[databases]\napp = {said}\n");
    assert!(refusal(&entry("host=a,b port=5432")).contains("line 2: `host=a,b` is a list"));
    assert!(refusal(&entry("host=/run/postgresql")).contains("unix socket"));
    assert!(refusal(&entry("host=@run port=1")).contains("unix socket"));
    assert!(refusal("[databases]\n* = host=a\n").contains("no entry `app`"));
    assert!(refusal("[pgbouncer]\napp = host=a\n").contains("no entry `app`"));
    assert!(aimed(b"[databases]\napp = host=a", "app", "b,c", 1).unwrap_err().to_string().contains("no single server"));
    // One byte after a quote is passed over: nothing can be put behind it without changing what is read.
    assert!(refusal(&entry("host='a'xdbname=d")).contains("without changing something else"));
}

#[test]
fn what_pgbouncer_does_not_read_is_refused_with_the_line() {
    for (text, line, why) in [
        ("[databases\napp = host=a", 1, "without `]`"),
        ("[databases]\n\napp host=a\n", 3, "name = value"),
        ("[databases]\n\"my app\" = host=a\n", 2, "name = value"),
        ("[databases]\napp = host=a\n%include\n", 3, "name = value"),
        ("[databases]\napp = host\n", 2, "key without `=`"),
        ("[databases]\napp = host=a ; production\n", 2, "key without `=`"),
        ("[databases]\napp = host=a password=''\n", 2, "key without a value"),
        ("[databases]\napp = host=a password='x\n", 2, "quote without an end"),
        ("[databases]\napp = host=a port=none\n", 2, "no port"),
        ("[databases]\n'app = host=a\n", 2, "quoted name"),
        ("[databases]\napp = host=a\n\0", 3, "byte 0"),
    ] {
        let error = entry(text.as_bytes(), "app").unwrap_err();
        assert!(error.line == line && error.why.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn includes_and_quoted_names_are_read() {
    let text = b"%include \t a b.ini \r\n[databases]\n'my app'=host=a\n %include c";
    let said: Vec<Said> = statements(text).unwrap().into_iter().map(|statement| statement.said).collect();
    assert_eq!(said.first(), Some(&Said::Include("a b.ini".into())));
    assert!(matches!(said.get(2), Some(Said::Pair { key, quoted: true, .. }) if key == "my app"), "{said:?}");
    assert_eq!(said.get(3), Some(&Said::Include("c".into())));
    assert_eq!(entry(text, "my app").unwrap().unwrap().host(), Some("a"));
    assert_eq!(
        entry(b"app = host=a\tport=1", "app").unwrap().unwrap().host(),
        Some("a\tport=1"),
        "tabs separate nothing"
    );
}

fn blanks() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", " ", "  ", "   "]).prop_map(String::from)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9._-]{1,8}", "[a-zäß '=;#,]{1,9}".prop_map(|text| format!("'{}'", text.replace('\'', "''")))]
}

fn param(key: String, value: String) -> impl Strategy<Value = String> {
    (blanks(), blanks()).prop_map(move |(before, after)| format!("{key}{before}={after}{value}"))
}

fn connection() -> impl Strategy<Value = String> {
    let host = prop_oneof!["[a-z0-9.]{1,9}".boxed(), "[a-z0-9.:]{1,9}".prop_map(|host| format!("'{host}'")).boxed(),];
    let host = prop::option::of(host.prop_flat_map(|host| param("host".into(), host)));
    let port = prop::option::of((1..65535_u16).prop_flat_map(|port| param("port".into(), port.to_string())));
    let key = prop::sample::select(vec!["dbname", "user", "password", "pool_size", "auth_query", "connect_query"]);
    let other = (key, value()).prop_flat_map(|(key, value)| param(key.into(), value));
    let others = prop::collection::vec(other, 0..4);
    (host, port, others, 0..5_usize).prop_map(|(host, port, mut all, turn)| {
        all.extend(host);
        all.extend(port);
        let turn = turn % all.len().max(1);
        all.rotate_left(turn);
        all.join(" ")
    })
}

fn other_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[;#][ -~]{0,20}",
        Just("[databases]".to_owned()),
        Just("[users]".to_owned()),
        Just(" \t".to_owned()),
        Just("%include /etc/x.ini".to_owned()),
        ("[a-z*.]{1,3}", connection()).prop_map(|(name, said)| format!("{name} = {said}")),
    ]
}

proptest! {
    /// Whatever else a file holds, an edit changes host and port of one entry, and nothing else that PgBouncer reads.
    #[test]
    fn an_edit_changes_host_and_port_of_one_entry(
        before in prop::collection::vec(other_line(), 0..5),
        (one, two) in (blanks(), blanks()),
        said in connection(),
        after in prop::collection::vec(other_line(), 0..5),
        end in prop::sample::select(vec!["\n", "\r\n", "\n\n", " \n"]),
        last in prop::sample::select(vec!["", "\n"]),
        (host, port) in ("[a-z0-9.]{1,9}", 1..65535_u16),
    ) {
        let mut lines = before;
        lines.push("[databases]".to_owned());
        lines.push(format!("app{one}={two}{said}"));
        lines.extend(after);
        let text = format!("{}{last}", lines.join(end)).into_bytes();
        let old = entry(&text, "app").unwrap().unwrap();
        let new_text = aimed(&text, "app", &host, port).unwrap();
        let new = entry(&new_text, "app").unwrap().unwrap();
        prop_assert_eq!((new.host(), new.port()), (Some(host.as_str()), port));
        prop_assert_eq!(new.others(), old.others());
        // All bytes outside of the entry's value are the same bytes.
        prop_assert_eq!(&new_text[..old.value.start.min(new.value.start)], &text[..old.value.start.min(new.value.start)]);
        prop_assert_eq!(&new_text[new.value.end..], &text[old.value.end..]);
        let others = |text: &[u8]| -> Vec<(usize, String)> {
            let all = statements(text).unwrap();
            all.into_iter().filter(|one| one.line != old.line).map(|one| (one.line, match one.said {
                Said::Section(name) | Said::Include(name) => name,
                Said::Pair { key, value, .. } => format!("{key}={}", lossy(text, &value)),
            })).collect()
        };
        prop_assert_eq!(others(&text), others(&new_text));
        prop_assert_eq!(aimed(&new_text, "app", &host, port).unwrap(), new_text);
    }

    /// No text makes the reader fail otherwise than with a line.
    #[test]
    fn any_text_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = aimed(&text, "app", "h", 1);
    }
}
