//! Is there anybody? Dead air after the bridge, and peers that fall silent.

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
    /// Nothing arrives since `last_packet`; the peer is asked again at `probe_at`.
    Since {
        last_packet: Instant,
        probe_at: Instant,
    },
}

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
                Silence::Since { probe_at, .. } => Some(*probe_at),
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

    /// A dialog may live on without audio (a mute telephone), or not: OPTIONS tells (RFC 3261 §11).
    pub fn lost(&mut self, cx: &mut Cx<'_>, side: Side, last_packet: Instant) {
        let probe_at = cx.mono() + cx.rules.probe_again;
        *self.side(side) = Silence::Since {
            last_packet,
            probe_at,
        };
        probe(cx, side);
    }

    pub fn back(&mut self, side: Side) {
        *self.side(side) = Silence::No;
    }

    pub fn due(&mut self, cx: &mut Cx<'_>) {
        for side in [Side::A, Side::B] {
            let again = cx.mono() + cx.rules.probe_again;
            if let Silence::Since { probe_at, .. } = self.side(side)
                && *probe_at <= cx.mono()
            {
                *probe_at = again;
                probe(cx, side);
            }
        }
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

fn probe(cx: &mut Cx<'_>, side: Side) {
    let leg = match side {
        Side::A => cx.facts.a,
        Side::B => cx.facts.b,
    };
    if let Some(leg) = leg {
        cx.command(leg, LegCommand::Probe);
    }
}
