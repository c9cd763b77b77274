//! A minimum of RTCP: our reports every 5 s with an anonymous name, a BYE at the end, and of the
//! peer's packets just enough to know that it lives and when its last report came.
//!
//! Nothing in RTCP ever ends a call: a BYE of the peer is a sign of life like any other, since
//! anyone could forge it (reliability.md T10). Deliberately absent: feedback, extended reports.
//! The NTP time in our sender reports counts from the leg's start, as RFC 3550 §4 allows for hosts
//! without a wall clock; the host's time is nobody's business.

use std::time::Duration;

use crate::media::receiver::Reception;
use crate::media::rtp::RtpTime;

/// Our reporting interval (RFC 3550 §6.2 minimum).
pub const INTERVAL: Duration = Duration::from_secs(5);

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const APP: u8 = 204;
const CNAME_ITEM: u8 = 1;

/// One compound packet of ours.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub ssrc: u32,
    /// Present if we have sent RTP since the last report: makes it a sender report.
    pub sender: Option<SenderInfo>,
    pub reception: Option<Reception>,
    /// The peer's last sender report: middle of its NTP time, and how long ago it came.
    pub last_report: Option<(u32, Duration)>,
    /// A random name; at most 64 bytes.
    pub cname: &'a str,
    pub bye: bool,
}

/// The sender's part (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug)]
pub struct SenderInfo {
    /// Since the leg's start.
    pub elapsed: Duration,
    pub time: RtpTime,
    pub packets: u64,
    pub octets: u64,
}

/// What a peer's compound packet tells us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerReport {
    /// The middle 32 bits of the NTP time of its sender report.
    pub ntp_middle: Option<u32>,
}

