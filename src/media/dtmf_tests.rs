use proptest::prelude::*;

use super::*;
use crate::now::IdSource;

fn at(ms: u64) -> Instant {
    Instant::default() + Duration::from_millis(1_000 + ms)
}

#[test]
fn every_bit_of_the_payload_means_one_thing() {
    for bit in 0..32_u32 {
        let bytes = (1_u32 << (31 - bit)).to_be_bytes();
        let mut expected = EventPayload {
            event: 0,
            end: false,
            volume: 0,
            duration: 0,
        };
        match bit {
            0..=7 => expected.event = bytes[0],
            8 => expected.end = true,
            9 => {} // reserved, ignored
            10..=15 => expected.volume = bytes[1],
            _ => expected.duration = u16::from_be_bytes([bytes[2], bytes[3]]),
        }
        assert_eq!(EventPayload::read(&bytes), Some(expected), "bit {bit}");
        if bit != 9 {
            assert_eq!(expected.to_bytes(), bytes, "bit {bit}");
        }
    }
}

#[test]
fn fewer_than_four_bytes_are_no_event_and_more_are_cut() {
    assert_eq!(EventPayload::read(&[1, 10, 0]), None);
    assert_eq!(EventPayload::read(&[]), None);
    let long = EventPayload::read(&[1, 0x8a, 0, 160, 9, 9, 9, 9]);
    let expected = EventPayload {
        event: 1,
        end: true,
        volume: 10,
        duration: 160,
    };
    assert_eq!(long, Some(expected));
}

/// One packet: when, SSRC, timestamp, event, end, duration.
type Row = (u64, u32, u32, u8, bool, u16);

fn presses(rows: &[Row]) -> String {
    let mut reader = KeyReader::default();
    let mut pressed = String::new();
    for &(ms, ssrc, time, event, end, duration) in rows {
        reader.let_go(at(ms));
        let payload = EventPayload {
            event,
            end,
            volume: 10,
            duration,
        }
        .to_bytes();
        if let KeyNews::Pressed(digit) = reader.read(at(ms), ssrc, RtpTime::new(time), &payload) {
            pressed.push(char::from(b"0123456789*#"[usize::from(digit.event())]));
        }
    }
    pressed
}

/// What happens, the keys it makes, the packets.
const PRESSES: &[(&str, &str, &[Row])] = &[
    (
        "a whole press",
        "5",
        &[
            (0, 1, 800, 5, false, 160),
            (20, 1, 800, 5, false, 320),
            (40, 1, 800, 5, true, 480),
            (40, 1, 800, 5, true, 480),
            (40, 1, 800, 5, true, 480),
        ],
    ),
    (
        "the start was lost",
        "5",
        &[(20, 1, 800, 5, false, 320), (40, 1, 800, 5, true, 480)],
    ),
    ("only one end packet came", "5", &[(40, 1, 800, 5, true, 480)]),
    (
        "the end was lost, another key follows",
        "59",
        &[(0, 1, 800, 5, false, 160), (200, 1, 2400, 9, false, 160)],
    ),
    (
        "the end was lost, the same key follows",
        "55",
        &[(0, 1, 800, 5, false, 160), (200, 1, 2400, 5, false, 160)],
    ),
    (
        "the timestamp changed inside one press",
        "5",
        &[
            (0, 1, 800, 5, false, 160),
            (20, 1, 960, 5, false, 160),
            (40, 1, 1120, 5, true, 160),
        ],
    ),
    (
        "the same key again after 50 ms, 30 of them lost to jitter",
        "55",
        &[
            (0, 1, 800, 5, false, 160),
            (60, 1, 800, 5, true, 480),
            (90, 1, 1680, 5, false, 160),
        ],
    ),
    (
        "another key within 40 ms is another key",
        "56",
        &[(0, 1, 800, 5, true, 160), (10, 1, 960, 6, false, 160)],
    ),
    (
        "a late end of the key before",
        "56",
        &[
            (0, 1, 800, 5, false, 160),
            (100, 1, 1600, 6, false, 160),
            (110, 1, 800, 5, true, 480),
            (120, 1, 1600, 6, true, 320),
        ],
    ),
    (
        "a key held for 10 s with its duration wrapped",
        "7",
        &[
            (0, 1, 800, 7, false, 160),
            (5_000, 1, 800, 7, false, 40_000),
            (9_000, 1, 800, 7, false, 6_624),
            (10_000, 1, 800, 7, true, 14_624),
        ],
    ),
    (
        "a long press in segments",
        "7",
        &[
            (0, 1, 800, 7, false, 160),
            (8_180, 1, 800, 7, false, 65_440),
            (8_200, 1, 66_240, 7, false, 160),
            (8_220, 1, 66_240, 7, true, 320),
        ],
    ),
    (
        "star and hash",
        "*#",
        &[(0, 1, 800, 10, true, 160), (300, 1, 3200, 11, true, 160)],
    ),
    (
        "A to D, flash, fax tones and others",
        "",
        &[
            (0, 1, 800, 12, false, 160),
            (100, 1, 1600, 15, false, 160),
            (200, 1, 2400, 16, false, 160),
            (300, 1, 3200, 36, false, 160),
            (400, 1, 4000, 255, true, 160),
        ],
    ),
    (
        "the timestamp wraps",
        "12",
        &[(0, 1, u32::MAX - 80, 1, true, 160), (200, 1, 1520, 2, true, 160)],
    ),
    (
        "a new line with lower timestamps after a while",
        "12",
        &[(0, 1, 500_000, 1, true, 160), (3_000, 1, 800, 2, true, 160)],
    ),
    (
        "another source",
        "12",
        &[(0, 1, 800, 1, true, 160), (200, 2, 400, 2, true, 160)],
    ),
    (
        "another source in the middle of a press",
        "1",
        &[(0, 1, 800, 1, false, 160), (20, 2, 99, 1, true, 320)],
    ),
];

