//! RTP and RTCP socket pairs, bound ahead of need: a call's 200 never names a dead port.
//!
//! ```text
//! bind -> stock (Input::Ports told the switch) -> Open takes it -> a media thread -> Close drops it
//!   ^------------------ one more is bound for each that was taken -----------'
//! ```
//! RTP has the even port, RTCP the next one (RFC 3550 §11). Ports go round the whole range before
//! one is used again, so that late packets of an old call do not meet a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::driver::sip_udp::{best_effort, mark};
use crate::media::{MediaPort, PortId};

/// Two sockets of one leg.
#[derive(Debug)]
pub struct SocketPair {
    pub port: u16,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

/// What the stock is cut from.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// Address that the sockets are bound to.
    pub listen: IpAddr,
    /// Address that descriptions name.
    pub advertise: IpAddr,
    pub ports: RangeInclusive<u16>,
    /// Pairs that wait for a call.
    pub stock: usize,
}

/// The pairs that wait for a call, and those that calls have.
#[derive(Debug)]
pub struct Stock {
    plan: PortPlan,
    waiting: BTreeMap<PortId, SocketPair>,
    /// RTP ports of waiting pairs and of those that calls have.
    bound: BTreeSet<u16>,
    next_port: u16,
    next_id: u32,
}

impl Stock {
    /// An empty stock; `start` chooses where in the range it begins.
    pub fn new(plan: PortPlan, start: u64) -> Stock {
        let first = first_even(&plan.ports);
        let pairs = pair_count(&plan.ports).max(1);
        let skip = u16::try_from(start % u64::from(pairs)).unwrap_or(0);
        Stock {
            next_port: first.saturating_add(skip * 2),
            plan,
            waiting: BTreeMap::new(),
            bound: BTreeSet::new(),
            next_id: 1,
        }
    }

    /// Binds pairs until the stock is full again or the range is used up; gives the new ones.
    pub fn refill(&mut self) -> Vec<MediaPort> {
        let mut fresh = Vec::new();
        while self.waiting.len() < self.plan.stock {
            let Some(pair) = self.bind_next() else {
                tracing::warn!(
                    waiting = self.waiting.len(),
                    bound = self.bound.len(),
                    "no free port pair in media.ports"
                );
                break;
            };
            let id = self.fresh_id();
            fresh.push(MediaPort {
                id,
                rtp: SocketAddr::new(self.plan.advertise, pair.port),
            });
            self.bound.insert(pair.port);
            self.waiting.insert(id, pair);
        }
        fresh
    }

    /// Hands a waiting pair to a call.
    pub fn take(&mut self, id: PortId) -> Option<SocketPair> {
        self.waiting.remove(&id)
    }

    /// Binds a certain pair outside of the stock, for a call that goes on; also one outside of the range.
    ///
    /// # Errors
    /// Another program has a port of it by now.
    pub fn claim(&mut self, port: u16) -> io::Result<(PortId, SocketPair)> {
        let pair = bind_pair(self.plan.listen, port)?;
        self.bound.insert(port);
        Ok((self.fresh_id(), pair))
    }

    /// A media thread has closed this pair: its port may be bound again.
    pub fn freed(&mut self, port: u16) {
        self.bound.remove(&port);
    }

    fn fresh_id(&mut self) -> PortId {
        let id = PortId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    fn bind_next(&mut self) -> Option<SocketPair> {
        let first = first_even(&self.plan.ports);
        for _ in 0..pair_count(&self.plan.ports) {
            let port = self.next_port;
            let past_end = port.checked_add(3).is_none_or(|odd| odd > *self.plan.ports.end());
            self.next_port = if past_end { first } else { port + 2 };
            if self.bound.contains(&port) {
                continue;
            }
            match bind_pair(self.plan.listen, port) {
                Ok(pair) => return Some(pair),
                Err(fault) => tracing::debug!(port, %fault, "port pair not available"),
            }
        }
        None
    }
}

fn bind_pair(listen: IpAddr, port: u16) -> io::Result<SocketPair> {
    Ok(SocketPair {
        port,
        rtp: bind(SocketAddr::new(listen, port))?,
        rtcp: bind(SocketAddr::new(listen, port.saturating_add(1)))?,
    })
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    best_effort(mark(&socket, address, DSCP_EF));
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn first_even(ports: &RangeInclusive<u16>) -> u16 {
    ports.start().saturating_add(ports.start() % 2)
}

/// How many pairs (even, even + 1) the range holds.
fn pair_count(ports: &RangeInclusive<u16>) -> u16 {
    ports.end().saturating_add(1).saturating_sub(first_even(ports)) / 2
}

/// Expedited forwarding, for voice (RFC 3246).
const DSCP_EF: u32 = 46;
