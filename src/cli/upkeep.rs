//! Verbs of `main.rs` that look after a database without a daemon.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum MigrateVerb {
    /// Which version the schema has and what would be applied; writes nothing
    Status {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Bring the schema up, as `serve` does at its start
    Up {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Copy everything into an empty database of either kind, and check its books
    Copy {
        /// Such as sqlite:///var/lib/cardline/cardline.db; no daemon may serve it
        #[arg(long, value_name = "URL")]
        from: String,
        /// Such as postgres://cardline@db.example/cardline
        #[arg(long, value_name = "URL")]
        to: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum PinKeyVerb {
    /// Change to a new key; the daemon must be stopped. The old file stays as pin.key.old
    Rotate {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Clone, Debug, Args)]
pub struct BackupFlags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The copy, which must not exist yet
    pub file: PathBuf,
}
