//! What a look at a whole store has found: facts, and faults.
//!
//! Stores write it, sentence by sentence; the side-car prints it. It is for people: a program that wants to
//! know asks whether the store is sound.

/// The findings of [`crate::Backend::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    facts: Vec<String>,
    faults: Vec<String>,
}

impl Report {
    /// What the store is and holds; one finding each.
    pub fn facts(&self) -> &[String] {
        &self.facts
    }

    /// What is wrong with it; one finding each. Scrapes leave out what a fault names.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn fact(&mut self, finding: impl Into<String>) {
        self.facts.push(finding.into());
    }

    pub(crate) fn fault(&mut self, finding: impl Into<String>) {
        self.faults.push(finding.into());
    }
}

/// A number of things: "1 family", "2 families".
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
