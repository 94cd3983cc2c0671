//! What is known of names without asking comes from several files, which change at different
//! times; a lookup that saw one of them before and another after a change would mix two systems.
//! [`Sources`] is all of it at one moment.
//!
//! Promise: a snapshot never changes; what [`Sources::local`] answers is never asked on the
//! network, in whatever order the sources stand.

use std::net::IpAddr;
use std::sync::Arc;

use super::conf::ResolverConfig;
use super::hosts::Hosts;
use super::nsswitch::{Service, SourceOrder};
use super::search::Ended;
use super::special::{LOOPBACK, Special, literal, special};
use crate::error::{Error, ErrorKind};
use crate::resolver::NameTable;

/// The system's files, or what stands in their place, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) config: ResolverConfig,
    pub(crate) order: SourceOrder,
    /// Goes up with every change of the three above. What was learned under another may be wrong.
    pub(crate) generation: u64,
    /// What a reader of the files has to be told: parts that are passed over, files that could not
    /// be read.
    pub(crate) notes: Vec<String>,
    /// `hosts` is a table that the user gave.
    pub(crate) is_table: bool,
}

/// What is known of a name without asking.
#[derive(Debug, Clone)]
pub(crate) enum Local {
    /// Its addresses, at least one.
    Addresses {
        addresses: Vec<IpAddr>,
        origin: Origin,
    },
    /// There are none.
    Failed(Error),
    /// A server must be asked.
    Ask,
}

/// Where an answer without a server came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The host is an address.
    Literal,
    /// The hosts file.
    Hosts,
    /// The user's table.
    Table,
    /// RFC 6761.
    Special,
}

impl Sources {
    /// What three files said.
    pub(crate) fn of_files(hosts: Arc<Hosts>, config: ResolverConfig, order: SourceOrder) -> Self {
        Self {
            hosts,
            config,
            order,
            ..Self::default()
        }
    }

    /// Name servers, and nothing else.
    pub(crate) fn of_config(config: ResolverConfig) -> Self {
        Self {
            config,
            order: SourceOrder::of(&[Service::Dns]),
            ..Self::default()
        }
    }

    /// A table, and nothing else.
    pub(crate) fn of_table(table: &NameTable) -> Self {
        Self {
            hosts: Arc::new(Hosts::of_table(table)),
            order: SourceOrder::of(&[Service::Files]),
            is_table: true,
            ..Self::default()
        }
    }

    /// Looks `host` up without a server. The hosts file goes before the special names wherever it
    /// stands, for those are not asked of a server in any case.
    pub(crate) fn local(&self, host: &str) -> Local {
        match self.look(host) {
            Local::Addresses { addresses, origin } if origin != Origin::Literal => {
                match self.wanted(addresses) {
                    left if left.is_empty() => absent("no address of the family asked for", host),
                    left => found(left, origin),
                }
            }
            other => other,
        }
    }

    fn wanted(&self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.retain(|address| self.config.families.contain(*address));
        addresses
    }

