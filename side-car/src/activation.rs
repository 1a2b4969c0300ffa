//! The listening socket that systemd passes to `serve` (socket activation).
//!
//! The protocol is that of sd_listen_fds(3): the environment names the process that the sockets are for, and
//! their number. The first one is descriptor 3.

#![allow(unsafe_code)]

use std::env;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::process;

use crate::failure::Failure;

/// The first descriptor that systemd passes.
const FIRST: RawFd = 3;

/// Returns the socket that systemd has passed to this process. `None`: it has passed none.
///
/// Call it once, before anything opens a descriptor.
pub(crate) fn listener() -> Result<Option<TcpListener>, Failure> {
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
    let listener = unsafe { TcpListener::from_raw_fd(FIRST) };
    match listener.local_addr() {
        Ok(_) => Ok(Some(listener)),
        Err(error) => Err(Failure::usage(format!(
            "systemd has passed a socket that is not one of TCP: expected an address and a port as ListenStream in \
             the socket unit: {error}"
        ))),
    }
}
