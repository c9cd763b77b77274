//! The SIP listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::within;

/// Listening addresses and protocol-wide timers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SipConfig {
    pub listen: Vec<ListenAddr>,
    /// Address in Contact, Via and SDP; default: the listening address.
    pub advertise: Option<IpAddr>,
    /// Session-Expires that we offer (RFC 4028).
    #[serde(deserialize_with = "super::seconds", rename = "session_expires_s")]
    pub session_expires: Duration,
    /// Least Session-Expires that we take.
    #[serde(deserialize_with = "super::seconds", rename = "min_se_s")]
    pub min_se: Duration,
}

impl Default for SipConfig {
    fn default() -> SipConfig {
        SipConfig {
            listen: vec![ListenAddr {
                udp: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060)),
            }],
            advertise: None,
            session_expires: Duration::from_secs(1800),
            min_se: Duration::from_secs(90),
        }
    }
}

impl SipConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.listen.is_empty() || self.listen.len() > 16 {
            return Err("sip.listen: give 1 to 16 addresses, such as [\"udp://0.0.0.0:5060\"]".into());
        }
        within("sip.min_se_s", self.min_se.as_secs(), 90, 7200)?;
        within(
            "sip.session_expires_s",
            self.session_expires.as_secs(),
            self.min_se.as_secs(),
            86_400,
        )
    }
}

/// `udp://address:port`; port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    pub udp: SocketAddr,
}

impl<'de> Deserialize<'de> for ListenAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ListenAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            serde::de::Error::custom(format!(
                "\"{text}\" is no listening address; want \"udp://0.0.0.0:5060\" (only udp:// is built in yet)"
            ))
        };
        let address = text.strip_prefix("udp://").ok_or_else(wrong)?;
        Ok(ListenAddr {
            udp: address.parse().map_err(|_| wrong())?,
        })
    }
}
