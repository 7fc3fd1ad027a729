//! A real terminal: tmux, on a socket of its own.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::namespace::{Namespace, eventually};

/// A terminal in which a shell runs a script. Dropping it ends both.
#[derive(Debug)]
pub struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// A terminal of `width` by `height` letters that runs `script` by `sh`, in `namespace` where there is one. It understands
    /// UTF-8 and 256 colours, and stays when the script has ended.
    ///
    /// # Panics
    /// Without tmux.
    pub fn open(namespace: Option<&Namespace>, (width, height): (u16, u16), script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("making a folder: {error}"));
        let terminal = Self { folder };
        let settings = "set -g status off\nset -g default-terminal tmux-256color\nset -g remain-on-exit on\n\
                        set -g escape-time 0\nset -g default-shell /bin/sh\n";
        for (name, text) in [("settings", settings), ("script", script)] {
            fs::write(terminal.file(name), text).unwrap_or_else(|error| panic!("writing a file: {error}"));
        }
        let words = ["-u", "-S", &terminal.file("socket"), "-f", &terminal.file("settings")];
        let size = ["new-session", "-d", "-x", &width.to_string(), "-y", &height.to_string()];
        let all: Vec<String> = [&words[..], &size[..]].concat().into_iter().map(str::to_owned).collect();
        let run = format!("exec sh {}", terminal.file("script"));
        let all = all.into_iter().chain([run]);
        let mut command = match namespace {
            Some(namespace) => namespace.command("tmux", all),
            None => {
                let mut command = Command::new("tmux");
                command.args(all);
                command
            }
        };
        for name in ["NO_COLOR", "COLORTERM", "LC_ALL", "TMUX"] {
            command.env_remove(name);
        }
        succeed(command.env("LANG", "C.UTF-8").env("LC_CTYPE", "C.UTF-8"));
        terminal
    }

    /// What stands there, without blanks at the ends of lines.
    pub fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// What stands there, with escape sequences for colours.
    pub fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Types `keys`, each a letter or a word such as `Enter`, `C-c`, `Tab`.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Gives it another size.
    pub fn resize(&self, (width, height): (u16, u16)) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// The value of a tmux format, such as `#{cursor_flag}`.
    pub fn format(&self, format: &str) -> String {
        self.tmux(&["display-message", "-p", format]).trim_end().to_owned()
    }

    /// Waits for a screen that pleases.
    ///
    /// # Panics
    /// With what stands there, when `patience` is over.
    pub fn wait(&self, patience: Duration, what: &str, pleases: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        let seen = eventually(patience, || {
            text = self.text();
            pleases(&text)
        });
        assert!(seen, "{what}: not within {patience:?}, but\n{text}");
        text
    }

    /// The path of a file of its own: `script` is the script.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn tmux(&self, words: &[&str]) -> String {
        succeed(Command::new("tmux").args(["-u", "-S", &self.file("socket")]).args(words))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-S", &self.file("socket"), "kill-server"]).output();
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
