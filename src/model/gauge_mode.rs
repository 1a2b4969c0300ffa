//! The modes of gauges of which every process has its own value.

/// How a scrape merges the values that the processes have in a gauge. The modes are those of prometheus_client.
///
/// The modes with "live" show processes that live. The others also show what processes have left that ended or
/// were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GaugeMode {
    /// The value of each process, with its process id as the label `pid`. That of a dead process is shown until
    /// another process takes its place.
    All,
    /// The value of each living process, with the label `pid`.
    LiveAll,
    /// The smallest value.
    Min,
    /// The smallest value of the living processes.
    LiveMin,
    /// The largest value.
    Max,
    /// The largest value of the living processes.
    LiveMax,
    /// The sum of the values.
    Sum,
    /// The sum of the values of the living processes.
    LiveSum,
    /// The value that was set last.
    MostRecent,
    /// The value that a living process has set last.
    LiveMostRecent,
}

/// The label that [`GaugeMode::All`] and [`GaugeMode::LiveAll`] add.
pub(crate) const PROCESS_LABEL: &str = "pid";

impl GaugeMode {
    /// Every mode.
    pub(crate) const ALL: [Self; 10] = [
        Self::All,
        Self::LiveAll,
        Self::Min,
        Self::LiveMin,
        Self::Max,
        Self::LiveMax,
        Self::Sum,
        Self::LiveSum,
        Self::MostRecent,
        Self::LiveMostRecent,
    ];

    /// Returns the name of the mode, as prometheus_client spells it: `livemax`.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::LiveAll => "liveall",
            Self::Min => "min",
            Self::LiveMin => "livemin",
            Self::Max => "max",
            Self::LiveMax => "livemax",
            Self::Sum => "sum",
            Self::LiveSum => "livesum",
            Self::MostRecent => "mostrecent",
            Self::LiveMostRecent => "livemostrecent",
        }
    }

    /// Returns the mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Whether a scrape shows only living processes.
    pub(crate) fn is_live(self) -> bool {
        self.name().starts_with("live")
    }

    /// Whether each process has a series of its own.
    pub(crate) fn shows_processes(self) -> bool {
        matches!(self, Self::All | Self::LiveAll)
    }

    /// Whether the value that was set last counts.
    pub(crate) fn is_most_recent(self) -> bool {
        matches!(self, Self::MostRecent | Self::LiveMostRecent)
    }

    /// Whether the values of dead processes are kept as one, because the merge is the same in any order.
    pub(crate) fn keeps_dead(self) -> bool {
        matches!(self, Self::Min | Self::Max | Self::Sum)
    }

    /// Merges two values. Does not suit the modes that show processes or what was set last.
    pub(crate) fn merge(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Min | Self::LiveMin => one.min(other),
            Self::Max | Self::LiveMax => one.max(other),
            _ => one + other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_reads_back() {
        for mode in GaugeMode::ALL {
            assert_eq!(GaugeMode::from_name(mode.name()), Some(mode));
        }
        assert_eq!(GaugeMode::from_name("livelive"), None);
    }
}
