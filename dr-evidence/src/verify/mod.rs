//! Verifying a bundle offline, from its bytes and the root keys that the reader trusts.

mod events;
mod finding;
mod replay;

use std::{collections::BTreeSet, fmt};

use dr_core::{
    base::{Digest, canonical::sha256},
    run::Record,
};

pub use finding::{Checked, Class, Code, Finding, Place};

use crate::{
    bundle::{
        Bundle, CHECKPOINTS, CLAIM_TYPE, Claim, FIXED, KeyClaim, LEAVES, RUN_KEY, STATEMENT, checkpoint_file,
        checkpoint_size, origin_of,
    },
    dsse::{BadEnvelope, Envelope, IN_TOTO, Statement},
    key::PublicKey,
    note::{Checkpoint, Note},
    tree::Forest,
};

/// Verifies bundles.
///
/// It says of every finding what it is and where. Signatures prove that nothing was changed since the run's key signed it, and whose key
/// that was. They do not prove that what was recorded is true.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    roots: Vec<PublicKey>,
    known: Vec<Checkpoint>,
}

impl Verifier {
    /// A verifier that trusts these root keys. Without one, the best that a bundle can be is unverifiable.
    #[must_use]
    pub fn new(roots: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { roots: roots.into_iter().collect(), known: Vec::new() }
    }

    /// Adds a checkpoint that the reader kept at a place which the bundle's owner cannot write to. A record that was cut since then, or
    /// that has another history, contradicts it.
    #[must_use]
    pub fn with_known(mut self, checkpoint: Checkpoint) -> Self {
        self.known.push(checkpoint);
        self
    }

    /// Verifies a bundle.
    #[must_use]
    pub fn check(&self, bundle: &Bundle) -> Verdict {
        let mut work = Work { bundle, findings: Vec::new(), changed: BTreeSet::new(), checked: Checked::default() };
        work.layout();
        let certificate = work.certificate(&self.roots);
        let envelope = work.envelope();
        let hinted = envelope.as_ref().and_then(|envelope| envelope.keyid().parse::<PublicKey>().ok());
        let certified = certificate.as_ref().and_then(|(claim, _)| claim.public());
        let trusted = matches!(certificate, Some((_, true)));
        let key = if trusted { certified } else { hinted.or(certified) };
        let statement = envelope.and_then(|envelope| work.statement(&envelope, key.as_ref()));
        work.subjects(statement.as_ref());
        let claim = statement.map(|statement| statement.predicate);
        let named = claim.as_ref().map(|claim| (claim.run.clone(), claim.origin));
        let named = named.or_else(|| certificate.as_ref().map(|(claim, _)| (claim.run.clone(), claim.origin)));
        let origin = named.as_ref().map(|(run, origin)| origin_of(run, origin));
        let checkpoints = work.checkpoints(origin.as_deref(), key.as_ref());
        let recorded = work.events(claim.as_ref(), &checkpoints);
        if let Some(leaves) = &recorded.leaves {
            work.roots(leaves, &checkpoints);
            work.known(leaves, &self.known, origin.as_deref());
        }
        let records = match (named, recorded.whole) {
            (Some((run, _)), true) => {
                let signed = replay::Signed { certificate: certificate.map(|(claim, _)| claim), claim: claim.clone() };
                let sizes = checkpoints.iter().map(|(_, checkpoint)| checkpoint.size).collect();
                work.replay(&run, &recorded.lines, &signed, &sizes)
            }
            _ => Vec::new(),
        };
        work.verdict(claim, records)
    }
}

/// What a verifier answers.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was found, in the order of the checks.
    pub findings: Vec<Finding>,
    /// What was checked.
    pub checked: Checked,
    /// What the statement says, once its signature holds.
    pub claim: Option<Claim>,
    /// The events, if they are whole and the run machine took them in.
    pub records: Vec<Record>,
}

impl Verdict {
    /// What the findings come to.
    #[must_use]
    pub fn class(&self) -> Class {
        self.findings.iter().map(|finding| finding.code.class()).max().unwrap_or(Class::Valid)
    }
}

/// The text with every control character but the newline shown as a replacement: what a bundle holds may come from anybody, and a terminal
/// would obey it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() && sign != '\n' { '\u{fffd}' } else { sign }).collect()
}

impl Verdict {
    /// The verdict for programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "class": self.class(),
            "findings": self.findings,
            "checked": self.checked,
            "claim": self.claim,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.claim.as_ref().map(|claim| format!("  {}", claim.run)).unwrap_or_default();
        writeln!(f, "{}{run}", self.class().word().to_uppercase())?;
        for finding in &self.findings {
            writeln!(f, "  {}", printable(&finding.to_string()))?;
        }
        let Checked { files, events, signatures, replayed } = self.checked;
        writeln!(f, "  checked: {files} files, {events} events, {signatures} signatures; {replayed} events replayed")
    }
}

