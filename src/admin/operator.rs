//! The operator's own data: `operator show|edit`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::json;

use super::Admin;
use super::http::{Answer, DryRun, Json, Outcome};
use super::socket::Actor;
use crate::store::OperatorEdit;

pub fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/operator", get(show).patch(edit))
}

async fn show(State(admin): State<Arc<Admin>>) -> Outcome {
    Ok(Answer::ok(json!(admin.store.operator_show().await?)))
}

async fn edit(
    State(admin): State<Arc<Admin>>,
    actor: Actor,
    dry: DryRun,
    Json(edit): Json<OperatorEdit>,
) -> Outcome {
    let store = admin.store_for(dry);
    let row = store.operator_edit(&admin.act(actor, None), &edit).await?;
    Ok(Answer::ok(dry.mark(json!(row))))
}
