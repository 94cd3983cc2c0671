//! A simulated kernel that answers otherwise than the real one makes every simulated test a test of
//! something that does not exist. So one list of operations runs on both, and the completions must
//! agree.
//!
//! Promise: each case says what must come out, to the number and the flag; the kernel half holds
//! that against the kernel it runs on, the played half (feature `sim`) against the machine. Where
//! order is free the case says so, and only there.

mod cancel;
mod connect;
mod datagram;
mod give;
mod loopback;
#[cfg(feature = "sim")]
mod played;
mod query;
mod queue;
mod rig;
mod stream;

use self::rig::{Rig, Size};

const USUAL: Size = Size {
    completions: 64,
    buffers: 8,
    buffer: 64,
};

/// A list of operations and what comes of it.
struct Case {
    name: &'static str,
    size: Size,
    run: fn(&mut Rig),
    /// What is written down, joined by commas.
    expect: &'static str,
    /// A rule of the pool's that the list breaks on purpose; the played side complains of it.
    breaks: &'static str,
    /// It needs ports that only the privileged may have.
    low_ports: bool,
}

const CASE: Case = Case {
    name: "",
    size: USUAL,
    run: |_| {},
    expect: "",
    breaks: "",
    low_ports: false,
};

const LISTS: [&[Case]; 7] = [
    connect::CASES,
    stream::CASES,
    datagram::CASES,
    query::CASES,
    cancel::CASES,
    queue::CASES,
    give::CASES,
];

impl Case {
    /// What is wrong with how the case went on `rig`, and what was written down.
    fn fault(&self, mut rig: Rig) -> Option<String> {
        (self.run)(&mut rig);
        let (log, mut mistakes) = rig.finish();
        mistakes.retain(|text| self.breaks.is_empty() || !text.starts_with(self.breaks));
        let log = log.join(", ");
        (log != self.expect || !mistakes.is_empty())
            .then(|| format!("{log}\n    {}", mistakes.join("\n    ")))
    }
}

fn check(side: &str, low_ports: bool, mut rig: impl FnMut(Size) -> Option<Rig>) {
    let mut wrong = String::new();
    for case in LISTS.iter().copied().flatten() {
        if case.low_ports && !low_ports {
            eprintln!("left out: every port is for everybody here");
            continue;
        }
        let Some(rig) = rig(case.size) else {
            eprintln!("left out: options cannot be set on direct descriptors here");
            return;
        };
        if let Some(fault) = case.fault(rig) {
            let (name, expect) = (case.name, case.expect);
            wrong.push_str(&format!(
                "\n{name}\n  expected\n    {expect}\n  {side}\n    {fault}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_kernel_completes_as_recorded() {
    // A thread of its own, because it gives its privilege up.
    let unprivileged = std::thread::spawn(|| {
        let low_ports = loopback::keeps_low_ports();
        check("the kernel", low_ports, loopback::rig);
    });
    if let Err(panic) = unprivileged.join() {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(feature = "sim")]
#[test]
fn the_played_kernel_completes_as_the_real_one() {
    for seed in 0..20 {
        check("the machine", true, |size| Some(played::rig(seed, size)));
    }
}

#[test]
fn every_case_has_its_own_name() {
    let cases = LISTS.iter().copied().flatten();
    let names: std::collections::BTreeSet<_> = cases.clone().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.count());
}
