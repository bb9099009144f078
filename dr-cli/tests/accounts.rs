//! Four eyes are four eyes: real accounts of the host try to approve a run that they asked for, or have no role in.
//!
//! The trial needs root, for several accounts, and a mount namespace, so that `/etc/dr/people.toml` is its own. Each command is the stock
//! program under `setpriv` in `unshare --mount`, both of util-linux. Under `CI` a host that cannot do that fails the trial.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a trial of the program with accounts and directories of its own"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const OPERATORS: u32 = 60_100;
const MIRA: Account = Account { uid: 60_001, gid: OPERATORS };
const MIRA_TOO: Account = Account { uid: 60_011, gid: OPERATORS };
const ANA: Account = Account { uid: 60_002, gid: OPERATORS };
const BEN: Account = Account { uid: 60_003, gid: OPERATORS };
const BEN_TOO: Account = Account { uid: 60_013, gid: OPERATORS };
/// Works with the operators, and has no role.
const OLGA: Account = Account { uid: 60_005, gid: OPERATORS };
/// Has an account on the host, and nothing else.
const EVE: Account = Account { uid: 60_004, gid: 60_004 };

const PEOPLE: &str = "format = 1
[person.mira]
uid   = [60001, 60011]
roles = [\"dba\"]
[person.ana]
uid   = 60002
roles = [\"dba\"]
[person.ben]
uid   = [60003, 60013]
roles = [\"service-owner\"]
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A host with operators, a group of simulated databases, and a run that waits for two people.
#[derive(Debug)]
struct Host {
    dir: tempfile::TempDir,
}

fn open_to(path: &Path, owner: u32, group: u32, mode: u32) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Host {
    /// `None` where this host lets nobody play several accounts.
    fn new() -> Option<Self> {
        let mut may = Command::new("unshare");
        may.args(["--mount", "setpriv", "--reuid", "60001", "--clear-groups", "true"]).stderr(Stdio::null());
        if !may.status().is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "this host lets nobody play several accounts");
            eprintln!("skipped: it needs root, unshare and setpriv");
            return None;
        }
        let host = Self { dir: tempfile::tempdir().unwrap() };
        fs::set_permissions(host.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["etc", "etc/dr", "groups"] {
            fs::create_dir(host.path(name)).unwrap();
            open_to(&host.path(name), 0, 0, 0o755);
        }
        for name in ["passwd", "group", "nsswitch.conf", "ld.so.cache"] {
            let from = Path::new("/etc").join(name);
            if from.exists() {
                fs::copy(from, host.path("etc").join(name)).unwrap();
            }
        }
        host.root_writes("etc/dr/people.toml", PEOPLE);
        host.root_writes("groups/orders.toml", include_str!("../src/sandbox/orders.toml"));
        for name in ["journal", "leases", "sim"] {
            fs::create_dir(host.path(name)).unwrap();
            open_to(&host.path(name), 0, OPERATORS, 0o2770);
        }
        for (name, who) in [("mira", MIRA), ("olga", OLGA), ("eve", EVE)] {
            fs::create_dir(host.path(name)).unwrap();
            open_to(&host.path(name), who.uid, who.gid, 0o755);
        }
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root_writes(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        open_to(&self.path(name), 0, 0, 0o644);
    }

    /// Somebody writes a file of his own.
    fn writes(&self, who: Account, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        open_to(&path, who.uid, who.gid, 0o644);
        open_to(path.parent().unwrap(), who.uid, who.gid, 0o755);
    }

    fn command(&self, who: Account, line: &str, env: &[(&str, &str)]) -> Command {
        let etc = self.path("etc").display().to_string();
        let (uid, gid) = (who.uid.to_string(), who.gid.to_string());
        let mut command = Command::new("unshare");
        let script = format!(
            "umask 002; mount --bind {etc} /etc && exec setpriv --reuid {uid} --regid {gid} --clear-groups {} {line}",
            env!("CARGO_BIN_EXE_dr")
        );
        command.args(["--mount", "sh", "-c", &script.replace("HOST", &self.dir.path().display().to_string())]);
        let places = [("DR_DIR", "journal"), ("DR_GROUPS", "groups"), ("DR_SIM", "sim"), ("DR_LEASES", "leases")];
        for (name, place) in places {
            command.env(name, self.path(place));
        }
        for (name, value) in env {
            command.env(name, value.replace("HOST", &self.dir.path().display().to_string()));
        }
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn dr(&self, who: Account, line: &str) -> Output {
        self.command(who, line, &[]).output().unwrap()
    }

    fn view(&self, run: &str) -> serde_json::Value {
        let said = self.dr(OLGA, &format!("watch {run} --once --json"));
        serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", words(&said)))
    }

    fn code(&self, run: &str) -> String {
        self.view(run)["ask_digest"].as_str().unwrap().chars().take(4).collect()
    }

    /// How many answers count.
    fn answers(&self, run: &str) -> usize {
        self.view(run)["given"].as_array().unwrap().len()
    }

    /// Waits until the engine has counted the first answer.
    fn counts_one(&self) {
        let begun = Instant::now();
        while self.answers("orders-1") == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "the answer is not counted");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn asks(&self, child: &mut Child) {
        let begun = Instant::now();
        loop {
            let view = self.command(OLGA, "watch orders-1 --once --json", &[]).output().unwrap();
            if serde_json::from_slice::<serde_json::Value>(&view.stdout).is_ok_and(|view| view["ask"].is_object()) {
                return;
            }
            let late = begun.elapsed() > Duration::from_secs(60) || child.try_wait().unwrap().is_some();
            assert!(!late, "the run asks nothing: {}", words(&view));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A try: who, what is typed, in which environment, and what the refusal says.
type Try = (Account, String, Vec<(&'static str, &'static str)>, &'static str);

/// Everything that somebody tried to make one person two.
fn answers_of_others(code: &str) -> Vec<Try> {
    let approve = format!("approve orders-1 --code {code}");
    let own = || vec![("DR_GROUPS", "HOST/mira/groups")];
    vec![
        // 1 to 8: the requester, by other names and other files.
        (MIRA, approve.clone(), vec![], "DR305  mira asked for this run"),
        (MIRA_TOO, approve.clone(), vec![], "DR305  mira asked for this run"),
        (MIRA, format!("--groups HOST/mira/groups {approve}"), vec![], "DR305"),
        (MIRA, approve.clone(), own(), "DR305"),
        (MIRA, approve.clone(), vec![("DR_PEOPLE", "HOST/mira/groups/people.toml")], "DR305"),
        (MIRA, approve.clone(), vec![("HOME", "HOST/mira"), ("XDG_CONFIG_HOME", "HOST/mira")], "DR305"),
        (MIRA, format!("--people HOST/mira/groups/people.toml {approve}"), vec![], "unexpected argument"),
        (MIRA, approve.clone(), vec![("USER", "ana"), ("LOGNAME", "ana"), ("SUDO_UID", "60002")], "DR305"),
        // 9 and 10: playing somebody.
        (MIRA, format!("--as ana {approve}"), vec![], "--sandbox"),
        (MIRA, format!("--sandbox HOST/mira/box --as ana {approve}"), vec![], "was not begun in a sandbox"),
        // 11 to 14: no role, and other words for it.
        (OLGA, approve.clone(), vec![], "DR303"),
        (OLGA, format!("decide orders-1 approve --code {code}"), vec![], "DR303"),
        (OLGA, "reject orders-1".into(), vec![], "DR303"),
        (OLGA, "cancel orders-1 --because no".into(), vec![], "DR303"),
        // 15 and 16: steering.
        (OLGA, "pause orders-1 --because no".into(), vec![], "DR303"),
        (OLGA, "resume orders-1 --take-over".into(), vec![], "DR303"),
        // 17 to 20: outside of the operators.
        (EVE, approve.clone(), vec![], "is read-only"),
        (EVE, approve.clone(), vec![("DR_LEASES", "HOST/eve/leases")], "is read-only"),
        (EVE, approve, vec![("DR_DIR", "HOST/eve/journal"), ("DR_LEASES", "HOST/eve/leases")], "no run `orders-1`"),
        (EVE, "cancel orders-1 --because no".into(), vec![], "is read-only"),
        // 21: a code of another question.
        (ANA, "approve orders-1 --code 0000".into(), vec![], "DR301"),
    ]
}

fn two_accounts_and_open_files_make_nobody_another(host: &Host, code: &str) {
    // 22: one person with two accounts is one person.
    assert!(host.dr(BEN, &format!("approve orders-1 --code {code}")).status.success());
    host.counts_one();
    let again = host.dr(BEN_TOO, &format!("approve orders-1 --code {code}"));
    assert!(!again.status.success() && words(&again).contains("DR304"), "{}", words(&again));
    assert_eq!(host.answers("orders-1"), 1);
    // 23: the file of people opens itself to others, by its rights or by those of its directory.
    for (name, mode) in [("etc/dr/people.toml", 0o666), ("etc/dr", 0o777)] {
        let before = fs::metadata(host.path(name)).unwrap().permissions();
        fs::set_permissions(host.path(name), fs::Permissions::from_mode(mode)).unwrap();
        let said = host.dr(ANA, &format!("approve orders-1 --code {code}"));
        assert!(!said.status.success() && words(&said).contains("can be written by others"), "{}", words(&said));
        let seen = host.dr(OLGA, "status orders-1");
        assert_eq!(seen.status.code(), Some(4), "looking goes on: {}", words(&seen));
        fs::set_permissions(host.path(name), before).unwrap();
    }
    assert_eq!(host.answers("orders-1"), 1);
}

#[test]
fn bug_nobody_approves_alone_and_nobody_without_a_role() {
    let Some(host) = Host::new() else { return };
    for name in ["mira", "olga", "eve"] {
        let who =
            [("mira", MIRA), ("olga", OLGA), ("eve", EVE)].into_iter().find(|(other, _)| *other == name).unwrap().1;
        let people = format!("format = 1\n[person.bob]\nuid = {}\nroles = [\"dba\"]\n", who.uid);
        host.writes(who, &format!("{name}/groups/people.toml"), &people);
        host.writes(who, &format!("{name}/people.toml"), &people);
    }
    // A sandbox whose journal is the real one.
    host.writes(MIRA, "mira/box/groups/orders.toml", include_str!("../src/sandbox/orders.toml"));
    for (name, place) in [("journal", "journal"), ("leases", "leases"), ("sim", "sim")] {
        symlink(host.path(place), host.path("mira/box").join(name)).unwrap();
    }

    let planned = host.dr(MIRA, "plan switchover orders --to weu --save HOST/mira/orders.plan");
    assert!(planned.status.success(), "{}", words(&planned));
    let mut run = host.command(MIRA, "start HOST/mira/orders.plan --because CHG-1", &[]).spawn().unwrap();
    host.asks(&mut run);
    let code = host.code("orders-1");
    for (index, (who, line, env, says)) in answers_of_others(&code).into_iter().enumerate() {
        let said = host.command(who, &line, &env).output().unwrap();
        let (number, text) = (index + 1, words(&said));
        assert!(!said.status.success() && text.contains(says), "attempt {number}, {who:?}: {line}\n{text}");
        assert_eq!(host.answers("orders-1"), 0, "attempt {number} counted: {line}\n{text}");
    }
    two_accounts_and_open_files_make_nobody_another(&host, &code);
    // And two people are two people.
    let said = host.dr(ANA, &format!("approve orders-1 --code {code}"));
    assert!(said.status.success(), "{}", words(&said));
    let end = run.wait_with_output().unwrap();
    assert!(end.status.success(), "{}", words(&end));
    let view = host.view("orders-1").to_string();
    assert!(view.contains("os user 60001, people file "), "the journal says whose word it was: {view}");
}

#[test]
fn bug_a_group_file_of_ones_own_starts_no_run() {
    let Some(host) = Host::new() else { return };
    // 24: fewer people in a group file of one's own.
    let weak = include_str!("../src/sandbox/orders.toml")
        .replace("people  = 2", "people  = 1")
        .replace("roles   = [\"dba\", \"service-owner\"]", "roles   = []");
    host.writes(MIRA, "mira/groups/orders.toml", &weak);
    let planned = host.dr(MIRA, "--groups HOST/mira/groups plan switchover orders --to weu --save HOST/mira/weak.plan");
    assert!(planned.status.success(), "{}", words(&planned));
    let said = host.dr(MIRA, "--groups HOST/mira/groups start HOST/mira/weak.plan --because CHG-1");
    assert_eq!(said.status.code(), Some(3), "{}", words(&said));
    assert!(words(&said).contains("belongs to uid-60001, and not to root"), "{}", words(&said));
    // 25: the same, with the file taken away meanwhile.
    fs::remove_file(host.path("mira/groups/orders.toml")).unwrap();
    let said = host.dr(MIRA, "start HOST/mira/weak.plan --because CHG-1");
    assert!(!said.status.success() && words(&said).contains("is not there any more"), "{}", words(&said));
    // 26: fewer people in the plan itself.
    let planned = host.dr(MIRA, "plan switchover orders --to weu --save HOST/mira/orders.plan");
    assert!(planned.status.success(), "{}", words(&planned));
    let plan = fs::read_to_string(host.path("mira/orders.plan")).unwrap();
    let fewer = plan.replace("\"people\":2", "\"people\":1");
    assert_ne!(plan, fewer, "the plan says how many");
    host.writes(MIRA, "mira/fewer.plan", &fewer);
    let said = host.dr(MIRA, "start HOST/mira/fewer.plan --because CHG-1");
    assert_eq!(said.status.code(), Some(3), "{}", words(&said));
    assert!(words(&host.dr(OLGA, "list")).contains("no runs"), "nothing was started");
}
