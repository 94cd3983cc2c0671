//! Packets by chance.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn d11_no_bytes_after_a_good_question_make_it_panic(
        counts in proptest::collection::vec(0u8..4, 3),
        flags in any::<u8>(),
        bytes in proptest::collection::vec(
            prop_oneof![Just(0u8), Just(0xc0), Just(12), Just(1), Just(5), any::<u8>()], 0..200),
    ) {
        let mut packet = response(vec![]).to_vec().unwrap();
        (packet[3], packet[7], packet[9], packet[11]) = (flags, counts[0], counts[1], counts[2]);
        packet.extend(bytes);
        verdict_of(&packet);
    }

    #[test]
    fn d11_no_changed_byte_makes_it_panic_or_leads_to_an_unusable_address(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut message = response(vec![alias(WWW, 50, "b.test"), a("b.test", 60, 1)]);
        message.add_authority(soa(1, 1));
        let mut packet = message.to_vec().unwrap();
        for (index, byte) in changes {
            let index = index.index(packet.len());
            packet[index] = byte;
        }
        if let Verdict::Found { records: Records::Addresses(found), .. } = verdict_of(&packet) {
            prop_assert!(!found.is_empty() && found.iter().all(|address| is_usable(*address)));
        }
    }

    #[test]
    fn no_random_datagram_is_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let is_answer = matches!(verdict_of(&bytes), Verdict::Found { .. });
        prop_assert!(!is_answer);
    }
}
