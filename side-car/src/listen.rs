//! Where `serve` listens: at an address and a port, at the path of a Unix socket, or on the socket of systemd.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pytheus_backend_rs::Listener;
use socket2::{Domain, SockAddr, Type};

use crate::failure::Failure;

const EXPECTED: &str =
    "expected HOST:PORT, as in 127.0.0.1:9464, [::1]:9464 or :9464, or unix: and an absolute path";

/// How many connections may wait to be accepted: as many as for a port.
const BACKLOG: i32 = 128;

/// A place that a command line can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    /// Reads `HOST:PORT` or `unix:/path`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = || EXPECTED.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into())).ok_or_else(expected);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        let host: IpAddr = match host {
            "" => Ipv4Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => return text.parse().map(Self::Tcp).map_err(|_| expected()),
        };
        Ok(Self::Tcp((host, port).into()))
    }
}

/// A socket that listens. Dropping it removes the path at which it has opened a Unix socket.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: Listener,
    /// The path, and device and inode of what is there.
    made: Option<(PathBuf, (u64, u64))>,
}

impl From<Listener> for Socket {
    fn from(listener: Listener) -> Self {
        Self { listener, made: None }
    }
}

impl Socket {
    /// Starts to listen. `mode` is the permissions of a Unix socket: who may write to it may connect.
    pub(crate) fn open(place: &Place, mode: u32) -> Result<Self, Failure> {
        let failed = |shown: &dyn std::fmt::Display, error: io::Error| {
            Failure::failed(format!("cannot serve metrics on {shown}: {error}"))
        };
        match place {
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(|error| failed(address, error))?;
                Ok(Listener::Tcp(listener).into())
            }
            Place::Unix(path) => Self::open_at(path, mode).map_err(|error| failed(&path.display(), error)),
        }
    }

    fn open_at(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = unix_socket()?;
        socket.bind(&SockAddr::unix(path)?)?;
        let made = Some((path.to_owned(), identity(path)?));
        let opened = Self { listener: Listener::Unix(socket.try_clone()?.into()), made };
        // Nobody can connect before it listens.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        Ok(opened)
    }

    /// Returns a copy of the socket. Clients that connect get to either.
    pub(crate) fn try_clone(&self) -> io::Result<Listener> {
        Ok(match &self.listener {
            Listener::Tcp(listener) => Listener::Tcp(listener.try_clone()?),
            Listener::Unix(listener) => Listener::Unix(listener.try_clone()?),
        })
    }

    /// Returns the URL of the metrics, or `unix:` and the path of the socket.
    pub(crate) fn shown(&self, is_tls: bool) -> String {
        let scheme = if is_tls { "https" } else { "http" };
        match &self.listener {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map(|address| format!("{scheme}://{address}/metrics"))
                .unwrap_or_default(),
            Listener::Unix(listener) => {
                let address = listener.local_addr();
                let path = address.ok().and_then(|address| address.as_pathname().map(Path::to_owned));
                format!("unix:{}", path.unwrap_or_default().display())
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another process may have replaced what is there.
        if let Some((path, made)) = &self.made
            && identity(path).is_ok_and(|found| found == *made)
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes a socket at which no process listens any more, such as one that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    let socket = unix_socket()?;
    // A process that takes no connections must not keep this one waiting.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?).map_err(|error| (error.kind(), error)) {
        Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => Err(io::Error::other("another process serves there")),
        Err((io::ErrorKind::ConnectionRefused, _)) => fs::remove_file(path),
        Err((_, error)) => Err(error),
    }
}

fn unix_socket() -> io::Result<socket2::Socket> {
    socket2::Socket::new(Domain::UNIX, Type::STREAM, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port_or_the_path_of_a_socket() {
        let tcp = |text: &str| Place::Tcp(text.parse().unwrap());
        assert_eq!(Place::parse("127.0.0.1:9464").unwrap(), tcp("127.0.0.1:9464"));
        assert_eq!(Place::parse("[::1]:0").unwrap(), tcp("[::1]:0"));
        assert_eq!(Place::parse("localhost:80").unwrap(), tcp("127.0.0.1:80"));
        assert_eq!(Place::parse(":9464").unwrap(), tcp("0.0.0.0:9464"));
        assert_eq!(Place::parse("unix:/run/m:1").unwrap(), Place::Unix("/run/m:1".into()));
        let bad = ["", "9464", "127.0.0.1", "host:", "host:80", "host:65536", "::1:9464", "127.0.0.1:-1"];
        for bad in bad.into_iter().chain(["unix:", "unix:m", "Unix:/m"]) {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
