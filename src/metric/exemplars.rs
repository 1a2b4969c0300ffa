//! The exemplars of a metric: which slot takes an observation, and what the slots hold.
//!
//! A metric in a metrics file has its slots there. Those of every other metric are made in this process when the first
//! exemplar comes.

use super::{Metric, Refusal};
use crate::cell::ExemplarPlace;
use crate::cell::exemplar::{ExemplarSlot, Held, OwnSlots};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::exemplar::{Exemplar, PackedLabels, slot_of};
use crate::model::metric_type::MetricType;
use crate::model::number::format_number;
use crate::process::clock::since_1970;

impl Metric {
    /// Adds `amount` to a counter as [`inc`](Self::inc) does, and keeps it with these labels as an exemplar, if the
    /// last one is older than a tenth of a second.
    ///
    /// The labels lead to a trace, for example `trace_id` and `span_id`. Their names and values have at most 128
    /// characters together. Returns an error, and adds nothing, if the labels cannot be shown
    /// ([`ErrorKind::InvalidArgument`]), or if the family is not declared
    /// [with exemplars](crate::Definition::with_exemplars) ([`ErrorKind::WrongType`]).
    ///
    /// ```
    /// use pytheus_backend_rs::{Backend, Definition, Format, Lifetime, MetricType, RenderOptions};
    ///
    /// let backend = Backend::open("memory:")?;
    /// let jobs = Definition::new("jobs_total", "Jobs.", MetricType::Counter, &[], &[])?.with_exemplars()?;
    /// let jobs = backend.declare(jobs, &[], Lifetime::Backend)?;
    /// jobs.metric(&[])?.inc_with_exemplar(2.0, &[("trace_id", "4bf92f3577b34da6")])?;
    /// let snapshot = backend.collect(None)?;
    /// let exemplar = &snapshot.families[0].series().next().unwrap().exemplars()[0];
    /// assert_eq!((exemplar.value(), exemplar.labels().next()), (2.0, Some(("trace_id", "4bf92f3577b34da6"))));
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    pub fn inc_with_exemplar(&self, amount: f64, labels: &[(&str, &str)]) -> Result<()> {
        let labels = self.check_exemplar(MetricType::Counter, labels)?;
        if amount < 0.0 || amount.is_nan() {
            return Err(self.exemplar_error(amount, Refusal::NotAnIncrease));
        }
        self.count_with_exemplar(amount, &labels, || self.inc(amount))
    }

    /// Counts `value` in a histogram as [`observe`](Self::observe) does, and keeps it with these labels as an
    /// exemplar of its bucket, if that of a near bucket is older than a tenth of a second. Otherwise it is like
    /// [`inc_with_exemplar`](Self::inc_with_exemplar).
    pub fn observe_with_exemplar(&self, value: f64, labels: &[(&str, &str)]) -> Result<()> {
        let labels = self.check_exemplar(MetricType::Histogram, labels)?;
        self.count_with_exemplar(value, &labels, || self.observe(value))
    }

    /// Keeps an exemplar of `value` as [`inc_with_exemplar`](Self::inc_with_exemplar) does, and counts nothing: for a
    /// program that has counted `value` itself.
    pub fn keep_exemplar(&self, value: f64, labels: &[(&str, &str)]) -> Result<()> {
        let labels = self.check_exemplar(self.metric_type(), labels)?;
        self.write_exemplar(value, &labels);
        self.changed();
        Ok(())
    }

    /// Returns whether an exemplar of `value`, which a program would have to find the labels for, would be kept now.
    pub fn takes_exemplar(&self, value: f64) -> bool {
        // Nothing but the time decides in a family with exemplars. The first exemplar has no slot to look at yet.
        self.family.definition.has_exemplars()
            && value.is_finite()
            && self
                .with_slot(value, false, |slot, _| slot.is_due(now()))
                .unwrap_or_else(|| self.makes_slots())
    }

    fn count_with_exemplar(
        &self,
        value: f64,
        labels: &PackedLabels,
        count: impl FnOnce() -> std::result::Result<(), Refusal>,
    ) -> Result<()> {
        // Before the amount: a store that sends changes takes the exemplar with them.
        let has_slot = self.write_exemplar(value, labels);
        count().map_err(|refusal| self.exemplar_error(value, refusal))?;
        if !has_slot {
            // The series had ended, and the amount has begun a new one.
            self.write_exemplar(value, labels);
        }
        Ok(())
    }

