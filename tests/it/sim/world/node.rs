//! The processes of the world: what each of them holds, how it dies, sleeps and comes back.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cardline::now::{Instant, Now, UnixTime};
use cardline::switch::{Input, Output, Switch, SwitchStatus};

use super::{Event, Local, World};
use crate::sim::desk::Desk;
use crate::sim::lease::{BACK_OFF, MARGIN, RENEW, TTL};
use crate::sim::media::Plane;
use crate::sim::phone::{MS, Nanos, SECOND};
use crate::sim::store::Clerk;

/// One process of Cardline, and what belongs to its machine.
pub struct Node {
    /// `None` between a crash and the next start.
    pub switch: Option<Switch>,
    pub plane: Plane,
    pub desk: Desk,
    /// How often it was started: what was meant for an earlier life reaches nobody.
    pub life: u32,
    /// It does nothing before, while time passes and everything waits in its queues.
    pub frozen_until: Nanos,
    /// How far the clock on its wall is from true time.
    pub skew_ms: i64,
    /// Its lease: the epoch, and how long it may grant by its own clock.
    epoch: u32,
    grant_until: Nanos,
    /// How late its deadlines are served.
    pub lateness: Nanos,
    pub last_status: Option<SwitchStatus>,
}

/// One life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub node: usize,
    pub life: u32,
}

impl Node {
    pub fn new(seed: u64, place: usize, switch: Switch) -> Node {
        let own = seed ^ (place as u64) << 32;
        Node {
            switch: Some(switch),
            plane: Plane::new(own, place),
            desk: Desk::new(own),
            life: 0,
            frozen_until: 0,
            skew_ms: 0,
            epoch: 0,
            grant_until: 0,
            lateness: 0,
            last_status: None,
        }
    }
}

impl World {
    pub fn here(&self, node: usize) -> Place {
        let life = self.nodes[node].life;
        Place { node, life }
    }

    /// Something happens in a node's process, if that still lives then.
    pub fn local(&mut self, at: Nanos, node: usize, what: Local) {
        let place = self.here(node);
        self.at(at, Event::Of(place, what));
    }

    pub fn clock(&self, node: usize) -> Now {
        let ms = i64::try_from(self.now / MS).unwrap_or(i64::MAX);
        Now {
            mono: Instant::from_nanos(self.now),
            wall: UnixTime::from_ms(crate::sim::cast::WALL_START_MS + self.nodes[node].skew_ms + ms),
        }
    }

    pub fn clerk(&self, node: usize) -> Clerk {
        Clerk {
            at: self.now,
            wall: self.clock(node).wall,
            node,
            epoch: self.nodes[node].epoch,
            grant_until: self.nodes[node].grant_until,
        }
    }

    /// Lets a node's switch handle one input and carries out what it orders.
    pub fn input(&mut self, node: usize, input: Input) {
        self.handled(node, input);
    }

    /// The same; gives whether it sent anything.
    pub fn handled(&mut self, node: usize, input: Input) -> bool {
        let now = self.clock(node);
        let mut out = std::mem::take(&mut self.out);
        if let Some(spied) = &mut self.spied {
            spied.push(format!("{input:?}"));
        }
        let Some(switch) = &mut self.nodes[node].switch else {
            self.out = out;
            return false;
        };
        switch.handle(now, input, &mut out);
        if let Some(spied) = &mut self.spied {
            spied.extend(out.iter().map(|output| format!("{output:?}")));
        }
        let sent = out.iter().any(|output| matches!(output, Output::Send { .. }));
        for output in out.drain(..) {
            self.carry_out(node, output);
        }
        self.out = out;
        sent
    }

    /// When the next deadline of a node is served.
    pub fn due_of(&self, node: usize) -> Option<Nanos> {
        let node = &self.nodes[node];
        let (at, _) = node.switch.as_ref()?.next_timeout()?;
        Some((at.as_nanos() + node.lateness).max(node.frozen_until))
    }

