//! What is wrong with a mapping, where, and what would be right.

use std::fmt;

use super::spec::{Place, Sql};

/// One thing wrong with a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// Where, as exactly as is known.
    pub place: Option<Place>,
    /// The canonical field, or `where` for the filter; none for the mapping as a whole.
    pub field: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What would fit.
    pub remedy: Option<String>,
}

impl fmt::Display for MappingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        match self.field.as_deref() {
            Some("where") => f.write_str("where: ")?,
            Some(field) => write!(f, "field {field}: ")?,
            None => {}
        }
        f.write_str(&self.problem)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for MappingFault {}

impl MappingFault {
    /// A fault of the mapping as a whole.
    pub(super) fn whole(problem: String) -> Self {
        Self { place: None, field: None, problem, remedy: None }
    }

    /// A fault of one expression, at its beginning.
    pub(super) fn of(field: &str, sql: &Sql, problem: String) -> Self {
        Self { place: sql.place.clone(), field: Some(field.to_owned()), problem, remedy: None }
    }

    /// Gives it a place, where one is known.
    pub(super) fn in_place(mut self, place: Option<&Place>) -> Self {
        self.place = place.cloned();
        self
    }

    /// Adds what would fit.
    pub(super) fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Moves it to a line and column (both from 1) within its expression.
    pub(super) fn at(mut self, line: u64, column: u64) -> Self {
        if let Some(place) = &mut self.place
            && let (Ok(line), Ok(column)) = (u32::try_from(line), u32::try_from(column))
            && line > 0
            && column > 0
        {
            place.column = if line == 1 { place.column + column - 1 } else { column };
            place.line += line - 1;
        }
        self
    }
}

/// The candidate nearest to a misspelt name, if one is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …` or the list of what there is.
pub(super) fn suggest<'a>(name: &str, what: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(candidate) = nearest(name, candidates.clone()) {
        return format!("did you mean {candidate}?");
    }
    let mut all: Vec<&str> = candidates.into_iter().collect();
    all.sort_unstable();
    match all.len() {
        0 => format!("there are no {what}"),
        1..=40 => format!("the {what} are {}", all.join(", ")),
        more => format!("there are {more} {what}"),
    }
}

/// Letters that are replaced, left out, put in or swapped with their neighbour; case left aside.
fn distance(left: &str, right: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<char>>();
    let (left, right) = (letters(left), letters(right));
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=right.len()).collect());
    for i in 0..left.len() {
        let mut row = vec![i + 1];
        for j in 0..right.len() {
            let replaced = last[j] + usize::from(left[i] != right[j]);
            let mut least = replaced.min(row[j] + 1).min(last[j + 1] + 1);
            if i > 0 && j > 0 && left[i] == right[j - 1] && left[i - 1] == right[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_their_neighbour() {
        let columns = ["ma_ho_so", "ngay_nop", "le_phi"];
        assert_eq!(nearest("ma_hoso", columns), Some("ma_ho_so"));
        assert_eq!(nearest("NGAY_NOB", columns), Some("ngay_nop"));
        assert_eq!(nearest("trang_thai", columns), None);
        assert_eq!(nearest("naem", ["name", "fee"]), Some("name"), "letters that changed places are one fault");
    }
}
