//! Where files, the host's name and the environment come from: the system, or a simulated world.

use std::fmt::Debug;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::ring;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds and nanoseconds of the last change of the content.
    pub(crate) modified: (i64, i64),
    /// The same of the inode: also a move or a change of rights.
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    /// Whether this is another file than `before`, moved into its place when it had been written:
    /// writing would have set both times.
    pub(super) fn was_moved_over(&self, before: Option<&Stamp>) -> bool {
        let is_other = |before: &Stamp| (before.device, before.inode) != (self.device, self.inode);
        self.changed > self.modified && before.is_some_and(is_other)
    }
}

/// Where files come from.
pub(crate) trait Disk: Debug + Send + Sync {
    /// The state of the file that `path` leads to.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;

    /// The first `most` bytes of the file at `path`.
    ///
    /// # Errors
    ///
    /// `Interrupted` if its state is not `expected` all the time.
    fn read(&self, path: &Path, expected: &Stamp, most: usize) -> io::Result<Vec<u8>>;

    /// The host's name.
    fn hostname(&self) -> String;

    /// A variable of the environment, if the process may listen to that.
    fn variable(&self, name: &str) -> Option<String>;

    /// The number of a network interface.
    fn zone(&self, name: &str) -> Option<u32>;

    /// Whether reading takes no time, however large a file is.
    fn is_instant(&self) -> bool;
}

/// The system's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        stamp(&std::fs::metadata(path)?)
    }

    fn read(&self, path: &Path, expected: &Stamp, most: usize) -> io::Result<Vec<u8>> {
        // Without O_NONBLOCK, opening what has become a pipe would wait for its writer.
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        read_stable(&file, &file, expected, most)
    }

    fn hostname(&self) -> String {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    }

    fn variable(&self, name: &str) -> Option<String> {
        if ring::has_more_rights_than_its_user() {
            return None;
        }
        let value = std::env::var_os(name)?;
        Some(value.to_string_lossy().into_owned())
    }

    fn zone(&self, name: &str) -> Option<u32> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).ok()?;
        netdevice::name_to_index(socket, name).ok()
    }

    fn is_instant(&self) -> bool {
        false
    }
}

/// Files, and `/dev/null` for none.
fn stamp(metadata: &Metadata) -> io::Result<Stamp> {
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    Ok(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Reads `file` through `reader`.
pub(super) fn read_stable(
    file: &File,
    reader: impl Read,
    expected: &Stamp,
    most: usize,
) -> io::Result<Vec<u8>> {
    let is_as_expected = || Ok::<_, io::Error>(stamp(&file.metadata()?)? == *expected);
    let mut bytes = Vec::new();
    if is_as_expected()? {
        reader.take(most as u64).read_to_end(&mut bytes)?;
        if is_as_expected()? {
            return Ok(bytes);
        }
    }
    let text = "it changed while it was read";
    Err(io::Error::new(io::ErrorKind::Interrupted, text))
}
