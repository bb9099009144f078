//! A stage for `dr`: a directory with group files, a journal and a simulated cloud, and people who type.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dr_cli::{App, Exit, Screen, Simulated};
use dr_core::Actor;

/// A command that takes longer waits for something that never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was printed and how the command ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: Exit,
}

impl Said {
    /// The one JSON value of `--json`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<u8>>>);

impl Tape {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A directory with everything.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) const GROUP: &str = r#"format      = 2
name        = "orders"
environment = "test"
tier        = 1
home        = "neu"

[objectives]
rto        = "5 min"
rpo        = "0 s"
rpo_forced = "60 s"

[[member]]
name    = "neu"
region  = "north"
backend = "sim"
at      = { instance = "neu", speed = "fast" }

[[member]]
name    = "weu"
region  = "west"
backend = "sim"
at      = { instance = "weu", speed = "fast" }

[[secret]]
name  = "orders"
store = "sim"
set   = { host = "{writer.endpoint}" }

[[app]]
name  = "api"
tier  = "sim"

[[traffic]]
name   = "public"
router = "sim"
member = { neu = "neu", weu = "weu" }

[[fence]]
with  = "sim"
grade = "confirmed"

[limits]
gap_budget = "60 s"

[approval.switchover]
people  = 1
roles   = ["dba", "service-owner"]
expires = "15 min"

[approval.failover]
people  = 2
roles   = ["dba", "incident-commander"]
expires = "10 min"
"#;

impl Stage {
    pub(crate) fn new() -> Self {
        let stage = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(stage.path("groups")).unwrap();
        std::fs::write(stage.path("groups/orders.toml"), GROUP).unwrap();
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn app(&self, who: &str, role: Option<&str>) -> App {
        let actor = Actor::local(who).authenticated("a test", who);
        let actor = role.into_iter().fold(actor, Actor::with_role);
        let app = App::new().backend(dr_postgres::Postgres::new()).backend(Simulated::in_dir(self.path("sim")));
        let app = app.backend(dr_cli::Exec);
        app.acting_as(actor).leases_in(self.path("leases"))
    }

    fn words(&self, line: &str) -> Vec<String> {
        let mut words = vec!["dr".to_owned()];
        words.extend(line.split_whitespace().map(|word| word.replace("DIR", &self.dir.path().display().to_string())));
        if !line.contains("--help") {
            for (name, place) in [("--dir", "journal"), ("--groups", "groups")] {
                words.extend([name.to_owned(), self.path(place).display().to_string()]);
            }
        }
        words
    }

    /// mira, who may start but not approve, types a line.
    pub(crate) fn dr(&self, line: &str) -> Said {
        self.by("mira", None, line, None)
    }

    /// Somebody types a line, and `typed` when asked.
    pub(crate) fn by(&self, who: &str, role: Option<&str>, line: &str, typed: Option<&str>) -> Said {
        let (out, err) = (Tape::default(), Tape::default());
        let input = std::io::Cursor::new(typed.unwrap_or_default().to_owned());
        let mut screen = Screen::over(out.clone(), err.clone(), input, typed.is_some());
        let (app, words) = (self.app(who, role), self.words(line));
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(app.run(words, &mut screen)));
        let exit = told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("`dr {line}` did not end within {PATIENCE:?}; it said:\n{}\n{}", out.text(), err.text())
        });
        Said { out: out.text(), err: err.text(), exit }
    }

    /// mira types a line that takes a while.
    pub(crate) fn begin(&self, line: &str) -> Going {
        let (out, err) = (Tape::default(), Tape::default());
        let mut screen = Screen::over(out.clone(), err.clone(), std::io::empty(), false);
        let (app, words) = (self.app("mira", None), self.words(line));
        let thread = std::thread::spawn(move || app.run(words, &mut screen));
        Going { out, err, thread }
    }

    /// The code of what the run asks now.
    pub(crate) fn code(&self, run: &str) -> String {
        let said = self.dr(&format!("watch {run} --once --json"));
        let digest = said.json()["ask_digest"].as_str().unwrap().to_owned();
        digest.chars().take(4).collect()
    }
}

/// A command that is still running.
#[derive(Debug)]
pub(crate) struct Going {
    pub(crate) out: Tape,
    pub(crate) err: Tape,
    thread: std::thread::JoinHandle<Exit>,
}