#[test]
fn presses_are_told_apart_as_the_table_says() {
    for (what, expected, rows) in PRESSES {
        assert_eq!(presses(rows), *expected, "{what}");
    }
}

#[test]
fn a_press_without_an_end_is_let_go() {
    let mut reader = KeyReader::default();
    let payload = EventPayload {
        event: 5,
        end: false,
        volume: 10,
        duration: 160,
    }
    .to_bytes();
    reader.read(at(0), 1, RtpTime::new(800), &payload);
    assert_eq!(reader.let_go_at(), Some(at(100)));
    assert_eq!(reader.let_go(at(99)), KeyNews::Nothing);
    assert_eq!(reader.let_go(at(100)), KeyNews::Released);
    assert_eq!(reader.let_go(at(101)), KeyNews::Nothing);
    assert_eq!(reader.let_go_at(), None);
}

/// Steps a train until it is done, with the line's clock beside it.
fn run(train: &mut KeyTrain, until_ms: u64) -> Vec<(u64, TrainPacket)> {
    let mut packets = Vec::new();
    for ms in 0..until_ms {
        let line = RtpTime::new(u32::try_from(ms * 8).unwrap());
        while let Some(packet) = train.step(at(ms), line) {
            packets.push((ms, packet));
        }
    }
    packets
}

#[test]
fn a_train_starts_grows_and_ends_three_times() {
    let mut train = KeyTrain::default();
    train.press(Digit::Hash);
    train.release();
    let packets = run(&mut train, 1_000);
    let shown: Vec<_> = packets
        .iter()
        .map(|(ms, packet)| (*ms, packet.marker, packet.payload.duration, packet.payload.end))
        .collect();
    let expected = [
        (0, true, 160, false),
        (20, false, 320, false),
        (40, false, 480, false),
        (60, false, 640, true),
        (80, false, 640, true),
        (100, false, 640, true),
    ];
    assert_eq!(shown, expected);
    assert!(
        packets
            .iter()
            .all(|(_, packet)| packet.payload.event == 11 && packet.start == RtpTime::new(0))
    );
    assert_eq!(packets.iter().filter(|(_, packet)| packet.last).count(), 1);
    assert!(!train.is_sending());
    assert_eq!(train.due(), None);
}

#[test]
fn a_held_key_lasts_and_its_duration_never_wraps() {
    let mut train = KeyTrain::default();
    train.press(Digit::Number(1));
    let packets = run(&mut train, 20_000);
    assert_eq!(packets.last().unwrap().1.payload.duration, LONGEST);
    assert!(
        packets
            .windows(2)
            .all(|pair| pair[0].1.payload.duration <= pair[1].1.payload.duration)
    );
    assert_eq!(packets.iter().filter(|(_, packet)| packet.payload.end).count(), 3);
}

#[test]
fn quick_keys_wait_and_too_many_are_dropped() {
    let mut train = KeyTrain::default();
    for _ in 0..40 {
        train.press(Digit::Number(3));
    }
    train.release();
    let packets = run(&mut train, 10_000);
    let starts: Vec<u64> = packets
        .iter()
        .filter(|(_, packet)| packet.marker)
        .map(|(ms, _)| *ms)
        .collect();
    assert_eq!(starts.len(), QUEUE_LIMIT);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 140));
}

proptest! {
    #[test]
    fn reading_never_panics(rows in prop::collection::vec(
        (0u64..1_000, 0u32..3, any::<u32>(), prop::collection::vec(any::<u8>(), 0..8)), 0..100,
    )) {
        let mut reader = KeyReader::default();
        let mut now = at(0);
        for (step, ssrc, time, payload) in rows {
            now = now + Duration::from_millis(step);
            reader.let_go(now);
            reader.read(now, ssrc, RtpTime::new(time), &payload);
        }
    }

    #[test]
    fn any_train_reads_back_as_its_keys(keys in prop::collection::vec(0u8..12, 1..16), seed: u64) {
        let mut chance = IdSource::from_number(seed);
        let mut train = KeyTrain::default();
        for key in &keys {
            train.press(Digit::from_event(*key).unwrap());
        }
        train.release();
        let mut reader = KeyReader::default();
        let mut heard = Vec::new();
        for (ms, packet) in run(&mut train, 5_000) {
            if chance.below(20) == 0 {
                continue;
            }
            let news = reader.read(at(ms), 7, packet.start, &packet.payload.to_bytes());
            if let KeyNews::Pressed(digit) = news {
                heard.push(digit.event());
            }
        }
        prop_assert_eq!(heard, keys);
    }
}
