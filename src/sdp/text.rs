//! Reading and printing descriptions (RFC 8866).
//!
//! Reading is tolerant: line ends of either kind, Latin-1, missing and unknown lines, attributes at
//! both levels. Printing gives the lines that one audio stream needs and nothing of a peer's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::{Direction, Format, MediaSection, SessionDescription};

/// Longest body that is read, bytes.
const MAX_BODY: usize = 65_535;
/// Most `m=` sections, most formats of one.
const MAX_SECTIONS: usize = 16;
const MAX_FORMATS: usize = 64;

/// Why a body is no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpFault {
    /// Not one line that SDP knows.
    #[error("no session description")]
    NotSdp,
    /// More than 16 media sections or 64 KiB.
    #[error("a session description beyond all measure")]
    TooLarge,
    /// An `m=` line without a port in 0..=65535, of less than three words, or with odd characters.
    #[error("an m= line that cannot be read")]
    BadMedia,
}

impl SessionDescription {
    /// # Errors
    /// See [`SdpFault`]; single broken attributes are skipped.
    pub fn parse(body: &[u8]) -> Result<SessionDescription, SdpFault> {
        if body.len() > MAX_BODY {
            return Err(SdpFault::TooLarge);
        }
        let text = match std::str::from_utf8(body) {
            Ok(text) => text.to_owned(),
            Err(_) => body.iter().copied().map(char::from).collect(),
        };
        let mut reader = Reader::default();
        for line in text.split(['\r', '\n']) {
            let Some((kind, value)) = line.split_once('=') else {
                continue;
            };
            reader.line(kind.trim_ascii(), value.trim_ascii())?;
        }
        reader.finish()
    }
}

/// What the lines so far have said.
#[derive(Default)]
struct Reader {
    known: bool,
    session_id: u64,
    version: u64,
    origin: Option<IpAddr>,
    /// Session-level defaults.
    address: Option<IpAddr>,
    direction: Option<Direction>,
    ptime_ms: Option<u32>,
    maxptime_ms: Option<u32>,
    sections: Vec<Section>,
}

/// A section while its attributes are still coming in.
struct Section {
    media: MediaSection,
    direction: Option<Direction>,
}

impl Reader {
    fn line(&mut self, kind: &str, value: &str) -> Result<(), SdpFault> {
        match kind {
            "v" => self.known = true,
            "o" => self.origin(value),
            "c" => match self.sections.last_mut() {
                Some(section) => section.media.address = connection(value),
                None => self.address = connection(value),
            },
            "m" => {
                if self.sections.len() == MAX_SECTIONS {
                    return Err(SdpFault::TooLarge);
                }
                self.known = true;
                let media = media_line(value).ok_or(SdpFault::BadMedia)?;
                let direction = None;
                self.sections.push(Section { media, direction });
            }
            "a" => self.attribute(value),
            _ => {}
        }
        Ok(())
    }

    fn origin(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace().skip(1);
        let mut next = || words.next().unwrap_or_default();
        self.session_id = next().parse().unwrap_or(0);
        self.version = next().parse().unwrap_or(0);
        self.origin = words.nth(2).and_then(|address| address.parse().ok());
    }

    fn attribute(&mut self, value: &str) {
        let (name, value) = value.split_once(':').unwrap_or((value, ""));
        let (name, value) = (name.trim_ascii().to_ascii_lowercase(), value.trim_ascii());
        let direction = match name.as_str() {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        };
        let section = self.sections.last_mut();
        if direction.is_some() {
            *section.map_or(&mut self.direction, |s| &mut s.direction) = direction;
            return;
        }
        match (name.as_str(), section) {
            ("ptime", Some(section)) => section.media.ptime_ms = leading_number(value),
            ("ptime", None) => self.ptime_ms = leading_number(value),
            ("maxptime", Some(section)) => section.media.maxptime_ms = leading_number(value),
            ("maxptime", None) => self.maxptime_ms = leading_number(value),
            ("rtpmap", Some(section)) => rtpmap(&mut section.media, value),
            ("fmtp", Some(section)) => fmtp(&mut section.media, value),
            ("rtcp", Some(section)) => section.media.rtcp = rtcp(value),
            _ => {}
        }
    }

