//! Session descriptions: the subset of SDP (RFC 8866) that one audio stream needs, and the
//! offer/answer rules over it (RFC 3264) in [`negotiate`].
//!
//! Deliberately absent: video, ICE, bundling, capability negotiation. Unknown lines are skipped.

#![deny(clippy::indexing_slicing)]

pub mod negotiate;
mod text;

pub use text::{SdpFault, fuzz};

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// An audio codec of ours; `media::codec` has the functions, this has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// G.711 A-law, payload type 8.
    Pcma,
    /// G.711 µ-law, payload type 0.
    Pcmu,
}

/// Which way media may flow, seen from the side whose description it stands in (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// One `a=rtpmap` with its `a=fmtp`, or a static payload type that needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// 0..=127.
    pub payload_type: u8,
    /// The encoding name as written, such as `PCMA` or `telephone-event`; compared without case.
    pub encoding: String,
    pub clock_hz: u32,
    pub fmtp: Option<String>,
}

/// One `m=` section. A refused stream has port 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSection {
    /// `audio`, `video`, `image` ... as written.
    pub kind: String,
    pub port: u16,
    /// `RTP/AVP`, `RTP/SAVP` ... as written.
    pub protocol: String,
    /// The section's own `c=` address, else the session's.
    pub address: Option<IpAddr>,
    /// In the order of the `m=` line; payload types that are not numbers are left out.
    pub formats: Vec<Format>,
    /// Everything after the protocol of the `m=` line, kept so that a refused stream is echoed.
    pub raw_formats: String,
    pub direction: Direction,
    pub ptime_ms: Option<u32>,
    pub maxptime_ms: Option<u32>,
    /// `a=rtcp` (RFC 3605): port, and address if it differs.
    pub rtcp: Option<(u16, Option<IpAddr>)>,
}

/// A whole description, ours or a peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDescription {
    /// `o=` session id and version; a peer's that are no numbers become 0.
    pub session_id: u64,
    pub version: u64,
    /// The address in the `o=` line; of a peer's description nothing depends on it.
    pub origin: Option<IpAddr>,
    pub media: Vec<MediaSection>,
}

/// What one leg's audio stream is, once offer and answer agree: the media plane needs no more.
/// A call's snapshot holds it as it is, so its fields are a promise from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioParams {
    pub codec: Codec,
    /// Payload type to put on what we send (the peer's number for this codec).
    pub send_pt: u8,
    /// Payload type the peer puts on what it sends (ours, where the numbers differ; RFC 3264 §5.1).
    pub receive_pt: u8,
    /// telephone-event payload types (send, receive) at 8000 Hz; `None` if the peer has none.
    pub dtmf: Option<DtmfTypes>,
    /// Where the peer wants its RTP; the latch starts from it.
    pub remote: SocketAddr,
    pub remote_rtcp: SocketAddr,
    /// What we may do: `SendOnly` means the peer will not send (it put us on hold with music), ...
    pub direction: Direction,
    /// Packet length we send, milliseconds: 20 unless the peer's maxptime is lower.
    pub ptime_ms: u32,
}

/// telephone-event payload types of one leg; they may differ per direction (RFC 3264 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtmfTypes {
    pub send_pt: u8,
    pub receive_pt: u8,
}

#[cfg(test)]
mod tests;
