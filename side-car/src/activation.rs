//! The listening socket that systemd passes to `serve` (socket activation).
//!
//! The protocol is that of sd_listen_fds(3): the environment names the process that the sockets are for, and
//! their number. The first one is descriptor 3.

#![allow(unsafe_code)]

use std::env;
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::process;

use pytheus_backend_rs::Listener;
use socket2::{Socket, Type};

use crate::failure::Failure;

/// The first descriptor that systemd passes.
const FIRST: RawFd = 3;

/// Returns the socket that systemd has passed to this process. `None`: it has passed none.
///
/// Call it once, before anything opens a descriptor.
pub(crate) fn listener() -> Result<Option<Listener>, Failure> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(process::id())) {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(count) => {
            return Err(Failure::usage(format!(
                "systemd has passed {count} sockets: expected one, so one ListenStream in the socket unit"
            )));
        }
    }
    // SAFETY: the environment says that systemd has opened this descriptor for this process, and nothing else
    // here uses it.
    let socket = unsafe { Socket::from_raw_fd(FIRST) };
    match fault(&socket) {
        Ok(None) if socket.local_addr().is_ok_and(|address| address.is_unix()) => {
            Ok(Some(Listener::Unix(socket.into())))
        }
        Ok(None) => Ok(Some(Listener::Tcp(socket.into()))),
        Ok(Some(fault)) => Err(Failure::usage(format!("systemd has passed {fault} in the socket unit"))),
        Err(error) => {
            Err(Failure::usage(format!("systemd has passed a descriptor that is no socket: {error}")))
        }
    }
}

/// Returns what is wrong with a socket, and what the socket unit must say instead.
fn fault(socket: &Socket) -> io::Result<Option<String>> {
    let (local, kind) = (socket.local_addr()?, socket.r#type()?);
    let address = local.as_socket().map(|address| format!(" ({address})")).unwrap_or_default();
    let is_of_internet = local.as_socket().is_some();
    let kind_of_stream = if is_of_internet { "TCP" } else { "Unix" };
    Ok(if kind != Type::STREAM {
        let name = match kind {
            Type::DGRAM if is_of_internet => "a UDP socket",
            Type::DGRAM => "a datagram socket",
            _ => "a socket that is no stream",
        };
        Some(format!("{name}{address}: expected ListenStream"))
    } else if !is_of_internet && !local.is_unix() {
        Some("a socket that is neither of TCP nor of Unix: expected ListenStream".to_owned())
    } else if !listens(socket)? {
        Some(format!(
            "a {kind_of_stream} socket{address} that does not listen, such as a connection: expected Accept=no"
        ))
    } else {
        None
    })
}

#[cfg(target_os = "linux")]
fn listens(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// There is no systemd elsewhere.
#[cfg(not(target_os = "linux"))]
fn listens(_: &Socket) -> io::Result<bool> {
    Ok(true)
}
