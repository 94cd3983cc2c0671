//! A run that went wrong must be read by a person: the trace is what happened, line by line.
//!
//! Promise: nothing is formatted while it is off; when on it is bounded.

use crate::time::Tick;

/// Lines at most; a run that is longer loses its beginning.
const MOST: usize = 200_000;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    dropped: usize,
}

impl Trace {
    pub(crate) fn switch_on(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub(crate) fn note(&mut self, now: Tick, line: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == MOST {
            lines.drain(..MOST / 2);
            self.dropped += MOST / 2;
        }
        lines.push(format!("{now:?} {}", line()));
    }

    /// The lines so far.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let mut lines = self.lines.as_mut().map(std::mem::take).unwrap_or_default();
        if self.dropped > 0 {
            lines.insert(0, format!("({} lines before are lost)", self.dropped));
        }
        lines
    }
}
