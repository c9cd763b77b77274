//! Bodies of INVITE, ACK, UPDATE and their responses: a session description or nothing.

use crate::sdp::SessionDescription;
use crate::sip::message::Headers;

/// What stands in the body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Empty,
    Description(SessionDescription),
    /// `application/sdp` that cannot be read.
    Unreadable,
    /// Another content type.
    Foreign,
}

impl Body {
    pub fn of(headers: &Headers) -> Body {
        if headers.body().is_empty() {
            return Body::Empty;
        }
        match headers.sdp().map(SessionDescription::parse) {
            Some(Ok(description)) => Body::Description(description),
            Some(Err(_)) => Body::Unreadable,
            None => Body::Foreign,
        }
    }

    pub fn description(self) -> Option<SessionDescription> {
        match self {
            Body::Description(description) => Some(description),
            Body::Empty | Body::Unreadable | Body::Foreign => None,
        }
    }
}

pub const SDP_TYPE: &str = "application/sdp";

pub fn print(description: &SessionDescription) -> Vec<u8> {
    description.to_string().into_bytes()
}
