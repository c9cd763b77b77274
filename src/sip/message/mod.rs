//! Requests and responses: typed getters over the head that `wire` indexed, and builders.
//!
//! A message is kept as it came, and values are typed one at a time. Where the package rsip reads a
//! value rightly it does so (in `typed`); what it refuses or misreads (IPv6, tel:, methods it does
//! not know) is ours. Mandatory headers are checked once, in `parse`, so that their getters cannot
//! fail.
//!
//! Deliberately absent: transactions, dialogs, bodies with a meaning.

#![deny(clippy::indexing_slicing)]

mod body;
mod build;
mod typed;
mod uri;

use std::ops::Deref;

pub use build::{RequestBuilder, ResponseBuilder, name_addr, quoted, reason_phrase};
pub use uri::{BadValue, Host, NameAddr, Rport, Scheme, Uri, Via, unescape};

use super::{Reason, ReasonProtocol};
use crate::sip::wire::{self, Frame, Head};

/// A request's method; compared with case (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Update,
    Info,
    Prack,
    Refer,
    Subscribe,
    Notify,
    Message,
    Register,
    Publish,
    Other(String),
}

impl Method {
    /// `None` if the text is no token.
    pub fn parse(text: &str) -> Option<Method> {
        if let Some((_, known)) = METHODS.iter().find(|(name, _)| *name == text) {
            return Some(known.clone());
        }
        wire::is_token(text).then(|| Method::Other(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        if let Method::Other(name) = self {
            return name;
        }
        let found = METHODS.iter().find(|(_, known)| known == self);
        found.map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torture_tests;

const METHODS: [(&str, Method); 14] = [
    ("INVITE", Method::Invite),
    ("ACK", Method::Ack),
    ("BYE", Method::Bye),
    ("CANCEL", Method::Cancel),
    ("OPTIONS", Method::Options),
    ("UPDATE", Method::Update),
    ("INFO", Method::Info),
    ("PRACK", Method::Prack),
    ("REFER", Method::Refer),
    ("SUBSCRIBE", Method::Subscribe),
    ("NOTIFY", Method::Notify),
    ("MESSAGE", Method::Message),
    ("REGISTER", Method::Register),
    ("PUBLISH", Method::Publish),
];

#[derive(Clone, Debug)]
pub enum Message {
    Request(Request),
    Response(Response),
}

/// A request whose mandatory headers are there and agree with each other.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    headers: Headers,
}

/// A response; `status` is 100..=699.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub reason_phrase: String,
    headers: Headers,
}

/// What requests and responses share: all but the start line.
#[derive(Clone, Debug)]
pub struct Headers {
    head: Head,
    via: Via,
    from: NameAddr,
    to: NameAddr,
    call_id: String,
    cseq: (u32, Method),
    max_forwards: Option<u8>,
    body: Vec<u8>,
}

/// Why a datagram gives no message.
#[derive(Clone, Debug)]
pub enum WireFault {
    /// Nothing that can be answered: keep-alives, no SIP, a broken ACK, a request without Via.
    Junk,
    /// A request to be answered with `status`; `ResponseBuilder::malformed` does it.
    Malformed(Box<Malformed>),
    /// A broken response: dropped (RFC 3261 §18.1.2).
    BadResponse,
}

/// As much of a broken request as its answer needs.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// 400, or 505 for another SIP version.
    pub status: u16,
    /// What is wrong, for the reason phrase and the log.
    pub reason: &'static str,
    head: Head,
}

/// Who refreshes a session (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    Uac,
    Uas,
}

impl Message {
    /// # Errors
    /// See [`WireFault`]; never a panic, whatever the bytes are.
    pub fn parse(bytes: &[u8]) -> Result<Message, WireFault> {
        let frame = wire::frame(bytes).ok_or(WireFault::Junk)?;
        let version = frame.head.start_line().get(..4).unwrap_or_default();
        if version.eq_ignore_ascii_case("SIP/") {
            let response = response(frame).map_err(|_| WireFault::BadResponse)?;
            return Ok(Message::Response(response));
        }
        let head = frame.head.clone();
        request(frame).map(Message::Request).map_err(|broken| {
            // An ACK is never answered, and without Via an answer has no address (§18.2.2).
            let ack = head.start_line().starts_with("ACK ");
            if ack || head.values("Via").next().is_none() {
                return WireFault::Junk;
            }
            WireFault::Malformed(Box::new(Malformed {
                status: broken.status,
                reason: broken.reason,
                head,
            }))
        })
    }

    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }
}

