//! The log on stderr: one line an event, without floods; as journald wants it where it reads that, else with the time.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::{Context, Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use throttle::{Suppressed, Throttle};

mod throttle;

/// What was suppressed is told this late at most, once it is over.
const TOLD: Duration = Duration::from_secs(10);

/// Of this process.
static SHARED: OnceLock<Shared> = OnceLock::new();

/// Logs what `PCC_LOG` asks for, from now on.
pub fn init() {
    let shared = Shared { throttle: Arc::default(), style: Style::of_stderr() };
    let wanted = tracing_subscriber::EnvFilter::try_from_env("PCC_LOG").unwrap_or_else(|_| "info".into());
    let layer = tracing_subscriber::fmt::layer()
        .event_format(shared.clone())
        .with_writer(std::io::stderr)
        .with_ansi(shared.style == Style::Coloured)
        .with_filter(shared.clone());
    let _ = SHARED.set(shared);
    tracing_subscriber::registry().with(layer).with(wanted).init();
}

/// Tells now and then what was suppressed, also when nothing else is to be told.
pub async fn tell_suppressed() {
    let mut interval = tokio::time::interval(TOLD);
    loop {
        interval.tick().await;
        let Some(shared) = SHARED.get() else { return };
        for suppressed in shared.over() {
            let _ = writeln!(std::io::stderr(), "{}{suppressed}", shared.style.head(suppressed.level));
        }
    }
}

#[derive(Clone)]
struct Shared {
    throttle: Arc<Mutex<Throttle>>,
    style: Style,
}

/// How lines begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// With time and level.
    Plain,
    /// With time, and a level in colour.
    Coloured,
    /// With the level as syslog has it, which journald takes away; it knows the time.
    Journal,
}

impl Style {
    fn of_stderr() -> Self {
        let stderr = std::io::stderr();
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let file = rustix::fs::fstat(&stderr).ok();
        match (stream, file) {
            (Some(stream), Some(file)) if stream == format!("{}:{}", file.st_dev, file.st_ino) => Self::Journal,
            _ if stderr.is_terminal() => Self::Coloured,
            _ => Self::Plain,
        }
    }

    fn head(self, level: Level) -> String {
        let time = || humantime::format_rfc3339_micros(SystemTime::now());
        let (priority, colour) = match level {
            Level::ERROR => (3, 31),
            Level::WARN => (4, 33),
            Level::INFO => (6, 32),
            Level::DEBUG => (7, 34),
            Level::TRACE => (7, 35),
        };
        match self {
            Self::Plain => format!("{} {level:>5} ", time()),
            Self::Coloured => format!("\x1b[2m{}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m ", time()),
            Self::Journal => format!("<{priority}>"),
        }
    }
}

impl Shared {
    fn over(&self) -> Vec<Suppressed> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner).over(Instant::now())
    }
}

impl<S: Subscriber> Filter<S> for Shared {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Who asks for more wants all of it, and packets come by the crate `log`.
        if *metadata.level() > Level::INFO || metadata.target() == "log" {
            return true;
        }
        let mut text = String::new();
        let fields = tracing_subscriber::fmt::format::DefaultFields::new();
        if fields.format_fields(Writer::new(&mut text), event).is_err() {
            return true;
        }
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.admits(metadata.callsite(), *metadata.level(), text, Instant::now())
    }
}

impl<S, N> FormatEvent<S, N> for Shared
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        for suppressed in self.over() {
            writeln!(out, "{}{suppressed}", self.style.head(suppressed.level))?;
        }
        out.write_str(&self.style.head(*event.metadata().level()))?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(out, "{}{{{fields}}}: ", span.name())?;
            }
        }
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journald_is_told_the_level_and_people_the_time() {
        assert_eq!(Style::Journal.head(Level::WARN), "<4>");
        assert_eq!(Style::Journal.head(Level::TRACE), "<7>");
        let head = Style::Plain.head(Level::INFO);
        assert!(head.ends_with("Z  INFO ") && head.starts_with("20"), "{head}");
        assert!(Style::Coloured.head(Level::ERROR).contains("\x1b[31mERROR"));
    }
}
