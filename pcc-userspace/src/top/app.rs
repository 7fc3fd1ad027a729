//! Keys: what is shown, and what is asked of the controller.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Link, Model, Snapshot, Uplink};
use super::record::Record;
use super::traffic::Sort;
use crate::overrides::{Admin, Change};

/// Seconds between two snapshots that `+` and `-` choose from.
const INTERVALS: [f64; 7] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];

/// The whole view: what is known, and how it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// What is known, in the newest state.
    pub model: Model,
    /// What is shown in its place.
    pub frozen: Option<Box<Model>>,
    /// What keys mean at the moment.
    pub mode: Mode,
    /// The name of the uplink that keys change.
    pub selected: Option<String>,
    /// The panel that is shown, or scrolled where all are shown.
    pub panel: Panel,
    /// Lines that are scrolled past in that panel.
    pub scroll: usize,
    /// What connections and clients contain.
    pub filter: String,
    /// Which of them come first.
    pub sort: Sort,
    /// Time between two snapshots.
    pub interval: Duration,
    /// The answer to the last key: whether it is bad, and the text.
    pub note: Option<(bool, String)>,
    /// A recording is shown: nobody can be asked for anything.
    pub replay: bool,
}

/// What keys mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Commands.
    Watch,
    /// Anything ends the help.
    Help,
    /// `y` makes this change of an uplink.
    Confirm {
        /// Its name.
        uplink: String,
        /// The change.
        change: Change,
        /// What it does, in the words of the question.
        question: &'static str,
    },
    /// Digits make a weight.
    Weight {
        /// The uplink's name.
        uplink: String,
        /// The digits so far.
        digits: String,
    },
    /// Letters make a filter.
    Filter {
        /// The one before.
        before: String,
    },
}

/// A panel below the uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// Connections; of a RouterOS configuration its marks, routes and what it watches.
    Connections,
    /// Clients.
    Clients,
    /// Events.
    Events,
}

/// What a key asks of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The end.
    Quit,
    /// Ctrl-Z.
    Suspend,
    /// A change of an uplink.
    Change(String, Change),
    /// Another time between snapshots.
    Interval(Duration),
    /// Other connections are to be listed.
    Look,
}

impl App {
    /// Nothing is known yet.
    pub fn new(interval: Duration, replay: bool) -> Self {
        Self {
            model: Model::default(),
            frozen: None,
            mode: Mode::Watch,
            selected: None,
            panel: Panel::Connections,
            scroll: 0,
            filter: String::new(),
            sort: Sort::default(),
            interval,
            note: None,
            replay,
        }
    }

    /// What is shown.
    pub fn shown(&self) -> &Model {
        self.frozen.as_deref().unwrap_or(&self.model)
    }

    /// Takes note of `record`.
    pub fn absorb(&mut self, record: Record) {
        self.model.absorb(record);
    }

    /// The place of the selected uplink, the first if the selected one is gone.
    pub fn cursor(&self) -> usize {
        let uplinks = &self.shown().uplinks;
        let place = uplinks.iter().position(|uplink| Some(&uplink.status.name) == self.selected.as_ref());
        place.unwrap_or(0)
    }

    /// A change was made, or refused.
    pub fn answered(&mut self, answer: Result<String, String>) {
        self.note = Some(match answer {
            Ok(text) => (false, text),
            Err(text) => (true, text),
        });
    }

