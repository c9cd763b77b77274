//! The relay: what comes in on one side goes out on the other, on its own line.

use std::time::Duration;

use super::bench::*;
use crate::ids::Side;
use crate::media::MediaCommand;
use crate::media::codec::{pcma, pcmu};
use crate::sdp::Codec;

#[test]
fn relayed_packets_pass_at_once_and_are_transcoded() {
    let mut bench = Bench::opened(Codec::Pcmu);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.pass_ms(7);
    let before = bench.line(Side::B).len();
    let spoken: Vec<u8> = (0..160).collect();
    for n in 0..10 {
        caller.speak(&mut bench, &spoken);
        let line = bench.line(Side::B);
        assert_eq!(line.len(), before + n + 1);
        let last = line.last().unwrap();
        assert_eq!((last.at, last.payload_type), (bench.now, 0));
        let expected: Vec<u8> = spoken
            .iter()
            .map(|byte| pcmu::encode(pcma::decode(*byte)))
            .collect();
        assert_eq!(last.payload, expected);
        bench.pass_ms(20);
    }
    let line = bench.line(Side::B);
    let steps = line[before..]
        .windows(2)
        .map(|pair| pair[1].time.since(pair[0].time));
    assert!(steps.clone().all(|step| step == 160));
    bench.check_line(Side::B);
}

#[test]
fn a_pause_of_the_source_is_filled_with_silence_and_left_seamlessly() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.pass_ms(5);
    bench.talk(&mut caller, 1, 20);
    for _ in 0..2 {
        caller.lose(160);
        bench.pass_ms(20);
    }
    bench.talk(&mut caller, 1, 20);
    for _ in 0..30 {
        caller.lose(160);
        bench.pass_ms(20);
    }
    bench.talk(&mut caller, 1, 20);
    bench.check_line(Side::B);
    assert!(bench.longest_gap(Side::B) <= Duration::from_millis(80));
    let line = bench.line(Side::B);
    let spoken = line.iter().filter(|sent| sent.payload == [1; 160]).count();
    assert_eq!(spoken, 60, "no packet that came is lost");
    let silent = line
        .iter()
        .filter(|sent| sent.payload == [pcma::SILENCE; 160])
        .count();
    assert!((27..=31).contains(&silent), "{silent} frames fill 600 ms");
}

#[test]
fn repeats_and_stragglers_do_not_reach_the_other_side() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 5);
    let early = caller.packet(8, &[2; 160]);
    caller.time = caller.time.wrapping_add(160);
    bench.pass_ms(20);
    bench.talk(&mut caller, 3, 1);
    bench.rtp(Side::A, remote(Side::A), &early);
    let again = caller.packet(8, &[4; 160]);
    bench.rtp(Side::A, remote(Side::A), &again);
    bench.rtp(Side::A, remote(Side::A), &again);
    let spoken: Vec<u8> = bench.line(Side::B).iter().map(|sent| sent.payload[0]).collect();
    let spoken: Vec<u8> = spoken.into_iter().filter(|byte| *byte < 10).collect();
    assert_eq!(spoken, [1, 1, 1, 1, 1, 3, 4]);
    bench.check_line(Side::B);
}

#[test]
fn a_burst_after_a_stall_leaves_the_sides_in_step() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    bench.talk(&mut caller, 1, 50);
    let offset = |bench: &Bench, caller: &Phone| {
        bench
            .line(Side::B)
            .last()
            .unwrap()
            .time
            .get()
            .wrapping_sub(caller.time)
            .cast_signed()
    };
    let before = offset(&bench, &caller);
    bench.pass_ms(500);
    for _ in 0..25 {
        caller.speak(&mut bench, &[2; 160]);
    }
    bench.talk(&mut caller, 1, 50);
    let shift = offset(&bench, &caller).wrapping_sub(before);
    assert!(shift.abs() <= 480, "out of step by {shift} samples");
    bench.check_line(Side::B);
}

#[test]
fn a_jump_of_the_source_is_anchored_anew() {
    let jumps = [
        0x4000_0000_u32,
        0x8000_0000,
        0xc000_0000,
        100_000,
        u32::MAX - 100_000,
    ];
    for jump in jumps {
        let mut bench = Bench::opened(Codec::Pcma);
        bench.order(Side::A, &MediaCommand::Bridge);
        let mut caller = Phone::new(Side::A, Codec::Pcma);
        bench.talk(&mut caller, 1, 10);
        caller.time = caller.time.wrapping_add(jump);
        bench.talk(&mut caller, 2, 10);
        bench.check_line(Side::B);
        let after = bench
            .line(Side::B)
            .iter()
            .filter(|sent| sent.payload[0] == 2)
            .count();
        assert_eq!(after, 10, "jump of {jump}");
    }
}

#[test]
fn a_flood_is_held_to_real_time() {
    let mut bench = Bench::opened(Codec::Pcma);
    bench.order(Side::A, &MediaCommand::Bridge);
    let mut caller = Phone::new(Side::A, Codec::Pcma);
    for _ in 0..500 {
        for _ in 0..10 {
            caller.speak(&mut bench, &[1; 160]);
        }
        bench.pass_ms(20);
    }
    bench.check_line(Side::B);
    assert!(bench.line(Side::B).len() < 520);
}

#[test]
fn every_packet_length_passes_and_long_ones_are_split() {
    for samples in [80_usize, 160, 240, 320, 480] {
        let mut bench = Bench::opened(Codec::Pcma);
        bench.order(Side::A, &MediaCommand::Bridge);
        let mut caller = Phone::new(Side::A, Codec::Pcma);
        let ms = u64::try_from(samples / 8).unwrap();
        for _ in 0..40 {
            caller.speak(&mut bench, &vec![1; samples]);
            bench.pass_ms(ms);
        }
        bench.check_line(Side::B);
        let spoken: Vec<_> = bench
            .line(Side::B)
            .into_iter()
            .filter(|sent| sent.payload[0] == 1)
            .collect();
        assert_eq!(
            spoken.iter().map(|sent| sent.payload.len()).sum::<usize>(),
            40 * samples
        );
        assert!(spoken.iter().all(|sent| sent.payload.len() <= 160));
    }
}
