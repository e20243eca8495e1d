//! Aligned columns for people.

use std::fmt;

/// A table that is printed with aligned columns, two blanks apart.
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// Starts with the heads of the columns; one that begins with `>` is of numbers and stands to the right.
    pub fn new(heads: &[&str]) -> Self {
        let right = heads.iter().map(|head| head.starts_with('>')).collect();
        let first = heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![first], right }
    }

    /// Adds a row with one cell a column; control characters are escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let clean = |cell: String| crate::change::Escaped(cell.as_bytes()).to_string();
        self.rows.push(cells.into_iter().map(clean).collect());
    }
}

impl fmt::Display for Table {
    /// Prints all rows, each with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                if *right {
                    line += &format!("{cell:>width$}  ");
                } else {
                    line += &format!("{cell:<width$}  ");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Returns a number of bytes as people read it: `512 B`, `1.2 MB`; powers of 1000, as Docker prints sizes.
pub fn human_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if size < 999.5 {
            return if unit == "B" || size >= 99.95 {
                format!("{size:.0} {unit}")
            } else {
                format!("{size:.1} {unit}")
            };
        }
        size /= 1000.0;
    }
    format!("{size:.1} EB")
}

/// Columns of a full bar.
const BAR: u64 = 20;

/// Draws `amount`, of which `part` is shaded, as a bar that is full at `most`. What is not nothing is to be seen.
pub fn bar(amount: u64, part: u64, most: u64) -> String {
    let columns = |bytes: u64| match bytes {
        0 => 0,
        bytes => (u128::from(bytes) * u128::from(BAR)).div_ceil(u128::from(most.max(1))).min(u128::from(BAR)) as usize,
    };
    let shaded = columns(part.min(amount));
    "█".repeat(columns(amount) - shaded) + &"░".repeat(shaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(&["NAME", ">SIZE"]);
        table.row(["a\x1b".into(), "1".into()]);
        table.row(["long name".into(), "1000".into()]);
        assert_eq!(table.to_string(), "NAME       SIZE\na\\u{1b}       1\nlong name  1000\n");
    }

    #[test]
    fn bars_show_the_share_and_what_is_shaded_of_it() {
        for (amount, part, most, want) in [
            (0, 0, 100, ""),
            (100, 0, 100, "████████████████████"),
            (100, 50, 100, "██████████░░░░░░░░░░"),
            (100, 100, 100, "░░░░░░░░░░░░░░░░░░░░"),
            (1, 0, u64::MAX, "█"),
            (10, 1, 100, "█░"),
            (0, 0, 0, ""),
        ] {
            assert_eq!(bar(amount, part, most), want, "{amount} {part} {most}");
        }
    }

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (5_672_461, "5.7 MB"),
            (123_456_789, "123 MB"),
            (999_950_000, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human_size(bytes), want);
        }
    }
}
