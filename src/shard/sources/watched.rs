//! One file being watched, and the three of them together.
//!
//! States of a file: as taken; changed and not yet settled (`seen`); refused (`refused`: what it
//! says cannot be all of it) until it changes again; gone or unreadable.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Said;
use super::disk::{Disk, Stamp};
use crate::dns::{self, Hosts, ResolverConfig, SourceOrder, Sources, Surroundings};
use crate::resolver::{ResolverOptions, SystemFiles};

/// How often the first reading is tried when the file changes meanwhile.
const FIRST_TRIES: usize = 3;

/// What a look at the files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    /// Something changes; it may not be finished.
    Unsettled,
    /// Something has changed, so many bytes.
    Changed {
        size: u64,
    },
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    most: usize,
    /// The state in which it was read.
    taken: Option<Stamp>,
    /// Another state, at the last look.
    seen: Option<Stamp>,
    /// The state in which it was read in vain.
    refused: Option<Stamp>,
    /// The state to read it in.
    wanted: Option<Stamp>,
    /// Why it is not what it says now that counts.
    trouble: Option<String>,
}

impl Watched {
    fn new(path: PathBuf, most: usize) -> Self {
        Self {
            path,
            most,
            taken: None,
            seen: None,
            refused: None,
            wanted: None,
            trouble: None,
        }
    }

    fn look(&mut self, disk: &dyn Disk) -> Look {
        let stamp = match disk.stamp(&self.path) {
            Ok(stamp) => stamp,
            Err(error) => {
                self.seen = None;
                self.complain(&error);
                return Look::Same;
            }
        };
        if self.taken == Some(stamp) {
            (self.seen, self.trouble) = (None, None);
            return Look::Same;
        }
        if self.refused == Some(stamp) {
            return Look::Same;
        }
        if self.seen == Some(stamp) || stamp.was_moved_over(self.taken.as_ref()) {
            self.wanted = Some(stamp);
            let size = stamp.size.min(self.most as u64);
            return Look::Changed { size };
        }
        self.seen = Some(stamp);
        Look::Unsettled
    }

    /// Reads what a look wanted; `None` if there is nothing, or not now.
    fn read(&mut self, disk: &dyn Disk) -> Option<(Stamp, Vec<u8>)> {
        let stamp = self.wanted.take()?;
        self.seen = None;
        match disk.read(&self.path, &stamp, self.most) {
            Ok(bytes) => Some((stamp, bytes)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => {
                self.refused = Some(stamp);
                self.complain(&error);
                None
            }
        }
    }

    fn take(&mut self, stamp: Stamp) {
        (self.taken, self.refused, self.trouble) = (Some(stamp), None, None);
    }

    fn refuse(&mut self, stamp: Stamp, why: &str) {
        self.refused = Some(stamp);
        self.complain(&why);
    }

    fn complain(&mut self, why: &dyn std::fmt::Display) {
        let kept = match self.taken {
            Some(_) => "what it said before is kept",
            None => "it counts as empty",
        };
        self.trouble = Some(format!("{}: {why}; {kept}", self.path.display()));
    }
}

/// The three files, what they say, and what counts besides.
#[derive(Debug)]
pub(super) struct Watch {
    resolv_conf: Watched,
    hosts: Watched,
    nsswitch: Watched,
    said: Said,
    order_notes: Vec<String>,
    /// Whether the host's name counts.
    is_ambient: bool,
    local_domain: Option<String>,
    options: Option<String>,
    chosen: ResolverOptions,
}

impl Watch {
    pub(super) fn new(
        files: SystemFiles,
        ambient: bool,
        chosen: &ResolverOptions,
        disk: &dyn Disk,
    ) -> Self {
        let variable = |name| disk.variable(name).filter(|_| ambient);
        Self {
            resolv_conf: Watched::new(files.resolv_conf, dns::RESOLV_CONF_MOST),
            hosts: Watched::new(files.hosts, dns::HOSTS_MOST),
            nsswitch: Watched::new(files.nsswitch, dns::NSSWITCH_MOST),
            said: Said::default(),
            order_notes: Vec::new(),
            is_ambient: ambient,
            local_domain: variable("LOCALDOMAIN"),
            options: variable("RES_OPTIONS"),
            chosen: chosen.clone(),
        }
    }

    fn files(&mut self) -> [&mut Watched; 3] {
        [&mut self.resolv_conf, &mut self.hosts, &mut self.nsswitch]
    }

