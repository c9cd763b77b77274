//! Signals: the first SIGTERM or SIGINT drains, a second one stops now, SIGHUP reads the
//! directory again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::jobs::Directories;
use super::{Event, Inbox, PostFault};

/// The signals, taken over from the system's defaults.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// # Errors
    /// The system refuses a handler.
    pub fn install() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Serves signals for ever; to be dropped when the loop has ended.
    pub async fn serve(mut self, inbox: Inbox, directories: Directories) {
        let mut draining = false;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hang_up.recv() => {
                    match directories.refresh().await {
                        Ok(numbers) => tracing::info!(numbers, "read numbers and projects again"),
                        Err(fault) => tracing::error!(%fault, "cannot read numbers and projects"),
                    }
                    continue;
                }
            }
            let event = if draining {
                tracing::warn!("stopping now");
                Event::Stop
            } else {
                tracing::info!("draining: no new calls, ending with the last one; signal again to stop now");
                Event::Drain
            };
            draining = true;
            insist(&inbox, event).await;
        }
    }
}

/// Posts until the loop has taken it or is gone.
pub async fn insist(inbox: &Inbox, mut event: Event) {
    while let Err(PostFault::Full(back)) = inbox.event(event) {
        event = back;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
