//! Descriptions as real peers write them, and what comes of offering and answering.

#![expect(clippy::indexing_slicing, reason = "a test may fail on a bad index")]

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::negotiate::{LocalMedia, NoAudio, accept, answer, follow, is_hold, offer};
use super::*;

/// Name and body of every file in tests/data/sdp.
const BODIES: [(&str, &[u8]); 12] = [
    (
        "trunk",
        include_bytes!("../../tests/data/sdp/trunk_pcma_pcmu_event101.sdp"),
    ),
    (
        "mobile",
        include_bytes!("../../tests/data/sdp/mobile_many_codecs_event_96_97.sdp"),
    ),
    ("srtp", include_bytes!("../../tests/data/sdp/srtp_only.sdp")),
    (
        "static",
        include_bytes!("../../tests/data/sdp/static_types_without_rtpmap_lf.sdp"),
    ),
    (
        "video",
        include_bytes!("../../tests/data/sdp/audio_and_video.sdp"),
    ),
    (
        "sendonly",
        include_bytes!("../../tests/data/sdp/hold_sendonly_at_session_level.sdp"),
    ),
    (
        "zero",
        include_bytes!("../../tests/data/sdp/hold_by_zero_address.sdp"),
    ),
    (
        "inactive",
        include_bytes!("../../tests/data/sdp/hold_inactive_with_media_address.sdp"),
    ),
    (
        "bare",
        include_bytes!("../../tests/data/sdp/no_session_lines_at_all.sdp"),
    ),
    ("g729", include_bytes!("../../tests/data/sdp/g729_only.sdp")),
    (
        "name",
        include_bytes!("../../tests/data/sdp/host_name_in_c_line.sdp"),
    ),
    (
        "refused",
        include_bytes!("../../tests/data/sdp/audio_refused.sdp"),
    ),
];

fn body(name: &str) -> SessionDescription {
    let found = BODIES.iter().find(|(known, _)| *known == name);
    let (_, bytes) = found.expect("the table has that name");
    SessionDescription::parse(bytes).expect("every body of the table is readable")
}

fn local(direction: Direction) -> LocalMedia {
    LocalMedia {
        rtp: SocketAddr::from(([198, 51, 100, 1], 40_000)),
        session_id: 77,
        version: 1,
        direction,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn our_offer_reads_as_it_should() {
    let text = offer(&local(Direction::SendRecv)).to_string();
    let want = "v=0\r\no=- 77 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
        m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
    assert_eq!(text, want);
}

#[test]
fn each_offer_gets_the_answer_of_its_row() {
    use Codec::{Pcma, Pcmu};
    use Direction::{Inactive, RecvOnly, SendRecv};
    // offer, codec, telephone-event, direction, ptime, RTP, RTCP port
    let rows = [
        ("trunk", Pcma, Some(101), SendRecv, 20, "192.0.2.10:17002", 17_003),
        (
            "mobile",
            Pcma,
            Some(96),
            SendRecv,
            20,
            "[2001:db8::5]:49152",
            49_160,
        ),
        ("static", Pcmu, None, SendRecv, 20, "192.0.2.12:5004", 5005),
        ("video", Pcmu, Some(97), SendRecv, 20, "192.0.2.13:49170", 49_171),
        ("sendonly", Pcma, Some(101), RecvOnly, 20, "192.0.2.14:6000", 6001),
        ("zero", Pcma, Some(101), RecvOnly, 20, "0.0.0.0:6000", 6001),
        ("inactive", Pcma, None, Inactive, 20, "192.0.2.15:6000", 6001),
        ("bare", Pcma, None, SendRecv, 10, "192.0.2.16:7000", 7001),
    ];
    for (name, codec, event, direction, ptime_ms, remote, rtcp_port) in rows {
        let (ours, params) = answer(&body(name), &local(SendRecv)).expect(name);
        let remote: SocketAddr = remote.parse().expect("an address");
        let want = AudioParams {
            codec,
            send_pt: if codec == Pcma { 8 } else { 0 },
            receive_pt: if codec == Pcma { 8 } else { 0 },
            dtmf: event.map(|pt| DtmfTypes {
                send_pt: pt,
                receive_pt: pt,
            }),
            remote,
            remote_rtcp: SocketAddr::new(remote.ip(), rtcp_port),
            direction,
            ptime_ms,
        };
        assert_eq!(params, want, "{name}");
        let audio: Vec<_> = ours.media.iter().filter(|m| m.port != 0).collect();
        assert_eq!(audio.len(), 1, "{name}: one stream");
        assert_eq!(audio[0].formats.len(), 1 + usize::from(event.is_some()), "{name}");
        assert_eq!(audio[0].direction, direction, "{name}");
        assert_eq!(ours.media.len(), body(name).media.len(), "{name}");
    }
}

#[test]
fn offers_without_audio_for_us_are_told_apart() {
    for (name, why) in [
        ("srtp", NoAudio::Protocol),
        ("g729", NoAudio::NoCommonCodec),
        ("name", NoAudio::NoAddress),
        ("refused", NoAudio::NoStream),
    ] {
        let refused = answer(&body(name), &local(Direction::SendRecv)).map(|(_, params)| params);
        assert_eq!(refused, Err(why), "{name}");
    }
}

#[test]
fn other_sections_are_echoed_with_port_zero_in_their_place() {
    let (ours, _) = answer(&body("video"), &local(Direction::SendRecv)).expect("usable");
    let text = ours.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 99",
            "m=audio 40000 RTP/AVP 0 97",
            "m=image 0 udptl t38"
        ]
    );
}

