use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::driver::{Event, Queue, inbox};
use crate::ids::{PlayId, Side};
use crate::media::{PromptId, PromptSetId, Utterance};
use crate::sdp::{AudioParams, Codec, Direction};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(10);

struct Bench {
    plane: MediaPlane,
    queue: Queue,
    ports: Vec<MediaPort>,
    snapshots: mpsc::Receiver<(CallKey, AudioSnapshot)>,
}

impl Bench {
    fn new(stock: usize, ports: RangeInclusive<u16>) -> Bench {
        let (inbox, queue) = inbox();
        let samples: Vec<i16> = (0..800).map(|n| (n % 100) * 50).collect();
        let mut builder = PromptBank::builder();
        builder.add(PromptSetId(0), PromptId::fixed("hello"), &samples);
        let plan = MediaPlan {
            listen: LOCALHOST,
            advertise: LOCALHOST,
            ports,
            stock,
            threads: NonZeroUsize::new(2),
            limits: MediaLimits {
                rtp_lost: Duration::from_secs(20),
            },
        };
        let mut ids = IdSource::from_number(u64::from(std::process::id()));
        let (kept, snapshots) = mpsc::channel();
        let kept = Mutex::new(kept);
        let reporting = Reporting {
            inbox,
            keep: Arc::new(move |call, snapshot| kept.lock().unwrap().send((call, snapshot)).unwrap()),
        };
        let bank = Arc::new(builder.build());
        let mut plane =
            MediaPlane::start(&plan, &bank, Clock::start(), &reporting, &mut ids).expect("threads start");
        let ports = plane.refill();
        Bench {
            plane,
            queue,
            ports,
            snapshots,
        }
    }

    fn order(&mut self, call: u64, side: Side, command: MediaCommand) {
        let call = CallKey::new(call);
        match self.plane.carry_out(MediaOrder { call, side, command }) {
            Some(Input::Ports(fresh)) => self.ports.extend(fresh),
            None => {}
            Some(other) => panic!("{other:?}"),
        }
    }

    fn open(&mut self, call: u64, side: Side, remote: SocketAddr) -> MediaPort {
        let port = self.ports.remove(0);
        let audio = AudioParams {
            codec: Codec::Pcma,
            send_pt: 8,
            receive_pt: 8,
            dtmf: None,
            remote,
            remote_rtcp: SocketAddr::new(remote.ip(), remote.port() + 1),
            direction: Direction::SendRecv,
            ptime_ms: 20,
        };
        self.order(call, side, MediaCommand::Open { port, audio });
        port
    }

    /// The next report or freed port.
    fn event(&self) -> Event {
        self.queue.events.recv_timeout(FAILED).expect("an event in time")
    }

    fn report(&self) -> MediaReport {
        loop {
            if let Event::Input(Input::Media(report)) = self.event() {
                return report;
            }
        }
    }
}

fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_read_timeout(Some(FAILED)).expect("a timeout");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

struct Packet {
    payload_type: u8,
    sequence: u16,
    time: u32,
    ssrc: u32,
    payload: Vec<u8>,
}

fn receive(socket: &UdpSocket) -> Packet {
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).expect("a packet in time");
    let bytes = &buffer[..length];
    Packet {
        payload_type: bytes[1] & 0x7f,
        sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
        time: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        ssrc: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        payload: bytes[12..].to_vec(),
    }
}

#[test]
fn a_prompt_reaches_a_plain_receiver_on_one_unbroken_line() {
    let mut bench = Bench::new(4, 41000..=41999);
    let (socket, address) = receiver();
    bench.open(7, Side::A, address);
    let utterance = Utterance {
        set: PromptSetId(0),
        prompts: vec![PromptId::fixed("hello"), PromptId::fixed("hello")],
    };
    let id = PlayId(1);
    bench.order(7, Side::A, MediaCommand::Play { id, utterance });
    let packets: Vec<Packet> = (0..15).map(|_| receive(&socket)).collect();
    for pair in packets.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].time, pair[0].time.wrapping_add(160));
    }
    assert!(
        packets
            .iter()
            .all(|p| p.payload_type == 8 && p.payload.len() == 160)
    );
    let spoken = packets.iter().filter(|p| p.payload.iter().any(|b| *b != 0xd5));
    assert!(spoken.count() >= 10, "two prompts of 100 ms are ten packets");
    let event = bench.report().event;
    assert_eq!(event, MediaEvent::PlayEnded { id, finished: true });
    bench.plane.stop();
}

#[test]
fn a_packet_is_relayed_between_the_legs_of_a_call() {
    let mut bench = Bench::new(4, 42000..=42999);
    let ((a, to_a), (b, to_b)) = (receiver(), receiver());
    let port_a = bench.open(8, Side::A, to_a);
    bench.open(8, Side::B, to_b);
    bench.order(8, Side::A, MediaCommand::Bridge);
    until_heard(&a, port_a.rtp, 1, &b);
    bench.plane.stop();
}

/// One side talks on, from this packet, until the other one hears it; gives that packet. The orders
/// and the packets reach the thread by different ways. The listening leg gets a packet each 20 ms
/// in any case, so this ends.
fn until_heard(talker: &UdpSocket, port: SocketAddr, first: u16, listener: &UdpSocket) -> (u16, Packet) {
    // RFC 3550 §5.1: version 2, payload type 8; 160 samples of one value that silence never has.
    let mut packet = vec![0x80, 8, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
    packet.extend([0x2a; 160]);
    for sequence in first..first + 200 {
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(160 * u32::from(sequence)).to_be_bytes());
        talker.send_to(&packet, port).expect("sent");
        let heard = receive(listener);
        if heard.payload == [0x2a; 160] {
            return (sequence, heard);
        }
    }
    panic!("200 packets were sent and none was relayed");
}