    fn finish(self) -> Result<SessionDescription, SdpFault> {
        if !self.known {
            return Err(SdpFault::NotSdp);
        }
        let media = self.sections.into_iter().map(|section| {
            let mut media = section.media;
            media.address = media.address.or(self.address);
            media.ptime_ms = media.ptime_ms.or(self.ptime_ms);
            media.maxptime_ms = media.maxptime_ms.or(self.maxptime_ms);
            media.direction = section
                .direction
                .or(self.direction)
                .unwrap_or(Direction::SendRecv);
            media
        });
        Ok(SessionDescription {
            session_id: self.session_id,
            version: self.version,
            origin: self.origin,
            media: media.collect(),
        })
    }
}

/// `audio 49170/1 RTP/AVP 8 0 101`
fn media_line(value: &str) -> Option<MediaSection> {
    let mut words = value.split_ascii_whitespace();
    let (kind, port, protocol) = (words.next()?, words.next()?, words.next()?);
    let port = port.split('/').next()?.parse().ok()?;
    let is_plain = |word: &str| word.bytes().all(|b| b.is_ascii_graphic());
    if !(is_plain(kind) && is_plain(protocol)) {
        return None;
    }
    let raw: Vec<&str> = words.filter(|word| is_plain(word)).take(MAX_FORMATS).collect();
    let mut formats: Vec<Format> = Vec::new();
    for payload_type in raw.iter().filter_map(|word| word.parse().ok()) {
        let fresh = formats.iter().all(|known| known.payload_type != payload_type);
        if payload_type <= 127 && fresh {
            formats.push(static_format(payload_type));
        }
    }
    Some(MediaSection {
        kind: kind.to_owned(),
        port,
        protocol: protocol.to_owned(),
        address: None,
        formats,
        raw_formats: raw.join(" "),
        direction: Direction::SendRecv,
        ptime_ms: None,
        maxptime_ms: None,
        rtcp: None,
    })
}

/// What a payload type means without `a=rtpmap` (RFC 3551 §6); dynamic ones mean nothing yet.
fn static_format(payload_type: u8) -> Format {
    let (encoding, clock_hz) = match payload_type {
        0 => ("PCMU", 8000),
        3 => ("GSM", 8000),
        4 => ("G723", 8000),
        8 => ("PCMA", 8000),
        9 => ("G722", 8000),
        13 => ("CN", 8000),
        15 => ("G728", 8000),
        18 => ("G729", 8000),
        _ => ("", 0),
    };
    Format {
        payload_type,
        encoding: encoding.to_owned(),
        clock_hz,
        fmtp: None,
    }
}

/// `101 telephone-event/8000`
fn rtpmap(media: &mut MediaSection, value: &str) {
    let Some((format, map)) = format_of(media, value) else {
        return;
    };
    let mut parts = map.split('/').map(str::trim_ascii);
    let encoding = parts.next().unwrap_or_default();
    if !encoding.is_empty() {
        format.encoding = encoding.to_owned();
        format.clock_hz = parts.next().and_then(leading_number).unwrap_or(8000);
    }
}

/// `101 0-16`
fn fmtp(media: &mut MediaSection, value: &str) {
    if let Some((format, parameters)) = format_of(media, value) {
        format.fmtp = Some(parameters.to_owned());
    }
}

fn format_of<'m, 'v>(media: &'m mut MediaSection, value: &'v str) -> Option<(&'m mut Format, &'v str)> {
    let (payload_type, rest) = value.split_once([' ', '\t'])?;
    let payload_type: u8 = payload_type.parse().ok()?;
    let format = media
        .formats
        .iter_mut()
        .find(|f| f.payload_type == payload_type)?;
    Some((format, rest.trim_ascii()))
}

/// `53020`, or `53020 IN IP4 126.16.64.4` (RFC 3605 §2.1)
fn rtcp(value: &str) -> Option<(u16, Option<IpAddr>)> {
    let (port, address) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    let port: u16 = port.parse().ok()?;
    (port != 0).then(|| (port, connection(address)))
}

