//! `resolv.conf` says whom to ask, and is often half wrong. [`ResolverConfig`] is what remains of
//! it when every value is brought into its range.
//!
//! Promise: no content makes it fail or panic; at most 64 KiB are read, to the last whole line;
//! there is always at least one server and at least one attempt; what makes no sense is passed
//! over. [`is_whole`] tells a file from what a writer has not finished.
//!
//! As resolv.conf(5) has it: the last of `search` and `domain` wins, `LOCALDOMAIN` overrides both,
//! `RES_OPTIONS` comes after the options of the file. Differences: eight servers instead of three,
//! at most 32 domains, at most three attempts (RFC 9520), EDNS unless it is switched off, and
//! `-option` takes any flag back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};

use super::special::is_special;
use crate::resolver::{Families, MAX_SERVERS, ResolverOptions};

/// How much of the file is read.
pub(crate) const MAX_LEN: usize = 64 * 1024;
const MAX_SEARCH: usize = 32;
const MAX_NDOTS: u32 = 15;
const MAX_TIMEOUT: u32 = 30;
/// Of one query to one server (RFC 9520 3.1).
const MAX_ATTEMPTS: u32 = 3;
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const DNS_PORT: u16 = 53;

/// Whom to ask, for what, how long and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverConfig {
    /// At least one.
    pub(crate) servers: Vec<SocketAddr>,
    /// The longest time to wait for one server before the next is asked as well.
    pub(crate) timeout: Duration,
    /// How often each server is asked, at most.
    pub(crate) attempts: u32,
    /// Lookups begin with another server each time.
    pub(crate) rotate: bool,
    /// Questions go over TCP alone.
    pub(crate) use_tcp: bool,
    /// Questions announce larger answers than 512 bytes (RFC 6891).
    pub(crate) edns: bool,
    /// Questions ask whether the server has validated (AD, RFC 6840 5.7), and it is believed.
    pub(crate) trust_ad: bool,
    /// Letters of questions change their case at random. Not from the file.
    pub(crate) randomize_case: bool,
    /// Which addresses are asked for. Not from the file.
    pub(crate) families: Families,
    /// Domains that a name may stand in, canonical; an empty one is the root.
    pub(crate) search: Vec<String>,
    /// How many dots make a name be tried as it is before the search list.
    pub(crate) ndots: u32,
    /// A name without dots is not asked for as it is if there is a search list.
    pub(crate) no_tld_query: bool,
    /// A and AAAA one after the other.
    pub(crate) single_request: bool,
    /// AAAA is not asked for.
    pub(crate) no_aaaa: bool,
    /// The failure of one address family fails the name.
    pub(crate) strict_error: bool,
    /// A changed file is not read again.
    pub(crate) no_reload: bool,
}

/// What counts besides the file.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The host's name, if the search list may default to its domain.
    pub(crate) hostname: &'a str,
    /// `LOCALDOMAIN` of the environment.
    pub(crate) local_domain: Option<&'a str>,
    /// `RES_OPTIONS` of the environment.
    pub(crate) options: Option<&'a str>,
    /// The number of a network interface.
    pub(crate) zone_of: &'a dyn Fn(&str) -> Option<u32>,
}

impl Default for Surroundings<'_> {
    fn default() -> Self {
        Self {
            hostname: "",
            local_domain: None,
            options: None,
            zone_of: &|_| None,
        }
    }
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self::parse(b"")
    }
}

impl ResolverConfig {
    /// The same, with what the user of the pool chose.
    pub(crate) fn chosen(self, options: &ResolverOptions) -> Self {
        Self {
            randomize_case: options.randomize_case,
            families: options.families,
            ..self
        }
    }

    /// These servers, and the defaults of everything else.
    pub(crate) fn of_servers(servers: &[SocketAddr]) -> Self {
        let mut config = Self::default();
        if !servers.is_empty() {
            config.servers = servers.to_vec();
        }
        config
    }

    /// Reads the content of a `resolv.conf` for itself.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self::read(bytes, Surroundings::default())
    }

    /// Reads the content of a `resolv.conf`.
    pub(crate) fn read(bytes: &[u8], around: Surroundings<'_>) -> Self {
        let lines = Lines::new(bytes, around.zone_of);
        let (parsed, _errors) = Config::parse_with_errors(lines.known.as_bytes());
        let mut config = Self {
            servers: servers(&parsed.nameservers),
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
            edns: true,
            trust_ad: false,
            randomize_case: false,
            families: Families::Both,
            search: search(&parsed, around),
            ndots: 1,
            no_tld_query: false,
            single_request: false,
            no_aaaa: false,
            strict_error: false,
            no_reload: false,
        };
        let environment = around.options.unwrap_or_default();
        for word in lines.options.into_iter().chain(words(environment)) {
            config.option(word);
        }
        config
    }

    /// One word of `options`; an unknown one says nothing.
    fn option(&mut self, word: &str) {
        if let Some((name, value)) = word.split_once(':') {
            self.number(name, value);
            return;
        }
        let (word, is_on) = match word.strip_prefix('-') {
            Some(word) => (word, false),
            None => (word, true),
        };
        let flag = match word {
            "rotate" => &mut self.rotate,
            "use-vc" | "usevc" | "tcp" => &mut self.use_tcp,
            "edns0" => &mut self.edns,
            "trust-ad" => &mut self.trust_ad,
            // Each question has a socket of its own, so reopening one is nothing else.
            "single-request" | "single-request-reopen" => &mut self.single_request,
            "no-aaaa" => &mut self.no_aaaa,
            "strict-error" => &mut self.strict_error,
            "no-reload" => &mut self.no_reload,
            "no-tld-query" => &mut self.no_tld_query,
            _ => return,
        };
        *flag = is_on;
    }

    fn number(&mut self, name: &str, value: &str) {
        // A value that overflows is a large one; a value that is no number says nothing.
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return;
        }
        let value: u32 = value.parse().unwrap_or(u32::MAX);
        match name {
            "ndots" => self.ndots = value.min(MAX_NDOTS),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, MAX_TIMEOUT).into()),
            "attempts" => self.attempts = value.clamp(1, MAX_ATTEMPTS),
            _ => {}
        }
    }
}

