//! Lists of addresses are written as prefixes, and a typing error in one opens or shuts the wrong
//! network. [`IpPrefix`] reads the usual form and refuses what can only be a mistake.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A block of addresses, as `10.0.0.0/8` or `fc00::/7`; a single address without the `/`.
///
/// An IPv4 address in IPv6's clothes (`::ffff:10.0.0.1`, RFC 4291 2.5.5.2) counts as IPv4.
///
/// ```
/// use ringpool::IpPrefix;
/// let private: IpPrefix = "10.0.0.0/8".parse()?;
/// assert!(private.contains("10.1.2.3".parse().unwrap()));
/// assert!(private.contains("::ffff:10.1.2.3".parse().unwrap()));
/// assert!(!private.contains("11.0.0.0".parse().unwrap()));
/// assert_eq!(private.to_string(), "10.0.0.0/8");
///
/// let error = "10.1.0.0/8".parse::<IpPrefix>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"prefix "10.1.0.0/8": bits after the first 8 are set, expected 10.0.0.0/8"#
/// );
/// # Ok::<(), ringpool::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpPrefix {
    /// Canonical; the bits after the first `len` are 0.
    base: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// Whether `address` is in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.len) == self.base
    }
}

/// `address` with the bits after the first `len` set to 0.
fn masked(address: IpAddr, len: u8) -> IpAddr {
    let len = u32::from(len);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Reads the text, or says what is wrong with it.
fn read(text: &str) -> Result<IpPrefix, String> {
    let (address, len) = match text.split_once('/') {
        None => (text, None),
        Some((address, len)) => (address, Some(len)),
    };
    let base: IpAddr = address
        .parse()
        .map_err(|_| "what is before the / is not an address".to_owned())?;
    let most = bits(base);
    let len = match len {
        None => most,
        Some(len) => len
            .parse()
            .ok()
            .filter(|len: &u8| *len <= most && len.to_string() == text[address.len() + 1..])
            .ok_or_else(|| format!("the length must be 0 to {most}"))?,
    };
    let first = masked(base, len);
    if first != base {
        return Err(format!(
            "bits after the first {len} are set, expected {first}/{len}"
        ));
    }
    let canonical = base.to_canonical();
    let (base, len) = match len.checked_sub(96) {
        Some(len) if canonical.is_ipv4() && base.is_ipv6() => (canonical, len),
        _ => (base, len),
    };
    Ok(IpPrefix { base, len })
}

impl FromStr for IpPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).map_err(|wrong| {
            let shown: String = text.chars().take(64).collect();
            let message = format!("prefix {shown:?}: {wrong}");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

impl From<IpAddr> for IpPrefix {
    fn from(address: IpAddr) -> Self {
        let base = address.to_canonical();
        let len = bits(base);
        Self { base, len }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpPrefix({self})")
    }
}
