//! Reads families and metrics from the server, for the pipeline threads.
//!
//! A read begins with a barrier: the BackendAction thread sends what this process has pending, so that a
//! scrape shows every change that happened before it in this process. The server then tells which families have
//! changed since they were last read on the connection, and only those are read again. A read also compares the
//! epochs of the families with the known ones. If they show a loss, it asks the BackendAction thread to restore
//! the values.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use super::assembly::assemble;
use super::cache::CachedFamily;
use super::connection::{Reply, command, refused};
use super::ending;
use super::epoch::KnownEpochs;
use super::found::Found;
use super::layout;
use super::message::{Loss, Requests};
use super::native_field::FieldValue;
use super::outline::{MOST_AT_ONCE, Outline};
use super::question::{Reading, Wanted};
use super::refused_keys::RefusedKeys;
use super::reply::{concerns_key, describe, pairs, text};
use super::request::{Answer, Groups, Request, Values};
use super::series_meta::SeriesMeta;
use super::session::{LISTED_AT_ONCE, Session, scan};
use super::shared::Shared;
use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::sample::{FamilySamples, Snapshot};

/// Reads for one pipeline thread.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    requests: Requests,
    session: Session,
    refused_keys: Arc<RefusedKeys>,
    epochs: Arc<KnownEpochs>,
}

/// What the server has of the series of a family, and the index of the family among those that are read.
type MetaOf = (usize, Arc<SeriesMeta>);

/// How the values of a family are read. If one way fails, the next one is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the outline, if there is one.
    Outlined,
    /// By an outline that is made now, if the family is large.
    Listed,
    /// By one command.
    Whole,
}

/// What has become of a read of a family.
enum Accepted {
    /// `None` if the key cannot be read.
    Read(Option<Box<FamilySamples>>),
    /// The server has fields that the outline lacks, so the next way must be taken.
    Outdated,
}