#[test]
fn a_bridge_goes_on_in_another_plane_on_the_same_ports_and_lines() {
    let mut bench = Bench::new(4, 44000..=44399);
    let ((a, to_a), (b, to_b)) = (receiver(), receiver());
    let port_a = bench.open(8, Side::A, to_a);
    let port_b = bench.open(8, Side::B, to_b);
    bench.order(8, Side::A, MediaCommand::Bridge);
    let (sequence, before) = until_heard(&a, port_a.rtp, 1, &b);
    bench.plane.hand_over();
    let (call, saved) = bench.snapshots.try_iter().last().expect("a last snapshot");
    assert_eq!(call, CallKey::new(8));
    assert_eq!((saved.a.rtp, saved.b.rtp), (port_a.rtp, port_b.rtp));

    let mut next = Bench::new(4, 44400..=44799);
    let rebound = next
        .plane
        .rebind(call, saved.clone())
        .expect("the ports are free");
    assert!(next.plane.rebind(call, saved).is_err(), "and then they are not");
    next.plane.resume(rebound);
    let (_, after) = until_heard(&a, port_a.rtp, sequence + 20, &b);
    assert_eq!(after.ssrc, before.ssrc);
    let steps = after.sequence.wrapping_sub(before.sequence);
    assert!((1..3000).contains(&steps), "the sequence jumps by {steps}");
    let samples = after.time.wrapping_sub(before.time);
    assert!((160..8_000_000).contains(&samples), "the time jumps by {samples}");
    let first = next.report();
    assert_eq!((first.side, first.event), (Side::A, MediaEvent::FirstPacket));
    next.order(8, Side::A, MediaCommand::Close);
    next.order(8, Side::B, MediaCommand::Close);
    let freed: Vec<u16> = std::iter::repeat_with(|| next.event())
        .filter_map(|event| {
            if let Event::PortFreed(port) = event {
                Some(port)
            } else {
                None
            }
        })
        .take(2)
        .collect();
    assert_eq!(freed, [port_a.rtp.port(), port_b.rtp.port()]);
    next.plane.stop();
}

#[test]
fn a_call_whose_port_is_taken_cannot_be_rebound_and_holds_nothing() {
    let mut bench = Bench::new(4, 44800..=44999);
    let ((_a, to_a), (_b, to_b)) = (receiver(), receiver());
    let port_a = bench.open(8, Side::A, to_a);
    let port_b = bench.open(8, Side::B, to_b);
    bench.order(8, Side::A, MediaCommand::Bridge);
    bench.plane.hand_over();
    let (call, saved) = bench.snapshots.try_iter().last().expect("a last snapshot");
    let _stranger = UdpSocket::bind(port_b.rtp).expect("free by now");
    let mut next = Bench::new(4, 44400..=44799);
    assert!(next.plane.rebind(call, saved).is_err());
    UdpSocket::bind(port_a.rtp).expect("given back");
    next.plane.stop();
}

#[test]
fn the_stock_is_full_again_after_each_leg_and_a_closed_port_comes_back() {
    // Room for three pairs: two wait, one more follows when the first is taken.
    let mut bench = Bench::new(2, 43000..=43005);
    assert_eq!(bench.ports.len(), 2);
    let (_socket, address) = receiver();
    let first = bench.open(1, Side::A, address);
    assert_eq!(bench.ports.len(), 2, "the range's last pair took its place");
    bench.open(2, Side::A, address);
    assert_eq!(bench.ports.len(), 1, "the range is used up");
    bench.order(1, Side::A, MediaCommand::Close);
    let report = bench.report();
    assert!(matches!(report.event, MediaEvent::Closed(_)), "{report:?}");
    let Event::PortFreed(freed) = bench.event() else {
        panic!("the port follows the report");
    };
    assert_eq!(freed, first.rtp.port());
    let Some(Input::Ports(fresh)) = bench.plane.freed(freed) else {
        panic!("no fresh port");
    };
    assert_eq!(fresh.len(), 1);
    assert_eq!(fresh[0].rtp.port(), freed);
    assert_ne!(fresh[0].id, first.id, "an id is never used again");
    bench.plane.stop();
}

#[test]
fn a_leg_on_an_unknown_port_is_reported_closed() {
    let mut bench = Bench::new(2, 44000..=44999);
    let (_socket, address) = receiver();
    let port = bench.open(1, Side::A, address);
    let audio = AudioParams {
        codec: Codec::Pcma,
        send_pt: 8,
        receive_pt: 8,
        dtmf: None,
        remote: address,
        remote_rtcp: address,
        direction: Direction::SendRecv,
        ptime_ms: 20,
    };
    let call = CallKey::new(2);
    let order = MediaOrder {
        call,
        side: Side::A,
        command: MediaCommand::Open { port, audio },
    };
    let told = bench.plane.carry_out(order);
    assert!(
        matches!(
            told,
            Some(Input::Media(MediaReport {
                event: MediaEvent::Closed(_),
                ..
            }))
        ),
        "{told:?}"
    );
    bench.plane.stop();
}