/// Appends the compound packet.
pub fn write_report(report: &Report<'_>, out: &mut Vec<u8>) {
    let blocks = u8::from(report.reception.is_some());
    let sender_words = if report.sender.is_some() { 5 } else { 0 };
    let kind = if report.sender.is_some() {
        SENDER_REPORT
    } else {
        RECEIVER_REPORT
    };
    write_head(blocks, kind, 1 + sender_words + 6 * u16::from(blocks), out);
    out.extend(report.ssrc.to_be_bytes());
    if let Some(sender) = &report.sender {
        let seconds = sender.elapsed.as_secs();
        let fraction = (u64::from(sender.elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        for word in [seconds, fraction] {
            out.extend(low_word(word).to_be_bytes());
        }
        out.extend(sender.time.get().to_be_bytes());
        for word in [sender.packets, sender.octets] {
            out.extend(low_word(word).to_be_bytes());
        }
    }
    if let Some(block) = &report.reception {
        let (last, delay) = report.last_report.unwrap_or_default();
        let lost = u32::try_from(block.lost.min(0x7f_ffff)).unwrap_or(0);
        out.extend(block.ssrc.to_be_bytes());
        out.extend((u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
        out.extend(block.highest_seq.to_be_bytes());
        out.extend(block.jitter.to_be_bytes());
        out.extend(last.to_be_bytes());
        // Units of 1/65536 s.
        let units = delay.as_nanos() * 65_536 / 1_000_000_000;
        out.extend(u32::try_from(units).unwrap_or(u32::MAX).to_be_bytes());
    }
    write_description(report.ssrc, report.cname, out);
    if report.bye {
        write_head(1, BYE, 1, out);
        out.extend(report.ssrc.to_be_bytes());
    }
}

/// Walks a compound packet. `None` if it is no RTCP at all; a part that is cut short or unknown
/// ends the walk, and what was read before it stands.
pub fn read_compound(bytes: &[u8]) -> Option<PeerReport> {
    let mut report = PeerReport::default();
    let mut rest = bytes;
    let mut parts = 0;
    while let Some((head, body)) = rest.split_first_chunk::<4>() {
        let [flags, kind, high, low] = *head;
        let length = usize::from(u16::from_be_bytes([high, low])) * 4;
        if flags >> 6 != 2 || !(SENDER_REPORT..=APP + 3).contains(&kind) || body.len() < length {
            break;
        }
        let (part, after) = body.split_at(length);
        if kind == SENDER_REPORT {
            let middle = part.get(6..10).and_then(|word| word.first_chunk::<4>());
            report.ntp_middle = middle.map(|word| u32::from_be_bytes(*word)).or(report.ntp_middle);
        }
        parts += 1;
        rest = after;
    }
    (parts > 0).then_some(report)
}

fn write_head(count: u8, kind: u8, words: u16, out: &mut Vec<u8>) {
    let [high, low] = words.to_be_bytes();
    out.extend([0x80 | count, kind, high, low]);
}

fn write_description(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(cname.len().min(64)).unwrap_or(0);
    let name = cname.as_bytes().get(..usize::from(length)).unwrap_or_default();
    // SSRC, the item with its two bytes of head, and at least one zero byte up to the next word.
    let item_words = (u16::from(length) + 2) / 4 + 1;
    write_head(1, SOURCE_DESCRIPTION, 1 + item_words, out);
    out.extend(ssrc.to_be_bytes());
    let item_end = out.len() + usize::from(item_words) * 4;
    out.extend([CNAME_ITEM, length]);
    out.extend(name);
    out.resize(item_end, 0);
}

fn low_word(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> Report<'static> {
        Report {
            ssrc: 0x0102_0304,
            sender: Some(SenderInfo {
                elapsed: Duration::from_millis(1500),
                time: RtpTime::new(12_000),
                packets: 75,
                octets: 12_000,
            }),
            reception: Some(Reception {
                ssrc: 9,
                fraction_lost: 64,
                lost: 3,
                highest_seq: 77,
                jitter: 5,
            }),
            last_report: Some((0xaabb_ccdd, Duration::from_millis(500))),
            cname: "0123456789abcdef",
            bye: true,
        }
    }

    #[test]
    fn a_report_is_laid_out_as_the_rfc_says() {
        let mut out = Vec::new();
        write_report(&full(), &mut out);
        let sender = [
            0x81, 200, 0, 12, 1, 2, 3, 4, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0x2e, 0xe0, 0, 0, 0, 75, 0, 0,
            0x2e, 0xe0,
        ];
        assert_eq!(out[..28], sender);
        let block = [
            0, 0, 0, 9, 64, 0, 0, 3, 0, 0, 0, 77, 0, 0, 0, 5, 0xaa, 0xbb, 0xcc, 0xdd, 0, 0, 0x80, 0,
        ];
        assert_eq!(out[28..52], block);
        assert_eq!(out[52..62], [0x81, 202, 0, 6, 1, 2, 3, 4, 1, 16]);
        assert_eq!(&out[62..78], b"0123456789abcdef");
        assert_eq!(out[78..80], [0, 0]);
        assert_eq!(out[80..], [0x81, 203, 0, 1, 1, 2, 3, 4]);
    }

    #[test]
    fn without_traffic_it_is_a_bare_receiver_report() {
        let mut out = Vec::new();
        let report = Report {
            sender: None,
            reception: None,
            last_report: None,
            bye: false,
            ..full()
        };
        write_report(&report, &mut out);
        assert_eq!(out[..8], [0x80, 201, 0, 1, 1, 2, 3, 4]);
        assert_eq!(read_compound(&out), Some(PeerReport { ntp_middle: None }));
    }

    #[test]
    fn the_peers_sender_report_is_found() {
        let mut out = Vec::new();
        write_report(&full(), &mut out);
        assert_eq!(
            read_compound(&out),
            Some(PeerReport {
                ntp_middle: Some(0x0001_8000)
            })
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _seen = read_compound(&bytes);
        }

        #[test]
        fn a_cut_report_is_read_as_far_as_it_goes(cut in 0usize..88) {
            let mut out = Vec::new();
            write_report(&full(), &mut out);
            let _seen = read_compound(&out[..cut.min(out.len())]);
        }
    }
}
