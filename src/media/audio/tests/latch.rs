//! The latch against an attacker: bleed (be sent to), inject (be heard), spray (every port), before
//! and during the call and after a re-INVITE; and the watch over a peer that falls silent.

use std::net::SocketAddr;
use std::time::Duration;

use super::bench::*;
use crate::ids::Side;
use crate::media::audio::AudioInput;
use crate::media::dtmf::EventPayload;
use crate::media::rtcp;
use crate::media::{LegStats, MediaCommand, MediaEvent};
use crate::sdp::{AudioParams, Codec, Direction};

const STRANGER: &str = "203.0.113.66:7000";

fn attacker(from: &str) -> Phone {
    let mut phone = Phone::new(Side::A, Codec::Pcma);
    phone.from = address(from);
    phone.ssrc = 0x6666;
    phone.seq = 100;
    phone
}

fn injected(bench: &Bench) -> usize {
    bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [66; 160])
        .count()
}

fn sent_to(bench: &Bench, to: SocketAddr) -> usize {
    bench.line(Side::A).iter().filter(|sent| sent.to == to).count()
}

fn close(bench: &mut Bench) -> LegStats {
    bench.order(Side::A, &MediaCommand::Close);
    let stats = bench.events_of(Side::A).into_iter().find_map(|event| {
        let MediaEvent::Closed(stats) = event else {
            return None;
        };
        Some(stats.clone())
    });
    stats.expect("Close is answered")
}

fn bridged(remote: Option<&str>) -> Bench {
    let mut bench = Bench::new();
    let mut audio = params(Side::A, Codec::Pcma);
    if let Some(remote) = remote {
        audio.remote = address(remote);
    }
    bench.open(Side::A, audio);
    bench.open(Side::B, params(Side::B, Codec::Pcma));
    bench.order(Side::A, &MediaCommand::Bridge);
    bench
}

#[test]
fn a_stranger_is_neither_heard_nor_sent_to_before_or_during_the_call() {
    let mut bench = bridged(None);
    let mut stranger = attacker(STRANGER);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut stranger, 66, 300);
    bench.talk(&mut caller, 1, 50);
    for _ in 0..100 {
        stranger.speak(&mut bench, &[66; 160]);
        bench.talk(&mut caller, 1, 1);
    }
    bench.order(
        Side::A,
        &MediaCommand::Update {
            audio: params(Side::A, Codec::Pcma),
        },
    );
    bench.talk(&mut stranger, 66, 100);
    caller.time = caller.time.wrapping_add(100 * 160);
    bench.talk(&mut caller, 1, 50);
    assert_eq!(injected(&bench), 0);
    assert_eq!(sent_to(&bench, stranger.from), 0);
    let talk = bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [1; 160])
        .count();
    assert_eq!(talk, 200);
    let stats = close(&mut bench);
    assert_eq!((stats.foreign, stats.received, stats.lost), (500, 200, 0));
}

#[test]
fn another_port_of_the_same_host_is_believed_after_probation_only_while_the_true_one_is_silent() {
    let mut bench = bridged(None);
    let mut translated = attacker("198.51.100.1:49152");
    bench.talk(&mut translated, 66, 3);
    assert_eq!(injected(&bench), 0, "three packets are too few");
    bench.talk(&mut translated, 66, 20);
    assert_eq!(injected(&bench), 19, "the fifth is heard");
    assert!(sent_to(&bench, translated.from) > 0);
    // The party that the SDP names turns up: it is heard from its first packet on.
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    let before = injected(&bench);
    for _ in 0..50 {
        translated.speak(&mut bench, &[66; 160]);
        bench.talk(&mut caller, 1, 1);
    }
    assert!(injected(&bench) <= before + 1);
    let talk = bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [1; 160])
        .count();
    assert!(talk >= 49, "{talk}");
    assert_eq!(bench.line(Side::A).last().unwrap().to, remote(Side::A));
    bench.check_line(Side::B);
}

