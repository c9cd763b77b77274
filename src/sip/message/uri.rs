//! URIs, hosts, name-addrs and Via values: what stands inside header values.
//!
//! Deliberately absent: URI comparison (nothing here compares URIs), escaping of whole URIs.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::typed;
use crate::sip::wire::{self, Split};

/// A SIP, SIPS or tel URI taken apart, or any other kept as text (RFC 3261 §19.1, RFC 3966).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    pub scheme: Scheme,
    /// The user part (of `tel:` the number) as written, with its own parameters and escapes.
    pub raw_user: Option<String>,
    /// `None` for tel and other URIs.
    pub host: Option<Host>,
    /// 1..=65535.
    pub port: Option<u16>,
    /// Behind the host (of `tel:` behind the number); names as written.
    pub params: wire::Params,
    /// Behind `?`, as written.
    pub headers: Option<String>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    /// Not ours to read: only the text is kept.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Ip(IpAddr),
}

/// The text is no URI, or its host or port is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub &'static str);

impl Uri {
    /// # Errors
    /// No scheme, an empty or impossible host, a port that is not in 1..=65535, blanks or brackets.
    pub fn parse(text: &str) -> Result<Uri, BadValue> {
        let bad = |b: u8| b.is_ascii_whitespace() || matches!(b, b'<' | b'>' | b'"' | 0);
        if text.bytes().any(bad) {
            return Err(BadValue("a URI with blanks, quotes or brackets"));
        }
        let (scheme, rest) = text.split_once(':').ok_or(BadValue("a URI without a scheme"))?;
        let mut uri = Uri {
            scheme: Scheme::Other,
            raw_user: None,
            host: None,
            port: None,
            params: Vec::new(),
            headers: None,
            text: text.to_owned(),
        };
        if scheme.eq_ignore_ascii_case("tel") {
            uri.scheme = Scheme::Tel;
            let (number, params) = cut(rest, ';');
            uri.raw_user = Some(number.to_owned());
            uri.params = plain_params(params);
            return Ok(uri);
        }
        if scheme.eq_ignore_ascii_case("sip") {
            uri.scheme = Scheme::Sip;
        } else if scheme.eq_ignore_ascii_case("sips") {
            uri.scheme = Scheme::Sips;
        } else if wire::is_token(scheme) {
            return Ok(uri);
        } else {
            return Err(BadValue("a URI scheme that is none"));
        }
        // The user part may hold `;` and `?`, so it is cut off first; an `@` of its own would be
        // escaped (RFC 3261 §25.1 user).
        let host_part = match rest.split_once('@') {
            Some((user, host)) => {
                let (user, _password) = cut(user, ':');
                uri.raw_user = Some(user.to_owned());
                host
            }
            None => rest,
        };
        let (host_part, headers) = cut(host_part, '?');
        uri.headers = headers.map(str::to_owned);
        let (host_port, params) = cut(host_part, ';');
        uri.params = plain_params(params);
        let (host, port) = host_port_of(host_port)?;
        uri.host = Some(host);
        uri.port = port;
        Ok(uri)
    }

    /// `sip:user@host:port` for an address of our own; the user part is escaped.
    pub fn at(user: Option<&str>, address: SocketAddr) -> Uri {
        let user = user.map(escape_user);
        let text = match &user {
            Some(user) => format!("sip:{user}@{address}"),
            None => format!("sip:{address}"),
        };
        Uri {
            scheme: Scheme::Sip,
            raw_user: user,
            host: Some(Host::Ip(address.ip())),
            port: Some(address.port()),
            params: Vec::new(),
            headers: None,
            text,
        }
    }

    /// The user part without its parameters (`;cpc=...`), escapes undone; of `tel:` the number.
    pub fn user(&self) -> Option<String> {
        let (user, _) = cut(self.raw_user.as_deref()?, ';');
        Some(unescape(user))
    }

    /// The URI as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A parameter behind the host; a flag gives an empty text.
    pub fn param(&self, name: &str) -> Option<&str> {
        wire::param(&self.params, name)
    }

    /// Where a request to this URI goes if its host is an address; port 5060 unless given.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host.as_ref()? {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, self.port.unwrap_or(5060))),
            Host::Name(_) => None,
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// From, To, Contact, P-Asserted-Identity ...: display name, URI, parameters (RFC 3261 §20.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// Without quotes; `None` if absent or empty.
    pub display: Option<String>,
    pub uri: Uri,
    /// Behind the address; names as written.
    pub params: wire::Params,
    pub tag: Option<String>,
    /// The value as it came, to be echoed.
    pub raw: String,
}

impl NameAddr {
    /// # Errors
    /// A quote or bracket without its end, or a bad URI.
    pub fn parse(value: &str) -> Result<NameAddr, BadValue> {
        let (display, uri, params) = match wire::find_outside(value, '<') {
            Some(at) => {
                let (display, rest) = value.split_at_checked(at).unwrap_or((value, ""));
                let rest = rest.strip_prefix('<').unwrap_or(rest);
                let (uri, params) = rest
                    .split_once('>')
                    .ok_or(BadValue("an address without its end"))?;
                (display_of(display), uri, params)
            }
            // Without brackets all parameters are the header's, and none the URI's (§20.10).
            None => {
                let (uri, params) = cut(value, ';');
                if uri.contains(['?', ',']) {
                    return Err(BadValue("an address that needs brackets"));
                }
                (None, uri.trim_ascii(), params.unwrap_or_default())
            }
        };
        let params = params.trim_ascii();
        if !(params.is_empty() || params.starts_with(';') || !value.contains('<')) {
            return Err(BadValue("text behind an address"));
        }
        let params = wire::params(params);
        let tag = wire::param(&params, "tag").filter(|tag| !tag.is_empty());
        Ok(NameAddr {
            display,
            uri: Uri::parse(uri.trim_ascii())?,
            tag: tag.map(str::to_owned),
            params,
            raw: value.to_owned(),
        })
    }
}

