//! The binary: reads the command line, sets up the log, and hands over.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context;
use cardline::cli::{self, BackupFlags, Command, DemoFlags, Exit, Global, Lang, MigrateVerb, PinKeyVerb};
use cardline::config::{LogConfig, LogFormat};
use cardline::demo::{self, Daemon, DemoOptions};
use cardline::serve::upkeep::{self, Upkeep};
use cardline::serve::{self, check, keys};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::parse();
    let ended = match cli.command {
        Command::Client(verb) => return cli::run_client(&cli.global, verb),
        Command::Serve { config } => serve(&config),
        Command::Check { config } => check(&config, cli.global.json),
        Command::PinKey(PinKeyVerb::Rotate { config }) => rotate(&config, cli.global.json),
        Command::Migrate(verb) => migrate(&cli.global, verb),
        Command::Backup(flags) => backup(&cli.global, &flags),
        Command::Demo(flags) => demo(&cli.global, flags),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(fault) => {
            eprintln!("cardline: {fault:#}");
            Exit::Failed.into()
        }
    }
}

/// Runs the daemon until a signal has ended it.
fn serve(file: &Path) -> anyhow::Result<Exit> {
    let config = serve::read_config(file).map_err(anyhow::Error::msg)?;
    set_up_log(&config.log)?;
    runtime()?.block_on(async {
        let running = serve::start(config, Some(file.to_owned()))
            .await
            .context("cannot start")?;
        running.serve_signals().context("cannot take signals")?;
        println!("{}", running.ready_line());
        running.wait().await;
        Ok(Exit::Ok)
    })
}

/// Prints each finding; exit 1 if one of them would stop `serve`.
fn check(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let findings = runtime()?.block_on(check::check(file));
    let right = findings.iter().all(|finding| finding.outcome.is_ok());
    if json {
        println!("{}", check::to_json(&findings));
    } else {
        for finding in &findings {
            match &finding.outcome {
                Ok(what) => println!("ok     {:<9} {what}", finding.part),
                Err(why) => println!("WRONG  {:<9} {why}", finding.part),
            }
        }
    }
    Ok(if right { Exit::Ok } else { Exit::Failed })
}

/// Changes the PIN key of a database that nobody serves.
fn rotate(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let cards = runtime()?
        .block_on(keys::rotate(file))
        .map_err(anyhow::Error::msg)?;
    match json {
        true => println!("{{\"rotated\":true,\"cards\":{cards}}}"),
        false => {
            println!("{cards} cards stand under the new PIN key; keep a copy of it apart from the database")
        }
    }
    Ok(Exit::Ok)
}

/// Looks at, brings up or copies a database.
fn migrate(global: &Global, verb: MigrateVerb) -> anyhow::Result<Exit> {
    let read = |file: &Path| serve::read_config(file).map_err(anyhow::Error::msg);
    let runtime = runtime()?;
    let done = match verb {
        MigrateVerb::Status { config } => runtime.block_on(upkeep::migrate_status(&read(&config)?)),
        MigrateVerb::Up { config } => runtime.block_on(upkeep::migrate_up(&read(&config)?)),
        MigrateVerb::Copy { from, to } => {
            let mut bar = cli::copy_bar(global.json);
            runtime.block_on(upkeep::migrate_copy(&from, &to, &mut bar))
        }
    };
    Ok(show(global, &done?))
}

fn backup(global: &Global, flags: &BackupFlags) -> anyhow::Result<Exit> {
    let config = serve::read_config(&flags.config).map_err(anyhow::Error::msg)?;
    let done = runtime()?.block_on(upkeep::backup(&config, &flags.file))?;
    Ok(show(global, &done))
}

fn show(global: &Global, done: &Upkeep) -> Exit {
    if global.json {
        println!("{}", done.document);
    } else {
        println!("{}", done.text);
    }
    if done.passed { Exit::Ok } else { Exit::Failed }
}

/// Plays the demo in a folder of its own; exit 1 if a scene went wrong.
fn demo(global: &Global, flags: DemoFlags) -> anyhow::Result<Exit> {
    let folder = demo_folder(flags.keep)?;
    let log = std::fs::File::create(folder.join("cardline.log")).context("cannot write the log")?;
    let filter = EnvFilter::new("info,cardline=debug");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(log))
        .init();
    let options = DemoOptions {
        headless: flags.headless || global.json,
        lang: global.lang.unwrap_or(Lang::De),
        speed: flags.speed,
    };
    let runtime = runtime()?;
    let running = runtime
        .block_on(serve::start(demo::daemon_config(&folder), None))
        .context("cannot start")?;
    let daemon = Daemon {
        sip: *running.sip.first().context("no SIP address")?,
        socket: running.admin_socket.clone(),
        clock: running.clock,
        runtime: runtime.handle().clone(),
    };
    let ready = running.ready_line();
    let summary = demo::run(&options, &folder, &daemon, running.feed.follow(), &ready);
    runtime.block_on(running.stop());
    let summary = summary.context("the demo's phones")?;
    if global.json {
        println!("{}", summary.document);
    } else {
        println!("{}", summary.text);
    }
    Ok(if summary.passed { Exit::Ok } else { Exit::Failed })
}

/// `keep`, or a new folder among the system's temporary ones.
fn demo_folder(keep: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder =
        keep.unwrap_or_else(|| std::env::temp_dir().join(format!("cardline-demo-{}", std::process::id())));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let folder = folder.canonicalize().context("the folder's own path")?;
    let used = folder.join("cardline.db").exists();
    anyhow::ensure!(
        !used,
        "{} holds an earlier demo; name another folder with --keep",
        folder.display()
    );
    Ok(folder)
}

fn runtime() -> anyhow::Result<Runtime> {
    // The loop and the media have threads of their own; these serve the store and the admin.
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Logs to standard error; `CARDLINE_LOG` goes before the configured level.
fn set_up_log(log: &LogConfig) -> anyhow::Result<()> {
    let level = std::env::var("CARDLINE_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&level).with_context(|| format!("log.level = \"{level}\""))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