impl Reader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        requests: Requests,
        session: Session,
        refused_keys: Arc<RefusedKeys>,
        epochs: Arc<KnownEpochs>,
    ) -> Self {
        Self { shared, requests, session, refused_keys, epochs }
    }

    /// Sends everything that this process has pending, and then reads what is `wanted`.
    pub(crate) fn read(&mut self, wanted: &Wanted, deadline: Instant) -> Result<Reading> {
        unless_refused(self.requests.flush(deadline))?;
        let reading = self.read_now(wanted, deadline);
        self.session.end_read();
        reading
    }

    fn read_now(&mut self, wanted: &Wanted, deadline: Instant) -> Result<Reading> {
        match wanted {
            Wanted::Metric(metric) => self.read_metric(metric, deadline).map(Reading::Cells),
            Wanted::Families(families, selection) => {
                self.read_own_and(Vec::new(), families, selection, deadline).map(Reading::Snapshot)
            }
            Wanted::All(selection) => self.read_all(selection, deadline).map(Reading::Snapshot),
            Wanted::WithOthers { families, declared, selection } => {
                let mut others = self.read_definitions(deadline)?;
                others.retain(|name, definition| !declared.contains(name) && selection.admits(definition));
                let others = others.into_values().collect();
                self.read_own_and(others, families, selection, deadline).map(Reading::Snapshot)
            }
        }
    }

    /// Closes the connections that were not used for long.
    pub(crate) fn close_unused(&self) {
        self.session.close_unused();
    }

    /// Reads families of this process, followed by `others`.
    fn read_own_and(
        &mut self,
        others: Vec<Definition>,
        own: &[Arc<Family>],
        selection: &Selection,
        deadline: Instant,
    ) -> Result<Snapshot> {
        let mut definitions: Vec<_> = own.iter().map(|family| family.definition.clone()).collect();
        definitions.extend(others);
        let mut families = self.read_families(&definitions, deadline)?;
        for (family, samples) in own.iter().zip(&mut families) {
            // A series that this process knows may have ended.
            if let Some(samples) = samples
                && family.definition.series_ttl().is_none()
            {
                let known = self.shared.table.metrics(family);
                samples.add_missing(known.iter().map(|metric| &*metric.key));
            }
        }
        let families = families.into_iter().zip(definitions);
        let families =
            families.map(|(samples, definition)| samples.unwrap_or_else(|| FamilySamples::new(definition)));
        let mut families: Vec<FamilySamples> = families.collect();
        self.read_meta(&mut families, selection, deadline)?;
        Ok(Snapshot { families })
    }

    /// Reads what the selected exposition shows beside the values: when the series of these families began, and their
    /// exemplars. What has not changed since it was last read is not read again.
    fn read_meta(
        &mut self,
        families: &mut [FamilySamples],
        selection: &Selection,
        deadline: Instant,
    ) -> Result<()> {
        let mut keys = Vec::new();
        for (index, family) in families.iter().enumerate() {
            let definition = &family.definition;
            let shows_created = selection.shows_created() && definition.metric_type().is_cumulative();
            let shows_exemplars = selection.shows_exemplars() && definition.has_exemplars();
            if (shows_created || shows_exemplars) && family.series().len() > 0 {
                let key = layout::family_key(self.shared.prefix(), definition.name());
                keys.push((index, layout::meta_key(&key)));
            }
        }
        for (index, meta) in self.list_meta(keys, deadline)? {
            show(&mut families[index], &meta, selection);
        }
        Ok(())
    }

    /// Reads what these keys hold, unless it has not changed since it was last read. Leaves out a key that the user may
    /// not list.
    fn list_meta(&mut self, keys: Vec<(usize, String)>, deadline: Instant) -> Result<Vec<MetaOf>> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for (index, key) in keys {
            match self.session.cache().and_then(|cache| cache.meta(&key)) {
                Some(meta) => found.push((index, meta)),
                None => unread.push((index, key)),
            }
        }
        if unread.is_empty() {
            return Ok(found);
        }
        let place = self.session.place();
        let firsts: Vec<Cmd> = unread.iter().map(|(_, key)| scan(key, "0")).collect();
        let mut groups = Groups::default();
        firsts.iter().for_each(|command| groups.add(command, LISTED_AT_ONCE));
        let firsts = self.session.read_values(&groups, deadline)?;
        for ((index, key), first) in unread.into_iter().zip(firsts) {
            let Some(pairs) = self.session.list(&key, Some((first, place)), deadline)? else { continue };
            let meta = Arc::new(SeriesMeta::new(&pairs));
            found.push((index, Arc::clone(&meta)));
            if self.session.is_tracked(&key)
                && let Some(cache) = self.session.cache()
            {
                cache.put_meta(&key, meta);
            }
        }
        Ok(found)
    }

    /// Reads the selected families of this process in the order of declaration, then those of others by name.
    fn read_all(&mut self, selection: &Selection, deadline: Instant) -> Result<Snapshot> {
        let mut own = self.shared.table.kept_families();
        let mut stored = self.read_definitions(deadline)?;
        let live = self.shared.table.live_families();
        if live.iter().any(|family| !stored.contains_key(family.definition.name())) {
            // The server has lost some definitions, or never got them.
            unless_refused(self.requests.restore(Loss::Definitions, deadline))?;
        }
        for family in &own {
            stored.remove(family.definition.name());
        }
        own.retain(|family| selection.admits(&family.definition));
        stored.retain(|_, definition| selection.admits(definition));
        self.read_own_and(stored.into_values().collect(), &own, selection, deadline)
    }

    fn read_definitions(&mut self, deadline: Instant) -> Result<BTreeMap<String, Definition>> {
        let key = layout::definitions_key(self.shared.prefix());
        let mut replies = self.session.exchange(&[command("HGETALL", &[&key])], deadline)?;
        let stored = self.accept(&key, Reply::Value(replies.pop().unwrap_or_default()))?;
        let mut definitions = BTreeMap::new();
        let mut unusable = None;
        for (name, json) in stored.map(Reply::into_value).map(pairs).unwrap_or_default() {
            match Definition::from_json(&name, &json) {
                Ok(definition) => drop(definitions.insert(name, definition)),
                Err(error) => unusable = Some(error),
            }
        }
        if let Some(error) = unusable {
            log::debug!("{error}; such families are left out");
        }
        Ok(definitions)
    }

    /// Reads families by their definitions: those that have changed since they were last read. `None` stands for
    /// a family whose key cannot be read.
    fn read_families(
        &mut self,
        definitions: &[Definition],
        deadline: Instant,
    ) -> Result<Vec<Option<FamilySamples>>> {
        let prefix = self.shared.prefix();
        let keys: Vec<String> =
            definitions.iter().map(|definition| layout::family_key(prefix, definition.name())).collect();
        let lengths = self.hear_changes(definitions, &keys, deadline)?;
        // Before the values: those of a series that has ended must not be shown as those of one that begins meanwhile.
        let (now, used) = self.read_used(definitions, &keys, deadline)?;
        let mut families: Vec<Option<FamilySamples>> =
            definitions.iter().zip(&keys).map(|(definition, key)| self.unchanged(key, definition)).collect();
        let mut unread: Vec<usize> = (0..keys.len()).filter(|&index| families[index].is_none()).collect();
        for way in [Way::Outlined, Way::Listed, Way::Whole] {
            if unread.is_empty() {
                break;
            }
            let mut requests = Vec::with_capacity(unread.len());
            for &index in &unread {
                requests.push(self.request(
                    way,
                    &keys[index],
                    &definitions[index],
                    lengths[index],
                    deadline,
                )?);
            }
            let of_unread: Vec<String> = unread.iter().map(|&index| keys[index].clone()).collect();
            let found = self.read_keys(&requests, &of_unread, deadline)?;
            let mut again = Vec::new();
            for (index, found) in unread.into_iter().zip(found) {
                match self.accept_family(&keys[index], &definitions[index], found, way)? {
                    Accepted::Read(samples) => families[index] = samples.map(|samples| *samples),
                    Accepted::Outdated => again.push(index),
                }
            }
            unread = again;
        }
        for (index, meta) in used {
            if let Some(family) = &mut families[index] {
                ending::hide_ended(&meta, family, now);
            }
        }
        Ok(families)
    }

    /// Reads when the series were last used of those families whose series end, and what else the server has of them.
    /// Also returns the present second of the server's clock, if there are such families.
    fn read_used(
        &mut self,
        definitions: &[Definition],
        keys: &[String],
        deadline: Instant,
    ) -> Result<(u64, Vec<MetaOf>)> {
        let ends = |(index, key): (usize, &String)| {
            definitions[index].series_ttl().map(|_| (index, layout::meta_key(key)))
        };
        // If the user may not list the times, the series are shown until a writer ends them.
        let used = self.list_meta(keys.iter().enumerate().filter_map(ends).collect(), deadline)?;
        if used.is_empty() {
            return Ok((0, used));
        }
        let mut time = self.session.exchange(&[redis::cmd("TIME")], deadline)?;
        Ok((ending::second_of(time.pop().unwrap_or_default()), used))
    }

    /// Returns whether the series of a metric has ended.
    fn has_ended(&mut self, metric: &Metric, key: &str, deadline: Instant) -> Result<bool> {
        let definition = &metric.family.definition;
        if definition.series_ttl().is_none() {
            return Ok(false);
        }
        let used = command("HGET", &[&layout::meta_key(key), &layout::used_field(&metric.key)]);
        let mut replies = self.session.exchange(&[used, redis::cmd("TIME")], deadline)?;
        let now = ending::second_of(replies.pop().unwrap_or_default());
        let used = replies.pop().and_then(text);
        Ok(used.is_some_and(|used| ending::has_ended(definition, &used, now)))
    }

    /// Lets the server tell which families have changed: its answer comes after the notice of every earlier
    /// change. Also renews the expiry of the definitions. Returns how many fields those families have whose outline
    /// is not known. If the options want it, a replica tells, and is read from.
    fn hear_changes(
        &mut self,
        definitions: &[Definition],
        keys: &[String],
        deadline: Instant,
    ) -> Result<Vec<u64>> {
        let key = layout::definitions_key(self.shared.prefix());
        let mut commands = vec![layout::renew(&key, self.shared.options.expire_key_time)];
        let mut asked = Vec::new();
        for (index, (definition, key)) in definitions.iter().zip(keys).enumerate() {
            if layout::is_hash(definition) && self.outline(key, definition).is_none() {
                commands.push(command("HLEN", &[key]));
                asked.push(index);
            }
        }
        let replies = self.session.exchange(&commands, deadline)?;
        self.session.begin_values(keys, deadline)?;
        let mut lengths = vec![0; keys.len()];
        for (index, reply) in asked.into_iter().zip(replies.into_iter().skip(1)) {
            lengths[index] = length(&reply);
        }
        Ok(lengths)
    }

    /// Returns a family if it has not changed since it was read.
    fn unchanged(&mut self, key: &str, definition: &Definition) -> Option<FamilySamples> {
        let family = self.session.cache()?.values(key, definition)?;
        (!self.epochs.is_lost(key, Some(&family.epoch))).then_some(family.samples)
    }

    fn outline(&mut self, key: &str, definition: &Definition) -> Option<Arc<Outline>> {
        self.session.cache()?.outline(key, definition)
    }

    /// Returns how a family is read, which has about `length` fields.
    fn request(
        &mut self,
        way: Way,
        key: &str,
        definition: &Definition,
        mut length: u64,
        deadline: Instant,
    ) -> Result<Request> {
        if way == Way::Outlined
            && let Some(outline) = self.outline(key, definition)
        {
            return Ok(Request::pieces(key, outline));
        }
        if way == Way::Outlined && !layout::is_hash(definition) {
            // If other processes have declared the family with labels, the next way reads the hash.
            return Ok(Request::whole(key, command("GET", &[key]), None, 1));
        }
        if way == Way::Listed {
            let replies = self.session.exchange(&[command("HLEN", &[key])], deadline)?;
            length = replies.first().map_or(0, self::length);
        }
        if way != Way::Whole
            && length > MOST_AT_ONCE
            && let Some(pairs) = self.session.list(key, None, deadline)?
        {
            // A field may come twice.
            let fields: HashSet<&str> = pairs.iter().map(|(field, _)| field.as_str()).collect();
            return Ok(Request::pieces(key, Arc::new(Outline::new(key, definition, fields.into_iter()))));
        }
        Ok(Request::whole(key, command("HGETALL", &[key]), Some(command("GET", &[key])), length))
    }

    /// Accepts the series of a family that was found, and keeps them until they change.
    fn accept_family(
        &mut self,
        key: &str,
        definition: &Definition,
        found: Found,
        way: Way,
    ) -> Result<Accepted> {
        let until = found.lasts(self.shared.options.expire_key_time).map(|lasts| Instant::now() + lasts);
        let (samples, outline) = match found.values {
            Values::Pieces(outline, replies) => match outline.fill(key, &replies) {
                // A field that was added since the listing is shown by the next scrape.
                Some(filled) if filled.is_complete || way == Way::Listed => {
                    self.refused_keys.note(key, false);
                    (filled.samples, filled.is_complete.then_some(outline))
                }
                _ => return Ok(Accepted::Outdated),
            },
            Values::Whole(reply)
                if way == Way::Outlined && !layout::is_hash(definition) && reply.is_wrong_type() =>
            {
                return Ok(Accepted::Outdated);
            }
            Values::Whole(reply) => {
                let Some(reply) = self.accept(key, reply)? else { return Ok(Accepted::Read(None)) };
                let outline = Outline::of_reply(key, definition, &reply);
                (assemble(key, definition, reply), outline.map(Arc::new))
            }
        };
        let is_tracked = self.session.is_family_tracked(key);
        if let Some(cache) = self.session.cache() {
            let values = until.zip(found.epoch).filter(|_| is_tracked).map(|(until, epoch)| CachedFamily {
                samples: samples.clone(),
                epoch,
                until,
            });
            cache.put(key, values, outline.filter(|outline| outline.can_be_kept()));
        }
        Ok(Accepted::Read(Some(Box::new(samples))))
    }

    fn read_metric(&mut self, metric: &Metric, deadline: Instant) -> Result<Vec<f64>> {
        let definition = &metric.family.definition;
        let key = layout::family_key(self.shared.prefix(), definition.name());
        let mut get = command("HMGET", &[&key]);
        let field_count = layout::field_count(definition);
        for cell in 0..field_count {
            get.arg(layout::field(definition, &metric.key, cell));
        }
        // Before the values, as in a scrape.
        let has_ended = self.has_ended(metric, &key, deadline)?;
        let is_hash = layout::is_hash(definition);
        let single = command("GET", &[&key]);
        let (first, other) = if is_hash { (get, single) } else { (single, get) };
        let requests = [Request::whole(&key, first, Some(other), 1)];
        let found = self.read_keys(&requests, std::slice::from_ref(&key), deadline)?.pop();
        let values = match found.map(Found::into_value).unwrap_or_default() {
            Value::ServerError(error) if concerns_key(&error) => {
                let message = format!("Redis key {key:?} cannot be read: {}", describe(&error));
                return Err(Error::new(ErrorKind::Store, message));
            }
            Value::ServerError(error) => return Err(refused(&self.shared.options.address, &error)),
            Value::Array(values) => values,
            // The key is a string, so it has no value with these labels yet.
            _ if is_hash => vec![Value::Nil; field_count],
            value => vec![value],
        };
        if values.len() != field_count {
            let message = format!(
                "{} answered a read of {key:?} with {} values: expected {}",
                self.shared.options.address,
                values.len(),
                field_count
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let mut cells = vec![0.0; definition.cell_count()];
        if has_ended {
            return Ok(cells);
        }
        for (cell, value) in values.into_iter().enumerate().filter(|(_, value)| *value != Value::Nil) {
            let text = text(value).unwrap_or_default();
            let value = FieldValue::parse(definition, cell, &text).ok_or_else(|| {
                let message = format!("Redis key {key:?} holds {text:?}: expected a number");
                Error::new(ErrorKind::Store, message)
            })?;
            value.add_to(&mut cells[cell..]);
        }
        Ok(cells)
    }

    /// Returns the reply if it is not an error. Returns `None` if the server refuses this key only, and logs
    /// that once.
    fn accept(&self, key: &str, reply: Reply) -> Result<Option<Reply>> {
        match reply {
            Reply::Value(Value::ServerError(error)) if concerns_key(&error) => {
                if self.refused_keys.note(key, true) {
                    log::error!(
                        "Redis key {key:?} cannot be read: {}; scrapes do not show it",
                        describe(&error)
                    );
                }
                Ok(None)
            }
            Reply::Value(Value::ServerError(error)) => Err(refused(&self.shared.options.address, &error)),
            reply => {
                self.refused_keys.note(key, false);
                Ok(Some(reply))
            }
        }
    }

    /// Reads the family keys `keys`, and renews their expiry.
    ///
    /// If the server has lost a family that this process has written to, this restores it and reads again.
    fn read_keys(&mut self, requests: &[Request], keys: &[String], deadline: Instant) -> Result<Vec<Found>> {
        let mut found = self.look_at(requests, keys, deadline)?;
        if found.iter().any(|found| found.is_lost) && self.session.is_at_replica() {
            // A replica may not have a family that began a moment ago. Only the master shows a loss, and has what
            // is restored.
            self.session.leave_replica();
            found = self.look_at(requests, keys, deadline)?;
        }
        let lost: Vec<String> =
            found.iter().zip(keys).filter(|(found, _)| found.is_lost).map(|(_, key)| key.clone()).collect();
        if !lost.is_empty() {
            unless_refused(self.requests.restore(Loss::Keys(lost), deadline))?;
            found = self.look_at(requests, keys, deadline)?;
        }
        let (mut commands, mut second) = (Vec::new(), Vec::new());
        for (index, (found, request)) in found.iter().zip(requests).enumerate() {
            if found.is_wrong_type()
                && let Some(command) = request.for_other_type()
            {
                commands.push(command.clone());
                second.push(index);
            }
        }
        let seconds = self.shared.options.expire_key_time;
        let mut renewals = Vec::new();
        for (_, key) in found.iter().zip(keys).filter(|(found, _)| found.must_renew(seconds)) {
            // The writers' key must expire first: if it outlived the values, no process would notice their
            // loss. So it is renewed first.
            let keys = [layout::writers_key(key), layout::meta_key(key), key.clone()];
            renewals.extend(keys.map(|key| layout::renew(&key, seconds)));
        }
        if !renewals.is_empty() {
            self.session.exchange(&renewals, deadline)?;
        }
        if !commands.is_empty() {
            let mut groups = Groups::default();
            commands.iter().for_each(|command| groups.add(command, 1));
            for (index, reply) in second.into_iter().zip(self.session.read_values(&groups, deadline)?) {
                if !reply.is_wrong_type() {
                    found[index].values = Values::Whole(reply);
                }
            }
        }
        Ok(found)
    }

    /// Reads the values of keys, their epochs, and when they expire.
    fn look_at(&mut self, requests: &[Request], keys: &[String], deadline: Instant) -> Result<Vec<Found>> {
        let definitions_key = layout::definitions_key(self.shared.prefix());
        let renew = layout::renew(&definitions_key, self.shared.options.expire_key_time);
        let mut groups = Groups::default();
        // A replica refuses this, and a read at a replica has renewed them at the master.
        let renews = !self.session.is_at_replica();
        if renews {
            groups.add(&renew, 1);
        }
        requests.iter().for_each(|request| request.send(&mut groups));
        let mut replies = self.session.read_values(&groups, deadline)?.into_iter().skip(usize::from(renews));
        let found = keys.iter().zip(requests).map(|(key, request)| {
            let Answer { values, epoch, ttl } = request.take(&mut replies);
            let epoch = epoch.into_value();
            // After an error the epoch is unknown, so it cannot show a loss.
            let is_known = !matches!(epoch, Value::ServerError(_));
            let epoch = text(epoch);
            let is_lost = is_known && self.epochs.is_lost(key, epoch.as_deref());
            Found { values, epoch, is_lost, ttl: ttl.into_value() }
        });
        Ok(found.collect())
    }
}

/// Gives the series of a family what the exposition shows beside their values.
fn show(family: &mut FamilySamples, meta: &SeriesMeta, selection: &Selection) {
    if selection.shows_created() {
        family.set_created(|labels| meta.created(labels));
    }
    if selection.shows_exemplars() && family.definition.has_exemplars() {
        family.set_exemplars_by(|labels| meta.exemplars(labels));
    }
}

/// Returns the number of fields in the reply to `HLEN`: 0 if there is no hash, or if it cannot be read.
fn length(reply: &Value) -> u64 {
    match reply {
        Value::Int(length) => u64::try_from(*length).unwrap_or(0),
        _ => 0,
    }
}

/// Ignores that some keys are refused. They are reported when they are read, and must not spoil the read of
/// other keys.
fn unless_refused(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::Store => Err(error),
        _ => Ok(()),
    }
}
