//! Whole calls: mixing, holding, parting, closing, and anything in any order.

use std::time::Duration;

use proptest::prelude::*;

use super::bench::*;
use crate::ids::{PlayId, Side};
use crate::media::audio::AudioInput;
use crate::media::codec::pcma;
use crate::media::{Duck, MediaCommand, MediaEvent};
use crate::sdp::{Codec, Direction};

const ENDED: MediaEvent = MediaEvent::PlayEnded {
    id: PlayId(1),
    finished: true,
};
const STOPPED: MediaEvent = MediaEvent::PlayEnded {
    id: PlayId(1),
    finished: false,
};

/// Play, ringback, bridge, mix, hold, resume, unbridge: one line on both sides.
#[test]
fn one_unbroken_line_through_a_whole_call() {
    let mut bench = Bench::opened(Codec::Pcmu);
    let (mut caller, mut advisor) = (Phone::new(Side::A, Codec::Pcma), Phone::new(Side::B, Codec::Pcmu));
    bench.pass_ms(13);
    bench.play(Side::A, 1, "second");
    bench.pass_ms(700);
    bench.order(Side::A, &MediaCommand::Ringback);
    bench.pass_ms(433);
    bench.order(Side::B, &MediaCommand::Bridge);
    for n in 0..100_u8 {
        bench.talk(&mut caller, n, 1);
        bench.talk(&mut advisor, n, 1);
        caller.time = caller.time.wrapping_add(160);
        advisor.time = advisor.time.wrapping_add(160);
        if n == 20 {
            bench.mix(Side::A, 2, "second", Duck::Db12);
            bench.mix(Side::B, 3, "adv_beep_60", Duck::None);
        }
    }
    let held = |direction| MediaCommand::Update {
        audio: crate::sdp::AudioParams {
            direction,
            ..params(Side::B, Codec::Pcmu)
        },
    };
    bench.order(Side::B, &held(Direction::RecvOnly));
    bench.pass_ms(3_001);
    bench.order(Side::B, &held(Direction::SendRecv));
    caller.time = caller.time.wrapping_add(3_000 * 8);
    bench.talk(&mut caller, 9, 50);
    bench.order(Side::A, &MediaCommand::Unbridge);
    bench.play(Side::A, 4, "short");
    bench.pass_ms(500);
    bench.check_line(Side::A);
    bench.check_line(Side::B);
    assert!(bench.longest_gap(Side::A) <= Duration::from_millis(80));
    bench.order(Side::A, &MediaCommand::Close);
    bench.order(Side::B, &MediaCommand::Close);
    assert!(bench.audio.is_idle());
    assert_eq!(bench.audio.next_timeout(), None);
    assert_eq!(bench.released, [port(Side::A), port(Side::B)]);
    let ended = |event: &&MediaEvent| matches!(event, MediaEvent::PlayEnded { .. });
    assert_eq!(bench.events_of(Side::A).into_iter().filter(ended).count(), 3);
    assert_eq!(bench.events_of(Side::B).into_iter().filter(ended).count(), 1);
}

#[test]
fn a_forbidden_direction_sends_nothing_but_prompts_end_in_time() {
    for direction in [Direction::RecvOnly, Direction::Inactive] {
        let mut bench = Bench::new();
        bench.open(
            Side::A,
            crate::sdp::AudioParams {
                direction,
                ..params(Side::A, Codec::Pcma)
            },
        );
        bench.pass_ms(5_000);
        bench.play(Side::A, 1, "second");
        bench.pass_ms(990);
        assert_eq!(bench.events_of(Side::A), [] as [&MediaEvent; 0]);
        bench.pass_ms(40);
        assert_eq!(bench.events_of(Side::A), [&ENDED]);
        assert!(bench.sent.is_empty());
        assert!(!bench.rtcp.is_empty(), "reports go on");
    }
}

#[test]
fn a_mix_ducks_the_talk_by_twelve_decibels_and_adds_the_voice() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut advisor = Phone::new(Side::B, Codec::Pcma);
    let talk = pcma::encode(16_000);
    bench.talk(&mut advisor, talk, 5);
    // The built-in tone has pauses: there the talk alone is heard.
    bench.mix(Side::A, 1, "beep_10", Duck::Db12);
    bench.talk(&mut advisor, talk, 40);
    let level = |sent: &Sent| {
        let sum: f64 = sent
            .payload
            .iter()
            .map(|byte| f64::from(pcma::decode(*byte)).powi(2))
            .sum();
        10.0 * (sum / 160.0).log10()
    };
    let plain = level(bench.line(Side::A)[5]);
    let levels: Vec<f64> = bench
        .line(Side::A)
        .iter()
        .map(|sent| level(sent) - plain)
        .collect();
    let quietest = levels.iter().skip(6).copied().fold(0.0, f64::min);
    assert!((quietest + 12.04).abs() < 0.5, "ducked to {quietest} dB");
    assert!(levels.last().unwrap().abs() < 0.01, "the talk is back");
    assert_eq!(bench.events_of(Side::A), [&ENDED]);
    assert!(
        bench
            .events_of(Side::B)
            .iter()
            .all(|event| **event == MediaEvent::FirstPacket)
    );
}

#[test]
fn a_mix_saturates_instead_of_wrapping() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut advisor = Phone::new(Side::B, Codec::Pcma);
    bench.talk(&mut advisor, pcma::encode(i16::MAX), 3);
    bench.mix(Side::A, 1, "second", Duck::None);
    bench.talk(&mut advisor, pcma::encode(i16::MAX), 10);
    for sent in bench.line(Side::A).iter().skip(6) {
        assert!(sent.payload.iter().all(|byte| pcma::decode(*byte) > 20_000));
    }
}

