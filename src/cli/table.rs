//! Aligned plain tables.

use std::fmt;

/// A table with a header. Columns are as wide as their widest cell and two spaces apart; numbers are at the
/// right, where `-` stands for one that is not known.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    header_style: Option<&'static str>,
}

impl Table {
    /// A table without rows. Its width is that of the header; an empty header line is not shown.
    pub fn new(header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Self { header, rows: Vec::new(), header_style: None }
    }

    /// Shows the header in this terminal style.
    #[must_use]
    pub fn with_header_style(mut self, style: Option<&'static str>) -> Self {
        self.header_style = style;
        self
    }

    /// Appends a row. Cells beyond the header are dropped, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Width of a column, and whether all its cells are numbers.
    fn columns(&self) -> Vec<(usize, bool)> {
        let column = |index: usize| {
            let cells = self.rows.iter().map(|row| row[index].as_str());
            let width = cells.clone().chain([self.header[index].as_str()]).map(width).max().unwrap_or(0);
            let is_right =
                cells.clone().any(is_number) && cells.clone().all(|cell| cell == "-" || is_number(cell));
            (width, is_right)
        };
        (0..self.header.len()).map(column).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        if self.header.iter().any(|cell| !cell.is_empty()) {
            let line = line(&columns, &self.header);
            match self.header_style {
                Some(style) => writeln!(f, "\x1b[{style}m{line}\x1b[0m")?,
                None => writeln!(f, "{line}")?,
            }
        }
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", line(&columns, row)))
    }
}

fn line(columns: &[(usize, bool)], cells: &[String]) -> String {
    let mut line = String::new();
    for ((wide, is_number), cell) in columns.iter().zip(cells) {
        let padding = " ".repeat(wide - width(cell));
        if *is_number {
            line.push_str(&padding);
            line.push_str(cell);
        } else {
            line.push_str(cell);
            line.push_str(&padding);
        }
        line.push_str("  ");
    }
    line.truncate(line.trim_end().len());
    line
}

/// A number, perhaps with a unit behind a space, or a part as in 1/2.
fn is_number(cell: &str) -> bool {
    let number = cell.split(' ').next().unwrap_or_default();
    let number = number.strip_prefix('-').unwrap_or(number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'/')
}

/// Characters, which is the width on a terminal for all but some scripts.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_at_the_right() {
        let mut table = Table::new(["NAME", "KEYS", "MODE"]);
        table.row(["default", "12", "eventual"]);
        table.row(["grün", "3456789"]);
        assert_eq!(
            table.to_string(),
            "NAME        KEYS  MODE\ndefault       12  eventual\ngrün     3456789\n"
        );
    }

    #[test]
    fn header_alone_is_shown_and_an_empty_one_is_not() {
        assert_eq!(Table::new(["A", "B"]).to_string(), "A  B\n");
        let mut table = Table::new(["", ""]);
        table.row(["field", "value"]);
        assert_eq!(table.to_string(), "field  value\n");
        assert!(Table::new(["A"]).with_header_style(Some("1")).to_string().starts_with("\x1b[1mA\x1b[0m"));
    }
}
