//! Values as people read them: neutralised text, local times, mm:ss, euros.

use serde_json::Value;

use super::args::Lang;
use super::words::word;

/// Makes control characters and direction overrides visible, so that a note cannot steer the
/// terminal.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            let steers = c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if steers { '\u{fffd}' } else { c }
        })
        .collect()
}

/// `mm:ss`, rounded down.
pub fn rest(ms: Option<i64>) -> String {
    ms.map_or_else(
        || "–".to_owned(),
        |ms| {
            let sign = if ms < 0 { "-" } else { "" };
            let secs = ms.abs() / 1000;
            format!("{sign}{}:{:02}", secs / 60, secs % 60)
        },
    )
}

/// An RFC 3339 time in the zone of this machine.
pub fn local(time: Option<&str>) -> String {
    let Some(time) = time else {
        return "–".to_owned();
    };
    time.parse::<jiff::Timestamp>().map_or_else(
        |_| clean(time),
        |stamp| {
            stamp
                .to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// The last local day before an exclusive end.
pub fn last_day(end: Option<&str>) -> String {
    let end = end.and_then(|end| end.parse::<jiff::Timestamp>().ok());
    let last = end.and_then(|end| jiff::Timestamp::from_millisecond(end.as_millisecond() - 1).ok());
    last.map_or_else(
        || "–".to_owned(),
        |last| {
            let zoned = last.to_zoned_datetime(jiff::tz::TimeZone::system());
            zoned.strftime("%Y-%m-%d").to_string()
        },
    )
}

/// `12,34 €`, or „kostenfrei" (S9).
pub fn euros(cents: Option<i64>, lang: Lang) -> String {
    match cents {
        None => "–".to_owned(),
        Some(0) => format!("{} (0,00 €)", word(lang, "kostenfrei")),
        Some(cents) => {
            let sign = if cents < 0 { "-" } else { "" };
            format!("{sign}{},{:02} €", cents.abs() / 100, cents.abs() % 100)
        }
    }
}

/// A field as a cell: text cleaned, `null` and absence as a dash.
pub fn cell(row: &Value, key: &str) -> String {
    match row.get(key) {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "–".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Bool(yes)) => if *yes { "✓" } else { "✗" }.to_owned(),
        Some(other @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => other.to_string(),
    }
}

pub fn cell_rest(row: &Value, key: &str) -> String {
    rest(row.get(key).and_then(Value::as_i64))
}

pub fn cell_time(row: &Value, key: &str) -> String {
    local(row.get(key).and_then(Value::as_str))
}

/// One path segment or query value (RFC 3986 §2.1).
pub fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_cannot_steer_the_terminal() {
        assert_eq!(
            clean("a\u{1b}[31mb\u{202e}c\nd"),
            "a\u{fffd}[31mb\u{fffd}c\u{fffd}d"
        );
        assert_eq!(clean("Grüße 😀"), "Grüße 😀");
    }

    #[test]
    fn values_are_shown_as_people_read_them() {
        for (ms, shown) in [
            (None, "–"),
            (Some(0), "0:00"),
            (Some(1_199_999), "19:59"),
            (Some(-61_000), "-1:01"),
        ] {
            assert_eq!(rest(ms), shown);
        }
        assert_eq!(euros(Some(2380), Lang::De), "23,80 €");
        assert!(euros(Some(0), Lang::De).contains("kostenfrei"));
        assert!(euros(Some(0), Lang::En).contains("free of charge"));
        assert_eq!(percent("a b/ü"), "a%20b%2F%C3%BC");
    }
}
