//! What may go wrong, how often, and how often it did.
//!
//! Promise: a fault whose rate is 0 costs no random number, so taking one out of a run leaves the
//! others' draws as they were only as far as the run itself stays the same. Counts are exact: a
//! fault is counted where it acts, not where it is planned.

use std::fmt;

use crate::policy::Rng;

/// How likely something is: times in ten thousand.
pub(crate) type Rate = u16;

/// The unit of [`Rate`].
const WHOLE: u64 = 10_000;

macro_rules! faults {
    ($($name:ident, $ids:literal, $rate:literal, $text:literal;)*) => {
        /// Something that can go wrong in a simulated world.
        #[non_exhaustive]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $(#[doc = $text] $name,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// What it stands for in the list of faults (`docs/faults.md`).
            pub fn ids(self) -> &'static str {
                match self { $(Fault::$name => $ids,)* }
            }

            /// In words.
            pub fn text(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// How likely it is where it can happen, in a run that has it.
            fn usual(self) -> Rate {
                match self { $(Fault::$name => $rate,)* }
            }

            /// Its name in the code.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$name => stringify!($name),)* }
            }
        }
    };
}

faults! {
    // Name resolution.
    NameRefused, "D1", 1500, "nothing listens at the name server's port";
    NameLost, "D2 D3", 2500, "a question or its answer is lost";
    NameTwice, "D5", 2000, "an answer comes twice";
    NameForged, "D6 S1", 2500, "answers with wrong numbers come before the right one";
    NameOther, "D8 S1", 2000, "an answer to another question comes before the right one";
    NameShort, "D9", 1500, "an empty or cut message comes before the answer";
    NameFails, "D20", 2000, "the name server answers SERVFAIL";
    NameUnwilling, "D20", 1000, "the name server answers REFUSED";
    NameHeader, "D10", 1500, "the name server answers SERVFAIL, with a header only";
    NameLate, "D4", 1500, "an answer comes when nobody may wait for it any more";
    NameBent, "D11 D13", 2000, "a malformed message comes before the answer";
    NameCut, "D14", 2500, "an answer does not fit into a datagram and is cut";
    NameCutInStream, "D16", 1500, "an answer is cut in a stream";
    NameLong, "D19", 2000, "an answer is longer than the question allowed";
    NameOld, "D18", 2000, "the name server does not understand EDNS";
    NameStreamRefused, "D15", 2000, "the name server refuses a stream";
    NameStreamLost, "D15", 1000, "a stream to the name server gets no answer";
    NameInPieces, "D17", 3000, "an answer in a stream comes byte by byte";
    NameBreaksOff, "D17", 2000, "an answer in a stream stalls or ends in the middle";
    NamesGone, "D37", 10_000, "all name servers are gone for a while, and come back";
    PortTaken, "D38", 1500, "the own port of a question is taken";
    PortForbidden, "D38", 800, "the own port of a question is forbidden";
    // Connecting.
    Refused, "C1", 800, "the address refuses the connection";
    BlackHole, "C2", 500, "packets to the address vanish";
    Unreachable, "C3", 500, "there is no route to the address";
    NeverAccepts, "C5", 400, "the kernel of the server connects, the server never accepts";
    AcceptThenReset, "C6", 600, "the server accepts and resets";
    AddressVanishes, "C9", 300, "the own address vanishes while connecting";
    Outage, "C10", 10_000, "all servers are gone for a while, and come back";
    LimitRace, "C11 K13", 1500, "the connect ends in the very moment of its limit";
    LargeLost, "C13", 500, "large packets vanish, small ones pass";
    OddErrno, "C14", 500, "the connect ends with an unusual error number";
    DeadAddress, "C15", 10_000, "one address of the name is dead all the time";
    FamilySilent, "C2 C7", 10_000, "packets to every IPv6 address vanish";
    AddressesChange, "D25", 10_000, "the addresses of a name change, and come back";
    FilesChange, "D30", 10_000, "the resolver's files change";
    // Established.
    IdleEnd, "E1 E3", 1500, "the server closes an idle connection";
    IdleReset, "E2 E3", 1000, "the server resets an idle connection";
    Unsolicited, "E4 S8", 600, "the server sends bytes that nobody asked for";
    HalfClose, "E5", 400, "the server ends its side in the middle of an answer";
    AnswerStops, "E6", 400, "the answer stops in the middle";
    NoWindow, "E7", 500, "the server stops reading";
    SlowBytes, "E8", 300, "the answer comes byte by byte";
    ResetWhileWriting, "E9", 400, "the server resets while it is written to";
    ShortTransfer, "E10", 2500, "a send or a receive moves less than it could";
    Restart, "E11", 10_000, "a server restarts: its connections are reset";
    SilentLoss, "E12", 300, "the network forgets an idle connection";
    KeepaliveDead, "E13", 200, "keepalive gives a connection up";
    LocalAbort, "E14", 200, "the socket is destroyed locally";
    Flap, "E15", 10_000, "the link is down for five seconds";
    Late, "E16", 2000, "a packet is late, as after a loss";
    UnreadReturn, "E18 S8", 800, "a user gives a connection back before the answer was read";
    // Resources.
    TableFull, "R1 R13", 300, "no descriptor can be had";
    NoMemory, "R2", 200, "the kernel has no memory for an operation";
    NoPort, "R3", 400, "no local port is free";
    QueueFull, "R5", 0, "the submission queue is full";
    Overflow, "R6", 0, "the completion queue overflows";
    RingDies, "R7", 1, "the kernel loses a completion and says so";
    EnterAgain, "R8", 600, "io_uring_enter answers EAGAIN and takes nothing";
    EnterBusy, "R9", 600, "io_uring_enter answers EBUSY or EINTR";
    TakesPart, "R9", 600, "io_uring_enter takes only the first chain";
    NoBuffer, "R11", 300, "a receive finds no buffer";
    MultishotEnds, "R12", 600, "a multishot receive ends without an error";
    TooManyWaiters, "R16", 0, "a get finds the line of waiters full";
    NoSlot, "R17", 0, "a connection finds every slot of its core taken";
    ManyTimers, "R19 M4", 10_000, "many deadlines fall on one moment";
    // Process.
    DrainWhileBusy, "P1 P2 I20", 10_000, "a core drains while it is in use";
    PanicHolding, "P5 K16", 300, "a task panics while it holds a connection";
    PanicInHook, "P6", 300, "a hook panics";
    CoreDies, "P7 X5", 10_000, "a core's runtime ends with everything in flight";
    LateHandle, "P9", 10_000, "a handle is used after its runtime has ended";
    Stopped, "P13 M3", 10_000, "the whole process is stopped for a minute";
    DrainTwice, "P15", 10_000, "a core is drained twice at once";
    Descheduled, "P16", 10_000, "a core does not run for a second";
    CoarseTimer, "M7", 1500, "a timer fires up to 50 ms late";
    // Between cores.
    MessageFails, "X4 X13", 1500, "a connection cannot be sent to another core's ring";
    MessageLate, "X10", 2000, "a connection reaches another core's ring late";
    LateWake, "X10", 2000, "a wake-up from another core comes late";
    // Cancellation.
    DropWaiting, "K1 K4 K8", 1200, "a get is dropped where it waits";
    DropReading, "K9", 800, "a read is dropped where it waits";
    DropWriting, "K10 S10", 800, "a write is dropped where it waits";
    DropDrain, "K12", 5000, "a drain is dropped where it waits";
    CancelMisses, "K14", 1500, "a cancel meets its operation between two states and finds nothing";
    CancelLate, "K14", 1500, "a cancel answers EALREADY and its operation ends later";
    AnyOrder, "K14 C11", 3000, "completions come late and in another order";
    StaleCompletion, "R17 I6", 300, "a completion of an operation that has ended comes again";
    HeldBack, "E3", 3000, "a completion is posted when its ring is entered or its thread interrupted";
    Forgotten, "K15", 150, "a connection's guard is forgotten";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.ids())
    }
}

