//! Projects: `project new|list|show|edit`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::{Value, json};

use super::Admin;
use super::error::{Code, Problem};
use super::http::{Answer, Json, Outcome};
use super::number_input;
use super::socket::Actor;
use crate::store::{AdminError, CallFilter, ProjectEdit, ProjectRow};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/projects", get(list).post(new))
        .route("/projects/{name}", get(show).patch(edit))
        .route("/projects/{name}/callers", get(callers))
}

async fn list(State(admin): State<Arc<Admin>>) -> Outcome {
    let rows = admin.store.project_list().await?;
    let rows: Vec<ProjectRow> = rows.into_iter().map(dressed).collect();
    Ok(Answer::ok(json!({ "projects": rows })))
}

async fn new(State(admin): State<Arc<Admin>>, actor: Actor, Json(mut edit): Json<ProjectEdit>) -> Outcome {
    let Some(name) = edit.name.take() else {
        return Err(Problem::new(
            Code::MissingField,
            "Ein Projekt braucht einen Namen (Feld „name“).",
            "A project needs a name (field \"name\").",
        )
        .field("name"));
    };
    let row = admin
        .store
        .project_new(&admin.act(actor, None), &name, &edit)
        .await?;
    admin.directory_changed().await?;
    Ok(Answer::created(json!(dressed(row))))
}

async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Outcome {
    let row = admin.store.project_show(&name).await?;
    let attacks = admin.store.pin_attacks().await.map_err(AdminError::Fault)?;
    let attack = attacks.into_iter().find(|attack| attack.project == row.name);
    let mut document = json!(dressed(row));
    document["pin_attack_since"] = json!(attack.map(|attack| attack.since));
    Ok(Answer::ok(document))
}

async fn edit(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    actor: Actor,
    Json(edit): Json<ProjectEdit>,
) -> Outcome {
    let row = admin
        .store
        .project_edit(&admin.act(actor, None), &name, &edit)
        .await?;
    admin.directory_changed().await?;
    Ok(Answer::ok(json!(dressed(row))))
}

/// Lines that called lately and were not connected: one of them is mostly the customer whose line
/// the operator wants to activate (S21). Withheld callers have no line to offer.
async fn callers(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Outcome {
    let project = admin.store.project_show(&name).await?;
    let calls = admin
        .store
        .call_list(&CallFilter {
            project: Some(project.name),
            limit: LOOK_BACK,
            ..CallFilter::default()
        })
        .await?;
    let mut callers: Vec<Value> = Vec::new();
    for call in calls {
        let Some(caller) = call.caller.filter(|_| call.bridged_at.is_none()) else {
            continue;
        };
        if callers.len() < OFFERED && !callers.iter().any(|known| known["e164"] == caller.as_str()) {
            callers.push(json!({
                "e164": caller,
                "called_at": call.started_at,
                "end_cause": call.end_cause,
            }));
        }
    }
    Ok(Answer::ok(json!({ "callers": callers })))
}

fn dressed(mut row: ProjectRow) -> ProjectRow {
    row.numbers.iter_mut().for_each(number_input::dress);
    row
}

/// Past calls in which unconnected callers are looked for.
const LOOK_BACK: i64 = 200;
/// Callers to pick from.
const OFFERED: usize = 10;
