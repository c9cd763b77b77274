//! Minute cards: `card quote|buy|list|show|topup|block|unblock|cancel|note|pin|entries|bind|unbind`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::error::{Code, Problem};
use super::http::{Answer, DryRun, Json, OrderKey, Outcome, Params};
use super::number_input;
use super::socket::Actor;
use crate::store::{CardFilter, CardRow, NewCard};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/cards", get(list).post(buy))
        .route("/cards/quote", post(quote))
        .route("/cards/{serial}", get(show).patch(note))
        .route("/cards/{serial}/topup", post(topup))
        .route("/cards/{serial}/correct", post(correct))
        .route("/cards/{serial}/block", post(block))
        .route("/cards/{serial}/unblock", post(unblock))
        .route("/cards/{serial}/cancel", post(cancel))
        .route("/cards/{serial}/pin:reveal", post(pin))
        .route("/cards/{serial}/entries", get(entries))
        .route("/cards/{serial}/lines", post(bind))
        .route("/cards/{serial}/lines/{number}", delete(unbind))
}

/// Nothing to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quote {
    project: String,
    #[serde(default)]
    minutes: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Buy {
    project: String,
    #[serde(default)]
    minutes: Value,
    note: Option<String>,
    quote: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minutes {
    #[serde(default)]
    pub minutes: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topup {
    #[serde(default)]
    minutes: Value,
    quote: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Correct {
    delta_ms: i64,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    note: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bind {
    number: String,
    /// Takes the line away from another card of the project.
    #[serde(default)]
    take: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    project: Option<String>,
    note: Option<String>,
    line: Option<String>,
    state: Option<String>,
    #[serde(default)]
    limit: i64,
    #[serde(default)]
    offset: i64,
}

async fn quote(State(admin): State<Arc<Admin>>, Json(ask): Json<Quote>) -> Outcome {
    let minutes = whole_minutes(&ask.minutes)?;
    let row = admin
        .store
        .card_quote((admin.clock)(), &ask.project, minutes)
        .await?;
    Ok(Answer::ok(json!(row)))
}

async fn buy(
    State(admin): State<Arc<Admin>>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Buy>,
) -> Outcome {
    let new = NewCard {
        minutes: whole_minutes(&order.minutes)?,
        project: order.project,
        note: order.note,
        quote: order.quote,
    };
    let store = admin.store_for(dry);
    let row = store.card_buy(&admin.act(actor, key), &new).await?;
    Ok(Answer::created(dry.mark(with_handover(&admin, &row).await)))
}

async fn list(State(admin): State<Arc<Admin>>, Params(filter): Params<Filter>) -> Outcome {
    if !(0..=10_000).contains(&filter.limit) || filter.offset < 0 {
        return Err(Problem::new(
            Code::BadValue,
            "limit: 0 bis 10000 (0: so viele wie möglich); offset: 0 oder mehr.",
            "limit: 0 to 10000 (0: as many as possible); offset: 0 or more.",
        ));
    }
    if let Some(project) = &filter.project {
        // An unknown project is an error, not an empty list.
        admin.store.project_show(project).await?;
    }
    let rows = admin
        .store
        .card_list(
            (admin.clock)(),
            &CardFilter {
                project: filter.project,
                note: filter.note,
                line: filter.line,
                state: filter.state,
                limit: filter.limit,
                offset: filter.offset,
            },
        )
        .await?;
    Ok(Answer::ok(json!({ "cards": rows })))
}

async fn show(State(admin): State<Arc<Admin>>, Path(serial): Path<String>) -> Outcome {
    Ok(Answer::ok(json!(
        admin.store.card_show((admin.clock)(), &serial).await?
    )))
}

async fn entries(State(admin): State<Arc<Admin>>, Path(serial): Path<String>) -> Outcome {
    let rows = admin.store.card_entries(&serial).await?;
    Ok(Answer::ok(json!({ "serial": serial, "entries": rows })))
}

async fn note(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    dry: DryRun,
    Json(change): Json<Note>,
) -> Outcome {
    let row = admin
        .store_for(dry)
        .card_note(&admin.act(actor, None), &serial, &change.note)
        .await?;
    Ok(changed(&admin, &row, dry))
}

async fn topup(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Topup>,
) -> Outcome {
    let minutes = whole_minutes(&order.minutes)?;
    let store = admin.store_for(dry);
    let row = store
        .card_topup_quoted(&admin.act(actor, key), &serial, minutes, order.quote.as_deref())
        .await?;
    Ok(changed(&admin, &row, dry))
}

async fn correct(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    Json(order): Json<Correct>,
) -> Outcome {
    let store = admin.store_for(dry);
    let row = store
        .card_correct(&admin.act(actor, key), &serial, order.delta_ms, &order.reason)
        .await?;
    Ok(changed(&admin, &row, dry))
}

async fn block(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    dry: DryRun,
    _: Json<Nothing>,
) -> Outcome {
    let store = admin.store_for(dry);
    let row = store.card_block(&admin.act(actor, None), &serial).await?;
    Ok(changed(&admin, &row, dry))
}

async fn unblock(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    dry: DryRun,
    _: Json<Nothing>,
) -> Outcome {
    let store = admin.store_for(dry);
    let row = store.card_unblock(&admin.act(actor, None), &serial).await?;
    Ok(changed(&admin, &row, dry))
}

async fn cancel(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    OrderKey(key): OrderKey,
    dry: DryRun,
    _: Json<Nothing>,
) -> Outcome {
    let store = admin.store_for(dry);
    let row = store.card_cancel(&admin.act(actor, key), &serial).await?;
    Ok(changed(&admin, &row, dry))
}

async fn pin(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    _: Json<Nothing>,
) -> Outcome {
    let row = admin.store.card_pin(&admin.act(actor, None), &serial).await?;
    Ok(Answer::ok(with_handover(&admin, &row).await))
}

async fn bind(
    State(admin): State<Arc<Admin>>,
    Path(serial): Path<String>,
    actor: Actor,
    dry: DryRun,
    Json(order): Json<Bind>,
) -> Outcome {
    let line = number_input::typed(&order.number, "number")?;
    let row = admin
        .store_for(dry)
        .card_bind(&admin.act(actor, None), &serial, &line, order.take)
        .await?;
    Ok(changed(&admin, &row, dry))
}

async fn unbind(
    State(admin): State<Arc<Admin>>,
    Path((serial, number)): Path<(String, String)>,
    actor: Actor,
    dry: DryRun,
) -> Outcome {
    let line = number_input::typed(&number, "number")?;
    let row = admin
        .store_for(dry)
        .card_unbind(&admin.act(actor, None), &serial, &line)
        .await?;
    Ok(changed(&admin, &row, dry))
}

/// The card as it is now; live calls on it are told, unless nothing happened.
pub fn changed(admin: &Admin, row: &CardRow, dry: DryRun) -> Answer {
    if !dry.0 {
        admin.switch.card_changed(row.id);
    }
    Answer::ok(dry.mark(json!(row)))
}

/// Minutes as sold: a whole number from 1 to 9999 (S8).
pub fn whole_minutes(value: &Value) -> Result<i64, Problem> {
    value
        .as_i64()
        .filter(|minutes| (1..=9999).contains(minutes))
        .ok_or_else(|| {
            Problem::new(
                Code::InvalidMinutes,
                "Bitte geben Sie die Minuten als ganze Zahl von 1 bis 9999 an.",
                "Please give the minutes as a whole number from 1 to 9999.",
            )
            .field("minutes")
        })
}

/// The card with a text that the operator may pass on: PIN and both numbers (S12).
pub async fn with_handover(admin: &Admin, row: &CardRow) -> Value {
    let mut document = json!(row);
    let Some(pin) = &row.pin else {
        return document;
    };
    // The card is sold already: without its project's numbers the answer is still the answer.
    let numbers = admin
        .store
        .number_list(Some(&row.project))
        .await
        .unwrap_or_default();
    let (mut de, mut en) = (Vec::new(), Vec::new());
    for number in numbers {
        let forms = number_input::forms_of(&number.e164);
        let national = forms
            .national
            .clone()
            .unwrap_or_else(|| forms.international.clone());
        let (label_de, label_en) = match number.role.as_str() {
            "activation" => ("Zum Freischalten", "To activate"),
            "consultation" => ("Für die Beratung", "For consultation"),
            _ => ("Ihre Rufnummer", "Number to call"),
        };
        de.push(format!(
            "{label_de}: {national} (aus dem Ausland {})",
            forms.international_00
        ));
        en.push(format!(
            "{label_en}: {} (in Germany {national})",
            forms.international
        ));
    }
    let minutes = row.balance_ms / 60_000;
    document["handover"] = json!({
        "de": format!("Ihre Karte mit {minutes} Minuten. PIN: {pin}. {}", de.join("; ")),
        "en": format!("Your card with {minutes} minutes. PIN: {pin}. {}", en.join("; ")),
    });
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_whole_and_between_1_and_9999() {
        for (value, wanted) in [
            (json!(1), Some(1)),
            (json!(9999), Some(9999)),
            (json!(0), None),
            (json!(-1), None),
            (json!(1.5), None),
            (json!(10_000), None),
            (json!("20"), None),
            (json!("zwanzig"), None),
            (json!(null), None),
            (json!(1e300), None),
        ] {
            let got = whole_minutes(&value);
            assert_eq!(got.as_ref().ok().copied(), wanted, "{value}");
            if let Err(problem) = got {
                assert!(problem.detail.de.contains("ganze Zahl von 1 bis 9999"));
            }
        }
    }
}
