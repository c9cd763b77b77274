//! Offer and answer over one audio stream (RFC 3264): which codec, which telephone-event, which way.
//!
//! Pure functions over descriptions. Deliberately absent: whose turn it is (that is
//! `sip/offer_answer`), SRTP, codecs other than G.711.

use std::net::SocketAddr;

use super::{AudioParams, Codec, Direction, DtmfTypes, Format, MediaSection, SessionDescription};

/// Our side of one leg's audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// Where we want RTP; RTCP is one port above.
    pub rtp: SocketAddr,
    /// The `o=` line's session id and version.
    pub session_id: u64,
    pub version: u64,
    /// What we are willing to do; an answer may come out narrower.
    pub direction: Direction,
}

/// Why there is no audio between two descriptions; all of them mean 488.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAudio {
    #[error("no audio section, or a refused one")]
    NoStream,
    /// RTP/SAVP and others.
    #[error("audio over another protocol than RTP/AVP")]
    Protocol,
    #[error("neither PCMA nor PCMU")]
    NoCommonCodec,
    /// No `c=` line, or a host name in it.
    #[error("no address for the audio")]
    NoAddress,
}

/// Our offer: PCMA, PCMU and telephone-event, 20 ms.
pub fn offer(local: &LocalMedia) -> SessionDescription {
    let formats = vec![
        codec_format(Codec::Pcma, 8),
        codec_format(Codec::Pcmu, 0),
        event_format(OUR_EVENT_TYPE, None),
    ];
    description(local, vec![section(local, formats, local.direction, PTIME_MS)])
}

/// Our answer: exactly one codec, the first of ours in the offer's order (interop.md I26; RFC 3264
/// §6.1), telephone-event under the offered number, every other section refused.
///
/// # Errors
/// See [`NoAudio`].
pub fn answer(
    offer: &SessionDescription,
    local: &LocalMedia,
) -> Result<(SessionDescription, AudioParams), NoAudio> {
    let mut refusal = NoAudio::NoStream;
    let mut chosen = None;
    for (place, theirs) in offer.media.iter().enumerate() {
        match usable(theirs) {
            Ok(found) => {
                chosen = Some((place, theirs, found));
                break;
            }
            // The first audio section's trouble says more than a later video section's.
            Err(why) if refusal == NoAudio::NoStream => refusal = why,
            Err(_) => {}
        }
    }
    let (chosen_place, theirs, (codec, payload_type)) = chosen.ok_or(refusal)?;
    let event = event_of(theirs);
    let direction = narrow(mirror(effective_direction(theirs)), local.direction);
    let ptime_ms = ptime_for(theirs);
    let mut formats = vec![codec_format(codec, payload_type)];
    formats.extend(event.map(|event| event_format(event.payload_type, event.fmtp.as_deref())));
    let ours = section(local, formats, direction, ptime_ms);
    let media = offer.media.iter().enumerate();
    let media = media.map(|(place, theirs)| {
        if place == chosen_place {
            ours.clone()
        } else {
            refused(theirs)
        }
    });
    let (remote, remote_rtcp) = addresses(theirs)?;
    let params = AudioParams {
        codec,
        send_pt: payload_type,
        receive_pt: payload_type,
        dtmf: event.map(|event| DtmfTypes {
            send_pt: event.payload_type,
            receive_pt: event.payload_type,
        }),
        remote,
        remote_rtcp,
        direction,
        ptime_ms,
    };
    Ok((description(local, media.collect()), params))
}

/// Reads the answer to our offer. Payload types may differ per direction: we send the peer's
/// numbers and receive our own (RFC 3264 §6.1, §7).
///
/// # Errors
/// See [`NoAudio`]; the leg then ends the call, since an answer cannot be refused.
pub fn accept(our_offer: &SessionDescription, answer: &SessionDescription) -> Result<AudioParams, NoAudio> {
    let is_audio = |section: &&MediaSection| section.kind.eq_ignore_ascii_case("audio");
    let ours = our_offer.media.iter().find(is_audio).ok_or(NoAudio::NoStream)?;
    let place = our_offer.media.iter().position(|section| section == ours);
    let theirs = place.and_then(|place| answer.media.get(place));
    let theirs = theirs.ok_or(NoAudio::NoStream)?;
    let (codec, send_pt) = usable(theirs)?;
    let receive_pt = ours.formats.iter().find(|format| codec_of(format) == Some(codec));
    let receive_pt = receive_pt.ok_or(NoAudio::NoCommonCodec)?.payload_type;
    let dtmf = event_of(theirs)
        .zip(event_of(ours))
        .map(|(theirs, ours)| DtmfTypes {
            send_pt: theirs.payload_type,
            receive_pt: ours.payload_type,
        });
    let (remote, remote_rtcp) = addresses(theirs)?;
    Ok(AudioParams {
        codec,
        send_pt,
        receive_pt,
        dtmf,
        remote,
        remote_rtcp,
        direction: narrow(mirror(effective_direction(theirs)), ours.direction),
        ptime_ms: ptime_for(theirs),
    })
}

/// A later description of ours in the same dialog: the session id stays, and the version grows by
/// one exactly when something else changed (RFC 3264 §8).
pub fn follow(before: &SessionDescription, mut next: SessionDescription) -> SessionDescription {
    next.session_id = before.session_id;
    next.version = before.version;
    if next != *before {
        next.version = before.version.wrapping_add(1);
    }
    next
}