/// Whether `bytes` can be a `resolv.conf` that its writer has finished: there is a line that means
/// something, and no NUL, which is what a file cut by a crash is full of. If not, why.
pub(crate) fn is_whole(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.contains(&0) {
        return Err("it contains NUL bytes");
    }
    let known = |line: &[u8]| {
        let line = str::from_utf8(line).unwrap_or_default();
        let keyword = words(line).next();
        matches!(
            keyword,
            Some("nameserver" | "search" | "domain" | "options" | "sortlist")
        )
    };
    match whole_lines(bytes, MAX_LEN)
        .split(|&byte| byte == b'\n')
        .any(known)
    {
        true => Ok(()),
        false => Err("it has no line that means anything"),
    }
}

/// The lines of `bytes` that end before the `most`-th byte, without a byte order mark.
pub(super) fn whole_lines(bytes: &[u8], most: usize) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Some(head) = bytes.get(..most) else {
        return bytes;
    };
    let end = head.iter().rposition(|&byte| byte == b'\n');
    &head[..end.unwrap_or(0)]
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// The lines of a file, sorted by who reads them.
struct Lines<'a> {
    /// For the parser: servers and search lists.
    known: String,
    /// The words of all `options`.
    options: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8], zone_of: &dyn Fn(&str) -> Option<u32>) -> Self {
        let mut lines = Self {
            known: String::new(),
            options: Vec::new(),
        };
        for line in whole_lines(bytes, MAX_LEN).split(|&byte| byte == b'\n') {
            let Ok(line) = str::from_utf8(line) else {
                continue;
            };
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = words(line);
            match (words.next(), words.next()) {
                (Some("options"), first) => lines.options.extend(first.into_iter().chain(words)),
                (Some("nameserver"), Some(server)) => lines.server(server, zone_of),
                // A list without names says nothing (res_init.c of glibc).
                (Some("search" | "domain"), Some(_)) => lines.keep(line),
                _ => {}
            }
        }
        lines
    }

    fn keep(&mut self, line: &str) {
        self.known.push_str(line);
        self.known.push('\n');
    }

    /// The parser knows zones by their number, and no names with a hyphen or a dot.
    fn server(&mut self, server: &str, zone_of: &dyn Fn(&str) -> Option<u32>) {
        let is_number = |zone: &str| zone.bytes().all(|byte| byte.is_ascii_digit());
        match server.split_once('%') {
            Some((address, zone)) if !is_number(zone) => {
                if let Some(number) = zone_of(zone) {
                    self.keep(&format!("nameserver {address}%{number}"));
                }
            }
            _ => self.keep(&format!("nameserver {server}")),
        }
    }
}

fn servers(parsed: &[ScopedIp]) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = Vec::new();
    for server in parsed.iter().filter_map(server_address) {
        if servers.len() < MAX_SERVERS && !servers.contains(&server) {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT)));
    }
    servers
}

/// An address whose zone is not known leads nowhere.
fn server_address(server: &ScopedIp) -> Option<SocketAddr> {
    match server {
        ScopedIp::V4(address) => Some(SocketAddr::from((*address, DNS_PORT))),
        ScopedIp::V6(address, None) => Some(SocketAddr::from((IpAddr::V6(*address), DNS_PORT))),
        ScopedIp::V6(address, Some(zone)) => {
            let zone = zone.parse().ok()?;
            Some(SocketAddrV6::new(*address, DNS_PORT, 0, zone).into())
        }
    }
}

/// The search list: of the environment, else of the file, else the domain that the host is in.
fn search(parsed: &Config, around: Surroundings<'_>) -> Vec<String> {
    let mut given: Vec<&str> = parsed
        .get_last_search_or_domain()
        .map(String::as_str)
        .collect();
    if let Some(environment) = around.local_domain {
        given = words(environment).collect();
    } else if given.is_empty() {
        given.extend(around.hostname.split_once('.').map(|(_, domain)| domain));
    }
    let mut domains: Vec<String> = Vec::new();
    for domain in given.into_iter().filter_map(domain) {
        if domains.len() < MAX_SEARCH && !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

/// The canonical form of a domain of the search list, if names in it can be asked for.
fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_root = name.is_empty() && !text.is_empty();
    let fits = name.len() <= MAX_NAME && name.split('.').all(is_label) && !is_special(name);
    (is_root || fits).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