/// Requests and responses are read alike; only the start line differs.
impl Deref for Request {
    type Target = Headers;
    fn deref(&self) -> &Headers {
        &self.headers
    }
}

impl Deref for Response {
    type Target = Headers;
    fn deref(&self) -> &Headers {
        &self.headers
    }
}

impl Request {
    /// Reads one request; the endpoint uses `Message::parse`, tests and resends this.
    pub fn parse(bytes: &[u8]) -> Option<Request> {
        match Message::parse(bytes) {
            Ok(Message::Request(request)) => Some(request),
            Ok(Message::Response(_)) | Err(_) => None,
        }
    }
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Option<Response> {
        match Message::parse(bytes) {
            Ok(Message::Response(response)) => Some(response),
            Ok(Message::Request(_)) | Err(_) => None,
        }
    }
}

impl Headers {
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// Every Via value in order, as it came.
    pub fn vias_raw(&self) -> impl Iterator<Item = &str> {
        self.head.values("Via")
    }

    pub fn from(&self) -> &NameAddr {
        &self.from
    }

    pub fn to(&self) -> &NameAddr {
        &self.to
    }

    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Number and method; the number is below 2^31 (RFC 3261 §8.1.1.5).
    pub fn cseq(&self) -> (u32, &Method) {
        (self.cseq.0, &self.cseq.1)
    }

    /// The first value of a header by its long name: one list element, or the whole line.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.head.values(name).next()
    }

    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head.values(name)
    }

    /// Cut to Content-Length.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// `application/sdp`: type and subtype in lower case, without parameters.
    pub fn content_type(&self) -> Option<String> {
        self.header("Content-Type").map(typed::media_type)
    }

    /// The first Contact's URI; `None` if there is none, it is `*` or unreadable.
    pub fn contact(&self) -> Option<Uri> {
        let value = self.header("Contact")?;
        NameAddr::parse(value).ok().map(|contact| contact.uri)
    }

    /// Record-Route values in order, with their brackets and parameters.
    pub fn record_routes(&self) -> Vec<String> {
        self.headers("Record-Route").map(str::to_owned).collect()
    }

    pub fn routes(&self) -> Vec<String> {
        self.headers("Route").map(str::to_owned).collect()
    }

    /// `None` if the header is absent, which is tolerated (interop.md I13).
    pub fn max_forwards(&self) -> Option<u8> {
        self.max_forwards
    }

    /// Option tags that the peer insists on.
    pub fn require(&self) -> impl Iterator<Item = &str> {
        self.headers("Require")
    }

    pub fn supported(&self) -> impl Iterator<Item = &str> {
        self.headers("Supported")
    }

    pub fn supports(&self, option: &str) -> bool {
        self.supported().any(|known| known.eq_ignore_ascii_case(option))
    }

    /// Whether Allow names the method; false if there is no Allow.
    pub fn allows(&self, method: &Method) -> bool {
        self.headers("Allow").any(|known| known == method.as_str())
    }

    /// Seconds and refresher (RFC 4028 §4).
    pub fn session_expires(&self) -> Option<(u32, Option<Refresher>)> {
        let (seconds, params) = number_with_params(self.header("Session-Expires")?)?;
        let refresher = wire::param(&params, "refresher").and_then(|who| match who {
            who if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            who if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            _ => None,
        });
        Some((seconds, refresher))
    }

    /// Seconds (RFC 4028 §5).
    pub fn min_se(&self) -> Option<u32> {
        number_with_params(self.header("Min-SE")?).map(|(seconds, _)| seconds)
    }

    /// Seconds; a comment and parameters behind them are skipped (RFC 3261 §20.33).
    pub fn retry_after(&self) -> Option<u32> {
        let value = self.header("Retry-After")?;
        let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
        wire::number(digits)
    }

    /// The reasons of protocols that we know, in order (RFC 3326).
    pub fn reasons(&self) -> Vec<Reason> {
        self.headers("Reason").filter_map(reason).collect()
    }
}