    fn look(&self, host: &str) -> Local {
        if let Some(address) = literal(host) {
            return found(vec![address], Origin::Literal);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let special = special(name);
        let Some(first) = self.order.asked.first() else {
            return absent("no source is asked", host);
        };
        let has_files = self.order.has(Service::Files);
        if has_files && (special.is_some() || first.service == Service::Files) {
            let listed = self.hosts.lookup(name);
            if !listed.is_empty() {
                return found(with_both_loopbacks(listed, special), self.listed());
            }
        }
        if let Some(special) = special {
            return answer(special, host);
        }
        let ends = first.service == Service::Files && first.ends_absent;
        match self.order.has(Service::Dns) && !ends {
            true => Local::Ask,
            false if self.is_table => absent("no such name in the table", host),
            false => absent(
                "no such name in the hosts file, and no server is asked",
                host,
            ),
        }
    }

    /// The addresses of `host` in the hosts file, if that comes after the name servers and they
    /// ended so.
    pub(crate) fn after_servers(&self, host: &str, ended: Ended) -> Local {
        let [dns, files] = &self.order.asked[..] else {
            return Local::Ask;
        };
        let is_last = match ended {
            Ended::Absent | Ended::NoData => dns.ends_absent,
            Ended::Temporary => dns.ends_failed,
        };
        if files.service != Service::Files || is_last {
            return Local::Ask;
        }
        match self.wanted(self.hosts.lookup(host).to_vec()) {
            listed if listed.is_empty() => Local::Ask,
            listed => found(listed, self.listed()),
        }
    }

    fn listed(&self) -> Origin {
        match self.is_table {
            true => Origin::Table,
            false => Origin::Hosts,
        }
    }
}

fn found(addresses: Vec<IpAddr>, origin: Origin) -> Local {
    Local::Addresses { addresses, origin }
}

fn absent(message: &'static str, host: &str) -> Local {
    failed(ErrorKind::Resolve, message.to_owned(), host)
}

fn failed(kind: ErrorKind, message: String, host: &str) -> Local {
    Local::Failed(Error::new(kind, message).context(format!("resolving {host}")))
}

/// What a name that no file lists means by itself.
fn answer(special: Special, host: &str) -> Local {
    match special {
        Special::Loopback => found(LOOPBACK.to_vec(), Origin::Special),
        Special::Reserved(domain) => {
            let message = format!("no such name (.{domain} is never asked of a server)");
            failed(ErrorKind::Resolve, message, host)
        }
        Special::Number => {
            let message = "not an address, and no name ends in a number".to_owned();
            failed(ErrorKind::InvalidInput, message, host)
        }
    }
}

/// A file that gives `localhost` one family alone means both (RFC 6761 6.3); one that gives it
/// another host's address means that.
fn with_both_loopbacks(listed: &[IpAddr], special: Option<Special>) -> Vec<IpAddr> {
    let mut addresses = listed.to_vec();
    if special == Some(Special::Loopback) && listed.iter().all(IpAddr::is_loopback) {
        let has = |family: &IpAddr| listed.iter().any(|it| it.is_ipv4() == family.is_ipv4());
        addresses.extend(LOOPBACK.into_iter().filter(|address| !has(address)));
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Families;

    fn sources(hosts: &str, order: &str) -> Sources {
        Sources {
            hosts: Arc::new(Hosts::parse(hosts.as_bytes())),
            order: SourceOrder::parse(format!("hosts: {order}").as_bytes()).0,
            ..Sources::default()
        }
    }

    fn show(local: Local) -> String {
        match local {
            Local::Addresses { addresses, origin } => format!("{origin:?} {addresses:?}"),
            Local::Failed(error) => format!("{:?}", error.kind()),
            Local::Ask => "ask".to_owned(),
        }
    }

    const HOSTS: &str = "192.0.2.9 listed here.localhost a.onion\n";

    #[test]
    fn s12_names_that_are_answered_without_a_server() {
        let table = [
            ("192.0.2.1", "Literal [192.0.2.1]"),
            ("2001:db8::1", "Literal [2001:db8::1]"),
            ("[2001:db8::1]", "Literal [2001:db8::1]"),
            ("listed", "Hosts [192.0.2.9]"),
            ("LISTED.", "Hosts [192.0.2.9]"),
            ("localhost", "Special [127.0.0.1, ::1]"),
            ("Localhost.", "Special [127.0.0.1, ::1]"),
            ("a.b.localhost", "Special [127.0.0.1, ::1]"),
            ("here.localhost", "Hosts [192.0.2.9]"),
            ("a.invalid", "Resolve"),
            ("b.onion", "Resolve"),
            ("a.onion", "Hosts [192.0.2.9]"),
            ("a.alt", "Resolve"),
            ("127.1", "InvalidInput"),
            ("0x7f000001", "InvalidInput"),
            ("2130706433", "InvalidInput"),
            ("192.0.2.256", "InvalidInput"),
            ("192.0.2.1junk.1", "InvalidInput"),
            // Brackets are for IPv6; the query refuses such a name.
            ("[192.0.2.1]", "ask"),
            ("example.com", "ask"),
            ("notlocalhost", "ask"),
            ("localhost.example", "ask"),
            ("cluster.local", "ask"),
        ];
        for (host, expected) in table {
            let answer = show(sources(HOSTS, "files dns").local(host));
            assert_eq!(answer, expected, "{host}");
        }
    }

    #[test]
    fn s12_no_order_lets_a_special_name_out() {
        let special = [
            "192.0.2.1",
            "localhost",
            "here.localhost",
            "a.invalid",
            "a.onion",
            "b.onion",
            "a.alt",
            "127.1",
        ];
        for order in ["dns", "dns files", "files", "files [NOTFOUND=return] dns"] {
            for host in special {
                let answer = show(sources(HOSTS, order).local(host));
                assert_ne!(answer, "ask", "{host} by {order}");
            }
        }
    }

    #[test]
    fn only_the_families_that_are_asked_for_are_found() {
        let mut sources = sources("192.0.2.9 both v4\n::9 both\n", "files dns");
        sources.config.families = Families::V6;
        let table = [
            ("both", "Hosts [::9]"),
            ("v4", "Resolve"),
            ("localhost", "Special [::1]"),
            ("192.0.2.1", "Literal [192.0.2.1]"),
            ("example.com", "ask"),
        ];
        for (host, expected) in table {
            assert_eq!(show(sources.local(host)), expected, "{host}");
        }
        sources.config.families = Families::V4;
        assert_eq!(show(sources.local("both")), "Hosts [192.0.2.9]");
    }

    #[test]
    fn the_files_are_asked_when_it_is_their_turn() {
        let table = [
            ("files dns", "listed", "Hosts [192.0.2.9]", "ask"),
            ("files dns", "other", "ask", "ask"),
            ("dns files", "listed", "ask", "Hosts [192.0.2.9]"),
            ("dns files", "other", "ask", "ask"),
            ("dns [NOTFOUND=return] files", "listed", "ask", "ask"),
            ("dns", "listed", "ask", "ask"),
            ("dns", "here.localhost", "Special [127.0.0.1, ::1]", "ask"),
            ("files", "other", "Resolve", "ask"),
            ("files [NOTFOUND=return] dns", "other", "Resolve", "ask"),
        ];
        for (order, host, before, after) in table {
            let sources = sources(HOSTS, order);
            assert_eq!(show(sources.local(host)), before, "{host} by {order}");
            let answer = show(sources.after_servers(host, Ended::Absent));
            assert_eq!(answer, after, "{host} by {order}");
        }
        let failed = |order| sources(HOSTS, order).after_servers("listed", Ended::Temporary);
        let listed = "Hosts [192.0.2.9]";
        assert_eq!(show(failed("dns files")), listed);
        assert_eq!(show(failed("dns [NOTFOUND=return] files")), listed);
        assert_eq!(show(failed("dns [!UNAVAIL=return] files")), "ask");
    }

    #[test]
    fn d31_localhost_has_both_families_whatever_the_file_forgets() {
        let table = [
            ("::1 localhost", "Hosts [::1, 127.0.0.1]"),
            ("127.0.0.1 localhost", "Hosts [127.0.0.1, ::1]"),
            (
                "127.0.1.1 localhost\n::1 localhost",
                "Hosts [127.0.1.1, ::1]",
            ),
            ("192.0.2.9 localhost", "Hosts [192.0.2.9]"),
        ];
        for (hosts, expected) in table {
            let answer = show(sources(hosts, "files dns").local("localhost"));
            assert_eq!(answer, expected, "{hosts}");
        }
    }

    #[test]
    fn a_table_is_all_there_is() {
        let table = NameTable::new()
            .with("db.test", [[192, 0, 2, 1].into()])
            .unwrap();
        let sources = Sources::of_table(&table);
        assert_eq!(show(sources.local("db.test")), "Table [192.0.2.1]");
        let localhost = show(sources.local("localhost"));
        assert_eq!(localhost, "Special [127.0.0.1, ::1]");
        let Local::Failed(error) = sources.local("other.test") else {
            panic!("answered");
        };
        assert_eq!(
            error.to_string(),
            "no such name in the table, resolving other.test"
        );
    }

    #[test]
    fn the_error_says_which_name_and_why() {
        let Local::Failed(error) = Sources::default().local("a.onion") else {
            panic!("answered");
        };
        assert_eq!(
            error.to_string(),
            "no such name (.onion is never asked of a server), resolving a.onion"
        );
    }
}
