//! Tables for spreadsheets, out and in: UTF-8, semicolons, quotes doubled (RFC 4180 otherwise).
//!
//! A cell that a spreadsheet would take for a formula gets an apostrophe in front, which reading
//! takes off again. Pure functions over text.

/// What is wrong with a place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// From 1.
    pub line: usize,
    pub de: &'static str,
    pub en: &'static str,
}

/// A row of a file, with the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub line: usize,
    pub cells: Vec<String>,
}

/// One row of a table, with its line end.
pub fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells.into_iter().map(cell).collect();
    format!("{}\r\n", cells.join(";"))
}

fn cell(text: &str) -> String {
    let guarded = match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{text}"),
        Some(_) | None => text.to_owned(),
    };
    if guarded.contains([';', '"', '\n', '\r', ',']) || guarded != guarded.trim() {
        return format!("\"{}\"", guarded.replace('"', "\"\""));
    }
    guarded
}

/// Rows with at least one cell that is not empty.
///
/// # Errors
/// The first place that is no table.
pub fn read(text: &str) -> Result<Vec<Row>, Broken> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    let mut row = Row {
        line: 1,
        cells: Vec::new(),
    };
    let mut number = 1;
    let mut cell = String::new();
    let (mut quoted, mut was_quoted) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            ('"', true) => quoted = false,
            ('"', false) if cell.trim().is_empty() && !was_quoted => {
                cell.clear();
                (quoted, was_quoted) = (true, true);
            }
            ('\n', true) => {
                number += 1;
                cell.push(c);
            }
            (_, true) => cell.push(c),
            (';', false) => {
                row.cells.push(plain(&cell));
                cell.clear();
                was_quoted = false;
            }
            ('\n', false) => {
                number += 1;
                row.cells.push(plain(&cell));
                cell.clear();
                was_quoted = false;
                let next = Row {
                    line: number,
                    cells: Vec::new(),
                };
                rows.push(std::mem::replace(&mut row, next));
            }
            ('\r', false) => {}
            (c, false) if was_quoted && !c.is_whitespace() => {
                return Err(Broken {
                    line: number,
                    de: "Nach dem schließenden Anführungszeichen steht noch Text.",
                    en: "There is text after the closing quote.",
                });
            }
            (_, false) if was_quoted => {}
            (_, false) => cell.push(c),
        }
    }
    if quoted {
        return Err(Broken {
            line: row.line,
            de: "Ein Anführungszeichen wird nicht geschlossen.",
            en: "A quote is not closed.",
        });
    }
    row.cells.push(plain(&cell));
    rows.push(row);
    rows.retain(|row| row.cells.iter().any(|cell| !cell.is_empty()));
    Ok(rows)
}

/// A cell as it was before a spreadsheet had to be kept from calculating it.
fn plain(cell: &str) -> String {
    let cell = cell.trim();
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@', '\t', '\r']) => rest.to_owned(),
        Some(_) | None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(text: &str) -> Vec<(usize, Vec<String>)> {
        let rows = read(text).unwrap();
        rows.into_iter().map(|row| (row.line, row.cells)).collect()
    }

    #[test]
    fn tables_are_read_with_their_line_numbers() {
        let row = |line, cells: &[&str]| (line, cells.iter().map(|c| (*c).to_owned()).collect());
        for (what, text, want) in [
            (
                "plain",
                "a;b\nc;d\n",
                vec![row(1, &["a", "b"]), row(2, &["c", "d"])],
            ),
            ("no line end", "a;b", vec![row(1, &["a", "b"])]),
            ("a mark in front", "\u{feff}a;b\r\n", vec![row(1, &["a", "b"])]),
            ("empty lines", "\n;\na\n\n", vec![row(3, &["a"])]),
            ("quotes", "\"a;\"\"b\"\"\";c", vec![row(1, &["a;\"b\"", "c"])]),
            (
                "a cell of two lines",
                "\"a\nb\";c\nd",
                vec![row(1, &["a\nb", "c"]), row(3, &["d"])],
            ),
            ("blanks", " a ; \"b\" \n", vec![row(1, &["a", "b"])]),
            ("an empty last cell", "a;", vec![row(1, &["a", ""])]),
            ("a defused formula", "'=1+1;'x", vec![row(1, &["=1+1", "'x"])]),
        ] {
            assert_eq!(cells(text), want, "{what}");
        }
        for (text, line) in [("a\n\"b", 2), ("a\n\"b\"c", 2)] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn a_note_is_no_formula() {
        for (note, want) in [
            (
                "=HYPERLINK(\"http://x\")",
                "\"'=HYPERLINK(\"\"http://x\"\")\"\r\n",
            ),
            ("+49 30", "'+49 30\r\n"),
            ("-1", "'-1\r\n"),
            ("@SUM(A1)", "'@SUM(A1)\r\n"),
            ("Frau Müller", "Frau Müller\r\n"),
            ("a;b", "\"a;b\"\r\n"),
        ] {
            assert_eq!(line([note]), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(notes in proptest::collection::vec("[ -~äöü=+@'\";]{0,12}", 1..5)) {
            let notes: Vec<String> = notes.iter().map(|note| note.trim().to_owned()).collect();
            prop_assume!(notes.iter().any(|note| !note.is_empty()));
            // An apostrophe of the note's own before a formula cannot be told from ours.
            prop_assume!(!notes.iter().any(|note| note.starts_with('\'')));
            let text = line(notes.iter().map(String::as_str));
            prop_assert_eq!(&read(&text).unwrap()[0].cells, &notes);
        }
    }
}
