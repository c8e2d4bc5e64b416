//! Differences of documents, line by line, as people compare them.

use serde_json::Value;

/// Lines that are shown around a change.
const CONTEXT: usize = 2;
/// Above so many pairs of lines a change is shown as a whole: old lines, then new ones.
const MOST_PAIRS: usize = 4_000_000;

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The same on both sides.
    Same(String),
    /// Only in the old one.
    Old(String),
    /// Only in the new one.
    New(String),
    /// So many lines that are the same are left out.
    Gap(usize),
}

/// A document as lines that read like YAML.
pub(crate) fn lines(document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    write(document, 0, "", &mut lines);
    lines
}

/// What differs, with some lines around it; empty where nothing does.
pub(crate) fn difference(old: &[String], new: &[String]) -> Vec<Line> {
    let all = compare(old, new);
    if all.iter().all(|line| matches!(line, Line::Same(_))) {
        return Vec::new();
    }
    let near = |at: usize| {
        let (from, to) = (at.saturating_sub(CONTEXT), (at + CONTEXT + 1).min(all.len()));
        all[from..to].iter().any(|line| !matches!(line, Line::Same(_)))
    };
    let mut shown = Vec::new();
    let mut left_out = 0;
    for (at, line) in all.iter().enumerate() {
        if !near(at) {
            left_out += 1;
            continue;
        }
        if left_out > 0 {
            shown.push(Line::Gap(left_out));
            left_out = 0;
        }
        shown.push(line.clone());
    }
    if left_out > 0 {
        shown.push(Line::Gap(left_out));
    }
    shown
}

fn write(value: &Value, depth: usize, lead: &str, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            if !lead.is_empty() {
                lines.push(format!("{indent}{lead}"));
            }
            let depth = depth + usize::from(!lead.is_empty());
            for (key, value) in entries {
                write(value, depth, &format!("{key}:"), lines);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            lines.push(format!("{indent}{lead}"));
            for item in items {
                match item {
                    Value::Object(_) | Value::Array(_) => write(item, depth + 1, "-", lines),
                    scalar => lines.push(format!("{indent}  - {}", text_of(scalar))),
                }
            }
        }
        Value::String(text) if text.contains('\n') => {
            lines.push(format!("{indent}{lead} |"));
            lines.extend(text.lines().map(|line| format!("{indent}  {line}")));
        }
        scalar => lines.push(format!("{indent}{lead} {}", text_of(scalar)).trim_end().to_owned()),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Every line of both, by their longest common subsequence.
fn compare(old: &[String], new: &[String]) -> Vec<Line> {
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(old, new)| old == new).count();
    let (left, right) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    let same = |lines: &[String]| lines.iter().cloned().map(Line::Same).collect::<Vec<_>>();
    let mut all = same(&old[..start]);
    if left.len().saturating_mul(right.len()) > MOST_PAIRS {
        all.extend(left.iter().cloned().map(Line::Old));
        all.extend(right.iter().cloned().map(Line::New));
    } else {
        all.extend(subsequence(left, right));
    }
    all.extend(same(&old[old.len() - end..]));
    all
}

fn subsequence(old: &[String], new: &[String]) -> Vec<Line> {
    // common[i][j] is the length of the longest common subsequence of old[i..] and new[j..].
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::with_capacity(old.len() + new.len());
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            lines.push(Line::Same(old[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if common[(i + 1) * width + j] >= common[i * width + j + 1] {
            lines.push(Line::Old(old[i].clone()));
            i += 1;
        } else {
            lines.push(Line::New(new[j].clone()));
            j += 1;
        }
    }
    lines.extend(old[i..].iter().cloned().map(Line::Old));
    lines.extend(new[j..].iter().cloned().map(Line::New));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_read_like_yaml() {
        let document = json!({"system": "mot-cua", "streams": [{"source": "a", "key": ["x", "y"]}], "codes": "1\n2", "none": {}});
        let expected = [
            "system: mot-cua",
            "streams:",
            "  -",
            "    source: a",
            "    key:",
            "      - x",
            "      - y",
            "codes: |",
            "  1",
            "  2",
            "none: {}",
        ];
        assert_eq!(lines(&document), expected);
    }

    #[test]
    fn only_what_differs_is_shown_with_its_surroundings() {
        let text = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let shown = difference(&text("a b c d e f g h i"), &text("a b c d X f g h i"));
        let expected = [
            Line::Gap(2),
            Line::Same("c".into()),
            Line::Same("d".into()),
            Line::Old("e".into()),
            Line::New("X".into()),
            Line::Same("f".into()),
            Line::Same("g".into()),
            Line::Gap(2),
        ];
        assert_eq!(shown, expected);
        assert_eq!(difference(&text("a b"), &text("a b")), []);
        let moved = difference(&text("a b c"), &text("b c d"));
        assert_eq!(moved, [Line::Old("a".into()), Line::Same("b".into()), Line::Same("c".into()), Line::New("d".into())]);
    }
}
