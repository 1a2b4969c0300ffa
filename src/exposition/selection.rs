//! The metric families that a client selects by the parameters `name[]` of its request.
//!
//! As in other client libraries, a parameter names a family or one of its samples. A family is shown as a whole,
//! because a histogram without some of its samples would be useless.

use std::collections::BTreeSet;

use url::form_urlencoded;

use super::escaping::Escaping;
use super::family::{full_name, own_suffix, sample_suffixes, shown_name};
use super::foreign::ForeignFamily;
use crate::model::definition::Definition;

/// The parameter of a query that selects families. It may be given several times.
const PARAMETER: &str = "name[]";

/// The names of the families or samples that a client wants, from the query of its request.
///
/// ```
/// use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType, NameFilter, RenderOptions};
///
/// let backend = Backend::open("memory:")?;
/// for name in ["a_total", "b_total"] {
///     let definition = Definition::new(name, "", MetricType::Counter, &[], &[])?;
///     backend.declare(definition, &[], Lifetime::Backend)?.metric(&[])?;
/// }
/// let names = NameFilter::from_query("name[]=a_total&name%5B%5D=c_total&other=1");
/// let rendered = backend.render(&RenderOptions { names: names.as_ref(), ..Default::default() })?;
/// assert_eq!(rendered.into_text(), "# HELP a_total \n# TYPE a_total counter\na_total 0\n");
/// assert_eq!(NameFilter::from_query("other=1"), None);
/// # Ok::<(), pytheus_backend_rs::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFilter(BTreeSet<String>);

impl NameFilter {
    /// Reads the parameters `name[]` of a query, the text between `?` and `#` of a URL. Other parameters are
    /// ignored. Returns `None` if there are none, which selects every family.
    ///
    /// Nothing here fails: an invalid escape stands for itself, and U+FFFD replaces bytes that are not UTF-8.
    pub fn from_query(query: impl AsRef<[u8]>) -> Option<Self> {
        let parameters = form_urlencoded::parse(query.as_ref());
        let names = parameters.filter(|(name, _)| name == PARAMETER).map(|(_, value)| value.into_owned());
        let names: BTreeSet<String> = names.collect();
        (!names.is_empty()).then_some(Self(names))
    }

    /// Selects no family.
    pub(crate) fn nothing() -> Self {
        Self(BTreeSet::new())
    }
}

/// The families that an exposition shows, and whether it shows when their series began, and their exemplars. The
/// default is all families, without these.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    names: Option<NameFilter>,
    name_prefix: Option<String>,
    escaping: Escaping,
    shows_created: bool,
    shows_exemplars: bool,
}

impl Selection {
    /// Selects the families that `names` names, as they are named with the prefix and escaping of an exposition.
    pub(crate) fn new(names: Option<&NameFilter>, name_prefix: Option<&str>, escaping: Escaping) -> Self {
        let name_prefix = name_prefix.map(str::to_owned);
        Self { names: names.cloned(), name_prefix, escaping, ..Self::default() }
    }

    /// Notes whether the exposition shows when series began.
    pub(crate) fn with_created(self, shows_created: bool) -> Self {
        Self { shows_created, ..self }
    }

    /// Notes whether the exposition shows exemplars.
    pub(crate) fn with_exemplars(self, shows_exemplars: bool) -> Self {
        Self { shows_exemplars, ..self }
    }

    /// Returns whether the exposition shows exemplars.
    pub(crate) fn shows_exemplars(&self) -> bool {
        self.shows_exemplars
    }

    /// Returns whether the exposition shows when series began.
    pub(crate) fn shows_created(&self) -> bool {
        self.shows_created
    }

