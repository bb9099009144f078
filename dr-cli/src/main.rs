//! The stock `dr`: the simulated provider, to try everything out. A platform builds its own with its backends and steps.

use std::process::ExitCode;

fn main() -> ExitCode {
    dr_cli::main(dr_cli::App::new().backend(dr_cli::Simulated::from_env()))
}
