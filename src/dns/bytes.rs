//! Files, environment and names made of a fuzzer's bytes, and what must hold whatever they are.

use std::net::IpAddr;
use std::time::Duration;

use super::conf::{ResolverConfig, Surroundings, is_whole};
use super::hosts::Hosts;
use super::nsswitch::SourceOrder;
use super::search::{Ended, Search, Step};
use super::sources::{Local, Sources};
use super::special::is_special;

/// Stands between the parts; no UTF-8 text has it.
const SEPARATOR: u8 = 0xfe;

/// Reads the parts of `bytes` (resolv.conf, nsswitch.conf, hosts, `RES_OPTIONS`, `LOCALDOMAIN`, the
/// host's name, a name, how questions end) and looks the name up; a broken promise panics.
pub(crate) fn read(bytes: &[u8]) {
    let mut parts = bytes.split(|&byte| byte == SEPARATOR);
    let mut part = || parts.next();
    let (resolv_conf, nsswitch, hosts) = (part(), part(), part());
    let text = |part: Option<&[u8]>| part.map(|it| String::from_utf8_lossy(it).into_owned());
    let (options, local_domain, hostname) = (text(part()), text(part()), text(part()));
    let (host, ends) = (text(part()).unwrap_or_default(), part().unwrap_or_default());
    let around = Surroundings {
        hostname: hostname.as_deref().unwrap_or_default(),
        local_domain: local_domain.as_deref(),
        options: options.as_deref(),
        zone_of: &|name| u32::try_from(name.len()).ok(),
    };
    let resolv_conf = resolv_conf.unwrap_or_default();
    let config = ResolverConfig::read(resolv_conf, around);
    check_config(&config);
    if is_whole(resolv_conf).is_ok() {
        assert!(!resolv_conf.contains(&0));
    }
    let hosts = Hosts::parse(hosts.unwrap_or_default());
    let (order, notes) = SourceOrder::parse(nsswitch.unwrap_or_default());
    assert!((1..=2).contains(&order.asked.len()) && notes.len() <= 3);
    let printable = |note: &String| note.chars().all(|c| !c.is_control());
    assert!(notes.iter().all(printable), "{notes:?}");
    check_search(&host, &config, ends);
    check_local(&host, &Sources::of_files(hosts.into(), config, order));
}

fn check_config(config: &ResolverConfig) {
    assert!((1..=8).contains(&config.servers.len()));
    assert!(config.servers.iter().all(|server| server.port() == 53));
    assert!((1..=3).contains(&config.attempts) && config.ndots <= 15);
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(30));
    assert!((least..=most).contains(&config.timeout));
    assert!(config.search.len() <= 32);
    let is_canonical = |name: &String| name.is_ascii() && !name.ends_with('.');
    assert!(
        config.search.iter().all(is_canonical),
        "{:?}",
        config.search
    );
}

fn check_search(host: &str, config: &ResolverConfig, ends: &[u8]) {
    for is_absolute in [false, true] {
        let mut search = Search::new(host, is_absolute, config);
        let mut asked: Vec<String> = Vec::new();
        let mut worst = Ended::Absent;
        let mut ends = ends.iter();
        while let Some(name) = search.current() {
            assert!(
                (1..=253).contains(&name.len()) && !is_special(name),
                "{name}"
            );
            assert!(name.starts_with(host) && asked.iter().all(|it| it != name));
            asked.push(name.to_owned());
            let ended = match ends.next().map_or(0, |byte| byte % 3) {
                0 => Ended::Absent,
                1 => Ended::NoData,
                _ => Ended::Temporary,
            };
            worst = worst.max(ended);
            let expected = match search.next(ended) {
                Step::Try => true,
                Step::Done(end) => {
                    assert_eq!(end, worst);
                    false
                }
            };
            assert_eq!(search.current().is_some(), expected);
        }
        assert!(asked.len() <= if is_absolute { 1 } else { 33 });
    }
}

fn check_local(host: &str, sources: &Sources) {
    match sources.local(host) {
        Local::Addresses { addresses, .. } => {
            // Both families of localhost may come to what a file lists.
            assert!((1..=65).contains(&addresses.len()));
        }
        Local::Failed(error) => assert!(!error.to_string().is_empty()),
        Local::Ask => {
            assert!(
                host.parse::<IpAddr>().is_err() && !is_special(host),
                "{host}"
            );
        }
    }
    for ended in [Ended::Absent, Ended::Temporary] {
        assert!(!matches!(
            sources.after_servers(host, ended),
            Local::Failed(_)
        ));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Inputs that once broke a promise, and one that uses every part.
    #[test]
    fn kept_inputs_hold() {
        let inputs: [&[u8]; 2] = [
            b"",
            b"nameserver fe80::1%x-y\nsearch a.test . b\noptions ndots:3 -edns0\xfehosts: dns \
              [!UNAVAIL=return] files\xfe::1 localhost\n192.0.2.1 db\xferotate\xfec.test\xfeh.d\xfe\
              db\xfe\x00\x02\x01",
        ];
        inputs.into_iter().for_each(read);
    }

    proptest! {
        #[test]
        fn no_parts_break_a_promise(
            parts in proptest::collection::vec(
                prop_oneof![
                    "(nameserver|search|domain|options|hosts:|files|dns|[a-c.%:\\-]| |\n){0,20}",
                    "[ -~\n]{0,40}",
                ],
                0..8,
            ),
        ) {
            let parts: Vec<Vec<u8>> = parts.into_iter().map(String::into_bytes).collect();
            read(&parts.join(&SEPARATOR));
        }
    }
}
