//! Where metrics are served.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `127.0.0.1:9199`, `[::1]:9199`; the port is not 0.
    Tcp(SocketAddr),
    /// `unix:/run/pcc/metrics.sock`; absolute, short enough for a socket.
    Unix(PathBuf),
}

impl Listen {
    /// What can be written, for hints.
    pub const HINT: &str =
        "an address with a port or a socket: `127.0.0.1:9199`, `[::1]:9199`, `unix:/run/pcc/metrics.sock`";
    /// `sun_path` without the terminating zero.
    const PATH_LENGTH: usize = 107;
}

impl FromStr for Listen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path);
            let names_file = path.is_absolute() && path.file_name().is_some() && !text.ends_with('/');
            let fits = path.as_os_str().len() <= Self::PATH_LENGTH && !text.contains('\0');
            return if names_file && fits { Ok(Self::Unix(path.to_owned())) } else { Err(()) };
        }
        let address = text.parse::<SocketAddr>().map_err(|_| ())?;
        if address.port() == 0 { Err(()) } else { Ok(Self::Tcp(address)) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sockets_are_read_as_they_print() {
        for text in ["127.0.0.1:9199", "[::1]:9199", "0.0.0.0:1", "unix:/run/pcc/metrics.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_nobody_could_listen_at_is_refused() {
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            "9199",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "localhost:9199",
            "unix:",
            "unix:a.sock",
            "unix:/run/",
            "unix:/",
            &long,
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
        assert!(format!("unix:/{}", "x".repeat(106)).parse::<Listen>().is_ok());
    }
}
