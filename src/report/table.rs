//! Tables, built once and shown twice: as aligned text in a terminal ([`Table::to_text`]) and as HTML
//! ([`html::Document::table`](super::html::Document::table)).

use super::escape;

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Names and texts; may be shortened where room is short.
    Left,
    /// Figures; never shortened.
    Right,
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// One text for each column; missing ones are empty.
    Cells(Vec<String>),
    /// A heading over the rows that follow.
    Heading(String),
}

/// A table: titled columns and rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Title and alignment of each column.
    pub columns: Vec<(String, Align)>,
    /// The lines, in order.
    pub rows: Vec<Row>,
}

/// What stands between two columns of a text table.
const GAP: usize = 2;
/// Columns of text are not shortened below this width.
const NARROWEST: usize = 8;

impl Table {
    /// A table without rows. A title that starts with `>` makes a right-aligned column: `["form", ">before"]`.
    pub fn new(titles: &[&str]) -> Self {
        let column = |title: &&str| match title.strip_prefix('>') {
            Some(title) => (title.to_owned(), Align::Right),
            None => ((*title).to_owned(), Align::Left),
        };
        Table { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a line of cells.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(Row::Cells(cells.into_iter().map(Into::into).collect()));
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: impl Into<String>) {
        self.rows.push(Row::Heading(text.into()));
    }

    /// Whether there is no line with cells.
    pub fn is_empty(&self) -> bool {
        !self.rows.iter().any(|row| matches!(row, Row::Cells(_)))
    }

    /// The table as lines of text, each ended by a line break and without trailing spaces. With `max_width`, columns
    /// of text are shortened, the widest first, until a line fits or no column can give more.
    pub fn to_text(&self, max_width: Option<usize>) -> String {
        let indent = if self.rows.iter().any(|row| matches!(row, Row::Heading(_))) { GAP } else { 0 };
        let widths = self.widths(max_width.map(|w| w.saturating_sub(indent)));
        let mut out = String::new();
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| title.clone()).collect();
        self.push_line(&mut out, &titles, &widths, indent);
        let rule: Vec<String> = widths.iter().map(|&w| "─".repeat(w)).collect();
        self.push_line(&mut out, &rule, &widths, indent);
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.push_line(&mut out, cells, &widths, indent),
                Row::Heading(text) => {
                    let text = escape::terminal(text);
                    out.push_str(escape::shorten_middle(&text, max_width.unwrap_or(usize::MAX)).trim_end());
                    out.push('\n');
                }
            }
        }
        out
    }

    fn push_line(&self, out: &mut String, cells: &[String], widths: &[usize], indent: usize) {
        let mut line = " ".repeat(indent);
        for (i, &(_, align)) in self.columns.iter().enumerate() {
            let cell = cells.get(i).map_or("", String::as_str);
            let cell = escape::shorten_middle(&escape::terminal(cell), widths[i]);
            let padding = " ".repeat(widths[i].saturating_sub(escape::width(&cell)));
            let gap = if i == 0 { "" } else { "  " };
            match align {
                Align::Left => line.extend([gap, &cell, &padding]),
                Align::Right => line.extend([gap, &padding, &cell]),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    fn widths(&self, max_width: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> =
            self.columns.iter().map(|(title, _)| escape::width(&escape::terminal(title))).collect();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(escape::width(&escape::terminal(cell)));
            }
        }
        let Some(limit) = max_width else { return widths };
        loop {
            let used = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let widest = (0..widths.len())
                .filter(|&i| self.columns[i].1 == Align::Left && widths[i] > NARROWEST)
                .max_by_key(|&i| widths[i]);
            match widest {
                Some(i) if used > limit => widths[i] -= 1,
                _ => return widths,
            }
        }
    }
}