fn reason(value: &str) -> Option<Reason> {
    let (protocol, params) = value.split_once(';')?;
    let protocol = match protocol.trim_ascii() {
        p if p.eq_ignore_ascii_case("Q.850") => ReasonProtocol::Q850,
        p if p.eq_ignore_ascii_case("SIP") => ReasonProtocol::Sip,
        _ => return None,
    };
    let params = wire::params(params);
    let cause = wire::param(&params, "cause").and_then(wire::number)?;
    let text = wire::param(&params, "text").filter(|text| !text.is_empty());
    Some(Reason {
        protocol,
        cause: u16::try_from(cause).ok()?,
        text: text.map(str::to_owned),
    })
}

fn number_with_params(value: &str) -> Option<(u32, wire::Params)> {
    let (number, params) = value.split_once(';').unwrap_or((value, ""));
    Some((wire::number(number.trim_ascii())?, wire::params(params)))
}

/// What is wrong with a message, and the status that says so.
struct Broken {
    status: u16,
    reason: &'static str,
}

impl From<&'static str> for Broken {
    fn from(reason: &'static str) -> Broken {
        Broken { status: 400, reason }
    }
}

impl From<BadValue> for Broken {
    fn from(bad: BadValue) -> Broken {
        bad.0.into()
    }
}

fn request(frame: Frame) -> Result<Request, Broken> {
    let mut words = frame.head.start_line().split(' ');
    let (Some(method), Some(uri), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a request line of other than three words".into());
    };
    let method = Method::parse(method).ok_or("a method that is no token")?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(Broken {
            status: 505,
            reason: "another SIP version",
        });
    }
    let uri = Uri::parse(uri)?;
    let headers = common(frame)?;
    if headers.cseq.1 != method {
        return Err("CSeq names another method".into());
    }
    for contact in headers.headers("Contact").filter(|&contact| contact != "*") {
        NameAddr::parse(contact)?;
    }
    Ok(Request { method, uri, headers })
}

fn response(frame: Frame) -> Result<Response, Broken> {
    let start = frame.head.start_line();
    let (version, rest) = start.split_once(' ').ok_or("a status line of one word")?;
    let (status, phrase) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = wire::number(status).and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (100..=699).contains(status));
    let status = status.ok_or("a status out of 100..=699")?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err("another SIP version".into());
    }
    let reason_phrase = phrase.to_owned();
    Ok(Response {
        status,
        reason_phrase,
        headers: common(frame)?,
    })
}

/// Checks what every message must have exactly once (RFC 3261 §8.1.1).
fn common(frame: Frame) -> Result<Headers, Broken> {
    let Frame { head, body, fault } = frame;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    if head.values("Via").count() > wire::MAX_VIAS {
        return Err("too many Via values".into());
    }
    let vias = head
        .values("Via")
        .map(Via::parse)
        .collect::<Result<Vec<_>, _>>()?;
    let via = vias.into_iter().next().ok_or("no Via")?;
    let from = NameAddr::parse(single(&head, "From", "no From, or two")?)?;
    let to = NameAddr::parse(single(&head, "To", "no To, or two")?)?;
    let call_id = single(&head, "Call-ID", "no Call-ID, or two")?.to_owned();
    if call_id.contains(|c: char| c.is_ascii_whitespace()) {
        return Err("a Call-ID with blanks".into());
    }
    let cseq = typed::cseq(single(&head, "CSeq", "no CSeq, or two")?).ok_or("an unreadable CSeq")?;
    let max_forwards = match head.lines("Max-Forwards").count() {
        0 => None,
        _ => {
            let hops = wire::number(single(&head, "Max-Forwards", "two Max-Forwards")?);
            let hops = hops.and_then(|hops| u8::try_from(hops).ok());
            Some(hops.ok_or("Max-Forwards out of 0..=255")?)
        }
    };
    Ok(Headers {
        head,
        via,
        from,
        to,
        call_id,
        cseq,
        max_forwards,
        body,
    })
}

fn single<'a>(head: &'a Head, name: &'a str, otherwise: &'static str) -> Result<&'a str, Broken> {
    let mut lines = head.lines(name);
    match (lines.next(), lines.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value),
        (Some(_) | None, _) => Err(otherwise.into()),
    }
}
