//! SIP over UDP: one socket per listening address, one thread that waits for its datagrams.
//!
//! A datagram that finds the driver's queue full is dropped and counted: the peer's timers send it
//! again (RFC 3261 §17). An error on one datagram never ends the thread or the socket.
//!
//! Deliberately absent: parsing, TCP and TLS.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Inbox;
use crate::sip::Flow;

/// All listening sockets; the driver sends through them.
#[derive(Debug)]
pub struct SipSockets {
    sockets: Vec<Listener>,
    /// Datagrams that could not be sent, and those that found the queue full.
    pub unsent: AtomicU64,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Listener {
    local: SocketAddr,
    socket: Arc<UdpSocket>,
}

/// A listening address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on udp://{address}: {source}{}", hint(.source))]
pub struct BindFault {
    address: SocketAddr,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    let hints = [
        (
            io::ErrorKind::AddrInUse,
            " (another program has this port; stop it, or change sip.listen)",
        ),
        (
            io::ErrorKind::AddrNotAvailable,
            " (no interface has this address; change sip.listen)",
        ),
        (
            io::ErrorKind::PermissionDenied,
            " (ports below 1024 need a privilege; change sip.listen)",
        ),
    ];
    let found = hints.iter().find(|(kind, _)| *kind == source.kind());
    found.map_or("", |(_, hint)| hint)
}

impl SipSockets {
    /// Binds every address; port 0 takes a free one.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<SipSockets, BindFault> {
        let mut sockets = Vec::with_capacity(addresses.len());
        for &address in addresses {
            let socket = open(address).map_err(|source| BindFault { address, source })?;
            let local = socket
                .local_addr()
                .map_err(|source| BindFault { address, source })?;
            sockets.push(Listener {
                local,
                socket: Arc::new(socket),
            });
        }
        Ok(SipSockets {
            sockets,
            unsent: AtomicU64::new(0),
            dropped: Arc::new(AtomicU64::new(0)),
        })
    }

    /// The addresses as they were bound, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|listener| listener.local).collect()
    }

    /// Datagrams that found the driver's queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Starts one receiving thread per socket; they end within [`LOOK_UP`] after `stop` is set.
    ///
    /// # Errors
    /// The system has no thread for us.
    pub fn receive(&self, inbox: &Inbox, stop: &Arc<AtomicBool>) -> io::Result<Vec<JoinHandle<()>>> {
        let start = |listener: &Listener| {
            let receiver = Receiver {
                local: listener.local,
                socket: Arc::clone(&listener.socket),
                inbox: inbox.clone(),
                stop: Arc::clone(stop),
                dropped: Arc::clone(&self.dropped),
            };
            Builder::new()
                .name("sip-udp".to_owned())
                .spawn(move || receiver.run())
        };
        self.sockets.iter().map(start).collect()
    }

    /// Sends one datagram; what cannot be sent is counted, and timers send it again.
    pub fn send(&self, flow: Flow, bytes: &[u8]) {
        let listener = self
            .sockets
            .iter()
            .find(|listener| listener.local == flow.local)
            .or(self.sockets.first());
        let sent = listener.map(|listener| listener.socket.send_to(bytes, flow.remote));
        if !matches!(sent, Some(Ok(_))) {
            self.unsent.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(remote = %flow.remote, ?sent, "SIP datagram not sent");
        }
    }
}

struct Receiver {
    local: SocketAddr,
    socket: Arc<UdpSocket>,
    inbox: Inbox,
    stop: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Receiver {
    fn run(self) {
        let mut buffer = vec![0u8; LARGEST_DATAGRAM];
        while !self.stop.load(Ordering::Relaxed) {
            // An ICMP error of an earlier send, or the look-up timeout: neither ends the socket.
            let Ok((length, remote)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            let flow = Flow {
                local: self.local,
                remote,
            };
            if !self.inbox.datagram(flow, bytes) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    best_effort(socket.set_recv_buffer_size(RECEIVE_BUFFER));
    best_effort(socket.set_send_buffer_size(RECEIVE_BUFFER));
    best_effort(mark(&socket, address, DSCP_CS3));
    socket.set_read_timeout(Some(LOOK_UP))?;
    // A full send buffer must not stop the driver: it counts as not sent.
    socket.set_write_timeout(Some(Duration::from_millis(1)))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sets the DSCP (the upper six bits of the traffic class; RFC 2474).
pub(super) fn mark(socket: &Socket, address: SocketAddr, dscp: u32) -> io::Result<()> {
    if address.is_ipv4() {
        socket.set_tos_v4(dscp << 2)
    } else {
        socket.set_tclass_v6(dscp << 2)
    }
}

/// Buffer sizes and marks are wishes: a container may forbid them, and calls work without.
pub(super) fn best_effort(wish: io::Result<()>) {
    if let Err(fault) = wish {
        tracing::debug!(%fault, "a socket option was refused");
    }
}

/// UDP cannot carry more.
const LARGEST_DATAGRAM: usize = 65_535;
/// Some 2 000 messages: a burst while the driver is busy.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How often a receiving thread looks whether it is to stop.
const LOOK_UP: Duration = Duration::from_millis(200);
/// Call signalling (RFC 4594 §3).
const DSCP_CS3: u32 = 24;
