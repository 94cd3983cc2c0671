pub(crate) mod message;
pub(crate) mod preset;
pub(crate) mod servers;