impl Going {
    /// Waits until something was printed.
    pub(crate) fn until(&self, text: &str) {
        let begun = Instant::now();
        while !self.out.text().contains(text) {
            let late = begun.elapsed() > Duration::from_secs(60) || self.thread.is_finished();
            assert!(!late, "`{text}` was not printed:\n{}\n{}", self.out.text(), self.err.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn end(self) -> Said {
        let exit = self.thread.join().unwrap();
        Said { out: self.out.text(), err: self.err.text(), exit }
    }
}

/// Holds a screen against its golden file; `DR_BLESS=1` writes it.
pub(crate) fn golden(name: &str, stage: &Stage, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(format!("{name}.txt"));
    let text = normal(&text.replace(&stage.dir.path().display().to_string(), "DIR"));
    if std::env::var_os("DR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{name} differs from its golden file; DR_BLESS=1 writes it");
}

/// What a started run printed, in its order, without what depends on the clock: no steps under way, nothing held, and finished
/// steps that stand together in the order of their numbers.
pub(crate) fn settled(text: &str) -> String {
    // Views that follow each other fast are shown as one.
    let passing = |line: &str| {
        [" ▶ ", " … ", " ↻ ", "held:", "TURNING BACK", "   1 of "].iter().any(|mark| line.starts_with(mark))
    };
    let (mut page, mut done): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !passing(line)) {
        if line.starts_with(" ✓ ") {
            done.push(line);
            continue;
        }
        done.sort_unstable();
        page.append(&mut done);
        page.push(line);
    }
    done.sort_unstable();
    page.append(&mut done);
    page.join("\n") + "\n"
}

/// The text with times, durations and digests replaced, and runs of spaces after them made one.
pub(crate) fn normal(text: &str) -> String {
    text.split_inclusive('\n').map(line).collect()
}

fn line(line: &str) -> String {
    let words: Vec<&str> = line.trim_end_matches('\n').split(' ').collect();
    let mut out: Vec<String> = Vec::new();
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let next =
            words.get(index + 1).map(|next| next.trim_end_matches([',', ';', ')', '.', ':'])).unwrap_or_default();
        let number = !word.is_empty() && word.trim_start_matches('(').chars().all(|c| c.is_ascii_digit() || c == '.');
        if number && ["ms", "s", "min", "h", "days"].contains(&next) {
            let tail =
                words.get(index + 1).map_or("", |word| word.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
            let open = if word.starts_with('(') { "(" } else { "" };
            out.push(format!("{open}<time>{tail}"));
            index += 2;
            continue;
        }
        let code = index > 0 && words.get(index - 1) == Some(&"code") && word.len() == 4;
        let code = code && word.chars().all(|c| c.is_ascii_hexdigit());
        out.push(if code { "<code>".to_owned() } else { shape(word) });
        index += 1;
    }
    let mut joined = out.join(" ");
    while joined.contains("<time> <time>") {
        joined = joined.replace("<time> <time>", "<time>");
    }
    joined = joined.replace("<clock> to <clock>", "<clock>");
    // Columns move with the width of what was replaced.
    for mark in ["<time>", "<hash>", "<clock>", "<when>"] {
        while joined.contains(&format!("{mark}   ")) {
            joined = joined.replace(&format!("{mark}   "), &format!("{mark}  "));
        }
        while joined.contains(&format!("   {mark}")) {
            joined = joined.replace(&format!("   {mark}"), &format!("  {mark}"));
        }
    }
    let end = if line.ends_with('\n') { "\n" } else { "" };
    format!("{}{end}", joined.trim_end())
}

fn shape(word: &str) -> String {
    let bare = word.trim_matches(|c: char| ",;().:".contains(c));
    let hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let clock = bare.split(':').count() == 3 && bare.split(':').all(|part| part.len() == 2 && digits(part));
    let plan = bare.len() == 9 && bare.split_once('-').is_some_and(|(a, b)| a.len() == 4 && hex(a) && hex(b));
    let when = bare.len() >= 20 && bare.ends_with('Z') && bare.contains('T');
    let code = bare.len() == 4 && hex(bare) && bare.chars().any(|c| c.is_ascii_digit());
    let long = bare.len() == 64 && hex(bare);
    let upper = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c));
    if bare.split_once('/').is_some_and(|(high, low)| low.len() == 8 && upper(high) && upper(low)) {
        return word.replace(bare, "<position>");
    }
    let date = bare.len() == 10 && bare.split('-').count() == 3 && bare.split('-').all(digits);
    if date {
        return word.replace(bare, "<date>");
    }
    let mark = match (clock, plan || long, when, code) {
        (true, ..) => "<clock>",
        (_, true, ..) => "<hash>",
        (_, _, true, _) => "<when>",
        (_, _, _, true) => "<code>",
        (false, false, false, false) => return word.to_owned(),
    };
    word.replace(bare, mark)
}
