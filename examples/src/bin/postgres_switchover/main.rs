//! A planned switchover of real PostgreSQL servers under write load: nothing lost, no error at the clients, the old primary back as
//! a standby. It starts its own two servers and a PgBouncer in a temporary directory, or works on yours (`--group FILE`).
//!
//! Each round is measured twice, orchestrated and as the bare sequence of the servers' own verbs, in alternating order: the
//! orchestrator's share of the write gap is the ratio of the two.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a demonstration talks to people")]
#![expect(clippy::indexing_slicing, reason = "there are two servers, numbered 0 and 1")]

mod crash;
mod engine;
mod existing;
mod logs;
mod matrix;
mod rounds;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use serde_json::{Value, json};

/// Anything that ends the demonstration.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Switches real PostgreSQL servers over under write load.
#[derive(Debug, Parser)]
#[command(name = "postgres_switchover", version)]
struct Args {
    /// Clients that write all the time.
    #[arg(long, default_value_t = 8)]
    writers: u16,
    /// Switchovers with rejoin, in alternating directions; each is paired with a bare one.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Clients connect directly instead of through PgBouncer.
    #[arg(long)]
    direct: bool,
    /// Kills the orchestrator at every position instead, and looks what becomes of it.
    #[arg(long)]
    kill_matrix: bool,
    /// Of the kill matrix, only every Nth position.
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
    /// Of the kill matrix, leaves out this many positions first: with `--every` it shares the positions out among machines.
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip: usize,
    /// Plans, starts and watches a switchover of existing servers.
    #[arg(long, value_name = "FILE")]
    group: Option<PathBuf>,
    /// With `--group`: who answers the question of the run; without it the plan is shown and nothing is started.
    #[arg(long, value_name = "NAME")]
    approve_as: Option<String>,
    /// Prints one JSON object at the end; progress goes to the error output.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    // The engine starts this very program as its drain guard, and the kill matrix as the orchestrator that is killed.
    let hidden = match words.get(1).map(String::as_str) {
        Some(dr_engine::GUARD_VERB) => Some(engine::guard(&words).await),
        Some(matrix::CHILD_VERB) => Some(matrix::child(&words).await),
        Some(_) | None => None,
    };
    if let Some(ended) = hidden {
        let told = ended.inspect_err(|error| eprintln!("error: {}", chain(error.as_ref())));
        return told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let args = Args::parse();
    // A demonstration that is interrupted takes its servers with it.
    let ended = tokio::select! {
        ended = run(&args) => ended,
        () = interrupted() => Err("interrupted".into()),
    };
    match ended {
        Ok(result) => {
            let good = result.get("outcome").and_then(Value::as_str) == Some("success");
            if args.json {
                println!("{result}");
            }
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            if args.json {
                println!("{}", json!({ "outcome": "error", "error": chain(error.as_ref()) }));
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<Value, Failure> {
    if let Some(file) = &args.group {
        return existing::switch(file, args.approve_as.as_deref()).await;
    }
    if args.kill_matrix {
        return matrix::run(args.writers, args.every.max(1), args.skip).await;
    }
    rounds::run(args.writers, args.rounds.max(1), args.direct).await
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut stop), Ok(mut key)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = stop.recv() => {}
        _ = key.recv() => {}
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
