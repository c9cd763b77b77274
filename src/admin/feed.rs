//! The event feed: what happens in calls, to everyone who listens, as JSON lines or server-sent
//! events. A listener that does not read loses the connection, never memory of ours.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::now::UnixTime;
use crate::switch::{CallEvent, CallHappening};

/// All listeners.
#[derive(Debug, Default)]
pub struct Feed {
    listeners: Mutex<Vec<mpsc::Sender<Bytes>>>,
    /// Listeners inside of this process.
    followers: Mutex<Vec<SyncSender<CallEvent>>>,
}

impl Feed {
    /// Called by the driver for each `Output::Event`.
    pub fn publish(&self, at: UnixTime, event: &CallEvent) {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|follower| follower.try_send(event.clone()).is_ok());
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.is_empty() {
            return;
        }
        let line = Bytes::from(format!("{}\n", event_json(at, event)));
        listeners.retain(|listener| listener.try_send(line.clone()).is_ok());
    }

    /// What happens outside of calls, such as `integrity.failed`; `facts` is an object.
    pub fn announce(&self, at: UnixTime, event: &str, mut facts: Value) {
        facts["event"] = json!(event);
        facts["at"] = json!(super::time_text(at));
        let line = Bytes::from(format!("{facts}\n"));
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|listener| listener.try_send(line.clone()).is_ok());
    }

    /// Everything from now on, for a listener in this process; one that falls behind by
    /// [`BACKLOG`] events is let go.
    pub fn follow(&self) -> Receiver<CallEvent> {
        let (sender, receiver) = sync_channel(BACKLOG);
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        receiver
    }

    /// `None` when too many listen already.
    pub fn listen(&self, form: FeedForm) -> Option<FeedBody> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_closed());
        if listeners.len() >= MAX_LISTENERS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        listeners.push(sender);
        Some(FeedBody { receiver, form })
    }

    pub fn has_listeners(&self) -> bool {
        !self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Ends all streams, at shutdown.
    pub fn close(&self) {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForm {
    JsonLines,
    /// `text/event-stream`, for browsers.
    ServerSent,
}

/// One listener's endless answer.
#[derive(Debug)]
pub struct FeedBody {
    receiver: mpsc::Receiver<Bytes>,
    form: FeedForm,
}

impl HttpBody for FeedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let form = self.form;
        self.receiver.poll_recv(cx).map(|line| {
            line.map(|line| {
                let data = match form {
                    FeedForm::JsonLines => line,
                    FeedForm::ServerSent => Bytes::from([b"data: ", line.as_ref(), b"\n"].concat()),
                };
                Ok(Frame::data(data))
            })
        })
    }
}

/// An event as the API spells it. It holds no PIN and no digit, because the alphabet has none.
pub fn event_json(at: UnixTime, event: &CallEvent) -> Value {
    let (what, mut facts) = match &event.what {
        CallHappening::Started => ("started", json!({})),
        CallHappening::State(state) => ("state", json!({ "state": state })),
        CallHappening::Playing { side, prompts } => {
            ("playing", json!({ "side": side.to_string(), "prompts": prompts }))
        }
        CallHappening::Activated { card } => ("activated", json!({ "card_id": card.get() })),
        CallHappening::Bridged { card, granted } => (
            "bridged",
            json!({ "card_id": card.get(), "granted_ms": granted.as_ms() }),
        ),
        CallHappening::Warned { seconds } => ("warned", json!({ "left_s": seconds })),
        CallHappening::Extended { granted } => ("extended", json!({ "granted_ms": granted.as_ms() })),
        CallHappening::Ended { cause, raw, billed } => (
            "ended",
            json!({ "end_cause": cause.as_str(), "raw_ms": raw.as_ms(), "billed_ms": billed.as_ms() }),
        ),
    };
    facts["event"] = json!(format!("call.{what}"));
    facts["call"] = json!(event.call.to_string());
    facts["at"] = json!(super::time_text(at));
    facts
}

/// Listeners at a time.
const MAX_LISTENERS: usize = 32;
/// Events that a slow listener may lag behind.
const BACKLOG: usize = 256;
