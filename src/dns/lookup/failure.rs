//! A lookup that failed has asked several servers, and each may have had another reason.
//! [`failure`] is the error that names them all.

use std::net::SocketAddr;
use std::time::Duration;

use super::server::Server;
use crate::dns::record::{Kind, Question};
use crate::error::{Error, ErrorKind};

/// What is wrong with every server that was asked, the last one first.
pub(super) fn failure(
    question: &Question,
    servers: &[Server],
    guesses: u32,
    total: Duration,
) -> Error {
    let asked = servers.iter().filter(|server| server.sends != [0; 2]);
    let silent = asked.filter(|server| server.reason.is_none());
    let silent: Vec<SocketAddr> = silent.map(|server| server.address).collect();
    let reasons = servers.iter().filter_map(|server| server.reason.clone());
    let mut reasons: Vec<Error> = reasons.collect();
    let last = match silent.is_empty() {
        true => reasons.pop(),
        false => None,
    };
    let mut error = last.unwrap_or_else(|| silence(&silent, total));
    for reason in reasons.iter().rev() {
        error = error.context(format!("after {reason}"));
    }
    if guesses > 0 {
        error = error.context(format!("after {guesses} answers with another id"));
    }
    let what = match question.kind {
        Kind::A | Kind::Aaaa => "",
        Kind::Srv => "SRV of ",
        Kind::Https => "HTTPS of ",
    };
    error.context(format!("resolving {what}{}", question.name))
}

fn silence(servers: &[SocketAddr], total: Duration) -> Error {
    let whom = match servers {
        [server] => server.to_string(),
        servers => format!("{} servers", servers.len()),
    };
    let within = match total.subsec_millis() {
        0 => format!("{} s", total.as_secs()),
        _ => format!("{} ms", total.as_millis()),
    };
    resolve_error(format!("no answer from {whom} within {within}"))
}

pub(super) fn resolve_error(text: String) -> Error {
    Error::new(ErrorKind::Resolve, text)
}
