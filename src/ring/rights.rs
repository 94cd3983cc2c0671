//! Whoever starts a program that has more rights than he has must not steer it by the environment.
//! The kernel tells, and no safe interface hands it on.

#![allow(unsafe_code)]

/// Whether the process runs with more rights than its user: setuid, setgid or capabilities of the
/// file (`AT_SECURE`, getauxval(3)).
pub(crate) fn has_more_rights_than_its_user() -> bool {
    // SAFETY: getauxval has no duties; 0 means no, or not told.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
