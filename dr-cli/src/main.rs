//! The stock `dr`: self-managed PostgreSQL, and the simulated provider to try everything out. A platform builds its own with its
//! backends, runbooks and steps.

use std::process::ExitCode;

fn main() -> ExitCode {
    let app = dr_cli::App::new().backend(dr_postgres::Postgres::new()).backend(dr_cli::Simulated::from_env());
    let app = app.backend(dr_cli::Exec).backend(dr_notify::Webhook).backend(dr_notify::Slack);
    let app = app.backend(dr_notify::PagerDuty).backend(dr_notify::Smtp);
    dr_cli::main(app)
}
