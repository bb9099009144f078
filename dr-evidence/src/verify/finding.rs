//! What a verifier answers: findings with codes and places, and what they come to.

use std::fmt;

use serde::{Serialize, Serializer};

/// What the findings come to. Ordered: the worst decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Everything holds.
    Valid,
    /// Everything holds, and something that would have said more is not there.
    ValidWithGaps,
    /// Everything holds, and the run was not over when it was sealed: later events may exist.
    Unterminated,
    /// Nothing contradicts, and nobody vouches for it.
    Unverifiable,
    /// Something was changed, is missing, or is not what it says.
    Tampered,
}

impl Class {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::ValidWithGaps => "valid, with gaps",
            Self::Unterminated => "unterminated",
            Self::Unverifiable => "unverifiable",
            Self::Tampered => "tampered",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal, $class:ident;)*) => {
        /// What a finding is about. A code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// The code as it is printed.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// What a finding with this code makes of the bundle.
            #[must_use]
            pub fn class(self) -> Class {
                match self { $(Self::$code => Class::$class,)* }
            }
        }
    };
}

codes! {
    /// A file that every bundle has is missing, or one that the statement names.
    FileMissing = "EV101", Tampered;
    /// A file or something else lies in the bundle that the statement does not name.
    FileUnknown = "EV102", Tampered;
    /// The bytes of a file are not those of its signed digest.
    FileChanged = "EV103", Tampered;
    /// A file does not have the form of such a file.
    Form = "EV104", Tampered;
    /// The certificate of the run's key was not signed by a trusted root key.
    CertificateNotTrusted = "EV201", Tampered;
    /// The certificate names another run.
    CertificateOfOtherRun = "EV202", Tampered;
    /// The bundle was sealed outside of the time for which the run's key was certified.
    KeyOutOfTime = "EV203", Tampered;
    /// The verifier was given no root key, so that nobody vouches for the run's key.
    NoRootKey = "EV204", Unverifiable;
    /// The statement was not signed by the run's key.
    StatementSignature = "EV301", Tampered;
    /// The statement says something else than the events.
    StatementClaim = "EV302", Tampered;
    /// A checkpoint was not signed by the run's key.
    CheckpointSignature = "EV401", Tampered;
    /// A checkpoint is of another run, or of another size than its name says.
    CheckpointMisplaced = "EV402", Tampered;
    /// A checkpoint has another root than the events that it covers.
    CheckpointRoot = "EV403", Tampered;
    /// There is no checkpoint over all events.
    CheckpointMissing = "EV404", Tampered;
    /// A checkpoint that somebody kept elsewhere contradicts this record: it was cut, or there are two histories.
    KnownCheckpoint = "EV405", Tampered;
    /// A checkpoint that somebody kept elsewhere is not of this run, or is not signed by its key.
    KnownCheckpointUnusable = "EV406", Unverifiable;
    /// No checkpoint was signed between the intent to promote and what became of it.
    NoCheckpointBeforePromotion = "EV407", ValidWithGaps;
    /// The text of an event was changed.
    EventChanged = "EV501", Tampered;
    /// An event is missing.
    EventMissing = "EV502", Tampered;
    /// All events from one on are missing.
    EventsCut = "EV503", Tampered;
    /// An event stands twice.
    EventTwice = "EV504", Tampered;
    /// An event stands in another place.
    EventMoved = "EV505", Tampered;
    /// A line is no event of this record.
    EventForeign = "EV506", Tampered;
    /// An event does not name the one before it.
    EventChain = "EV507", Tampered;
    /// An event cannot be read.
    EventUnreadable = "EV508", Tampered;
    /// The run machine knows no such transition.
    EventIllegal = "EV601", Tampered;
    /// A step was sent before a step that it comes after was done.
    StepOutOfOrder = "EV602", Tampered;
    /// The run's end does not follow from its events.
    EndDoesNotFollow = "EV603", Tampered;
    /// An intent has no outcome although the run is over.
    IntentWithoutOutcome = "EV604", Tampered;
    /// The clock of the recording machine went back between two events.
    ClockWentBack = "EV605", ValidWithGaps;
    /// The plan is not the one that the run began with.
    PlanDiffers = "EV606", Tampered;
    /// The run was not over.
    NotOver = "EV701", Unterminated;
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The event as the record counts them, from 1. For a line that is no event of it: where it stands in the file.
    pub event: Option<u32>,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(name: &str) -> Self {
        Self { file: name.to_owned(), event: None }
    }

    /// An event, by its index from 0.
    pub(crate) fn event(index: usize) -> Self {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        Self { file: crate::bundle::EVENTS.to_owned(), event: Some(number) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(event) => write!(f, "{}, event {event}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// Where.
    pub place: Place,
    /// In words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}: {}", self.code.text(), self.place, self.what)
    }
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Files whose digest was compared with a signed one.
    pub files: usize,
    /// Events whose hash was compared with a signed root.
    pub events: usize,
    /// Signatures that hold.
    pub signatures: usize,
    /// Events that the run machine took in.
    pub replayed: usize,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_findings_have_one_code() {
        let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
