//! TOML to a checked `Config`: every key has a safe default, the least that runs is a trunk.
//!
//! The core is pure: the shells read the file and the environment and hand the text to [`parse`].
//! Deliberately absent: secrets in the file itself (they come by file or environment), and limits
//! that are off.

mod call;
mod node;
mod sip;
mod trunk;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use call::CallConfig;
pub use node::NodeConfig;
pub use sip::{ListenAddr, SipConfig};
pub use trunk::{CalledFrom, Cidr, NumberFormat, TrunkConfig};

/// Everything that the file may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub sip: SipConfig,
    pub media: MediaConfig,
    pub call: CallConfig,
    pub limits: LimitsConfig,
    pub store: StoreConfig,
    pub node: NodeConfig,
    pub admin: AdminConfig,
    pub prompts: PromptsConfig,
    pub log: LogConfig,
    #[serde(rename = "trunk")]
    pub trunks: Vec<TrunkConfig>,
}

/// RTP sockets and watch times.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaConfig {
    /// Address the RTP sockets are bound to.
    pub listen: IpAddr,
    /// RTP takes the even ports of this range, RTCP the odd ones.
    #[serde(deserialize_with = "port_range")]
    pub ports: RangeInclusive<u16>,
    /// Socket pairs bound ahead of need.
    pub stock: u16,
    /// Media threads; 0: one per core.
    pub threads: u16,
    /// Nothing from a peer for this long: the leg is probed, then ended (20 s).
    #[serde(deserialize_with = "seconds", rename = "rtp_lost_s")]
    pub rtp_lost: Duration,
    /// No packet at all from one side for this long after the bridge: dead air (8 s).
    #[serde(deserialize_with = "seconds", rename = "no_media_s")]
    pub no_media: Duration,
}

impl Default for MediaConfig {
    fn default() -> MediaConfig {
        MediaConfig {
            listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ports: 20000..=29999,
            stock: 64,
            threads: 0,
            rtp_lost: Duration::from_secs(20),
            no_media: Duration::from_secs(8),
        }
    }
}

/// How much of everything; reaching a limit is a typed refusal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Calls at a time; further INVITEs get 503.
    pub calls: usize,
    /// SIP transactions at a time.
    pub transactions: usize,
    /// Seconds in the Retry-After of a 503.
    pub retry_after_s: u32,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            calls: 1000,
            transactions: 20_000,
            retry_after_s: 10,
        }
    }
}

/// Where cards and calls are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `sqlite:///absolute/path.db` or `postgres://user@host/database`.
    pub url: String,
    /// 32 random bytes that PINs are hashed and encrypted with; made at the first start. Default:
    /// `pin.key` beside the SQLite file. `CARDLINE_PIN_KEY` (64 hex digits) goes before it.
    pub pin_key_file: Option<PathBuf>,
    /// Orders that the database does not take wait in this file. Default: `.journal` behind the name of
    /// the SQLite file, `/var/lib/cardline/cardline.journal` for PostgreSQL.
    pub journal: Option<PathBuf>,
    /// A setup question that the store does not answer in this time is asked once more, then refused.
    #[serde(deserialize_with = "seconds", rename = "timeout_s")]
    pub timeout: Duration,
    /// Local time, in the operator's zone, of the nightly check of the books; "" turns it off.
    #[serde(deserialize_with = "hour")]
    pub check_at: Option<(u8, u8)>,
    /// Database transactions at a time on PostgreSQL; two more connections are for reading.
    pub writers: u16,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            url: "sqlite:///var/lib/cardline/cardline.db".to_owned(),
            pin_key_file: None,
            journal: None,
            timeout: Duration::from_secs(2),
            check_at: Some((3, 30)),
            writers: 8,
        }
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    pub socket: PathBuf,
    /// Loopback address for the API over TCP; "" turns it off.
    #[serde(deserialize_with = "optional_address")]
    pub http: Option<SocketAddr>,
    /// File with the bearer token that TCP clients must show. Default: `admin.token` beside the
    /// socket, made at the first start.
    pub token_file: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            socket: PathBuf::from("/run/cardline/admin.sock"),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            token_file: None,
        }
    }
}

/// Prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// A folder with one folder per language; default: the prompts built into the binary.
    pub dir: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,cardline::sip=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// The file says something that cannot be; names file, place, value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct ConfigFault {
    pub file: String,
    pub problem: String,
}

/// Reads and checks a whole configuration; `file` is its name for the messages.
///
/// # Errors
/// The first thing that is not TOML, not a known key, or out of its range.
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigFault> {
    let fault = |problem: String| ConfigFault {
        file: file.to_owned(),
        problem,
    };
    let config: Config = toml::from_str(text).map_err(|e| fault(e.to_string().trim_end().to_owned()))?;
    check(&config).map_err(fault)?;
    Ok(config)
}

fn check(config: &Config) -> Result<(), String> {
    config.sip.check()?;
    config.call.check()?;
    within("media.stock", config.media.stock.into(), 2, 4096)?;
    within("media.threads", config.media.threads.into(), 0, 64)?;
    within("media.rtp_lost_s", config.media.rtp_lost.as_secs(), 2, 300)?;
    within("media.no_media_s", config.media.no_media.as_secs(), 1, 60)?;
    let pairs = u64::from(
        config
            .media
            .ports
            .end()
            .saturating_sub(*config.media.ports.start()),
    ) / 2;
    if pairs < 2 {
        return Err(
            "media.ports: the range must hold at least two RTP/RTCP pairs, such as \"20000-29999\"".into(),
        );
    }
    within("limits.calls", config.limits.calls as u64, 1, 100_000)?;
    within(
        "limits.transactions",
        config.limits.transactions as u64,
        100,
        10_000_000,
    )?;
    within(
        "limits.retry_after_s",
        config.limits.retry_after_s.into(),
        1,
        3600,
    )?;
    within("store.writers", config.store.writers.into(), 1, 100)?;
    config.node.check()?;
    within("store.timeout_s", config.store.timeout.as_secs(), 1, 30)?;
    if !["sqlite:", "postgres:", "postgresql:"]
        .iter()
        .any(|scheme| config.store.url.starts_with(scheme))
    {
        return Err("store.url: must begin with sqlite:// or postgres://".into());
    }
    if let Some(address) = config.admin.http.filter(|a| !a.ip().is_loopback()) {
        return Err(format!(
            "admin.http: {address} is no loopback address; use 127.0.0.1 or [::1] and a proxy"
        ));
    }
    trunk::check_all(&config.trunks)
}

/// One key's range, in words.
fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}: must be from {least} to {most}"))
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_secs(u32::deserialize(deserializer)?.into()))
}

fn hour<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(u8, u8)>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text
        .split_once(':')
        .and_then(|(hour, minute)| Some((hour.parse::<u8>().ok()?, minute.parse::<u8>().ok()?)))
        .filter(|(hour, minute)| *hour < 24 && *minute < 60);
    let wrong = || serde::de::Error::custom(format!("\"{text}\" is no time of day; want \"03:30\" or \"\""));
    parsed.map(Some).ok_or_else(wrong)
}

fn port_range<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RangeInclusive<u16>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text
        .split_once('-')
        .and_then(|(low, high)| Some((low.trim().parse::<u16>().ok()?, high.trim().parse::<u16>().ok()?)))
        .filter(|(low, high)| *low >= 1024 && low < high);
    parsed
        .map(|(low, high)| low..=high)
        .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is no port range; want \"20000-29999\"")))
}

fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        serde::de::Error::custom(format!(
            "\"{text}\" is no address; want \"127.0.0.1:8080\" or \"\""
        ))
    })
}

#[cfg(test)]
mod tests;
