//! Digits: reported before the bridge, relayed over it, and exact on a bad network.

use std::time::Duration;

use super::bench::*;
use crate::ids::Side;
use crate::media::audio::AudioInput;
use crate::media::dtmf::{EventPayload, KeyNews, KeyReader};
use crate::media::{MediaCommand, MediaEvent};
use crate::now::{IdSource, Instant};
use crate::sdp::{AudioParams, Codec};
use crate::secret::Digit;

/// The packets of one press, 20 ms apart, and its three ends; moves the phone's clock past it.
fn press(bench: &mut Bench, phone: &mut Phone, payload_type: u8, event: u8, updates: u16) {
    for n in 1..=updates + 3 {
        let end = n > updates;
        let duration = n.min(updates) * 160;
        let payload = EventPayload {
            event,
            end,
            volume: 10,
            duration,
        }
        .to_bytes();
        let bytes = phone.packet(payload_type, &payload);
        bench.rtp(phone.side, phone.from, &bytes);
        if n < updates {
            bench.pass_ms(20);
        }
    }
    bench.pass_ms(100);
    phone.time = phone.time.wrapping_add(u32::from(updates) * 160 + 800);
}

fn digits(bench: &Bench, side: Side) -> Vec<u8> {
    let events = bench.events_of(side).into_iter();
    events
        .filter_map(|event| {
            let MediaEvent::Digit(digit) = event else {
                return None;
            };
            Some(digit.event())
        })
        .collect()
}

#[test]
fn a_digit_is_reported_at_its_first_packet() {
    let mut bench = Bench::opened(Codec::Pcma);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    let payload = EventPayload {
        event: 4,
        end: false,
        volume: 10,
        duration: 160,
    }
    .to_bytes();
    let bytes = caller.packet(101, &payload);
    bench.rtp(Side::A, remote(Side::A), &bytes);
    assert_eq!(
        bench.events_of(Side::A),
        [&MediaEvent::FirstPacket, &MediaEvent::Digit(Digit::Number(4))]
    );
    press(&mut bench, &mut caller, 101, 4, 22);
    assert_eq!(digits(&bench, Side::A), [4], "a key held for 430 ms counts once");
}

#[test]
fn both_sides_report_before_the_bridge_and_a_is_relayed_after_it() {
    let mut bench = Bench::opened(Codec::Pcmu);
    let (mut caller, mut advisor) = (Phone::new(Side::A, Codec::Pcma), Phone::new(Side::B, Codec::Pcmu));
    press(&mut bench, &mut advisor, 97, 1, 5);
    press(&mut bench, &mut caller, 101, 2, 5);
    bench.order(Side::A, &MediaCommand::Bridge);
    bench.talk(&mut caller, 1, 10);
    press(&mut bench, &mut caller, 101, 11, 10);
    bench.talk(&mut caller, 1, 10);
    press(&mut bench, &mut advisor, 97, 3, 5);
    press(&mut bench, &mut caller, 101, 7, 2);
    bench.talk(&mut caller, 1, 20);
    assert_eq!(digits(&bench, Side::A), [2]);
    assert_eq!(digits(&bench, Side::B), [1]);
    let events = |side| {
        bench
            .line(side)
            .into_iter()
            .filter(|sent| sent.payload_type >= 96)
    };
    assert_eq!(events(Side::A).count(), 0, "the advisor's keys go nowhere");
    let mut reader = KeyReader::default();
    let mut heard = Vec::new();
    for sent in events(Side::B) {
        assert_eq!(sent.payload_type, 96);
        if let KeyNews::Pressed(digit) = reader.read(sent.at, sent.ssrc, sent.time, &sent.payload) {
            assert!(sent.marker);
            heard.push(digit.event());
        }
    }
    assert_eq!(heard, [11, 7]);
    let ends = events(Side::B).filter(|sent| sent.payload[1] & 0x80 != 0);
    assert_eq!(ends.count(), 6);
    let durations: Vec<u16> = events(Side::B)
        .map(|sent| u16::from_be_bytes([sent.payload[2], sent.payload[3]]))
        .collect();
    assert!(
        (9..=12).contains(&(durations[9] / 160)),
        "the held key lasts about as long: {durations:?}"
    );
    bench.check_line(Side::B);
    assert!(bench.longest_gap(Side::B) <= Duration::from_millis(80));
}

#[test]
fn a_key_whose_ends_are_lost_is_let_go_at_the_advisor() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    let payload = EventPayload {
        event: 4,
        end: false,
        volume: 10,
        duration: 160,
    }
    .to_bytes();
    let bytes = caller.packet(101, &payload);
    bench.rtp(Side::A, remote(Side::A), &bytes);
    bench.pass_ms(1_000);
    let line = bench.line(Side::B);
    let events: Vec<_> = line.iter().filter(|sent| sent.payload_type == 96).collect();
    assert!((8..=10).contains(&events.len()), "{}", events.len());
    bench.check_line(Side::B);
}

#[test]
fn an_advisor_without_telephone_event_gets_none() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    bench.open(
        Side::B,
        AudioParams {
            dtmf: None,
            ..params(Side::B, Codec::Pcma)
        },
    );
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    press(&mut bench, &mut caller, 101, 4, 5);
    assert!(bench.line(Side::B).iter().all(|sent| sent.payload_type == 8));
    assert_eq!(digits(&bench, Side::A), [] as [u8; 0]);
}