    /// What `key` asks for beyond what it changes here.
    pub fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Action::Quit),
                KeyCode::Char('z') => Some(Action::Suspend),
                _ => None,
            };
        }
        self.note = None;
        match std::mem::replace(&mut self.mode, Mode::Watch) {
            Mode::Watch => self.command(key.code),
            Mode::Help => None,
            Mode::Confirm { uplink, change, .. } => match key.code {
                KeyCode::Char('y' | 'Y') | KeyCode::Enter => Some(Action::Change(uplink, change)),
                _ => self.say("nothing was changed"),
            },
            Mode::Weight { uplink, digits } => self.weight(uplink, digits, key.code),
            Mode::Filter { before } => self.look(before, key.code),
        }
    }

    fn command(&mut self, key: KeyCode) -> Option<Action> {
        match key {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Up | KeyCode::Char('k') => self.select(false),
            KeyCode::Down | KeyCode::Char('j') => self.select(true),
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(2),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            KeyCode::Char('f') => self.freeze(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.mode = Mode::Filter { before: self.filter.clone() },
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                return Some(Action::Look);
            }
            KeyCode::Char('+' | '=') => return self.pace(true),
            KeyCode::Char('-') => return self.pace(false),
            KeyCode::Char('d' | 'e' | 'w') => return self.ask(key),
            _ => {}
        }
        None
    }

    /// Asks before anything is changed.
    fn ask(&mut self, key: KeyCode) -> Option<Action> {
        if let Some(obstacle) = self.obstacle() {
            return self.say(obstacle);
        }
        let uplink = self.model.uplinks.get(self.cursor())?;
        let name = uplink.status.name.clone();
        self.mode = match key {
            KeyCode::Char('w') => Mode::Weight { uplink: name, digits: String::new() },
            KeyCode::Char('d') => {
                let (admin, question) = match is_draining(uplink) {
                    true => (Admin::Enabled, "new connections again"),
                    false => (Admin::Draining(None), "drain, no new connections"),
                };
                Mode::Confirm { uplink: name, change: Change::Admin(admin), question }
            }
            _ => {
                let (admin, question) = match is_disabled(uplink) {
                    true => (Admin::Enabled, "enable"),
                    false => (Admin::Disabled, "disable, its connections end"),
                };
                Mode::Confirm { uplink: name, change: Change::Admin(admin), question }
            }
        };
        None
    }

    fn obstacle(&self) -> Option<&'static str> {
        match (&self.model.snapshot, &self.model.link) {
            _ if self.replay => Some("a recording changes nothing"),
            _ if self.frozen.is_some() => Some("frozen: f first, changes need the present"),
            (Some(Snapshot::Mirror(_)), _) => Some("a RouterOS configuration is changed in its script"),
            (None, _) | (_, Link::Waiting | Link::Silent { .. }) => Some("the controller does not answer"),
            (Some(Snapshot::Balanced(_)), Link::Live) => None,
        }
    }

    fn weight(&mut self, uplink: String, mut digits: String, key: KeyCode) -> Option<Action> {
        match key {
            KeyCode::Char(digit) if digit.is_ascii_digit() && digits.len() < 4 => digits.push(digit),
            KeyCode::Backspace => _ = digits.pop(),
            KeyCode::Enter => {
                return match digits.parse() {
                    Ok(weight) if weight <= 1000 => Some(Action::Change(uplink, Change::Weight(weight))),
                    _ => self.say("a weight is 0 to 1000"),
                };
            }
            KeyCode::Esc => return self.say("nothing was changed"),
            _ => {}
        }
        self.mode = Mode::Weight { uplink, digits };
        None
    }

    fn look(&mut self, before: String, key: KeyCode) -> Option<Action> {
        match key {
            KeyCode::Enter => return Some(Action::Look),
            KeyCode::Esc => {
                self.filter = before;
                return None;
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(letter) if self.filter.len() < 64 && !letter.is_control() => self.filter.push(letter),
            _ => {}
        }
        self.scroll = 0;
        self.mode = Mode::Filter { before };
        None
    }

    fn pace(&mut self, slower: bool) -> Option<Action> {
        let now = self.interval.as_secs_f64();
        let next = if slower {
            INTERVALS.into_iter().find(|it| *it > now)
        } else {
            INTERVALS.into_iter().rev().find(|it| *it < now)
        };
        self.interval = Duration::from_secs_f64(next?);
        Some(Action::Interval(self.interval))
    }

    fn freeze(&mut self) {
        self.frozen = match self.frozen {
            None => Some(Box::new(self.model.clone())),
            Some(_) => None,
        };
    }

    fn select(&mut self, down: bool) {
        let names: Vec<&String> = self.shown().uplinks.iter().map(|uplink| &uplink.status.name).collect();
        let place = self.cursor();
        let place = if down { (place + 1).min(names.len().saturating_sub(1)) } else { place.saturating_sub(1) };
        self.selected = names.get(place).map(|name| (*name).clone());
    }

    fn turn(&mut self, steps: usize) {
        const PANELS: [Panel; 3] = [Panel::Connections, Panel::Clients, Panel::Events];
        self.panel = PANELS[(self.panel as usize + steps) % PANELS.len()];
        self.scroll = 0;
    }

    fn say(&mut self, text: &str) -> Option<Action> {
        self.note = Some((true, text.to_owned()));
        None
    }
}

/// It was drained by hand.
pub fn is_draining(uplink: &Uplink) -> bool {
    uplink.families().any(|(_, family)| family.draining)
}

/// It was disabled by hand.
pub fn is_disabled(uplink: &Uplink) -> bool {
    uplink.families().any(|(_, family)| family.state == "admin-down")
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
