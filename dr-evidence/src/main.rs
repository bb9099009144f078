//! Verifies, shows and reports the evidence of runs, offline.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    dr_evidence::cli::run(words, &mut std::io::stdout(), &mut std::io::stderr()).into()
}