    /// Returns whether every family is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.names.is_none()
    }

    /// Returns whether the family is selected.
    pub(crate) fn admits(&self, definition: &Definition) -> bool {
        self.admits_with(definition, self.name_prefix.as_deref())
    }

    /// Returns the foreign families that are selected. `are_shown` says which of the families that the caller
    /// named are selected, and each foreign family keeps its place among them.
    pub(crate) fn foreign(&self, foreign: &[ForeignFamily], are_shown: &[bool]) -> Vec<ForeignFamily> {
        // The prefix does not apply to them.
        let selected = foreign.iter().filter(|family| self.admits_with(family.definition(), None));
        let shown_before = |position| are_shown.iter().take(position).filter(|&&is_shown| is_shown).count();
        selected.map(|family| family.clone().at(shown_before(family.position()))).collect()
    }

    fn admits_with(&self, definition: &Definition, name_prefix: Option<&str>) -> bool {
        let Some(NameFilter(names)) = &self.names else { return true };
        let full_name = full_name(definition, name_prefix);
        let escaped = shown_name(definition, &full_name, self.escaping);
        // The suffixes of OpenMetrics are those of the other formats and more.
        let suffixes = sample_suffixes(definition.metric_type(), true);
        let own_suffix = own_suffix(definition.metric_type());
        [&*full_name, &escaped].into_iter().any(|name| {
            // In OpenMetrics, the family of a counter has no `_total`, and that of an info no `_info`.
            let short = own_suffix.and_then(|suffix| name.strip_suffix(suffix));
            let is_named = |name| suffixes.iter().any(|suffix| names.contains(&format!("{name}{suffix}")));
            is_named(name) || short.is_some_and(is_named)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric_type::MetricType;
    use crate::model::name::NameRule;

    fn is_selected(query: &str, name: &str, metric_type: MetricType, escaping: Escaping) -> bool {
        let definition = Definition::with_names(NameRule::Utf8, name, "", metric_type, &[], &[]).unwrap();
        Selection::new(NameFilter::from_query(query).as_ref(), None, escaping).admits(&definition)
    }

    #[test]
    fn a_family_is_named_by_its_own_name_and_those_of_its_samples() {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, Summary, Untyped};
        let cases: [(MetricType, &str, &[&str], &[&str]); 9] = [
            (Counter, "a_total", &["a_total", "a", "a_created"], &["a_total_sum", "A_total", "a_", ""]),
            (Counter, "a", &["a", "a_total", "a_created"], &["a_sum", "b"]),
            (Gauge, "a_total", &["a_total"], &["a", "a_total_total", "a_created"]),
            (Untyped, "a", &["a"], &["a_count"]),
            (Summary, "a", &["a", "a_sum", "a_count", "a_created"], &["a_bucket", "a_total"]),
            (Histogram, "a", &["a", "a_sum", "a_count", "a_bucket", "a_created"], &["a_total"]),
            (
                GaugeHistogram,
                "a",
                &["a", "a_gsum", "a_gcount", "a_sum", "a_count", "a_bucket"],
                &["a_created"],
            ),
            (Info, "a", &["a", "a_info"], &["a_total"]),
            (Info, "a_info", &["a", "a_info"], &["a_total"]),
        ];
        for (metric_type, name, good, bad) in cases {
            let is_selected = |query: String| is_selected(&query, name, metric_type, Escaping::default());
            for wanted in good {
                assert!(is_selected(format!("name[]={wanted}")), "{wanted} names {name}");
                assert!(is_selected(format!("name[]=other&name[]={wanted}")), "{wanted} among others");
            }
            for wanted in bad {
                assert!(!is_selected(format!("name[]={wanted}")), "{wanted:?} does not name {name}");
            }
            let definition = Definition::new(name, "", metric_type, &[], &[]).unwrap();
            let names = NameFilter::from_query(format!("name[]=app_{name}"));
            let selection = |prefix| Selection::new(names.as_ref(), prefix, Escaping::default());
            assert!(selection(Some("app")).admits(&definition), "the name has the prefix");
            assert!(!selection(None).admits(&definition) && !selection(Some("")).admits(&definition));
            assert!(is_selected(String::new()), "all families are shown");
            assert!(is_selected("name=x&names[]=x&x=name[]".to_owned()), "other parameters are ignored");
        }
    }

    #[test]
    fn utf8_names_are_known_as_they_are_and_as_they_are_shown() {
        let is_selected = |wanted: &str, escaping| {
            is_selected(&format!("name[]={wanted}"), "größe.x", MetricType::Histogram, escaping)
        };
        for escaping in [Escaping::AllowUtf8, Escaping::Underscores, Escaping::Dots, Escaping::Values] {
            for wanted in ["größe.x", "gr%C3%B6%c3%9fe.x_count", "gr%C3%B6ße%2Ex"] {
                assert!(is_selected(wanted, escaping), "{wanted} {escaping:?}");
            }
        }
        let shown = [
            (Escaping::Underscores, "gr__e_x"),
            (Escaping::Dots, "gr____e_dot_x"),
            (Escaping::Values, "U__gr_f6__df_e_2e_x"),
        ];
        for (escaping, name) in shown {
            for (other, _) in shown {
                assert_eq!(is_selected(name, other), escaping == other, "{name} {other:?}");
                assert_eq!(is_selected(&format!("{name}_bucket"), other), escaping == other);
            }
        }
    }

    #[test]
    fn odd_queries_select_something_or_nothing() {
        for query in ["", "&&", "=", "name%5B%5D", "%", "name[", "\u{FFFD}"] {
            let is_everything = NameFilter::from_query(query).is_none();
            assert_eq!(is_everything, query != "name%5B%5D", "{query}");
        }
        let query = b"name%5b%5D=a%&name[]=b%zz&name[]=\xff&name[]=%ff&name[]=a+b%2Bc%00;&name[]=a%&name[]";
        let names = ["", "a b+c\0;", "a%", "b%zz", "\u{FFFD}"].map(str::to_owned);
        assert_eq!(NameFilter::from_query(query), Some(NameFilter(names.into())));
    }

    #[test]
    fn foreign_families_keep_their_places_among_the_selected_families() {
        let foreign = |name, position| {
            let definition = Definition::new(name, "", MetricType::Gauge, &[], &[]).unwrap();
            ForeignFamily::new(definition, NameRule::Utf8, position)
        };
        let names = NameFilter::from_query("name[]=a&name[]=b&name[]=c");
        let selection = Selection::new(names.as_ref(), Some("app"), Escaping::default());
        let selected = selection.foreign(
            &[foreign("a", 0), foreign("x", 1), foreign("b", 2), foreign("c", 99)],
            &[false, true, true],
        );
        let places = selected.iter().map(|family| (family.definition().name(), family.position()));
        assert_eq!(places.collect::<Vec<_>>(), [("a", 0), ("b", 1), ("c", 2)]);
    }
}
