//! How text output stands: tables without lines, names and values in columns.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::args::Lang;
use super::words::word;

pub fn rows<'a>(document: &'a Value, key: &str) -> &'a [Value] {
    document
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub fn table(lang: Lang, head: &[&'static str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head.iter().map(|name| word(lang, name)).collect::<Vec<_>>());
    table
}

pub fn lines(table: &Table) -> String {
    let mut text: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// Names and values, the values in one column.
pub fn facts(lang: Lang, pairs: &[(&'static str, String)]) -> String {
    let pairs: Vec<(&str, &String)> = pairs
        .iter()
        .map(|(name, value)| (word(lang, name), value))
        .collect();
    let width = pairs
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| {
            let pad = " ".repeat(width - name.chars().count());
            format!("{name}{pad}  {value}\n")
        })
        .collect()
}
