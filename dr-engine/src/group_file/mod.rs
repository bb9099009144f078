//! Reading group files: TOML on disk becomes a checked [`GroupSpec`], or an error that names file, line and key.
//!
//! ```text
//!  file ──► text ──TOML──► values with their places ──output:NAME──► JSON ──► GroupSpec ──check──► GroupFile
//!                                │                    ▲
//!                                │                    └ snapshot of infrastructure outputs, with its age
//!                                └ every later complaint, a backend's too, finds its line here
//! ```
//!
//! # Guarantees
//! - Nothing is called and nothing is changed: the file and the snapshot of outputs are read, that is all.
//! - No secret is shown: a line that seems to hold one is shown with stars in its place.

mod excerpt;
mod outputs;
mod tree;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use dr_core::{
    GroupSpec,
    contract::{ConfigError, GroupFinding, KeyPath},
};

pub use excerpt::GroupFault;
pub use outputs::{Outputs, OutputsError};

use excerpt::Source;

/// A group file that was read, resolved and checked.
#[derive(Clone, Debug)]
pub struct GroupFile {
    spec: GroupSpec,
    source: Source,
    outputs: Option<Outputs>,
}

impl GroupFile {
    /// Reads a group file, and the snapshot of outputs that it names.
    ///
    /// # Errors
    /// The file cannot be read or used; the error shows the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, GroupFileError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| GroupFileError::Unreadable { path: path.into(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            GroupFileError::NotText { path: path.into(), line }
        })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a group file. `name` stands in errors; the snapshot of outputs is looked for beside it.
    ///
    /// # Errors
    /// The text cannot be used; the error shows the line.
    pub fn parse(text: &str, name: impl AsRef<Path>) -> Result<Self, GroupFileError> {
        let name = name.as_ref();
        if text.trim().is_empty() {
            return Err(GroupFileError::Empty { path: name.into() });
        }
        let mut source = Source::new(name, text);
        let mut value = tree::read(&mut source).map_err(GroupFileError::from)?;
        let outputs = outputs::of(&value, name)?;
        outputs::resolve(&mut value, outputs.as_ref()).map_err(|error| source.config(&error))?;
        let spec = GroupSpec::read(&value).map_err(|error| source.config(&error))?;
        let findings = spec.check();
        if findings.is_empty() {
            return Ok(Self { spec, source, outputs });
        }
        Err(GroupFileError::Faults(findings.iter().map(|found| source.finding(found)).collect()))
    }

    /// What the file says, with every `output:` resolved.
    #[must_use]
    pub const fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// The file's name as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// The snapshot of infrastructure outputs that ids came from, with its age (A09).
    #[must_use]
    pub const fn outputs(&self) -> Option<&Outputs> {
        self.outputs.as_ref()
    }

    /// `groups/orders.toml:14`: where something stands.
    #[must_use]
    pub fn place(&self, path: &KeyPath) -> String {
        self.source.place(path)
    }

    /// Adds file, line and excerpt to a backend's complaint about its own table.
    #[must_use]
    pub fn locate(&self, error: &ConfigError) -> GroupFileError {
        self.source.config(error).into()
    }

    /// Adds file, line and excerpt to a finding about the group.
    #[must_use]
    pub fn locate_finding(&self, finding: &GroupFinding) -> GroupFault {
        self.source.finding(finding)
    }
}

/// A group file that cannot be used. Nothing was sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum GroupFileError {
    /// The file is not there, or may not be read.
    #[error("{}", unreadable(path, source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no UTF-8 text.
    #[error("{}:{line}  the file is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first line that is no text.
        line: usize,
    },
    /// There is nothing in the file.
    #[error("{}  the file is empty; a group file begins with `format = 2` and the name of the group", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The snapshot of outputs cannot be used.
    #[error("{}  the outputs that the group refers to cannot be used", path.display())]
    Outputs {
        /// The group file.
        path: PathBuf,
        /// What is wrong with the snapshot.
        source: OutputsError,
    },
    /// What is written cannot be used: one fault for each place.
    #[error("{}", Lines(.0))]
    Faults(Vec<GroupFault>),
}

impl From<GroupFault> for GroupFileError {
    fn from(fault: GroupFault) -> Self {
        Self::Faults(vec![fault])
    }
}

impl GroupFileError {
    /// The faults at places of the file; none if the file could not be read at all.
    #[must_use]
    pub fn faults(&self) -> &[GroupFault] {
        match self {
            Self::Faults(faults) => faults,
            Self::Unreadable { .. } | Self::NotText { .. } | Self::Empty { .. } | Self::Outputs { .. } => &[],
        }
    }
}

fn unreadable(path: &Path, source: &io::Error) -> String {
    if source.kind() == io::ErrorKind::NotFound {
        format!("there is no group file `{}`", path.display())
    } else {
        format!("the group file `{}` cannot be read", path.display())
    }
}

struct Lines<'a>(&'a [GroupFault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}
