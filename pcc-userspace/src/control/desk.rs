//! Those who ask for a status at the same time get the same one.
//!
//! A snapshot is begun after its last asker has asked, so nobody sees what was before his own change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Answer, Asked, Request};

/// The controller rests from snapshots for so many times what the last one took, so that they take a twentieth of its time at
/// most; but no longer than [`LONGEST_REST`].
const REST_FACTOR: u32 = 20;
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Askers that share one snapshot.
const MOST_AT_ONCE: usize = 4096;

/// Where snapshots are asked for.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::UnboundedSender<oneshot::Sender<Arc<str>>>);

impl Desk {
    /// Asks the controller through `asked`, until the last copy of this is gone. Has to be called inside the runtime.
    pub fn open(asked: mpsc::Sender<Asked>) -> Self {
        let (sender, waiting) = mpsc::unbounded_channel();
        tokio::spawn(attend(waiting, asked));
        Self(sender)
    }

    /// A snapshot as a line of JSON; `None` if the controller ends.
    pub async fn status(&self) -> Option<Arc<str>> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).ok()?;
        receiver.await.ok()
    }
}

/// Asks for one thing.
pub async fn ask(asked: &mpsc::Sender<Asked>, request: Request) -> Option<Answer> {
    let (sender, receiver) = oneshot::channel();
    asked.send((request, sender)).await.ok()?;
    receiver.await.ok()
}

/// An answer as it is written.
pub fn line(answer: &Answer) -> Option<String> {
    Some(serde_json::to_string(answer).ok()? + "\n")
}

async fn attend(mut waiting: mpsc::UnboundedReceiver<oneshot::Sender<Arc<str>>>, asked: mpsc::Sender<Asked>) {
    let mut askers = Vec::new();
    while waiting.recv_many(&mut askers, MOST_AT_ONCE).await > 0 {
        let began = Instant::now();
        let Some(text) = ask(&asked, Request::Status).await.as_ref().and_then(line) else { return };
        let (text, took) = (Arc::<str>::from(text), began.elapsed());
        for asker in askers.drain(..) {
            // Some have left.
            let _ = asker.send(Arc::clone(&text));
        }
        tokio::time::sleep((took * REST_FACTOR).min(LONGEST_REST)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn askers_share_a_snapshot_that_begins_after_they_asked() {
        let (sender, mut asked) = mpsc::channel::<Asked>(1);
        let desk = Desk::open(sender);
        let ask = || {
            let desk = desk.clone();
            tokio::spawn(async move { desk.status().await })
        };
        let number = |count: u32| Answer::Done { warnings: vec![count.to_string()] };
        let first = ask();
        let (_, reply) = asked.recv().await.unwrap();
        // The first one is under way: these come too late for it.
        let late: Vec<_> = (0..1000).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let answered = Instant::now();
        reply.send(number(1)).unwrap();
        assert!(first.await.unwrap().unwrap().contains("\"1\""));
        let (_, reply) = asked.recv().await.unwrap();
        assert!(answered.elapsed() >= Duration::from_millis(200), "no rest");
        reply.send(number(2)).unwrap();
        for asker in late {
            assert!(asker.await.unwrap().unwrap().contains("\"2\""));
        }
        assert!(asked.try_recv().is_err());
        drop(asked);
        assert_eq!(ask().await.unwrap(), None);
    }
}
