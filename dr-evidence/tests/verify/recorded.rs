//! What is sealed while a run goes on.

use std::{fs, path::Path};

use dr_core::{base::Epoch, contract::EvidenceSink as _, run::Journal as _};
use dr_evidence::{Bundle, Class, Recorder, Verdict};
use dr_testkit::{MemoryJournal, VirtualRuntime};

use crate::runs::{self, Sealed};

/// A journal with the first lines of a run, and how the rest gets in.
struct Going {
    run: Sealed,
    journal: MemoryJournal,
    runtime: VirtualRuntime,
}

impl Going {
    fn new(run: Sealed) -> Self {
        let (journal, runtime) = (MemoryJournal::new(), VirtualRuntime::new());
        let first = vec![run.lines[0].clone()];
        runtime.run(journal.create(&run.run, Epoch::new(1), first)).unwrap().unwrap();
        Self { run, journal, runtime }
    }

    fn recorder(&self, dir: &Path) -> Recorder {
        Recorder::new(dir, runs::root(), self.journal.clone(), self.runtime.clone(), "tests 1")
    }

    /// The journal grows until it has `size` lines.
    fn grows(&self, size: usize) {
        let has = self.journal.lines(&self.run.run).len();
        let more = self.run.lines[has..size].to_vec();
        let end = u64::try_from(has).unwrap();
        self.runtime.run(self.journal.append(&self.run.run, Epoch::new(1), end, more)).unwrap().unwrap();
    }

    fn seal(&self, with: &Recorder, size: usize) -> bool {
        let head = self.run.lines[size - 1].hash;
        self.runtime.run(with.seal(&self.run.run, u64::try_from(size).unwrap(), head)).unwrap().is_ok()
    }

    fn finish(&self, with: &Recorder) -> Verdict {
        let place = self.runtime.run(with.finish(&self.run.run)).unwrap().unwrap();
        self.run.verifier().check(&Bundle::read(&place).unwrap())
    }
}

/// Covers E04.
#[test]
fn checkpoint_is_on_the_disk_before_the_promotion_leaves() {
    let (going, dir) = (Going::new(runs::succeeded()), tempfile::tempdir().unwrap());
    let recorder = going.recorder(dir.path());
    let intent = going.run.promotion();
    going.grows(intent);
    assert!(going.seal(&recorder, intent));
    let note = recorder.place(&going.run.run, &going.run.lines[0].hash).join(format!("checkpoints/{intent:010}.note"));
    assert!(note.exists());
    assert!(going.seal(&recorder, intent), "the same seal again is no error");
    going.grows(going.run.lines.len());
    let verdict = going.finish(&recorder);
    assert!(matches!(verdict.class(), Class::Valid), "{verdict}");
}

/// An engine that takes the run over goes on with the run's key, and nothing of it is left at the end.
#[cfg(unix)]
#[test]
fn key_outlives_the_process_and_not_the_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let (going, dir) = (Going::new(runs::succeeded()), tempfile::tempdir().unwrap());
    let intent = going.run.promotion();
    going.grows(intent);
    assert!(going.seal(&going.recorder(dir.path()), intent));
    let name = going.recorder(dir.path()).place(&going.run.run, &going.run.lines[0].hash);
    let key = name.with_extension("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&key).unwrap();
    let secret = secret.lines().next().unwrap();
    going.grows(going.run.lines.len());
    let verdict = going.finish(&going.recorder(dir.path()));
    assert!(matches!(verdict.class(), Class::Valid), "{verdict}");
    assert!(!key.exists());
    let bundle = Bundle::read(&name).unwrap();
    let (_, half) = secret.rsplit_once('+').unwrap();
    assert!(bundle.files.values().all(|bytes| !String::from_utf8_lossy(bytes).contains(half)));
}

/// A journal that does not have the line, a key of another root and a directory that cannot be written fail the seal: nothing is sent.
#[test]
fn seal_that_cannot_be_made_is_an_error() {
    let (going, dir) = (Going::new(runs::succeeded()), tempfile::tempdir().unwrap());
    let recorder = going.recorder(dir.path());
    assert!(!going.seal(&recorder, 5), "the journal has one line");
    assert!(going.seal(&recorder, 1));
    let other = dr_evidence::SecretKey::from_seed("example.com/other", &[1; 32]).unwrap();
    let other = Recorder::new(dir.path(), other, going.journal.clone(), going.runtime.clone(), "tests 1");
    assert!(!going.seal(&other, 1));
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(!going.seal(&going.recorder(&file), 1));
}

/// A crash while the bundle was written: the next attempt goes on from there.
#[test]
fn bundle_is_finished_after_a_crash() {
    let (going, dir) = (Going::new(runs::cancelled()), tempfile::tempdir().unwrap());
    going.grows(going.run.lines.len());
    let whole = tempfile::tempdir().unwrap();
    let recorder = going.recorder(whole.path());
    assert_eq!(going.finish(&recorder).class(), Class::Valid);
    let finished = recorder.place(&going.run.run, &going.run.lines[0].hash);
    let names: Vec<String> = Bundle::read(&finished).unwrap().files.into_keys().collect();
    for name in names.iter().filter(|name| *name != "statement.dsse.json") {
        // The key is kept and the file is there, as it would be after the crash.
        let place = dir.path().join(name.replace('/', "-"));
        let recorder = going.recorder(&place);
        assert!(going.seal(&recorder, going.run.lines.len()));
        let half = going.recorder(&place).place(&going.run.run, &going.run.lines[0].hash);
        let bytes = fs::read(finished.join(name)).unwrap();
        if name != "run-key.dsse.json" && !name.starts_with("checkpoints") {
            fs::write(half.join(name), bytes).unwrap();
        }
        let verdict = going.finish(&recorder);
        assert_eq!(verdict.class(), Class::Valid, "{name}: {verdict}");
    }
}

/// Numbers begin again with every journal: two runs of one name do not stand in each other's way.
#[test]
fn runs_of_two_journals_are_sealed_in_one_directory() {
    let (one, two, dir) = (Going::new(runs::cancelled()), Going::new(runs::smallest()), tempfile::tempdir().unwrap());
    assert_eq!(one.run.run, two.run.run);
    for going in [one, two] {
        let recorder = going.recorder(dir.path());
        assert!(going.seal(&recorder, 1));
        going.grows(going.run.lines.len());
        assert_eq!(going.finish(&recorder).class(), Class::Valid);
    }
}
