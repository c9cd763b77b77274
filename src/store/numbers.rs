//! Numbers of ours (DIDs) and dialable addresses of advisors.

use std::net::{IpAddr, SocketAddr};

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::projects::{invalid, project};
use super::{
    Act, AdminError, NewNumber, NewTarget, NumberRow, Refusal, Store, StoreFault, TargetRow, rfc3339,
};
use crate::call::directory::Role;
use crate::card::binding::{self, Unbindable};
use crate::now::UnixTime;
use crate::units::E164;

/// Ring time of a target by default, in seconds.
const RING_S: i64 = 25;

impl Store {
    /// # Errors
    /// `number_exists` (here or in another project), `project_not_found`, `invalid_number`.
    pub async fn number_add(&self, act: &Act, new: &NewNumber) -> Result<NumberRow, AdminError> {
        refuse_service(&new.e164)?;
        let mut db = self.begin().await?;
        let project = project(db.conn(), &new.project).await?;
        let taken: Option<i64> =
            sqlx::query_scalar("SELECT id FROM number WHERE e164 = $1 AND removed_at IS NULL")
                .bind(new.e164.as_str())
                .fetch_optional(db.conn())
                .await?;
        if taken.is_some() {
            return Err(Refusal::Exists {
                kind: "number",
                name: new.e164.as_str().to_owned(),
            }
            .into());
        }
        sqlx::query("INSERT INTO number (project_id, e164, role, added_at) VALUES ($1, $2, $3, $4)")
            .bind(project.id)
            .bind(new.e164.as_str())
            .bind(role_word(new.role))
            .bind(act.now.as_ms())
            .execute(db.conn())
            .await?;
        let after = serde_json::json!({ "project": project.name, "role": role_word(new.role) });
        self.audit(
            db.conn(),
            note(act, "number.add", new.e164.as_str(), None, Some(after)),
        )
        .await?;
        db.commit().await?;
        Ok(number_row(&new.e164, &project.name, role_word(new.role), act.now))
    }

    /// All, or one project's.
    ///
    /// # Errors
    /// The database's.
    pub async fn number_list(&self, project: Option<&str>) -> Result<Vec<NumberRow>, AdminError> {
        let mut conn = self.pool().acquire().await?;
        if let Some(name) = project {
            self::project(&mut conn, name).await?;
        }
        Ok(numbers_of(&mut conn, project).await?)
    }

    /// # Errors
    /// `number_not_found`.
    pub async fn number_remove(&self, act: &Act, number: &E164) -> Result<(), AdminError> {
        let mut db = self.begin().await?;
        let gone = sqlx::query("UPDATE number SET removed_at = $1 WHERE e164 = $2 AND removed_at IS NULL")
            .bind(act.now.as_ms())
            .bind(number.as_str())
            .execute(db.conn())
            .await?;
        if gone.rows_affected() == 0 {
            return Err(Refusal::not_found("number", number.as_str()).into());
        }
        self.audit(db.conn(), note(act, "number.remove", number.as_str(), None, None))
            .await?;
        db.commit().await?;
        Ok(())
    }

