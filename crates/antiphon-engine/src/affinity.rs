//! Which processors a thread may run on.
//!
//! `unsafe` is for `sched_getaffinity(2)` and `sched_setaffinity(2)`.
//!
//! Source: `sched_setaffinity(2)`, `CPU_SET(3)`.

#![allow(unsafe_code)]

use std::io;

/// The kernel knows that many processors at most (`CPU_SETSIZE`).
const MAX_PROCESSORS: usize = libc::CPU_SETSIZE as usize;

/// The processors that the calling thread may run on, in ascending order.
///
/// ```
/// let allowed = antiphon_engine::allowed_processors()?;
/// assert!(!allowed.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The system has more processors than the set can name, or a sandbox refuses.
pub fn allowed_processors() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: the set is as large as the call is told; zero is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every number is below the set's size.
    Ok((0..MAX_PROCESSORS).filter(|&number| unsafe { libc::CPU_ISSET(number, &set) }).collect())
}

/// Lets the calling thread run on one processor only.
///
/// ```
/// # std::thread::spawn(|| {
/// let first = antiphon_engine::allowed_processors()?[0];
/// antiphon_engine::pin_to(first)?;
/// assert_eq!(antiphon_engine::allowed_processors()?, [first]);
/// # Ok::<(), std::io::Error>(())
/// # }).join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// There is no such processor, or the process may not run on it.
pub fn pin_to(processor: usize) -> io::Result<()> {
    if processor >= MAX_PROCESSORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = empty_set();
    // SAFETY: the number is below the set's size.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set is as large as the call is told; zero is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a set of processors is an array of integers, for which zeros are valid: the empty set.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_that_cannot_be_is_refused() {
        assert_eq!(pin_to(MAX_PROCESSORS).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(pin_to(MAX_PROCESSORS - 1).is_err() || allowed_processors().unwrap().len() == MAX_PROCESSORS);
    }
}
