//! The account books: `ledger check`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};

use super::Admin;
use super::card::Nothing;
use super::error::{Code, Problem};
use super::http::{Answer, Json, Outcome};
use super::socket::Actor;
use crate::store::CheckReport;

pub fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/ledger/check", post(check))
}

/// Clean is 200; broken is a problem whose `extra` is the same report, so that no program can
/// overlook it.
async fn check(State(admin): State<Arc<Admin>>, actor: Actor, _: Json<Nothing>) -> Outcome {
    let report = admin.store.check_and_keep(&admin.act(actor, None)).await?;
    if report.clean {
        return Ok(Answer::ok(json!(report)));
    }
    admin
        .feed
        .announce((admin.clock)(), "integrity.failed", failed(&report));
    let count = report.offenders.len();
    Err(Problem::new(
        Code::LedgerBroken,
        format!("Die Prüfung fand {count} Verstöße. Bitte keine Karten ändern und das Log sichern."),
        format!("The check found {count} violations. Please change no cards and keep the log."),
    )
    .extra(json!(report))
    .because(format!("{:?}", report.offenders)))
}

/// The facts of the event `integrity.failed`.
pub fn failed(report: &CheckReport) -> Value {
    json!({ "offenders": report.offenders, "blocked": report.blocked })
}
