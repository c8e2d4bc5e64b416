//! Names of files: which fit a pattern, which are not finished, which are free.

/// Endings of names under which programs write files that they rename when all is there.
const UNFINISHED: [&str; 6] = [".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp"];

/// Ending of the file by which a person accepts a delivery that was held back.
pub(crate) const ACCEPT: &str = ".accept";

/// Whether a file of this name is a delivery of the pattern: finished, not hidden, and no word of acceptance.
pub(super) fn is_delivery(pattern: &str, name: &str) -> bool {
    let lower = name.to_lowercase();
    let is_hidden = name.starts_with('.') || name.starts_with("~$");
    let is_other = UNFINISHED.iter().any(|ending| lower.ends_with(ending)) || lower.ends_with(ACCEPT);
    !is_hidden && !is_other && !name.is_empty() && matches(&pattern.to_lowercase(), &lower)
}

/// A name for a file in a folder that has none of that name; nor does its report.
pub(super) fn free(name: &str, count: usize) -> (String, String) {
    let free = if count < 2 { name.to_owned() } else { format!("{count}_{name}") };
    let report = format!("{free}.rejected.txt");
    (free, report)
}

/// Whether a name is of a pattern with `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn patterns_know_any_letters_and_one_letter() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("dan_cu_????.csv", "dan_cu_2026.csv", true),
            ("dan_cu_????.csv", "dan_cu_226.csv", false),
            ("*", "", true),
            ("hồ?sơ*", "hồ sơ 1", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
