//! The program `dr-evidence`.

use std::{ffi::OsString, fs, path::Path};

use dr_evidence::{
    SecretKey,
    cli::{self, Exit},
    input,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::runs::{self, Sealed};

struct Said {
    exit: Exit,
    out: String,
    err: String,
}

fn say(words: &[&str]) -> Said {
    let words = ["dr-evidence"].iter().chain(words).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = cli::run(words, &mut out, &mut err);
    Said { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A bundle in a directory, and the directory's name.
fn written(run: &Sealed, sizes: &[usize]) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("bundle");
    run.bundle(sizes).write(&place).unwrap();
    (dir, place.to_str().unwrap().to_owned())
}

fn put(place: &str, name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let file = Path::new(place).join(name);
    let bytes = fs::read(&file).unwrap();
    fs::write(file, change(bytes)).unwrap();
}

#[test]
fn valid_bundle_is_verified_shown_and_reported() {
    let run = runs::succeeded();
    let (dir, place) = written(&run, &[run.promotion()]);
    let root = run.root.to_string();
    let verified = say(&["verify", &place, "--root", &root]);
    assert_eq!((verified.exit, verified.err.as_str()), (Exit::Valid, ""));
    let events = run.lines.len();
    assert_eq!(
        verified.out,
        format!("VALID  orders-1\n  checked: 6 files, {events} events, 4 signatures; {events} events replayed\n")
    );
    let shown = say(&["show", &place, "--root", &root]);
    assert!(shown.out.contains("promote") && shown.out.contains("VALID"), "{}", shown.out);
    let html = dir.path().join("report.html");
    let html = html.to_str().unwrap();
    let reported = say(&["report", &place, "--root", &root, "--html", html]);
    assert!(reported.out.starts_with("DONE") && reported.out.contains("VALID"), "{}", reported.out);
    assert!(fs::read_to_string(html).unwrap().starts_with("<!doctype html>"));
    let again = say(&["report", &place, "--root", &root, "--html", html]);
    assert_eq!(again.exit, Exit::Input, "a report is not overwritten");
}

#[test]
fn each_class_has_its_exit_code() {
    let run = runs::succeeded();
    let root = run.root.to_string();
    let (_dir, place) = written(&run, &[]);
    assert_eq!(say(&["verify", &place, "--root", &root]).exit, Exit::Gaps);
    assert_eq!(say(&["verify", &place]).exit, Exit::Unverifiable);
    let (_parked, waits) = written(&runs::parked(), &[]);
    assert_eq!(say(&["verify", &waits, "--root", &root]).exit, Exit::Unterminated);
    assert_eq!(say(&["verify", "/nowhere/at/all", "--root", &root]).exit, Exit::Input);
    assert_eq!(say(&["verify", &place, "--root", "nonsense"]).exit, Exit::Input);
    assert_eq!(say(&["verify"]).exit, Exit::Input);
    assert_eq!(say(&["--help"]).exit, Exit::Valid);
}

/// Nobody reads on in a record that was changed, and what was changed is named.
#[test]
fn changed_bundle_is_named_and_not_shown() {
    let run = runs::cancelled();
    let root = run.root.to_string();
    let (_dir, place) = written(&run, &[]);
    put(&place, "events.jsonl", |bytes| {
        String::from_utf8(bytes).unwrap().replace("the wrong day", "\u{1b}[2Jno").into_bytes()
    });
    for verb in ["verify", "show", "report"] {
        let said = say(&[verb, &place, "--root", &root]);
        assert_eq!(said.exit, Exit::Tampered, "{verb}");
        assert!(said.out.starts_with("TAMPERED") && said.out.contains("EV501  events.jsonl, event 3"), "{}", said.out);
        assert!(!said.out.contains('\u{1b}'));
        let json: Value = serde_json::from_str(&say(&[verb, &place, "--root", &root, "--json"]).out).unwrap();
        assert_eq!(json["class"], "tampered");
        assert_eq!(json["findings"][0]["code"], "EV501");
    }
}

/// What a terminal would obey is shown as a replacement, also where the record says it itself.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let run = runs::cancelled();
    let (_dir, place) = written(&run, &[]);
    fs::write(Path::new(&place).join("x\u{1b}[2J"), b"").unwrap();
    let said = say(&["verify", &place, "--root", &run.root.to_string()]);
    assert!(said.out.contains("EV102") && !said.out.contains('\u{1b}'), "{:?}", said.out);
}

#[cfg(unix)]
#[test]
fn root_key_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.key");
    let name = file.to_str().unwrap();
    let made = say(&["new-key", name, "--name", "example.com/dr"]);
    assert_eq!(made.exit, Exit::Valid);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = SecretKey::from_text(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(made.out, format!("{}\n", secret.public()));
    assert_eq!(say(&["export-key", name]).out, made.out);
    let again = say(&["new-key", name, "--name", "example.com/dr"]);
    assert_eq!(again.exit, Exit::Input);
    assert!(!again.err.contains("PRIVATE") && again.err.contains(name), "{}", again.err);
    let public = dir.path().join("root.pub");
    fs::write(&public, &made.out).unwrap();
    assert_eq!(input::read_public(public.to_str().unwrap()).unwrap(), *secret.public());
}

#[test]
fn checkpoint_kept_elsewhere_is_compared() {
    let run = runs::succeeded();
    let kept = run.notes(&[9]).remove(0);
    let cut = Sealed::of(run.run.clone(), run.lines[..8].to_vec());
    let (dir, place) = written(&cut, &[]);
    let file = dir.path().join("kept.note");
    fs::write(&file, kept.to_string()).unwrap();
    let said = say(&["verify", &place, "--root", &run.root.to_string(), "--known", file.to_str().unwrap()]);
    assert_eq!(said.exit, Exit::Tampered);
    assert!(said.out.contains("EV405"), "{}", said.out);
}
