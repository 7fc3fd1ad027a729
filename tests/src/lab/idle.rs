//! Connections that only listen.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinSet;

use super::conversation::Conversation;
use super::load::Fault;
use super::server::{lock, runtime};

/// TCP connections that wait for the server and never send, as clients of push services do: whoever ends them must tell
/// them. Dropping it closes them.
#[derive(Debug)]
pub struct Idle {
    ended: Arc<Mutex<Vec<Fault>>>,
    _tasks: JoinSet<()>,
}

impl Idle {
    /// Lets each of `conversations` wait for its end.
    pub fn start(conversations: Vec<Conversation>) -> Self {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for mut conversation in conversations {
            let ended = Arc::clone(&ended);
            let listen = async move {
                let error = conversation.listen().await;
                lock(&ended).push(Fault::new(&conversation, &error, began.elapsed()));
            };
            tasks.spawn_on(listen, runtime().handle());
        }
        Self { ended, _tasks: tasks }
    }

    /// Those that ended so far; [`Fault::after`] counts from the start.
    pub fn ended(&self) -> Vec<Fault> {
        lock(&self.ended).clone()
    }
}
