//! The composition root: reads the command line and hands over.

use std::process::ExitCode;

use cardline::cli::{self, Command};

fn main() -> ExitCode {
    let cli = cli::parse();
    match cli.command {
        Command::Client(verb) => cli::run_client(&cli.global, verb),
        Command::Serve { .. } | Command::Check { .. } | Command::Demo(_) => {
            eprintln!("cardline: this verb is not part of this build");
            cli::Exit::Failed.into()
        }
    }
}
