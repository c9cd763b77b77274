//! The operator's own data: `operator show|edit`.

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::projects::{invalid, ranged, valid_name};
use super::sale::open_cents;
use super::{Act, AdminError, OperatorEdit, OperatorRow, Refusal, Store, StoreFault};

#[derive(Clone, Debug, sqlx::FromRow)]
struct OperatorSql {
    name: String,
    address: String,
    vat_id: String,
    time_zone: String,
    credit_limit_cents: Option<i64>,
    state: String,
}

impl Store {
    /// # Errors
    /// The database's.
    pub async fn operator_show(&self) -> Result<OperatorRow, AdminError> {
        let mut conn = self.pool().acquire().await?;
        Ok(row(&mut conn).await?)
    }

    /// Changes what `edit` names. Another time zone holds for what is bought and counted from now on.
    ///
    /// # Errors
    /// `operator_exists` for a name that is taken, `invalid_…`.
    pub async fn operator_edit(&self, act: &Act, edit: &OperatorEdit) -> Result<OperatorRow, AdminError> {
        let mut db = self.begin().await?;
        sqlx::query_scalar::<_, i64>(self.locking("SELECT id FROM operator WHERE id = $1"))
            .bind(OPERATOR)
            .fetch_one(db.conn())
            .await?;
        let before = operator(db.conn()).await?;
        let mut after = before.clone();
        apply(edit, &mut after)?;
        name_is_free(db.conn(), &after.name).await?;
        sqlx::query(
            "UPDATE operator SET name = $1, address = $2, vat_id = $3, time_zone = $4, credit_limit_cents = $5
             WHERE id = $6",
        )
        .bind(&after.name)
        .bind(&after.address)
        .bind(&after.vat_id)
        .bind(&after.time_zone)
        .bind(after.credit_limit_cents)
        .bind(OPERATOR)
        .execute(db.conn())
        .await?;
        let new = NewAudit {
            at: act.now,
            actor: &act.actor,
            action: "operator.edit",
            subject: &before.name,
            before: Some(format!("{before:?}")),
            after: serde_json::to_string(edit).ok(),
            op_key: None,
        };
        self.audit(db.conn(), new).await?;
        let row = row(db.conn()).await?;
        db.commit().await?;
        Ok(row)
    }
}

async fn operator(conn: &mut AnyConnection) -> Result<OperatorSql, StoreFault> {
    let operator = sqlx::query_as(
        "SELECT name, address, vat_id, time_zone, credit_limit_cents, state FROM operator WHERE id = $1",
    )
    .bind(OPERATOR)
    .fetch_one(conn)
    .await?;
    Ok(operator)
}

async fn row(conn: &mut AnyConnection) -> Result<OperatorRow, StoreFault> {
    let operator = operator(conn).await?;
    Ok(OperatorRow {
        name: operator.name,
        address: operator.address,
        vat_id: operator.vat_id,
        time_zone: operator.time_zone,
        credit_limit_cents: operator.credit_limit_cents,
        open_cents: open_cents(conn).await?,
        state: operator.state,
    })
}

async fn name_is_free(conn: &mut AnyConnection, name: &str) -> Result<(), AdminError> {
    let taken: Option<i64> = sqlx::query_scalar("SELECT id FROM operator WHERE name = $1 AND id <> $2")
        .bind(name)
        .bind(OPERATOR)
        .fetch_optional(conn)
        .await?;
    match taken {
        Some(_) => Err(Refusal::Exists {
            kind: "operator",
            name: name.to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

fn apply(edit: &OperatorEdit, to: &mut OperatorSql) -> Result<(), Refusal> {
    if let Some(name) = &edit.name {
        to.name = valid_name(name)?;
    }
    for (field, wish, place) in [
        ("address", &edit.address, &mut to.address),
        ("vat_id", &edit.vat_id, &mut to.vat_id),
    ] {
        if let Some(wish) = wish {
            if wish.chars().count() > 500 || wish.chars().any(|c| c.is_control() && c != '\n') {
                return Err(invalid(
                    field,
                    wish,
                    "at most 500 characters and no control characters",
                    "Höchstens 500 Zeichen, keine Steuerzeichen.",
                ));
            }
            wish.trim().clone_into(place);
        }
    }
    if let Some(zone) = &edit.time_zone {
        if jiff::tz::TimeZone::get(zone).is_err() {
            return Err(invalid(
                "time_zone",
                zone,
                "not a zone of this machine's database, such as Europe/Berlin",
                "Keine bekannte Zeitzone, wie zum Beispiel Europe/Berlin.",
            ));
        }
        to.time_zone.clone_from(zone);
    }
    if let Some(limit) = edit.credit_limit_cents {
        to.credit_limit_cents = match limit {
            Some(cents) => Some(ranged("credit_limit_cents", cents, 0, MOST_CENTS)?),
            None => None,
        };
    }
    Ok(())
}

/// A thousand million euros.
const MOST_CENTS: i64 = 100_000_000_000;
