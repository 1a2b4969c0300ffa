//! Three Sentinels that watch a master with two replicas.

use super::replicas::Replicas;
use super::{Server, wait_until};

/// The user as whom the Sentinels log in to the servers. Without it they take a server for dead.
const USER: &str = "sentinel";

/// The servers, and the Sentinels that decide which of them is the master of the service "mymaster".
pub struct Trio {
    pub servers: Replicas,
    pub sentinels: [Server; 3],
}

impl Trio {
    /// Starts everything, and waits until the Sentinels know each other and the replicas.
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// Starts everything, with extra arguments of the servers and of the Sentinels.
    pub fn start_with(servers: &[&str], sentinels: &[&str]) -> Self {
        let servers = Replicas::start_with(servers);
        for server in servers.all() {
            server.run_words::<()>(&format!("ACL SETUSER {USER} on >secret ~* &* +@all"));
        }
        let arguments: Vec<&str> = ["--sentinel"].iter().chain(sentinels).copied().collect();
        let sentinels = [0; 3].map(|_| Server::start_with(&arguments));
        // The first Sentinel notices first and asks the others for their votes. If all noticed at the same time,
        // they might all ask, and would have to wait before they ask again.
        for (sentinel, patience) in sentinels.iter().zip(["2000", "8000", "16000"]) {
            let port = servers.master.port();
            sentinel.run_words::<()>(&format!("SENTINEL MONITOR mymaster 127.0.0.1 {port} 1"));
            sentinel.run_words::<()>(&format!("SENTINEL SET mymaster down-after-milliseconds {patience}"));
            for option in [
                // How long a replica may lag behind before it is told to follow the master itself, and how long
                // the old master is left alone.
                "failover-timeout 20000",
                "parallel-syncs 2",
                "auth-user sentinel",
                "auth-pass secret",
            ] {
                sentinel.run_words::<()>(&format!("SENTINEL SET mymaster {option}"));
            }
        }
        let trio = Self { servers, sentinels };
        for sentinel in &trio.sentinels {
            wait_until("the Sentinels know everything", || {
                let info: String = sentinel.run_words("INFO sentinel");
                info.contains("status=ok") && info.contains("slaves=2,sentinels=3")
            });
        }
        trio
    }

    /// Returns the store URL.
    pub fn url(&self, options: &str) -> String {
        let ports: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis-sentinel://{}/mymaster?{options}", ports.join(","))
    }

    /// Returns the port of the master, as the first Sentinel says.
    pub fn master_port(&self) -> u16 {
        let named: (String, u16) = self.sentinels[0].run_words("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster");
        named.1
    }

    /// Returns the server at this port.
    pub fn at(&self, port: u16) -> &Server {
        self.servers.all().into_iter().find(|server| server.port() == port).expect("one of the three")
    }

    /// Waits until the Sentinels name another master than the one at `port`, and returns its port.
    pub fn await_another_than(&self, port: u16) -> u16 {
        wait_until("another master is named", || self.master_port() != port);
        self.master_port()
    }

    /// Lets the Sentinels promote a replica, although the master is well.
    pub fn fail_over(&self) {
        // Refused while an earlier failover is not finished.
        wait_until("a failover is accepted", || {
            let mut command = redis::cmd("SENTINEL");
            command.arg(&["FAILOVER", "mymaster"]);
            command.query::<()>(&mut self.sentinels[0].connection()).is_ok()
        });
    }

    /// Keeps the Sentinels away from the master, which existing clients still reach. A Sentinel that may not
    /// log in goes on as the default user, who may then do nothing of what a Sentinel does.
    pub fn part_from_master(&self) {
        let master = &self.servers.master;
        master.run_words::<()>(&format!("ACL SETUSER {USER} off"));
        master.run_words::<()>(&format!("CLIENT KILL USER {USER}"));
        // Redis 6.2 cannot forbid CLIENT KILL alone.
        master.run_words::<()>(
            "ACL SETUSER default -ping -info -multi -slaveof -replicaof -client +client|setname +client|list",
        );
    }
}
