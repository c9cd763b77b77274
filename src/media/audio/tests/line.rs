//! The lines: prompts, ringback, relay, mix and hold, sample by sample.

use std::time::Duration;

use super::bench::*;
use crate::ids::{PlayId, Side};
use crate::media::audio::AudioInput;
use crate::media::codec::{self, pcma, pcmu};
use crate::media::{MediaCommand, MediaEvent};
use crate::now::IdSource;
use crate::sdp::Codec;

const ENDED: MediaEvent = MediaEvent::PlayEnded {
    id: PlayId(1),
    finished: true,
};
const STOPPED: MediaEvent = MediaEvent::PlayEnded {
    id: PlayId(1),
    finished: false,
};

#[test]
fn silence_flows_from_the_first_moment() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    assert_eq!(bench.sent.len(), 1);
    bench.pass_ms(1_000);
    let line = bench.line(Side::A);
    assert_eq!(line.len(), 51);
    assert!(
        line.iter()
            .all(|sent| sent.payload == [pcma::SILENCE; 160] && sent.to == remote(Side::A))
    );
    assert!(line[0].marker && line[1..].iter().all(|sent| !sent.marker));
    assert_eq!(bench.longest_gap(Side::A), Duration::from_millis(20));
    bench.check_line(Side::A);
}

#[test]
fn a_prompt_is_heard_sample_for_sample_and_ends_once() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    bench.play(Side::A, 1, "short");
    bench.pass_ms(100);
    let heard: Vec<u8> = bench.line(Side::A)[1..5]
        .iter()
        .flat_map(|sent| sent.payload.clone())
        .collect();
    let mut expected = bench.bank.clip(SET, &prompt("short").prompts[0]).to_vec();
    assert_eq!(expected.len(), 500);
    expected.resize(640, pcma::SILENCE);
    assert_eq!(heard, expected);
    assert_eq!(bench.events_of(Side::A), [&ENDED]);
    let (_, at, _) = bench.events[0];
    assert_eq!(at.since(bench.line(Side::A)[0].at), Duration::from_millis(100));
}

#[test]
fn prompts_follow_one_another_without_a_gap() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcmu));
    let mut utterance = prompt("short");
    utterance
        .prompts
        .push(crate::media::PromptId::fixed("no_such_prompt"));
    utterance.prompts.push(utterance.prompts[0].clone());
    bench.order(
        Side::A,
        &MediaCommand::Play {
            id: PlayId(1),
            utterance,
        },
    );
    bench.pass_ms(200);
    let heard: Vec<u8> = bench.line(Side::A)[1..9]
        .iter()
        .flat_map(|sent| sent.payload.clone())
        .collect();
    let mut clip = bench.bank.clip(SET, &prompt("short").prompts[0]).to_vec();
    codec::transcode(Codec::Pcma, Codec::Pcmu, &mut clip);
    assert_eq!(heard[..500], clip);
    assert_eq!(heard[500..1000], clip);
    assert!(heard[1000..].iter().all(|byte| pcmu::decode(*byte).abs() <= 8));
}

#[test]
fn an_empty_utterance_ends_and_a_replaced_one_ends_unfinished() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    bench.play(Side::A, 1, "no_such_prompt");
    bench.pass_ms(20);
    assert_eq!(bench.events_of(Side::A), [&ENDED]);
    bench.events.clear();
    bench.play(Side::A, 1, "second");
    bench.pass_ms(50);
    bench.play(Side::A, 2, "short");
    assert_eq!(bench.events_of(Side::A), [&STOPPED]);
    bench.order(Side::A, &MediaCommand::Silence);
    assert_eq!(bench.events_of(Side::A).len(), 2);
    bench.play(Side::B, 9, "short");
    assert_eq!(
        bench.events_of(Side::B),
        [&MediaEvent::PlayEnded {
            id: PlayId(9),
            finished: false
        }],
        "a leg that is not open says so at once"
    );
}

#[test]
fn ringback_is_one_second_in_five() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    bench.order(Side::A, &MediaCommand::Ringback);
    bench.pass_ms(10_000);
    let loud = |sent: &&Sent| sent.payload.iter().any(|byte| pcma::decode(*byte).abs() > 100);
    let pattern: Vec<bool> = bench.line(Side::A)[1..].iter().map(loud).collect();
    for (n, loud) in pattern.iter().enumerate() {
        assert_eq!(*loud, n % 250 < 50, "frame {n}");
    }
}

#[test]
fn a_low_maxptime_shortens_our_frames() {
    let mut bench = Bench::new();
    bench.open(
        Side::A,
        crate::sdp::AudioParams {
            ptime_ms: 10,
            ..params(Side::A, Codec::Pcma)
        },
    );
    bench.pass_ms(95);
    assert!(bench.line(Side::A).iter().all(|sent| sent.payload.len() == 80));
    assert_eq!(bench.line(Side::A).len(), 10);
    bench.order(
        Side::A,
        &MediaCommand::Update {
            audio: params(Side::A, Codec::Pcma),
        },
    );
    bench.pass_ms(205);
    assert_eq!(bench.line(Side::A).last().unwrap().payload.len(), 160);
    bench.check_line(Side::A);
}

#[test]
fn the_schedule_does_not_drift_in_an_hour_of_jittered_wake_ups() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    bench.sent.clear();
    let start = bench.now;
    let mut chance = IdSource::from_number(3);
    let mut frames = 0_u64;
    let mut last = None;
    while bench.now.since(start) < Duration::from_secs(3_600) {
        let (due, _) = bench.audio.next_timeout().unwrap();
        bench.now = due + Duration::from_micros(chance.below(9_000));
        bench.feed(AudioInput::Timeout);
        frames += u64::try_from(bench.sent.len()).unwrap();
        last = bench.sent.last().map(|(_, sent)| sent.clone()).or(last);
        bench.sent.clear();
        bench.events.clear();
    }
    let passed = bench.now.since(start);
    assert_eq!(u128::from(frames), passed.as_millis() / 20);
    assert!(last.is_some());
}

#[test]
fn a_late_wake_up_sends_a_few_frames_and_skips_the_rest() {
    let mut bench = Bench::new();
    bench.open(Side::A, params(Side::A, Codec::Pcma));
    bench.pass_ms(100);
    let before = bench.line(Side::A).len();
    bench.now = bench.now + Duration::from_millis(405);
    bench.feed(AudioInput::Timeout);
    assert_eq!(bench.line(Side::A).len(), before + 3);
    bench.pass_ms(100);
    bench.check_line(Side::A);
}
