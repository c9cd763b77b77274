//! The composition root of the daemon: configuration in, a running Cardline out. `main`, the demo
//! and the tests start the very same one; port 0 takes a free port and is reported.
//!
//! Deliberately absent: the command line, the log's set-up, and every rule.

mod assemble;
pub mod check;
pub mod keys;
pub mod upkeep;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin::feed::Feed;
use crate::admin::live::SwitchPort;
use crate::admin::socket::DoorFault;
use crate::admin::{self, Admin, Doors};
use crate::config::{Config, MediaConfig};
use crate::driver::clock::{Clock, random_seed};
use crate::driver::jobs::{self, Directories};
use crate::driver::journal::{self, Journal, JournalFault};
use crate::driver::lease::NodeDuty;
use crate::driver::ledger::Desk;
use crate::driver::media::{MediaPlane, Reporting};
use crate::driver::night;
use crate::driver::prompts::{self, PromptFault, Prompts};
use crate::driver::run::{self, Parts};
use crate::driver::shutdown::{Signals, insist};
use crate::driver::sip_udp::{BindFault, SipSockets};
use crate::driver::store_watch::{self, StoreWatch};
use crate::driver::{self, Event, Inbox};
use crate::media::MediaPort;
use crate::now::IdSource;
use crate::secret::Secret;
use crate::store::{Hold, PinKey, Store, StoreFault, StoreOptions};
use crate::switch::Switch;

