//! The port to the switch: questions go in as an `Input` with a numeric token, answers come back
//! through a table of waiting requests. The core never sees a channel.
//!
//! Deliberately absent: the driver. `main.rs` gives a function that posts, and calls `answer`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admin::error::{Code, Problem};
use crate::ids::{CardId, ReplyToken};
use crate::switch::{AdminAsk, AdminReply, Input};

/// Asks the switch and waits; shared by all requests.
pub struct SwitchPort {
    /// Hands an input to the driver; false: its queue is full or it is gone.
    post: Box<dyn Fn(Input) -> bool + Send + Sync>,
    waiting: Mutex<BTreeMap<ReplyToken, oneshot::Sender<AdminReply>>>,
    next: AtomicU64,
    patience: Duration,
}

impl SwitchPort {
    pub fn new(post: impl Fn(Input) -> bool + Send + Sync + 'static) -> SwitchPort {
        SwitchPort {
            post: Box::new(post),
            waiting: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(1),
            patience: PATIENCE,
        }
    }

    /// Called by the driver for each `Output::AdminReply`. A token nobody waits for (the request
    /// timed out) is dropped.
    pub fn answer(&self, token: ReplyToken, reply: AdminReply) {
        let waiter = self.table().remove(&token);
        if waiter.is_none_or(|w| w.send(reply).is_err()) {
            tracing::debug!(token = token.0, "an answer of the switch came too late");
        }
    }

    /// # Errors
    /// `switch_silent` when the switch is gone, overloaded or slower than 2 s;
    /// `overloaded` when too many requests wait already.
    pub async fn ask(&self, ask: AdminAsk) -> Result<AdminReply, Problem> {
        let token = ReplyToken(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        {
            let mut table = self.table();
            if table.len() >= MAX_WAITING {
                return Err(Problem::new(
                    Code::Overloaded,
                    "Zu viele Anfragen warten auf die Vermittlung. Bitte gleich noch einmal versuchen.",
                    "Too many requests wait for the switch. Please try again in a moment.",
                ));
            }
            table.insert(token, sender);
        }
        if !(self.post)(Input::Admin { token, ask }) {
            self.table().remove(&token);
            return Err(silent());
        }
        let answer = tokio::time::timeout(self.patience, receiver).await;
        self.table().remove(&token);
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(silent()),
        }
    }

    /// Tells live calls that a card was changed. Losing this is harmless: calls poll every 2 s.
    pub fn card_changed(&self, card: CardId) {
        if !(self.post)(Input::CardChanged(card)) {
            tracing::warn!(%card, "the switch did not take the news of a changed card");
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<ReplyToken, oneshot::Sender<AdminReply>>> {
        // Nothing that holds the lock can panic halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SwitchPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchPort").finish_non_exhaustive()
    }
}

fn silent() -> Problem {
    Problem::new(
        Code::SwitchSilent,
        "Die Vermittlung hat nicht rechtzeitig geantwortet. Der Auftrag kann trotzdem noch ausgeführt werden; bitte den Stand prüfen.",
        "The switch did not answer in time. The order may still be carried out; please check.",
    )
}

/// Requests that may wait for the switch at a time.
const MAX_WAITING: usize = 256;
/// How long one of them waits.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn an_answer_finds_its_question() {
        let (tx, rx) = mpsc::channel();
        let port = std::sync::Arc::new(SwitchPort::new(move |input| tx.send(input).is_ok()));
        let answering = std::sync::Arc::clone(&port);
        let asked = port.ask(AdminAsk::Status);
        let answer = async move {
            tokio::task::yield_now().await;
            let Ok(Input::Admin { token, .. }) = rx.try_recv() else {
                panic!("no question");
            };
            answering.answer(ReplyToken(token.0 + 1), AdminReply::NoSuchCall);
            answering.answer(token, AdminReply::Done);
        };
        let (reply, ()) = tokio::join!(asked, answer);
        assert!(matches!(reply, Ok(AdminReply::Done)));
        assert!(port.table().is_empty());
    }

    #[tokio::test]
    async fn a_silent_switch_is_a_problem_and_leaves_nothing_behind() {
        for takes in [true, false] {
            let mut port = SwitchPort::new(move |_| takes);
            port.patience = Duration::from_millis(1);
            let problem = port.ask(AdminAsk::Drain).await.expect_err("must not be answered");
            assert!(problem.is(Code::SwitchSilent));
            assert!(port.table().is_empty());
        }
    }
}
