//! The balance as a table for people.

use hub_tests_province::Balance;

/// Prints both tables and, where they are uneven, what is wrong.
pub(crate) fn balance(balance: &Balance) {
    let heads = ["source table", "rows wanted", "to reject", "events", "records now", "lost", "extra", "duplicates", "out of order"];
    let mut rows = vec![heads.map(str::to_owned)];
    let mut sum = [0; 8];
    for (table, one) in &balance.streams {
        let figures = [one.source_rows, one.rejected, one.events, one.records, one.lost, one.extra, one.duplicates, one.disordered];
        sum.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        rows.push(line(table, figures));
    }
    rows.push(line("all", sum));
    print(&rows);
    for (table, one) in balance.streams.iter().filter(|(_, one)| !one.examples.is_empty()) {
        println!("  {table}: {} …", one.examples.join(", "));
    }
    println!();
    let mut rows = vec![["rejected because", "foreseen", "found", "the very rows", ""].map(str::to_owned)];
    for (reason, one) in &balance.rejects {
        let verdict = if one.foreseen == one.found && one.found == one.matched { "as foreseen" } else { "DIFFERENT" };
        let [foreseen, found, matched] = [one.foreseen, one.found, one.matched].map(grouped);
        rows.push([reason.clone(), foreseen, found, matched, verdict.to_owned()]);
    }
    print(&rows);
    println!();
}

fn line(name: &str, figures: [u64; 8]) -> [String; 9] {
    let [a, b, c, d, e, f, g, h] = figures.map(grouped);
    [name.to_owned(), a, b, c, d, e, f, g, h]
}

/// `1,026,133`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// First column to the left, the others to the right.
fn print<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in rows {
        let mut text = format!("  {:<1$}", row[0], width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            text.push_str(&format!("  {cell:>0$}", width(column)));
        }
        println!("{}", text.trim_end());
    }
}