/// `IN IP4 192.0.2.1/127`; names are not resolved.
fn connection(value: &str) -> Option<IpAddr> {
    let address = value.split_ascii_whitespace().nth(2)?;
    address.split('/').next()?.parse().ok()
}

/// The digits that a value starts with: some peers write `20.0`.
fn leading_number(value: &str) -> Option<u32> {
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value.get(..end)?.parse().ok()
}

/// The lines of one audio stream; refused sections are echoed with port 0 (RFC 3264 §6).
impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self
            .media
            .iter()
            .find(|m| m.port != 0)
            .and_then(|m| m.address)
            .or(self.origin)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let origin = self.origin.unwrap_or(shared);
        let (id, version) = (self.session_id, self.version);
        write!(f, "v=0\r\no=- {id} {version} IN {}\r\ns=-\r\n", typed(origin))?;
        write!(f, "c=IN {}\r\nt=0 0\r\n", typed(shared))?;
        for media in &self.media {
            let (kind, protocol) = (plain(&media.kind), plain(&media.protocol));
            if media.port == 0 {
                write!(f, "m={kind} 0 {protocol} {}\r\n", plain(&media.raw_formats))?;
                continue;
            }
            write!(f, "m={kind} {} {protocol}", media.port)?;
            for format in &media.formats {
                write!(f, " {}", format.payload_type)?;
            }
            f.write_str("\r\n")?;
            if let Some(address) = media.address.filter(|address| *address != shared) {
                write!(f, "c=IN {}\r\n", typed(address))?;
            }
            attributes(media, f)?;
        }
        Ok(())
    }
}

fn attributes(media: &MediaSection, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for format in media.formats.iter().filter(|format| format.clock_hz != 0) {
        let (pt, encoding, clock) = (format.payload_type, plain(&format.encoding), format.clock_hz);
        write!(f, "a=rtpmap:{pt} {encoding}/{clock}\r\n")?;
        if let Some(fmtp) = &format.fmtp {
            write!(f, "a=fmtp:{pt} {}\r\n", plain(fmtp))?;
        }
    }
    if let Some(ptime) = media.ptime_ms {
        write!(f, "a=ptime:{ptime}\r\n")?;
    }
    if let Some(maxptime) = media.maxptime_ms {
        write!(f, "a=maxptime:{maxptime}\r\n")?;
    }
    if let Some((port, address)) = media.rtcp {
        write!(f, "a=rtcp:{port}")?;
        if let Some(address) = address {
            write!(f, " IN {}", typed(address))?;
        }
        f.write_str("\r\n")?;
    }
    f.write_str(match media.direction {
        Direction::SendRecv => "a=sendrecv\r\n",
        Direction::SendOnly => "a=sendonly\r\n",
        Direction::RecvOnly => "a=recvonly\r\n",
        Direction::Inactive => "a=inactive\r\n",
    })
}

fn typed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("IP4 {ip}"),
        IpAddr::V6(ip) => format!("IP6 {ip}"),
    }
}

/// Text that was a peer's cannot break out of its line.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Reading over any bytes, for the fuzzer and for tests with mutated bodies: it must not panic, and
/// what is read must survive being printed and negotiated.
pub fn fuzz(body: &[u8]) {
    use super::negotiate::{LocalMedia, accept, answer, offer};
    let Ok(theirs) = SessionDescription::parse(body) else {
        return;
    };
    let printed = theirs.to_string();
    let again = SessionDescription::parse(printed.as_bytes());
    assert!(again.is_ok_and(|again| again.media.len() == theirs.media.len()));
    let local = LocalMedia {
        rtp: std::net::SocketAddr::from(([127, 0, 0, 1], 4000)),
        session_id: 1,
        version: 1,
        direction: Direction::SendRecv,
    };
    if let Ok((ours, _)) = answer(&theirs, &local) {
        assert_eq!(ours.media.len(), theirs.media.len());
    }
    std::hint::black_box(accept(&offer(&local), &theirs).ok());
}
