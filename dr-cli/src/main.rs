//! The stock `dr`: self-managed PostgreSQL, and the simulated provider to try everything out. A platform builds its own with its
//! backends, runbooks and steps.

use std::process::ExitCode;

fn main() -> ExitCode {
    let app = dr_cli::App::new().backend(dr_postgres::Postgres::new()).backend(dr_cli::Simulated::from_env());
    let app = app.backend(dr_cli::Exec);
    dr_cli::main(app)
}
