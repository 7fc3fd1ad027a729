//! The socket that metrics are served at.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::http;
use crate::config::Listen;
use crate::control::{self, Asked};
use crate::problem::Problem;

/// Scrapers that the kernel lets wait.
const BACKLOG: i32 = 128;
/// Lower ports want a right of their own (`net.ipv4.ip_unprivileged_port_start`).
const FIRST_FREE: u16 = 1024;

/// Where metrics are served, if anywhere. Dropping it ends that.
#[derive(Debug, Default)]
pub struct Endpoint {
    open: Option<Open>,
    /// Who knows what is served.
    asked: Option<mpsc::Sender<Asked>>,
}

#[derive(Debug)]
struct Open {
    listen: Listen,
    socket: Arc<Socket>,
    server: Option<JoinHandle<()>>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Endpoint {
    /// Listens at `listen`; nobody is served before [`Self::serve`]. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address is not of this host, or in use.
    pub fn open(listen: Option<&Listen>) -> Result<Self, Problem> {
        Ok(Self { open: listen.map(Open::at).transpose()?, asked: None })
    }

    /// Serves what `asked` answers.
    pub fn serve(&mut self, asked: mpsc::Sender<Asked>) {
        if let Some(open) = &mut self.open {
            open.serve(&asked);
        }
        self.asked = Some(asked);
    }

    /// Where metrics are served.
    pub fn listen(&self) -> Option<&Listen> {
        self.open.as_ref().map(|open| &open.listen)
    }

    /// Serves them elsewhere.
    ///
    /// # Errors
    /// As of [`Self::open`]; they are served where they were then.
    pub fn replace(&mut self, listen: Option<&Listen>) -> Result<(), Problem> {
        if self.listen() == listen {
            return Ok(());
        }
        let open = listen.map(Open::at).transpose();
        self.open = match (open, self.open.take()) {
            (Ok(open), _) => open,
            // Our own socket may be what is in the way: `127.0.0.1:9199` of `0.0.0.0:9199`.
            (Err(problem), Some(before)) => {
                let at = before.listen.clone();
                drop(before);
                listen.map(Open::at).transpose().map_err(|_| {
                    self.open = Open::at(&at).inspect_err(|problem| tracing::error!("{problem}")).ok();
                    self.resume();
                    problem
                })?
            }
            (Err(problem), None) => return Err(problem),
        };
        self.resume();
        Ok(())
    }

    fn resume(&mut self) {
        if let (Some(open), Some(asked)) = (&mut self.open, &self.asked) {
            open.serve(asked);
        }
    }
}

impl Open {
    fn at(listen: &Listen) -> Result<Self, Problem> {
        let socket = match listen {
            Listen::Tcp(address) => std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(Socket::Tcp(TcpListener::from_std(listener)?))
            }),
            Listen::Unix(path) => bind(path).map(Socket::Unix),
        };
        let socket = socket.map_err(|error| refused(listen, &error))?;
        Ok(Self { listen: listen.clone(), socket: Arc::new(socket), server: None })
    }

    fn serve(&mut self, asked: &mpsc::Sender<Asked>) {
        tracing::info!("metrics are served at {}", self.listen);
        self.server = Some(tokio::spawn(http::serve(Arc::clone(&self.socket), asked.clone())));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
        match &*self.socket {
            // The aborted task still holds the socket, and its address must be free at once.
            Socket::Tcp(listener) => drop(SockRef::from(listener).shutdown(Shutdown::Both)),
            Socket::Unix(listener) => {
                let address = listener.local_addr().ok();
                if let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }
}

/// A socket at `path` for those who may read at the control socket; one that nobody listens at any more gives way.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        fs::remove_file(path)?;
    }
    UnixListener::from_std(control::listen(path, control::group(), BACKLOG)?)
}

fn refused(listen: &Listen, error: &io::Error) -> Problem {
    let hint = match (error.kind(), listen) {
        (io::ErrorKind::AddrInUse, Listen::Tcp(address)) => {
            format!("`ss -ltnp sport = :{}` shows who has it; choose another port in `metrics`", address.port())
        }
        (io::ErrorKind::AddrInUse, Listen::Unix(path)) => {
            format!("another program has `{}`; choose another path in `metrics`", path.display())
        }
        (io::ErrorKind::AddrNotAvailable, _) => "`ip -brief address` lists the addresses of this host".to_owned(),
        (io::ErrorKind::NotFound, Listen::Unix(path)) => {
            format!("make its folder: `mkdir -p {}`", path.parent().unwrap_or(path).display())
        }
        (io::ErrorKind::PermissionDenied, Listen::Tcp(address)) if address.port() < FIRST_FREE => format!(
            "a port below {FIRST_FREE} is for a start: `pcc run` has given up that right; start it again, or choose a port from \
             {FIRST_FREE} on"
        ),
        (io::ErrorKind::PermissionDenied, Listen::Unix(path)) => format!(
            "a controller that runs may write only where root may as the owner: `ls -ld {}`",
            path.parent().unwrap_or(path).display()
        ),
        _ => Listen::HINT.to_owned(),
    };
    Problem::new(format!("metrics cannot be served at `{listen}`: {error}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::fs::MetadataExt as _;

    /// An address whose port was free a moment ago.
    fn free() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_endpoint_moves_and_stays_where_it_cannot() {
        let (asked, _rest) = mpsc::channel(1);
        let address = free();
        let (here, everywhere) = (Listen::Tcp(address), Listen::Tcp(([0, 0, 0, 0], address.port()).into()));
        let mut endpoint = Endpoint::open(Some(&here)).unwrap();
        endpoint.serve(asked);
        assert!(Endpoint::open(Some(&here)).unwrap_err().hint.contains("shows who has it"), "in use");
        tokio::task::yield_now().await;
        endpoint.replace(Some(&everywhere)).unwrap();
        assert_eq!(endpoint.listen(), Some(&everywhere));
        assert!(TcpStream::connect(address).is_ok(), "the same port of more addresses");

        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        endpoint.replace(Some(&Listen::Tcp(taken.local_addr().unwrap()))).unwrap_err();
        assert_eq!(endpoint.listen(), Some(&everywhere));
        assert!(TcpStream::connect(address).is_ok(), "what is served goes on");
        endpoint.replace(None).unwrap();
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn who_lacks_a_right_hears_which() {
        let denied = io::ErrorKind::PermissionDenied.into();
        let hint = |listen: Listen| refused(&listen, &denied).hint;
        assert!(hint(Listen::Tcp(([127, 0, 0, 1], 443).into())).contains("given up that right"));
        assert_eq!(hint(Listen::Tcp(([127, 0, 0, 1], 9199).into())), Listen::HINT);
        assert!(hint(Listen::Unix("/home/somebody/metrics.sock".into())).contains("`ls -ld /home/somebody`"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_socket_is_removed_at_the_end_and_an_abandoned_one_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let listen = Listen::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let endpoint = Endpoint::open(Some(&listen)).unwrap();
        let (file, group) = (fs::metadata(&path).unwrap(), control::group());
        assert_eq!(file.mode() & 0o777, if group.is_some() { 0o660 } else { 0o600 });
        assert!(group.is_none_or(|group| group.as_raw() == file.gid()));
        assert!(Endpoint::open(Some(&listen)).unwrap_err().hint.starts_with("another program"));
        drop(endpoint);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        Endpoint::open(Some(&listen)).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let nowhere = Listen::Unix(folder.path().join("none/metrics.sock"));
        assert!(Endpoint::open(Some(&nowhere)).unwrap_err().hint.contains("mkdir"));
    }
}