#[test]
fn an_answer_with_its_own_numbers_gives_each_direction_its_own() {
    let ours = offer(&local(Direction::SendRecv));
    let theirs = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 9000 RTP/AVP 108 100\r\na=rtpmap:108 pcma/8000\r\na=rtpmap:100 Telephone-Event/8000\r\n\
        a=rtcp:9100 IN IP4 192.0.2.2\r\na=recvonly\r\n";
    let theirs = SessionDescription::parse(theirs).expect("readable");
    let params = accept(&ours, &theirs).expect("usable");
    assert_eq!((params.send_pt, params.receive_pt), (108, 8));
    let dtmf = params.dtmf.expect("both have telephone-event");
    assert_eq!((dtmf.send_pt, dtmf.receive_pt), (100, 101));
    assert_eq!(params.direction, Direction::SendOnly);
    assert_eq!(params.remote_rtcp, SocketAddr::new(ip("192.0.2.2"), 9100));
    assert_eq!(accept(&ours, &body("refused")), Err(NoAudio::NoStream));
    assert_eq!(accept(&ours, &body("g729")), Err(NoAudio::NoCommonCodec));
}

#[test]
fn the_version_grows_only_when_something_changed() {
    let before = offer(&local(Direction::SendRecv));
    let same = follow(&before, offer(&local(Direction::SendRecv)));
    assert_eq!(same, before);
    let held = follow(&before, offer(&local(Direction::SendOnly)));
    assert_eq!((held.session_id, held.version), (77, 2));
}

#[test]
fn hold_is_seen_in_all_its_spellings() {
    for (name, held) in [
        ("trunk", false),
        ("sendonly", true),
        ("zero", true),
        ("inactive", true),
    ] {
        assert_eq!(is_hold(&body(name)), held, "{name}");
    }
}

#[test]
fn what_is_no_description_says_so() {
    for (text, fault) in [
        (&b"hello world"[..], SdpFault::NotSdp),
        (b"", SdpFault::NotSdp),
        (b"v=0\r\nm=audio 65536 RTP/AVP 8\r\n", SdpFault::BadMedia),
        (b"v=0\r\nm=audio 8000\r\n", SdpFault::BadMedia),
        (b"v=0\r\nm=audio -1 RTP/AVP 8\r\n", SdpFault::BadMedia),
    ] {
        assert_eq!(SessionDescription::parse(text), Err(fault));
    }
    let many = "m=audio 8000 RTP/AVP 8\r\n".repeat(17);
    assert_eq!(
        SessionDescription::parse(many.as_bytes()),
        Err(SdpFault::TooLarge)
    );
}

fn any_format() -> impl Strategy<Value = Format> {
    let fmtp = proptest::option::of("[a-z0-9=;-]{1,12}");
    (0u8..=127, "[A-Za-z0-9-]{1,16}", 1u32..200_000, fmtp).prop_map(|(pt, encoding, clock_hz, fmtp)| Format {
        payload_type: pt,
        encoding,
        clock_hz,
        fmtp,
    })
}

fn any_section() -> impl Strategy<Value = MediaSection> {
    let direction = prop_oneof![
        Just(Direction::SendRecv),
        Just(Direction::SendOnly),
        Just(Direction::RecvOnly),
        Just(Direction::Inactive)
    ];
    let formats = proptest::collection::btree_map(0u8..=127, any_format(), 1..8);
    let rtcp = proptest::option::of((1u16.., proptest::option::of(any::<IpAddr>())));
    let times = (proptest::option::of(1u32..200), proptest::option::of(1u32..200));
    (1u16.., any::<IpAddr>(), formats, direction, times, rtcp).prop_map(
        |(port, address, formats, direction, (ptime_ms, maxptime_ms), rtcp)| {
            let formats: Vec<Format> = formats
                .into_iter()
                .map(|(payload_type, format)| Format {
                    payload_type,
                    ..format
                })
                .collect();
            let numbers: Vec<String> = formats.iter().map(|f| f.payload_type.to_string()).collect();
            MediaSection {
                kind: "audio".to_owned(),
                port,
                protocol: "RTP/AVP".to_owned(),
                address: Some(address),
                raw_formats: numbers.join(" "),
                formats,
                direction,
                ptime_ms,
                maxptime_ms,
                rtcp,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_printed_description_is_read_back_the_same(
        media in proptest::collection::vec(any_section(), 0..4),
        session_id: u64, version: u64, origin: IpAddr,
    ) {
        let ours = SessionDescription { session_id, version, origin: Some(origin), media };
        prop_assert_eq!(SessionDescription::parse(ours.to_string().as_bytes()), Ok(ours));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz(&bytes);
    }

    #[test]
    fn any_mutated_body_is_read_without_a_panic(
        which in 0..BODIES.len(),
        edits in proptest::collection::vec((any::<u16>(), any::<u8>(), 0u8..3), 0..12),
    ) {
        let mut body = BODIES[which].1.to_vec();
        for (at, byte, kind) in edits {
            let at = usize::from(at) % (body.len() + 1);
            match kind {
                0 => body.insert(at, byte),
                1 if at < body.len() => body[at] = byte,
                _ if at < body.len() => { body.remove(at); }
                _ => {}
            }
        }
        fuzz(&body);
    }
}