#[test]
fn a_burst_is_no_probation_and_neither_are_gaps() {
    let mut bench = bridged(None);
    let mut burst = attacker("198.51.100.1:49152");
    for _ in 0..200 {
        burst.speak(&mut bench, &[66; 160]);
    }
    assert_eq!(injected(&bench), 0);
    let mut gaps = attacker("198.51.100.1:49153");
    for _ in 0..100 {
        gaps.lose(160);
        bench.talk(&mut gaps, 66, 1);
    }
    assert_eq!(injected(&bench), 0);
}

#[test]
fn a_private_address_in_the_sdp_lets_the_translated_source_in() {
    let mut bench = bridged(Some("192.168.1.20:5004"));
    let mut translated = attacker("203.0.113.9:31000");
    bench.talk(&mut translated, 66, 10);
    assert!(injected(&bench) > 0);
    assert_eq!(bench.line(Side::A).last().unwrap().to, translated.from);
    // A re-INVITE with the same address: the proved source goes on without a break, while a
    // stranger who speaks between its packets wins nothing.
    let mut audio = params(Side::A, Codec::Pcma);
    audio.remote = address("192.168.1.20:5004");
    bench.order(Side::A, &MediaCommand::Update { audio });
    let mut stranger = attacker(STRANGER);
    stranger.ssrc = 0x7777;
    let before = injected(&bench);
    for _ in 0..50 {
        for _ in 0..10 {
            stranger.speak(&mut bench, &[67; 160]);
        }
        bench.talk(&mut translated, 66, 1);
    }
    assert_eq!(injected(&bench), before + 50);
    assert_eq!(sent_to(&bench, stranger.from), 0);
}

#[test]
fn a_spray_over_many_ports_latches_nothing() {
    let mut bench = bridged(None);
    for port in 10_000..12_000_u16 {
        let mut one = attacker("198.51.100.1:1");
        one.from.set_port(port);
        one.speak(&mut bench, &[66; 160]);
        bench.pass(Duration::from_millis(1));
    }
    assert_eq!(injected(&bench), 0);
    assert!(bench.line(Side::A).iter().all(|sent| sent.to == remote(Side::A)));
}

#[test]
fn foreign_and_spoofed_events_give_no_digit() {
    let mut bench = Bench::opened(Codec::Pcma);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 10);
    let event = EventPayload {
        event: 5,
        end: false,
        volume: 10,
        duration: 160,
    }
    .to_bytes();
    let (mut stranger, mut spoofer) = (attacker(STRANGER), attacker(STRANGER));
    // The spoofer forges the true address, but knows neither SSRC nor sequence number.
    spoofer.from = remote(Side::A);
    let mut guesser = attacker(STRANGER);
    guesser.from = remote(Side::A);
    guesser.ssrc = caller.ssrc;
    guesser.seq = caller.seq.wrapping_add(20_000);
    for _ in 0..100 {
        for phone in [&mut stranger, &mut spoofer, &mut guesser] {
            let bytes = phone.packet(101, &event);
            bench.rtp(Side::A, phone.from, &bytes);
            phone.time = phone.time.wrapping_add(1_600);
            guesser_skips(phone);
        }
        bench.talk(&mut caller, 1, 1);
    }
    assert!(
        !bench
            .events
            .iter()
            .any(|(.., event)| matches!(event, MediaEvent::Digit(_)))
    );
}

/// A guesser cannot count on: two in a row are what it does not get past the true stream.
fn guesser_skips(phone: &mut Phone) {
    phone.seq = phone.seq.wrapping_add(7);
}

#[test]
fn junk_from_anyone_ends_nothing_and_breaks_no_talk() {
    let mut bench = bridged(None);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    let handshake = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80, 1, 0, 0, 68];
    let stun = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    let bye = [0x81, 203, 0, 1, 0, 0, 0x10, 0];
    for n in 0..200_u8 {
        for from in [remote(Side::A), address(STRANGER)] {
            for bytes in [&handshake[..], &stun, &bye, &[n; 7], &[0x80; 12], &[]] {
                bench.rtp(Side::A, from, bytes);
                bench.feed(AudioInput::Rtcp {
                    side: Side::A,
                    from,
                    bytes,
                });
            }
        }
        bench.talk(&mut caller, 1, 1);
    }
    let talk = bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [1; 160])
        .count();
    assert_eq!(talk, 200);
    assert!(bench.longest_gap(Side::B) <= Duration::from_millis(40));
    bench.check_line(Side::B);
}

