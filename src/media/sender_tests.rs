use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::default() + Duration::from_millis(ms)
}

fn sender() -> Sender {
    Sender::new(at(1_000), 20, &mut IdSource::from_number(5))
}

#[test]
fn frames_are_due_on_the_grid_of_the_start() {
    let mut sender = sender();
    let start = sender.time_at(at(1_000));
    for n in 0..1_000_u32 {
        let due = at(1_000 + u64::from(n) * 20);
        assert_eq!(sender.due(), due);
        assert_eq!(sender.take_slot(due - Duration::from_nanos(1)), None);
        assert_eq!(
            sender.take_slot(due + Duration::from_millis(7)),
            Some(start.plus(n * 160))
        );
        assert_eq!(sender.take_slot(due + Duration::from_millis(7)), None);
    }
}

#[test]
fn arrears_are_left_out_and_the_timestamps_show_it() {
    let mut sender = sender();
    let start = sender.time_at(at(1_000));
    let late = at(1_000 + 10 * 20 + 3);
    let sent: Vec<_> = std::iter::from_fn(|| sender.take_slot(late)).collect();
    assert_eq!(
        sent,
        [start.plus(8 * 160), start.plus(9 * 160), start.plus(10 * 160)]
    );
    assert_eq!(sender.due(), at(1_220));
}

#[test]
fn resuming_makes_up_for_nothing() {
    let mut sender = sender();
    assert!(sender.take_slot(at(1_000)).is_some());
    sender.resume(at(9_990));
    assert_eq!(sender.due(), at(10_000));
    sender.resume(at(10_000));
    assert_eq!(sender.due(), at(10_000));
    sender.resume(at(2_000));
    assert_eq!(sender.due(), at(10_000), "never back");
}

#[test]
fn a_new_frame_length_begins_where_the_last_frame_ends() {
    let mut sender = sender();
    let start = sender.time_at(at(1_000));
    assert!(sender.take_slot(at(1_000)).is_some());
    sender.set_frame_ms(10);
    assert_eq!(sender.due(), at(1_020));
    assert_eq!(sender.take_slot(at(1_020)), Some(start.plus(160)));
    assert_eq!(sender.due(), at(1_030));
}

#[test]
fn a_fast_clock_of_the_source_costs_a_packet_now_and_then() {
    let mut sender = sender();
    let mut out = Vec::new();
    let (mut passed, mut dropped) = (0, 0);
    // 1 % fast: absurd for a phone, so that a minute shows what an hour would.
    for n in 0..3_000_u32 {
        let now = at(1_000) + Duration::from_micros(u64::from(n) * 19_800);
        match sender.place_relayed(now, 1, RtpTime::new(n * 160), 160) {
            Some(time) => {
                sender.write_audio(8, time, &[0; 160], &mut out);
                passed += 1;
            }
            None => dropped += 1,
        }
        out.clear();
    }
    assert!((15..=30).contains(&dropped), "{dropped} of {passed}");
}

#[test]
fn a_slow_clock_of_the_source_is_anchored_anew() {
    let mut sender = sender();
    let mut out = Vec::new();
    let mut anchored = 0;
    for n in 0..3_000_u32 {
        let now = at(1_000) + Duration::from_micros(u64::from(n) * 20_200);
        let time = sender
            .place_relayed(now, 1, RtpTime::new(n * 160), 160)
            .expect("nothing overlaps");
        anchored += usize::from(sender.mark);
        sender.write_audio(8, time, &[0; 160], &mut out);
        out.clear();
    }
    assert!((2..=5).contains(&anchored), "{anchored}");
}

#[test]
fn a_longer_path_is_learned_in_a_tenth_of_a_second() {
    let mut sender = sender();
    let mut out = Vec::new();
    let mut passed = 0;
    for n in 0..100_u32 {
        let delay = if n < 50 { 0 } else { 150 };
        let now = at(1_000 + u64::from(n) * 20 + delay);
        if delay > 0 && n == 50 {
            for slot in 50..58 {
                sender.resume(at(1_000 + slot * 20));
                if let Some(time) = sender.take_slot(at(1_000 + slot * 20)) {
                    sender.write_audio(8, time, &[0; 160], &mut out);
                }
            }
        }
        if let Some(time) = sender.place_relayed(now, 1, RtpTime::new(n * 160), 160) {
            sender.write_audio(8, time, &[0; 160], &mut out);
            passed += 1;
        }
    }
    assert!(passed >= 94, "{passed}");
}

proptest! {
    /// Whatever times come in, what is placed never overlaps what was sent.
    #[test]
    fn the_line_never_goes_back(steps in prop::collection::vec((0u64..500, 0u32..2, any::<u32>(), any::<bool>()), 0..200)) {
        let mut sender = sender();
        let mut out = Vec::new();
        let mut now = at(1_000);
        let mut end = sender.time_at(now);
        for (ms, ssrc, time, relayed) in steps {
            now = now + Duration::from_millis(ms);
            let placed = if relayed {
                sender.place_relayed(now, ssrc, RtpTime::new(time), 160)
            } else {
                sender.take_slot(now)
            };
            if let Some(placed) = placed {
                prop_assert!(placed.since(end) >= 0);
                sender.write_audio(8, placed, &[0; 160], &mut out);
                end = placed.plus(160);
                prop_assert!(end.since(sender.time_at(now)) <= AHEAD_LIMIT + 320);
            }
        }
    }
}