    /// Keeps the address as typed: a SIP URI whose host is an IP address, or an E.164 number.
    ///
    /// # Errors
    /// `invalid_target`, `invalid_ring_s`, `invalid_order`, `project_not_found`.
    pub async fn target_add(&self, act: &Act, new: &NewTarget) -> Result<TargetRow, AdminError> {
        let address = new.address.trim();
        valid_address(address)?;
        let ring_s = new.ring_s.unwrap_or(RING_S);
        if !(5..=180).contains(&ring_s) {
            return Err(invalid(
                "ring_s",
                &ring_s.to_string(),
                "5 to 180 seconds",
                "Rufdauer: 5 bis 180 Sekunden.",
            )
            .into());
        }
        let mut db = self.begin().await?;
        let project = project(db.conn(), &new.project).await?;
        let last: i64 = sqlx::query_scalar(
            "SELECT COALESCE(MAX(position), 0) FROM target WHERE project_id = $1 AND removed_at IS NULL",
        )
        .bind(project.id)
        .fetch_one(db.conn())
        .await?;
        let order = new.order.unwrap_or(last + 1);
        if !(1..=1000).contains(&order) {
            return Err(invalid(
                "order",
                &order.to_string(),
                "1 to 1000",
                "Reihenfolge: 1 bis 1000.",
            )
            .into());
        }
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO target (project_id, address, position, ring_ms, added_at)
             VALUES ($1, $2, $3, $4, $5) RETURNING id",
        )
        .bind(project.id)
        .bind(address)
        .bind(order)
        .bind(ring_s * 1000)
        .bind(act.now.as_ms())
        .fetch_one(db.conn())
        .await?;
        let after = serde_json::json!({ "id": id, "address": address, "order": order, "ring_s": ring_s });
        self.audit(
            db.conn(),
            note(act, "target.add", &project.name, None, Some(after)),
        )
        .await?;
        db.commit().await?;
        Ok(TargetRow {
            id,
            project: project.name,
            address: address.to_owned(),
            order,
            ring_s,
            added_at: rfc3339(act.now),
        })
    }

    /// In hunting order; all, or one project's.
    ///
    /// # Errors
    /// `project_not_found`.
    pub async fn target_list(&self, project: Option<&str>) -> Result<Vec<TargetRow>, AdminError> {
        let mut conn = self.pool().acquire().await?;
        if let Some(name) = project {
            self::project(&mut conn, name).await?;
        }
        type Row = (i64, String, String, i64, i64, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT t.id, p.name, t.address, t.position, t.ring_ms, t.added_at
             FROM target t JOIN project p ON p.id = t.project_id
             WHERE p.operator_id = $1 AND t.removed_at IS NULL AND ($2 IS NULL OR p.name = $2)
             ORDER BY p.name, t.position, t.id",
        )
        .bind(OPERATOR)
        .bind(project)
        .fetch_all(&mut *conn)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, project, address, order, ring_ms, added_at)| TargetRow {
                id,
                project,
                address,
                order,
                ring_s: ring_ms / 1000,
                added_at: rfc3339(UnixTime::from_ms(added_at)),
            })
            .collect())
    }

    /// # Errors
    /// `target_not_found`.
    pub async fn target_remove(&self, act: &Act, id: i64) -> Result<(), AdminError> {
        let mut db = self.begin().await?;
        let gone: Option<String> = sqlx::query_scalar(
            "UPDATE target SET removed_at = $1 WHERE id = $2 AND removed_at IS NULL RETURNING address",
        )
        .bind(act.now.as_ms())
        .bind(id)
        .fetch_optional(db.conn())
        .await?;
        let Some(address) = gone else {
            return Err(Refusal::not_found("target", &id.to_string()).into());
        };
        self.audit(db.conn(), note(act, "target.remove", &address, None, None))
            .await?;
        db.commit().await?;
        Ok(())
    }
}

fn note<'a>(
    act: &'a Act,
    action: &'static str,
    subject: &'a str,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> NewAudit<'a> {
    NewAudit {
        at: act.now,
        actor: &act.actor,
        action,
        subject,
        before: before.map(|json| json.to_string()),
        after: after.map(|json| json.to_string()),
        op_key: None,
    }
}

pub(super) const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Activation => "activation",
        Role::Consultation => "consultation",
        Role::Both => "both",
    }
}

pub(super) async fn numbers_of(
    conn: &mut AnyConnection,
    project: Option<&str>,
) -> Result<Vec<NumberRow>, StoreFault> {
    type Row = (String, String, String, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT n.e164, p.name, n.role, n.added_at FROM number n JOIN project p ON p.id = n.project_id
         WHERE p.operator_id = $1 AND n.removed_at IS NULL AND ($2 IS NULL OR p.name = $2)
         ORDER BY p.name, n.id",
    )
    .bind(OPERATOR)
    .bind(project)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(e164, project, role, added_at)| {
            let number = E164::parse(&e164).map_err(|_| StoreFault::damaged(format!("number {e164:?}")))?;
            Ok(number_row(&number, &project, &role, UnixTime::from_ms(added_at)))
        })
        .collect()
}

fn number_row(number: &E164, project: &str, role: &str, added_at: UnixTime) -> NumberRow {
    let (country, rest) = split_country(number.digits());
    let grouped = match country {
        "49" => split_area(rest),
        _ => rest.to_owned(),
    };
    NumberRow {
        e164: number.as_str().to_owned(),
        international: format!("+{country} {grouped}").trim_end().to_owned(),
        international_00: format!("00{country} {grouped}").trim_end().to_owned(),
        national: (country == "49").then(|| format!("0{grouped}")),
        project: project.to_owned(),
        role: role.to_owned(),
        added_at: rfc3339(added_at),
    }
}

/// The neighbours' country codes; others stay in one piece.
fn split_country(digits: &str) -> (&str, &str) {
    let known = [
        "49", "43", "41", "31", "32", "33", "44", "45", "48", "420", "352", "1",
    ];
    let length = known
        .iter()
        .find(|code| digits.starts_with(**code))
        .map_or(0, |code| code.len());
    match length {
        0 => (digits, ""),
        length => digits.split_at(length),
    }
}

