//! Addresses of advisors: `target add|list|remove`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete, get};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::error::{Code, Problem};
use super::http::{Answer, Json, Outcome, Params};
use super::number::OfProject;
use super::number_input;
use super::socket::Actor;
use crate::store::NewTarget;

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/targets", get(list).post(add))
        .route("/targets/{id}", delete(remove))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    project: String,
    /// `sip:user@192.0.2.7:5060`, or a telephone number.
    address: String,
    order: Option<i64>,
    ring_s: Option<i64>,
}

async fn list(State(admin): State<Arc<Admin>>, Params(filter): Params<OfProject>) -> Outcome {
    let rows = admin.store.target_list(filter.project.as_deref()).await?;
    Ok(Answer::ok(json!({ "targets": rows })))
}

async fn add(State(admin): State<Arc<Admin>>, actor: Actor, Json(add): Json<Add>) -> Outcome {
    let typed = add.address.trim();
    let lower = typed.to_ascii_lowercase();
    let address = if lower.starts_with("sip:") {
        typed.to_owned()
    } else if lower.contains(':') || lower.contains('@') {
        return Err(Problem::new(
            Code::InvalidTarget,
            "Ein Ziel ist eine SIP-Adresse wie sip:berater@192.0.2.7:5060 oder eine Rufnummer.",
            "A target is a SIP address such as sip:advisor@192.0.2.7:5060, or a telephone number.",
        )
        .field("address"));
    } else {
        number_input::typed(typed, "address")?.as_str().to_owned()
    };
    let new = NewTarget {
        project: add.project,
        address,
        order: add.order,
        ring_s: add.ring_s,
    };
    let row = admin.store.target_add(&admin.act(actor, None), &new).await?;
    admin.directory_changed().await?;
    Ok(Answer::created(json!(row)))
}

async fn remove(State(admin): State<Arc<Admin>>, Path(id): Path<String>, actor: Actor) -> Outcome {
    let Ok(row) = id.parse::<i64>() else {
        return Err(Problem::new(
            Code::InvalidTarget,
            "Ein Ziel wird mit seiner Nummer (id) aus der Liste entfernt.",
            "A target is removed by its number (id) in the list.",
        )
        .field("id"));
    };
    admin.store.target_remove(&admin.act(actor, None), row).await?;
    admin.directory_changed().await?;
    Ok(Answer::ok(json!({ "removed": row })))
}
