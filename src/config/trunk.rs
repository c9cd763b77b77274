//! Trunks: who may send calls, where calls to E.164 targets go, how numbers are written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer};

/// One carrier connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    pub name: String,
    /// Who may send INVITEs; anyone else gets silence.
    pub peers: Vec<Cidr>,
    /// `sip:address:port`: where calls to E.164 targets go.
    #[serde(default, deserialize_with = "proxy")]
    pub proxy: Option<SocketAddr>,
    /// How the carrier writes numbers, in both directions.
    #[serde(default)]
    pub number_format: NumberFormat,
    /// Where the called number stands.
    #[serde(default)]
    pub called_from: CalledFrom,
    /// Whether the carrier vouches for P-Asserted-Identity.
    #[serde(default = "yes")]
    pub trust_pai: bool,
    /// Country code that national numbers get, without plus.
    #[serde(default = "germany")]
    pub country_code: String,
    /// Digest user for a challenge to our INVITEs; the password comes from `password_file`.
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password_file: Option<std::path::PathBuf>,
    /// Whether the carrier may deliver calls here (else 403).
    #[serde(default = "yes")]
    pub inbound: bool,
}

/// How a carrier writes +49 30 23125101.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum NumberFormat {
    /// `+493023125101`
    #[default]
    #[serde(rename = "e164")]
    E164,
    /// `493023125101`
    #[serde(rename = "digits")]
    Digits,
    /// `00493023125101`
    #[serde(rename = "00")]
    DoubleZero,
    /// `03023125101`, and `00…` for other countries
    #[serde(rename = "national")]
    National,
}

/// Which part of an INVITE names the called number (interop.md I16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalledFrom {
    #[default]
    RequestUri,
    To,
}

/// An address range, such as `198.51.100.0/24` or a single address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// `None` unless the text is `address` or `address/bits`.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |b| b.parse().ok())?;
        (bits <= most).then_some(Cidr { address, bits })
    }

    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let drop = 32 - u32::from(self.bits);
                u32::from(net).checked_shr(drop) == u32::from(ip).checked_shr(drop)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let drop = 128 - u32::from(self.bits);
                u128::from(net).checked_shr(drop) == u128::from(ip).checked_shr(drop)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cidr, D::Error> {
        let text = String::deserialize(deserializer)?;
        Cidr::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "\"{text}\" is no address range; want \"198.51.100.0/24\" or \"198.51.100.7\""
            ))
        })
    }
}

pub(super) fn check_all(trunks: &[TrunkConfig]) -> Result<(), String> {
    if trunks.len() > 100 {
        return Err("trunk: at most 100 trunks".into());
    }
    for (place, trunk) in trunks.iter().enumerate() {
        if trunk.name.is_empty() || trunks.iter().take(place).any(|t| t.name == trunk.name) {
            return Err(format!(
                "trunk.name = \"{}\": each trunk needs a name of its own",
                trunk.name
            ));
        }
        if trunk.peers.is_empty() {
            return Err(format!(
                "trunk \"{}\": peers must name at least one address range",
                trunk.name
            ));
        }
        let code = &trunk.country_code;
        if code.is_empty()
            || code.len() > 3
            || !code.bytes().all(|b| b.is_ascii_digit())
            || code.starts_with('0')
        {
            return Err(format!(
                "trunk \"{}\": country_code = \"{code}\": want 1 to 3 digits, such as \"49\"",
                trunk.name
            ));
        }
        if trunk.username.is_some() != trunk.password_file.is_some() {
            return Err(format!(
                "trunk \"{}\": username and password_file go together",
                trunk.name
            ));
        }
    }
    Ok(())
}

fn proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let address = text.strip_prefix("sip:").unwrap_or(&text);
    let parsed = address
        .parse()
        .or_else(|_| address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 5060)));
    parsed.map(Some).map_err(|_| {
        serde::de::Error::custom(format!(
            "\"{text}\" is no proxy; want \"sip:198.51.100.1:5060\" (an address, not a name)"
        ))
    })
}

const fn yes() -> bool {
    true
}

fn germany() -> String {
    "49".to_owned()
}