/// A quote without its end swallows the bracket, so it never comes here.
fn display_of(text: &str) -> Option<String> {
    let plain = wire::unquote(text);
    (!plain.is_empty()).then_some(plain)
}

/// The top Via of a message (RFC 3261 §20.42, RFC 3581).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP` ..., in upper case.
    pub transport: String,
    pub host: Host,
    /// 1..=65535; absent means the transport's default.
    pub port: Option<u16>,
    pub branch: Option<String>,
    pub received: Option<IpAddr>,
    pub rport: Rport,
    pub raw: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    Absent,
    /// The sender wants its source port written here and answered to.
    Asked,
    Filled(u16),
}

impl Via {
    /// # Errors
    /// Not SIP/2.0, no sent-by, a port that is not in 1..=65535.
    pub fn parse(value: &str) -> Result<Via, BadValue> {
        let (head, params) = cut(value, ';');
        let params = wire::params(params.unwrap_or_default());
        let mut parts = head.splitn(3, '/').map(str::trim_ascii);
        let (Some(name), Some(version), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadValue("a Via without protocol and transport"));
        };
        if !(name.eq_ignore_ascii_case("SIP") && version == "2.0") {
            return Err(BadValue("a Via of another protocol"));
        }
        let (transport, sent_by) = rest
            .split_once([' ', '\t'])
            .ok_or(BadValue("a Via without sent-by"))?;
        if !wire::is_token(transport) {
            return Err(BadValue("a Via transport that is no token"));
        }
        // `host : port` may have blanks around its colon here, unlike in a URI (§25.1 sent-by).
        let sent_by: String = sent_by.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let (host, port) = host_port_of(&sent_by)?;
        let rport = match wire::param(&params, "rport") {
            None => Rport::Absent,
            Some("") => Rport::Asked,
            Some(text) => Rport::Filled(port_of(text)?),
        };
        let received = wire::param(&params, "received").and_then(ip_of);
        let branch = wire::param(&params, "branch").filter(|branch| !branch.is_empty());
        Ok(Via {
            transport: transport.to_ascii_uppercase(),
            host,
            port,
            branch: branch.map(str::to_owned),
            received,
            rport,
            raw: value.to_owned(),
        })
    }

    /// `host:port` as it stands in the value: a part of the transaction key (RFC 3261 §17.2.3).
    pub fn sent_by(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// The value with `received` and `rport` as this hop saw them (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn stamped(&self, remote: SocketAddr) -> String {
        let own = |param: &&str| {
            let name = param.split('=').next().unwrap_or_default().trim_ascii();
            !(name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport"))
        };
        let mut value = Split::new(&self.raw, ';')
            .filter(own)
            .collect::<Vec<_>>()
            .join(";");
        let asked = self.rport != Rport::Absent;
        if asked || self.host != Host::Ip(remote.ip()) {
            value.push_str(&format!(";received={}", remote.ip()));
        }
        if asked {
            value.push_str(&format!(";rport={}", remote.port()));
        }
        value
    }
}

/// Host and port of a URI or a sent-by. Names and IPv4 are typed by rsip; IPv6 it cannot read.
fn host_port_of(text: &str) -> Result<(Host, Option<u16>), BadValue> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest
            .split_once(']')
            .ok_or(BadValue("an IPv6 host without its end"))?;
        let ip: Ipv6Addr = address
            .parse()
            .map_err(|_| BadValue("a host that is no IPv6 address"))?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port_of(port)?),
            None if port.is_empty() => None,
            None => return Err(BadValue("text behind an IPv6 host")),
        };
        return Ok((Host::Ip(ip.into()), port));
    }
    let (host, port) = cut(text, ':');
    let port = port.map(port_of).transpose()?;
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(is_host_byte) {
        return Err(BadValue("a host that is none"));
    }
    Ok((typed::host(host), port))
}

fn port_of(text: &str) -> Result<u16, BadValue> {
    let port = wire::number(text).and_then(|port| u16::try_from(port).ok());
    port.filter(|&port| port != 0)
        .ok_or(BadValue("a port out of 1..=65535"))
}

fn ip_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn plain_params(text: Option<&str>) -> wire::Params {
    let params = text
        .unwrap_or_default()
        .split(';')
        .filter(|param| !param.is_empty());
    params
        .map(|param| {
            let (name, value) = cut(param, '=');
            (name.to_owned(), value.map(str::to_owned))
        })
        .collect()
}

/// Undoes `%2B`-like escapes; what is none, or is no UTF-8 afterwards, stays or becomes U+FFFD.
pub fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let pair = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?)));
        match pair.flatten() {
            Some((high, low)) => {
                plain.push(high << 4 | low);
                bytes = ahead;
            }
            None => plain.push(byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Escapes all but unreserved characters and the plus of a number (RFC 3261 §25.1 user).
fn escape_user(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
