use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::disk::read_stable;
use super::*;
use crate::dns::Local;

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringpool-sources-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Writes beside the file and moves the new one into its place.
    fn replace(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let beside = format!("{name}.new");
        self.write(&beside, bytes);
        fs::rename(self.path(&beside), self.path(name)).unwrap();
    }

    fn config(&self) -> Config {
        let files = SystemFiles {
            resolv_conf: self.path("resolv.conf"),
            hosts: self.path("hosts"),
            nsswitch: self.path("nsswitch.conf"),
        };
        Config {
            resolver: Resolver::Files(files),
            ..Config::default()
        }
    }

    fn watch(&self) -> Cores {
        let files = SourceFiles::new(&self.config(), Arc::new(RealDisk));
        let view = files.view();
        Cores { view, now: 0 }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A core and its clock.
struct Cores {
    view: SourceView,
    now: u64,
}

impl Cores {
    /// Looks `count` times, a period apart, so that what has changed has settled. Whether something
    /// new was found.
    fn look(&mut self, count: usize) -> bool {
        let mut is_new = false;
        for _ in 0..count {
            self.now += PERIOD.as_nanos() as u64;
            is_new |= self.view.refresh(Tick::from_nanos(self.now));
        }
        is_new
    }

    fn servers(&self) -> String {
        let servers = &self.view.sources().config.servers;
        let shown: Vec<String> = servers.iter().map(|it| it.ip().to_string()).collect();
        shown.join(" ")
    }

    fn host(&self, host: &str) -> String {
        match self.view.sources().local(host) {
            Local::Addresses { addresses, .. } => format!("{addresses:?}"),
            other => format!("{other:?}"),
        }
    }

    fn notes(&self) -> String {
        self.view.sources().notes.join("\n")
    }
}

fn server(n: u8) -> String {
    format!("nameserver 192.0.2.{n}\n")
}

#[test]
fn d30_a_replaced_file_is_taken_whole_and_an_unfinished_one_is_not() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    let mut cores = folder.watch();
    assert!(!cores.look(3));
    assert_eq!(cores.servers(), "192.0.2.1");

    folder.replace("resolv.conf", server(2) + "search a.test\n");
    assert!(cores.look(2));
    assert_eq!(cores.servers(), "192.0.2.2");
    assert_eq!(cores.view.sources().generation, 1);

    // In place, in three steps: none but the last is ever seen.
    let mut file = File::create(folder.path("resolv.conf")).unwrap();
    assert!(!cores.look(1));
    file.write_all(b"nameserver 192.0.2.3\nnames").unwrap();
    assert!(!cores.look(1));
    file.write_all(b"erver 192.0.2.4\n").unwrap();
    assert!(!cores.look(1));
    assert_eq!(cores.servers(), "192.0.2.2");
    assert!(cores.look(1));
    assert_eq!(cores.servers(), "192.0.2.3 192.0.2.4");
}

#[test]
fn d30_emptied_removed_and_broken_files_leave_what_was_before() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    folder.write("hosts", "192.0.2.9 db\n");
    folder.write("nsswitch.conf", "hosts: files dns\n");
    let mut cores = folder.watch();
    assert_eq!(cores.notes(), "");

    let broken: [&[u8]; 5] = [
        b"",
        b"\n# nothing\n",
        b"nameserver 192.0.2.2\n\0\0\0\0",
        b"\xff\xfe\xfd",
        &[b'x'; 1024 * 1024],
    ];
    for bytes in broken {
        folder.write("resolv.conf", bytes);
        assert!(!cores.look(3));
        assert_eq!(cores.servers(), "192.0.2.1");
        assert!(
            cores.notes().contains("what it said before is kept"),
            "{}",
            cores.notes()
        );
    }
    for name in ["resolv.conf", "hosts", "nsswitch.conf"] {
        fs::remove_file(folder.path(name)).unwrap();
    }
    assert!(!cores.look(3));
    assert_eq!(cores.servers(), "192.0.2.1");
    assert_eq!(cores.host("db"), "[192.0.2.9]");
    assert_eq!(cores.notes().lines().count(), 3, "{}", cores.notes());
    // A pipe would be waited for; a folder cannot be read.
    fs::create_dir(folder.path("resolv.conf")).unwrap();
    assert!(!cores.look(3));
    fs::remove_dir(folder.path("resolv.conf")).unwrap();

    let good = [b"\xef\xbb\xbf".as_slice(), b"nameserver 192.0.2.3\r\n"].concat();
    folder.write("resolv.conf", good);
    folder.write("hosts", "");
    folder.write("nsswitch.conf", "hosts: dns\n");
    assert!(cores.look(2));
    assert_eq!(cores.servers(), "192.0.2.3");
    assert_eq!(cores.host("db"), "Ask");
    assert_eq!(cores.notes(), "");
}

#[test]
fn d30_a_megabyte_is_read_as_far_as_the_cap() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    let mut cores = folder.watch();
    let rest = "# nothing\n".repeat(1024 * 1024 / 10);
    folder.replace("resolv.conf", server(2) + &rest + &server(3));
    assert!(cores.look(2));
    assert_eq!(cores.servers(), "192.0.2.2");
}

