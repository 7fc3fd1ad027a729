//! Colours and glyphs that the terminal has.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

use super::model::Mood;

/// How a screen looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours.
    pub palette: Palette,
    /// Letters beyond ASCII may be used.
    pub unicode: bool,
    /// Everything is old: all is shown faintly.
    pub stale: bool,
}

/// Colours that a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// None.
    Plain,
    /// The sixteen that every terminal has.
    Sixteen,
    /// 256.
    Rich,
}

/// What something is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Names and figures.
    Text,
    /// What explains them.
    Label,
    /// Lines around panels.
    Frame,
    /// What is chosen, and titles.
    Accent,
    /// What comes in.
    Into,
    /// What leaves.
    Out,
    /// What is wanted.
    Wanted,
    /// What is seen.
    Seen,
    /// Times.
    Time,
    /// State.
    Mood(Mood),
}

impl Theme {
    /// What the environment says of the terminal: `get` reads a variable.
    pub fn of(get: impl Fn(&str) -> Option<String>, without_colour: bool) -> Self {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let rich = set("TERM").is_some_and(|term| term.contains("256color") || term.contains("direct"));
        let palette = if without_colour || set("NO_COLOR").is_some() {
            Palette::Plain
        } else if rich || set("COLORTERM").is_some() {
            Palette::Rich
        } else {
            Palette::Sixteen
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        Self { palette, unicode: locale.contains("utf-8") || locale.contains("utf8"), stale: false }
    }

    /// The style of `role`.
    pub fn style(&self, role: Role) -> Style {
        if self.palette == Palette::Plain {
            return match role {
                Role::Accent => Style::new().add_modifier(Modifier::BOLD),
                _ => Style::new(),
            };
        }
        if self.stale && role != Role::Mood(Mood::Bad) {
            return Style::new().fg(self.colour(Role::Label));
        }
        let style = match role {
            Role::Text => Style::new(),
            role => Style::new().fg(self.colour(role)),
        };
        if role == Role::Accent { style.add_modifier(Modifier::BOLD) } else { style }
    }

    /// The colour of `role`; that of the terminal where it has none.
    pub fn colour(&self, role: Role) -> Color {
        let (rich, sixteen) = match role {
            Role::Text => return Color::Reset,
            Role::Label => (245, Color::DarkGray),
            Role::Frame => (240, Color::DarkGray),
            Role::Accent => (80, Color::Cyan),
            Role::Into => (75, Color::Blue),
            Role::Out => (141, Color::Magenta),
            Role::Wanted => (109, Color::Cyan),
            Role::Seen => (66, Color::Blue),
            Role::Time => (245, Color::DarkGray),
            Role::Mood(Mood::Good) => (114, Color::Green),
            Role::Mood(Mood::Odd) => (179, Color::Yellow),
            Role::Mood(Mood::Bad) => (203, Color::Red),
            Role::Mood(Mood::Plain) => return Color::Reset,
            Role::Mood(Mood::Idle) => (245, Color::DarkGray),
        };
        match self.palette {
            Palette::Plain => Color::Reset,
            Palette::Sixteen => sixteen,
            Palette::Rich => Color::Indexed(rich),
        }
    }

    /// The one of two texts that the terminal can show.
    pub fn glyph<'a>(&self, unicode: &'a str, ascii: &'a str) -> &'a str {
        if self.unicode { unicode } else { ascii }
    }

    /// Lines around panels.
    pub fn border(&self) -> border::Set<'static> {
        const ASCII: border::Set<'static> = border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        };
        if self.unicode { border::ROUNDED } else { ASCII }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], without_colour: bool) -> Theme {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Theme::of(get, without_colour)
    }

    #[test]
    fn the_environment_says_what_the_terminal_can() {
        let utf8 = ("LANG", "en_GB.UTF-8");
        let rich = of(&[("TERM", "xterm-256color"), utf8], false);
        assert_eq!(rich, Theme { palette: Palette::Rich, unicode: true, stale: false });
        assert_eq!(of(&[("TERM", "linux"), utf8], false).palette, Palette::Sixteen);
        assert_eq!(of(&[("TERM", "linux"), ("COLORTERM", "truecolor")], false).palette, Palette::Rich);
        assert_eq!(of(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], false).palette, Palette::Plain);
        assert_eq!(of(&[("TERM", "xterm-256color"), ("NO_COLOR", "")], false).palette, Palette::Rich);
        assert_eq!(of(&[("TERM", "xterm-256color")], true).palette, Palette::Plain);
    }

    #[test]
    fn the_locale_says_which_letters_there_are() {
        assert!(of(&[("LC_CTYPE", "C.utf8"), ("LANG", "C")], false).unicode);
        assert!(!of(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")], false).unicode);
        assert!(of(&[("LC_ALL", ""), ("LANG", "en_GB.UTF-8")], false).unicode);
        assert!(!of(&[], false).unicode);
    }

    #[test]
    fn without_colour_no_style_has_one() {
        let theme = of(&[("NO_COLOR", "1")], false);
        for role in [Role::Text, Role::Accent, Role::Into, Role::Mood(Mood::Bad), Role::Wanted] {
            let style = theme.style(role);
            assert_eq!((style.fg.unwrap_or_default(), style.bg.unwrap_or_default()), (Color::Reset, Color::Reset));
            assert_eq!(theme.colour(role), Color::Reset);
        }
    }
}
