//! A pool that hands a connection over in the middle of a message gives one client another's bytes.
//! Every message of a run therefore differs from every other, and says whose it is.
//!
//! Promise: an echo that is not exactly the message sent is an error that names the first byte
//! that differs and, if the echo begins like one, the message that it is instead.

/// One message of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId {
    pub(crate) client: u32,
    pub(crate) index: u32,
}

/// Bytes at the front that say whose message it is; the rest is drawn from the seed.
const HEADER: usize = 8;

impl MessageId {
    /// Writes the message's content.
    pub(crate) fn fill(self, seed: u64, message: &mut [u8]) {
        let own = u64::from(self.client) << 32 | u64::from(self.index);
        fastrand::Rng::with_seed(seed ^ own).fill(message);
        let header = message.len().min(HEADER);
        message[..header].copy_from_slice(&own.to_be_bytes()[..header]);
    }

    /// Compares the echo with what was sent.
    pub(crate) fn compare(self, sent: &[u8], echo: &[u8]) -> Result<(), String> {
        if sent == echo {
            return Ok(());
        }
        let at = sent
            .iter()
            .zip(echo)
            .take_while(|(sent, echo)| sent == echo)
            .count();
        let MessageId { client, index } = self;
        let found = match MessageId::claimed_by(echo) {
            Some(found) if found != self => {
                format!(
                    ", and begins like message {} of client {}",
                    found.index, found.client
                )
            }
            _ => String::new(),
        };
        Err(format!(
            "the echo of message {index} of client {client} differs from byte {at} of {} on{found}",
            sent.len()
        ))
    }

    fn claimed_by(echo: &[u8]) -> Option<MessageId> {
        let header = u64::from_be_bytes(*echo.first_chunk::<HEADER>()?);
        Some(MessageId {
            client: (header >> 32) as u32,
            index: header as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn message(client: u32, index: u32, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        MessageId { client, index }.fill(seed, &mut bytes);
        bytes
    }

    #[test]
    fn messages_of_one_run_all_differ_and_runs_repeat() {
        let mut bodies = HashSet::new();
        for client in 0..50 {
            for index in 0..50 {
                assert!(bodies.insert(message(client, index, 7)[HEADER..].to_vec()));
            }
        }
        assert_eq!(message(3, 4, 7), message(3, 4, 7));
        assert_ne!(message(3, 4, 7), message(3, 4, 8));
    }

    #[test]
    fn a_wrong_echo_is_named() {
        let id = MessageId {
            client: 3,
            index: 4,
        };
        let sent = message(3, 4, 1);
        assert_eq!(id.compare(&sent, &sent), Ok(()));

        let mut flipped = sent.clone();
        flipped[20] ^= 1;
        let text = id.compare(&sent, &flipped).unwrap_err();
        assert_eq!(
            text,
            "the echo of message 4 of client 3 differs from byte 20 of 32 on"
        );

        let text = id.compare(&sent, &message(9, 1, 1)).unwrap_err();
        assert!(
            text.ends_with("and begins like message 1 of client 9"),
            "{text}"
        );
    }
}
