//! A Redis Cluster on loopback: its nodes, and the moving of slots between them.

use redis::FromRedisValue;

use super::writers::Values;
use super::{Server, free_port, wait_until};

/// The user as whom replicas log in to their masters.
const REPLICA: &str = "replica";

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// The nodes: first the masters, then a replica of each if there are replicas.
pub struct Cluster {
    pub nodes: Vec<Server>,
    masters: usize,
}

impl Cluster {
    /// Starts three masters with a replica each.
    pub fn start() -> Self {
        Self::start_with(3, true, &[])
    }

    /// Starts so many masters, with extra arguments of all nodes.
    pub fn start_with(masters: usize, has_replicas: bool, arguments: &[&str]) -> Self {
        Self::start_by(masters, has_replicas, arguments, None)
    }

    /// Starts masters that speak TLS to clients and to each other, at ports of their own. Returns these, too.
    pub fn start_tls(masters: usize, arguments: &[&str]) -> (Self, Vec<u16>) {
        let ports: Vec<u16> = (0..masters).map(|_| free_port()).collect();
        (Self::start_by(masters, false, arguments, Some(&ports)), ports)
    }

    fn start_by(masters: usize, has_replicas: bool, arguments: &[&str], tls_ports: Option<&[u16]>) -> Self {
        let count = if has_replicas { 2 * masters } else { masters };
        let nodes: Vec<Server> = (0..count)
            .map(|index| {
                let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
                // A full copy begins at once, and not after five seconds.
                let copy =
                    ["--repl-diskless-sync-delay", "0", "--masteruser", REPLICA, "--masterauth", "secret"];
                let tls_port = tls_ports.map(|ports| ports[index].to_string());
                let tls: Vec<&str> = match &tls_port {
                    Some(port) => {
                        vec!["--tls-port", port, "--tls-cluster", "yes", "--tls-replication", "yes"]
                    }
                    None => Vec::new(),
                };
                let all: Vec<&str> = own.iter().chain(&tls).chain(&copy).chain(arguments).copied().collect();
                Server::start_with(&all)
            })
            .collect();
        let cluster = Self { nodes, masters };
        for node in &cluster.nodes {
            node.run_words::<()>(&format!("ACL SETUSER {REPLICA} on >secret ~* &* +@all"));
        }
        let first = &cluster.nodes[0];
        for (index, node) in cluster.nodes.iter().enumerate().skip(1) {
            // Nodes that speak TLS to each other know each other by the ports for TLS.
            let port = tls_ports.map_or(node.port(), |ports| ports[index]);
            first.run_words::<()>(&format!("CLUSTER MEET 127.0.0.1 {port}"));
        }
        let share = SLOTS.div_ceil(masters);
        for (index, node) in cluster.nodes[..masters].iter().enumerate() {
            let slots = index * share..((index + 1) * share).min(SLOTS);
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            node.run_words::<()>(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
        }
        for node in &cluster.nodes {
            wait_until("all nodes know each other", || {
                let known: String = node.run_words("CLUSTER NODES");
                known.lines().filter(|line| !line.contains("handshake")).count() == count
            });
        }
        if has_replicas {
            for index in 0..masters {
                let id = cluster.id(index);
                cluster.nodes[masters + index].run_words::<()>(&format!("CLUSTER REPLICATE {id}"));
            }
            for master in &cluster.nodes[..masters] {
                wait_until("the replica is online", || {
                    master.run_words::<String>("INFO replication").contains("state=online")
                });
            }
        }
        for node in &cluster.nodes {
            wait_until("the cluster is up", || {
                node.run_words::<String>("CLUSTER INFO").contains("cluster_state:ok")
            });
        }
        cluster
    }

    /// Returns the store URL, which names the first two nodes.
    pub fn url(&self, options: &str) -> String {
        let [first, second] = [&self.nodes[0], &self.nodes[1]].map(Server::port);
        format!("redis-cluster://127.0.0.1:{first},127.0.0.1:{second}/?{options}")
    }

    /// Keeps the replicas of a master from what it applies from now on.
    pub fn part_from_replicas(&self, master: usize) {
        self.nodes[master].run_words::<()>(&format!("ACL SETUSER {REPLICA} off"));
        self.nodes[master].run_words::<()>("CLIENT KILL TYPE replica");
    }

    fn id(&self, index: usize) -> String {
        self.nodes[index].run_words("CLUSTER MYID")
    }

    /// Returns the slot of a key.
    pub fn slot(&self, key: &str) -> usize {
        self.nodes[0].run_command(&["CLUSTER", "KEYSLOT", key])
    }

    /// Returns the index of the master that serves a slot.
    pub fn owner(&self, slot: usize) -> usize {
        self.owners()[slot]
    }

    /// Returns the index of the master of each slot.
    fn owners(&self) -> Vec<usize> {
        let ranges: Vec<Vec<redis::Value>> = self.nodes[0].run_words("CLUSTER SLOTS");
        let number = |value: &redis::Value| usize::from_redis_value_ref(value).unwrap();
        let mut owners = vec![usize::MAX; SLOTS];
        for range in ranges {
            let master: Vec<redis::Value> = Vec::from_redis_value_ref(&range[2]).unwrap();
            owners[number(&range[0])..=number(&range[1])].fill(self.index_of(number(&master[1]) as u16));
        }
        owners
    }

    fn index_of(&self, port: u16) -> usize {
        self.nodes.iter().position(|node| node.port() == port).expect("one of the nodes")
    }

    /// Begins to move a slot.
    pub fn begin_move(&self, slot: usize, to: usize) {
        let from = self.owner(slot);
        let (from_id, to_id) = (self.id(from), self.id(to));
        self.nodes[to].run_words::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        self.nodes[from].run_words::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    }

    /// Moves one key of a slot that is being moved.
    pub fn move_key(&self, key: &str, from: usize, to: usize) {
        let port = self.nodes[to].port().to_string();
        self.nodes[from].run_command::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Moves slots, key by key, to another master.
    pub fn move_slots(&self, slots: &[usize], to: usize) {
        let port = self.nodes[to].port().to_string();
        let mut connections: Vec<_> = self.nodes[..self.masters].iter().map(Server::connection).collect();
        let mut owners = self.owners();
        let ids: Vec<String> = (0..self.masters).map(|index| self.id(index)).collect();
        for &slot in slots {
            let from = std::mem::replace(&mut owners[slot], to);
            if from == to {
                continue;
            }
            let set = |connection: &mut redis::Connection, what: &[&str]| {
                let command = redis::cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(what).clone();
                // Valkey 8 asks its replicas first, which may be late.
                wait_until("the node takes the slot", || match command.query::<()>(connection) {
                    Err(error) if error.code() == Some("NOREPLICAS") => false,
                    reply => reply.map(|()| true).unwrap(),
                });
            };
            set(&mut connections[to], &["IMPORTING", &ids[from]]);
            set(&mut connections[from], &["MIGRATING", &ids[to]]);
            loop {
                let mut keys = redis::cmd("CLUSTER");
                keys.arg("GETKEYSINSLOT").arg(slot).arg(10);
                let keys: Vec<String> = keys.query(&mut connections[from]).unwrap();
                if keys.is_empty() {
                    break;
                }
                for key in keys {
                    let mut command = redis::cmd("MIGRATE");
                    command.arg("127.0.0.1").arg(&port).arg(&key).arg(0).arg(5_000);
                    command.query::<()>(&mut connections[from]).unwrap();
                }
            }
            for index in
                [to, from].into_iter().chain((0..self.masters).filter(|&index| index != to && index != from))
            {
                set(&mut connections[index], &["NODE", &ids[to]]);
            }
        }
    }

    /// Runs a command about a key at the node that serves the key.
    fn at_node<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut answer = None;
        wait_until("a node serves the key", || {
            answer = self.nodes.iter().filter(|node| node.is_running()).find_map(|node| {
                let client = redis::Client::open(format!("redis://127.0.0.1:{}/", node.port())).ok()?;
                let mut connection =
                    client.get_connection_with_timeout(std::time::Duration::from_millis(500)).ok()?;
                redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).ok()
            });
            answer.is_some()
        });
        answer.unwrap()
    }
}

impl Values for Cluster {
    fn field(&self, key: &str, field: &str) -> f64 {
        self.at_node::<Option<String>>(&["HGET", key, field]).map_or(0.0, |text| text.parse().unwrap())
    }

    fn value(&self, key: &str) -> f64 {
        self.at_node::<Option<String>>(&["GET", key]).map_or(0.0, |text| text.parse().unwrap())
    }
}
