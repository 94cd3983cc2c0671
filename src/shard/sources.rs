//! The system's files change while a service runs: a network is joined, a file is edited in place,
//! a link is turned. [`SourceFiles`] keeps the cores' picture of them up to date and whole.
//!
//! Promise: the files are looked at when a name is wanted, and while a core watches, at most every
//! 5 s, by one core at a time, and read when they have changed. A picture is made of whole files: one that is gone,
//! unreadable, empty, full of NUL or still being written leaves in place what it said before. The
//! generation goes up when, and only when, what the files say has changed.
//!
//! A look is three stat(2); a change costs a core the reading of up to 128 KiB from the page
//! cache; what is larger is read on a thread of its own, which then ends. A look blocks as long as
//! stat(2) does: the files should not lie on a network's file system.
//!
//! How unfinished writing is told: a file that was moved into its place is taken at once; any other
//! must be the same at two looks, 100 ms apart. Its stamp (device, inode, size, times) must be the
//! same before and after reading.

mod disk;
#[cfg(test)]
mod tests;
mod watched;

use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::Config;
use crate::dns::{Hosts, ResolverConfig, Sources};
use crate::resolver::{Resolver, ResolverOptions, SystemFiles};
use crate::share::{Latest, Seen, Turns};
use crate::time::Tick;

#[cfg(any(test, feature = "sim"))]
pub(crate) use disk::Stamp;
pub(crate) use disk::{Disk, RealDisk};
use watched::{Look, Watch};

/// The time between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a file must stay the same to count as written.
const SETTLE: Duration = Duration::from_millis(100);
/// What a core reads by itself.
const INLINE_MOST: u64 = 128 * 1024;

/// The files of a group, shared by its cores.
#[derive(Debug)]
pub(crate) struct SourceFiles {
    disk: Arc<dyn Disk>,
    /// Where the thread that made this may run: one that a core starts is bound to it otherwise.
    cores: Option<CpuSet>,
    latest: Latest<Sources>,
    /// `None` if nothing can change.
    watch: Option<Turns<Watch>>,
}

impl SourceFiles {
    /// Reads what the configuration names.
    pub(crate) fn new(config: &Config, disk: Arc<dyn Disk>) -> Arc<Self> {
        let chosen = &config.resolver_options;
        let fixed = match &config.resolver {
            Resolver::System => return Self::of_files(SystemFiles::default(), true, chosen, disk),
            Resolver::Files(files) => return Self::of_files(files.clone(), false, chosen, disk),
            Resolver::Servers(servers) => {
                Sources::of_config(ResolverConfig::of_servers(servers).chosen(chosen))
            }
            Resolver::Table(table) => {
                let config = ResolverConfig::default().chosen(chosen);
                let table = Sources::of_table(table);
                Sources { config, ..table }
            }
            Resolver::Custom(_) => Sources::of_config(ResolverConfig::default()),
        };
        Arc::new(Self {
            disk,
            cores: sched_getaffinity(None).ok(),
            latest: Latest::new(fixed),
            watch: None,
        })
    }

    fn of_files(
        files: SystemFiles,
        ambient: bool,
        chosen: &ResolverOptions,
        disk: Arc<dyn Disk>,
    ) -> Arc<Self> {
        let mut watch = Watch::new(files, ambient, chosen, &*disk);
        let first = watch.start(&*disk);
        Arc::new(Self {
            disk,
            cores: sched_getaffinity(None).ok(),
            latest: Latest::new(first),
            watch: Some(Turns::new(watch)),
        })
    }

    /// A core's own view.
    pub(crate) fn view(self: &Arc<Self>) -> SourceView {
        SourceView {
            told: 0,
            look_at: Tick::NEVER,
            seen: self.latest.seen(),
            files: self.clone(),
        }
    }

    /// Looks at the files if that is due.
    fn refresh(self: &Arc<Self>, now: Tick) {
        let Some(turns) = &self.watch else {
            return;
        };
        let Some(mut watch) = turns.begin(now) else {
            return;
        };
        match watch.look(&*self.disk) {
            Look::Same => turns.end(now.plus(PERIOD)),
            Look::Unsettled => turns.end(now.plus(SETTLE)),
            Look::Changed { size } => {
                turns.end(now.plus(SETTLE));
                if size > INLINE_MOST && !self.disk.is_instant() {
                    turns.end(now.plus(PERIOD));
                    drop(watch);
                    self.read_elsewhere(turns);
                    return;
                }
                watch.read(&*self.disk);
            }
        }
        self.publish(watch);
    }

    /// Reads on a thread. If none can be had, the next look tries again.
    fn read_elsewhere(self: &Arc<Self>, turns: &Turns<Watch>) {
        let files = self.clone();
        let read = move || {
            if let Some(cores) = &files.cores {
                // Where that is forbidden, it takes some of the core's time.
                let _ = sched_setaffinity(None, cores);
            }
            if let Some(turns) = &files.watch {
                let mut watch = turns.wait();
                watch.read(&*files.disk);
                files.publish(watch);
            }
        };
        let named = std::thread::Builder::new().name("ringpool-files".into());
        if let Err(error) = named.spawn(read) {
            let mut watch = turns.wait();
            watch.not_read(&error);
            self.publish(watch);
        }
    }

    fn publish(&self, mut watch: impl DerefMut<Target = Watch>) {
        if let Some(sources) = watch.picture(&self.latest.get()) {
            self.latest.set(sources);
        }
    }
}

/// One core's view of the files.
#[derive(Debug)]
pub(crate) struct SourceView {
    files: Arc<SourceFiles>,
    seen: Seen<Sources>,
    /// The generation that its core was told of. What cores share begins with the first.
    told: u64,
    /// When it looks though no name is wanted; [`Tick::NEVER`] if it does not.
    look_at: Tick,
}

impl SourceView {
    /// Looks at the files if that is due, and takes what is new. Whether what they say has changed:
    /// then nothing that was learned before counts.
    pub(crate) fn refresh(&mut self, now: Tick) -> bool {
        self.files.refresh(now);
        self.seen.look(&self.files.latest);
        let generation = self.sources().generation;
        std::mem::replace(&mut self.told, generation) != generation
    }

    /// From now on it looks from time to time, if anything can change.
    pub(crate) fn watch(&mut self, now: Tick) {
        let before = self.look_at;
        self.watch_on(now, Duration::ZERO);
        // A look that was put off for want of gets is not put off for whoever comes now.
        self.look_at = self.look_at.min(before);
    }

    /// It looks again when somebody has to, or soon after another core should have, and not before
    /// `pause` is over.
    pub(crate) fn watch_on(&mut self, now: Tick, pause: Duration) {
        let due = self.files.watch.as_ref().map(Turns::due);
        self.look_at = due.map_or(Tick::NEVER, |due| due.max(now.plus(pause.max(SETTLE))));
    }

    /// It looks only when a name is wanted.
    pub(crate) fn unwatch(&mut self) {
        self.look_at = Tick::NEVER;
    }

    /// When it looks though no name is wanted.
    pub(crate) fn poll_timeout(&self) -> Option<Tick> {
        (self.look_at != Tick::NEVER).then_some(self.look_at)
    }

    /// The picture that this core has.
    pub(crate) fn sources(&self) -> &Arc<Sources> {
        self.seen.value()
    }
}

/// What the files said, each by itself.
#[derive(Debug, Clone, Default)]
struct Said {
    hosts: Arc<Hosts>,
    config: ResolverConfig,
    order: crate::dns::SourceOrder,
}
