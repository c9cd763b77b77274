//! The admin listener: the operator's commands over HTTP, on a Unix socket and on loopback TCP.
//!
//! One file per noun holds its commands. Writes that touch no live call go straight to the store;
//! those that do become an `Input` of the switch through [`live::SwitchPort`]. A change of numbers,
//! projects or targets asks `main.rs` for a fresh directory.
//!
//! Deliberately absent: the driver (both meet only in `main.rs`), rules of talk time (the store's
//! and the core's), clocks (`main.rs` gives one).

pub mod error;
pub mod feed;
pub mod live;
pub mod number_input;
pub mod socket;

mod batch;
mod call;
mod card;
mod csv;
mod http;
pub mod ledger;
mod money;
mod number;
mod operator;
mod project;
mod system;
mod target;
mod tariff;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::now::UnixTime;
use crate::secret::Secret;
use crate::store::{Act, Store};
use error::{Code, Problem};
use feed::Feed;
use live::SwitchPort;
use socket::{Actor, DoorFault, TcpDoor, UnixDoor};

/// A question that `main.rs` answers; the text of an error is for the log or the operator.
pub type Hook = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The database as calls find it, and what waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// `None`: it takes writes.
    pub away_since: Option<UnixTime>,
    /// Orders that wait in the local journal.
    pub journal_entries: usize,
    pub journal_oldest_at: Option<UnixTime>,
    /// Orders kept as evidence, since the books say otherwise.
    pub journal_rejected: usize,
}

/// What the commands work with.
pub struct Admin {
    pub store: Store,
    pub switch: Arc<SwitchPort>,
    pub feed: Arc<Feed>,
    pub clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
    /// Reads the directory from the store and hands it to the switch.
    pub refresh_directory: Hook,
    /// Reads the configuration file again; the text of a refusal is shown to the operator.
    pub reload: Hook,
    pub store_state: Box<dyn Fn() -> StoreState + Send + Sync>,
    pub started_at: UnixTime,
    /// What TCP clients must show; `None` lets none of them in.
    pub token: Option<Secret<String>>,
    /// Commands that may still begin.
    pub at_work: Places,
}

/// Room for commands at work at a time; further ones get `overloaded`.
#[derive(Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(MAX_AT_WORK)))
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    fn act(&self, actor: Actor, key: Option<String>) -> Act {
        Act {
            now: (self.clock)(),
            actor: actor.to_string(),
            key,
        }
    }

    /// Where an order is carried out, or only tried.
    fn store_for(&self, dry: http::DryRun) -> Store {
        match dry.0 {
            true => self.store.rehearsal(),
            false => self.store.clone(),
        }
    }

    /// After a change that calls are admitted by. The change itself is saved already.
    async fn directory_changed(&self) -> Result<(), Problem> {
        (self.refresh_directory)().await.map_err(|why| {
            Problem::new(
                Code::SwitchSilent,
                "Die Änderung ist gespeichert, gilt aber noch nicht für neue Anrufe. Bitte „cardline reload“ aufrufen.",
                "The change is saved, but does not yet apply to new calls. Please call `cardline reload`.",
            )
            .because(why)
        })
    }
}

/// The open doors; bound before anything runs, so that a fault stops the start.
#[derive(Debug)]
pub struct Doors {
    pub unix: UnixDoor,
    pub tcp: Option<TcpDoor>,
}

impl Doors {
    /// # Errors
    /// A path or address that cannot be used, in words.
    pub async fn open(
        socket: &std::path::Path,
        http: Option<std::net::SocketAddr>,
    ) -> Result<Doors, DoorFault> {
        let tcp = match http {
            Some(address) => Some(TcpDoor::open(address).await?),
            None => None,
        };
        Ok(Doors {
            unix: UnixDoor::open(socket).await?,
            tcp,
        })
    }
}

/// Serves both doors until `stop` becomes true; then lets running commands end.
///
/// # Errors
/// When a listener breaks for good.
pub async fn serve(admin: Arc<Admin>, doors: Doors, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    // Beside the start, not before it: the metadata takes tens of milliseconds.
    drop(tokio::task::spawn_blocking(number_input::warm_up));
    let feed = Arc::clone(&admin.feed);
    let service = http::router(admin).into_make_service_with_connect_info::<Actor>();
    let unix = axum::serve(doors.unix, service.clone())
        .with_graceful_shutdown(stopped(stop.clone(), Arc::clone(&feed)));
    match doors.tcp {
        Some(tcp) => {
            let tcp = axum::serve(tcp, service).with_graceful_shutdown(stopped(stop, feed));
            tokio::try_join!(unix, tcp).map(|_| ())
        }
        None => unix.await,
    }
}

async fn stopped(mut stop: watch::Receiver<bool>, feed: Arc<Feed>) {
    // An error means that main is gone, which is a stop too.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the admin listener outlived its master");
    }
    feed.close();
}

/// RFC 3339 in UTC.
fn time_text(at: UnixTime) -> String {
    crate::store::rfc3339(at)
}

const MAX_AT_WORK: usize = 64;
