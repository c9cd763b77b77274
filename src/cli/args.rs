//! The command line's grammar: flags first, meaning in `verbs`, exit codes in `mod`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::upkeep::{BackupFlags, MigrateVerb, PinKeyVerb};

use super::money_args::{BatchFlags, ExportFlags, ImportFlags, OperatorVerb, TariffVerb};

/// Prepaid minute cards for the telephone: a SIP back-to-back user agent.
#[derive(Debug, Parser)]
#[command(
    name = "cardline",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 daemon not reachable."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Admin socket of the daemon
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "CARDLINE_SOCKET",
        default_value = DEFAULT_SOCKET
    )]
    pub socket: PathBuf,
    /// Print exactly one JSON document on standard output and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Language of messages; for `demo` and `project new|edit` also of the prompts. Messages follow
    /// CARDLINE_LANG without it, and are German by default
    #[arg(long, global = true, value_enum)]
    pub lang: Option<Lang>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    De,
    En,
}

impl Lang {
    pub const fn as_str(self) -> &'static str {
        match self {
            Lang::De => "de",
            Lang::En => "en",
        }
    }
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "parsed once and taken apart at once")]
pub enum Command {
    /// Run the daemon in the foreground (SIGTERM drains, a second one stops)
    Serve {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say in words what would stop `serve`: config, prompts, ports, database
    Check {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// The key that PINs are hashed and encrypted with
    #[command(subcommand)]
    PinKey(PinKeyVerb),
    /// The database's schema, and moving to another database; without a daemon
    #[command(subcommand)]
    Migrate(MigrateVerb),
    /// Copy the SQLite database to FILE while it is served, and check the copy
    Backup(BackupFlags),
    /// Show the whole service with a built-in caller and advisor, needing nothing else
    Demo(DemoFlags),
    #[command(flatten)]
    Client(ClientVerb),
}

/// Verbs that speak to a running daemon.
#[derive(Debug, Subcommand)]
pub enum ClientVerb {
    /// Projects: name, language, tariff and rules
    #[command(subcommand)]
    Project(ProjectVerb),
    /// Price, increments and expiry that projects may have
    #[command(subcommand)]
    Tariff(TariffVerb),
    /// Your own name, time zone and limit
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Our own numbers (DIDs)
    #[command(subcommand)]
    Number(NumberVerb),
    /// Addresses of advisors
    #[command(subcommand)]
    Target(TargetVerb),
    /// Minute cards
    #[command(subcommand)]
    Card(CardVerb),
    /// Calls, live and past
    #[command(subcommand)]
    Call(CallVerb),
    /// The account books
    #[command(subcommand)]
    Ledger(LedgerVerb),
    /// What the daemon is doing
    Status,
    /// Take no new calls; those in progress go on
    Drain {
        /// Wait until the last call has ended
        #[arg(long)]
        wait: bool,
    },
    /// Read the configuration again
    Reload,
    /// Who changed what
    Audit {
        /// At most this many rows, newest first
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
    },
    /// Follow what happens in calls, one JSON document per line
    Events,
}

#[derive(Clone, Debug, Args)]
pub struct DemoFlags {
    /// No live picture, only the summary
    #[arg(long)]
    pub headless: bool,
    /// Divide the length of the first card, 45 s, by this: 1 or 2
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub speed: u32,
    /// Keep database, log and recording in this folder
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ProjectVerb {
    /// Open a project; --lang is the language of its prompts
    New {
        name: String,
        #[command(flatten)]
        rules: ProjectRules,
    },
    /// All projects
    List,
    Show {
        name: String,
    },
    /// Lines that called lately and were not connected, to pick one for `card bind`
    Callers {
        name: String,
    },
    /// Change a project's name, rules or tariff
    Edit {
        name: String,
        /// New name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[command(flatten)]
        rules: ProjectRules,
    },
}

/// A project's rules; what is left out stays as it is.
#[derive(Clone, Debug, Default, Args)]
pub struct ProjectRules {
    /// Whether callers are let in
    #[arg(long, value_name = "BOOL")]
    pub enabled: Option<bool>,
    /// Lines that a card remembers: 1 replaces, 0 remembers none
    #[arg(long, value_name = "N")]
    pub max_lines: Option<i64>,
    /// Length of new PINs, 8 to 12; 0 chooses by the number of cards
    #[arg(long, value_name = "N")]
    pub pin_length: Option<i64>,
    /// Whether the advisor must press 1
    #[arg(long, value_name = "BOOL")]
    pub accept_key: Option<bool>,
    /// Longest uncharged pause while the advisor holds, in seconds; 0 lets the clock run
    #[arg(long, value_name = "S")]
    pub hold_pause_s: Option<i64>,
    /// Whether the advisor sees the caller's number
    #[arg(long, value_name = "BOOL")]
    pub show_caller: Option<bool>,
    /// Whether the advisor sees the card's note
    #[arg(long, value_name = "BOOL")]
    pub show_note: Option<bool>,
    /// Calls at a time on one card
    #[arg(long, value_name = "N")]
    pub max_parallel: Option<i64>,
    /// Sell and charge by this tariff from now on
    #[arg(long, value_name = "NAME")]
    pub tariff: Option<String>,
    /// Net price of a minute in thousandths of a cent; 0 is free of charge
    #[arg(long, value_name = "MILLICENTS")]
    pub price_per_minute_millicents: Option<i64>,
    /// VAT in hundredths of a percent (1900 is 19 %)
    #[arg(long, value_name = "N")]
    pub vat_basis_points: Option<i64>,
    /// First billing block in milliseconds
    #[arg(long, value_name = "MS")]
    pub first_increment_ms: Option<i64>,
    /// Following billing steps in milliseconds
    #[arg(long, value_name = "MS")]
    pub next_increment_ms: Option<i64>,
    /// Least charge of a charged call in milliseconds
    #[arg(long, value_name = "MS")]
    pub minimum_ms: Option<i64>,
    /// Calls shorter than this are free, in milliseconds
    #[arg(long, value_name = "MS")]
    pub free_under_ms: Option<i64>,
    /// Talk time taken once per charged call, in milliseconds
    #[arg(long, value_name = "MS")]
    pub connect_fee_ms: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub enum NumberVerb {
    /// Give a number of ours to a project
    Add {
        /// As dialled: 030 23125101, 0049 30 23125101 or +493023125101
        number: String,
        #[arg(long)]
        project: String,
        #[arg(long, value_enum)]
        role: Role,
    },
    List {
        #[arg(long)]
        project: Option<String>,
    },
    Remove {
        number: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// „Nummer zum Freischalten"
    Activation,
    /// „Nummer für die Beratung"
    Consultation,
    /// One number for both
    Both,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Activation => "activation",
            Role::Consultation => "consultation",
            Role::Both => "both",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum TargetVerb {
    /// Add an advisor's address: sip:user@192.0.2.7:5060, or a telephone number
    Add {
        #[arg(long)]
        project: String,
        address: String,
        /// Place in the hunting order; default: last
        #[arg(long, value_name = "N")]
        order: Option<i64>,
        /// Seconds to let it ring
        #[arg(long, value_name = "S")]
        ring_s: Option<i64>,
    },
    List {
        #[arg(long)]
        project: Option<String>,
    },
    Remove {
        id: i64,
    },
}

#[derive(Debug, Subcommand)]
pub enum CardVerb {
    /// What minutes would cost; changes nothing
    Quote {
        #[arg(long)]
        project: String,
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        minutes: String,
    },
    /// Buy a card: prints its serial and PIN
    Buy {
        #[arg(long)]
        project: String,
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        minutes: String,
        /// Free text to recognise the card by, up to 200 characters
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// A quote whose price is to be kept
        #[arg(long, value_name = "QUOTE")]
        quote: Option<String>,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Buy many equal cards; the file gets serials, PINs and both numbers
    Batch(BatchFlags),
    /// Buy the cards of a file; one bad row, and nothing is imported
    Import(ImportFlags),
    /// The project's cards as a table, without PINs
    Export(ExportFlags),
    List(CardListFlags),
    Show {
        serial: String,
    },
    /// Recharge a card, before or after it is empty, also during a call
    Topup {
        serial: String,
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        minutes: String,
        /// A quote whose price is to be kept
        #[arg(long, value_name = "QUOTE")]
        quote: Option<String>,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Take unused minutes back, with the invoice line reversed by their share of the price
    #[command(name = "refund")]
    Storno {
        serial: String,
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        minutes: String,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Move minutes to another card of the project
    Transfer {
        from: String,
        to: String,
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        minutes: String,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Move all that is available to another card of the project; the first one keeps its history
    Merge {
        from: String,
        into: String,
        /// The remembered lines too
        #[arg(long)]
        lines: bool,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Give the card another PIN; the lost one is void at once, minutes and lines stay
    ReplacePin {
        serial: String,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Correct the balance by a booked entry, with a reason; free of charge
    Correct {
        serial: String,
        /// Added, or taken if negative
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        seconds: i32,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Let no more calls use the card
    Block {
        serial: String,
    },
    Unblock {
        serial: String,
    },
    /// End the card for good and take back what is left, with its invoice lines
    Cancel {
        serial: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        order: OrderFlags,
    },
    /// Change the note
    Note {
        serial: String,
        text: String,
    },
    /// Reveal the PIN (this is audited)
    Pin {
        serial: String,
    },
    /// Every entry of the card's account
    Entries {
        serial: String,
    },
    /// Activate a line for the card, so that it is connected without PIN
    Bind {
        serial: String,
        number: String,
        /// Take the line away from another card of the project
        #[arg(long)]
        take: bool,
    },
    Unbind {
        serial: String,
        number: String,
    },
}

#[derive(Clone, Debug, Args)]
pub struct CardListFlags {
    #[arg(long)]
    pub project: Option<String>,
    /// Part of the note
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Part of a remembered line, such as its last digits
    #[arg(long, value_name = "DIGITS")]
    pub line: Option<String>,
    /// neu, freigeschaltet, leer, abgelaufen, gesperrt, storniert
    #[arg(long)]
    pub state: Option<String>,
    /// At most this many, newest first
    #[arg(long, value_name = "N")]
    pub limit: Option<i64>,
    #[arg(long, value_name = "N")]
    pub offset: Option<i64>,
}

#[derive(Clone, Debug, Args)]
pub struct OrderFlags {
    /// Repeating an order under the same key gives the first answer; default: a fresh one
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Say what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum CallVerb {
    List {
        /// Only calls in progress
        #[arg(long)]
        live: bool,
        #[arg(long)]
        project: Option<String>,
        /// Serial
        #[arg(long)]
        card: Option<String>,
        #[arg(long, value_name = "N")]
        limit: Option<i64>,
    },
    Show {
        id: String,
    },
    Hangup {
        id: String,
    },
    /// Give a live call's card some goodwill minutes
    Extend {
        id: String,
        #[arg(long, allow_hyphen_values = true, value_name = "N")]
        minutes: String,
        #[command(flatten)]
        order: OrderFlags,
    },
}

#[derive(Debug, Subcommand)]
pub enum LedgerVerb {
    /// Check every invariant; exit 1 and the offenders if one is broken
    Check,
}

/// Where the daemon's own default puts it.
const DEFAULT_SOCKET: &str = "/run/cardline/admin.sock";
