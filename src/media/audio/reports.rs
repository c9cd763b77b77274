//! A leg's RTCP of ours: when, from what numbers, and where to.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::media::receiver::Reception;
use crate::media::rtcp::{self, PeerReport, Report, SenderInfo};
use crate::media::sender::Sender;
use crate::now::{IdSource, Instant};
use crate::sdp::AudioParams;

#[derive(Debug)]
pub(super) struct Reports {
    /// Random, so that it tells nothing of host or user (RFC 7022).
    cname: String,
    opened: Instant,
    pub due: Instant,
    /// Packets sent by the last report.
    packets_then: u64,
    /// Middle of the NTP time of the peer's last sender report, and when it came.
    peer: Option<(u32, Instant)>,
    /// Where the peer's RTCP comes from.
    from: Option<SocketAddr>,
}

/// See [`Reports::restore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsSnapshot {
    pub cname: String,
    pub opened_ns: u64,
    pub from: Option<SocketAddr>,
}

impl Reports {
    /// The first report goes out after 2.5 to 5 s, so that many legs do not report in step.
    pub fn new(now: Instant, ids: &mut IdSource) -> Reports {
        Reports {
            cname: ids.token(),
            opened: now,
            due: now + Duration::from_millis(2_500 + ids.below(2_500)),
            packets_then: 0,
            peer: None,
            from: None,
        }
    }

    pub fn snapshot(&self) -> ReportsSnapshot {
        ReportsSnapshot {
            cname: self.cname.clone(),
            opened_ns: self.opened.as_nanos(),
            from: self.from,
        }
    }

    /// Goes on under the same name and on the same clock.
    pub fn restore(now: Instant, saved: &ReportsSnapshot, ids: &mut IdSource) -> Reports {
        Reports {
            cname: saved.cname.clone(),
            opened: Instant::from_nanos(saved.opened_ns),
            from: saved.from,
            ..Reports::new(now, ids)
        }
    }

    pub fn note_peer(&mut self, now: Instant, from: SocketAddr, report: PeerReport) {
        if let Some(middle) = report.ntp_middle {
            self.peer = Some((middle, now));
        }
        self.from = Some(from);
    }

    /// The peer's RTCP has a new address.
    pub fn forget_peer(&mut self) {
        self.from = None;
    }

    /// Where the peer's RTCP came from, else what the SDP says, else next to a latched RTP address.
    pub fn destination(&self, latched: SocketAddr, audio: &AudioParams) -> SocketAddr {
        let guessed = if latched == audio.remote {
            audio.remote_rtcp
        } else {
            SocketAddr::new(latched.ip(), latched.port().saturating_add(1))
        };
        self.from.unwrap_or(guessed)
    }

    /// Appends a sender report if something was sent since the last one, else a receiver report.
    pub fn write(
        &mut self,
        now: Instant,
        sender: &Sender,
        reception: Option<Reception>,
        bye: bool,
        out: &mut Vec<u8>,
    ) {
        let counts = sender.counts();
        let active = counts.packets != self.packets_then;
        self.packets_then = counts.packets;
        let info = active.then(|| SenderInfo {
            elapsed: now.since(self.opened),
            time: sender.time_at(now),
            packets: counts.packets,
            octets: counts.octets,
        });
        let report = Report {
            ssrc: sender.ssrc(),
            sender: info,
            reception,
            last_report: self.peer.map(|(middle, at)| (middle, now.since(at))),
            cname: &self.cname,
            bye,
        };
        rtcp::write_report(&report, out);
    }
}
