//! Endpoint texts come in many spellings; a pool keyed by spelling would hold two sets of
//! connections for one server, or mix two servers. [`Endpoint`] is the one canonical form.