#[test]
fn a_new_ssrc_of_the_peer_is_heard_after_three_packets() {
    let mut bench = bridged(None);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 20);
    caller.ssrc = 99;
    caller.seq = 40_000;
    caller.time = 5;
    bench.talk(&mut caller, 2, 20);
    let talk = bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [2; 160])
        .count();
    assert_eq!(talk, 18);
    bench.check_line(Side::B);
    let stats = close(&mut bench);
    assert_eq!((stats.received, stats.lost), (38, 0));
}

#[test]
fn an_update_moves_to_the_new_address() {
    let mut bench = bridged(None);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 20);
    let audio = AudioParams {
        remote: address("198.51.100.77:6000"),
        ..params(Side::A, Codec::Pcma)
    };
    bench.order(Side::A, &MediaCommand::Update { audio });
    bench.pass_ms(20);
    assert_eq!(
        bench.line(Side::A).last().unwrap().to,
        address("198.51.100.77:6000")
    );
    caller.from = address("198.51.100.77:6000");
    bench.talk(&mut caller, 2, 20);
    let talk = bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [2; 160])
        .count();
    assert_eq!(talk, 20);
    bench.check_line(Side::A);
    bench.check_line(Side::B);
}

#[test]
fn loss_is_told_once_and_return_too() {
    let mut bench = Bench::opened(Codec::Pcma);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 10);
    let last = bench.now - Duration::from_millis(20);
    bench.pass_ms(60_000);
    bench.talk(&mut caller, 1, 10);
    let expected = [
        MediaEvent::FirstPacket,
        MediaEvent::Lost { last_packet: last },
        MediaEvent::Back,
    ];
    assert_eq!(bench.events_of(Side::A), expected.iter().collect::<Vec<_>>());
    let (_, at, _) = bench
        .events
        .iter()
        .find(|(side, _, event)| *side == Side::A && *event == expected[1])
        .unwrap();
    assert_eq!(at.since(last), Duration::from_secs(20));
}

#[test]
fn reports_of_the_peer_and_comfort_noise_are_signs_of_life() {
    let mut bench = Bench::opened(Codec::Pcma);
    let mut report = Vec::new();
    let (sender, reception, last_report) = (None, None, None);
    rtcp::write_report(
        &rtcp::Report {
            ssrc: 1,
            sender,
            reception,
            last_report,
            cname: "x",
            bye: false,
        },
        &mut report,
    );
    let mut advisor = Phone::new(Side::B, Codec::Pcma);
    for _ in 0..10 {
        let from = params(Side::A, Codec::Pcma).remote_rtcp;
        bench.feed(AudioInput::Rtcp {
            side: Side::A,
            from,
            bytes: &report,
        });
        let noise = advisor.packet(13, &[60]);
        bench.rtp(Side::B, advisor.from, &noise);
        bench.pass_ms(15_000);
    }
    assert_eq!(bench.events_of(Side::A), [&MediaEvent::FirstPacket]);
    assert_eq!(bench.events_of(Side::B), [&MediaEvent::FirstPacket]);
}

#[test]
fn a_peer_that_may_not_send_is_not_missed() {
    for direction in [Direction::SendOnly, Direction::Inactive] {
        let mut bench = Bench::new();
        bench.open(Side::A, params(Side::A, Codec::Pcma));
        let held = AudioParams {
            direction,
            ..params(Side::A, Codec::Pcma)
        };
        bench.order(Side::A, &MediaCommand::Update { audio: held });
        bench.pass_ms(600_000);
        assert!(bench.events.is_empty());
        bench.order(
            Side::A,
            &MediaCommand::Update {
                audio: params(Side::A, Codec::Pcma),
            },
        );
        bench.pass_ms(19_000);
        assert!(
            bench.events.is_empty(),
            "the wait begins with the end of the hold"
        );
        bench.pass_ms(2_000);
        assert_eq!(bench.events.len(), 1);
    }
}
