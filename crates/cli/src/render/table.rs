//! Columns that stand under each other.

/// Rows under headings; every column is as wide as its widest cell. No lines at all where there are no rows.
#[must_use]
pub fn table(headings: &[&str], rows: &[Vec<String>], indent: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let mut widths = vec![0; headings.len()];
    for row in std::iter::once(&headings).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    std::iter::once(&headings).chain(rows).map(|row| line(row, &widths, indent)).collect()
}

fn line(row: &[String], widths: &[usize], indent: &str) -> String {
    let mut line = indent.to_owned();
    for (width, cell) in widths.iter().zip(row) {
        line.push_str(&format!("{cell:<width$}  "));
    }
    format!("{}\n", line.trim_end())
}

/// `label  text` lines with the labels in one column.
#[must_use]
pub fn labelled(rows: &[(&str, String)], indent: &str) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    rows.iter().map(|(label, text)| format!("{}\n", format!("{indent}{label:<width$}  {text}").trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["orders-db".to_owned(), "1".to_owned()], vec!["ü".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows, "  "), "  NAME       N\n  orders-db  1\n  ü\n");
        assert_eq!(table(&["NAME"], &[], ""), "");
    }

    #[test]
    fn labels_stand_in_one_column() {
        assert_eq!(labelled(&[("id", "1".to_owned()), ("state", "ok".to_owned())], ""), "id     1\nstate  ok\n");
    }
}
