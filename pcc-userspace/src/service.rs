//! What a service manager such as systemd is told, by `sd_notify`, and what it is asked. Without one all of this does nothing.

use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sd_notify::NotifyState;

use crate::events::Kind;

/// A controller as the service manager sees it.
#[derive(Debug)]
pub struct Service {
    /// Signs of life come this often, and the next one then.
    watchdog: Option<(Duration, Instant)>,
    status: String,
    /// To the thread that speaks; `None` where nobody listens.
    told: Option<SyncSender<Told>>,
}

/// What is told.
#[derive(Debug)]
enum Told {
    Ready(String),
    Status(String),
    /// With the time.
    Reloading(NotifyState<'static>),
    Stopping,
    Alive,
}

/// What waits for a service manager that does not listen; what comes on top is not told.
const WAITING: usize = 64;

impl Service {
    /// Nothing was told yet. How often signs of life are wanted is in the environment.
    pub fn new(now: Instant) -> Self {
        let told = std::env::var_os("NOTIFY_SOCKET").and_then(|_| {
            let (sender, receiver) = sync_channel(WAITING);
            // Sending waits for who listens, and the loop waits for nobody.
            let thread = thread::Builder::new().name("notify".into()).spawn(move || speak(&receiver));
            thread.inspect_err(|error| tracing::warn!("telling the service manager: {error}")).ok().map(|_| sender)
        });
        let watchdog = sd_notify::watchdog_enabled().map(|limit| (limit / 2, now));
        Self { watchdog, status: String::new(), told }
    }

    /// The data path is in force; `status` is one line for people.
    pub fn ready(&mut self, status: String) {
        self.tell(Told::Ready(status.clone()));
        self.status = status;
    }

    /// Another line, if it is another one.
    pub fn show(&mut self, status: String) {
        if self.status != status {
            self.tell(Told::Status(status.clone()));
            self.status = status;
        }
    }

    /// Another configuration is read and put in force; [`Self::ready`] ends that, whatever becomes of it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(Told::Reloading(now)),
            Err(error) => tracing::warn!("reading the clock: {error}"),
        }
    }

    /// The controller is about to end.
    pub fn stopping(&self) {
        self.tell(Told::Stopping);
    }

    /// Gives a sign of life when one is due. Only the loop itself may call this: it is what may be stuck.
    pub fn beat(&mut self, now: Instant) {
        if let Some((every, next)) = &mut self.watchdog
            && *next <= now
        {
            *next = now + *every;
            self.tell(Told::Alive);
        }
    }

    fn tell(&self, what: Told) {
        if let Some(told) = &self.told {
            let _ = told.try_send(what);
        }
    }

    /// When to [`Self::beat`].
    pub fn deadline(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }
}

fn speak(told: &Receiver<Told>) {
    for what in told {
        let outcome = match &what {
            Told::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
            Told::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Told::Reloading(now) => sd_notify::notify(&[NotifyState::Reloading, now.clone()]),
            Told::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Told::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        if let Err(error) = outcome {
            tracing::warn!("telling the service manager: {error}");
        }
    }
}

/// One line about `taking`, families with the uplinks that take their new connections.
pub fn summary(taking: &[(String, Vec<String>)]) -> String {
    let say = |(family, uplinks): &(String, Vec<String>)| {
        Kind::Taking { family: family.clone(), uplinks: uplinks.clone() }.to_string()
    };
    match taking {
        [] => "no uplink has an address and a next hop yet".to_owned(),
        [(_, first), others @ ..] if !first.is_empty() && others.iter().all(|(_, uplinks)| uplinks == first) => {
            format!("new connections by {}", first.join(", "))
        }
        _ => taking.iter().map(say).collect::<Vec<_>>().join("; "),
    }
}

/// systemd stops `unit` in order to start it again.
///
/// # Errors
/// It cannot be asked.
pub fn restarts(unit: &str) -> Result<bool> {
    let output = Command::new("systemctl")
        .args(["--no-legend", "--no-pager", "--plain", "list-jobs"])
        .env("LC_ALL", "C")
        .output()
        .context("starting `systemctl`")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`systemctl list-jobs`: {}, {}", words.trim(), output.status);
    Ok(has_restart(&String::from_utf8_lossy(&output.stdout), unit))
}

/// `jobs` are lines of number, unit, kind and state.
fn has_restart(jobs: &str, unit: &str) -> bool {
    let words = jobs.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.into_iter().any(|job| job.get(1) == Some(&unit) && job.get(2).is_some_and(|kind| kind.ends_with("restart")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(ipv4: &[&str], ipv6: &[&str]) -> Vec<(String, Vec<String>)> {
        let names = |uplinks: &[&str]| uplinks.iter().map(|name| (*name).to_owned()).collect();
        vec![("IPv4".to_owned(), names(ipv4)), ("IPv6".to_owned(), names(ipv6))]
    }

    #[test]
    fn a_line_says_who_takes_connections() {
        assert_eq!(summary(&taking(&["a", "b"], &["a", "b"])), "new connections by a, b");
        assert_eq!(summary(&taking(&["a", "b"], &["a"])), "IPv4: new connections by a, b; IPv6: new connections by a");
        let none = "IPv4: no uplink, main decides; IPv6: no uplink, main decides";
        assert_eq!(summary(&taking(&[], &[])), none);
        assert_eq!(summary(&taking(&["a"], &[])[..1]), "new connections by a");
        assert!(summary(&[]).contains("yet"));
    }

    #[test]
    fn only_a_restart_of_this_unit_is_one() {
        let jobs =
            "  9 pcc@a.service stop running\n 12 pcc.service restart running\n 13 x.service try-restart waiting\n";
        for (unit, expected) in
            [("pcc.service", true), ("x.service", true), ("pcc@a.service", false), ("cc.service", false), ("", false)]
        {
            assert_eq!(has_restart(jobs, unit), expected, "{unit}");
        }
        assert!(!has_restart("No jobs running.\n", "pcc.service"));
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_wanted() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut service = Service { watchdog: Some((second, now)), status: String::new(), told: None };
        service.beat(now);
        assert_eq!(service.deadline(), Some(now + second));
        service.beat(now + second / 2);
        assert_eq!(service.deadline(), Some(now + second));
        service.beat(now + 3 * second);
        assert_eq!(service.deadline(), Some(now + 4 * second));
    }
}
