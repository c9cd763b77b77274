//! What a bridged call's media needs to go on in another process: who the peers are, how the lines
//! stand, and which ports were told to whom.
//!
//! Handed out when the bridge stands, when a latch moves, when a leg is changed, and every few
//! seconds, since sequence numbers run on. A successor extrapolates from there.
//!
//! Deliberately absent: a prompt or a warning that plays (it is not heard again), digits (they are
//! in no snapshot; a press that was seen is known by its timestamp), and calls without a bridge.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::leg::Leg;
use super::reports::{Reports, ReportsSnapshot};
use super::{AudioOut, AudioOutput, CallAudio};
use crate::ids::{CallKey, Side};
use crate::media::dtmf::KeyReader;
use crate::media::receiver::{PeerSnapshot, Receiver};
use crate::media::sender::{LineSnapshot, Sender};
use crate::media::{MediaLimits, MediaPort, PortId};
use crate::now::{IdSource, Instant};
use crate::sdp::AudioParams;

/// Both legs of a bridged call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioSnapshot {
    /// When it was taken, on the machine's monotonic clock.
    pub saved_ns: u64,
    pub a: LegSnapshot,
    pub b: LegSnapshot,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSnapshot {
    /// The address that the peer was told; a successor binds this port.
    pub rtp: SocketAddr,
    pub audio: AudioParams,
    pub opened_ns: u64,
    pub line: LineSnapshot,
    pub peer: PeerSnapshot,
    pub reports: ReportsSnapshot,
    /// SSRC and timestamp of the last key press.
    pub last_press: Option<(u32, u32)>,
}

/// A snapshot is not older than this while the call is bridged; sequence numbers move on by some
/// 50 a second.
const EVERY: Duration = Duration::from_secs(5);
/// The first comes early, so that many calls that were restored together part.
const SPREAD_MS: u64 = 4_000;

impl AudioSnapshot {
    pub fn leg(&self, side: Side) -> &LegSnapshot {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

impl CallAudio {
    /// Takes a bridged call up where another process left it, on the sockets of the same ports
    /// (`ids` are theirs here: A's, B's). Each side's first packet is reported as such again.
    pub fn restore(
        now: Instant,
        call: CallKey,
        saved: &AudioSnapshot,
        ports: (PortId, PortId),
        limits: MediaLimits,
        ids: IdSource,
        out: &mut AudioOut,
    ) -> CallAudio {
        let mut audio = CallAudio::new(call, limits, ids);
        let at = Instant::from_nanos(saved.saved_ns);
        for (side, port) in [(Side::A, ports.0), (Side::B, ports.1)] {
            let leg = restore_leg(
                now,
                (call, side),
                (at, saved.leg(side)),
                port,
                limits,
                &mut audio.ids,
            );
            *audio.slot(side) = Some(leg);
        }
        audio.bridge(now, out);
        audio.keep_at = Some(now + Duration::from_millis(audio.ids.below(SPREAD_MS)));
        audio
    }

    /// The bridge as it stands; `None` if there is none.
    pub fn snapshot(&self, now: Instant) -> Option<AudioSnapshot> {
        let (a, b) = self.a.as_ref().zip(self.b.as_ref()).filter(|_| self.bridged)?;
        Some(AudioSnapshot {
            saved_ns: now.as_nanos(),
            a: leg_snapshot(a),
            b: leg_snapshot(b),
        })
    }

    /// Hands a snapshot out if it is due or a peer has moved.
    pub(super) fn keep(&mut self, now: Instant, out: &mut AudioOut) {
        let legs = self.a.iter_mut().chain(self.b.iter_mut());
        // Each is asked, so that each forgets.
        let moved = legs.fold(false, |moved, leg| leg.has_moved() | moved);
        let due = self.keep_at.is_some_and(|at| at <= now);
        let wanted = due || moved && self.bridged;
        if !wanted {
            return;
        }
        self.keep_at = None;
        if let Some(snapshot) = self.snapshot(now) {
            self.keep_at = Some(now + EVERY);
            out.items.push(AudioOutput::Keep(Box::new(snapshot)));
        }
    }
}

fn leg_snapshot(leg: &Leg) -> LegSnapshot {
    LegSnapshot {
        rtp: leg.port.rtp,
        audio: leg.audio.clone(),
        opened_ns: leg.opened.as_nanos(),
        line: leg.sender.snapshot(),
        peer: leg.receiver.snapshot(),
        reports: leg.reports.snapshot(),
        last_press: leg.keys.last_press(),
    }
}

fn restore_leg(
    now: Instant,
    of: (CallKey, Side),
    (at, saved): (Instant, &LegSnapshot),
    id: PortId,
    limits: MediaLimits,
    ids: &mut IdSource,
) -> Leg {
    let port = MediaPort { id, rtp: saved.rtp };
    let mut leg = Leg::open(now, of, port, &saved.audio, limits, ids);
    leg.opened = Instant::from_nanos(saved.opened_ns);
    leg.sender = Sender::restore(now, at, &saved.line);
    leg.receiver = Receiver::restore(&saved.audio, &saved.peer);
    leg.reports = Reports::restore(now, &saved.reports, ids);
    leg.keys = KeyReader::after(saved.last_press);
    leg
}
