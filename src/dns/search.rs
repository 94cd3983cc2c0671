//! A short name may mean a host of one's own domain or one of the world, and several names must be
//! asked for to know. [`Search`] says which, one after the other.
//!
//! Promise: the names and their order are those of resolv.conf(5), each at most once; a failure
//! on the way that may pass is never told as "no such name", and "no such record" goes before "no
//! such name". What comes after a failure is still tried, as in glibc after SERVFAIL: a domain
//! whose servers are down for good must not hide the names that are not in it.
//!
//! States: asking for a candidate; ended.

use super::conf::ResolverConfig;
use super::special::is_special;

/// Without the trailing dot (RFC 1035 3.1).
const MAX_NAME: usize = 253;

/// How the question for one name ended, or for all, if not with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    /// There is no such name.
    Absent,
    /// The name has no such records.
    NoData,
    /// Nobody could say.
    Temporary,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for the current name.
    Try,
    /// There are no more names.
    Done(Ended),
}

/// The names that one host's name may stand for.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    /// Canonical, the next one last. At most one more than domains.
    left: Vec<String>,
    /// The worst so far.
    ended: Ended,
}

impl Search {
    /// The search for `host`, which is canonical. An absolute one stands for itself alone.
    pub(crate) fn new(host: &str, is_absolute: bool, config: &ResolverConfig) -> Self {
        let dots = host.bytes().filter(|&byte| byte == b'.').count();
        let mut names: Vec<String> = Vec::new();
        let as_it_is = String::new();
        let first = is_absolute || dots >= config.ndots as usize;
        let last = !first && (dots > 0 || config.search.is_empty() || !config.no_tld_query);
        let domains = config.search.iter().filter(|_| !is_absolute);
        let own = |wanted: bool| wanted.then_some(&as_it_is).into_iter();
        for domain in own(first).chain(domains).chain(own(last)) {
            let name = match domain.as_str() {
                "" => host.to_owned(),
                domain => format!("{host}.{domain}"),
            };
            if is_name(&name) && !names.contains(&name) {
                names.push(name);
            }
        }
        names.reverse();
        Self {
            left: names,
            ended: Ended::Absent,
        }
    }

    /// The name to ask for; `None` if none is left, or none was one that can be asked for.
    pub(crate) fn current(&self) -> Option<&str> {
        self.left.last().map(String::as_str)
    }

    /// The question for the current name has ended without records.
    pub(crate) fn next(&mut self, ended: Ended) -> Step {
        self.ended = self.ended.max(ended);
        self.left.pop();
        match self.left.is_empty() {
            true => Step::Done(self.ended),
            false => Step::Try,
        }
    }
}

/// Whether a server may be asked for `name`.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !is_special(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(text: &str) -> ResolverConfig {
        ResolverConfig::parse(text.as_bytes())
    }

    fn names(host: &str, is_absolute: bool, text: &str) -> Vec<String> {
        let mut search = Search::new(host, is_absolute, &config(text));
        let mut names = Vec::new();
        while let Some(name) = search.current() {
            names.push(name.to_owned());
            search.next(Ended::Absent);
        }
        names
    }

    #[test]
    fn names_come_in_the_order_of_the_manual() {
        let two = "search a.test b.test\n";
        let table: [(&str, &str, &[&str]); 13] = [
            ("db", two, &["db.a.test", "db.b.test", "db"]),
            ("db.x", two, &["db.x", "db.x.a.test", "db.x.b.test"]),
            ("db", "", &["db"]),
            ("db.x", "", &["db.x"]),
            (
                "db.x",
                "search a.test\noptions ndots:2",
                &["db.x.a.test", "db.x"],
            ),
            (
                "d.b.x",
                "search a.test\noptions ndots:2",
                &["d.b.x", "d.b.x.a.test"],
            ),
            ("db", "search a.test\noptions ndots:0", &["db", "db.a.test"]),
            ("db", "search a.test\noptions no-tld-query", &["db.a.test"]),
            ("db", "options no-tld-query", &["db"]),
            (
                "db.x",
                "search a.test\noptions ndots:2 no-tld-query",
                &["db.x.a.test", "db.x"],
            ),
            // The root on the list is the name as it is, once.
            ("db", "search . a.test", &["db", "db.a.test"]),
            ("db", "search a.test .", &["db.a.test", "db"]),
            ("db", "search onion a.invalid localhost alt", &["db"]),
        ];
        for (host, text, expected) in table {
            assert_eq!(names(host, false, text), expected, "{host} {text}");
        }
        assert_eq!(names("db", true, two), ["db"]);
    }

    #[test]
    fn a_name_that_is_too_long_is_not_asked_for() {
        let label = "a".repeat(63);
        let host = format!("{label}.{label}.{label}.{}", &label[..57]);
        assert_eq!(host.len(), 249);
        let found = names(&host, false, "search x.y abcd\noptions ndots:9");
        assert_eq!(found, [format!("{host}.x.y"), host.clone()]);
        for host in [format!("{host}.abcd"), String::new()] {
            assert!(names(&host, true, "").is_empty());
        }
    }

    fn ends(ended: &[Ended]) -> Step {
        let domains: String = (1..ended.len()).map(|n| format!(" d{n}.test")).collect();
        let mut search = Search::new("db", false, &config(&format!("search{domains}")));
        let mut step = Step::Try;
        for ended in ended {
            assert_eq!(step, Step::Try);
            assert!(search.current().is_some());
            step = search.next(*ended);
        }
        assert_eq!(search.current(), None);
        step
    }

    #[test]
    fn d32_a_failure_in_the_middle_ends_as_a_failure_that_passes() {
        use Ended::{Absent, NoData, Temporary};
        let table: [(&[Ended], Ended); 6] = [
            (&[Absent, Absent, Absent], Absent),
            (&[Absent, Temporary, Absent], Temporary),
            (&[Temporary, Absent, Absent], Temporary),
            (&[Absent, Absent, Temporary], Temporary),
            (&[NoData, Temporary, Absent], Temporary),
            (&[Absent, NoData, Absent], NoData),
        ];
        for (ended, expected) in table {
            assert_eq!(ends(ended), Step::Done(expected), "{ended:?}");
        }
    }

    proptest! {
        #[test]
        fn d32_no_order_of_ends_hides_a_failure(
            ended in proptest::collection::vec(
                prop_oneof![Just(Ended::Absent), Just(Ended::NoData), Just(Ended::Temporary)],
                1..34,
            ),
        ) {
            let expected = ended.iter().max().copied();
            prop_assert_eq!(Some(ends(&ended)), expected.map(Step::Done));
        }
    }
}
