//! One binary, `cardline VERB`: the command line's grammar, and the client that speaks HTTP to the
//! admin socket. No logic of its own: the daemon decides, the client asks and shows.
//!
//! Deliberately absent: `serve`, `check`, `migrate`, `backup` and `demo`, which `main.rs` starts.

mod args;
mod bar;
pub mod client;
mod daemon;
mod drain;
mod files;
mod layout;
mod money;
mod money_args;
mod render;
mod render_books;
mod render_money;
mod text;
mod upkeep;
mod verbs;
mod words;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

pub use args::{Cli, ClientVerb, Command, DemoFlags, Global, Lang};
pub use bar::copy_bar;
pub use upkeep::{BackupFlags, MigrateVerb, PinKeyVerb};

use client::{Client, ClientFault, Reply};

/// How a verb ends; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    Failed,
    Usage,
    NotFound,
    Refused,
    Unreachable,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Refused => 4,
            Exit::Unreachable => 5,
        }
    }

    /// By the answer of the daemon: what it says no to is refused, what it fails at has failed.
    fn of_reply(reply: &Reply) -> Exit {
        if reply.document.get("code").and_then(Value::as_str) == Some("ledger_broken") {
            return Exit::Failed;
        }
        match reply.status {
            200..=299 => Exit::Ok,
            404 => Exit::NotFound,
            400..=499 => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Reads the command line; prints help or a usage error (exit 2) and ends the process by itself.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Runs one client verb to its end.
pub fn run_client(global: &Global, verb: ClientVerb) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            complain(global, "internal", &format!("cannot start: {why}"));
            return Exit::Failed.into();
        }
    };
    runtime.block_on(run(global, verb)).into()
}

async fn run(global: &Global, verb: ClientVerb) -> Exit {
    let lang = message_lang(global);
    let client = Client::new(&global.socket, lang);
    match verb {
        ClientVerb::Drain { wait: true } => drain::run(&client, global).await,
        ClientVerb::Events => match client.follow("/api/v1/events").await {
            Ok(()) => Exit::Ok,
            Err(fault) => fail(global, &fault),
        },
        ClientVerb::Card(args::CardVerb::Cancel {
            serial,
            yes: false,
            order,
        }) if may_ask(global) && !order.dry_run => {
            if !confirmed(&serial) {
                complain(global, "not_confirmed", "not cancelled");
                return Exit::Refused;
            }
            one(
                &client,
                global,
                &ClientVerb::Card(args::CardVerb::Cancel {
                    serial,
                    yes: true,
                    order,
                }),
            )
            .await
        }
        ClientVerb::Card(card) if files::has_files(&card) => {
            files::run(&client, global, &ClientVerb::Card(card)).await
        }
        verb @ (ClientVerb::Project(_)
        | ClientVerb::Tariff(_)
        | ClientVerb::Operator(_)
        | ClientVerb::Number(_)
        | ClientVerb::Target(_)
        | ClientVerb::Card(_)
        | ClientVerb::Call(_)
        | ClientVerb::Ledger(_)
        | ClientVerb::Status
        | ClientVerb::Drain { wait: false }
        | ClientVerb::Reload
        | ClientVerb::Audit { .. }) => one(&client, global, &verb).await,
    }
}

/// One request, one answer.
async fn one(client: &Client, global: &Global, verb: &ClientVerb) -> Exit {
    let Some(plan) = verbs::plan(verb, global.lang) else {
        complain(global, "usage", "nothing to ask");
        return Exit::Usage;
    };
    match client.send(&plan.request).await {
        Ok(reply) => answered(global, &plan, &reply),
        Err(fault) => fail(global, &fault),
    }
}

/// Shows the daemon's answer.
fn answered(global: &Global, plan: &verbs::Plan, reply: &client::Reply) -> Exit {
    let exit = Exit::of_reply(reply);
    let lang = message_lang(global);
    let shown = if global.json {
        print_document(&reply.document)
    } else if (200..300).contains(&reply.status) {
        let mut text = render::show(plan.view, &reply.document, lang);
        if reply.document.get("dry_run").and_then(Value::as_bool) == Some(true) {
            text.push_str(words::word(lang, "Probelauf: nichts wurde geändert"));
            text.push('\n');
        }
        print_text(&text)
    } else {
        show_problem(&reply.document, lang);
        exit
    };
    shown.worse_of(exit)
}

impl Exit {
    fn worse_of(self, other: Exit) -> Exit {
        if self == Exit::Ok { other } else { self }
    }
}

fn fail(global: &Global, fault: &ClientFault) -> Exit {
    let (code, exit) = match fault {
        ClientFault::Unreachable { .. } => ("daemon_unreachable", Exit::Unreachable),
        ClientFault::Lost(_) => ("reply_lost", Exit::Failed),
        ClientFault::NotOurs(_) => ("not_cardline", Exit::Failed),
    };
    complain(global, code, &fault.to_string());
    exit
}

/// A problem of the client's own, in the shape of the daemon's.
fn complain(global: &Global, code: &str, detail: &str) {
    let document = json!({
        "type": format!("urn:cardline:problem:{code}"),
        "code": code,
        "title": "cardline",
        "detail": detail,
    });
    if global.json {
        print_document(&document);
    } else {
        show_problem(&document, message_lang(global));
    }
}

fn show_problem(document: &Value, lang: Lang) {
    let word = |key: &str| text::clean(document.get(key).and_then(Value::as_str).unwrap_or(""));
    eprintln!("cardline: {} ({})", word("detail"), word("code"));
    for offender in document
        .pointer("/extra/offenders")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |key: &str| text::clean(offender.get(key).and_then(Value::as_str).unwrap_or(""));
        eprintln!("  {}: {}", part("rule"), part("what"));
    }
    for fault in document
        .pointer("/extra/faults")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |key: &str| text::clean(fault.get(key).and_then(Value::as_str).unwrap_or(""));
        let line = fault.get("line").and_then(Value::as_u64).unwrap_or(0);
        let place = words::word(lang, "Zeile");
        eprintln!("  {place} {line} {}: {}", part("column"), part(lang.as_str()));
    }
}

fn print_document(document: &Value) -> Exit {
    print_text(&format!("{document}\n"))
}

/// A reader that closes early (`| head`) is no failure.
fn print_text(text: &str) -> Exit {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}

fn message_lang(global: &Global) -> Lang {
    let from_environment = || match std::env::var("CARDLINE_LANG").ok()?.get(..2)? {
        "en" => Some(Lang::En),
        "de" => Some(Lang::De),
        _ => None,
    };
    global.lang.or_else(from_environment).unwrap_or(Lang::De)
}

fn may_ask(global: &Global) -> bool {
    !global.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn confirmed(serial: &str) -> bool {
    eprint!(
        "Karte {} endgültig stornieren? / Cancel for good? [j/N] ",
        text::clean(serial)
    );
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok()
        && ["j", "ja", "y", "yes"].contains(&line.trim().to_lowercase().as_str())
}
