//! The handle of a metric family, with which a program creates metrics.

use std::sync::Arc;

use super::parts::BackendParts;
use crate::metric::Metric;
use crate::metric::family::{Family, Lifetime};
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, KeyWriter, Labels};
use crate::model::metric_type::MetricType;
use crate::model::name::{NameRule, check_label_names};
use crate::process::clock::micros_of_change;

/// A declared metric family. It has one metric for each label set.
#[derive(Debug, Clone)]
pub struct MetricFamily {
    parts: Arc<BackendParts>,
    family: Arc<Family>,
    /// The label names in the order in which this handle takes label values.
    label_order: Vec<String>,
    keys: KeyWriter,
}

impl MetricFamily {
    pub(super) fn new(parts: Arc<BackendParts>, family: Arc<Family>, label_order: &[&str]) -> Self {
        let keys = KeyWriter::new(label_order);
        let label_order = label_order.iter().map(|&name| name.to_owned()).collect();
        Self { parts, family, label_order, keys }
    }

    /// Returns the family, if it belongs to the backend of `parts`.
    pub(super) fn family_in(&self, parts: &Arc<BackendParts>) -> Option<Arc<Family>> {
        Arc::ptr_eq(&self.parts, parts).then(|| Arc::clone(&self.family))
    }

    /// Returns the definition.
    pub fn definition(&self) -> &Definition {
        &self.family.definition
    }

    /// Returns the metric with these label values, which are given in the label order of this handle. Creates
    /// it with the value 0 if it does not exist.
    ///
    /// An info has no metrics to count with: see [`set_info`](Self::set_info).
    pub fn metric(&self, label_values: &[&str]) -> Result<Arc<Metric>> {
        if self.definition().metric_type() == MetricType::Info {
            let message = format!("{}: set it with set_info", self.what());
            return Err(Error::new(ErrorKind::WrongType, message));
        }
        self.parts.metric(&self.family, &self.key(label_values)?)
    }

    /// Sets the labels `info` of an info, in place of those that any process has set before. An info that was
    /// declared with label names has one such set for each of their values.
    ///
    /// ```
    /// use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType};
    ///
    /// let backend = Backend::open("memory:")?;
    /// let definition = Definition::new("build", "The program.", MetricType::Info, &[], &[])?;
    /// let build = backend.declare(definition, &[], Lifetime::Backend)?;
    /// build.set_info(&[], &[("version", "1.2")])?;
    /// build.set_info(&[], &[("version", "1.3")])?;
    /// assert!(backend.collect_text()?.ends_with("\nbuild_info{version=\"1.3\"} 1\n"));
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    ///
    /// Returns [`ErrorKind::InvalidArgument`] without labels, for a label name that is reserved, declared or
    /// given twice, and for a family of [`Lifetime::Handle`], which keeps no values.
    pub fn set_info(&self, label_values: &[&str], info: &[(&str, &str)]) -> Result<()> {
        let refuse = |kind, reason: String| Err(Error::new(kind, format!("{}: {reason}", self.what())));
        if self.definition().metric_type() != MetricType::Info {
            return refuse(ErrorKind::WrongType, "only an info has labels to set".into());
        }
        if self.family.lifetime != Lifetime::Backend {
            return refuse(
                ErrorKind::InvalidArgument,
                "expected a family that lives as long as its backend".into(),
            );
        }
        if info.is_empty() {
            return refuse(ErrorKind::InvalidArgument, "expected at least one label".into());
        }
        if let Some((name, _)) = info.iter().find(|(name, _)| self.label_order.iter().any(|own| own == name))
        {
            return refuse(ErrorKind::InvalidArgument, format!("the label {name:?} is declared, not set"));
        }
        check_label_names(info.iter().map(|&(name, _)| name), MetricType::Info, NameRule::Utf8)?;
        self.key(label_values)?;
        let declared = self.label_order.iter().map(String::as_str).zip(label_values.iter().copied());
        let all: Labels = declared
            .chain(info.iter().copied())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.parts.metric(&self.family, &labels::encode(&all))?.set_at(micros_of_change());
        Ok(())
    }

    /// Removes the metric with these label values from the store. Handles that are still held become no-ops.
    /// Of an info, removes all labels that this process has set for these label values. Returns
    /// [`ErrorKind::NotFound`] if this process does not know such a metric.
    pub fn remove(&self, label_values: &[&str]) -> Result<()> {
        let key = self.key(label_values)?;
        if self.definition().metric_type() != MetricType::Info {
            return self.parts.remove_metric(&self.family, &key);
        }
        let declared = labels::decode(&key).unwrap_or_default();
        let of_these = |metric: &Arc<Metric>| {
            declared.iter().all(|(name, value)| metric.labels().get(name) == Some(value))
        };
        let set: Vec<_> = self.parts.table.metrics(&self.family).into_iter().filter(of_these).collect();
        if set.is_empty() {
            let message = format!("{}: nothing is set for the labels {key}", self.what());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        set.iter().try_for_each(|metric| self.parts.remove_metric(&self.family, &metric.key))
    }

    fn what(&self) -> String {
        format!("{} {:?}", self.definition().metric_type().name(), self.definition().name())
    }

    /// Removes all metrics of the family from the store, including those of other processes.
    pub fn clear(&self) -> Result<()> {
        self.parts.clear_family(&self.family)
    }

    /// Returns the canonical labels of the metric with these label values.
    fn key(&self, values: &[&str]) -> Result<String> {
        if values.len() == self.label_order.len() {
            return Ok(self.keys.write(values));
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "metric family {:?} has {} labels ({}), but {} values were given",
                self.family.definition.name(),
                self.label_order.len(),
                self.label_order.join(", "),
                values.len()
            ),
        ))
    }
}
