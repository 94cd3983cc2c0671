//! A run that says nothing for a minute looks like one that hangs.
//!
//! Promise: on a terminal one bar moves; elsewhere a few plain lines are written. Both go to the
//! error stream, so that the results alone are on the output.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What each shard has done so far. A shard writes its own cell only.
#[derive(Debug)]
pub(crate) struct Done(Vec<Cell>);

/// A cell on cache lines of its own, so that shards do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

impl Done {
    pub(crate) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self((0..shards).map(|_| Cell::default()).collect()))
    }

    /// Shard `shard` has done one more.
    pub(crate) fn add(&self, shard: usize) {
        // Only a sum for display: no other memory is read because of it.
        self.0[shard].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.0
            .iter()
            .map(|cell| cell.0.load(Ordering::Relaxed))
            .sum()
    }
}

/// A display that follows a run until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Follows `position`, which ends at `total`, if that is known.
    pub(crate) fn start(
        label: &str,
        total: Option<u64>,
        position: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        let (stop, stopped) = mpsc::channel();
        let label = label.to_owned();
        let follow = move || match std::io::stderr().is_terminal() {
            true => draw_bar(&label, total, &position, &stopped),
            false => write_lines(&label, total, &position, &stopped),
        };
        // Without a thread there is no display, and nothing else is wrong.
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(follow)
            .ok();
        Self {
            stop: Some(stop),
            thread,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn running(stopped: &mpsc::Receiver<()>, pause: Duration) -> bool {
    stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

fn draw_bar(
    label: &str,
    total: Option<u64>,
    position: &impl Fn() -> u64,
    stopped: &mpsc::Receiver<()>,
) {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg:18} {bar:40} {human_pos}/{human_len} {per_sec} {elapsed}",
        ),
        None => (
            ProgressBar::no_length(),
            "{msg:18} {human_pos} {per_sec} {elapsed}",
        ),
    };
    let bar = bar.with_message(label.to_owned());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    while running(stopped, BAR_EVERY) {
        bar.set_position(position());
    }
    bar.finish_and_clear();
}

fn write_lines(
    label: &str,
    total: Option<u64>,
    position: &impl Fn() -> u64,
    stopped: &mpsc::Receiver<()>,
) {
    let of = total.map_or_else(String::new, |total| format!(" of {total}"));
    while running(stopped, LINE_EVERY) {
        eprintln!("{label}: {}{of}", position());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_the_shards() {
        let done = Done::new(3);
        (0..3).chain(1..3).for_each(|shard| done.add(shard));
        assert_eq!(done.total(), 5);
    }

    #[test]
    fn a_display_ends_when_it_is_dropped() {
        let done = Done::new(1);
        let shown = done.clone();
        drop(Progress::start("test", Some(1), move || shown.total()));
        assert_eq!(Arc::strong_count(&done), 1);
    }
}
