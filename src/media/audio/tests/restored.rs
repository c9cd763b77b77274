//! A bridge in another process: the same lines, a step forward and never back.

use std::time::Duration;

use proptest::prelude::*;

use super::bench::*;
use crate::ids::{CallKey, Side};
use crate::media::audio::snapshot::AudioSnapshot;
use crate::media::audio::{AudioOut, CallAudio};
use crate::media::{MediaCommand, MediaEvent, MediaLimits, PortId};
use crate::now::IdSource;
use crate::sdp::Codec;

fn bridged() -> Bench {
    let mut bench = Bench::opened(Codec::Pcmu);
    bench.order(Side::A, &MediaCommand::Bridge);
    bench
}

/// The machine dies; `after` later another one goes on from the last snapshot that was handed out.
/// What was sent until then stays in the bench.
fn restart(bench: &mut Bench, after: Duration) {
    let text = serde_json::to_string(bench.kept.last().expect("a snapshot")).unwrap();
    let saved: AudioSnapshot = serde_json::from_str(&text).unwrap();
    bench.now = bench.now + after;
    let limits = MediaLimits {
        rtp_lost: Duration::from_secs(20),
    };
    let (ports, ids) = ((PortId(71), PortId(72)), IdSource::from_number(99));
    let mut out = AudioOut::new();
    bench.audio = CallAudio::restore(bench.now, CallKey::new(7), &saved, ports, limits, ids, &mut out);
    assert!(out.is_empty());
    bench.feed(crate::media::audio::AudioInput::Timeout);
}

/// The last packet before the restart and the first one after it.
fn seam(bench: &Bench, side: Side, before: usize) -> (Sent, Sent) {
    let line = bench.line(side);
    (line[before - 1].clone(), line[before].clone())
}

#[test]
fn both_lines_go_on_and_each_first_packet_is_reported_again() {
    let mut bench = bridged();
    let (mut caller, mut advisor) = (Phone::new(Side::A, Codec::Pcma), Phone::new(Side::B, Codec::Pcmu));
    for _ in 0..100 {
        caller.speak(&mut bench, &[1; 160]);
        advisor.speak(&mut bench, &[2; 160]);
        bench.pass_ms(20);
    }
    let before = (bench.line(Side::A).len(), bench.line(Side::B).len());
    restart(&mut bench, Duration::from_millis(700));
    for _ in 0..35 {
        caller.lose(160);
        advisor.lose(160);
    }
    bench.events.clear();
    for _ in 0..50 {
        caller.speak(&mut bench, &[3; 160]);
        advisor.speak(&mut bench, &[4; 160]);
        bench.pass_ms(20);
    }
    for (side, before) in [(Side::A, before.0), (Side::B, before.1)] {
        let (last, first) = seam(&bench, side, before);
        assert_eq!(first.ssrc, last.ssrc);
        assert!(first.marker, "the peer may adjust to the gap");
        let steps = first.seq.steps_after(last.seq);
        assert!(
            (35..200).contains(&steps),
            "the sequence jumps by {steps} for 700 ms"
        );
        let samples = first.time.since(last.time);
        assert!(
            (5_600..5_920).contains(&samples),
            "the time jumps by {samples} for 700 ms"
        );
        assert_eq!(bench.events_of(side), [&MediaEvent::FirstPacket]);
        let spoken = bench.line(side)[before..]
            .iter()
            .filter(|sent| {
                sent.payload.iter().all(|byte| *byte == sent.payload[0]) && sent.payload[0] != 0xd5
            })
            .count();
        assert!(
            spoken >= 48,
            "{spoken} of 50 packets after the restart are relayed"
        );
        let tail: Vec<&Sent> = bench.line(side)[before..].to_vec();
        assert!(tail.windows(2).all(|pair| pair[1].seq == pair[0].seq.next()));
        assert!(tail.windows(2).all(|pair| pair[1].time.since(pair[0].time) >= 0));
    }
}

#[test]
fn silence_flows_before_anybody_speaks() {
    let mut bench = bridged();
    bench.pass_ms(100);
    let before = bench.line(Side::B).len();
    restart(&mut bench, Duration::from_millis(500));
    bench.pass_ms(100);
    assert!(bench.line(Side::B).len() >= before + 5);
}

