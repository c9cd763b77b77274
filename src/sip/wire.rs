//! From a datagram to a head and a body: limits first, then a line index.
//!
//! The head is copied once, normalised: folded lines are joined, compact names stand for their long
//! ones, text that is no UTF-8 is read as Latin-1 (as old phones mean it). After that each header
//! is a range of one string, and `message` types the values one at a time. Everything here takes
//! time linear in the datagram.
//!
//! Deliberately absent: header values with a meaning (that is `message`), streams (a datagram is one
//! message), the package rsip's own head parser, which reads neither compact names nor folding.

#![deny(clippy::indexing_slicing)]

use std::ops::Range;

/// The largest datagram that is read, bytes: more cannot arrive over UDP.
pub const MAX_DATAGRAM: usize = 65_535;
/// Most header lines of a message, folded ones counted once.
pub const MAX_HEADERS: usize = 256;
/// Longest header line after unfolding, bytes.
pub const MAX_LINE: usize = 8_192;
/// Most Via values: more hops than Max-Forwards allows cannot be honest (RFC 3261 §8.1.1.6).
pub const MAX_VIAS: usize = 70;

/// A datagram cut into head and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub head: Head,
    pub body: Vec<u8>,
    /// The first thing that is wrong with it; what was read before it stands in `head`.
    pub fault: Option<&'static str>,
}

/// Start line and header lines over one normalised text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    text: String,
    start: Range<usize>,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

/// Cuts a datagram into head and body; `None` for keep-alives and what is no SIP at all.
///
/// Content-Length on a datagram: less than there is cuts the rest off, more is a fault
/// (RFC 3261 §18.3).
pub fn frame(bytes: &[u8]) -> Option<Frame> {
    if bytes.len() > MAX_DATAGRAM {
        return None;
    }
    // Empty lines before the start line are keep-alives or padding (RFC 3261 §7.5).
    let lead = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let mut rest = bytes.get(lead..).unwrap_or_default();
    let mut reader = Reader::default();
    let mut ended = false;
    while let Some(at) = rest.iter().position(|&b| b == b'\n') {
        let line = rest.get(..at).unwrap_or_default();
        rest = rest.get(at + 1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            ended = true;
            break;
        }
        if !reader.line(line) {
            return None;
        }
    }
    if !ended {
        if !rest.is_empty() && !reader.line(rest) {
            return None;
        }
        rest = &[];
        reader.note("the head has no end");
    }
    let Reader { head, mut fault } = reader;
    let body = match content_length(&head) {
        Ok(None) => rest,
        Ok(Some(length)) => rest.get(..length).unwrap_or_else(|| {
            fault.get_or_insert("Content-Length beyond the datagram");
            &[]
        }),
        Err(why) => {
            fault.get_or_insert(why);
            &[]
        }
    };
    Some(Frame {
        head,
        body: body.to_vec(),
        fault,
    })
}

fn content_length(head: &Head) -> Result<Option<usize>, &'static str> {
    let mut found = None;
    for line in head.lines("Content-Length") {
        let length = number(line)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or("Content-Length is no number")?;
        if found.is_some_and(|before| before != length) {
            return Err("two different Content-Lengths");
        }
        found = Some(length);
    }
    Ok(found)
}

/// Builds the head line by line.
#[derive(Default)]
struct Reader {
    head: Head,
    fault: Option<&'static str>,
}

impl Reader {
    fn note(&mut self, fault: &'static str) {
        self.fault.get_or_insert(fault);
    }

    /// Takes one line without its end; false if the datagram is no SIP.
    fn line(&mut self, line: &[u8]) -> bool {
        if self.head.start.is_empty() {
            if !looks_like_sip(line) {
                return false;
            }
            self.check_bytes(line);
            self.head.start = self.push(line);
        } else if matches!(line.first(), Some(b' ' | b'\t')) {
            self.fold(line);
        } else {
            self.header(line);
        }
        true
    }

    fn header(&mut self, line: &[u8]) {
        if self.head.lines.len() == MAX_HEADERS {
            return self.note("too many header lines");
        }
        if line.len() > MAX_LINE {
            return self.note("a header line is too long");
        }
        self.check_bytes(line);
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            return self.note("a header line has no colon");
        };
        let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
        if name.is_empty() || !name.iter().copied().all(is_token_byte) {
            return self.note("a header name is no token");
        }
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        let name = self.push(name);
        let value = self.push(value);
        self.head.lines.push(Line { name, value });
    }

    /// Joins a continuation line to the header before it (RFC 3261 §7.3.1).
    fn fold(&mut self, line: &[u8]) {
        self.check_bytes(line);
        let grown = self.head.lines.last().map_or(0, |last| last.value.len());
        if self.head.lines.is_empty() || grown + line.len() > MAX_LINE {
            return self.note("a folded line is too long or continues nothing");
        }
        if grown > 0 {
            self.head.text.push(' ');
        }
        let end = self.push(line.trim_ascii()).end;
        if let Some(last) = self.head.lines.last_mut() {
            last.value.end = end;
        }
    }

    /// A NUL is legal behind a backslash only, a CR at the end of a line only (RFC 3261 §25.1).
    fn check_bytes(&mut self, line: &[u8]) {
        let mut before = 0;
        for &byte in line {
            if byte == b'\r' || byte == 0 && before != b'\\' {
                self.note("a stray control character");
            }
            before = byte;
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.head.text.len();
        match std::str::from_utf8(bytes) {
            Ok(text) => self.head.text.push_str(text),
            Err(_) => self.head.text.extend(bytes.iter().copied().map(char::from)),
        }
        from..self.head.text.len()
    }
}

