//! A TCP proxy in front of a server that breaks connections in chosen ways: it cuts them at a byte, swallows
//! replies, holds data back, or answers garbage. It knows nothing of Redis.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::free_port;

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

#[derive(Debug, Default)]
struct Plan {
    /// The port of the server that new connections go to.
    server_port: u16,
    ended: bool,
    refuses: bool,
    /// The number of bytes that passed, by direction.
    passed: [usize; 2],
    /// Planned cuts: the direction, and the bytes that still pass before the cut.
    cuts: Vec<(Direction, usize)>,
    /// The number of cuts so far.
    cuts_done: usize,
    /// The direction that is held back.
    held: Option<Direction>,
    /// The last connection that is held back.
    held_up_to: u64,
    /// The number of bytes that are held back or were swallowed.
    held_back: usize,
    /// The number of connections whose next reply, and all later ones, are swallowed.
    swallow: usize,
    swallowed: Vec<u64>,
    /// Answers that replace the next replies.
    rubbish: Vec<Vec<u8>>,
    /// The answer that replaces all replies after that.
    refrain: Option<Vec<u8>>,
    /// Connections up to this number are silently dead.
    dead_up_to: u64,
    connections: u64,
    streams: Vec<TcpStream>,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    changed: Condvar,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }
}

/// A proxy with its own port.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy in front of the server at `server_port`.
    pub fn start(server_port: u16) -> Self {
        let (port, listener) = loop {
            let port = free_port();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                break (port, listener);
            }
        };
        let shared = Arc::new(Shared::default());
        shared.plan().server_port = server_port;
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &for_thread));
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the store URL through the proxy.
    pub fn url(&self, options: &str) -> String {
        format!("redis://127.0.0.1:{}/?{options}", self.port)
    }

    /// Connects new connections to another server. Existing ones stay as they are.
    pub fn redirect(&self, server_port: u16) {
        self.shared.plan().server_port = server_port;
    }

    /// Ends all connections.
    pub fn end_connections(&self) {
        for stream in std::mem::take(&mut self.shared.plan().streams) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns the number of bytes that have passed.
    pub fn passed(&self, direction: Direction) -> usize {
        self.shared.plan().passed[direction as usize]
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.plan().connections
    }

    /// Plans to cut the connection in use after `bytes` more in the direction. Several cuts are made one
    /// after another.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        self.shared.plan().cuts.push((direction, bytes));
    }

    /// Returns the number of cuts so far.
    pub fn cuts_done(&self) -> usize {
        self.shared.plan().cuts_done
    }

    /// Cancels the remaining cuts.
    pub fn forget_cuts(&self) {
        self.shared.plan().cuts.clear();
    }

    /// Swallows the next reply and all later ones on the same connection.
    pub fn swallow_reply(&self) {
        self.shared.plan().swallow += 1;
    }

    /// Holds back the bytes of a direction on all connections.
    pub fn hold(&self, direction: Direction) {
        let mut plan = self.shared.plan();
        plan.held = Some(direction);
        plan.held_up_to = u64::MAX;
    }

    /// Holds back the bytes of a direction on the existing connections, but not on new ones.
    pub fn hold_connections(&self, direction: Direction) {
        let mut plan = self.shared.plan();
        plan.held = Some(direction);
        plan.held_up_to = plan.connections;
    }

    /// Returns the number of bytes that are held back or were swallowed.
    pub fn held_back(&self) -> usize {
        self.shared.plan().held_back
    }

    /// Releases all bytes.
    pub fn release(&self) {
        self.shared.plan().held = None;
        self.shared.changed.notify_all();
    }

    /// Replaces the next reply by `bytes`.
    pub fn answer(&self, bytes: &[u8]) {
        self.shared.plan().rubbish.push(bytes.to_vec());
    }

    /// Replaces every reply by `bytes` from now on, or stops doing so.
    pub fn answer_all(&self, bytes: Option<&[u8]>) {
        self.shared.plan().refrain = bytes.map(<[u8]>::to_vec);
    }

    /// Returns the number of planned answers that are left.
    pub fn answers_left(&self) -> usize {
        self.shared.plan().rubbish.len()
    }

    /// Closes new connections at once, or accepts them again.
    pub fn refuse(&self, refuses: bool) {
        self.shared.plan().refuses = refuses;
    }

    /// Makes the existing connections silently dead, like a firewall that forgot them.
    pub fn forget_connections(&self) {
        let mut plan = self.shared.plan();
        plan.dead_up_to = plan.connections;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let streams = {
            let mut plan = self.shared.plan();
            plan.ended = true;
            std::mem::take(&mut plan.streams)
        };
        self.shared.changed.notify_all();
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let mut plan = shared.plan();
        if plan.ended {
            return;
        }
        if plan.refuses {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", plan.server_port)) else { continue };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        plan.connections += 1;
        let number = plan.connections;
        plan.streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        for (direction, from, to) in [
            (Direction::Request, client.try_clone().unwrap(), server.try_clone().unwrap()),
            (Direction::Reply, server, client),
        ] {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || pump(direction, number, from, to, &shared));
        }
    }
}

fn pump(direction: Direction, number: u64, mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let Some((bytes, is_cut)) = treat(direction, number, &buffer[..count], shared) else { continue };
        if to.write_all(&bytes).is_err() || is_cut {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Returns the bytes to pass on, and whether the connection ends after them. `None` passes nothing.
fn treat(direction: Direction, number: u64, bytes: &[u8], shared: &Shared) -> Option<(Vec<u8>, bool)> {
    let mut plan = shared.plan();
    if plan.held == Some(direction) && number <= plan.held_up_to {
        plan.held_back += bytes.len();
        while plan.held == Some(direction) && !plan.ended {
            plan = shared.changed.wait(plan).unwrap();
        }
    }
    if number <= plan.dead_up_to {
        plan.held_back += bytes.len();
        return None;
    }
    if direction == Direction::Reply {
        if plan.swallow > 0 && !plan.swallowed.contains(&number) {
            plan.swallow -= 1;
            plan.swallowed.push(number);
        }
        if plan.swallowed.contains(&number) {
            plan.held_back += bytes.len();
            return None;
        }
        if !plan.rubbish.is_empty() {
            return Some((plan.rubbish.remove(0), false));
        }
        if let Some(bytes) = &plan.refrain {
            return Some((bytes.clone(), false));
        }
    }
    if let Some(left) = plan.cuts.first().filter(|cut| cut.0 == direction).map(|cut| cut.1) {
        if left <= bytes.len() {
            plan.cuts.remove(0);
            plan.cuts_done += 1;
            plan.passed[direction as usize] += left;
            return Some((bytes[..left].to_vec(), true));
        }
        plan.cuts[0].1 -= bytes.len();
    }
    plan.passed[direction as usize] += bytes.len();
    Some((bytes.to_vec(), false))
}
