//! Tariffs: `tariff new|list|show|edit`. Projects that have an edited tariff get its new version.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use super::Admin;
use super::error::{Code, Problem};
use super::http::{Answer, DryRun, Json, Outcome};
use super::socket::Actor;
use crate::store::TariffEdit;

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/tariffs", get(list).post(new))
        .route("/tariffs/{name}", get(show).patch(edit))
}

async fn list(State(admin): State<Arc<Admin>>) -> Outcome {
    Ok(Answer::ok(json!({ "tariffs": admin.store.tariff_list().await? })))
}

async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Outcome {
    Ok(Answer::ok(json!(admin.store.tariff_show(&name).await?)))
}

async fn new(
    State(admin): State<Arc<Admin>>,
    actor: Actor,
    dry: DryRun,
    Json(mut edit): Json<TariffEdit>,
) -> Outcome {
    let Some(name) = edit.name.take() else {
        return Err(Problem::new(
            Code::MissingField,
            "Ein Tarif braucht einen Namen (Feld „name“).",
            "A tariff needs a name (field \"name\").",
        )
        .field("name"));
    };
    let store = admin.store_for(dry);
    let sheet = store.tariff_new(&admin.act(actor, None), &name, &edit).await?;
    Ok(Answer::created(dry.mark(json!(sheet))))
}

async fn edit(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    actor: Actor,
    dry: DryRun,
    Json(edit): Json<TariffEdit>,
) -> Outcome {
    let store = admin.store_for(dry);
    let sheet = store.tariff_edit(&admin.act(actor, None), &name, &edit).await?;
    if !dry.0 {
        admin.directory_changed().await?;
    }
    Ok(Answer::ok(dry.mark(json!(sheet))))
}
