//! The findings of an examination of a whole store: facts and faults.
//!
//! Stores add sentences to it, and the side-car prints them for people. Programs use [`Report::is_sound`].

/// The findings of [`crate::Backend::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    facts: Vec<String>,
    faults: Vec<String>,
}

impl Report {
    /// Returns what the store is and contains, one sentence per finding.
    pub fn facts(&self) -> &[String] {
        &self.facts
    }

    /// Returns what is wrong with the store, one sentence per finding. Scrapes omit the data that a fault
    /// names.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Whether there are no faults.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds the findings of another report.
    pub(crate) fn append(&mut self, other: Self) {
        self.facts.extend(other.facts);
        self.faults.extend(other.faults);
    }

    pub(crate) fn fact(&mut self, finding: impl Into<String>) {
        self.facts.push(finding.into());
    }

    pub(crate) fn fault(&mut self, finding: impl Into<String>) {
        self.faults.push(finding.into());
    }
}

/// Formats a count with its noun: "1 family", "2 families".
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