    fn check_exemplar(&self, metric_type: MetricType, labels: &[(&str, &str)]) -> Result<PackedLabels> {
        let definition = &self.family.definition;
        if self.metric_type() != metric_type || !definition.has_exemplars() {
            let reason = match self.metric_type() == metric_type {
                true => "it is declared without exemplars",
                false => "a metric of this type has no such operation",
            };
            let what = format!("{} {:?}", self.metric_type().name(), definition.name());
            return Err(Error::new(
                ErrorKind::WrongType,
                format!("cannot keep an exemplar of {what}: {reason}"),
            ));
        }
        PackedLabels::new(labels).map_err(|error| {
            let what = format!("{} {:?}", self.metric_type().name(), definition.name());
            Error::new(error.kind(), format!("{what}: {}", error.message()))
        })
    }

    fn exemplar_error(&self, value: f64, refusal: Refusal) -> Error {
        let what = format!("{} {:?}", self.metric_type().name(), self.family.definition.name());
        Error::new(refusal.kind(), format!("cannot add {} to {what}: {refusal}", format_number(value)))
    }

    /// Keeps an exemplar, unless the last one is too young. A value that is not finite is no example of a bucket.
    /// Returns `false` if the series has no slots now.
    fn write_exemplar(&self, value: f64, labels: &PackedLabels) -> bool {
        if !value.is_finite() {
            return true;
        }
        let held = Held { milliseconds: now(), value: value.to_bits(), labels: labels.words() };
        self.with_slot(value, true, |slot, is_live| slot.write(&held, is_live)).is_some()
    }

    /// Calls `work` with the slot of a value, and a function that says whether it still belongs to the metric. Returns
    /// `None` if there is no such slot. `makes` says whether to make slots in this process.
    fn with_slot<T>(
        &self,
        value: f64,
        makes: bool,
        work: impl Fn(ExemplarSlot<'_>, &dyn Fn() -> bool) -> T,
    ) -> Option<T> {
        let bounds = self.family.definition.buckets().len();
        let slot = slot_of(self.metric_type(), value, self.bucket_of(value), bounds + 1);
        let mut result = None;
        self.cells.with_exemplar_place(&mut |place| {
            result = match place {
                ExemplarPlace::InFile(cells) => {
                    cells.exemplar_slot(slot).map(|slot| work(slot, &|| cells.is_live()))
                }
                ExemplarPlace::InProcess => {
                    let own = if makes { Some(self.make_own_slots()) } else { self.own_slots() };
                    own.and_then(|own| own.slot(slot)).map(|slot| work(slot, &|| true))
                }
            };
        });
        result
    }

    /// Returns whether the next exemplar makes slots: in this process, or for a new series in place of one that has
    /// ended.
    fn makes_slots(&self) -> bool {
        let mut makes = None;
        self.cells.with_exemplar_place(&mut |place| {
            makes = Some(matches!(place, ExemplarPlace::InProcess) && self.own_slots().is_none());
        });
        makes.unwrap_or_else(|| self.is_live())
    }

    fn make_own_slots(&self) -> &OwnSlots {
        let slots = self.family.definition.exemplar_slots();
        self.rare().exemplars.get_or_init(|| Box::new(OwnSlots::new(slots)))
    }

    fn own_slots(&self) -> Option<&OwnSlots> {
        self.rare.get()?.exemplars.get()
    }

    /// Returns the exemplars that are new since the last call, with the numbers of their slots: for a store that sends
    /// changes.
    pub(crate) fn take_exemplars(&self) -> Vec<(usize, Exemplar)> {
        self.own_slots().map(OwnSlots::take).unwrap_or_default()
    }

    /// Returns the exemplars that this process keeps, or that the file has.
    pub(crate) fn exemplars(&self) -> Vec<Exemplar> {
        if !self.family.definition.has_exemplars() {
            return Vec::new();
        }
        let mut exemplars = Vec::new();
        self.cells.with_exemplar_place(&mut |place| {
            exemplars = match place {
                ExemplarPlace::InFile(cells) => cells.exemplars(),
                ExemplarPlace::InProcess => {
                    let slots = self.own_slots().into_iter().flat_map(OwnSlots::slots);
                    slots.filter_map(|slot| slot.exemplar()).collect()
                }
            };
        });
        // A series that has ended may have begun again, with the same slots.
        let created = self.created().map_or(0, |created| created.get());
        exemplars.retain(|exemplar| exemplar.milliseconds() >= created);
        exemplars
    }
}

fn now() -> u64 {
    since_1970().as_millis() as u64
}
