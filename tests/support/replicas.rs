//! A master with two replicas. The test can cut the link of a replica, so that it lags behind, and make it
//! the master. Clients connect through a proxy that the test directs to the present master, as a virtual
//! address or a name does.

use super::proxy::{Direction, Proxy};
use super::{Server, wait_until};

/// Three servers, the links of the replicas, and the proxy for clients.
pub struct Replicas {
    pub master: Server,
    pub replicas: [Server; 2],
    links: [Proxy; 2],
    pub front: Proxy,
}

impl Replicas {
    /// Starts a master and two replicas, and waits until both are up to date.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts the servers with extra arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        // A full copy begins at once, and not after five seconds.
        let arguments: Vec<&str> =
            ["--repl-diskless-sync-delay", "0"].iter().chain(arguments).copied().collect();
        let master = Server::start_with(&arguments);
        let replicas = [Server::start_with(&arguments), Server::start_with(&arguments)];
        let links = [Proxy::start(master.port()), Proxy::start(master.port())];
        for (replica, link) in replicas.iter().zip(&links) {
            replica.run_words::<()>(&format!("REPLICAOF 127.0.0.1 {}", link.port()));
        }
        let front = Proxy::start(master.port());
        let started = Self { master, replicas, links, front };
        wait_until("both replicas are online", || {
            started.master.run_words::<String>("INFO replication").matches("state=online").count() == 2
        });
        started
    }

    /// Returns all three servers.
    pub fn all(&self) -> [&Server; 3] {
        [&self.master, &self.replicas[0], &self.replicas[1]]
    }

    /// Cuts the links: nothing that the master applies from now on reaches the replicas. The master believes
    /// that the replicas are connected.
    pub fn cut(&self) {
        self.links.iter().for_each(|link| link.hold(Direction::Reply));
    }

    /// Cuts the link of one replica.
    pub fn cut_one(&self, index: usize) {
        self.links[index].hold(Direction::Reply);
    }

    /// Mends the links.
    pub fn mend(&self) {
        self.links.iter().for_each(Proxy::release);
    }

    /// Makes a replica the master, and directs new connections of clients to it.
    pub fn promote(&self, index: usize) {
        self.replicas[index].run_words::<()>("REPLICAOF NO ONE");
        self.front.redirect(self.replicas[index].port());
    }

    /// Makes the old master a replica of the new one, as Sentinel does. It then refuses writes.
    pub fn depose(&self, index: usize) {
        self.master.run_words::<()>(&format!("REPLICAOF 127.0.0.1 {}", self.replicas[index].port()));
    }
}
