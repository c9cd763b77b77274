//! Talk time that goes back or elsewhere: `card refund|transfer|merge|replace-pin`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::card::{Minutes, Nothing, changed, whole_minutes, with_handover};
use super::http::{Answer, DryRun, Json, OrderKey, Outcome};
use super::socket::Actor;
use crate::store::MovedRow;

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/cards/{serial}/refund", post(storno))
        .route("/cards/{serial}/transfer", post(transfer))
        .route("/cards/{serial}/merge", post(merge))
        .route("/cards/{serial}/replace-pin", post(replace_pin))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    to: String,
    #[serde(default)]
    minutes: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    into: String,
    /// Whether the remembered lines go along.
    #[serde(default)]
    lines: bool,
}

async fn storno(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Minutes>,
) -> Outcome {
    let minutes = whole_minutes(&order.minutes)?;
    let store = admin.store_for(dry);
    let row = store
        .card_storno(&admin.act(actor, key), &serial, minutes)
        .await?;
    Ok(changed(&admin, &row, dry))
}

async fn transfer(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Transfer>,
) -> Outcome {
    let minutes = whole_minutes(&order.minutes)?;
    let store = admin.store_for(dry);
    let moved = store
        .card_transfer(&admin.act(actor, key), &serial, &order.to, minutes)
        .await?;
    Ok(moved_answer(&admin, &moved, dry))
}

async fn merge(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Merge>,
) -> Outcome {
    let store = admin.store_for(dry);
    let moved = store
        .card_merge(&admin.act(actor, key), &serial, &order.into, order.lines)
        .await?;
    Ok(moved_answer(&admin, &moved, dry))
}

async fn replace_pin(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    _: Json<Nothing>,
) -> Outcome {
    let store = admin.store_for(dry);
    let row = store.card_replace_pin(&admin.act(actor, key), &serial).await?;
    Ok(Answer::ok(dry.mark(with_handover(&admin, &row).await)))
}

/// Calls on either card look at it again.
fn moved_answer(admin: &Admin, moved: &MovedRow, dry: DryRun) -> Answer {
    for row in [&moved.from, &moved.to] {
        changed(admin, row, dry);
    }
    Answer::ok(dry.mark(json!(moved)))
}
