use super::*;
use crate::media::rtp::write_packet;
use crate::now::IdSource;
use crate::sdp::{Codec, Direction, DtmfTypes};

fn at(us: u64) -> Instant {
    Instant::default() + Duration::from_micros(1_000_000 + us)
}

fn params() -> AudioParams {
    AudioParams {
        codec: Codec::Pcma,
        send_pt: 8,
        receive_pt: 8,
        dtmf: Some(DtmfTypes {
            send_pt: 101,
            receive_pt: 101,
        }),
        remote: "198.51.100.1:4000".parse().unwrap(),
        remote_rtcp: "198.51.100.1:4001".parse().unwrap(),
        direction: Direction::SendRecv,
        ptime_ms: 20,
    }
}

fn packet(payload_type: u8, seq: u16, time: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (seq, time, payload) = (SeqNo::new(seq), RtpTime::new(time), vec![1; length]);
    let packet = RtpPacket {
        marker: false,
        payload_type,
        seq,
        time,
        ssrc: 7,
        payload: &payload,
    };
    write_packet(&packet, &mut bytes);
    bytes
}

/// Feeds these sequence numbers, 20 ms apart, each with the timestamp that belongs to it.
fn fed(seqs: &[u16]) -> Receiver {
    let mut receiver = Receiver::new(&params());
    for (n, seq) in seqs.iter().enumerate() {
        let now = at(u64::try_from(n).unwrap() * 20_000);
        receiver.accept(
            now,
            params().remote,
            &packet(8, *seq, u32::from(*seq).wrapping_mul(160), 160),
        );
    }
    receiver
}

#[test]
fn loss_is_counted_as_the_table_says() {
    let table: &[(&str, &[u16], u64, u64)] = &[
        ("nothing", &[], 0, 0),
        ("one", &[5], 1, 0),
        ("in order", &[5, 6, 7, 8], 4, 0),
        ("one missing", &[5, 6, 8, 9], 4, 1),
        ("out of order", &[5, 7, 6, 8], 4, 0),
        ("repeated, never negative", &[5, 6, 6, 6, 7], 5, 0),
        ("over the wrap", &[65_534, 65_535, 0, 1], 4, 0),
        ("over the wrap with loss", &[65_534, 1, 2], 3, 2),
        ("a jump needs two in a row", &[5, 6, 30_000, 7], 3, 0),
        ("a restart", &[5, 6, 30_000, 30_001, 30_002], 4, 0),
    ];
    for (what, seqs, received, lost) in table {
        let stats = fed(seqs).stats(0);
        assert_eq!((stats.received, stats.lost), (*received, *lost), "{what}");
    }
}

#[test]
fn jitter_follows_the_formula_of_the_rfc() {
    let mut receiver = Receiver::new(&params());
    let mut chance = IdSource::from_number(1);
    let (mut expected, mut before) = (0.0_f64, None);
    for n in 0..2_000_u32 {
        let late_us = chance.below(20_000);
        let now = at(u64::from(n) * 20_000 + late_us);
        let seq = u16::try_from(n).unwrap();
        receiver.accept(now, params().remote, &packet(8, seq, n * 160, 160));
        let transit = f64::from(u32::try_from(late_us).unwrap()) * 0.008;
        if let Some(before) = before {
            let change: f64 = transit - before;
            expected += (change.abs() - expected) / 16.0;
        }
        before = Some(transit);
    }
    let measured = f64::from(receiver.stats(0).jitter_us) / 125.0;
    assert!(
        (measured - expected).abs() < 2.0,
        "{measured} against {expected} samples"
    );
}

#[test]
fn a_steady_stream_has_no_jitter_whatever_its_packet_length() {
    for ms in [10_u32, 20, 30, 60] {
        let mut receiver = Receiver::new(&params());
        for n in 0..200_u32 {
            let now = at(u64::from(n * ms) * 1_000);
            let length = usize::try_from(ms * 8).unwrap();
            let seq = u16::try_from(n).unwrap();
            let bytes = packet(8, seq, (n * ms * 8).wrapping_sub(3_000), length);
            let arrival = receiver.accept(now, params().remote, &bytes);
            assert!(matches!(arrival, Arrival::Audio { payload, .. } if payload.len() == length));
        }
        assert_eq!(receiver.stats(0).jitter_us, 0, "{ms} ms");
    }
}

#[test]
fn only_what_was_agreed_is_taken() {
    let table: &[(u8, usize, bool)] = &[
        (8, 160, true),
        (8, 80, true),
        (8, 480, true),
        (8, 0, false),
        (8, 1_200, false),
        (0, 160, false),
        (101, 4, true),
        (101, 3, false),
        (97, 4, false),
        (13, 1, true),
        (126, 0, false),
    ];
    for (payload_type, length, taken) in table {
        let mut receiver = Receiver::new(&params());
        let bytes = packet(*payload_type, 1, 0, *length);
        let arrival = receiver.accept(at(0), params().remote, &bytes);
        assert_eq!(
            arrival != Arrival::Rejected,
            *taken,
            "type {payload_type}, {length} bytes"
        );
        assert_eq!(receiver.stats(0).foreign, 0, "the peer's own junk is not foreign");
    }
}

#[test]
fn a_report_counts_since_the_last_one() {
    let mut receiver = fed(&[1, 2, 3, 5, 6, 7, 8, 9]);
    let first = receiver.report().unwrap();
    assert_eq!(
        (first.ssrc, first.fraction_lost, first.lost, first.highest_seq),
        (7, 28, 1, 9)
    );
    for seq in [10, 12] {
        receiver.accept(at(0), params().remote, &packet(8, seq, 0, 160));
    }
    let second = receiver.report().unwrap();
    assert_eq!(
        (second.fraction_lost, second.lost, second.highest_seq),
        (85, 2, 12)
    );
    assert_eq!(receiver.report().unwrap().fraction_lost, 0);
}

#[test]
fn hosts_are_private_as_the_table_says() {
    let table = [
        ("10.1.2.3", true),
        ("172.16.0.1", true),
        ("172.32.0.1", false),
        ("192.168.0.1", true),
        ("169.254.1.1", true),
        ("100.64.0.1", true),
        ("100.128.0.1", false),
        ("198.51.100.1", false),
        ("127.0.0.1", false),
        ("fd00::1", true),
        ("fe80::1", true),
        ("2001:db8::1", false),
    ];
    for (host, private) in table {
        assert_eq!(is_private(host.parse().unwrap()), private, "{host}");
    }
}
