//! The agent that stands beside each database, and its smaller faces. One binary, no cloud SDK, no cloud credentials.

mod agent;
mod app;
mod deadman;
mod procfs;
mod relay;
mod supervise;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "ha-guard", version, about)]
struct Cli {
    #[command(subcommand)]
    face: Face,
}

#[derive(Subcommand)]
enum Face {
    /// Makes, runs and observes the database of one node, and says what it saw over HTTP.
    Guard {
        /// guard.json
        #[arg(long)]
        config: PathBuf,
    },
    /// Ends a primary whose time is over, when its guard does not.
    Deadman {
        /// guard.json
        #[arg(long)]
        config: PathBuf,
    },
    /// Keeps the processes of one region of the local target running, as systemd does on a cloud server.
    Supervise {
        /// The region's folder: it holds hosts/<host>/units/*.json.
        #[arg(long)]
        region_dir: PathBuf,
        /// Unix socket that answers GET /units, POST /sync and POST /stop.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Stands between regions on the local target: adds delay, cuts links.
    Relay {
        /// relay.json
        #[arg(long)]
        config: PathBuf,
    },
    /// The reference application: /health, /status, /write, /read.
    App {
        /// app.json
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("HA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let face = Cli::parse().face;
    let mut runtime = match face {
        // It must stay small, and has one thing to do.
        Face::Deadman { .. } => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match face {
            Face::Guard { config } => agent::run(&config).await,
            Face::Deadman { config } => deadman::run(&config).await,
            Face::Supervise { region_dir, socket } => supervise::run(&region_dir, &socket).await,
            Face::Relay { config } => relay::run(&config).await,
            Face::App { config } => app::run(&config).await,
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}
