//! Columns without borders. What does not fit the terminal is left out column by column, from the right. What others
//! chose (names, agents) cannot bring a line break or a terminal sequence along.

use std::collections::BTreeMap;

use crate::{
    failure::Failure,
    terminal::{Colour, Terminal},
};

const GAP: usize = 2;

pub struct Table {
    rows: Vec<Vec<String>>,
    /// By row and column.
    colours: BTreeMap<(usize, usize), Colour>,
    /// Columns that are never left out.
    essential: usize,
}

impl Table {
    pub fn new(header: &[&str], essential: usize) -> Self {
        Self {
            rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()],
            colours: BTreeMap::new(),
            essential,
        }
    }

    /// A row may be shorter or longer than the header; what is beyond it becomes a tail without alignment.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let printable = |cell: String| cell.replace(char::is_control, " ");
        self.rows.push(cells.into_iter().map(printable).collect());
    }

    /// Colours a cell of the last row.
    pub fn colour(&mut self, column: usize, colour: Colour) {
        self.colours.insert((self.rows.len() - 1, column), colour);
    }

    /// As wide as the terminal.
    pub fn show(&self, terminal: &Terminal) -> Result<(), Failure> {
        self.render(terminal.width(), terminal).iter().try_for_each(|line| terminal.line(line))
    }

    pub fn render(&self, width: usize, terminal: &Terminal) -> Vec<String> {
        let columns = self.columns_within(width);
        let widths: Vec<usize> = (0..columns).map(|column| self.width_of(column)).collect();
        (0..self.rows.len()).flat_map(|row| self.lines(row, &widths, width, terminal)).collect()
    }

    fn columns_within(&self, width: usize) -> usize {
        let mut columns = self.header().len();
        while columns > self.essential && self.total_width(columns) > width {
            columns -= 1;
        }
        columns
    }

    /// A tail that does not fit beside its row goes below it.
    fn lines(&self, number: usize, widths: &[usize], width: usize, terminal: &Terminal) -> Vec<String> {
        let row = &self.rows[number];
        let gap = " ".repeat(GAP);
        let (mut line, mut length, mut padding) = (String::new(), 0, 0);
        for (column, width) in widths.iter().enumerate() {
            let cell = row.get(column).map_or("", String::as_str);
            if !cell.is_empty() {
                line.push_str(&" ".repeat(padding));
                line.push_str(&self.painted(number, column, cell, terminal));
                length += padding + cell.chars().count();
                padding = 0;
            }
            padding += width - cell.chars().count() + GAP;
        }
        let Some(tail) = row.get(self.header().len()) else { return vec![line] };
        if length + GAP + tail.chars().count() <= width {
            return vec![format!("{line}{gap}{tail}")];
        }
        vec![line, format!("{gap}{tail}")]
    }

    fn painted(&self, row: usize, column: usize, cell: &str, terminal: &Terminal) -> String {
        match self.colours.get(&(row, column)) {
            Some(colour) => terminal.paint(*colour, cell),
            None => cell.to_owned(),
        }
    }

    fn header(&self) -> &[String] {
        &self.rows[0]
    }

    fn total_width(&self, columns: usize) -> usize {
        (0..columns).map(|column| self.width_of(column)).sum::<usize>() + GAP * (columns - 1)
    }

    fn width_of(&self, column: usize) -> usize {
        self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_dropped_from_the_right() {
        let mut table = Table::new(&["NAME", "IP", "PATH"], 2);
        table.row(["laptop*", "10.64.0.1", "-", "tail"].map(str::to_owned));
        table.row(["ä", "10.64.0.20", "direct v6"].map(str::to_owned));
        let wide =
            ["NAME     IP          PATH", "laptop*  10.64.0.1   -  tail", "ä        10.64.0.20  direct v6"];
        assert_eq!(table.render(80, &Terminal::plain()), wide);
        let narrow = ["NAME     IP", "laptop*  10.64.0.1  tail", "ä        10.64.0.20"];
        assert_eq!(table.render(25, &Terminal::plain()), narrow);
    }

    #[test]
    fn a_tail_that_does_not_fit_goes_below_its_row() {
        let mut table = Table::new(&["A"], 1);
        table.row(["x".into(), "y".repeat(20)]);
        assert_eq!(
            table.render(10, &Terminal::plain()),
            ["A".to_owned(), "x".to_owned(), format!("  {}", "y".repeat(20))]
        );
    }

    #[test]
    fn colour_does_not_move_columns_and_foreign_text_stays_in_its_cell() {
        let mut table = Table::new(&["A", "B"], 2);
        table.row(["x\n\x1b[2J".into(), "y".into()]);
        table.colour(0, Colour::Green);
        let lines = table.render(80, &Terminal::coloured());
        assert_eq!(lines, ["A       B", "\x1b[32mx  [2J\x1b[0m  y"]);
    }
}
