//! Requests of line protocols end in bytes that a shell does not type easily. `--send` and
//! `--until` take them as C escapes.
//!
//! Promise: a text that is not understood is an error that names the byte at which it goes wrong;
//! nothing is guessed.

use thiserror::Error;

/// Why a text with escapes is not understood. Bytes are counted from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum EscapeError {
    #[error("unknown escape \\{found} at byte {at}; known are \\r \\n \\t \\0 \\\\ \\xHH")]
    Unknown { found: char, at: usize },
    #[error("the escape at byte {at} ends with the text")]
    Unfinished { at: usize },
    #[error("\\x at byte {at} needs two hexadecimal digits, such as \\x0d")]
    BadHex { at: usize },
}

/// The bytes that `text` stands for.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(backslash) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..backslash]);
        let at = text.len() - rest.len() + backslash + 1;
        let escape = &rest[backslash + 1..];
        let found = escape
            .chars()
            .next()
            .ok_or(EscapeError::Unfinished { at })?;
        rest = &escape[found.len_utf8()..];
        bytes.push(match found {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let byte = hex_byte(rest).ok_or(EscapeError::BadHex { at })?;
                rest = &rest[2..];
                byte
            }
            _ => return Err(EscapeError::Unknown { found, at }),
        });
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

fn hex_byte(text: &str) -> Option<u8> {
    let digits = text.get(..2)?;
    // `from_str_radix` alone would take "+f".
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_is_understood() {
        assert_eq!(unescape("").unwrap(), b"");
        assert_eq!(unescape("PING").unwrap(), b"PING");
        assert_eq!(unescape(r"PING\r\n").unwrap(), b"PING\r\n");
        assert_eq!(unescape(r"\t\0\\\x00\xfF!").unwrap(), b"\t\0\\\0\xff!");
        assert_eq!(unescape("ä\\n").unwrap(), "ä\n".as_bytes());
        assert_eq!(unescape(r"\\n").unwrap(), br"\n");
    }

    #[test]
    fn errors_name_the_byte() {
        let unknown = unescape(r"ab\q").unwrap_err();
        assert_eq!(unknown, EscapeError::Unknown { found: 'q', at: 3 });
        assert!(unknown.to_string().contains(r"\q at byte 3"));
        assert_eq!(
            unescape(r"ä\ü").unwrap_err(),
            EscapeError::Unknown { found: 'ü', at: 3 }
        );
        assert_eq!(
            unescape(r"\n\").unwrap_err(),
            EscapeError::Unfinished { at: 3 }
        );
        for bad in [r"\x", r"\x1", r"\xg0", r"\x+f", r"\xä"] {
            assert_eq!(
                unescape(bad).unwrap_err(),
                EscapeError::BadHex { at: 1 },
                "{bad}"
            );
        }
    }
}
