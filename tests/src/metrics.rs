//! Metrics, parsed from their text.

use std::collections::{BTreeMap, BTreeSet};

use crate::Daemon;

/// The metrics of one moment.
#[derive(Debug, Clone)]
pub struct Metrics {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Metrics {
    /// Fetches them by `escherctl metrics`.
    #[must_use]
    pub fn fetch(daemon: &Daemon) -> Self {
        Metrics::parse(daemon.ctl().run(["metrics"]).expect(0).out())
    }

    /// Parses a text, which has to be whole.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let values = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Metrics {
            values: values.collect(),
            text: text.to_owned(),
        }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of a sample, named as in the text without `escher_`; 0 if there is none.
    #[must_use]
    pub fn get(&self, sample: &str) -> f64 {
        let sample = format!("escher_{sample}");
        self.values.get(&sample).copied().unwrap_or(0.0)
    }

    /// The samples of counters and histograms, which may never decrease.
    pub fn counters(&self) -> impl Iterator<Item = (&str, f64)> {
        let values = self.values.iter();
        values
            .map(|(name, value)| (name.as_str(), *value))
            .filter(|(name, _)| {
                let name = name.split('{').next().unwrap_or_default();
                ["_total", "_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name.ends_with(suffix))
            })
    }

    /// Every metric by its name in `docs/metrics.md`, with its type and the names of its labels.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<(String, String, Vec<String>)> {
        let types = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let metrics = types.map(|(name, kind)| {
            let name = match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            };
            let labels = self.labels(&name);
            (name, kind.to_owned(), labels)
        });
        metrics.collect()
    }

    fn labels(&self, name: &str) -> Vec<String> {
        let labels = self.values.keys().find_map(|sample| {
            let labels = sample.strip_prefix(name)?.strip_prefix('{')?;
            labels.strip_suffix('}')
        });
        let pairs = labels.unwrap_or_default().split(',');
        pairs
            .filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()))
            .collect()
    }
}