#[test]
fn what_the_latch_learned_holds_and_an_impostor_gains_nothing_by_the_restart() {
    let mut bench = bridged();
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    caller.from = address("198.51.100.1:4444");
    bench.talk(&mut caller, 1, 20);
    restart(&mut bench, Duration::from_millis(500));
    let mut impostor = Phone::new(Side::A, Codec::Pcma);
    impostor.from = address("203.0.113.9:4000");
    bench.talk(&mut impostor, 9, 20);
    bench.talk(&mut caller, 3, 5);
    let (to, payload) = {
        let line = bench.line(Side::A);
        (line.last().unwrap().to, bench.line(Side::B))
    };
    assert_eq!(to, caller.from);
    assert!(payload.iter().all(|sent| sent.payload != [9; 160]));
}

#[test]
fn a_key_that_was_passed_on_is_not_passed_on_again_and_stands_in_no_snapshot() {
    let mut bench = bridged();
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 5);
    let pressed = caller.time;
    for n in 1..=3u8 {
        let packet = caller.packet(101, &[7, 0x0a, n, 0]);
        bench.rtp(Side::A, caller.from, &packet);
        bench.pass_ms(20);
    }
    bench.pass_ms(6_000);
    let text = serde_json::to_string(bench.kept.last().unwrap()).unwrap();
    assert!(!text.contains("digit") && !text.contains(":7,"), "{text}");
    restart(&mut bench, Duration::from_millis(300));
    let before = bench.line(Side::B).len();
    let late = caller.packet(101, &[7, 0x8a, 4, 0]);
    bench.rtp(Side::A, caller.from, &late);
    bench.pass_ms(200);
    assert!(
        bench.line(Side::B)[before..]
            .iter()
            .all(|sent| sent.payload_type != 96)
    );
    caller.time = pressed.wrapping_add(80_000);
    let new = caller.packet(101, &[8, 0x0a, 1, 0]);
    bench.rtp(Side::A, caller.from, &new);
    bench.pass_ms(200);
    assert!(
        bench.line(Side::B)[before..]
            .iter()
            .any(|sent| sent.payload_type == 96)
    );
}

#[test]
fn snapshots_come_with_the_bridge_with_a_moved_peer_and_every_few_seconds() {
    let mut bench = bridged();
    assert_eq!(bench.kept.len(), 1);
    bench.pass_ms(4_900);
    assert_eq!(bench.kept.len(), 1);
    bench.pass_ms(200);
    assert_eq!(bench.kept.len(), 2);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    caller.from = address("198.51.100.1:4444");
    bench.talk(&mut caller, 1, 10);
    assert_eq!(bench.kept.len(), 3);
    assert_eq!(bench.kept[2].a.peer.latched, Some(caller.from));
    let mut held = params(Side::B, Codec::Pcmu);
    held.direction = crate::sdp::Direction::RecvOnly;
    bench.order(Side::B, &MediaCommand::Update { audio: held.clone() });
    assert_eq!(bench.kept.len(), 4);
    assert_eq!(bench.kept[3].b.audio, held);
    bench.order(Side::A, &MediaCommand::Unbridge);
    bench.pass_ms(20_000);
    assert_eq!(
        bench.kept.len(),
        4,
        "without a bridge there is nothing to go on with"
    );
}

proptest! {
    /// Whatever the packet length and wherever in its life the machine dies: no sequence number is
    /// used twice, the receiver takes the jump for a loss, and no timestamp goes back.
    #[test]
    fn a_line_never_goes_back(
        frame in prop::sample::select(vec![80_u32, 160, 240, 480]),
        packets in 1_usize..1_000,
        down_ms in 40_u64..20_000,
    ) {
        let mut bench = bridged();
        let mut caller = Phone::new(Side::A, Codec::Pcma);
        let payload = vec![1; usize::try_from(frame).unwrap()];
        for _ in 0..packets {
            caller.speak(&mut bench, &payload);
            bench.pass_ms(u64::from(frame / 8));
        }
        let before = bench.line(Side::B).len();
        restart(&mut bench, Duration::from_millis(down_ms));
        bench.pass_ms(20);
        let (last, first) = seam(&bench, Side::B, before);
        prop_assert_eq!(first.ssrc, last.ssrc);
        let steps = first.seq.steps_after(last.seq);
        prop_assert!((1..6_000).contains(&steps), "{} steps", steps);
        prop_assert!(first.time.since(last.time) > 0);
    }
}
