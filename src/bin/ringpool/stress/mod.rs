pub(crate) mod preset;
pub(crate) mod servers;
pub(crate) mod message;