/// Why the daemon does not start, in the operator's words.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error(transparent)]
    Sip(#[from] BindFault),
    #[error(transparent)]
    Admin(#[from] DoorFault),
    #[error(transparent)]
    Prompts(#[from] PromptFault),
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error(transparent)]
    Journal(#[from] JournalFault),
    #[error("trunk \"{trunk}\": password_file {}: {source}", path.display())]
    Password {
        trunk: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "media.ports: no pair of ports can be bound on {address} in {ports}; free some, or change the range"
    )]
    NoPorts {
        address: std::net::IpAddr,
        ports: String,
    },
    #[error("the copy's books cannot be read: {0}")]
    Books(String),
    #[error("the system refuses {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Running {
    /// SIP addresses as bound.
    pub sip: Vec<SocketAddr>,
    pub admin_socket: PathBuf,
    pub admin_http: Option<SocketAddr>,
    /// Numbers (DIDs) known at the start.
    pub numbers: usize,
    /// Prompts loaded.
    pub prompts: usize,
    /// What happens in calls.
    pub feed: Arc<Feed>,
    pub clock: Clock,
    pub store: Store,
    /// Held until the store is closed.
    hold: Hold,
    journal: Journal,
    inbox: Inbox,
    directories: Directories,
    desk: Desk,
    ended: oneshot::Receiver<()>,
    stop_admin: watch::Sender<bool>,
    /// Of the jobs by the round, and of the nightly one.
    stop_jobs: [Arc<Notify>; 3],
    admin: JoinHandle<io::Result<()>>,
}

/// Starts everything in the current runtime. `file` is read again by `cardline reload`.
///
/// # Errors
/// [`StartFault`]; nothing runs on, and no port stays bound.
pub async fn start(config: Config, file: Option<PathBuf>) -> Result<Running, StartFault> {
    let clock = Clock::start();
    let mut ids = IdSource::from_seed(random_seed().map_err(system("randomness"))?);
    let Outside {
        sip,
        doors,
        token,
        prompts,
        hold,
        store,
        journal,
    } = outside(&config, clock).await?;

    let (inbox, queue) = driver::inbox();
    let addresses = sip.addresses();
    let advertised = assemble::advertised(&config, &addresses);
    let switch_config = assemble::switch(&config, &addresses, advertised, prompts.grammars)?;
    let plan = assemble::media(&config, advertised);
    let bank = Arc::new(prompts.bank);
    let reporting = Reporting {
        inbox: inbox.clone(),
        keep: Arc::new(|_, _| {}),
    };
    let mut media =
        MediaPlane::start(&plan, &bank, clock, &reporting, &mut ids).map_err(system("a media thread"))?;
    let ports = first_ports(&mut media, &config.media)?;
    let watch = StoreWatch::default();
    let patience = config.store.timeout;
    let desk = assemble::desk(&store, &journal, &watch, inbox.clone(), clock, patience);
    // It waits in the queue until the loop begins.
    let directories = Directories::new(
        assemble::read_directory(store.clone(), prompts.sets, config.trunks.clone()),
        inbox.clone(),
    );
    let numbers = directories.refresh().await?;
    let port = Arc::new(assemble::switch_port(inbox.clone()));
    let feed = Arc::new(Feed::default());
    let (end, ended) = oneshot::channel();
    let parts = Parts {
        clock,
        switch: Switch::new(switch_config, ids),
        sip,
        media,
        ports,
        ledger: desk.clone(),
        answer: answer(&port),
        publish: publish(&feed),
    };
    run::start(parts, &inbox, queue, move || {
        // Nobody waits for the end of a daemon that was let go.
        end.send(()).ok();
    })
    .map_err(system("a thread"))?;

    let shells = Shells {
        config,
        file,
        clock,
        hold,
        store,
        journal,
        watch,
        inbox,
        directories,
        desk,
        feed,
        token,
    };
    Ok(shells.open(doors, port, addresses, (numbers, prompts.count), ended))
}

fn first_ports(media: &mut MediaPlane, config: &MediaConfig) -> Result<Vec<MediaPort>, StartFault> {
    let ports = media.refill();
    if ports.is_empty() {
        return Err(StartFault::NoPorts {
            address: config.listen,
            ports: format!("{}-{}", config.ports.start(), config.ports.end()),
        });
    }
    Ok(ports)
}

/// What the daemon needs of the world, each opened or refused.
struct Outside {
    sip: SipSockets,
    doors: Doors,
    token: Option<Secret<String>>,
    prompts: Prompts,
    hold: Hold,
    store: Store,
    journal: Journal,
}

async fn outside(config: &Config, clock: Clock) -> Result<Outside, StartFault> {
    // A second daemon must not touch the books of the first.
    let hold = assemble::hold(config)?;
    let listen: Vec<SocketAddr> = config.sip.listen.iter().map(|address| address.udp).collect();
    let sip = SipSockets::bind(&listen)?;
    let doors = Doors::open(&config.admin.socket, config.admin.http).await?;
    let token = match &config.admin.http {
        Some(_) => Some(admin::socket::token(&assemble::token_file(&config.admin))?),
        None => None,
    };
    let loading = load_prompts(config.prompts.dir.clone());
    let (prompts, store) = tokio::try_join!(loading, open_store(config))?;
    let journal = assemble::journal(&config.store)?;
    store.claim(clock.now(), hold.instance()).await?;
    // Before anything is settled at its checkpoint: the journal knows better.
    let replayed = journal::replay(&journal, &store, clock.now()).await?;
    if replayed != journal::Replayed::default() {
        tracing::warn!(?replayed, "the journal of an earlier life is in the books");
    }
    let recovered = store.recover(clock.now(), &[]).await?.ended;
    if recovered.calls > 0 || recovered.reservations > 0 {
        tracing::warn!(
            ?recovered,
            "an earlier life ended in the middle of calls; they are settled"
        );
    }
    Ok(Outside {
        sip,
        doors,
        token,
        prompts,
        hold,
        store,
        journal,
    })
}

/// What is left to start once the loop runs: the admin listener and the jobs.
struct Shells {
    config: Config,
    file: Option<PathBuf>,
    clock: Clock,
    hold: Hold,
    store: Store,
    journal: Journal,
    watch: StoreWatch,
    inbox: Inbox,
    directories: Directories,
    desk: Desk,
    feed: Arc<Feed>,
    token: Option<Secret<String>>,
}

impl Shells {
    fn open(
        self,
        doors: Doors,
        port: Arc<SwitchPort>,
        sip: Vec<SocketAddr>,
        (numbers, prompts): (usize, usize),
        ended: oneshot::Receiver<()>,
    ) -> Running {
        let (clock, patience) = (self.clock, self.config.store.timeout);
        let admin_socket = self.config.admin.socket.clone();
        let check_at = self.config.store.check_at;
        let admin_http = doors.tcp.as_ref().map(|door| door.address);
        let admin = Admin {
            store: self.store.clone(),
            switch: port,
            feed: Arc::clone(&self.feed),
            clock: Box::new(move || clock.wall()),
            refresh_directory: assemble::refresh_hook(self.directories.clone()),
            reload: assemble::reload_hook(self.file, self.config),
            store_state: assemble::store_state(self.watch.clone(), self.journal.clone()),
            started_at: clock.wall(),
            token: self.token,
            at_work: admin::Places::default(),
        };
        let (stop_admin, admin_stops) = watch::channel(false);
        let runtime = Handle::current();
        let admin = runtime.spawn(admin::serve(Arc::new(admin), doors, admin_stops));
        let stop_jobs = [(); 3].map(|()| Arc::new(Notify::new()));
        if let Some(hour) = check_at {
            let alarm = assemble::alarm(Arc::clone(&self.feed));
            let stop = Arc::clone(&stop_jobs[1]);
            runtime.spawn(night::run(self.store.clone(), clock, hour, alarm, stop));
        }
        let duty = NodeDuty {
            store: self.store.clone(),
            instance: self.hold.instance().to_owned(),
            directories: self.directories.clone(),
            inbox: self.inbox.clone(),
            clock,
        };
        runtime.spawn(duty.run(Arc::clone(&stop_jobs[2])));
        runtime.spawn(jobs::run(
            self.store.clone(),
            self.directories.clone(),
            clock,
            assemble::attacked(Arc::clone(&self.feed)),
            Arc::clone(&stop_jobs[0]),
        ));
        let (store, stop) = (self.store.clone(), stop_admin.subscribe());
        runtime.spawn(store_watch::run(store, self.watch, clock, patience, stop));
        Running {
            sip,
            admin_socket,
            admin_http,
            numbers,
            prompts,
            feed: self.feed,
            clock,
            store: self.store,
            hold: self.hold,
            journal: self.journal,
            inbox: self.inbox,
            directories: self.directories,
            desk: self.desk,
            ended,
            stop_admin,
            stop_jobs,
            admin,
        }
    }
}

impl Running {
    /// One line that says where everything is.
    pub fn ready_line(&self) -> String {
        let sip: Vec<String> = self
            .sip
            .iter()
            .map(|address| format!("udp://{address}"))
            .collect();
        let http = self.admin_http.map(|address| format!(" and http://{address}"));
        format!(
            "cardline ready: SIP {}, admin {}{}, {} numbers, {} prompts",
            sip.join(" "),
            self.admin_socket.display(),
            http.unwrap_or_default(),
            self.numbers,
            self.prompts,
        )
    }

    /// Serves SIGTERM, SIGINT and SIGHUP from now on.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn serve_signals(&self) -> io::Result<()> {
        let signals = Signals::install()?;
        Handle::current().spawn(signals.serve(self.inbox.clone(), self.directories.clone()));
        Ok(())
    }

    /// Takes no new calls; the daemon ends with the last one.
    pub async fn drain(&self) {
        insist(&self.inbox, Event::Drain).await;
    }

    /// Hangs up all calls and ends.
    pub async fn stop(self) {
        insist(&self.inbox, Event::Stop).await;
        self.wait().await;
    }

    /// Waits until the loop has ended (a drain, a stop), then closes everything in order: the
    /// admin listener, the orders to the store, the store.
    pub async fn wait(self) {
        if self.ended.await.is_err() {
            tracing::error!("the loop ended without a word");
        }
        self.stop_jobs.iter().for_each(|stop| stop.notify_one());
        self.stop_admin.send_replace(true);
        let mut admin = self.admin;
        match tokio::time::timeout(ADMIN_ENDS, &mut admin).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(fault))) => tracing::error!(%fault, "the admin listener broke"),
            Ok(Err(fault)) => tracing::error!(%fault, "the admin listener panicked"),
            // A client that does not read its answer keeps nobody alive.
            Err(_) => admin.abort(),
        }
        let left = self.desk.flush(LEDGER_ENDS).await;
        if left > 0 {
            tracing::error!(
                left,
                "orders did not reach the database; the journal gives them to the next start"
            );
        }
        if let Err(fault) = self.store.give_back().await {
            tracing::warn!(%fault, "the lease ends by itself");
        }
        self.store.close().await;
        self.journal.close();
        drop(self.hold);
    }
}