#[test]
fn a_mix_plays_by_itself_while_nobody_talks_and_can_be_withdrawn() {
    let mut bench = Bench::opened(Codec::Pcmu);
    bench.order(Side::A, &MediaCommand::Bridge);
    bench.mix(Side::A, 1, "second", Duck::Db12);
    bench.pass_ms(1_010);
    assert_eq!(bench.events_of(Side::A), [&ENDED]);
    bench.events.clear();
    bench.mix(Side::A, 1, "second", Duck::Db12);
    bench.pass_ms(200);
    bench.order(Side::A, &MediaCommand::StopMix);
    bench.order(Side::A, &MediaCommand::StopMix);
    assert_eq!(bench.events_of(Side::A), [&STOPPED]);
    bench.check_line(Side::A);
}

#[test]
fn a_play_over_a_bridge_returns_to_the_talk() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.play(Side::B, 1, "second");
    bench.order(Side::A, &MediaCommand::Bridge);
    assert_eq!(bench.events_of(Side::B), [&STOPPED]);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.play(Side::B, 2, "short");
    bench.talk(&mut caller, 1, 20);
    let spoken = bench
        .line(Side::B)
        .iter()
        .filter(|sent| sent.payload == [1; 160])
        .count();
    assert!((15..=16).contains(&spoken), "{spoken}");
    bench.check_line(Side::B);
}

#[test]
fn reports_carry_an_anonymous_name_and_a_bye_ends_them() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.pass_ms(60_000);
    let reports = bench.rtcp.iter().filter(|(side, ..)| *side == Side::A).count();
    assert!((11..=12).contains(&reports));
    bench.order(Side::A, &MediaCommand::Close);
    let (_, to, bytes) = bench.rtcp.last().unwrap();
    assert_eq!(*to, params(Side::A, Codec::Pcma).remote_rtcp);
    assert_eq!(bytes[bytes.len() - 7], 203);
    let closed = bench.events_of(Side::A).into_iter().find_map(|event| {
        let MediaEvent::Closed(stats) = event else {
            return None;
        };
        Some(stats.clone())
    });
    assert_eq!(closed.unwrap().sent, 3_001);
    bench.order(Side::A, &MediaCommand::Close);
    assert_eq!(bench.released.len(), 1, "a second Close finds nothing");
}

#[test]
fn a_leg_that_is_opened_twice_gives_its_first_port_back() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    assert_eq!(bench.released, [port(Side::A)]);
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u16),
    Talk(bool, u8),
    Lose(bool, u8),
    Order(bool, u8),
    Junk(bool, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u16..300).prop_map(Step::Pass),
        (any::<bool>(), 0u8..20).prop_map(|(a, n)| Step::Talk(a, n)),
        (any::<bool>(), 0u8..20).prop_map(|(a, n)| Step::Lose(a, n)),
        (any::<bool>(), 0u8..10).prop_map(|(a, n)| Step::Order(a, n)),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(a, b)| Step::Junk(a, b)),
    ];
    prop::collection::vec(step, 0..60)
}

fn side_of(a: bool) -> Side {
    if a { Side::A } else { Side::B }
}

fn command(side: Side, n: u8, id: u32) -> MediaCommand {
    let utterance = prompt("short");
    let held = |direction| MediaCommand::Update {
        audio: crate::sdp::AudioParams {
            direction,
            ..params(side, Codec::Pcma)
        },
    };
    match n {
        0 => MediaCommand::Play {
            id: PlayId(id),
            utterance,
        },
        1 => MediaCommand::Ringback,
        2 => MediaCommand::Silence,
        3 => MediaCommand::Bridge,
        4 => MediaCommand::Unbridge,
        5 => MediaCommand::Mix {
            id: PlayId(id),
            utterance,
            duck: Duck::Db12,
        },
        6 => MediaCommand::StopMix,
        7 => held(Direction::RecvOnly),
        8 => held(Direction::Inactive),
        _ => held(Direction::SendRecv),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_at_any_time_keeps_the_lines_whole(steps in steps()) {
        let mut bench = Bench::opened(Codec::Pcma);
        let mut phones = [Phone::new(Side::A, Codec::Pcma), Phone::new(Side::B, Codec::Pcma)];
        let mut started = 0;
        for step in steps {
            match step {
                Step::Pass(ms) => bench.pass_ms(u64::from(ms)),
                Step::Talk(a, n) => bench.talk(&mut phones[usize::from(!a)], 1, usize::from(n)),
                Step::Lose(a, n) => (0..n).for_each(|_| phones[usize::from(!a)].lose(160)),
                Step::Order(a, n) => {
                    started += u32::from(n == 0 || n == 5);
                    let command = command(side_of(a), n, started);
                    bench.order(side_of(a), &command);
                }
                Step::Junk(a, bytes) => {
                    bench.rtp(side_of(a), remote(side_of(a)), &bytes);
                    bench.feed(AudioInput::Rtcp { side: side_of(a), from: remote(side_of(a)), bytes: &bytes });
                }
            }
        }
        bench.order(Side::A, &MediaCommand::Close);
        bench.order(Side::B, &MediaCommand::Close);
        bench.check_line(Side::A);
        bench.check_line(Side::B);
        let ended = bench.events.iter().filter(|(.., event)| matches!(event, MediaEvent::PlayEnded { .. }));
        prop_assert_eq!(ended.count(), usize::try_from(started).unwrap());
        prop_assert!(bench.audio.is_idle());
        prop_assert_eq!(bench.released.len(), 2);
    }
}
