//! From the configuration to what each part of the daemon is made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{StartFault, read_config};
use crate::admin::feed::Feed;
use crate::admin::live::SwitchPort;
use crate::admin::{Hook, StoreState};
use crate::call::CallRules;
use crate::call::speech::Grammar;
use crate::config::{AdminConfig, Config, StoreConfig, TrunkConfig};
use crate::driver::Inbox;
use crate::driver::clock::Clock;
use crate::driver::gather::{AskAll, gather};
use crate::driver::jobs::{self, Directories, ReadDirectory};
use crate::driver::journal::{Journal, JournalFault};
use crate::driver::ledger::{Ask, Desk, Tools};
use crate::driver::media::MediaPlan;
use crate::driver::night;
use crate::driver::store_watch::StoreWatch;
use crate::media::{MediaLimits, PromptSetId};
use crate::secret::Secret;
use crate::sip::Credentials;
use crate::sip::endpoint::EndpointConfig;
use crate::store::{self, Hold, Store, StoreFault};
use crate::switch::SwitchConfig;

/// The address that Contact, Via and descriptions name: as configured, else one that we listen on,
/// else the one this machine uses towards the first trunk or the world.
pub fn advertised(config: &Config, sip: &[SocketAddr]) -> IpAddr {
    let bound = [config.media.listen]
        .into_iter()
        .chain(sip.iter().map(SocketAddr::ip));
    let proxies = config.trunks.iter().filter_map(|trunk| trunk.proxy);
    let known = config
        .sip
        .advertise
        .or(bound.into_iter().find(|ip| !ip.is_unspecified()));
    known
        .or_else(|| proxies.chain([SOMEWHERE]).find_map(address_towards))
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The local address of the route to `peer`; connecting a UDP socket sends nothing.
fn address_towards(peer: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(peer).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// # Errors
/// A trunk's password that cannot be read.
pub fn switch(
    config: &Config,
    addresses: &[SocketAddr],
    advertised: IpAddr,
    grammars: BTreeMap<PromptSetId, Grammar>,
) -> Result<SwitchConfig, StartFault> {
    let mut endpoint = EndpointConfig::new(config, addresses.to_vec());
    if addresses.iter().any(|address| address.ip().is_unspecified()) {
        endpoint.advertise = Some(advertised);
    }
    Ok(SwitchConfig {
        endpoint,
        rules: CallRules {
            config: config.call.clone(),
            no_media: config.media.no_media,
            probe_again: PROBE_AGAIN,
            grammars,
            credentials: credentials(config)?,
        },
        max_calls: config.limits.calls,
        retry_after_s: config.limits.retry_after_s,
    })
}

/// Digest credentials by the proxy that asks for them.
fn credentials(config: &Config) -> Result<BTreeMap<SocketAddr, Credentials>, StartFault> {
    let mut credentials = BTreeMap::new();
    for trunk in &config.trunks {
        let (Some(proxy), Some(username), Some(path)) = (trunk.proxy, &trunk.username, &trunk.password_file)
        else {
            continue;
        };
        let text = std::fs::read_to_string(path).map_err(|source| StartFault::Password {
            trunk: trunk.name.clone(),
            path: path.clone(),
            source,
        })?;
        let password = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
        let username = username.clone();
        credentials.insert(proxy, Credentials { username, password });
    }
    Ok(credentials)
}

pub fn media(config: &Config, advertised: IpAddr) -> MediaPlan {
    MediaPlan {
        listen: config.media.listen,
        advertise: advertised,
        ports: config.media.ports.clone(),
        stock: config.media.stock.into(),
        threads: NonZeroUsize::new(config.media.threads.into()),
        limits: MediaLimits {
            rtp_lost: config.media.rtp_lost,
        },
    }
}

/// Requests of many calls go to the store together.
fn ask(store: &Store, clock: Clock, timeout: Duration) -> Ask {
    let (batches, alone) = (store.clone(), store.clone());
    let ask_all: AskAll = Box::new(move |requests| {
        let store = batches.clone();
        Box::pin(async move { store.ledger_all(clock.now(), &requests).await })
    });
    let ask_one: Ask = Box::new(move |request| {
        let store = alone.clone();
        Box::pin(async move { store.ledger(clock.now(), &request).await.map_err(Arc::new) })
    });
    gather(ask_all, ask_one, Handle::current(), timeout, BATCHES_AT_A_TIME)
}

/// The desk, between the loop and the store.
pub fn desk(
    store: &Store,
    journal: &Journal,
    watch: &StoreWatch,
    inbox: Inbox,
    clock: Clock,
    timeout: Duration,
) -> Desk {
    let (late, epoch) = (store.clone(), store.clone());
    let tools = Tools {
        ask: ask(store, clock, timeout),
        apply: Box::new(move |epoch, order| {
            let store = late.clone();
            Box::pin(async move { store.apply(clock.now(), epoch, &order).await })
        }),
        epoch: Box::new(move || epoch.epoch()),
        journal: journal.clone(),
        watch: watch.clone(),
        clock,
        timeout,
    };
    Desk::new(tools, inbox, Handle::current())
}

/// # Errors
/// The journal cannot be used.
pub fn journal(config: &StoreConfig) -> Result<Journal, JournalFault> {
    let beside = || store::beside_sqlite(&config.url, ".journal");
    let default = || match config.url.starts_with("sqlite:") {
        true => beside(),
        false => Some(PathBuf::from("/var/lib/cardline/cardline.journal")),
    };
    match config.journal.clone().or_else(default) {
        Some(path) => Journal::open(&path, JOURNAL_LIMIT),
        None => Ok(Journal::without_file()),
    }
}

/// What `status` and health say of the database.
pub fn store_state(watch: StoreWatch, journal: Journal) -> Box<dyn Fn() -> StoreState + Send + Sync> {
    Box::new(move || {
        let counts = journal.counts();
        StoreState {
            away_since: watch.away_since(),
            journal_entries: counts.entries,
            journal_oldest_at: counts.oldest_at,
            journal_rejected: counts.rejected,
        }
    })
}

/// The right to serve calls under this node's name.
///
/// # Errors
/// Another process has it.
pub fn hold(config: &Config) -> Result<Hold, StoreFault> {
    let url = &config.store.url;
    if url.starts_with("sqlite:") {
        return Hold::take(url);
    }
    let socket = &config.admin.socket;
    let mut beside = socket.file_name().unwrap_or_default().to_owned();
    beside.push(".node");
    let seat = config.node.lock_file.clone();
    Hold::take_seat(url, &seat.unwrap_or_else(|| socket.with_file_name(beside)))
}

/// As configured; else the host's name where hosts differ.
pub fn node_name(config: &Config) -> String {
    let chosen = config.node.name.clone();
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let default = match config.store.url.starts_with("sqlite:") {
        true => String::new(),
        false => host().trim().to_owned(),
    };
    [chosen, default]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "main".to_owned())
}

/// `prompt_sets`: the loaded languages by name.
pub fn read_directory(
    store: Store,
    prompt_sets: BTreeMap<String, PromptSetId>,
    trunks: Vec<TrunkConfig>,
) -> ReadDirectory {
    let plan = Arc::new((store, prompt_sets, trunks));
    Box::new(move || {
        let plan = Arc::clone(&plan);
        Box::pin(async move {
            let (store, prompt_sets, trunks) = &*plan;
            store.directory(prompt_sets, trunks).await
        })
    })
}

pub fn switch_port(inbox: Inbox) -> SwitchPort {
    SwitchPort::new(move |input| inbox.post(input).is_ok())
}

/// What a broken book sets off: the log and the event feed.
pub fn alarm(feed: Arc<Feed>) -> night::Alarm {
    Box::new(move |at, report| {
        night::cry(report);
        feed.announce(at, "integrity.failed", crate::admin::ledger::failed(report));
    })
}

/// What an attack on PINs sets off, beside the log.
pub fn attacked(feed: Arc<Feed>) -> jobs::Attacked {
    Box::new(move |at, attack| feed.announce(at, "pin.attack", serde_json::json!(attack)))
}

pub fn refresh_hook(directories: Directories) -> Hook {
    Box::new(move || {
        let directories = directories.clone();
        Box::pin(async move {
            let refreshed = directories.refresh().await;
            refreshed.map(|_| ()).map_err(|fault| fault.to_string())
        })
    })
}

/// Reads the file again. Sockets, trunks and timers are fixed for a daemon's life, so a change of
/// them is told, not taken.
pub fn reload_hook(file: Option<PathBuf>, running: Config) -> Hook {
    let running = Arc::new(running);
    Box::new(move || {
        let (file, running) = (file.clone(), Arc::clone(&running));
        Box::pin(async move {
            let Some(file) = file else {
                return Ok(());
            };
            // A file of some kilobytes, read on the operator's wish.
            let fresh = tokio::task::spawn_blocking(move || read_config(&file)).await;
            let fresh = fresh.map_err(|fault| fault.to_string())??;
            if format!("{fresh:?}") == format!("{running:?}") {
                return Ok(());
            }
            Err("the file has changed; its keys take effect at the next start".to_owned())
        })
    })
}

pub fn token_file(admin: &AdminConfig) -> PathBuf {
    let beside = || admin.socket.with_file_name("admin.token");
    admin.token_file.clone().unwrap_or_else(beside)
}

/// An address of the documentation range (RFC 5737): any route to the world will do.
const SOMEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
/// Batches at the database at a time; those that come meanwhile make the next one larger.
const BATCHES_AT_A_TIME: usize = 1;
/// Bytes of a journal: some 200,000 orders.
const JOURNAL_LIMIT: u64 = 64 << 20;
/// How often a silent peer is asked whether it is still there.
const PROBE_AGAIN: Duration = Duration::from_secs(5);
