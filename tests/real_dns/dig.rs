//! What dig(1) says, taken apart.

use std::net::SocketAddr;
use std::process::Command;

use super::servers::which;

/// One answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dug {
    /// `NOERROR`, `NXDOMAIN`, ...
    pub(crate) status: String,
    /// Whether it came over TCP, after a cut one over UDP.
    pub(crate) was_cut: bool,
    pub(crate) answers: Vec<Line>,
    pub(crate) authorities: Vec<Line>,
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) ttl: u32,
    pub(crate) kind: String,
    pub(crate) data: String,
}

impl Dug {
    /// The data of the answer's records of one type, in their order.
    pub(crate) fn data(&self, kind: &str) -> Vec<String> {
        let of_kind = self.answers.iter().filter(|line| line.kind == kind);
        of_kind.map(|line| line.data.clone()).collect()
    }

    /// The least TTL of all records that lead to the answer; `None` if there is no record.
    pub(crate) fn ttl(&self) -> Option<u32> {
        self.answers.iter().map(|line| line.ttl).min()
    }

    /// How long the absence may be kept: the TTL of the SOA, which servers lower to its minimum.
    pub(crate) fn negative_ttl(&self) -> Option<u32> {
        let soa = self.authorities.iter().find(|line| line.kind == "SOA")?;
        let minimum = soa.data.split(' ').next_back()?.parse().ok()?;
        Some(soa.ttl.min(minimum))
    }
}

/// Asks, and asks again as dig sees fit.
///
/// # Panics
///
/// If there is no answer at all.
pub(crate) fn ask(server: SocketAddr, name: &str, kind: &str) -> Dug {
    let (dug, output) = run(server, name, kind, "+tries=3");
    dug.unwrap_or_else(|| panic!("dig {name} {kind} at {server}: {output}"))
}

/// Asks once. `None` if nobody answers.
pub(crate) fn try_once(server: SocketAddr, name: &str, kind: &str) -> Option<Dug> {
    run(server, name, kind, "+tries=1").0
}

fn run(server: SocketAddr, name: &str, kind: &str, tries: &str) -> (Option<Dug>, String) {
    let output = Command::new(which("dig", "bind9-dnsutils"))
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), name, kind, tries])
        // `-r`: without the user's ~/.digrc.
        .args([
            "-r",
            "+time=2",
            "+noall",
            "+comments",
            "+answer",
            "+authority",
            "+bufsize=1232",
        ])
        .output()
        .expect("dig was found");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (read(&text), text)
}

fn read(text: &str) -> Option<Dug> {
    let mut dug = Dug::default();
    let mut in_authority = false;
    for line in text.lines() {
        if let Some((_, status)) = line.split_once("status: ") {
            dug.status = status.split(',').next()?.to_owned();
        }
        dug.was_cut |= line.starts_with(";; Truncated");
        in_authority |= line.starts_with(";; AUTHORITY SECTION");
        if line.starts_with(';') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_owner, ttl, "IN", kind, data @ ..] = &words[..] {
            let ttl = ttl.parse().ok()?;
            let (kind, data) = ((*kind).to_owned(), data.join(" "));
            let lines = match in_authority {
                true => &mut dug.authorities,
                false => &mut dug.answers,
            };
            lines.push(Line { ttl, kind, data });
        }
    }
    (!dug.status.is_empty()).then_some(dug)
}