impl Default for Head {
    fn default() -> Head {
        Head {
            text: String::new(),
            start: 0..0,
            lines: Vec::new(),
        }
    }
}

impl Head {
    pub fn start_line(&self) -> &str {
        self.at(&self.start)
    }

    /// The values of one header, whole lines, in order. `name` is the long name, in any case.
    pub fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines
            .iter()
            .filter(move |line| long_name(self.at(&line.name)).eq_ignore_ascii_case(name))
            .map(|line| self.at(&line.value))
    }

    /// As `lines`, with comma lists split where the header is a list; empty elements are left out.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let is_list = LISTS.iter().any(|list| list.eq_ignore_ascii_case(name));
        self.lines(name)
            .flat_map(move |line| Split {
                rest: Some(line),
                at: if is_list { Some(',') } else { None },
            })
            .filter(|value| !value.is_empty())
    }

    fn at(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

/// The long form of a header name (RFC 3261 §20 and the IANA table); long names pass unchanged.
pub fn long_name(name: &str) -> &str {
    let [letter] = name.as_bytes() else {
        return name;
    };
    match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => name,
    }
}

/// Splits at a character outside quotes and angle brackets; elements are trimmed. Without an end
/// to a quote or bracket the rest is one element.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    rest: Option<&'a str>,
    at: Option<char>,
}

impl<'a> Split<'a> {
    pub fn new(text: &'a str, at: char) -> Split<'a> {
        Split {
            rest: Some(text),
            at: Some(at),
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.take()?;
        let cut = self.at.and_then(|at| find_outside(rest, at));
        let Some((before, after)) = cut.and_then(|cut| rest.split_at_checked(cut)) else {
            return Some(rest.trim_ascii());
        };
        let mut after = after.chars();
        after.next();
        self.rest = Some(after.as_str());
        Some(before.trim_ascii())
    }
}

/// Where `wanted` first stands outside quotes and angle brackets.
pub fn find_outside(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut angled, mut escaped) = (false, false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted {
            escaped = c == '\\';
            quoted = c != '"';
        } else if !angled && c == wanted {
            return Some(at);
        } else if angled {
            angled = c != '>';
        } else {
            quoted = c == '"';
            angled = c == '<';
        }
    }
    None
}

/// Parameters in order: name as written, value without quotes; a flag has none.
pub type Params = Vec<(String, Option<String>)>;

/// `name=value` parameters behind a value: `;a=b;c`.
pub fn params(text: &str) -> Params {
    Split::new(text, ';')
        .filter(|param| !param.is_empty())
        .map(|param| match param.split_once('=') {
            Some((name, value)) => (name.trim_ascii_end().to_owned(), Some(unquote(value))),
            None => (param.to_owned(), None),
        })
        .collect()
}

/// The first parameter of that name, compared without case; a flag gives an empty text.
pub fn param<'a>(params: &'a [(String, Option<String>)], name: &str) -> Option<&'a str> {
    let found = params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_deref().unwrap_or_default())
}

/// A quoted string's content, or the trimmed text itself (RFC 3261 §25.1 quoted-string).
pub fn unquote(text: &str) -> String {
    let text = text.trim_ascii();
    let Some(inner) = text.strip_prefix('"') else {
        return text.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

/// A decimal number of 1..=10 digits that fits 32 bits, nothing around it.
pub fn number(text: &str) -> Option<u32> {
    let plain = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A `token` of RFC 3261 §25.1, not empty.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// A response starts with the version, a request ends with it.
fn looks_like_sip(line: &[u8]) -> bool {
    let version = |text: &[u8]| text.get(..4).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/"));
    let last = line.trim_ascii_end().rsplit(|&b| b == b' ').next();
    version(line) || last.is_some_and(version)
}

/// The whole of reading and answering over any bytes, for the fuzzer and for tests with mutated
/// messages: it must end, must not panic, and what can be read can be answered.
pub fn fuzz(bytes: &[u8]) {
    use crate::sip::message::{Message, NameAddr, Response, ResponseBuilder, WireFault};
    let remote = std::net::SocketAddr::from(([192, 0, 2, 1], 5060));
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(WireFault::Malformed(broken)) => {
            std::hint::black_box(ResponseBuilder::malformed(&broken, "t", remote).build());
            return;
        }
        Err(WireFault::Junk | WireFault::BadResponse) => return,
    };
    let headers = message.headers();
    for value in LISTS.iter().flat_map(|name| headers.headers(name)) {
        std::hint::black_box(NameAddr::parse(value).ok());
    }
    std::hint::black_box((headers.contact(), headers.reasons(), headers.session_expires()));
    std::hint::black_box((headers.content_type(), headers.retry_after(), headers.min_se()));
    std::hint::black_box((crate::sip::auth::challenges(headers), headers.sdp()));
    if let Message::Request(request) = &message {
        let answer = ResponseBuilder::response_to(request, 200, Some("t"), remote).build();
        // An echoed line near the limit may grow beyond it.
        assert!(bytes.len() > MAX_LINE / 2 || Response::parse(&answer).is_some());
    }
}

/// Headers whose value is a comma-separated list. All others are left whole: commas stand inside
/// dates, challenges and free text too.
const LISTS: [&str; 27] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Alert-Info",
    "Allow",
    "Allow-Events",
    "Call-Info",
    "Contact",
    "Content-Encoding",
    "Content-Language",
    "Diversion",
    "Error-Info",
    "History-Info",
    "In-Reply-To",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Path",
    "Proxy-Require",
    "Reason",
    "Record-Route",
    "Remote-Party-ID",
    "Require",
    "Route",
    "Supported",
    "Unsupported",
    "Via",
    "Warning",
];
