//! The socket itself: who gets in, and how many at once.
//!
//! It is served by a thread of its own, so that a crowd at the door costs the controller's loop nothing but the questions that
//! reach it.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Gid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::connection::{self, Service};
use super::desk::Desk;
use super::{Asked, access, socket};
use crate::config::Paths;
use crate::events::Teller;
use crate::flows;
use crate::problem::Problem;

/// Connections that root, and everybody else together, have at once, if there are descriptors for so many.
const MOST_CONNECTIONS: usize = 2048;
/// Connections that the kernel lets wait.
const BACKLOG: i32 = 1024;
/// Descriptors that this process asks for; it may have less.
const DESCRIPTORS: u64 = 8192;
/// After an error of accepting, such as no descriptors.
const REST: Duration = Duration::from_millis(100);
/// For the last events and answers, when the controller stops.
const GRACE: Duration = Duration::from_millis(500);

/// The socket, at which nobody is answered yet.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    group: Option<Gid>,
}

impl Door {
    /// Puts it up in `run`, where the lock says that no other controller uses it: for root, and the group `pcc` if there is one.
    pub fn open(run: &Path) -> Result<Self> {
        let path = socket(run);
        let open = || {
            let group = access::group();
            std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o755))?;
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            Ok(Self { listener: access::listen(&path, group, BACKLOG)?, group })
        };
        open().with_context(|| format!("listening at {}", path.display()))
    }

    /// The group whose members may read.
    pub const fn group(&self) -> Option<Gid> {
        self.group
    }

    /// Answers there from now on: hands what is asked to `asked`, passes on what `teller` tells, and looks through the
    /// connections of the instance at `paths` by itself.
    pub fn serve(self, paths: &Paths, asked: mpsc::Sender<Asked>, teller: Teller) -> Result<Server> {
        let most = connections(raise_descriptors());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let flows = Arc::new(flows::Server::new(paths.clone()));
        let serve = move || {
            runtime.block_on(async {
                let service = Service { desk: Desk::open(asked.clone()), asked, flows, teller };
                if let Err(error) = welcome(self.listener, service, most, stopped).await {
                    tracing::error!("the control socket answers no more: {error}");
                }
            });
        };
        let thread = thread::Builder::new().name("control".into()).spawn(serve)?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

/// A socket that is served. Dropping it ends that, once the last events are out.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Places for connections. Nobody but root can take root's.
struct Places {
    root: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Places {
    fn new(most: usize) -> Self {
        Self { root: Arc::new(Semaphore::new(most)), others: Arc::new(Semaphore::new(most)) }
    }

    fn take(&self, uid: u32) -> Option<OwnedSemaphorePermit> {
        let places = if uid == 0 { &self.root } else { &self.others };
        Arc::clone(places).try_acquire_owned().ok()
    }
}

async fn welcome(
    listener: UnixListener,
    service: Service,
    most: usize,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let places = Places::new(most);
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &places, &service, &mut guests),
                Err(error) => {
                    tracing::warn!("accepting at the control socket: {error}");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = guests.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    drop((listener, service));
    let _ = tokio::time::timeout(GRACE, guests.join_all()).await;
    Ok(())
}

fn admit(mut stream: UnixStream, places: &Places, service: &Service, guests: &mut JoinSet<()>) {
    let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { return };
    match places.take(uid) {
        Some(place) => {
            let service = service.clone();
            guests.spawn(async move {
                connection::serve(stream, uid, service).await;
                drop(place);
            });
        }
        // What a new socket has room for is written at once.
        None => {
            guests.spawn(async move { connection::refuse(&mut stream, crowded()).await });
        }
    }
}

fn crowded() -> Problem {
    Problem::new("too many connections at once", "close some of them, or ask again")
}

/// Most connections of each kind with so many descriptors: half of them are the controller's.
fn connections(descriptors: u64) -> usize {
    usize::try_from(descriptors / 4).unwrap_or(MOST_CONNECTIONS).clamp(1, MOST_CONNECTIONS)
}

/// Descriptors that this process may have, after asking for more.
fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current else { return u64::MAX };
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if wanted <= current || setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_err() {
        return current;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_root() {
        let places = Places::new(2);
        let taken: Vec<_> = [1000, 1001].map(|uid| places.take(uid).unwrap()).into();
        assert!(places.take(1000).is_none());
        assert!(places.take(0).is_some());
        drop(taken);
        assert!(places.take(1000).is_some());
    }

    #[test]
    fn half_of_the_descriptors_are_the_controllers() {
        assert_eq!([1, 256, 1024, 8192, u64::MAX].map(connections), [1, 64, 256, 2048, 2048]);
    }
}
