//! A million schedules prove little about a state that none of them reached. This is the list of
//! every state of the policy with every event that it can meet, and of its hand with what it is for.

/// A state and an event.
pub type Meeting = (&'static str, &'static str);

/// Every meeting that can happen. What is not here cannot: the shell tells a connection's facts only
/// in the stages that it asked them for (`Connected` in Dialing alone), an endpoint's answers only
/// to its questions (`Resolved` while it is resolving, which it may be for its own sake in any of
/// its states), and between the question for a permit and
/// its answer nothing else comes but news of other cores.
pub const EXPECTED: &[Meeting] = &[
    ("Asked", "Demand"),
    ("Asked", "DemandEnds"),
    ("Asked", "PermitGranted"),
    ("Asked", "PermitQueued"),
    ("Asked", "Resolved"),
    ("Checking", "Broken"),
    ("Checking", "Healthy"),
    ("Checking", "Unhealthy"),
    ("Closing", "Broken"),
    ("Closing", "Closed"),
    ("Condemned", "Broken"),
    ("Declined", "Closed"),
    ("Dialing", "ConnectFailed"),
    ("Dialing", "Connected"),
    ("Expected", "Closed"),
    ("Expected", "Received"),
    ("Idle", "Broken"),
    ("InHand", "Get"),
    ("InUse", "Broken"),
    ("Initialising", "Broken"),
    ("Initialising", "InitFailed"),
    ("Initialising", "Initialised"),
    ("Leaving", "Broken"),
    ("Leaving", "GiveFailed"),
    ("Leaving", "Given"),
    ("Pool", "Drain"),
    ("Pool", "TotalDemand"),
    ("Pool", "TotalDemandEnds"),
    ("Pool", "TotalDemandRenewed"),
    ("Queued", "Demand"),
    ("Queued", "DemandEnds"),
    ("Queued", "DemandRenewed"),
    ("Queued", "NamesChanged"),
    ("Queued", "PermitGranted"),
    ("Queued", "ResolveFailed"),
    ("Queued", "Resolved"),
    ("Resolving", "Demand"),
    ("Resolving", "DemandEnds"),
    ("Resolving", "DemandRenewed"),
    ("Resolving", "NamesChanged"),
    ("Resolving", "ResolveFailed"),
    ("Resolving", "Resolved"),
    ("Resting", "Demand"),
    ("Resting", "DemandEnds"),
    ("Resting", "DemandRenewed"),
    ("Resting", "NamesChanged"),
    ("Resting", "PermitGranted"),
];
