//! Calls, live and past: `call list|show|hangup|extend`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::card::{Minutes, Nothing, changed, whole_minutes};
use super::error::{Code, Problem};
use super::http::{Answer, DryRun, Json, OrderKey, Outcome, Params};
use super::socket::Actor;
use super::{Admin, time_text};
use crate::ids::CallKey;
use crate::store::{CallFilter, CallRow};
use crate::switch::{AdminAsk, AdminReply, LiveCall};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/calls", get(list))
        .route("/calls/{id}", get(show))
        .route("/calls/{id}/hangup", post(hang_up))
        .route("/calls/{id}/extend", post(extend))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    live: bool,
    project: Option<String>,
    card: Option<String>,
    #[serde(default)]
    limit: i64,
}

async fn list(State(admin): State<Arc<Admin>>, Params(filter): Params<Filter>) -> Outcome {
    if !(0..=1000).contains(&filter.limit) {
        return Err(Problem::new(
            Code::BadValue,
            "limit: 0 bis 1000 (0: so viele wie möglich).",
            "limit: 0 to 1000 (0: as many as possible).",
        )
        .field("limit"));
    }
    if let Some(project) = &filter.project {
        admin.store.project_show(project).await?;
    }
    let live = if filter.live {
        Some(live_calls(&admin).await?)
    } else {
        None
    };
    let filtered = filter.project.is_some() || filter.card.is_some();
    let rows = admin
        .store
        .call_list(&CallFilter {
            project: filter.project,
            card: filter.card,
            open: filter.live,
            limit: filter.limit,
        })
        .await?;
    let Some(live) = live else {
        return Ok(Answer::ok(json!({ "calls": rows })));
    };
    let mut rows: BTreeMap<String, CallRow> = rows.into_iter().map(|r| (r.id.clone(), r)).collect();
    let calls: Vec<Value> = live
        .iter()
        .map(|call| (call, rows.remove(&call.call.to_string())))
        // A call whose row is not written yet belongs to no project that could be asked for.
        .filter(|(_, row)| row.is_some() || !filtered)
        .map(|(call, row)| live_json(call, row.as_ref()))
        .collect();
    Ok(Answer::ok(json!({ "calls": calls })))
}

async fn show(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Outcome {
    let key = key(&id)?;
    let row = admin.store.call_show(key).await?;
    if row.state != "open" {
        return Ok(Answer::ok(json!(row)));
    }
    // A silent switch does not keep the row from being shown.
    let live = live_calls(&admin).await.unwrap_or_default();
    Ok(Answer::ok(match live.iter().find(|call| call.call == key) {
        Some(call) => live_json(call, Some(&row)),
        None => json!(row),
    }))
}

async fn hang_up(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    actor: Actor,
    _: Json<Nothing>,
) -> Outcome {
    let key = key(&id)?;
    match admin.switch.ask(AdminAsk::HangUp(key)).await? {
        AdminReply::Done => {
            admin
                .store
                .audit_add(&admin.act(actor, None), "call.hangup", &key.to_string())
                .await?;
            Ok(Answer::ok(json!({ "id": key.to_string(), "hung_up": true })))
        }
        AdminReply::NoSuchCall => {
            // Known but over is another answer than unknown.
            admin.store.call_show(key).await?;
            Err(Problem::new(
                Code::CallOver,
                "Dieser Anruf ist schon beendet.",
                "This call has ended already.",
            ))
        }
        AdminReply::Status(_) | AdminReply::LiveCalls(_) => {
            Err(Problem::internal("the switch answered another question"))
        }
    }
}

async fn extend(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    actor: Actor,
    OrderKey(order_key): OrderKey,
    dry: DryRun,
    Json(order): Json<Minutes>,
) -> Outcome {
    let key = key(&id)?;
    let minutes = whole_minutes(&order.minutes)?;
    let row = admin
        .store_for(dry)
        .call_extend(&admin.act(actor, order_key), key, minutes)
        .await?;
    Ok(changed(&admin, &row, dry))
}

async fn live_calls(admin: &Admin) -> Result<Vec<LiveCall>, Problem> {
    match admin.switch.ask(AdminAsk::LiveCalls).await? {
        AdminReply::LiveCalls(calls) => Ok(calls),
        AdminReply::Status(_) | AdminReply::Done | AdminReply::NoSuchCall => {
            Err(Problem::internal("the switch answered another question"))
        }
    }
}

/// The row as far as it is written, under what the switch knows now.
fn live_json(call: &LiveCall, row: Option<&CallRow>) -> Value {
    let mut document = row.map_or_else(
        || json!({ "project": null, "card": null, "end_cause": null, "result": null, "ended_at": null }),
        |row| json!(row),
    );
    let time = |at: Option<crate::now::UnixTime>| at.map(time_text);
    let number = |n: &Option<crate::units::E164>| n.as_ref().map(|n| n.as_str().to_owned());
    document["id"] = json!(call.call.to_string());
    document["live"] = json!(true);
    document["state"] = json!(call.state);
    document["caller"] = json!(number(&call.caller));
    document["called"] = json!(number(&call.called));
    document["target"] = json!(call.target);
    document["started_at"] = json!(time_text(call.started_at));
    document["answered_at"] = json!(time(call.answered_at));
    document["bridged_at"] = json!(time(call.bridged_at));
    document["raw_ms"] = json!(call.used.as_ms());
    document["billed_ms"] = json!(call.used.as_ms());
    document["rest_ms"] = json!(call.rest.as_ms());
    document
}

fn key(id: &str) -> Result<CallKey, Problem> {
    CallKey::parse(id).ok_or_else(|| {
        Problem::new(
            Code::CallNotFound,
            "Ein Anruf wird mit seinen 16 Hexziffern genannt („cardline call list“).",
            "A call is named by its 16 hex digits (`cardline call list`).",
        )
    })
}
