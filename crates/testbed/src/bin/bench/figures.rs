//! What was measured: medians, ratios, a table and a JSON file. Knows nothing about what was measured.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// One comparison.
#[derive(Clone, Debug)]
pub struct Figure {
    pub what: String,
    pub unit: &'static str,
    pub muster: f64,
    /// Absent where a figure stands for itself.
    pub peer: Option<(String, f64)>,
    /// The ratio, muster to peer, that is wanted; without a peer the figure itself.
    pub goal: Option<f64>,
    pub lower_is_better: bool,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|(_, peer)| self.muster / peer)
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit,
            "muster": self.muster,
            "peer": self.peer.as_ref().map(|(_, peer)| peer),
            "peer_name": self.peer.as_ref().map(|(name, _)| name),
            "ratio": self.ratio(),
            "goal": self.goal,
            "lower_is_better": self.lower_is_better,
        })
    }
}

/// The middle one; of an even number, the lower of the two in the middle. Nothing of nothing.
pub fn median(mut runs: Vec<f64>) -> Option<f64> {
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len().checked_sub(1)? / 2).copied()
}

/// Prints the table and writes the file.
pub fn publish(name: &str, figures: &[Figure]) -> Result<()> {
    let width = figures.iter().map(|figure| figure.what.len()).max().unwrap_or(0);
    println!("\n{:<width$}  {:>10}  {:>10}  {:<26}  {:>6}  goal", name, "muster", "peer", "", "ratio");
    for figure in figures {
        let number = |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.2}"));
        let peer = figure.peer.as_ref();
        println!(
            "{:<width$}  {:>10.2}  {:>10}  {:<26}  {:>6}  {:>4}  {}",
            figure.what,
            figure.muster,
            number(peer.map(|(_, value)| *value)),
            peer.map_or("", |(name, _)| name),
            number(figure.ratio()),
            number(figure.goal),
            figure.unit
        );
    }
    let folder = PathBuf::from("target/bench");
    std::fs::create_dir_all(&folder).context("make target/bench")?;
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&Value::from(figures.iter().map(Figure::json).collect::<Vec<_>>()))?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_middle_run_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
