//! Another implementation reads the same packets: dnspython makes them, good and bent, and says
//! what each of them means (`tests/dns_oracle/packets.py`). Without dnspython the test says so and
//! passes, unless `RINGPOOL_REQUIRE_DNSPYTHON` is set.

use std::process::Command;

use super::*;

const COUNT: &str = "3000";
const SEEDS: [&str; 2] = ["1", "2"];

/// A reason, and whether it is the one.
type Reason = (&'static str, fn(&Row) -> bool);

/// Why a verdict of ours may be another one.
const EXPLAINED: [Reason; 9] = [
    ("a record that an answer does not need is not read", |row| {
        row.theirs == "reject" && row.ours == row.lenient
    }),
    (
        "a code that is no answer, and TC, are believed whatever follows the question",
        |row| row.theirs == "reject" && ["refused", "cut"].contains(&&*row.ours),
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
    (
        "a record without data does not decode, needed or not",
        |row| row.notes.contains("empty-record") && row.ours == "reject",
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

fn packets(seed: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns_oracle/packets.py");
    let output = Command::new("/usr/bin/python3")
        .args([script, "verdicts", seed, COUNT])
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

#[test]
fn d11_d22_d24_d34_dnspython_reads_the_same_in_the_same_packets() {
    if !has_dnspython() {
        return;
    }
    let (mut same, mut explained) = (0, [0; EXPLAINED.len()]);
    let mut others = String::new();
    for line in SEEDS.map(packets).iter().flat_map(|text| text.lines()) {
        let fields: Vec<&str> = line.split('|').collect();
        let [kind, hex, theirs, lenient, notes] = fields[..] else {
            panic!("{line}");
        };
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        let kind = kind_of(kind);
        let row = Row {
            kind,
            ours: words(parse(&bytes, &query(kind), over_tcp(), false)),
            theirs: theirs.to_owned(),
            lenient: lenient.to_owned(),
            notes: notes.to_owned(),
        };
        if row.ours == row.theirs {
            same += 1;
            continue;
        }
        match EXPLAINED.iter().position(|(_, explains)| explains(&row)) {
            Some(at) => explained[at] += 1,
            None => others += &format!("{line}\n  ours: {}\n", row.ours),
        }
    }
    println!("{same} the same");
    for ((why, _), count) in EXPLAINED.iter().zip(explained) {
        println!("{count} explained: {why}");
    }
    assert!(others.is_empty(), "{others}");
    // The packets are not all of one kind.
    assert!(same > 4000, "{same}");
}
