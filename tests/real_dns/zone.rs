//! One zone, written in the form of each server.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What all names end with.
pub(crate) const ORIGIN: &str = "real.test";
/// The TTL of every record that is not given another: dnsmasq has one for all SRV and HTTPS.
pub(crate) const TTL: u32 = 300;
/// How long an absence may be kept: the least of the SOA's TTL and its minimum (RFC 2308 5).
pub(crate) const NEGATIVE_TTL: u32 = 80;

/// A record: its owner without [`ORIGIN`], its TTL, its data.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) owner: String,
    pub(crate) ttl: u32,
    pub(crate) data: Data,
}

#[derive(Debug, Clone)]
pub(crate) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(&'static str),
    Txt,
    /// Priority, weight, port, target ("" is the root).
    Srv(u16, u16, u16, &'static str),
    /// Priority, target ("" is the root), parameters in the form of a zone file and as they are
    /// on the wire, in hexadecimal.
    Https(u16, &'static str, &'static str, &'static str),
}

/// The zone in which `moved` has these last bytes of addresses.
pub(crate) fn records(moved: &[u8]) -> Vec<Record> {
    let mut all = Vec::new();
    let mut add = |owner: &str, ttl, data| {
        let owner = owner.to_owned();
        all.push(Record { owner, ttl, data });
    };
    let v4 = |last| Data::A(Ipv4Addr::new(192, 0, 2, last));
    let v6 = |last| Data::Aaaa(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    (1..=4).for_each(|last| add("four", TTL, v4(last)));
    add("both", 120, v4(5));
    add("both", 240, v6(5));
    add("v4only", 150, v4(6));
    add("v6only", 160, v6(7));
    add("alias", 60, Data::Cname("alias2"));
    add("alias2", 50, Data::Cname("both"));
    add("alias3", 70, Data::Cname("v4only"));
    add("dangling", 60, Data::Cname("nowhere"));
    add("zero", 0, v4(9));
    (1..=60).for_each(|last| add("large", 90, v6(0x100 + last)));
    moved.iter().for_each(|&last| add("moved", 1, v4(last)));
    add("text", TTL, Data::Txt);

    add("_redis._tcp", TTL, Data::Srv(10, 60, 6379, "four"));
    add("_redis._tcp", TTL, Data::Srv(10, 0, 6380, "both"));
    add("_redis._tcp", TTL, Data::Srv(20, 1, 6381, "v4only"));
    add("_plain._tcp", TTL, Data::Txt);
    add("_none._tcp", TTL, Data::Srv(0, 0, 1, ""));
    add("_odd._tcp", TTL, Data::Srv(0, 5, 0, "four"));
    add("_odd._tcp", TTL, Data::Srv(1, 5, 7000, "v4only"));
    add("_portless._tcp", TTL, Data::Srv(0, 5, 0, "four"));
    add("_alias._tcp", TTL, Data::Srv(0, 5, 7001, "alias3"));

    let h2_on_8443 = "0001000302683200030002_20fb";
    add(
        "web",
        TTL,
        Data::Https(1, "", "alpn=h2 port=8443", h2_on_8443),
    );
    add("web", TTL, Data::Https(2, "v4only", "", ""));
    add("web", TTL, v4(10));
    add("named", TTL, Data::Https(0, "web", "", ""));
    add("named", TTL, v4(12));
    add("broken", TTL, v4(13));

    let mandatory = "00000002ff78_ff78000178";
    add(
        "odd",
        TTL,
        Data::Https(1, "four", "mandatory=key65400 key65400=x", mandatory),
    );
    add("odd", TTL, v4(11));
    all
}

/// A zone file (RFC 1035 5). A `serial` above that of the last one makes it the newer.
pub(crate) fn file(records: &[Record], serial: u32) -> String {
    let mut text = format!(
        "$ORIGIN {ORIGIN}.\n\
         @ 3600 IN SOA ns admin {serial} 3600 600 86400 {NEGATIVE_TTL}\n\
         @ {TTL} IN NS ns\nns {TTL} IN A 127.0.0.1\n"
    );
    for Record { owner, ttl, data } in records {
        let data = match data {
            Data::A(ip) => format!("A {ip}"),
            Data::Aaaa(ip) => format!("AAAA {ip}"),
            Data::Cname(target) => format!("CNAME {target}"),
            Data::Txt => "TXT text".to_owned(),
            Data::Srv(priority, weight, port, target) => {
                format!("SRV {priority} {weight} {port} {}", or_root(target))
            }
            Data::Https(priority, target, parameters, _) => {
                format!("HTTPS {priority} {} {parameters}", or_root(target))
            }
        };
        line(&mut text, format_args!("{owner} {ttl} IN {data}"));
    }
    text
}

fn or_root(target: &str) -> &str {
    if target.is_empty() { "." } else { target }
}

/// 4000 addresses of one name, for a zone file.
pub(crate) fn huge() -> String {
    let mut text = String::new();
    for n in 0..4000_u32 {
        let ip = Ipv4Addr::from(0x0a09_0000 + n);
        line(&mut text, format_args!("huge {TTL} IN A {ip}"));
    }
    text
}

/// An HTTPS record for dnsmasq that nobody else would load: `port` stands before `alpn`.
pub(crate) fn malformed() -> String {
    format!("dns-rr=broken.{ORIGIN},65,0001000003000220fb0001000302 6832\n").replace(' ', "")
}

/// The lines of a dnsmasq configuration (dnsmasq(8)).
pub(crate) fn dnsmasq(records: &[Record]) -> String {
    let mut text = String::new();
    for Record { owner, ttl, data } in records {
        let owner = format!("{owner}.{ORIGIN}");
        match data {
            Data::A(ip) => line(&mut text, format_args!("host-record={owner},{ip},{ttl}")),
            Data::Aaaa(ip) => line(&mut text, format_args!("host-record={owner},{ip},{ttl}")),
            Data::Cname(target) => {
                line(
                    &mut text,
                    format_args!("cname={owner},{target}.{ORIGIN},{ttl}"),
                );
            }
            Data::Txt => line(&mut text, format_args!("txt-record={owner},text")),
            // Without a target it is the root, and the port 1.
            Data::Srv(_, _, _, "") => line(&mut text, format_args!("srv-host={owner}")),
            Data::Srv(priority, weight, port, target) => line(
                &mut text,
                format_args!("srv-host={owner},{target}.{ORIGIN},{port},{priority},{weight}"),
            ),
            Data::Https(priority, target, _, parameters) => {
                let name = wire_name(target);
                let rest = parameters.replace('_', "");
                line(
                    &mut text,
                    format_args!("dns-rr={owner},65,{priority:04x}{name}{rest}"),
                );
            }
        }
    }
    text
}

/// `target` below [`ORIGIN`] as in packets, in hexadecimal.
fn wire_name(target: &str) -> String {
    let name = match target {
        "" => String::new(),
        target => format!("{target}.{ORIGIN}"),
    };
    let mut hex = String::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let _never_fails = write!(hex, "{:02x}", label.len());
        for byte in label.bytes() {
            let _never_fails = write!(hex, "{byte:02x}");
        }
    }
    hex + "00"
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _never_fails = writeln!(text, "{line}");
}
