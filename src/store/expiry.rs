//! When a card ends: with a local day of the operator (I14), whatever its clocks do that night.

use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::{Date, date};
use jiff::tz::{Offset, TimeZone};
use sqlx::AnyConnection;

use super::audit::OPERATOR;
use super::terms::Expiry;
use super::{Store, StoreFault};
use crate::now::UnixTime;

/// The zone in which the operator's days end.
pub(super) async fn operator_zone(conn: &mut AnyConnection) -> Result<TimeZone, StoreFault> {
    let name: String = sqlx::query_scalar("SELECT time_zone FROM operator WHERE id = $1")
        .bind(OPERATOR)
        .fetch_one(conn)
        .await?;
    Ok(zone_named(&name))
}

/// A machine without the zone database gets central European winter time, which is right on 31 December.
fn zone_named(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|_| TimeZone::fixed(Offset::constant(1)))
}

/// The operator's date of a moment.
pub(super) fn local_date(at: UnixTime, zone: &TimeZone) -> Date {
    let stamp = Timestamp::from_millisecond(at.as_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    zone.to_datetime(stamp).date()
}

impl Store {
    /// Minutes since midnight, in the operator's time zone.
    ///
    /// # Errors
    /// The database's.
    pub async fn local_minute(&self, now: UnixTime) -> Result<i64, StoreFault> {
        let mut conn = self.pool().acquire().await?;
        let zone = operator_zone(&mut conn).await?;
        let stamp = Timestamp::from_millisecond(now.as_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = zone.to_datetime(stamp).time();
        Ok(i64::from(time.hour()) * 60 + i64::from(time.minute()))
    }
}

/// The first moment of a local day. Where the clocks skip midnight that is the moment after the
/// gap; where midnight comes twice, the first one.
pub(super) fn begin_of(day: Date, zone: &TimeZone) -> Option<UnixTime> {
    let first = zone.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
    Some(UnixTime::from_ms(first.as_millisecond()))
}

/// The first moment at which a card bought or recharged at `now` is expired; `None` is never.
pub(super) fn expires_at(now: UnixTime, expiry: Expiry, zone: &TimeZone) -> Option<i64> {
    let today = local_date(now, zone);
    let first_day_after = match expiry {
        Expiry::Never => return None,
        Expiry::Years(years) => {
            let year = i16::try_from(i64::from(today.year()) + years + 1).ok()?;
            if year > 9999 {
                return None;
            }
            date(year, 1, 1)
        }
        Expiry::Days(days) => today.checked_add((days + 1).days()).ok()?,
    };
    begin_of(first_day_after, zone).map(UnixTime::as_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, Expiry, &str, Option<&str>)]) {
        for (bought, expiry, zone, want) in cases {
            let now = UnixTime::from_ms(bought.parse::<Timestamp>().unwrap().as_millisecond());
            let zone = TimeZone::get(zone).unwrap();
            let got = expires_at(now, *expiry, &zone)
                .map(|ms| Timestamp::from_millisecond(ms).unwrap().to_string());
            assert_eq!(got.as_deref(), *want, "{bought} + {expiry:?} in {zone:?}");
        }
    }

    #[test]
    fn cards_expire_with_the_third_year_after_purchase_in_local_time() {
        let berlin = "Europe/Berlin";
        check(&[
            (
                "2025-11-25T08:15:00Z",
                Expiry::DEFAULT,
                berlin,
                Some("2028-12-31T23:00:00Z"),
            ),
            (
                "2025-12-31T22:59:59Z",
                Expiry::DEFAULT,
                berlin,
                Some("2028-12-31T23:00:00Z"),
            ),
            (
                "2025-12-31T23:00:00Z",
                Expiry::DEFAULT,
                berlin,
                Some("2029-12-31T23:00:00Z"),
            ),
            (
                "2025-07-01T00:00:00Z",
                Expiry::Years(1),
                berlin,
                Some("2026-12-31T23:00:00Z"),
            ),
            ("2025-07-01T00:00:00Z", Expiry::Never, berlin, None),
        ]);
    }

    #[test]
    fn a_day_ends_at_local_midnight_on_both_nights_of_the_clock_change() {
        let berlin = "Europe/Berlin";
        check(&[
            // 29 March 2026 has 23 hours, 25 October 2026 has 25.
            (
                "2026-03-27T10:00:00Z",
                Expiry::Days(1),
                berlin,
                Some("2026-03-28T23:00:00Z"),
            ),
            (
                "2026-03-28T10:00:00Z",
                Expiry::Days(1),
                berlin,
                Some("2026-03-29T22:00:00Z"),
            ),
            (
                "2026-03-28T22:59:59Z",
                Expiry::Days(1),
                berlin,
                Some("2026-03-29T22:00:00Z"),
            ),
            (
                "2026-03-29T00:59:59Z",
                Expiry::Days(1),
                berlin,
                Some("2026-03-30T22:00:00Z"),
            ),
            (
                "2026-10-23T10:00:00Z",
                Expiry::Days(1),
                berlin,
                Some("2026-10-24T22:00:00Z"),
            ),
            (
                "2026-10-24T10:00:00Z",
                Expiry::Days(1),
                berlin,
                Some("2026-10-25T23:00:00Z"),
            ),
            // Both times it is half past two, it is the same day.
            (
                "2026-10-25T00:30:00Z",
                Expiry::Days(1),
                berlin,
                Some("2026-10-26T23:00:00Z"),
            ),
            (
                "2026-10-25T01:30:00Z",
                Expiry::Days(1),
                berlin,
                Some("2026-10-26T23:00:00Z"),
            ),
        ]);
    }

    #[test]
    fn a_day_ends_once_where_the_clocks_change_at_midnight() {
        check(&[
            // Beirut: 00:00 of 29 March 2026 does not exist, the day begins at 01:00.
            (
                "2026-03-27T10:00:00Z",
                Expiry::Days(1),
                "Asia/Beirut",
                Some("2026-03-28T22:00:00Z"),
            ),
            // Beirut: at 00:00 of 25 October 2026 it is 23:00 again, so the 24th has 25 hours.
            (
                "2026-10-23T10:00:00Z",
                Expiry::Days(1),
                "Asia/Beirut",
                Some("2026-10-24T22:00:00Z"),
            ),
            // Havana: at 01:00 of 1 November 2026 it is 00:00 again; the first midnight counts.
            (
                "2026-10-30T16:00:00Z",
                Expiry::Days(1),
                "America/Havana",
                Some("2026-11-01T04:00:00Z"),
            ),
            // Sao Paulo, 2018: no midnight on 4 November.
            (
                "2018-11-02T12:00:00Z",
                Expiry::Days(1),
                "America/Sao_Paulo",
                Some("2018-11-04T03:00:00Z"),
            ),
            // Kiritimati is 14 hours ahead.
            (
                "2026-05-01T09:59:59Z",
                Expiry::Days(1),
                "Pacific/Kiritimati",
                Some("2026-05-02T10:00:00Z"),
            ),
            (
                "2026-05-01T10:00:00Z",
                Expiry::Days(1),
                "Pacific/Kiritimati",
                Some("2026-05-03T10:00:00Z"),
            ),
        ]);
    }
}
