//! The daemon itself: `status`, `drain`, `reload`, `audit`, `events`, health.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::card::Nothing;
use super::error::{Code, Problem};
use super::feed::FeedForm;
use super::http::{Answer, Json, Outcome, Params};
use super::socket::Actor;
use super::{Admin, time_text};
use crate::sip::Counter;
use crate::switch::{AdminAsk, AdminReply, SwitchStatus};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/status", get(status))
        .route("/drain", post(drain))
        .route("/reload", post(reload))
        .route("/audit", get(audit))
        .route("/events", get(events))
}

pub fn health_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    #[serde(default = "fifty")]
    limit: i64,
}

async fn status(State(admin): State<Arc<Admin>>) -> Outcome {
    let status = switch_status(&admin).await?;
    let nodes = match (admin.store_state)().away_since {
        None => admin.store.nodes().await.unwrap_or_default(),
        Some(_) => Vec::new(),
    };
    let mut document = status_json(&admin, &status);
    document["nodes"] = json!(nodes);
    // Without a database there is no verdict to show, and everything else is worth showing.
    let check = match (admin.store_state)().away_since {
        None => admin.store.last_check().await.unwrap_or_default(),
        Some(_) => None,
    };
    document["last_check"] = json!(check);
    let attacks = match (admin.store_state)().away_since {
        None => admin.store.pin_attacks().await.unwrap_or_default(),
        Some(_) => Vec::new(),
    };
    document["pin_attacks"] = json!(attacks);
    Ok(Answer::ok(document))
}

async fn drain(State(admin): State<Arc<Admin>>, actor: Actor, _: Json<Nothing>) -> Outcome {
    match admin.switch.ask(AdminAsk::Drain).await? {
        AdminReply::Done => {}
        AdminReply::Status(_) | AdminReply::LiveCalls(_) | AdminReply::NoSuchCall => {
            return Err(Problem::internal("the switch answered another question"));
        }
    }
    admin
        .store
        .audit_add(&admin.act(actor, None), "system.drain", "switch")
        .await?;
    let status = switch_status(&admin).await?;
    Ok(Answer::ok(status_json(&admin, &status)))
}

async fn reload(State(admin): State<Arc<Admin>>, actor: Actor, _: Json<Nothing>) -> Outcome {
    (admin.reload)().await.map_err(|why| {
        Problem::new(
            Code::ReloadRefused,
            format!("Die Konfiguration bleibt, wie sie war: {why}"),
            format!("The configuration stays as it was: {why}"),
        )
    })?;
    admin.directory_changed().await?;
    admin
        .store
        .audit_add(&admin.act(actor, None), "system.reload", "config")
        .await?;
    Ok(Answer::ok(json!({ "reloaded": true })))
}

async fn audit(State(admin): State<Arc<Admin>>, Params(tail): Params<Tail>) -> Outcome {
    if !(1..=1000).contains(&tail.limit) {
        return Err(Problem::new(Code::BadValue, "limit: 1 bis 1000.", "limit: 1 to 1000.").field("limit"));
    }
    Ok(Answer::ok(
        json!({ "audit": admin.store.audit_tail(tail.limit).await? }),
    ))
}

/// JSON lines, or server-sent events for those who ask for `text/event-stream`.
async fn events(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, Problem> {
    let server_sent = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/event-stream"));
    let (form, kind) = if server_sent {
        (FeedForm::ServerSent, "text/event-stream")
    } else {
        (FeedForm::JsonLines, "application/jsonl")
    };
    let body = admin.feed.listen(form).ok_or_else(|| {
        Problem::new(
            Code::Overloaded,
            "Zu viele hören den Ereignissen schon zu.",
            "Too many follow the events already.",
        )
    })?;
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn live() -> Answer {
    Answer::ok(json!({ "live": true }))
}

/// Whether calls would be taken now: the database takes writes, the switch answers and is not drained.
async fn ready(State(admin): State<Arc<Admin>>) -> Outcome {
    let mut missing = Vec::new();
    if (admin.store_state)().away_since.is_some() {
        missing.push("store");
    }
    match switch_status(&admin).await {
        Err(_) => missing.push("switch"),
        Ok(status) if status.draining => missing.push("draining"),
        Ok(_) => {}
    }
    if missing.is_empty() {
        // Calls are taken all the same: the cards concerned are blocked, the others are right.
        let broken = admin
            .store
            .last_check()
            .await
            .ok()
            .flatten()
            .is_some_and(|last| !last.clean);
        let degraded: &[&str] = if broken { &["integrity"] } else { &[] };
        return Ok(Answer::ok(json!({ "ready": true, "degraded": degraded })));
    }
    Err(Problem::new(
        Code::NotReady,
        format!("Es fehlt: {}.", missing.join(", ")),
        format!("Missing: {}.", missing.join(", ")),
    )
    .extra(json!({ "missing": missing })))
}

async fn switch_status(admin: &Admin) -> Result<SwitchStatus, Problem> {
    match admin.switch.ask(AdminAsk::Status).await? {
        AdminReply::Status(status) => Ok(*status),
        AdminReply::LiveCalls(_) | AdminReply::Done | AdminReply::NoSuchCall => {
            Err(Problem::internal("the switch answered another question"))
        }
    }
}

fn status_json(admin: &Admin, status: &SwitchStatus) -> Value {
    let store = (admin.store_state)();
    let counters: BTreeMap<&str, u64> = status
        .counters
        .iter()
        .map(|(counter, count)| (counter_word(*counter), *count))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": time_text(admin.started_at),
        "store": if store.away_since.is_none() { "up" } else { "down" },
        "store_away_since": store.away_since.map(time_text),
        "journal": {
            "entries": store.journal_entries,
            "oldest_at": store.journal_oldest_at.map(time_text),
            "rejected": store.journal_rejected,
        },
        "node": admin.store.node(),
        "epoch": admin.store.epoch(),
        "draining": status.draining,
        "calls": status.calls,
        "bridged": status.bridged,
        "longest_rest_ms": status.longest_rest.as_ms(),
        "free_ports": status.free_ports,
        "legs": status.endpoint.legs,
        "transactions": status.endpoint.transactions,
        "counters": counters,
    })
}

fn counter_word(counter: Counter) -> &'static str {
    match counter {
        Counter::Stranger => "stranger",
        Counter::Junk => "junk",
        Counter::Malformed => "malformed",
        Counter::StrayResponse => "stray_response",
        Counter::NoDialog => "no_dialog",
        Counter::Loop => "loop",
        Counter::Full => "full",
        Counter::Retransmission => "retransmission",
    }
}

const fn fifty() -> i64 {
    50
}
