//! The terminal: taken at the start, given back at the end, whatever the end is.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use ratatui::DefaultTerminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, enable_raw_mode};
use rustix::process::{Signal, getpid, kill_process};

use super::app::App;
use super::screen;
use super::theme::Theme;
use crate::problem::Problem;

/// A terminal that shows the view. Dropping it gives the terminal back; so does a panic.
#[derive(Debug)]
pub struct Terminal(DefaultTerminal);

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard output is none, or one that cannot move its cursor.
    pub fn take() -> Result<Self> {
        if !io::stdout().is_terminal() {
            let hint = "`pcc status --json` is for scripts; `pcc top --once` prints one frame";
            return Err(Problem::new("standard output is no terminal", hint).into());
        }
        let kind = std::env::var("TERM").unwrap_or_default();
        if kind.is_empty() || kind == "dumb" {
            let hint = "`pcc top --once` prints one frame; or set TERM to what the terminal is, such as `xterm`";
            return Err(Problem::new(format!("a terminal of type `{kind}` cannot show this"), hint).into());
        }
        Ok(Self(ratatui::try_init().context("taking the terminal")?))
    }

    /// Shows `app` at the time `now`, in milliseconds since 1970.
    pub fn show(&mut self, app: &App, theme: &Theme, now: u64) -> Result<()> {
        self.0.draw(|frame| screen::draw(app, theme, now, frame.buffer_mut())).context("drawing")?;
        Ok(())
    }

    /// Gives the terminal back and stops, until somebody lets us go on.
    pub fn suspend(&mut self) -> Result<()> {
        ratatui::try_restore().context("giving the terminal back")?;
        kill_process(getpid(), Signal::STOP).context("stopping")?;
        enable_raw_mode().context("taking the terminal")?;
        execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All)).context("taking the terminal")?;
        // A new one draws everything. `clear` would ask where the cursor is, while another thread reads keys.
        self.0 = ratatui::Terminal::new(CrosstermBackend::new(io::stdout())).context("taking the terminal")?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where it fails the terminal is gone.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}