/// How many faults there are.
const COUNT: usize = Fault::ALL.len();

/// What may go wrong in one run.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    rates: [Rate; COUNT],
    fired: [u64; COUNT],
    /// Nothing goes wrong any more.
    over: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) fn none() -> Self {
        Self {
            rates: [0; COUNT],
            fired: [0; COUNT],
            over: false,
        }
    }

    /// A few faults, drawn from the seed: in some runs many, in some none.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut faults = Self::none();
        let share = rng.below(7);
        for fault in Fault::ALL {
            if rng.below(20) < share {
                faults.set(*fault, fault.usual());
            }
        }
        faults
    }

    pub(crate) fn set(&mut self, fault: Fault, rate: Rate) {
        self.rates[fault as usize] = rate;
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        !self.over && self.rates[fault as usize] > 0
    }

    /// Whether the fault happens in this run, now or before the faults were over.
    pub(crate) fn may(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0
    }

    /// The faults that can happen.
    pub(crate) fn active(&self) -> Vec<Fault> {
        let all = Fault::ALL.iter().copied();
        all.filter(|fault| self.rates[*fault as usize] > 0)
            .collect()
    }

    /// From now on nothing goes wrong.
    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    /// Whether `fault` happens now; counted if so.
    pub(crate) fn hit(&mut self, rng: &mut Rng, fault: Fault) -> bool {
        let rate = self.rates[fault as usize];
        let hit = !self.over && rate > 0 && rng.below(WHOLE) < u64::from(rate);
        self.fired[fault as usize] += u64::from(hit);
        hit
    }

    /// Counts something that came about by itself.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.fired[fault as usize] += 1;
    }

    /// Whether `fault` has happened.
    pub(crate) fn happened(&self, fault: Fault) -> bool {
        self.fired[fault as usize] > 0
    }

    /// How often each happened.
    pub(crate) fn fired(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        let all = Fault::ALL.iter().copied();
        all.map(|fault| (fault, self.fired[fault as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_by_its_rate_until_they_are_over() {
        let mut rng = Rng::new(1);
        let mut faults = Faults::none();
        assert!(!faults.hit(&mut rng, Fault::Refused));
        faults.set(Fault::Refused, 5_000);
        let hits = (0..1_000).filter(|_| faults.hit(&mut rng, Fault::Refused));
        let hits = hits.count() as u64;
        assert!((400..600).contains(&hits), "{hits}");
        let fired = faults.fired().find(|(fault, _)| *fault == Fault::Refused);
        assert_eq!(fired, Some((Fault::Refused, hits)));
        faults.end();
        assert!(!faults.hit(&mut rng, Fault::Refused) && !faults.has(Fault::Refused));
    }

    #[test]
    fn every_fault_is_drawn_in_some_run_and_some_run_has_none() {
        let runs: Vec<_> = (0..400)
            .map(|seed| Faults::draw(&mut Rng::new(seed)).active())
            .collect();
        for fault in Fault::ALL.iter().filter(|fault| fault.usual() > 0) {
            assert!(runs.iter().any(|run| run.contains(fault)), "{fault}");
        }
        assert!(runs.iter().any(Vec::is_empty));
    }
}
