//! Whether the peer is heard of: the first packet, the loss of all packets, and their return.

use std::time::Duration;

use crate::media::MediaEvent;
use crate::now::Instant;

#[derive(Debug)]
pub(super) struct Life {
    heard: Heard,
    /// Since when silence counts: the last packet, or later, after a time when none was due.
    waiting_since: Instant,
    rtp_lost: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Never,
    Yes,
    /// `Lost` was reported; whether anything had been heard decides what the next packet is.
    Lost {
        before: bool,
    },
}

impl Life {
    pub fn new(now: Instant, rtp_lost: Duration) -> Life {
        Life {
            heard: Heard::Never,
            waiting_since: now,
            rtp_lost,
        }
    }

    /// A packet came. What is to be reported, in order.
    pub fn note(&mut self, now: Instant) -> [Option<MediaEvent>; 2] {
        let events = match self.heard {
            Heard::Yes => [None, None],
            Heard::Never => [Some(MediaEvent::FirstPacket), None],
            Heard::Lost { before: true } => [Some(MediaEvent::Back), None],
            Heard::Lost { before: false } => [Some(MediaEvent::FirstPacket), Some(MediaEvent::Back)],
        };
        self.heard = Heard::Yes;
        self.waiting_since = now;
        events
    }

    /// Nothing was due so far, so the wait begins now.
    pub fn wait_from(&mut self, now: Instant) {
        self.waiting_since = now;
    }

    /// When the peer counts as lost, unless that was said already.
    pub fn lost_at(&self) -> Option<Instant> {
        match self.heard {
            Heard::Never | Heard::Yes => Some(self.waiting_since + self.rtp_lost),
            Heard::Lost { .. } => None,
        }
    }

    pub fn lose(&mut self) {
        self.heard = Heard::Lost {
            before: self.heard == Heard::Yes,
        };
    }
}