#[test]
fn parting_ends_the_key_that_is_being_relayed() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    press(&mut bench, &mut caller, 101, 4, 1);
    press(&mut bench, &mut caller, 101, 5, 1);
    bench.order(Side::B, &MediaCommand::Unbridge);
    bench.pass_ms(1_000);
    press(&mut bench, &mut caller, 101, 6, 1);
    assert_eq!(digits(&bench, Side::A), [6]);
    let line = bench.line(Side::B);
    assert!(line.iter().rfind(|sent| sent.payload_type == 96).unwrap().payload[1] & 0x80 != 0);
    bench.check_line(Side::B);
}

/// What the bad network does to a stream, in percent, and how far it scatters arrivals.
struct Network {
    loss: u64,
    repeat: u64,
    reorder: u64,
    jitter_us: u64,
}

/// A keypad's stream: talk, presses of 60 to 240 ms with pauses from 60 ms, digits at random.
fn keypad(chance: &mut IdSource) -> (Vec<u8>, Vec<(Instant, Vec<u8>)>) {
    let mut phone = Phone::new(Side::A, Codec::Pcma);
    phone.time = chance.next_u32();
    let mut at = Instant::default() + Duration::from_secs(6);
    let mut packets = Vec::new();
    let mut keys = Vec::new();
    let frame = Duration::from_millis(20);
    for _ in 0..12 {
        for _ in 0..3 + chance.below(10) {
            packets.push((at, phone.packet(8, &[1; 160])));
            phone.time = phone.time.wrapping_add(160);
            at = at + frame;
        }
        let event = u8::try_from(chance.below(12)).unwrap();
        keys.push(event);
        let updates = 3 + u16::try_from(chance.below(10)).unwrap();
        for n in 1..=updates + 2 {
            let (end, duration) = (n >= updates, n.min(updates) * 160);
            let payload = EventPayload {
                event,
                end,
                volume: 10,
                duration,
            }
            .to_bytes();
            packets.push((at, phone.packet(101, &payload)));
            if !end {
                at = at + frame;
            }
        }
        at = at + frame;
        phone.time = phone.time.wrapping_add(u32::from(updates) * 160);
    }
    (keys, packets)
}

fn deliver(
    packets: Vec<(Instant, Vec<u8>)>,
    network: &Network,
    chance: &mut IdSource,
) -> Vec<(Instant, Vec<u8>)> {
    let mut arrivals = Vec::new();
    for (at, bytes) in packets {
        if chance.below(100) < network.loss {
            continue;
        }
        let mut arrives = at + Duration::from_micros(chance.below(network.jitter_us.max(1)));
        if chance.below(100) < network.reorder {
            arrives = arrives + Duration::from_millis(45);
        }
        if chance.below(100) < network.repeat {
            arrivals.push((
                arrives + Duration::from_micros(chance.below(5_000)),
                bytes.clone(),
            ));
        }
        arrivals.push((arrives, bytes));
    }
    arrivals.sort_by_key(|(at, _)| *at);
    arrivals
}

#[test]
fn keypads_on_a_bad_network_give_exactly_their_digits() {
    let networks = [
        Network {
            loss: 0,
            repeat: 0,
            reorder: 0,
            jitter_us: 0,
        },
        Network {
            loss: 5,
            repeat: 0,
            reorder: 0,
            jitter_us: 0,
        },
        Network {
            loss: 0,
            repeat: 3,
            reorder: 3,
            jitter_us: 20_000,
        },
        Network {
            loss: 5,
            repeat: 3,
            reorder: 3,
            jitter_us: 20_000,
        },
    ];
    for network in &networks {
        for seed in 0..25 {
            let mut chance = IdSource::from_number(seed);
            let (keys, packets) = keypad(&mut chance);
            let mut bench = Bench::opened(Codec::Pcma);
            for (at, bytes) in deliver(packets, network, &mut chance) {
                bench.pass(at.since(bench.now));
                bench.feed(AudioInput::Rtp {
                    side: Side::A,
                    from: remote(Side::A),
                    bytes: &bytes,
                });
            }
            assert_eq!(
                digits(&bench, Side::A),
                keys,
                "seed {seed}, loss {} %",
                network.loss
            );
        }
    }
}

#[test]
fn keypads_on_a_bad_network_reach_the_advisor_whole() {
    for seed in 100..130 {
        let mut chance = IdSource::from_number(seed);
        let (keys, packets) = keypad(&mut chance);
        let mut bench = Bench::opened(Codec::Pcma);
        bench.order(Side::A, &MediaCommand::Bridge);
        let network = Network {
            loss: 5,
            repeat: 3,
            reorder: 3,
            jitter_us: 20_000,
        };
        for (at, bytes) in deliver(packets, &network, &mut chance) {
            bench.pass(at.since(bench.now));
            bench.rtp(Side::A, remote(Side::A), &bytes);
        }
        bench.pass_ms(2_000);
        let mut reader = KeyReader::default();
        let mut heard = Vec::new();
        for sent in bench
            .line(Side::B)
            .into_iter()
            .filter(|sent| sent.payload_type == 96)
        {
            if let KeyNews::Pressed(digit) = reader.read(sent.at, sent.ssrc, sent.time, &sent.payload) {
                heard.push(digit.event());
            }
        }
        assert_eq!(heard, keys, "seed {seed}");
        bench.check_line(Side::B);
    }
}
