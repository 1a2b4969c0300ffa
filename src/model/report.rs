//! The findings of an examination of a whole store: facts, faults, its writers, and what dead ones have left.
//!
//! Stores add sentences to it, and the side-car prints them for people. Programs use [`Report::is_sound`].

/// The findings of [`crate::Backend::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    facts: Vec<String>,
    faults: Vec<String>,
    writers: Vec<Writer>,
    leftovers: Vec<String>,
}

/// A process that counts in the store, or has counted there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Writer {
    /// Its number, as the process itself sees it.
    pub pid: u32,
    /// The name of its program.
    pub program: Option<String>,
    /// Whether it lives, or `None` if that cannot be seen from here.
    pub is_alive: Option<bool>,
    /// When it began, in seconds since 1970.
    pub since: Option<u64>,
    /// When it last sent changes to a server, in seconds since 1970.
    pub last_batch: Option<u64>,
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

    /// Returns the processes that count in the store, as far as they can be seen from here, by their numbers.
    pub fn writers(&self) -> &[Writer] {
        &self.writers
    }

    /// Returns what processes that have ended have left, one sentence per finding. It does no harm.
    pub fn leftovers(&self) -> &[String] {
        &self.leftovers
    }

    /// Whether there are no faults.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds the findings of another report.
    pub(crate) fn append(&mut self, other: Self) {
        self.facts.extend(other.facts);
        self.faults.extend(other.faults);
        self.writers.extend(other.writers);
        self.leftovers.extend(other.leftovers);
    }

    pub(crate) fn fact(&mut self, finding: impl Into<String>) {
        self.facts.push(finding.into());
    }

    pub(crate) fn writer(&mut self, writer: Writer) {
        self.writers.push(writer);
    }

    pub(crate) fn leftover(&mut self, finding: impl Into<String>) {
        self.leftovers.push(finding.into());
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
