//! A million schedules prove little about a state that none of them reached. This is the list of
//! every state of the policy with every event that it can meet.

/// A state and an event.
pub type Meeting = (&'static str, &'static str);

/// Every meeting that can happen. What is not here cannot: the shell tells a connection's facts
/// only in the stages that it asked them for, and an endpoint's answers only to its questions.
pub const EXPECTED: &[Meeting] = &[("Dialing", "Connected"), ("Dialing", "ConnectFailed")];
