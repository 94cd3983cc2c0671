//! The files of a world that its resolver reads. Nothing of the machine that plays the world is in
//! them, nor of its environment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::World;
use super::world::NAME_SERVERS;
use crate::shard::{Disk, Stamp};

/// The files of a world, by their path.
#[derive(Debug, Clone)]
pub(super) struct Files(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<PathBuf, (u32, Arc<[u8]>)>,
    /// How often a file was set. Each time it is another file.
    count: u32,
}

impl Files {
    /// What a host has that was just set up: the world's name servers, and `localhost`.
    pub(super) fn new() -> Self {
        let files = Self(Arc::default());
        let servers: String = NAME_SERVERS
            .iter()
            .map(|ip| format!("nameserver {ip}\n"))
            .collect();
        files.set(Path::new("/etc/resolv.conf"), servers.as_bytes());
        let hosts = b"127.0.0.1 localhost\n::1 localhost\n";
        files.set(Path::new("/etc/hosts"), hosts);
        files.set(Path::new("/etc/nsswitch.conf"), b"hosts: files dns\n");
        files
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, path: &Path, bytes: &[u8]) {
        let mut content = self.lock();
        content.count += 1;
        let file = (content.count, bytes.into());
        content.files.insert(path.to_owned(), file);
    }

    fn find(&self, path: &Path) -> io::Result<(Stamp, Arc<[u8]>)> {
        let content = self.lock();
        let file = content.files.get(path);
        let (count, bytes) = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let count = *count;
        let stamp = Stamp {
            device: 0,
            inode: count.into(),
            size: bytes.len() as u64,
            // Moved into its place after it was written.
            modified: (count.into(), 0),
            changed: (count.into(), 1),
        };
        Ok((stamp, bytes.clone()))
    }
}

impl Disk for Files {
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.find(path).map(|(stamp, _)| stamp)
    }

    fn read(&self, path: &Path, expected: &Stamp, most: usize) -> io::Result<Vec<u8>> {
        match self.find(path)? {
            (stamp, bytes) if stamp == *expected => Ok(bytes[..bytes.len().min(most)].to_vec()),
            _ => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn hostname(&self) -> String {
        "world".to_owned()
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn zone(&self, _name: &str) -> Option<u32> {
        None
    }

    fn is_instant(&self) -> bool {
        true
    }
}

impl World {
    /// Puts a file at `path`, in place of one that is there. The resolver reads `/etc/resolv.conf`,
    /// `/etc/hosts` and `/etc/nsswitch.conf`, unless the settings name others.
    ///
    /// ```
    /// use ringpool::{Pool, sim::World};
    /// let world = World::new(7)?;
    /// let server = world.server("old.test:80", &["10.0.0.1"])?;
    /// world.set_file("/etc/hosts", b"10.0.0.1 db.test\n");
    /// world.run_on(0, async { Pool::local()?.get("db.test:80").await.map(drop) })??;
    /// assert_eq!((server.connects(), world.questions()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_file(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.files.set(path.as_ref(), bytes);
    }

    /// Removes the file at `path`, if there is one.
    pub fn remove_file(&self, path: impl AsRef<Path>) {
        self.files.lock().files.remove(path.as_ref());
    }
}
