//! Columns without borders. What does not fit the terminal is left out column by column, from the right.

const GAP: usize = 2;

pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns that are never left out.
    essential: usize,
}

impl Table {
    pub fn new(header: &[&str], essential: usize) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()], essential }
    }

    /// A row may be shorter or longer than the header; what is beyond it becomes a tail without alignment.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn render(&self, width: usize) -> Vec<String> {
        let columns = self.columns_within(width);
        let widths: Vec<usize> = (0..columns).map(|column| self.width_of(column)).collect();
        self.rows.iter().flat_map(|row| self.lines(row, &widths, width)).collect()
    }

    fn columns_within(&self, width: usize) -> usize {
        let mut columns = self.header().len();
        while columns > self.essential && self.total_width(columns) > width {
            columns -= 1;
        }
        columns
    }

    /// A tail that does not fit beside its row goes below it.
    fn lines(&self, row: &[String], widths: &[usize], width: usize) -> Vec<String> {
        let cells = widths.iter().enumerate().map(|(column, width)| {
            let cell = row.get(column).map_or("", String::as_str);
            format!("{cell}{}", " ".repeat(width - cell.chars().count()))
        });
        let gap = " ".repeat(GAP);
        let line = cells.collect::<Vec<_>>().join(&gap).trim_end().to_owned();
        let Some(tail) = row.get(self.header().len()) else { return vec![line] };
        let together = format!("{line}{gap}{tail}");
        if together.chars().count() <= width { vec![together] } else { vec![line, format!("{gap}{tail}")] }
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
        assert_eq!(table.render(80), wide);
        let narrow = ["NAME     IP", "laptop*  10.64.0.1  tail", "ä        10.64.0.20"];
        assert_eq!(table.render(25), narrow);
    }

    #[test]
    fn a_tail_that_does_not_fit_goes_below_its_row() {
        let mut table = Table::new(&["A"], 1);
        table.row(["x".into(), "y".repeat(20)]);
        assert_eq!(table.render(10), ["A".to_owned(), "x".to_owned(), format!("  {}", "y".repeat(20))]);
    }
}
