//! Which process may write for calls where several share the store (reliability.md section 5): a lease
//! per node by the store's clock, which is true time here, and the node's own earlier deadline.

use cardline::card::LedgerRequest;
use cardline::fault::{self, Fault};

use super::phone::{Nanos, SECOND};
use super::store::{Clerk, Store};

pub const TTL: Nanos = 10 * SECOND;
/// A node stops this much before its lease ends, and others wait as long after it has.
pub const MARGIN: Nanos = 2 * SECOND;
pub const RENEW: Nanos = 3 * SECOND;
/// A fenced node stays away for so long.
pub const BACK_OFF: Nanos = 30 * SECOND;

#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    pub epoch: u32,
    /// Zero: taken away.
    expires_at: Nanos,
}

impl Store {
    /// A new epoch of a node.
    pub fn claim(&mut self, at: Nanos, node: usize) -> u32 {
        let lease = &mut self.leases[node];
        lease.epoch += 1;
        lease.expires_at = at + TTL;
        lease.epoch
    }

    /// Whether the epoch goes on.
    pub fn prolong(&mut self, clerk: Clerk) -> bool {
        let lease = &mut self.leases[clerk.node];
        if lease.epoch == clerk.epoch {
            lease.expires_at = clerk.at + TTL;
        }
        lease.epoch == clerk.epoch
    }

    /// Nodes whose lease is over for long enough lose their epoch; gives them.
    pub fn fence_dead(&mut self, clerk: Clerk) -> Vec<usize> {
        let mut dead = Vec::new();
        for (node, lease) in self.leases.iter_mut().enumerate() {
            if node != clerk.node && lease.expires_at > 0 && lease.expires_at + MARGIN < clerk.at {
                (lease.epoch, lease.expires_at) = (lease.epoch + 1, 0);
                dead.push(node);
            }
        }
        dead
    }

    /// Whether a request must be refused, since its node may not write for calls (any more).
    pub(super) fn is_fenced(&self, clerk: Clerk, request: &LedgerRequest) -> bool {
        let Some(lease) = self.leases.get(clerk.node) else {
            return false;
        };
        let stale = lease.epoch != clerk.epoch && !fault::planted(Fault::StaleEpochAccepted);
        let late = clerk.at >= lease.expires_at.min(clerk.grant_until);
        let late = late && lease.expires_at > 0 && !fault::planted(Fault::FrozenThenGranted);
        writes(request) && (stale || late)
    }

    /// L8: who grants talk time has a lease now.
    pub(super) fn grants(&self, clerk: Clerk) {
        if let Some(lease) = self.leases.get(clerk.node) {
            assert_eq!(
                lease.epoch, clerk.epoch,
                "node {} grants in an epoch that is over",
                clerk.node
            );
            assert!(
                clerk.at < lease.expires_at,
                "node {} grants after its lease has ended",
                clerk.node
            );
        }
    }
}

fn writes(request: &LedgerRequest) -> bool {
    match request {
        LedgerRequest::OpenCdr(_)
        | LedgerRequest::Reserve { .. }
        | LedgerRequest::Renew { .. }
        | LedgerRequest::Checkpoint { .. }
        | LedgerRequest::Settle(_)
        | LedgerRequest::CloseCdr(_) => true,
        LedgerRequest::FindLine { .. }
        | LedgerRequest::CheckPin { .. }
        | LedgerRequest::Bind { .. }
        | LedgerRequest::ReadCard { .. } => false,
    }
}
