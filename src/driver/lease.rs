//! What a node does so that others can share its database: it renews its lease, settles what dead
//! nodes have left, and hears what operators changed through other nodes.
//!
//! A node that has lost its lease grants nothing (the store refuses). Its running calls end with
//! their last grants at the latest. After [`BACK_OFF`] it comes back under a new epoch, and what its
//! old calls still order changes nothing: everything of an earlier epoch is settled then.
//!
//! Deliberately absent: the SQL and the deadlines (the store's).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::clock::Clock;
use super::jobs::Directories;
use super::{Inbox, PostFault};
use crate::store::{Store, StoreFault};
use crate::switch::Input;

/// A node's share in keeping the books together.
#[derive(Debug)]
pub struct NodeDuty {
    pub store: Store,
    /// The secret of this machine's lock file.
    pub instance: String,
    pub directories: Directories,
    pub inbox: Inbox,
    pub clock: Clock,
}

impl NodeDuty {
    /// Runs until `stop` is told. Nothing to do where no other node can be.
    pub async fn run(self, stop: Arc<Notify>) {
        if !self.store.is_leased() {
            return;
        }
        let duties = async {
            tokio::join!(self.renew_on(), self.take_over_on(), self.follow_changes());
        };
        tokio::select! {
            () = stop.notified() => {}
            () = duties => {}
        }
    }

    async fn renew_on(&self) {
        let mut round = interval(RENEW);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            while let Err(fault) = self.renew().await {
                match fault {
                    Lost::Late => tracing::warn!("the lease was not renewed in time, once more"),
                    Lost::Fault(StoreFault::Fenced) => {
                        tracing::error!("this node has lost its lease: no new calls, running ones end");
                        self.rejoin().await;
                    }
                    Lost::Fault(fault) => tracing::warn!(%fault, "the lease was not renewed, once more"),
                }
                sleep(AGAIN).await;
            }
        }
    }

    async fn renew(&self) -> Result<(), Lost> {
        match timeout(PATIENCE, self.store.renew_lease(self.clock.now())).await {
            Ok(done) => done.map_err(Lost::Fault),
            Err(_) => Err(Lost::Late),
        }
    }

    /// A new epoch, in which nothing of memory is trusted.
    async fn rejoin(&self) {
        sleep(BACK_OFF).await;
        loop {
            match self.begin_again().await {
                Ok(()) => return,
                Err(fault) => tracing::error!(%fault, "this node stays out"),
            }
            sleep(RENEW).await;
        }
    }

    async fn begin_again(&self) -> Result<(), StoreFault> {
        let epoch = self.store.claim(self.clock.now(), &self.instance).await?;
        let found = self.store.recover(self.clock.now(), &[]).await?;
        tracing::warn!(epoch, ended = ?found.ended, "this node is back");
        Ok(())
    }

    async fn take_over_on(&self) {
        let mut round = interval(RENEW);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            if !self.store.may_grant(self.clock.now()) {
                continue;
            }
            match self.store.take_over(self.clock.now()).await {
                Ok(ended) if ended.reservations > 0 || ended.calls > 0 => {
                    tracing::warn!(?ended, "a dead node's calls are settled");
                }
                Ok(_) => {}
                Err(fault) => tracing::warn!(%fault, "cannot look after dead nodes"),
            }
        }
    }

    async fn follow_changes(&self) {
        let mut round = interval(LOOK);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            round.tick().await;
            let followed = match seen {
                None => self.begin_to_follow().await,
                Some(upto) => self.follow(upto).await,
            };
            match followed {
                Ok(upto) => seen = Some(upto),
                Err(fault) => tracing::warn!(%fault, "cannot see what was changed through other nodes"),
            }
        }
    }

    /// What changed since the start read the directory is read once more.
    async fn begin_to_follow(&self) -> Result<i64, StoreFault> {
        let newest = self.store.newest_change().await?;
        self.directories.refresh().await?;
        Ok(newest)
    }

    /// Gives what has been followed; after a fault the same changes come again, which does no harm.
    async fn follow(&self, seen: i64) -> Result<i64, StoreFault> {
        let changes = self.store.changes(seen).await?;
        if changes.directory {
            self.directories.refresh().await?;
        }
        for card in changes.cards {
            let mut input = Input::CardChanged(card);
            while let Err(PostFault::Full(back)) = self.inbox.post(input) {
                input = back;
                sleep(QUEUE_PAUSE).await;
            }
        }
        Ok(changes.upto)
    }
}

/// Why a lease was not renewed.
enum Lost {
    Fault(StoreFault),
    Late,
}

/// A third of the lease (reliability.md section 5), and how often dead nodes are looked for.
const RENEW: Duration = Duration::from_secs(3);
/// For one renewal.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(500);
/// After a node was fenced: a slow disk must not make it come and go.
const BACK_OFF: Duration = Duration::from_secs(30);
/// How old a change made through another node may become (product.md 3.5).
const LOOK: Duration = Duration::from_secs(2);
const QUEUE_PAUSE: Duration = Duration::from_millis(2);
