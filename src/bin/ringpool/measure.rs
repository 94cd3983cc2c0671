//! Every shard measures for itself, so that measuring adds no traffic between cores; the results
//! are merged at the end.
//!
//! Promise: memory does not grow with the number of messages: latencies are counted in a histogram
//! of fixed size, the timeline halves its resolution when it is full, of errors only the first few
//! are kept and all are counted.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_secs(600);
/// The timeline's first resolution.
const BUCKET: Duration = Duration::from_millis(1);
/// The timeline has fewer buckets than this; an even number.
const MAX_BUCKETS: usize = 120;
/// Errors that are kept with their text.
const KEPT_ERRORS: usize = 5;

/// What was measured, of one shard or of several.
#[derive(Debug)]
pub(crate) struct Measured {
    started: Instant,
    /// From the start to the last message that ended.
    pub(crate) duration: Duration,
    /// Nanoseconds per message.
    pub(crate) latency: Histogram<u64>,
    pub(crate) timeline: Timeline,
    pub(crate) errors: Errors,
}

impl Measured {
    /// Nothing measured yet, of a run that started at `started`.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            duration: Duration::ZERO,
            latency: histogram(3),
            timeline: Timeline {
                width: BUCKET,
                buckets: Vec::new(),
            },
            errors: Errors::default(),
        }
    }

    /// A message that began at `began` has ended well, just now.
    pub(crate) fn message(&mut self, began: Instant) {
        self.message_took(began, began.elapsed());
    }

    pub(crate) fn message_took(&mut self, began: Instant, took: Duration) {
        let at = (began + took).duration_since(self.started);
        self.duration = self.duration.max(at);
        self.latency.saturating_record(nanos(took));
        self.timeline.record(at, took);
    }

    /// A message has failed, just now.
    pub(crate) fn error(&mut self, text: String) {
        self.duration = self.duration.max(self.started.elapsed());
        self.errors.add(text);
    }

    /// Adds what another shard measured in the same run.
    pub(crate) fn merge(&mut self, other: Measured) {
        self.duration = self.duration.max(other.duration);
        // Both have the same bounds, so adding cannot fail.
        let _same_bounds = self.latency.add(&other.latency);
        self.timeline.merge(other.timeline);
        self.errors.merge(other.errors);
    }

    /// Messages that ended well.
    pub(crate) fn messages(&self) -> u64 {
        self.latency.len()
    }

    pub(crate) fn throughput_per_s(&self) -> f64 {
        match self.duration.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.messages() as f64 / seconds,
        }
    }

    /// The latency in microseconds that a share `q` of the messages (0 to 1) did not exceed.
    pub(crate) fn latency_us(&self, q: f64) -> f64 {
        self.latency.value_at_quantile(q) as f64 / 1e3
    }
}

/// How messages ended over time, in buckets of equal width.
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) width: Duration,
    /// Nanoseconds per message that ended in the bucket.
    pub(crate) buckets: Vec<Histogram<u32>>,
}

impl Timeline {
    fn record(&mut self, at: Duration, took: Duration) {
        while self.index(at) >= MAX_BUCKETS {
            self.halve();
        }
        let index = self.index(at);
        while self.buckets.len() <= index {
            self.buckets.push(histogram(2));
        }
        self.buckets[index].saturating_record(nanos(took));
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Makes one bucket of every two.
    fn halve(&mut self) {
        self.width *= 2;
        let mut old = std::mem::take(&mut self.buckets).into_iter();
        while let Some(mut bucket) = old.next() {
            if let Some(next) = old.next() {
                let _same_bounds = bucket.add(next);
            }
            self.buckets.push(bucket);
        }
    }

    fn merge(&mut self, mut other: Timeline) {
        while self.width < other.width {
            self.halve();
        }
        while other.width < self.width {
            other.halve();
        }
        for (index, bucket) in other.buckets.into_iter().enumerate() {
            match self.buckets.get_mut(index) {
                Some(own) => {
                    let _same_bounds = own.add(bucket);
                }
                None => self.buckets.push(bucket),
            }
        }
    }
}

/// The first errors, and how many there were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    pub(crate) first: Vec<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, text: String) {
        self.count += 1;
        if self.first.len() < KEPT_ERRORS {
            self.first.push(text);
        }
    }

    pub(crate) fn merge(&mut self, other: Errors) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.truncate(KEPT_ERRORS);
    }
}

fn histogram<C: hdrhistogram::Counter>(digits: u8) -> Histogram<C> {
    Histogram::new_with_bounds(1, nanos(LONGEST), digits)
        .expect("the bounds are constants in the histogram's range")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A run with one message of `took` every `every` for `total`.
    fn run(started: Instant, every: Duration, total: Duration, took: Duration) -> Measured {
        let mut measured = Measured::new(started);
        let mut at = Duration::ZERO;
        while at < total {
            measured.message_took(started + at, took);
            at += every;
        }
        measured
    }

    #[test]
    fn the_timeline_stays_bounded_and_loses_no_message() {
        let measured = run(Instant::now(), MS * 10, MS * 20_000, MS);
        assert!(measured.timeline.buckets.len() <= MAX_BUCKETS);
        assert_eq!(measured.timeline.width, BUCKET * 256);
        let sum: u64 = measured.timeline.buckets.iter().map(Histogram::len).sum();
        assert_eq!((sum, measured.messages()), (2000, 2000));
    }

    #[test]
    fn merging_runs_of_different_length_adds_up() {
        let started = Instant::now();
        let long = run(started, MS * 10, MS * 20_000, MS);
        let mut merged = run(started, MS * 10, MS * 100, MS * 3);
        merged.error("first".into());
        merged.merge(long);
        assert_eq!(merged.messages(), 2010);
        assert_eq!(merged.duration, MS * 19_991);
        assert_eq!(merged.timeline.buckets[0].len(), 36);
        assert_eq!(merged.errors.count, 1);
        assert!((999.0..1001.0).contains(&merged.latency_us(0.5)));
        assert!((2999.0..3003.0).contains(&merged.latency_us(1.0)));
        let throughput = merged.throughput_per_s();
        assert!((100.0..101.0).contains(&throughput), "{throughput}");
    }

    #[test]
    fn only_the_first_errors_are_kept_and_all_are_counted() {
        let mut errors = Errors::default();
        for n in 0..KEPT_ERRORS + 3 {
            errors.add(format!("error {n}"));
        }
        let mut merged = Errors::default();
        merged.add("own".into());
        merged.merge(errors);
        assert_eq!(merged.count as usize, KEPT_ERRORS + 4);
        assert_eq!(merged.first.len(), KEPT_ERRORS);
        assert_eq!(merged.first[..2], ["own", "error 0"]);
    }

    #[test]
    fn a_run_without_messages_has_no_throughput() {
        let measured = Measured::new(Instant::now());
        assert_eq!(measured.throughput_per_s(), 0.0);
        assert_eq!(measured.latency_us(0.99), 0.0);
    }
}
