//! Reads Prometheus' text format, strictly: what `promtool check metrics` would refuse fails the test.

use std::collections::{BTreeMap, HashMap};

/// Labels of a series.
pub type Labels = BTreeMap<String, String>;

/// One answer of `/metrics`.
#[derive(Debug)]
pub struct Scrape {
    /// Types by family.
    pub kinds: HashMap<String, String>,
    series: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    /// Reads an answer. Fails where a series has no type, no help or a value that is no number, or comes twice, or where the
    /// buckets of a histogram do not add up.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut scrape = Self { kinds: HashMap::new(), series: BTreeMap::new() };
        let mut helped: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!help.trim().is_empty(), "{line}");
                helped.push(name);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(helped.contains(&name), "{name} has a type and no help");
                assert!(scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            } else {
                scrape.add(line);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn add(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}")))),
            None => (series, Labels::new()),
        };
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let family = name.strip_suffix(suffix)?;
            (self.kinds.get(family).map(String::as_str) == Some("histogram")).then_some(family)
        });
        assert!(self.kinds.contains_key(family.unwrap_or(name)), "{name} has no type");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let earlier = self.series.insert((name.to_owned(), labels), value);
        assert!(earlier.is_none(), "a series comes twice: {line}");
    }

    fn check_histograms(&self) {
        for (family, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            for (labels, count) in self.series(&format!("{family}_count")) {
                let mut buckets: Vec<(f64, f64)> = Vec::new();
                for (mut bucket, value) in self.series(&format!("{family}_bucket")).map(|(labels, value)| (labels.clone(), value)) {
                    let bound = bucket.remove("le").expect("a bucket has a bound");
                    if bucket == *labels {
                        buckets.push((bound.replace("+Inf", "inf").parse().unwrap(), value));
                    }
                }
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family}{labels:?}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{family}{labels:?}");
            }
        }
    }

    /// The value of the series with exactly these labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.series.get(&(name.to_owned(), labels)).copied()
    }

    /// All series of a name.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> + 'a {
        self.series.iter().filter(move |((found, _), _)| found == name).map(|((_, labels), value)| (labels, *value))
    }
}

/// `a="1",b="2"`. The hub's label values have no quotes in them.
fn labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    for part in text.split("\",").filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once("=\"").unwrap_or_else(|| panic!("no label: {part}"));
        let earlier = labels.insert(name.to_owned(), value.trim_end_matches('"').to_owned());
        assert!(earlier.is_none(), "a label comes twice: {text}");
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total What\n# TYPE a_total counter\na_total{x=\"1\",y=\"b c\"} 2\n";

    #[test]
    fn series_are_found_by_all_their_labels() {
        let scrape = Scrape::read(GOOD);
        assert_eq!(scrape.value("a_total", &[("y", "b c"), ("x", "1")]), Some(2.0));
        assert_eq!(scrape.value("a_total", &[("x", "1")]), None);
    }

    #[test]
    fn what_is_no_good_answer_fails() {
        let histogram = "# HELP h What\n# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n";
        for bad in [&format!("{GOOD}b 1\n"), &format!("{GOOD}a_total{{x=\"1\",y=\"b c\"}} 3\n"), "# TYPE a gauge\na 1\n", histogram] {
            assert!(std::panic::catch_unwind(|| Scrape::read(bad)).is_err(), "{bad}");
        }
    }
}
