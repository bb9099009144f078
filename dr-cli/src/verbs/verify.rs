//! `dr verify`: whether the evidence of a run is what was sealed.

use std::path::{Path, PathBuf};

use dr_evidence::{Class, input, verify::printable};
use serde_json::Value;

use crate::{
    Exit, Screen,
    exit::{Stop, chain},
};

pub(super) fn verify(bundle: &Path, roots: &[String], known: &[PathBuf], screen: &mut Screen) -> Result<Exit, Stop> {
    let verdict = input::verify_directory(bundle, roots, known).map_err(|error| {
        let helps = ["BUNDLE is the directory of one run", "--root takes what `dr-evidence export-key FILE` prints"];
        Stop::input(printable(&chain(&error)), &helps.map(str::to_owned))
    })?;
    let exit = match verdict.class() {
        Class::Valid | Class::ValidWithGaps => Exit::Done,
        Class::Unterminated => Exit::Waits,
        Class::Unverifiable | Class::Tampered => Exit::Evidence,
    };
    let mut json = verdict.to_json();
    if let Value::Object(fields) = &mut json {
        fields.insert("exit".to_owned(), exit.code().into());
    }
    screen.reply(&verdict.to_string(), &json);
    Ok(exit)
}
