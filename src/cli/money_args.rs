//! The grammar of money: tariffs, the operator, and cards by the hundred.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum TariffVerb {
    /// A tariff that projects may have: price, steps, increments, expiry
    New {
        name: String,
        #[command(flatten)]
        rules: TariffRules,
    },
    /// All tariffs, and which projects have them
    List,
    /// One tariff with all its versions
    Show { name: String },
    /// Make a new version; what was bought and the calls in progress keep theirs
    Edit {
        name: String,
        /// New name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[command(flatten)]
        rules: TariffRules,
    },
}

/// What a tariff says; what is left out stays as it is.
#[derive(Clone, Debug, Default, Args)]
pub struct TariffRules {
    /// Net price of a minute in thousandths of a cent; 0 is free of charge
    #[arg(long, value_name = "MILLICENTS")]
    pub price_per_minute_millicents: Option<i64>,
    /// MINUTES:MILLICENTS: after so many minutes of a purchase a minute costs this; may be repeated,
    /// "none" takes all steps away
    #[arg(long = "step", value_name = "MINUTES:MILLICENTS")]
    pub steps: Vec<String>,
    /// The first minutes of each purchase that cost nothing
    #[arg(long, value_name = "N")]
    pub free_minutes: Option<i64>,
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
    /// Cards expire with 31 December so many years after the purchase; 0 is never
    #[arg(long, value_name = "N", conflicts_with = "expiry_days")]
    pub expiry_years: Option<i64>,
    /// Cards expire with the day so many days after the purchase
    #[arg(long, value_name = "N")]
    pub expiry_days: Option<i64>,
    /// Needed for an expiry that ends before the claim does (§§ 195, 199 BGB)
    #[arg(long)]
    pub accept_short_expiry: bool,
}

#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Name, address, VAT id, time zone, limit and what of it is used
    Show,
    Edit(OperatorFlags),
}

/// What is left out stays as it is.
#[derive(Clone, Debug, Default, Args)]
pub struct OperatorFlags {
    #[arg(long)]
    pub name: Option<String>,
    #[arg(long, value_name = "TEXT")]
    pub address: Option<String>,
    #[arg(long, value_name = "TEXT")]
    pub vat_id: Option<String>,
    /// Where days end, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// What open invoice lines may reach, gross, in cents; "none" is no limit
    #[arg(long, value_name = "CENTS|none")]
    pub credit_limit_cents: Option<String>,
}

/// Cards that are bought together.
#[derive(Clone, Debug, Args)]
pub struct BatchFlags {
    #[arg(long)]
    pub project: String,
    /// How many cards
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    pub count: String,
    /// Of each card
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    pub minutes: String,
    /// Of each card
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    #[command(flatten)]
    pub file: OutFile,
    #[command(flatten)]
    pub order: super::args::OrderFlags,
}

/// Cards whose notes, minutes and lines stand in a file.
#[derive(Clone, Debug, Args)]
pub struct ImportFlags {
    /// UTF-8, with semicolons: note;minutes or note;minutes;line
    pub csv: PathBuf,
    #[arg(long)]
    pub project: String,
    #[command(flatten)]
    pub file: OutFile,
    #[command(flatten)]
    pub order: super::args::OrderFlags,
}

/// Where serials and PINs go.
#[derive(Clone, Debug, Args)]
pub struct OutFile {
    /// New file, readable by its owner only; needed unless --json or --dry-run
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ExportFlags {
    #[arg(long)]
    pub project: String,
    /// New file; default: standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