/// Whether the peer of this description has put us on hold: it will not listen to us.
pub fn is_hold(theirs: &SessionDescription) -> bool {
    let audio = theirs.media.iter().find(|section| usable(section).is_ok());
    audio.is_some_and(|section| match effective_direction(section) {
        Direction::SendOnly | Direction::Inactive => true,
        Direction::SendRecv | Direction::RecvOnly => false,
    })
}

/// What we send unless the peer's maxptime is lower.
const PTIME_MS: u32 = 20;
/// The shortest packet that we make.
const LEAST_PTIME_MS: u32 = 10;
const OUR_EVENT_TYPE: u8 = 101;
const OUR_EVENTS: &str = "0-16";

/// The first codec of ours in a section that we can use at all.
fn usable(theirs: &MediaSection) -> Result<(Codec, u8), NoAudio> {
    if !theirs.kind.eq_ignore_ascii_case("audio") || theirs.port == 0 {
        return Err(NoAudio::NoStream);
    }
    if !theirs.protocol.eq_ignore_ascii_case("RTP/AVP") {
        return Err(NoAudio::Protocol);
    }
    let mut codecs = theirs.formats.iter();
    let found = codecs.find_map(|format| Some((codec_of(format)?, format.payload_type)));
    let found = found.ok_or(NoAudio::NoCommonCodec)?;
    addresses(theirs).map(|_| found)
}

fn codec_of(format: &Format) -> Option<Codec> {
    let named = |name: &str| format.encoding.eq_ignore_ascii_case(name) && format.clock_hz == 8000;
    if named("PCMA") {
        Some(Codec::Pcma)
    } else if named("PCMU") {
        Some(Codec::Pcmu)
    } else {
        None
    }
}

/// telephone-event at the audio's clock rate; those at 16 or 48 kHz are for other codecs.
fn event_of(section: &MediaSection) -> Option<&Format> {
    let mut formats = section.formats.iter();
    formats.find(|f| f.encoding.eq_ignore_ascii_case("telephone-event") && f.clock_hz == 8000)
}

fn addresses(theirs: &MediaSection) -> Result<(SocketAddr, SocketAddr), NoAudio> {
    let address = theirs.address.ok_or(NoAudio::NoAddress)?;
    let above = theirs.port.checked_add(1).unwrap_or(theirs.port);
    let (rtcp_port, rtcp_address) = theirs.rtcp.unwrap_or((above, None));
    let rtcp = SocketAddr::new(rtcp_address.unwrap_or(address), rtcp_port);
    Ok((SocketAddr::new(address, theirs.port), rtcp))
}

/// The peer's direction; the address 0.0.0.0 is the old way to say "send me nothing" (RFC 3264
/// §8.4).
fn effective_direction(theirs: &MediaSection) -> Direction {
    if theirs.address.is_some_and(|address| address.is_unspecified()) {
        narrow(theirs.direction, Direction::SendOnly)
    } else {
        theirs.direction
    }
}

/// The same flow seen from the other side (RFC 3264 §6.1).
fn mirror(direction: Direction) -> Direction {
    match direction {
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        same @ (Direction::SendRecv | Direction::Inactive) => same,
    }
}

/// What both allow.
fn narrow(one: Direction, other: Direction) -> Direction {
    match (one, other) {
        (Direction::SendRecv, both) | (both, Direction::SendRecv) => both,
        (Direction::SendOnly, Direction::SendOnly) => Direction::SendOnly,
        (Direction::RecvOnly, Direction::RecvOnly) => Direction::RecvOnly,
        (Direction::SendOnly | Direction::RecvOnly | Direction::Inactive, _) => Direction::Inactive,
    }
}

fn ptime_for(theirs: &MediaSection) -> u32 {
    let most = theirs.maxptime_ms.unwrap_or(PTIME_MS).min(PTIME_MS);
    (most / LEAST_PTIME_MS * LEAST_PTIME_MS).max(LEAST_PTIME_MS)
}

fn codec_format(codec: Codec, payload_type: u8) -> Format {
    let encoding = match codec {
        Codec::Pcma => "PCMA",
        Codec::Pcmu => "PCMU",
    };
    Format {
        payload_type,
        encoding: encoding.to_owned(),
        clock_hz: 8000,
        fmtp: None,
    }
}

/// An offer of fewer events than ours is answered with those (RFC 4733 §2.4.1).
fn event_format(payload_type: u8, offered: Option<&str>) -> Format {
    let events = offered.filter(|events| matches!(*events, "0-11" | "0-15"));
    Format {
        payload_type,
        encoding: "telephone-event".to_owned(),
        clock_hz: 8000,
        fmtp: Some(events.unwrap_or(OUR_EVENTS).to_owned()),
    }
}

fn section(local: &LocalMedia, formats: Vec<Format>, direction: Direction, ptime_ms: u32) -> MediaSection {
    let numbers: Vec<String> = formats.iter().map(|f| f.payload_type.to_string()).collect();
    MediaSection {
        kind: "audio".to_owned(),
        port: local.rtp.port(),
        protocol: "RTP/AVP".to_owned(),
        address: Some(local.rtp.ip()),
        formats,
        raw_formats: numbers.join(" "),
        direction,
        ptime_ms: Some(ptime_ms),
        maxptime_ms: None,
        rtcp: None,
    }
}

/// The same section with port 0 (RFC 3264 §6).
fn refused(theirs: &MediaSection) -> MediaSection {
    MediaSection {
        port: 0,
        address: None,
        rtcp: None,
        ..theirs.clone()
    }
}

fn description(local: &LocalMedia, media: Vec<MediaSection>) -> SessionDescription {
    SessionDescription {
        session_id: local.session_id,
        version: local.version,
        origin: Some(local.rtp.ip()),
        media,
    }
}
