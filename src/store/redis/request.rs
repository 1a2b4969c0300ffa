//! What the server is asked about one family, and how the commands of many families are grouped.

use std::sync::Arc;

use redis::Cmd;

use super::connection::{Reply, command};
use super::epoch;
use super::layout;
use super::outline::{MOST_AT_ONCE, Outline};

/// A question about a family: its values, the epoch in which they stand, and when the key expires.
#[derive(Debug)]
pub(crate) struct Request {
    read: Read,
    /// Come after the values, so that a loss between the replies is noticed.
    after: [Cmd; 2],
}

/// The commands that read the values.
#[derive(Debug)]
enum Read {
    /// A command for the type that the key should have, and perhaps one for the type that it has if other processes
    /// declare the family with other labels.
    Whole {
        command: Cmd,
        other: Option<Cmd>,
        fields: u64,
    },
    Pieces(Arc<Outline>),
}

/// The replies about one family.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) values: Values,
    pub(crate) epoch: Reply,
    pub(crate) ttl: Reply,
}

/// The values of a family, as the server has sent them.
#[derive(Debug)]
pub(crate) enum Values {
    Whole(Reply),
    Pieces(Arc<Outline>, Vec<Reply>),
}

impl Request {
    /// Makes a request that reads a key with a command, or with the `other` one if the key has another type. There are
    /// about this many `fields` to read.
    pub(crate) fn whole(key: &str, command: Cmd, other: Option<Cmd>, fields: u64) -> Self {
        Self { read: Read::Whole { command, other, fields }, after: after(key) }
    }

    /// Makes a request that reads the fields of an outline.
    pub(crate) fn pieces(key: &str, outline: Arc<Outline>) -> Self {
        Self { read: Read::Pieces(outline), after: after(key) }
    }

    /// Returns the command for the case that the key is not of the type that was expected.
    pub(crate) fn for_other_type(&self) -> Option<&Cmd> {
        match &self.read {
            Read::Whole { other, .. } => other.as_ref(),
            Read::Pieces(_) => None,
        }
    }

    /// Adds the commands.
    pub(crate) fn send<'request>(&'request self, groups: &mut Groups<'request>) {
        match &self.read {
            Read::Whole { command, fields, .. } => groups.add(command, *fields),
            Read::Pieces(outline) => {
                outline.commands().for_each(|(command, fields)| groups.add(command, fields as u64));
            }
        }
        self.after.iter().for_each(|command| groups.add(command, 1));
    }

    /// Takes the replies to the commands.
    pub(crate) fn take(&self, replies: &mut impl Iterator<Item = Reply>) -> Answer {
        let values = match &self.read {
            Read::Whole { .. } => Values::Whole(replies.next().unwrap_or_default()),
            Read::Pieces(outline) => {
                let count = outline.commands().count();
                Values::Pieces(Arc::clone(outline), replies.take(count).collect())
            }
        };
        let mut next = || replies.next().unwrap_or_default();
        Answer { values, epoch: next(), ttl: next() }
    }
}

fn after(key: &str) -> [Cmd; 2] {
    [command("HGET", &[&layout::writers_key(key), epoch::FIELD]), command("TTL", &[key])]
}

/// Commands in groups, of which each keeps the server busy for a short time only.
#[derive(Debug, Default)]
pub(crate) struct Groups<'commands> {
    groups: Vec<Vec<&'commands Cmd>>,
    /// How many fields the last group reads.
    fields: u64,
}

impl<'commands> Groups<'commands> {
    /// Adds a command that reads this many fields.
    pub(crate) fn add(&mut self, command: &'commands Cmd, fields: u64) {
        match self.groups.last_mut() {
            Some(group) if self.fields + fields <= MOST_AT_ONCE => {
                group.push(command);
                self.fields += fields;
            }
            _ => {
                self.groups.push(vec![command]);
                self.fields = fields;
            }
        }
    }

    pub(crate) fn get(&self) -> &[Vec<&'commands Cmd>] {
        &self.groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_reads_no_more_fields_than_one_large_command() {
        let get = redis::cmd("HGETALL");
        let mut groups = Groups::default();
        for fields in [1, MOST_AT_ONCE - 1, 1, 3 * MOST_AT_ONCE, 0, 2] {
            groups.add(&get, fields);
        }
        let sizes: Vec<_> = groups.get().iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
    }
}
