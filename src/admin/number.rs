//! Our own numbers (DIDs): `number add|list|remove`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete, get};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::http::{Answer, Json, Outcome, Params};
use super::number_input;
use super::socket::Actor;
use crate::call::directory;
use crate::store::{NewNumber, NumberRow};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/numbers", get(list).post(add))
        .route("/numbers/{number}", delete(remove))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    number: String,
    project: String,
    role: Role,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Activation,
    Consultation,
    Both,
}

impl From<Role> for directory::Role {
    fn from(role: Role) -> directory::Role {
        match role {
            Role::Activation => directory::Role::Activation,
            Role::Consultation => directory::Role::Consultation,
            Role::Both => directory::Role::Both,
        }
    }
}

/// One project's things, or all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfProject {
    pub project: Option<String>,
}

async fn list(State(admin): State<Arc<Admin>>, Params(filter): Params<OfProject>) -> Outcome {
    let mut rows: Vec<NumberRow> = admin.store.number_list(filter.project.as_deref()).await?;
    rows.iter_mut().for_each(number_input::dress);
    Ok(Answer::ok(json!({ "numbers": rows })))
}

async fn add(State(admin): State<Arc<Admin>>, actor: Actor, Json(add): Json<Add>) -> Outcome {
    let new = NewNumber {
        e164: number_input::typed(&add.number, "number")?,
        project: add.project,
        role: add.role.into(),
    };
    let mut row = admin.store.number_add(&admin.act(actor, None), &new).await?;
    number_input::dress(&mut row);
    admin.directory_changed().await?;
    Ok(Answer::created(json!(row)))
}

async fn remove(State(admin): State<Arc<Admin>>, Path(number): Path<String>, actor: Actor) -> Outcome {
    let number = number_input::typed(&number, "number")?;
    admin
        .store
        .number_remove(&admin.act(actor, None), &number)
        .await?;
    admin.directory_changed().await?;
    Ok(Answer::ok(json!({ "removed": number.as_str() })))
}