    /// The first picture: there is nothing before it that could be kept, so each file is taken as
    /// it is.
    pub(super) fn start(&mut self, disk: &dyn Disk) -> Sources {
        self.said.config = self.parse_config(b"", disk);
        for _ in 0..FIRST_TRIES {
            for file in self.files() {
                match disk.stamp(&file.path) {
                    Ok(stamp) if file.taken.is_none() => file.wanted = Some(stamp),
                    Ok(_) => {}
                    Err(error) => file.complain(&error),
                }
            }
            if let Some((stamp, bytes)) = self.resolv_conf.read(disk) {
                self.said.config = self.parse_config(&bytes, disk);
                self.resolv_conf.take(stamp);
            }
            self.read_others(disk);
        }
        Sources {
            notes: self.notes(),
            ..self.said.picture()
        }
    }

    pub(super) fn look(&mut self, disk: &dyn Disk) -> Look {
        let keeps = self.said.config.no_reload;
        let mut found = Look::Same;
        for (at, file) in self.files().into_iter().enumerate() {
            if at == 0 && keeps {
                continue;
            }
            found = match (found, file.look(disk)) {
                (Look::Changed { size }, Look::Changed { size: more }) => {
                    let size = size + more;
                    Look::Changed { size }
                }
                (changed @ Look::Changed { .. }, _) | (_, changed @ Look::Changed { .. }) => {
                    changed
                }
                (Look::Same, Look::Same) => Look::Same,
                _ => Look::Unsettled,
            };
        }
        found
    }

    /// Reads the files that a look found changed.
    pub(super) fn read(&mut self, disk: &dyn Disk) {
        if let Some((stamp, bytes)) = self.resolv_conf.read(disk) {
            match dns::is_whole(&bytes) {
                Ok(()) => {
                    self.said.config = self.parse_config(&bytes, disk);
                    self.resolv_conf.take(stamp);
                }
                Err(why) => self.resolv_conf.refuse(stamp, why),
            }
        }
        self.read_others(disk);
    }

    /// The files that a look found changed could not be read now.
    pub(super) fn not_read(&mut self, why: &dyn std::fmt::Display) {
        for file in self.files() {
            if file.wanted.take().is_some() {
                file.complain(why);
            }
        }
    }

    /// Any content of these two is one.
    fn read_others(&mut self, disk: &dyn Disk) {
        if let Some((stamp, bytes)) = self.hosts.read(disk) {
            self.said.hosts = Arc::new(Hosts::parse(&bytes));
            self.hosts.take(stamp);
        }
        if let Some((stamp, bytes)) = self.nsswitch.read(disk) {
            (self.said.order, self.order_notes) = SourceOrder::parse(&bytes);
            self.nsswitch.take(stamp);
        }
    }

    fn parse_config(&self, bytes: &[u8], disk: &dyn Disk) -> ResolverConfig {
        let hostname = match self.is_ambient {
            true => disk.hostname(),
            false => String::new(),
        };
        let around = Surroundings {
            hostname: &hostname,
            local_domain: self.local_domain.as_deref(),
            options: self.options.as_deref(),
            zone_of: &|name| disk.zone(name),
        };
        ResolverConfig::read(bytes, around).chosen(&self.chosen)
    }

    fn notes(&self) -> Vec<String> {
        let files = [&self.resolv_conf, &self.hosts, &self.nsswitch];
        let troubles = files.into_iter().filter_map(|file| file.trouble.clone());
        troubles.chain(self.order_notes.iter().cloned()).collect()
    }

    /// The picture, if it is another than `before`.
    pub(super) fn picture(&mut self, before: &Sources) -> Option<Sources> {
        let notes = self.notes();
        let is_same = self.said.is_in(before);
        if is_same && notes == before.notes {
            return None;
        }
        Some(Sources {
            generation: before.generation + u64::from(!is_same),
            notes,
            ..self.said.picture()
        })
    }
}

impl Said {
    fn picture(&self) -> Sources {
        let hosts = self.hosts.clone();
        Sources::of_files(hosts, self.config.clone(), self.order.clone())
    }

    fn is_in(&self, sources: &Sources) -> bool {
        let has_hosts = Arc::ptr_eq(&self.hosts, &sources.hosts) || self.hosts == sources.hosts;
        has_hosts && self.config == sources.config && self.order == sources.order
    }
}
