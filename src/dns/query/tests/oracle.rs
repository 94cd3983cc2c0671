//! Another implementation reads the same packets: dnspython makes them, good and bent, and says
//! what each of them means (`tests/dns_oracle/packets.py`). Without dnspython the test says so and
//! passes, unless `RINGPOOL_REQUIRE_DNSPYTHON` is set.
//!
//! A folder of packets from elsewhere is compared in the same way:
//! `RINGPOOL_PACKETS=DIR cargo test --lib packets_of_a_folder -- --nocapture`

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::bomb::assert_bounded;
use super::*;
use crate::dns::scan::Cost;

const COUNT: &str = "3000";
const SEEDS: [&str; 2] = ["1", "2"];

/// A reason, and whether it is the one.
type Reason = (&'static str, fn(&Row) -> bool);

/// Why a verdict of ours may be another one.
const EXPLAINED: [Reason; 12] = [
    ("a record that an answer does not need is not read", |row| {
        row.theirs == "reject" && row.ours == row.lenient
    }),
    (
        "a code that is no answer, and TC, are believed whatever follows the question",
        |row| match &*row.theirs {
            "reject" => ["refused", "cut"].contains(&&*row.ours),
            // By its high bits, which are in the OPT record.
            "refused" => row.ours == "cut",
            _ => false,
        },
    ),
    (
        "a malformed HTTPS record says that there is none (RFC 9460 section 2.2)",
        |row| row.kind == Kind::Https && row.theirs == "reject" && row.ours == "nodata -",
    ),
    (
        "parameters of an alias are ignored, not malformed (RFC 9460 section 2.4.2)",
        |row| row.kind == Kind::Https && row.theirs == "reject" && row.ours.contains("0 "),
    ),
    (
        "a TTL with the high bit is large (RFC 8767 section 4), not 0 (RFC 2181 section 8)",
        |row| without_ttl(&row.ours) == without_ttl(&row.theirs) && ttl(&row.theirs) == "0",
    ),
    (
        "of two aliases of one name the first one counts, not the last",
        |row| row.notes.contains("two-aliases"),
    ),
    (
        "of a name with an alias and records, only the alias counts",
        |row| row.notes.contains("alias-and-records"),
    ),
    (
        "protocols that cannot be printed are none of ours, and not text to the decoder",
        |row| row.notes.contains("alpn-bytes") && row.kind == Kind::Https,
    ),
    ("a referral is no answer (RFC 2308 section 2.2)", |row| {
        row.notes.contains("referral") && row.ours == "refused" && row.lenient == "nodata -"
    }),
    (
        "an OPT record of another section or owner is passed over like any record",
        |row| row.notes.contains("odd-options") && row.theirs == "reject",
    ),
    (
        "bytes behind a pointer are not part of the name, though its labels run over them",
        |row| row.notes.contains("odd-alias") && row.is_unread(),
    ),
    (
        "a record without data does not decode, needed or not",
        |row| row.notes.contains("empty-record") && row.is_unread(),
    ),
];

/// `found 60 a,b` is `found a,b`.
fn without_ttl(words: &str) -> String {
    let mut words: Vec<&str> = words.split(' ').collect();
    words.remove(1.min(words.len() - 1));
    words.join(" ")
}

fn ttl(words: &str) -> &str {
    words.split(' ').nth(1).unwrap_or_default()
}

struct Row {
    kind: Kind,
    ours: String,
    theirs: String,
    lenient: String,
    notes: String,
}

impl Row {
    /// Whether a needed record did not decode.
    fn is_unread(&self) -> bool {
        self.ours == "reject" || self.kind == Kind::Https && self.ours == "nodata -"
    }
}

/// How packets compare, over all of them.
#[derive(Default)]
struct Tally {
    same: u32,
    explained: [u32; EXPLAINED.len()],
    /// What nothing explains, and ours.
    others: String,
    /// How many of which kind of verdict of ours.
    verdicts: BTreeMap<String, u32>,
    /// The packet that took longest, and how long at best.
    slowest: (Duration, String),
}

/// Whether there is another implementation.
fn has_dnspython() -> bool {
    let import = Command::new("/usr/bin/python3")
        .args(["-c", "import dns"])
        .output();
    let is_there = import.is_ok_and(|output| output.status.success());
    let is_required = std::env::var_os("RINGPOOL_REQUIRE_DNSPYTHON").is_some();
    if !is_there && !is_required {
        println!("not compared: python3-dnspython is not installed");
    }
    is_there || is_required
}

/// What the script says.
fn packets<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns_oracle/packets.py");
    let output = Command::new("/usr/bin/python3")
        .arg(script)
        .args(arguments)
        .output();
    let needs = "this test needs Debian's python3 and python3-dnspython: apt-get install \
                 python3-dnspython";
    let output = output.unwrap_or_else(|error| panic!("{needs} ({error})"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{needs}\n{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn kind_of(text: &str) -> Kind {
    match text {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "SRV" => Kind::Srv,
        _ => Kind::Https,
    }
}

/// A verdict in the words of the script.
fn words(verdict: Verdict) -> String {
    let negative = |ttl: Option<u32>| ttl.map_or("-".to_owned(), |ttl| ttl.to_string());
    match verdict {
        Verdict::Found { records, ttl } => {
            let root = |target: &Option<Box<str>>| target.as_deref().unwrap_or(".").to_owned();
            let mut used: Vec<String> = match records {
                Records::Addresses(all) => all.iter().map(ToString::to_string).collect(),
                Records::Services(all) => all
                    .iter()
                    .map(|it| {
                        let (priority, weight) = (it.priority, it.weight);
                        format!("{priority} {weight} {} {}", it.port, root(&it.target))
                    })
                    .collect(),
                Records::Bindings(all) => all
                    .iter()
                    .map(|it| format!("{} {}", it.priority, root(&it.target)))
                    .collect(),
                Records::Given(all) => panic!("the user's own answer to a packet: {all:?}"),
            };
            used.sort();
            used.dedup();
            format!("found {ttl} {}", used.join(","))
        }
        Verdict::NoData { ttl } => format!("nodata {}", negative(ttl)),
        Verdict::NxDomain { ttl } => format!("nxdomain {}", negative(ttl)),
        Verdict::Truncated => "cut".to_owned(),
        Verdict::Refused(_) | Verdict::RetryPlain => "refused".to_owned(),
        Verdict::Foreign | Verdict::Malformed(_) | Verdict::Ignore(_) => "reject".to_owned(),
    }
}

impl Tally {
    /// Compares the packet of one line of the script's.
    fn add(&mut self, line: &str) {
        let fields: Vec<&str> = line.split('|').collect();
        let [what, kind, name, hex, theirs, lenient, notes] = fields[..] else {
            panic!("{line}");
        };
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        let kind = kind_of(kind);
        let row = Row {
            kind,
            ours: self.read(&bytes, &query_for(name, kind).unwrap(), what),
            theirs: theirs.to_owned(),
            lenient: lenient.to_owned(),
            notes: notes.to_owned(),
        };
        let verdict = row.ours.split(' ').next().unwrap_or_default();
        *self.verdicts.entry(verdict.to_owned()).or_default() += 1;
        if row.ours == row.theirs {
            self.same += 1;
            return;
        }
        match EXPLAINED.iter().position(|(_, explains)| explains(&row)) {
            Some(at) => self.explained[at] += 1,
            None => self.others += &format!("{line}\n  ours: {}\n", row.ours),
        }
    }

    /// The verdict in the words of the script; over UDP it is the same, or the packet is too long.
    fn read(&mut self, bytes: &[u8], query: &Query, what: &str) -> String {
        let start = Instant::now();
        let verdict = parse(bytes, query, over_tcp(), false);
        let mut took = start.elapsed();
        for _ in 0..2 {
            // The machine may have been at something else.
            let start = Instant::now();
            assert_eq!(parse(bytes, query, over_tcp(), false), verdict);
            took = took.min(start.elapsed());
        }
        if took > self.slowest.0 {
            self.slowest = (took, format!("{what}, {} bytes", bytes.len()));
        }
        let scanned = scan(bytes, record_type(query.kind).into());
        let cost: Cost = scanned.map(|it| it.cost).unwrap_or_default();
        assert_bounded(cost, what);
        let verdict = words(verdict);
        let over_udp = words(parse(bytes, query, sending(true), false));
        let is_cut = bytes.len() > MAX_DATAGRAM && over_udp == "cut";
        assert!(is_cut || over_udp == verdict, "{what}: {over_udp}");
        verdict
    }

    fn print(&self) {
        println!("{} the same", self.same);
        for ((why, _), count) in EXPLAINED.iter().zip(self.explained) {
            println!("{count} explained: {why}");
        }
        println!("verdicts: {:?}", self.verdicts);
        println!("slowest: {:?}", self.slowest);
        assert!(self.others.is_empty(), "{}", self.others);
    }
}

#[test]
fn d11_d22_d24_d34_dnspython_reads_the_same_in_the_same_packets() {
    if !has_dnspython() {
        return;
    }
    let mut tally = Tally::default();
    for seed in SEEDS {
        let text = packets(&["verdicts", seed, COUNT]);
        text.lines().for_each(|line| tally.add(line));
    }
    tally.print();
    // The packets are not all of one kind.
    assert!(tally.same > 4000, "{}", tally.same);
}

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compares every packet of `folder`, as it is and put right as an answer to each type.
fn compare(folder: &Path) -> Tally {
    let text = packets(&[OsStr::new("folder"), folder.as_os_str()]);
    let mut tally = Tally::default();
    text.lines().for_each(|line| tally.add(line));
    tally.print();
    tally
}

/// Packets as a network may have them, or those of the folder that `RINGPOOL_PACKETS` names.
#[test]
fn d11_d12_packets_of_a_folder_are_read_as_dnspython_reads_them() {
    if let Some(folder) = std::env::var_os("RINGPOOL_PACKETS") {
        let tally = compare(Path::new(&folder));
        assert!(!tally.verdicts.is_empty(), "no packet in {folder:?}");
        return;
    }
    if !has_dnspython() {
        return;
    }
    let name = format!("ringpool-packets-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    let write = [OsStr::new("write"), folder.0.as_os_str()];
    packets(&[&write[..], &["1", "500"].map(OsStr::new)].concat());
    let tally = compare(&folder.0);
    let all = ["cut", "found", "nodata", "nxdomain", "refused", "reject"];
    assert!(tally.verdicts.keys().eq(all), "{:?}", tally.verdicts);
    assert!(tally.verdicts["found"] > 100, "{:?}", tally.verdicts);
}
