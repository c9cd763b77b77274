//! Writing requests and responses. Head and body are written by us: rsip damages binary bodies.
//! No value can break out of its line, since control characters become blanks in one place.

use std::net::SocketAddr;

use rsip::headers::UntypedHeader;

use super::{Headers, Malformed, Method, Request};
use crate::sip::{Reason, ReasonProtocol};

/// What User-Agent and Server say.
const PRODUCT: &str = "Cardline";

/// Writes a request; headers stand in the order of the calls.
#[derive(Clone, Debug)]
pub struct RequestBuilder(Writer);

/// Writes a response.
#[derive(Clone, Debug)]
pub struct ResponseBuilder(Writer);

impl RequestBuilder {
    pub fn new(method: &Method, uri: &str) -> RequestBuilder {
        let uri: String = uri.split_ascii_whitespace().collect();
        RequestBuilder(Writer::new(&format!("{} {uri} SIP/2.0", method.as_str())))
    }

    /// Our Via with `rport` (RFC 3581 §3). `sent_by` is our own address as the peer reaches it.
    pub fn via(self, sent_by: SocketAddr, branch: &str) -> RequestBuilder {
        self.header("Via", &format!("SIP/2.0/UDP {sent_by};branch={branch};rport"))
    }

    pub fn cseq(self, number: u32, method: &Method) -> RequestBuilder {
        let value = rsip::headers::CSeq::new(format!("{number} {}", method.as_str()));
        self.typed(&value.into())
    }

    pub fn call_id(self, value: &str) -> RequestBuilder {
        self.typed(&rsip::headers::CallId::new(value).into())
    }

    pub fn max_forwards(self, hops: u8) -> RequestBuilder {
        self.typed(&rsip::headers::MaxForwards::from(u32::from(hops)).into())
    }

    pub fn header(mut self, name: &str, value: &str) -> RequestBuilder {
        self.0.header(name, value);
        self
    }

    /// One line per value, as for Route and Record-Route.
    pub fn headers<T: AsRef<str>>(mut self, name: &str, values: &[T]) -> RequestBuilder {
        values
            .iter()
            .for_each(|value| self.0.header(name, value.as_ref()));
        self
    }

    pub fn reasons(mut self, reasons: &[Reason]) -> RequestBuilder {
        self.0.reasons(reasons);
        self
    }

    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> RequestBuilder {
        self.0.body(content_type, body);
        self
    }

    /// Adds User-Agent and Content-Length.
    pub fn build(mut self) -> Vec<u8> {
        self.0.header("User-Agent", PRODUCT);
        self.0.finish()
    }

    /// A header that rsip names and prints.
    fn typed(mut self, header: &rsip::Header) -> RequestBuilder {
        let line = header.to_string();
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        self.0.header(name, value.trim_ascii());
        self
    }
}

impl ResponseBuilder {
    /// A response to `request` (RFC 3261 §8.2.6): Via with received and rport as the request's
    /// source demands (RFC 3581 §4), From, To, Call-ID, CSeq; Record-Route for a dialog. `to_tag`
    /// is added unless To has one.
    pub fn response_to(
        request: &Request,
        status: u16,
        to_tag: Option<&str>,
        remote: SocketAddr,
    ) -> ResponseBuilder {
        let mut writer = Writer::status(status, reason_phrase(status));
        let headers: &Headers = request;
        let vias = headers.vias_raw().skip(1);
        writer.header("Via", &headers.via().stamped(remote));
        vias.for_each(|via| writer.header("Via", via));
        if (101..=299).contains(&status) {
            let routes = headers.headers("Record-Route");
            routes.for_each(|route| writer.header("Record-Route", route));
        }
        writer.header("From", &headers.from().raw);
        let to = &headers.to().raw;
        match to_tag.filter(|_| headers.to().tag.is_none()) {
            Some(tag) => writer.header("To", &with_tag(to, tag)),
            None => writer.header("To", to),
        }
        writer.header("Call-ID", headers.call_id());
        let (number, method) = headers.cseq();
        writer.header("CSeq", &format!("{number} {}", method.as_str()));
        ResponseBuilder(writer)
    }

    /// The answer to a broken request: its status, and whatever it had of the five headers.
    pub fn malformed(broken: &Malformed, to_tag: &str, remote: SocketAddr) -> ResponseBuilder {
        let phrase = match broken.status {
            400 => format!("Bad Request ({})", broken.reason),
            status => reason_phrase(status).to_owned(),
        };
        let mut writer = Writer::status(broken.status, &phrase);
        for (at, via) in broken.head.values("Via").enumerate().take(MAX_ECHOED) {
            let top = (at == 0).then(|| super::Via::parse(via).ok()).flatten();
            match top {
                Some(top) => writer.header("Via", &top.stamped(remote)),
                None => writer.header("Via", via),
            }
        }
        for name in ["From", "To", "Call-ID", "CSeq"] {
            let Some(value) = broken.head.lines(name).next() else {
                continue;
            };
            let tagged = value.to_ascii_lowercase().contains(";tag=") || name != "To";
            if tagged {
                writer.header(name, value);
            } else {
                writer.header(name, &with_tag(value, to_tag));
            }
        }
        ResponseBuilder(writer)
    }

