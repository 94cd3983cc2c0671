//! unbound, named and dnsmasq as child processes: started on a port of loopback with the zone of
//! [`zone`](super::zone), told of a new one, and ended by their process id, also when a test panics.
//!
//! Should the test's thread be killed, the kernel ends them: setpriv(1) asks it to.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::dig::{self, Dug};
use super::zone::{self, ORIGIN};

/// How long a server may take to start, to take a new zone, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often another port is tried.
const ATTEMPTS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A caching resolver that has the zone to itself.
    Unbound,
    /// The authority for the zone.
    Named,
    /// Knows the zone from its configuration; an absence comes without SOA.
    Dnsmasq,
    /// dnsmasq as the authority: an absence comes with SOA, and every TTL is the same.
    DnsmasqAuthority,
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    child: Child,
    serial: u32,
}

impl Server {
    /// Starts a server that answers for the zone where `moved` has these addresses.
    pub(crate) fn start(kind: Kind, moved: &[u8]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let n = STARTED.fetch_add(1, Ordering::SeqCst);
        let folder = format!("real-dns-{}-{n}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).unwrap();
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let port = free_port();
            let child = spawn(kind, &folder, port, moved, 1);
            let mut server = Self {
                kind,
                folder: folder.clone(),
                port,
                child,
                serial: 1,
            };
            match server.wait_for(moved) {
                Ok(()) => return server,
                Err(reason) => last = reason,
            }
            server.end();
        }
        panic!("{kind:?} does not start: {last}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Asks it by dig(1). A name without a dot at its end is one of the zone.
    pub(crate) fn dig(&self, name: &str, kind: &str) -> Dug {
        dig::ask(self.address(), &format!("{name}.{ORIGIN}"), kind)
    }

    /// Gives `moved` other addresses, and waits until the server answers with them.
    pub(crate) fn reload(&mut self, moved: &[u8]) {
        self.serial += 1;
        match self.kind {
            Kind::Unbound | Kind::Named => {
                write_zone(self.kind, &self.folder, moved, self.serial);
                self.signal(Signal::HUP);
            }
            // It reads its configuration once.
            Kind::Dnsmasq | Kind::DnsmasqAuthority => {
                self.end();
                self.child = spawn(self.kind, &self.folder, self.port, moved, self.serial);
            }
        }
        if let Err(reason) = self.wait_for(moved) {
            panic!("{:?} does not take the new zone: {reason}", self.kind);
        }
    }

    /// Waits until `moved` has exactly these addresses.
    fn wait_for(&mut self, moved: &[u8]) -> Result<(), String> {
        let expected: Vec<_> = moved.iter().map(|last| format!("192.0.2.{last}")).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("{status}: {}", self.log()));
            }
            let mut found = dig::try_once(self.address(), &format!("moved.{ORIGIN}"), "A")
                .map(|dug| dug.data("A"))
                .unwrap_or_default();
            found.sort();
            if found == expected {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("answers {found:?}: {}", self.log()));
            }
            // bounded: by the deadline
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is our child and not waited for");
    }

    /// Ends the process: first as it likes it, then at once.
    fn end(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() >= deadline {
                let _ended_meanwhile = self.child.kill();
            }
            // bounded: SIGKILL after the deadline ends it
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        // What a failed test leaves there helps nobody: its log is in the failure.
        let _gone_already = fs::remove_dir_all(&self.folder);
    }
}

/// A port of 127.0.0.1 that is free for UDP and TCP. Another process may take it before the server
/// does; then the next one is tried.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

fn spawn(kind: Kind, folder: &Path, port: u16, moved: &[u8], serial: u32) -> Child {
    let path = folder.join("conf");
    let path = path.to_str().expect("the target folder has a plain name");
    let (program, package, args): (_, _, Vec<String>) = match kind {
        Kind::Unbound => (
            "unbound",
            "unbound",
            vec!["-d".into(), "-c".into(), path.into()],
        ),
        Kind::Named => (
            "named",
            "bind9",
            vec!["-g".into(), "-n1".into(), "-c".into(), path.into()],
        ),
        Kind::Dnsmasq | Kind::DnsmasqAuthority => (
            "dnsmasq",
            "dnsmasq-base",
            vec![
                "-k".into(),
                format!("--conf-file={path}"),
                "--log-facility=-".into(),
            ],
        ),
    };
    let conf = match kind {
        Kind::Unbound => unbound(folder, port),
        Kind::Named => named(folder, port),
        Kind::Dnsmasq => dnsmasq(port, moved) + &zone::malformed(),
        Kind::DnsmasqAuthority => dnsmasq(port, moved) + &authority(serial),
    };
    fs::write(path, conf).unwrap();
    write_zone(kind, folder, moved, serial);
    let program = which(program, package);
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(which("setpriv", "util-linux"));
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(args);
    command
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log);
    command.spawn().expect("setpriv was found")
}

/// The path of a program; Debian keeps servers out of the PATH of users.
pub(crate) fn which(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is missing: install the Debian package {package}"))
}

fn write_zone(kind: Kind, folder: &Path, moved: &[u8], serial: u32) {
    let mut text = zone::file(&zone::records(moved), serial);
    // named takes a hundred records of one name, newer ones unless told otherwise.
    if kind == Kind::Unbound {
        text += &zone::huge();
    }
    // In one step: a server may be reading.
    fs::write(folder.join("zone.new"), text).unwrap();
    fs::rename(folder.join("zone.new"), folder.join("zone")).unwrap();
}

fn unbound(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "server:\n interface: 127.0.0.1\n port: {port}\n do-daemonize: no\n use-syslog: no\n \
         logfile: \"\"\n username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n \
         access-control: 127.0.0.0/8 allow\n module-config: \"iterator\"\n do-ip6: no\n \
         local-zone: \"test.\" nodefault\n\
         auth-zone:\n name: \"{ORIGIN}\"\n zonefile: \"{folder}/zone\"\n for-downstream: no\n \
         for-upstream: yes\n fallback-enabled: no\n\
         remote-control:\n control-enable: no\n"
    )
}

fn named(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "options {{\n directory \"{folder}\";\n listen-on port {port} {{ 127.0.0.1; }};\n \
         listen-on-v6 {{ none; }};\n pid-file none;\n session-keyfile none;\n recursion no;\n \
         dnssec-validation no;\n empty-zones-enable no;\n minimal-responses yes;\n}};\n\
         controls {{ }};\n\
         zone \"{ORIGIN}\" {{ type primary; file \"zone\"; }};\n"
    )
}

fn dnsmasq(port: u16, moved: &[u8]) -> String {
    let user = Command::new("id")
        .arg("-un")
        .output()
        .expect("id(1) is everywhere");
    let user = String::from_utf8(user.stdout).unwrap();
    format!(
        "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\npid-file=\n\
         user={}\nlocal-ttl={}\nedns-packet-max=1232\nlocal=/{ORIGIN}/\n{}",
        user.trim(),
        zone::TTL,
        zone::dnsmasq(&zone::records(moved)),
    )
}

fn authority(serial: u32) -> String {
    format!(
        "auth-server=ns.{ORIGIN},127.0.0.1\nauth-zone={ORIGIN},192.0.2.0/24,2001:db8::/32\n\
         auth-ttl={}\nauth-soa={serial},admin.{ORIGIN},3600,600,86400\n",
        zone::NEGATIVE_TTL
    )
}