#[test]
fn d30_a_missing_file_counts_as_empty_until_it_is_there() {
    let folder = Folder::new();
    let mut cores = folder.watch();
    assert_eq!(cores.servers(), "127.0.0.1");
    assert_eq!(cores.notes().matches("it counts as empty").count(), 3);
    folder.write("resolv.conf", server(1));
    assert!(cores.look(2));
    assert_eq!(cores.servers(), "192.0.2.1");
}

/// The link and the file behind it change while a core looks; each picture is one of the two.
#[test]
fn d30_links_turned_while_they_are_read_give_one_file_or_the_other() {
    let folder = Folder::new();
    let whole = |from: u8| (from..from + 8).map(server).collect::<String>();
    folder.write("a", whole(10));
    folder.write("b", whole(20) + "options ndots:2\n");
    symlink(folder.path("a"), folder.path("resolv.conf")).unwrap();
    let mut cores = folder.watch();
    let (done, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for name in ["b", "a"] {
                    symlink(folder.path(name), folder.path("link")).unwrap();
                    fs::rename(folder.path("link"), folder.path("resolv.conf")).unwrap();
                }
                folder.replace("a", whole(10));
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut taken = 0;
        for look in 0.. {
            taken += usize::from(cores.look(1));
            let config = &cores.view.sources().config;
            let first = match config.ndots {
                2 => 20,
                _ => 10,
            };
            let all: Vec<String> = (first..first + 8).map(|n| format!("192.0.2.{n}")).collect();
            assert_eq!(cores.servers(), all.join(" "));
            let is_enough = taken >= 20 && turns.load(Ordering::Relaxed) >= 20;
            if is_enough || look == 1_000_000 {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(taken > 0);
    });
}

/// Writes to the file when its first bytes have been read.
struct Meanwhile<'a> {
    file: &'a File,
    path: Option<&'a Path>,
}

impl Read for Meanwhile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        if let Some(path) = self.path.take() {
            File::options()
                .append(true)
                .open(path)?
                .write_all(b"more")?;
        }
        Ok(n)
    }
}

#[test]
fn d30_a_file_that_changes_while_it_is_read_is_not_taken() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    let path = folder.path("resolv.conf");
    let stamp = RealDisk.stamp(&path).unwrap();
    assert_eq!(RealDisk.read(&path, &stamp, 10).unwrap(), b"nameserver");

    let file = File::open(&path).unwrap();
    let reader = Meanwhile {
        file: &file,
        path: Some(&path),
    };
    let error = read_stable(&file, reader, &stamp, 1000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    // Nor one that changed between the look and the reading.
    let error = RealDisk.read(&path, &stamp, 1000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
}

#[test]
fn d31_a_changed_hosts_file_is_read_again_and_the_rest_is_not() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    folder.write("hosts", "::1 localhost\n192.0.2.9 db\n");
    let mut cores = folder.watch();
    assert_eq!(cores.host("localhost"), "[::1, 127.0.0.1]");
    assert_eq!(cores.host("db"), "[192.0.2.9]");
    folder.replace("hosts", "192.0.2.8 db\n2001:db8::8 db\n");
    assert!(cores.look(2));
    assert_eq!(cores.host("db"), "[192.0.2.8, 2001:db8::8]");
    assert_eq!(cores.servers(), "192.0.2.1");
    // The same words in a new file are no change: nothing that was learned is forgotten.
    folder.replace("hosts", "192.0.2.8 db # the same\n2001:db8::8 db\n");
    assert!(!cores.look(3));
    assert_eq!(cores.view.sources().generation, 1);
}

/// A million lines are read on another thread: the core that looks goes on at once.
#[test]
fn d31_a_huge_hosts_file_is_not_read_by_the_core() {
    #[derive(Debug)]
    struct Recorder(std::sync::Mutex<Vec<(u64, std::thread::ThreadId)>>);
    impl Disk for Recorder {
        fn stamp(&self, path: &Path) -> io::Result<Stamp> {
            RealDisk.stamp(path)
        }
        fn read(&self, path: &Path, expected: &Stamp, most: usize) -> io::Result<Vec<u8>> {
            let read = (expected.size, std::thread::current().id());
            self.0.lock().unwrap().push(read);
            RealDisk.read(path, expected, most)
        }
        fn hostname(&self) -> String {
            String::new()
        }
        fn variable(&self, _: &str) -> Option<String> {
            None
        }
        fn zone(&self, _: &str) -> Option<u32> {
            None
        }
        fn is_instant(&self) -> bool {
            false
        }
    }

    let folder = Folder::new();
    folder.write("hosts", "192.0.2.9 db\n");
    let disk = Arc::new(Recorder(Vec::new().into()));
    let files = SourceFiles::new(&folder.config(), disk.clone());
    let view = files.view();
    let mut cores = Cores { view, now: 0 };
    let lines: String = (0..1_000_000)
        .map(|n| format!("192.0.2.1 h{n}\n"))
        .collect();
    folder.replace("hosts", format!("192.0.2.8 db\n{lines}"));
    let late = std::time::Instant::now() + Duration::from_secs(60);
    while !cores.look(1) {
        assert!(std::time::Instant::now() < late, "{}", cores.notes());
        std::thread::yield_now();
    }
    assert_eq!(cores.host("db"), "[192.0.2.8]");
    assert_eq!(cores.host("h100000"), "[192.0.2.1]");
    // Behind the cap.
    assert_eq!(cores.host("h999999"), "Ask");
    let own = std::thread::current().id();
    let reads = disk.0.lock().unwrap();
    let large = reads.iter().filter(|(size, _)| *size > INLINE_MOST);
    assert!(large.clone().count() > 0 && large.clone().all(|(_, thread)| *thread != own));
}

