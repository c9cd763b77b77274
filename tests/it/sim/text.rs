//! SIP as a telephone's firmware sees it: lines of text. Shares no code with the stack under test,
//! so that a fault cannot hide by being on both sides.

use std::net::SocketAddr;

/// A message, cut but not understood.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    start: &'a str,
    head: &'a str,
    pub body: &'a str,
}

impl<'a> Text<'a> {
    /// `None` for what is no SIP at all.
    pub fn parse(bytes: &'a [u8]) -> Option<Text<'a>> {
        let whole = std::str::from_utf8(bytes).ok()?;
        let (head, body) = whole.split_once("\r\n\r\n").unwrap_or((whole, ""));
        let (start, head) = head.split_once("\r\n")?;
        start.contains("SIP/2.0").then_some(Text { start, head, body })
    }

    pub fn all(self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head.split("\r\n").filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            Some(rest.strip_prefix(':')?.trim())
        })
    }

    pub fn get(self, name: &'a str) -> &'a str {
        self.all(name).next().unwrap_or("")
    }

    /// `None` for a request.
    pub fn status(self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Of a response: the method in CSeq.
    pub fn method(self) -> &'a str {
        self.get("CSeq").split(' ').nth(1).unwrap_or("")
    }

    pub fn cseq(self) -> u32 {
        let number = self.get("CSeq").split(' ').next();
        number.and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    pub fn call_id(self) -> &'a str {
        self.get("Call-ID")
    }

    pub fn branch(self) -> &'a str {
        after(self.get("Via"), ";branch=")
    }

    /// The tag of From or To; empty if it has none.
    pub fn tag(self, name: &'a str) -> &'a str {
        after(self.get(name), ";tag=")
    }

    /// The address in Contact, without brackets.
    pub fn contact(self) -> &'a str {
        let value = self.get("Contact");
        let inner = value.split_once('<').map_or(value, |(_, rest)| rest);
        inner.split('>').next().unwrap_or(inner)
    }

    /// The audio port of the description in the body.
    pub fn audio_port(self) -> Option<u16> {
        let (_, rest) = self.body.split_once("m=audio ")?;
        rest.split(' ').next()?.parse().ok()
    }

    /// The direction that the description asks for.
    pub fn direction(self) -> &'static str {
        ["sendonly", "recvonly", "inactive"]
            .into_iter()
            .find(|word| self.body.contains(word))
            .unwrap_or("sendrecv")
    }
}

fn after<'a>(value: &'a str, mark: &str) -> &'a str {
    let rest = value.split_once(mark).map_or("", |(_, rest)| rest);
    rest.split([';', '>', ' ']).next().unwrap_or(rest)
}

/// What a telephone offers or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audio {
    /// PCMA, PCMU, telephone-event.
    Good,
    NoDigits,
    /// G.729 only: no common codec.
    Foreign,
    /// No description at all.
    None,
}

pub fn description(addr: SocketAddr, version: u32, audio: Audio, direction: &str) -> String {
    let formats = match audio {
        Audio::Good => {
            "8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtpmap:8 PCMA/8000"
        }
        Audio::NoDigits => "8 0\r\na=rtpmap:8 PCMA/8000",
        Audio::Foreign => "18\r\na=rtpmap:18 G729/8000",
        Audio::None => return String::new(),
    };
    let ip = addr.ip();
    format!(
        "v=0\r\no=phone 7 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP {formats}\r\na={direction}\r\n"
    )
}

/// Closes a head and adds the body.
pub fn finish(mut head: String, body: &str) -> Vec<u8> {
    if !body.is_empty() {
        head.push_str("Content-Type: application/sdp\r\n");
    }
    head.push_str("Content-Length: ");
    head.push_str(&body.len().to_string());
    head.push_str("\r\n\r\n");
    head.push_str(body);
    head.into_bytes()
}

/// A response with the request's own Via, From, Call-ID and CSeq (RFC 3261 §8.2.6).
pub fn response(to: Text<'_>, status: u16, tag: &str, extra: &str, body: &str) -> Vec<u8> {
    let mut head = format!("SIP/2.0 {status} Whatever\r\n");
    for via in to.all("Via") {
        head.push_str(&format!("Via: {via}\r\n"));
    }
    let to_value = to.get("To");
    let tagged = if to_value.contains(";tag=") || tag.is_empty() {
        to_value.to_owned()
    } else {
        format!("{to_value};tag={tag}")
    };
    head.push_str(&format!(
        "From: {}\r\nTo: {tagged}\r\nCall-ID: {}\r\nCSeq: {}\r\n{extra}",
        to.get("From"),
        to.call_id(),
        to.get("CSeq")
    ));
    finish(head, body)
}