/// A verification under way.
pub(crate) struct Work<'a> {
    bundle: &'a Bundle,
    findings: Vec<Finding>,
    /// Files that do not have their signed digest.
    changed: BTreeSet<String>,
    checked: Checked,
}

impl Work<'_> {
    fn find(&mut self, code: Code, place: Place, what: impl fmt::Display) {
        self.findings.push(Finding { code, place, what: what.to_string() });
    }

    fn in_file(&mut self, code: Code, file: &str, what: impl fmt::Display) {
        self.find(code, Place::file(file), what);
    }

    fn accused(&self, file: &str) -> bool {
        self.findings.iter().any(|finding| finding.place.file == file)
    }

    fn layout(&mut self) {
        for name in FIXED {
            if self.bundle.file(name).is_none() {
                self.in_file(Code::FileMissing, name, "every bundle has this file");
            }
        }
        for name in &self.bundle.strange {
            self.in_file(Code::FileUnknown, name, "it is no file of a bundle, and was not opened");
        }
    }

    /// The certificate of the run's key, and whether a trusted root key signed it.
    fn certificate(&mut self, roots: &[PublicKey]) -> Option<(KeyClaim, bool)> {
        let certificate = match Envelope::parse(self.bundle.file(RUN_KEY)?) {
            Ok(certificate) => certificate,
            Err(error) => {
                self.in_file(Code::Form, RUN_KEY, error);
                return None;
            }
        };
        let mut refused = None;
        for root in roots {
            match KeyClaim::open(&certificate, root) {
                Ok(claim) => {
                    self.checked.signatures = self.checked.signatures.saturating_add(1);
                    return Some((claim, true));
                }
                Err(error) => {
                    let nearer = !matches!(error, BadEnvelope::OtherKey(_));
                    if refused.is_none() || nearer {
                        refused = Some(error);
                    }
                }
            }
        }
        match refused {
            Some(error) => self.in_file(Code::CertificateNotTrusted, RUN_KEY, error),
            None => self.in_file(Code::NoRootKey, RUN_KEY, "no root key was given to verify the run's key with"),
        }
        KeyClaim::unverified(&certificate).map(|claim| (claim, false))
    }

    fn envelope(&mut self) -> Option<Envelope> {
        match Envelope::parse(self.bundle.file(STATEMENT)?) {
            Ok(envelope) => Some(envelope),
            Err(error) => {
                self.in_file(Code::Form, STATEMENT, error);
                None
            }
        }
    }

    fn statement(&mut self, envelope: &Envelope, key: Option<&PublicKey>) -> Option<Statement<Claim>> {
        let Some(key) = key else {
            self.in_file(Code::StatementSignature, STATEMENT, "there is no key to verify it with");
            return None;
        };
        let opened = envelope.open(IN_TOTO, key);
        if opened.is_ok() {
            self.checked.signatures = self.checked.signatures.saturating_add(1);
        }
        match opened.map(|payload| Statement::parse(payload, CLAIM_TYPE)) {
            Ok(Ok(statement)) => Some(statement),
            Ok(Err(error)) => {
                self.in_file(Code::Form, STATEMENT, error);
                None
            }
            Err(error) => {
                self.in_file(Code::StatementSignature, STATEMENT, error);
                None
            }
        }
    }

    /// Compares the files with what the statement says of them.
    fn subjects(&mut self, statement: Option<&Statement<Claim>>) {
        let mut named = BTreeSet::new();
        for subject in statement.map(|statement| statement.subject.as_slice()).unwrap_or_default() {
            if !named.insert(subject.name.as_str()) {
                self.in_file(Code::StatementClaim, STATEMENT, format_args!("it names `{}` twice", subject.name));
            }
            match self.bundle.file(&subject.name) {
                Some(bytes) if sha256(bytes) == subject.digest.sha256 => {
                    self.checked.files = self.checked.files.saturating_add(1);
                }
                Some(_) => {
                    self.changed.insert(subject.name.clone());
                }
                None if FIXED.contains(&subject.name.as_str()) => {}
                None => self.in_file(Code::FileMissing, &subject.name, "the statement names it"),
            }
        }
        for name in FIXED.iter().filter(|name| **name != STATEMENT) {
            if statement.is_some() && !named.contains(name) {
                self.in_file(Code::StatementClaim, STATEMENT, format_args!("it does not name `{name}`"));
            }
        }
        for name in self.bundle.files.keys().filter(|name| *name != STATEMENT) {
            let expected = if statement.is_some() {
                named.contains(name.as_str())
            } else {
                FIXED.contains(&name.as_str()) || checkpoint_size(name).is_some()
            };
            if !expected {
                self.in_file(Code::FileUnknown, name, "nothing that is signed names it");
            }
        }
    }

    /// The checkpoints that hold by themselves, with their files.
    fn checkpoints(&mut self, origin: Option<&str>, key: Option<&PublicKey>) -> Vec<(String, Checkpoint)> {
        let (Some(origin), Some(key)) = (origin, key) else { return Vec::new() };
        let mut good = Vec::new();
        for (name, bytes) in &self.bundle.files {
            let Some(size) = checkpoint_size(name) else { continue };
            let read = Note::parse(bytes).and_then(|note| Ok((Checkpoint::parse(note.text())?, note)));
            match read {
                Err(error) => self.in_file(Code::Form, name, error),
                Ok((found, _)) if found.origin != origin || found.size != size => {
                    let what = format!("it is the one of {} over {} events", found.origin, found.size);
                    self.in_file(Code::CheckpointMisplaced, name, what);
                }
                Ok((found, note)) => match (note.check(key), note.signatures().len()) {
                    (Ok(()), 1) => {
                        self.checked.signatures = self.checked.signatures.saturating_add(1);
                        if !self.changed.contains(name) {
                            good.push((name.clone(), found));
                        }
                    }
                    (Ok(()), count) => {
                        self.in_file(Code::Form, name, format_args!("it has {count} signatures and not one"));
                    }
                    (Err(error), _) => self.in_file(Code::CheckpointSignature, name, error),
                },
            }
        }
        good
    }

    /// Compares the checkpoints with the leaves that are known to be the record's.
    fn roots(&mut self, leaves: &[Digest], checkpoints: &[(String, Checkpoint)]) {
        let roots = roots_of(leaves);
        for (name, checkpoint) in checkpoints {
            let root = usize::try_from(checkpoint.size).ok().and_then(|size| roots.get(size));
            if root != Some(&checkpoint.root) {
                self.in_file(Code::CheckpointRoot, name, "the events that it covers have another root");
            }
        }
        let last = checkpoint_file(u64::try_from(leaves.len()).unwrap_or(u64::MAX));
        if self.bundle.file(&last).is_none() && !self.accused(&last) {
            self.in_file(Code::CheckpointMissing, &last, "no checkpoint covers all events");
        }
    }

    fn known(&mut self, leaves: &[Digest], known: &[Checkpoint], origin: Option<&str>) {
        if known.is_empty() {
            return;
        }
        let roots = roots_of(leaves);
        for checkpoint in known {
            let size = checkpoint.size;
            if Some(checkpoint.origin.as_str()) != origin {
                let what = format!("the one over {size} events that was kept elsewhere is of {}", checkpoint.origin);
                self.in_file(Code::KnownCheckpointUnusable, CHECKPOINTS, what);
                continue;
            }
            match usize::try_from(size).ok().and_then(|size| roots.get(size)) {
                Some(root) if *root == checkpoint.root => {}
                Some(_) => {
                    let what = format!("the first {size} events are others than those of the one kept elsewhere");
                    self.in_file(Code::KnownCheckpoint, CHECKPOINTS, what);
                }
                None => {
                    let what = format!("the one kept elsewhere saw {size} events; here are {}", leaves.len());
                    self.in_file(Code::KnownCheckpoint, CHECKPOINTS, what);
                }
            }
        }
    }

    fn verdict(mut self, claim: Option<Claim>, records: Vec<Record>) -> Verdict {
        for name in std::mem::take(&mut self.changed) {
            if !self.accused(&name) {
                self.in_file(Code::FileChanged, &name, "its bytes are not those of its signed digest");
            }
        }
        Verdict { findings: self.findings, checked: self.checked, claim, records }
    }
}

/// The roots of all sizes, from none to all leaves.
fn roots_of(leaves: &[Digest]) -> Vec<Digest> {
    let mut forest = Forest::default();
    let mut roots = vec![forest.root()];
    for leaf in leaves {
        forest.push(*leaf);
        roots.push(forest.root());
    }
    roots
}

/// Reads the file of leaf hashes: lines of 64 lower-case digits.
fn listed(work: &Work<'_>) -> Option<Vec<Digest>> {
    let text = std::str::from_utf8(work.bundle.file(LEAVES)?).ok()?;
    let leaves: Vec<Digest> = text.lines().map(|line| line.parse().ok()).collect::<Option<_>>()?;
    let same: String = leaves.iter().map(|leaf| format!("{}\n", leaf.hex())).collect();
    (same == text).then_some(leaves)
}