async fn load_prompts(dir: Option<PathBuf>) -> Result<Prompts, StartFault> {
    let loading = tokio::task::spawn_blocking(move || prompts::load(dir.as_deref()));
    let loaded = loading.await.map_err(|fault| StartFault::System {
        what: "the prompts",
        source: io::Error::other(fault),
    })?;
    Ok(loaded?)
}

async fn open_store(config: &Config) -> Result<Store, StartFault> {
    let url = &config.store.url;
    // Before anything is written beside a database that is not ours.
    crate::store::inspect(url).await?;
    let pin_key = PinKey::find(url, config.store.pin_key_file.as_deref())?;
    let options = StoreOptions {
        node: assemble::node_name(config),
        writers: config.store.writers.into(),
        ..StoreOptions::new(url, pin_key)
    };
    Ok(Store::open(options).await?)
}

fn answer(port: &Arc<SwitchPort>) -> run::Answer {
    let port = Arc::clone(port);
    Box::new(move |token, reply| port.answer(token, reply))
}

fn publish(feed: &Arc<Feed>) -> run::Publish {
    let feed = Arc::clone(feed);
    Box::new(move |at, event| feed.publish(at, event))
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartFault {
    move |source| StartFault::System { what, source }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// In words, with the file's name.
pub fn read_config(file: &Path) -> Result<Config, String> {
    let text = std::fs::read_to_string(file).map_err(|fault| format!("{}: {fault}", file.display()))?;
    crate::config::parse(&file.display().to_string(), &text).map_err(|fault| fault.to_string())
}

/// For the admin listener to answer what it has begun.
const ADMIN_ENDS: Duration = Duration::from_secs(3);
/// For the last orders to reach the store.
const LEDGER_ENDS: Duration = Duration::from_secs(10);
