//! Any datagrams at any time into a whole call, for the fuzzer and for tests with mutated seeds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{AudioInput, AudioOut, AudioOutput, CallAudio};
use crate::ids::{CallKey, PlayId, Side};
use crate::media::bank::{BEEP_10, PromptBank};
use crate::media::rtp::{RtpPacket, RtpTime, SeqNo};
use crate::media::{Duck, MediaCommand, MediaLimits, MediaPort, PortId, PromptSetId, Utterance};
use crate::now::{IdSource, Instant};
use crate::sdp::{AudioParams, Codec, Direction, DtmfTypes};

/// Reads `bytes` as a program of steps (what to do, how long to wait, how many bytes follow) and
/// runs it over a bridged call.
///
/// # Panics
/// If a line breaks: a sequence number left out, a second SSRC, a timestamp that goes back, or a
/// deadline that is never met.
pub fn fuzz(bytes: &[u8]) {
    let bank = PromptBank::builder().build();
    let limits = MediaLimits {
        rtp_lost: Duration::from_secs(20),
    };
    let mut audio = CallAudio::new(CallKey::new(1), limits, IdSource::from_number(1));
    let mut now = Instant::default();
    let mut out = AudioOut::new();
    let mut lines = [None, None];
    let opening = [open(Side::A), open(Side::B)];
    for (side, command) in [Side::A, Side::B].into_iter().zip(&opening) {
        audio.handle(now, AudioInput::Order { side, command }, &bank, &mut out);
    }
    let mut rest = bytes;
    while let Some(([what, wait_ms, length], after)) = rest.split_first_chunk::<3>() {
        let (datagram, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        now = now + Duration::from_millis(u64::from(*wait_ms));
        let side = if what & 1 == 0 { Side::A } else { Side::B };
        let from = peer(side, u16::from(what >> 1 & 1));
        match what >> 2 & 7 {
            0 => audio.handle(
                now,
                AudioInput::Rtcp {
                    side,
                    from,
                    bytes: datagram,
                },
                &bank,
                &mut out,
            ),
            1 => {
                let command = order(side, what >> 5);
                audio.handle(
                    now,
                    AudioInput::Order {
                        side,
                        command: &command,
                    },
                    &bank,
                    &mut out,
                );
            }
            _ => audio.handle(
                now,
                AudioInput::Rtp {
                    side,
                    from,
                    bytes: datagram,
                },
                &bank,
                &mut out,
            ),
        }
        audio.handle(now, AudioInput::Timeout, &bank, &mut out);
        let due = audio.next_timeout().map(|(due, _)| due);
        assert!(due.is_none_or(|due| due > now), "what was due is done");
        check(&mut lines, &out);
        out.clear();
    }
}

fn check(lines: &mut [Option<(u32, SeqNo, RtpTime)>; 2], out: &AudioOut) {
    for item in out.items() {
        let AudioOutput::SendRtp { side, packet, .. } = item else {
            continue;
        };
        let packet = RtpPacket::read(out.bytes(packet)).expect("what we send is RTP");
        let [a, b] = &mut *lines;
        let line = if *side == Side::A { a } else { b };
        if let Some((ssrc, seq, time)) = line {
            assert_eq!(packet.ssrc, *ssrc, "one SSRC");
            assert_eq!(packet.seq, seq.next(), "no number left out");
            assert!(packet.time.since(*time) >= 0, "time never goes back");
        }
        *line = Some((packet.ssrc, packet.seq, packet.time));
    }
}

fn peer(side: Side, more: u16) -> SocketAddr {
    let port = if side == Side::A { 4000 } else { 5000 };
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), port + more)
}

fn params(side: Side, direction: Direction) -> AudioParams {
    let codec = if side == Side::A { Codec::Pcma } else { Codec::Pcmu };
    let payload_type = if side == Side::A { 8 } else { 0 };
    AudioParams {
        codec,
        send_pt: payload_type,
        receive_pt: payload_type,
        dtmf: Some(DtmfTypes {
            send_pt: 101,
            receive_pt: 101,
        }),
        remote: peer(side, 0),
        remote_rtcp: peer(side, 1),
        direction,
        ptime_ms: 20,
    }
}

fn open(side: Side) -> MediaCommand {
    let rtp = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20_000);
    MediaCommand::Open {
        port: MediaPort { id: PortId(1), rtp },
        audio: params(side, Direction::SendRecv),
    }
}

fn order(side: Side, which: u8) -> MediaCommand {
    let (id, duck) = (PlayId(1), Duck::Db12);
    let utterance = Utterance {
        set: PromptSetId(0),
        prompts: vec![BEEP_10],
    };
    match which {
        0 => MediaCommand::Bridge,
        1 => MediaCommand::Unbridge,
        2 => MediaCommand::Play { id, utterance },
        3 => MediaCommand::Mix { id, utterance, duck },
        4 => MediaCommand::Ringback,
        5 => MediaCommand::Update {
            audio: params(side, Direction::RecvOnly),
        },
        6 => MediaCommand::Update {
            audio: params(side, Direction::SendRecv),
        },
        _ => MediaCommand::Silence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::dtmf::EventPayload;
    use crate::media::rtp::write_packet;

    fn step(what: u8, wait_ms: u8, datagram: &[u8], program: &mut Vec<u8>) {
        program.extend([what, wait_ms, u8::try_from(datagram.len()).unwrap()]);
        program.extend(datagram);
    }

    /// A short talk both ways with a key of A, under a mix.
    fn seed() -> Vec<u8> {
        let mut program = Vec::new();
        step(1 << 2, 0, &[], &mut program);
        for n in 0..40_u16 {
            if n == 10 {
                step(1 << 2 | 3 << 5, 0, &[], &mut program);
            }
            let time = RtpTime::new(u32::from(n) * 160);
            for side in [0, 1] {
                let key = side == 0 && (20..26).contains(&n);
                let payload_type = if key { 101 } else { [8, 0][usize::from(side)] };
                let event = EventPayload {
                    event: 5,
                    end: n == 25,
                    volume: 10,
                    duration: (n.max(20) - 19) * 160,
                };
                let talk = [1; 160];
                let payload = if key { &event.to_bytes()[..] } else { &talk };
                let time = if key { RtpTime::new(3_200) } else { time };
                let (seq, ssrc) = (SeqNo::new(n), u32::from(side));
                let mut bytes = Vec::new();
                write_packet(
                    &RtpPacket {
                        marker: false,
                        payload_type,
                        seq,
                        time,
                        ssrc,
                        payload,
                    },
                    &mut bytes,
                );
                step(2 << 2 | side, 10, &bytes, &mut program);
            }
        }
        program
    }

    #[test]
    fn mutated_calls_break_no_line() {
        let seed = seed();
        fuzz(&seed);
        let mut chance = IdSource::from_number(11);
        for _ in 0..100 {
            let mut program = seed.clone();
            for _ in 0..1 + chance.below(20) {
                let at = usize::try_from(chance.below(program.len() as u64)).unwrap();
                match chance.below(3) {
                    0 => program[at] = chance.next_u32().to_be_bytes()[0],
                    1 => drop(program.remove(at)),
                    _ => program.insert(at, chance.next_u32().to_be_bytes()[0]),
                }
            }
            fuzz(&program);
        }
    }
}