    pub fn is_frozen(&self, node: usize) -> bool {
        self.now < self.nodes[node].frozen_until
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].switch.is_some() && !self.is_frozen(node)
    }

    /// kill -9: whatever was in memory is gone.
    pub fn crash(&mut self, node: usize) {
        let Some(switch) = self.nodes[node].switch.take() else {
            return;
        };
        self.log
            .note(self.now, 12, &[], || format!("node {node} is killed"));
        bury(switch);
        let calm = self.is_calm(node) && self.nodes[node].desk.mood.latency <= 40 * MS;
        self.books.killed(self.now, node, &self.store, calm);
        let dead = &mut self.nodes[node];
        dead.life += 1;
        dead.frozen_until = 0;
        dead.plane.forget();
        dead.desk.crash();
        let back = self.now + SECOND / 10 + self.rng.below(60 * SECOND);
        self.at(back, Event::Start(node));
    }

    /// A new life: first the books, then the telephone.
    pub fn start_again(&mut self, node: usize) {
        if !self.nodes[node].desk.reaches_store() {
            return self.at(self.now + SECOND, Event::Start(node));
        }
        self.log
            .note(self.now, 13, &[], || format!("node {node} starts again"));
        let clerk = self.clerk(node);
        for request in std::mem::take(&mut self.nodes[node].desk.journal) {
            crate::sim::desk::forgo(self.store.commit(clerk, &request));
        }
        self.join(node);
        let life = self.nodes[node].life;
        let switch = crate::sim::build::switch(self.seed, (node, life), &self.cast);
        self.nodes[node].switch = Some(switch);
        self.stock(node);
    }

    /// Takes the node's lease where there are others, and settles what its earlier lives left.
    pub fn join(&mut self, node: usize) {
        if self.nodes.len() > 1 {
            self.nodes[node].epoch = self.store.claim(self.now, node);
            self.nodes[node].grant_until = self.now + TTL - MARGIN;
            self.rounds += 1;
            self.local(self.now + RENEW, node, Local::Round);
        }
        let clerk = self.clerk(node);
        self.store.recover(clerk, node);
    }

    /// Every 3 s: the lease is renewed, and what dead nodes left is settled.
    pub fn round(&mut self, node: usize) {
        self.rounds -= 1;
        if !self.nodes[node].desk.reaches_store() {
            self.rounds += 1;
            return self.local(self.now + SECOND / 2, node, Local::Round);
        }
        let clerk = self.clerk(node);
        if !self.store.prolong(clerk) {
            self.log
                .note(self.now, 15, &[], || format!("node {node} is fenced"));
            return self.local(self.now + BACK_OFF, node, Local::Rejoin);
        }
        self.nodes[node].grant_until = self.now + TTL - MARGIN;
        for dead in self.store.fence_dead(clerk) {
            self.log.note(self.now, 16, &[], || {
                format!("node {node} takes over node {dead}")
            });
            self.books.taken(dead, &self.store);
            self.store.recover(clerk, dead);
        }
        self.rounds += 1;
        self.local(self.now + RENEW, node, Local::Round);
    }

    /// Socket pairs for a fresh switch.
    pub fn stock(&mut self, node: usize) {
        let count = self.bounds.ports;
        let plane = &mut self.nodes[node].plane;
        let ports = (0..count).map(|_| plane.bind()).collect();
        self.input(node, Input::Ports(ports));
    }

    pub fn freeze(&mut self, node: usize, span: Nanos) {
        self.log.note(self.now, 14, &[], || {
            format!("node {node} stands still for {} ms", span / MS)
        });
        self.books.frozen(node, self.now, self.now + span);
        self.nodes[node].frozen_until = self.now + span;
    }
}

/// A process that dies settles nothing; the loud end of a reservation's token is for live ones, and
/// it is silent while a thread unwinds.
fn bury(switch: Switch) {
    let buried = catch_unwind(AssertUnwindSafe(move || {
        let _switch = switch;
        resume_unwind(Box::new(()));
    }));
    assert!(buried.is_err());
}