#[test]
fn a_file_that_asks_for_it_is_not_read_again() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1) + "options no-reload\n");
    folder.write("hosts", "192.0.2.9 db\n");
    let mut cores = folder.watch();
    folder.replace("resolv.conf", server(2));
    assert!(!cores.look(3));
    assert_eq!(cores.servers(), "192.0.2.1");
    folder.replace("hosts", "192.0.2.8 db\n");
    assert!(cores.look(2));
    assert_eq!(cores.host("db"), "[192.0.2.8]");
}

#[test]
fn the_files_are_looked_at_every_five_seconds_at_most() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    let files = SourceFiles::new(&folder.config(), Arc::new(RealDisk));
    let (mut first, mut second) = (files.view(), files.view());
    let at = |millis: u64| Tick::from_nanos(millis * 1_000_000);
    first.refresh(at(0));
    folder.replace("resolv.conf", server(2));
    for millis in [0, 1, 4999] {
        assert!(!first.refresh(at(millis)) && !second.refresh(at(millis)));
    }
    // What a core finds, the others have too.
    let mut is_new = false;
    for millis in [5000, 5100] {
        is_new |= first.refresh(at(millis));
    }
    assert!(is_new && second.refresh(at(5100)));
    assert!(Arc::ptr_eq(first.sources(), second.sources()));
    assert!(Arc::ptr_eq(first.sources(), files.view().sources()));
}

#[test]
fn d30_a_look_that_was_put_off_comes_in_time_for_who_connects_meanwhile() {
    let folder = Folder::new();
    let mut view = folder.watch().view;
    let at = |seconds| Tick::ZERO.plus(Duration::from_secs(seconds));
    view.watch(at(10));
    let soon = view.poll_timeout().unwrap();
    assert!(soon <= at(16), "{soon:?}");
    view.watch_on(at(20), Duration::from_secs(3600));
    assert_eq!(view.poll_timeout(), Some(at(3620)));
    view.watch(at(30));
    let soon = view.poll_timeout().unwrap();
    assert!(soon <= at(36), "{soon:?}");
    view.watch(at(31));
    assert_eq!(view.poll_timeout(), Some(soon), "others do not put it off");
}

#[test]
fn only_the_system_itself_listens_to_the_environment() {
    #[derive(Debug)]
    struct Ambient;
    impl Disk for Ambient {
        fn stamp(&self, _: &Path) -> io::Result<Stamp> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn read(&self, _: &Path, _: &Stamp, _: usize) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn hostname(&self) -> String {
            "h.a.test".into()
        }
        fn variable(&self, name: &str) -> Option<String> {
            (name == "RES_OPTIONS").then(|| "ndots:7".into())
        }
        fn zone(&self, _: &str) -> Option<u32> {
            None
        }
        fn is_instant(&self) -> bool {
            true
        }
    }

    let config = |resolver| {
        let config = Config {
            resolver,
            ..Config::default()
        };
        SourceFiles::new(&config, Arc::new(Ambient))
            .view()
            .sources()
            .config
            .clone()
    };
    let system = config(Resolver::System);
    assert_eq!(
        (system.ndots, &*system.search),
        (7, &["a.test".to_owned()][..])
    );
    for resolver in [
        Resolver::Files(SystemFiles::default()),
        Resolver::Servers(vec![([192, 0, 2, 1], 53).into()]),
    ] {
        let other = config(resolver);
        assert_eq!((other.ndots, other.search.len()), (1, 0));
    }
}

#[test]
fn the_system_says_its_name_and_the_number_of_its_loopback() {
    assert!(!RealDisk.hostname().is_empty());
    assert!(RealDisk.zone("lo").is_none_or(|number| number > 0));
    assert_eq!(RealDisk.zone("no-such-interface"), None);
}

#[test]
fn d30_a_core_that_comes_after_a_change_is_told_of_it_once() {
    let folder = Folder::new();
    folder.write("resolv.conf", server(1));
    let mut cores = folder.watch();
    folder.replace("resolv.conf", server(2));
    // As a thread does that reads a large file: no core has taken it yet.
    for _ in 0..2 {
        cores.now += PERIOD.as_nanos() as u64;
        cores.view.files.refresh(Tick::from_nanos(cores.now));
    }
    let mut late = Cores {
        view: cores.view.files.view(),
        now: 0,
    };
    assert_eq!(late.servers(), "192.0.2.2");
    assert!(late.look(1), "what cores share is of the first servers");
    assert!(!late.look(1) && cores.look(1));
}
