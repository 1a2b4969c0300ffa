//! Which node of a cluster serves which hash slot.

use redis::Value;

use super::hash_slot::SLOTS;
use super::options::Address;
use super::reply::text;

/// The masters of a cluster, and the slots that they serve, as far as known.
#[derive(Debug)]
pub(crate) struct SlotMap {
    nodes: Vec<Address>,
    /// The replicas of each node.
    replicas: Vec<Vec<Address>>,
    /// For each slot the index of its node, if a node serves it.
    by_slot: Vec<Option<u16>>,
}

impl Default for SlotMap {
    fn default() -> Self {
        Self { nodes: Vec::new(), replicas: Vec::new(), by_slot: vec![None; usize::from(SLOTS)] }
    }
}

impl SlotMap {
    /// Reads the reply to `CLUSTER SLOTS` of the node at `asked`. `None` if it is no such reply.
    pub(crate) fn read(reply: Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let mut map = Self::default();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let mut parts = parts.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last))) = (parts.next(), parts.next()) else {
                return None;
            };
            let node = map.index_of(place_of(parts.next()?, asked)?);
            if let Some(replicas) = map.replicas.get_mut(usize::from(node)) {
                *replicas = parts.filter_map(|replica| place_of(replica, asked)).collect();
            }
            let slots = usize::try_from(first).ok()?..=usize::try_from(last).ok()?;
            map.by_slot.get_mut(slots)?.fill(Some(node));
        }
        Some(map)
    }

    /// Returns the node that serves a slot.
    pub(crate) fn node(&self, slot: u16) -> Option<&Address> {
        let index = self.by_slot.get(usize::from(slot)).copied().flatten()?;
        self.nodes.get(usize::from(index))
    }

    /// Returns the replicas of a node.
    pub(crate) fn replicas(&self, node: &Address) -> &[Address] {
        let index = self.nodes.iter().position(|known| known == node);
        index.and_then(|index| self.replicas.get(index)).map_or(&[], Vec::as_slice)
    }

    /// Returns all nodes.
    pub(crate) fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// Returns the nodes that serve these slots.
    pub(crate) fn serving(&self, slots: impl Iterator<Item = u16>) -> Vec<Address> {
        let mut serves = vec![false; self.nodes.len()];
        for index in slots.filter_map(|slot| self.by_slot.get(usize::from(slot)).copied().flatten()) {
            if let Some(serves) = serves.get_mut(usize::from(index)) {
                *serves = true;
            }
        }
        let serving = self.nodes.iter().zip(serves).filter(|(_, serves)| *serves);
        serving.map(|(address, _)| address.clone()).collect()
    }

    /// Notes that a node serves a slot.
    pub(crate) fn set(&mut self, slot: u16, node: Address) {
        let index = self.index_of(node);
        if let Some(entry) = self.by_slot.get_mut(usize::from(slot)) {
            *entry = Some(index);
        }
    }

    fn index_of(&mut self, node: Address) -> u16 {
        let found = self.nodes.iter().position(|known| *known == node);
        let index = found.unwrap_or_else(|| {
            self.nodes.push(node);
            self.replicas.push(Vec::new());
            self.nodes.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }
}

/// Where a redirection leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Redirection {
    pub(crate) slot: u16,
    pub(crate) node: Address,
}

impl Redirection {
    /// Reads the details of a `MOVED` or an `ASK` from the node at `asked`, as in `3999 127.0.0.1:6381`.
    pub(crate) fn read(details: &str, asked: &Address) -> Option<Self> {
        let mut words = details.split_whitespace();
        let slot = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        // Some servers add a port of the cluster's own protocol, or a host name behind a comma.
        let port = port.split(['@', ',']).next()?.parse().ok()?;
        Some(Self { slot, node: place(Some(host), port, asked)? })
    }
}

/// Returns the address of a node in a reply to `CLUSTER SLOTS`.
fn place_of(node: Value, asked: &Address) -> Option<Address> {
    let Value::Array(node) = node else { return None };
    let mut node = node.into_iter();
    let host = node.next().and_then(text);
    let Some(Value::Int(port)) = node.next() else { return None };
    place(host.as_deref(), u16::try_from(port).ok()?, asked)
}

/// Returns the address of a node. A node that does not know its host, or is known by the connection only, is at
/// the host that was asked.
fn place(host: Option<&str>, port: u16, asked: &Address) -> Option<Address> {
    let host = match host.map(|host| host.trim_start_matches('[').trim_end_matches(']')) {
        None | Some("" | "?") => asked.host_and_port()?.0,
        Some(host) => host,
    };
    Some(Address::Tcp { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node =
            |host, port| Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(Vec::new())]);
        let replica = node(bulk("10.0.0.9"), port);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), replica])
    }

    #[test]
    fn hosts_that_a_node_does_not_know_are_the_one_that_was_asked() {
        let reply = Value::Array(vec![
            range(0, 99, bulk(""), 1),
            range(100, 199, Value::Nil, 2),
            range(200, 299, bulk("?"), 3),
            range(300, 16_383, bulk("10.0.0.4"), 4),
        ]);
        let map = SlotMap::read(reply, &address("asked", 9)).unwrap();
        for (slot, host, port) in
            [(0, "asked", 1), (199, "asked", 2), (200, "asked", 3), (16_383, "10.0.0.4", 4)]
        {
            assert_eq!(map.node(slot), Some(&address(host, port)));
        }
        assert_eq!(map.nodes().len(), 4);
        assert_eq!(map.replicas(&address("asked", 3)), [address("10.0.0.9", 3)]);
    }

    #[test]
    fn a_reply_that_is_none_is_refused_and_slots_may_have_no_node() {
        let asked = address("asked", 9);
        let short = Value::Array(vec![range(5, 9, bulk("h"), 1)]);
        let map = SlotMap::read(short, &asked).unwrap();
        assert_eq!((map.node(4), map.node(5)), (None, Some(&address("h", 1))));
        for bad in [
            Value::Okay,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(9, 16_384, bulk("h"), 1)]),
            Value::Array(vec![range(-1, 2, bulk("h"), 1)]),
            Value::Array(vec![range(1, 2, bulk("h"), 70_000)]),
        ] {
            assert!(SlotMap::read(bad, &asked).is_none());
        }
    }

    #[test]
    fn redirections_are_read_in_every_form() {
        let asked = address("asked", 9);
        for (details, host) in [
            ("7 10.0.0.1:6381", "10.0.0.1"),
            ("7 ::1:6381", "::1"),
            ("7 [::1]:6381", "::1"),
            ("7 :6381", "asked"),
            ("7 ?:6381", "asked"),
            ("7 host:6381@16381", "host"),
        ] {
            let expected = Redirection { slot: 7, node: address(host, 6381) };
            assert_eq!(Redirection::read(details, &asked), Some(expected), "{details}");
        }
        for bad in ["", "x h:1", "7", "7 h", "7 h:x"] {
            assert_eq!(Redirection::read(bad, &asked), None, "{bad}");
        }
    }
}
