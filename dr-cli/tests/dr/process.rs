//! The program as a process: killed, interrupted, resumed (covers G03, L01: an operator's terminal is no part of the run).

use std::{
    io::{BufRead, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use crate::stage::Stage;
use dr_cli::Exit;

/// `dr` as its own process. Whoever runs the tests starts the run; ana approves from here.
pub(crate) fn spawn(stage: &Stage, words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dr"));
    command.args(words).env("DR_DIR", stage.path("journal")).env("DR_GROUPS", stage.path("groups"));
    command.env("DR_SIM", stage.path("sim")).env("DR_LEASES", stage.path("leases"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads until a line contains `text`.
pub(crate) fn until(child: &mut Child, text: &str) {
    let mut read = String::new();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            let mut said = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("`{text}` was not printed:\n{read}\n{said}");
        }
        if line.contains(text) {
            return;
        }
        read.push_str(&line);
    }
}

fn started(stage: &Stage) -> Child {
    let plan = stage.path("orders.plan").display().to_string();
    let said = stage.dr("plan switchover orders --to weu --save DIR/orders.plan");
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let mut child = spawn(stage, &["start", &plan, "--because", "CHG-1"]);
    until(&mut child, "answer with:");
    child
}

#[test]
fn ctrl_c_leaves_the_run_where_it_is_and_resume_goes_on() {
    let stage = Stage::new();
    let child = started(&stage);
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.starts_with("WAITS  orders-1 stays where it is: "), "{said}");
    assert!(said.contains("held: nothing\n  go on with:  dr resume orders-1\n"), "{said}");
    let code = stage.code("orders-1");
    let said = stage.by("ana", Some("dba"), &format!("approve orders-1 --code {code}"), None);
    assert!(said.out.contains("No engine drives orders-1 now"), "{}", said.out);
    let said = stage.dr("resume orders-1");
    assert_eq!(said.exit, Exit::Done, "{}{}", said.out, said.err);
    assert!(said.out.contains("DONE  orders-1  switchover neu -> weu"), "{}", said.out);
}

#[test]
fn a_killed_engine_is_seen_and_the_run_goes_on_in_another_process() {
    let stage = Stage::new();
    let mut child = started(&stage);
    let code = stage.code("orders-1");
    stage.by("ana", Some("dba"), &format!("approve orders-1 --code {code}"), None);
    until(&mut child, "ana (dba)");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = stage.dr("status orders-1");
    assert!(said.out.contains("No engine drives orders-1 now") || said.exit == Exit::Done, "{}", said.out);
    let resumed = spawn(&stage, &["resume", "orders-1"]).wait_with_output().unwrap();
    let said = String::from_utf8(resumed.stdout).unwrap() + &String::from_utf8(resumed.stderr).unwrap();
    let end = stage.dr("report orders-1 --json").json();
    assert_eq!(end["outcome"]["is"], "succeeded", "{said}");
    assert_eq!(end["lost"]["is"], "nothing", "{said}");
}

/// ana could not approve what mira had started: SQLite made the journal and the leases writable for mira alone.
#[test]
fn people_of_one_unix_group_share_journal_and_leases() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 002 && exec \"$0\" plan switchover orders --to weu", env!("CARGO_BIN_EXE_dr")]);
    for (name, place) in [("DR_DIR", "journal"), ("DR_GROUPS", "groups"), ("DR_SIM", "sim"), ("DR_LEASES", "leases")] {
        shell.env(name, stage.path(place));
    }
    let said = shell.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    for file in ["journal/journal.db", "leases/leases.db"] {
        let mode = std::fs::metadata(stage.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o664, "{file}");
    }
}
