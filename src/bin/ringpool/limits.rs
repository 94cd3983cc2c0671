//! A stress run holds both ends of every connection. The pool's ends are not in the process's table
//! of descriptors, but they and the servers' ends are both bounded by `RLIMIT_NOFILE`, whose usual
//! soft value of 1024 is too little.
//!
//! Promise: a run that cannot get the descriptors it needs fails before it starts and says how many
//! those are.

use ringpool::{Error, ErrorKind, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but connections: standard streams, rings, epolls, listeners, files.
const BESIDES: u64 = 256;

/// Makes sure that the process may open `connections` descriptors and some more, raising the soft
/// limit as far as the hard one allows.
pub(crate) fn allow_descriptors(connections: usize) -> Result<()> {
    let wanted = connections as u64 + BESIDES;
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let Some(soft) = limit.current.filter(|soft| *soft < wanted) else {
        return Ok(());
    };
    if limit.maximum.is_some_and(|hard| hard < wanted) {
        let hard = limit.maximum.unwrap_or(soft);
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "{wanted} descriptors are needed and the hard limit is {hard} \
                 (RLIMIT_NOFILE; `ulimit -Hn`)"
            ),
        ));
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        },
    )
    .map_err(|errno| {
        Error::from_errno(ErrorKind::Unavailable, errno.raw_os_error())
            .context(format!("raising the limit of descriptors to {wanted}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_descriptors_are_allowed_and_too_many_are_an_error_with_figures() {
        allow_descriptors(1).unwrap();
        if getrlimit(Resource::Nofile).maximum.is_none() {
            return;
        }
        let error = allow_descriptors(usize::MAX / 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    }
}