/// `30 23125101`: the area or mobile code apart. Two digits in the four biggest cities, three in the
/// other big ones and in mobile nets, five in the east's countryside, else four.
fn split_area(national: &str) -> String {
    let two = ["30", "40", "69", "89"];
    let three = [
        "201", "202", "203", "208", "209", "211", "212", "214", "221", "228", "231", "234", "241", "251",
        "261", "271", "281", "291", "335", "340", "341", "345", "351", "355", "361", "365", "371", "375",
        "381", "385", "391", "395", "421", "431", "441", "451", "461", "471", "481", "491", "511", "521",
        "531", "541", "551", "561", "571", "581", "591", "611", "621", "631", "641", "651", "661", "671",
        "681", "711", "721", "731", "741", "751", "761", "771", "781", "791", "811", "821", "831", "841",
        "851", "861", "871", "881", "906", "911", "921", "931", "941", "951", "961", "971", "981", "991",
    ];
    let starts = |codes: &[&str]| codes.iter().any(|code| national.starts_with(code));
    let length = if starts(&two) {
        2
    } else if starts(&three) || starts(&["15", "16", "17", "32", "800", "700"]) {
        3
    } else if national.starts_with("33") && national.as_bytes().get(2).is_some_and(|d| b"0123467".contains(d))
    {
        5
    } else {
        4
    };
    match national.split_at_checked(length) {
        Some((area, rest)) if !rest.is_empty() => format!("{area} {rest}"),
        _ => national.to_owned(),
    }
}

/// A number that is nobody's: emergency, premium, directory.
fn refuse_service(number: &E164) -> Result<(), Refusal> {
    match binding::may_bind(Some(number), None) {
        Err(Unbindable::Premium | Unbindable::Service) => Err(invalid(
            "number",
            number.as_str(),
            "emergency, premium and directory numbers are not dialled and not ours",
            "Notruf-, Premium- und Auskunftsnummern sind nicht möglich.",
        )),
        Ok(_) | Err(Unbindable::Withheld | Unbindable::Short | Unbindable::Own) => Ok(()),
    }
}

/// Where a SIP URI of a target leads; `None` if it is none that we can dial.
pub(super) fn sip_destination(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("sip:")?;
    if uri
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "<>\"".contains(c))
    {
        return None;
    }
    let (rest, params) = rest.split_once(';').unwrap_or((rest, ""));
    let transport = params.split(';').find_map(|p| p.strip_prefix("transport="));
    if transport.is_some_and(|t| !t.eq_ignore_ascii_case("udp")) || rest.contains('?') {
        return None;
    }
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = host
        .parse::<SocketAddr>()
        .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 5060)))
        .ok()?;
    (address.port() != 0 && !address.ip().is_unspecified()).then_some(address)
}

fn valid_address(address: &str) -> Result<(), Refusal> {
    let refused = |problem, german| Err(invalid("target", address, problem, german));
    if let Ok(number) = E164::parse(address) {
        return refuse_service(&number);
    }
    if address.len() > 255 {
        return refused("at most 255 characters", "Höchstens 255 Zeichen.");
    }
    match sip_destination(address) {
        Some(_) => Ok(()),
        None => refused(
            "want sip:user@ADDRESS[:PORT] with an IP address over UDP, or an E.164 number such as +493012345",
            "Erwartet wird sip:name@IP-Adresse[:Port] (UDP) oder eine Nummer wie +493012345.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_three_forms() {
        for (e164, international, double_zero, national) in [
            (
                "+493023125101",
                "+49 30 23125101",
                "0049 30 23125101",
                Some("030 23125101"),
            ),
            (
                "+4922112345",
                "+49 221 12345",
                "0049 221 12345",
                Some("0221 12345"),
            ),
            (
                "+491701234567",
                "+49 170 1234567",
                "0049 170 1234567",
                Some("0170 1234567"),
            ),
            ("+4363123456", "+43 63123456", "0043 63123456", None),
            ("+79991234567", "+79991234567", "0079991234567", None),
        ] {
            let row = number_row(&E164::parse(e164).unwrap(), "p", "both", UnixTime::from_ms(0));
            assert_eq!(
                (
                    row.international.as_str(),
                    row.international_00.as_str(),
                    row.national.as_deref()
                ),
                (international, double_zero, national)
            );
        }
    }

    #[test]
    fn targets_are_addresses_or_numbers() {
        for (address, fine) in [
            ("sip:berater@192.0.2.7", true),
            ("sip:berater@192.0.2.7:5080;transport=udp", true),
            ("sip:127.0.0.1:5070", true),
            ("sip:a@[2001:db8::1]:5060", true),
            ("+493012345", true),
            ("sip:a@example.com", false),
            ("sip:a@192.0.2.7;transport=tcp", false),
            ("sip:a@192.0.2.7:0", false),
            ("sips:a@192.0.2.7", false),
            ("sip:a b@192.0.2.7", false),
            ("sip:a@192.0.2.7\r\nVia: x", false),
            ("+499001234567", false),
            ("03012345", false),
            ("", false),
        ] {
            assert_eq!(valid_address(address).is_ok(), fine, "{address:?}");
        }
    }
}
