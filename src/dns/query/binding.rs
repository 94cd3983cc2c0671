//! HTTPS records carry parameters of which some must be understood, and a set with one malformed
//! record must be dropped as a whole (RFC 9460 sections 2.2 and 8). The decoder refuses most of
//! what is malformed; [`bindings`] checks the rest.

use std::net::IpAddr;

use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::BinEncodable;

use super::records::{host_name, is_usable, keep_some};
use crate::dns::MAX_ADDRESSES;
use crate::dns::record::Binding;

/// Something in a record breaks the format, so that none of its set may be used.
struct Malformed;

/// Those that can be used of the first [`MAX_ADDRESSES`] by priority; none if one of them is
/// malformed.
pub(super) fn bindings(owned: &[&Record]) -> Vec<Binding> {
    let https = owned.iter().filter_map(|record| match &record.data {
        RData::HTTPS(https) => Some(&https.0),
        _ => None,
    });
    let mut all: Vec<&SVCB> = https.collect();
    match all.len() > MAX_ADDRESSES {
        false => all.sort_by_key(|svcb| svcb.svc_priority),
        // The same ones are kept in whatever order they come.
        true => {
            all.sort_by_cached_key(|svcb| (svcb.svc_priority, svcb.to_bytes().unwrap_or_default()));
        }
    }
    let mut bindings = Vec::new();
    for svcb in all.into_iter().take(MAX_ADDRESSES) {
        match binding(svcb) {
            Ok(Some(binding)) if !bindings.contains(&binding) => bindings.push(binding),
            Ok(_) => {}
            Err(Malformed) => return Vec::new(),
        }
    }
    bindings
}

/// `None` if it is well formed and not for us.
fn binding(svcb: &SVCB) -> Result<Option<Binding>, Malformed> {
    let mut read = Binding {
        priority: svcb.svc_priority,
        target: None,
        port: None,
        alpn: Vec::new(),
        no_default_alpn: false,
        hints: Vec::new(),
    };
    // AliasMode has no parameters; those that are there are ignored (section 2.4.2).
    let params = match svcb.svc_priority {
        0 => &[][..],
        _ => &svcb.svc_params,
    };
    let mut is_usable = true;
    for (_, value) in params {
        is_usable &= param(&mut read, value, params)?;
    }
    let Some(target) = host_name(&svcb.target_name) else {
        return Ok(None);
    };
    read.target = target;
    is_usable &= !read.no_default_alpn || !read.alpn.is_empty();
    Ok(is_usable.then_some(read))
}

/// Reads one parameter; `false` if the record is not for us because of it.
fn param(
    read: &mut Binding,
    value: &SvcParamValue,
    all: &[(SvcParamKey, SvcParamValue)],
) -> Result<bool, Malformed> {
    match value {
        SvcParamValue::Mandatory(mandatory) => {
            let keys = &mandatory.0;
            // The decoder has seen that they are in order.
            let is_there = |key: &SvcParamKey| all.binary_search_by_key(key, |it| it.0).is_ok();
            let is_listed = |key: &SvcParamKey| *key != SvcParamKey::Mandatory && is_there(key);
            if keys.is_empty() || !keys.is_sorted_by(|a, b| a < b) || !keys.iter().all(is_listed) {
                return Err(Malformed);
            }
            return Ok(keys.iter().all(is_known));
        }
        SvcParamValue::Alpn(alpn) => {
            let is_plain = |id: &String| !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic());
            if alpn.0.is_empty() || alpn.0.iter().any(String::is_empty) {
                return Err(Malformed);
            }
            // What cannot be printed is no protocol of ours.
            let known = alpn.0.iter().filter(|id| is_plain(id));
            read.alpn = known.map(|id| id.as_str().into()).collect();
            return Ok(!read.alpn.is_empty());
        }
        SvcParamValue::NoDefaultAlpn => read.no_default_alpn = true,
        SvcParamValue::Port(port) => {
            read.port = Some(*port);
            return Ok(*port != 0);
        }
        SvcParamValue::Ipv4Hint(hint) if hint.0.is_empty() => return Err(Malformed),
        SvcParamValue::Ipv6Hint(hint) if hint.0.is_empty() => return Err(Malformed),
        SvcParamValue::Ipv4Hint(hint) => {
            add_hints(read, hint.0.iter().map(|hint| hint.0.into()));
        }
        SvcParamValue::Ipv6Hint(hint) => {
            add_hints(read, hint.0.iter().map(|hint| hint.0.into()));
        }
        _ => {}
    }
    Ok(true)
}

/// Hints only bridge the time until the addresses are known, so the first ones will do.
fn add_hints(read: &mut Binding, hints: impl Iterator<Item = IpAddr>) {
    let hints = hints.take(MAX_ADDRESSES).filter(|hint| is_usable(*hint));
    read.hints.extend(keep_some(hints));
}

fn is_known(key: &SvcParamKey) -> bool {
    matches!(
        key,
        SvcParamKey::Alpn
            | SvcParamKey::NoDefaultAlpn
            | SvcParamKey::Port
            | SvcParamKey::Ipv4Hint
            | SvcParamKey::Ipv6Hint
    )
}

#[cfg(test)]
mod tests;
