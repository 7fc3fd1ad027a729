//! The hook: a program that is run for events, one at a time, with the event as JSON on stdin.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::events::{Event, Kind, Listener};

/// Events that come within this time of another are run after it, and of several about the health of an uplink in a
/// family only the last.
const SETTLE: Duration = Duration::from_millis(200);
/// A run that takes longer is killed.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Runs `command`, program and arguments, for what `listener` hears, until the controller stops.
pub async fn run(command: Vec<String>, mut listener: Listener) {
    while let Some(first) = listener.next().await {
        let mut pending = vec![first];
        let settled = tokio::time::Instant::now() + SETTLE;
        while let Ok(Some(event)) = tokio::time::timeout_at(settled, listener.next()).await {
            pending.push(event);
        }
        for event in latest(pending) {
            if let Err(error) = once(&command, &event).await {
                tracing::warn!("hook: {error:#}");
            }
            if event.kind == Kind::Stopped {
                return;
            }
        }
    }
}

/// Without the events about health that a later one makes out of date.
fn latest(events: Vec<Event>) -> Vec<Event> {
    let about = |event: &Event| match &event.kind {
        Kind::Health { uplink, family, .. } => Some((uplink.clone(), family.clone())),
        _ => None,
    };
    let is_outdated = |at: usize| {
        about(&events[at]).is_some_and(|it| events[at + 1..].iter().any(|later| about(later).as_ref() == Some(&it)))
    };
    let kept: Vec<bool> = (0..events.len()).map(|at| !is_outdated(at)).collect();
    events.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(event, _)| event).collect()
}

async fn once(command: &[String], event: &Event) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let text = serde_json::to_string(event)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting `{program}`"))?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // A program may not care what happened.
            let _ = stdin.write_all(format!("{text}\n").as_bytes()).await;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(LIMIT, work)
        .await
        .with_context(|| format!("`{program}` took more than {} s and was killed", LIMIT.as_secs()))??;
    anyhow::ensure!(status.success(), "`{program}` ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Teller;

    fn health(uplink: &str, to: &str) -> Kind {
        let [uplink, to] = [uplink, to].map(str::to_owned);
        let detail = to.clone();
        Kind::Health { uplink, device: "eth0".into(), family: "IPv4".into(), from: "unknown".into(), to, detail }
    }

    #[tokio::test]
    async fn only_the_last_word_about_an_uplink_is_run() {
        let teller = Teller::new("x");
        let mut listener = teller.listen();
        for kind in [health("a", "down"), health("b", "down"), Kind::Reloaded, health("a", "up")] {
            teller.tell(kind);
        }
        let mut events = Vec::new();
        for _ in 0..4 {
            events.push(listener.next().await.unwrap());
        }
        let kinds: Vec<Kind> = latest(events).into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [health("b", "down"), Kind::Reloaded, health("a", "up")]);
    }

    #[tokio::test]
    async fn the_program_gets_the_event_and_a_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("event");
        let teller = Teller::new("x");
        let mut listener = teller.listen();
        teller.tell(Kind::Reloaded);
        let event = listener.next().await.unwrap();
        let command = |script: String| vec!["sh".to_owned(), "-c".to_owned(), script];
        once(&command(format!("cat > {}", file.display())), &event).await.unwrap();
        let read: Event = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(read, event);
        assert!(once(&command("exit 3".into()), &event).await.unwrap_err().to_string().contains('3'));
        let missing = once(&["/nonexistent/hook".to_owned()], &event).await.unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/hook"));
    }
}