    pub fn header(mut self, name: &str, value: &str) -> ResponseBuilder {
        self.0.header(name, value);
        self
    }

    pub fn reasons(mut self, reasons: &[Reason]) -> ResponseBuilder {
        self.0.reasons(reasons);
        self
    }

    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> ResponseBuilder {
        self.0.body(content_type, body);
        self
    }

    /// Adds Server and Content-Length.
    pub fn build(mut self) -> Vec<u8> {
        self.0.header("Server", PRODUCT);
        self.0.finish()
    }
}

/// Most Via values echoed to a broken request.
const MAX_ECHOED: usize = 70;

/// A To without brackets would take the tag for a URI parameter, so it gets them.
fn with_tag(to: &str, tag: &str) -> String {
    if to.contains('<') {
        return format!("{to};tag={tag}");
    }
    let (uri, params) = to.split_once(';').unwrap_or((to, ""));
    let semicolon = if params.is_empty() { "" } else { ";" };
    format!("<{}>{semicolon}{params};tag={tag}", uri.trim_ascii())
}

/// `"Display" <uri>`: the display name quoted and escaped, the URI free of brackets and blanks.
pub fn name_addr(display: Option<&str>, uri: &str) -> String {
    let harmless = |c: &char| !(c.is_control() || matches!(c, '<' | '>' | '"' | ' '));
    let uri: String = uri.chars().filter(harmless).collect();
    match display.filter(|name| !name.is_empty()) {
        Some(name) => format!("{} <{uri}>", quoted(name)),
        None => format!("<{uri}>"),
    }
}

/// A quoted string (RFC 3261 §25.1); control characters are left out.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[derive(Clone, Debug)]
struct Writer {
    head: String,
    body: Vec<u8>,
}

impl Writer {
    fn new(start_line: &str) -> Writer {
        let mut writer = Writer {
            head: String::with_capacity(1024),
            body: Vec::new(),
        };
        writer.line(start_line);
        writer
    }

    fn status(status: u16, phrase: &str) -> Writer {
        Writer::new(&format!("SIP/2.0 {status} {phrase}"))
    }

    fn header(&mut self, name: &str, value: &str) {
        self.line(&format!("{name}: {value}"));
    }

    /// The one place where text becomes a line.
    fn line(&mut self, text: &str) {
        let clean = text
            .chars()
            .map(|c| if matches!(c, '\r' | '\n' | '\0') { ' ' } else { c });
        self.head.extend(clean);
        self.head.push_str("\r\n");
    }

    fn reasons(&mut self, reasons: &[Reason]) {
        for reason in reasons {
            let protocol = match reason.protocol {
                ReasonProtocol::Q850 => "Q.850",
                ReasonProtocol::Sip => "SIP",
            };
            let text = reason.text.as_deref().map(quoted);
            let text = text.map(|text| format!(";text={text}")).unwrap_or_default();
            self.header("Reason", &format!("{protocol};cause={}{text}", reason.cause));
        }
    }

    fn body(&mut self, content_type: &str, body: Vec<u8>) {
        self.header("Content-Type", content_type);
        self.body = body;
    }

    fn finish(mut self) -> Vec<u8> {
        self.line(&format!("Content-Length: {}", self.body.len()));
        self.line("");
        let mut bytes = self.head.into_bytes();
        bytes.append(&mut self.body);
        bytes
    }
}

/// The default phrase of a status (RFC 3261 §21 and the IANA table).
pub fn reason_phrase(status: u16) -> &'static str {
    let exact = PHRASES.iter().find(|(code, _)| *code == status);
    exact.map_or(
        match status / 100 {
            1 => "Session Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
        |(_, phrase)| phrase,
    )
}

const PHRASES: [(u16, &str); 45] = [
    (100, "Trying"),
    (180, "Ringing"),
    (181, "Call Is Being Forwarded"),
    (182, "Queued"),
    (183, "Session Progress"),
    (200, "OK"),
    (202, "Accepted"),
    (302, "Moved Temporarily"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"),
    (408, "Request Timeout"),
    (410, "Gone"),
    (413, "Request Entity Too Large"),
    (414, "Request-URI Too Long"),
    (415, "Unsupported Media Type"),
    (416, "Unsupported URI Scheme"),
    (420, "Bad Extension"),
    (421, "Extension Required"),
    (422, "Session Interval Too Small"),
    (423, "Interval Too Brief"),
    (480, "Temporarily Unavailable"),
    (481, "Call/Transaction Does Not Exist"),
    (482, "Loop Detected"),
    (483, "Too Many Hops"),
    (484, "Address Incomplete"),
    (485, "Ambiguous"),
    (486, "Busy Here"),
    (487, "Request Terminated"),
    (488, "Not Acceptable Here"),
    (489, "Bad Event"),
    (491, "Request Pending"),
    (493, "Undecipherable"),
    (500, "Server Internal Error"),
    (501, "Not Implemented"),
    (503, "Service Unavailable"),
    (504, "Server Time-out"),
    (505, "Version Not Supported"),
    (513, "Message Too Large"),
    (600, "Busy Everywhere"),
    (603, "Decline"),
];
