//! Is there anybody? Dead air after the bridge, and peers that fall silent.

use std::time::Duration;

use crate::call::cx::Cx;
use crate::ids::Side;
use crate::now::Instant;
use crate::sip::LegCommand;

pub(super) struct Watch {
    air: Air,
    a: Silence,
    b: Silence,
}

/// Whether both sides have been heard.
enum Air {
    /// Not yet; by then they must.
    Waiting(Instant),
    /// Not yet, and one of them is on hold, where nobody need send.
    Held,
    Proven,
}

/// What is known of one side that may have vanished.
enum Silence {
    No,
    /// Nothing arrives since `last_packet`.
    Since {
        last_packet: Instant,
        probe: Probe,
    },
}

/// A dialog may live on without audio (a mute telephone), or not: OPTIONS tells (RFC 3261 §11).
enum Probe {
    /// The peer must answer by then.
    Asked { by: Instant },
    /// It did; it is asked again then.
    Answered { again: Instant },
}

/// With the 20 s of silence before it, a vanished peer ends the call within 25 s (R7): four
/// transmissions of the OPTIONS fit in.
const PROBE_WITHIN: Duration = Duration::from_secs(4);

impl Watch {
    pub fn armed(dead_air_at: Instant) -> Watch {
        Watch {
            air: Air::Waiting(dead_air_at),
            a: Silence::No,
            b: Silence::No,
        }
    }

    pub fn next(&self) -> Option<Instant> {
        let air = match self.air {
            Air::Waiting(at) => Some(at),
            Air::Held | Air::Proven => None,
        };
        let probes = [&self.a, &self.b]
            .into_iter()
            .filter_map(|silence| match silence {
                Silence::No => None,
                Silence::Since { probe, .. } => match probe {
                    Probe::Asked { by } => Some(*by),
                    Probe::Answered { again } => Some(*again),
                },
            });
        air.into_iter().chain(probes).min()
    }

    /// During hold nobody need send; afterwards the span begins anew.
    pub fn hold(&mut self, quiet: bool, dead_air_at: Instant) {
        self.air = match self.air {
            Air::Proven => Air::Proven,
            Air::Waiting(_) | Air::Held if quiet => Air::Held,
            Air::Waiting(at) => Air::Waiting(at),
            Air::Held => Air::Waiting(dead_air_at),
        };
    }

    /// Whether the span is over and a side was never heard.
    pub fn is_dead_air(&mut self, cx: &Cx<'_>) -> bool {
        let heard = cx.facts.heard(Side::A) && cx.facts.heard(Side::B);
        if heard {
            self.air = Air::Proven;
        }
        match self.air {
            Air::Waiting(at) => at <= cx.mono(),
            Air::Held | Air::Proven => false,
        }
    }

    /// Asks whether the peer is still there.
    pub fn lost(&mut self, cx: &mut Cx<'_>, side: Side, last_packet: Instant) {
        let probe = ask(cx, side);
        *self.side(side) = Silence::Since { last_packet, probe };
    }

    pub fn answered(&mut self, cx: &Cx<'_>, side: Side) {
        let next = cx.mono() + cx.rules.probe_again;
        if let Silence::Since { probe, .. } = self.side(side) {
            *probe = Probe::Answered { again: next };
        }
    }

    pub fn back(&mut self, side: Side) {
        *self.side(side) = Silence::No;
    }

    /// Asks again, or gives the last audio of a peer that did not answer.
    pub fn due(&mut self, cx: &mut Cx<'_>) -> Option<Instant> {
        let now = cx.mono();
        for side in [Side::A, Side::B] {
            if let Silence::Since { last_packet, probe } = self.side(side) {
                match probe {
                    Probe::Asked { by } if *by <= now => return Some(*last_packet),
                    Probe::Answered { again } if *again <= now => *probe = ask(cx, side),
                    Probe::Asked { .. } | Probe::Answered { .. } => {}
                }
            }
        }
        None
    }

    pub fn lost_at(&self, side: Side) -> Option<Instant> {
        let silence = match side {
            Side::A => &self.a,
            Side::B => &self.b,
        };
        match silence {
            Silence::No => None,
            Silence::Since { last_packet, .. } => Some(*last_packet),
        }
    }

    fn side(&mut self, side: Side) -> &mut Silence {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}

fn ask(cx: &mut Cx<'_>, side: Side) -> Probe {
    let leg = match side {
        Side::A => cx.facts.a,
        Side::B => cx.facts.b,
    };
    if let Some(leg) = leg {
        cx.command(leg, LegCommand::Probe);
    }
    Probe::Asked {
        by: cx.mono() + PROBE_WITHIN,
    }
}
