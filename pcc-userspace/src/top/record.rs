//! What the view is told, and the recordings of that: JSON, one record a line.

use std::io::BufRead;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::events::Event;
use crate::flows::Listing;
use crate::mirror;
use crate::problem::Problem;
use crate::status::Status;

/// One thing that the view is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in milliseconds since 1970 in UTC.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What the view can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A snapshot.
    Status(Box<Status>),
    /// A snapshot of a RouterOS configuration.
    Mirror(Box<mirror::status::Status>),
    /// The connections that were asked for.
    Flows(Box<Listing>),
    /// Connections cannot be listed, for this reason.
    NoFlows(String),
    /// An event.
    Event(Box<Event>),
    /// The controller did not answer, for this reason.
    Silent(String),
}

/// Reads a recording.
///
/// # Errors
/// The line that is none, by number; a recording without any record.
pub fn read(input: impl BufRead) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(input.lines()) {
        let line = line?;
        if !line.trim().is_empty() {
            records.push(serde_json::from_str(&line).with_context(|| format!("line {number} is no record"))?);
        }
    }
    if records.is_empty() {
        return Err(Problem::new("the recording is empty", "make one with `pcc top --record FILE`").into());
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let records = [
            Record { at: 5, what: What::Silent("gone".into()) },
            Record { at: 6, what: What::Flows(Box::default()) },
            Record { at: 7, what: What::NoFlows("why".into()) },
        ];
        let text = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect::<String>();
        assert_eq!(read(text.as_bytes()).unwrap(), records);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read("{\"at\":1,\"what\":{\"silent\":\"\"}}\n\n{}\n".as_bytes()).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        assert!(read("\n".as_bytes()).unwrap_err().to_string().contains("empty"));
    }
}
