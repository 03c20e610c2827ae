//! Hidden switches: what the kernel offers is treated as missing, or what it rarely does is done all the time, so that each
//! fallback can be tried where nothing is missing and nothing rare happens.
//!
//! `ANTIPHON_DISABLE=pidfd,eventfd` in the environment names [`Feature`]s, `ANTIPHON_FORCE=partial-writes` names
//! [`Behaviour`]s; both are read once, at the first question. For tests: nothing gets better by it.

use std::sync::OnceLock;

/// A service of the kernel that older ones, or sandboxes, do not have.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Feature {
    /// Processes as descriptors; instead a thread waits for each child.
    PidFd,
    /// A counter as a descriptor; instead a pipe.
    EventFd,
    /// Timeouts finer than a millisecond; instead they are rounded up.
    EpollPwait2,
    /// Accepting and setting flags in one call; instead in three.
    Accept4,
}

/// What is rare, or made for tests.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Behaviour {
    /// Sockets and pipes take a part of what is written, or nothing for now: [`partial_writes`](crate::partial_writes).
    PartialWrites,
    /// Hosts that ask make their loops with the driver [`Simulated`](crate::Simulated), in virtual time.
    SimulatedDriver,
}

const FEATURES: [(&str, Feature); 4] = [
    ("pidfd", Feature::PidFd),
    ("eventfd", Feature::EventFd),
    ("epoll_pwait2", Feature::EpollPwait2),
    ("accept4", Feature::Accept4),
];

const BEHAVIOURS: [(&str, Behaviour); 2] =
    [("partial-writes", Behaviour::PartialWrites), ("simulated-driver", Behaviour::SimulatedDriver)];

/// Bit `n` stands for the item of discriminant `n`.
struct Switches {
    disabled: u32,
    forced: u32,
}

static SWITCHES: OnceLock<Switches> = OnceLock::new();

/// Whether `feature` is to be treated as missing.
///
/// # Panics
/// One of the variables has a name that is none: a test run with a misspelt switch would prove nothing.
#[must_use]
pub fn is_disabled(feature: Feature) -> bool {
    SWITCHES.get_or_init(Switches::from_environment).disabled & 1 << feature as u32 != 0
}

/// Whether `behaviour` is to be shown.
///
/// # Panics
/// As [`is_disabled`].
#[inline]
#[must_use]
pub fn is_forced(behaviour: Behaviour) -> bool {
    SWITCHES.get_or_init(Switches::from_environment).forced & 1 << behaviour as u32 != 0
}

impl Switches {
    fn from_environment() -> Self {
        Self {
            disabled: read("ANTIPHON_DISABLE", &FEATURES, |feature| feature as u32),
            forced: read("ANTIPHON_FORCE", &BEHAVIOURS, |behaviour| behaviour as u32),
        }
    }
}

fn read<T: Copy, const N: usize>(variable: &str, known: &[(&str, T); N], place: impl Fn(T) -> u32) -> u32 {
    let listed = std::env::var(variable).unwrap_or_default();
    match parse(&listed, known) {
        Ok(items) => items.into_iter().fold(0, |bits, item| bits | 1 << place(item)),
        Err(name) => panic!("{variable}: {name:?} is not one of {:?}", known.map(|(name, _)| name)),
    }
}

fn parse<'a, T: Copy>(listed: &'a str, known: &[(&str, T)]) -> Result<Vec<T>, &'a str> {
    let names = listed.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| known.iter().find(|(other, _)| *other == name).map(|(_, item)| *item).ok_or(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_separated_by_commas() {
        assert_eq!(parse("", &FEATURES), Ok(vec![]));
        assert_eq!(parse("pidfd", &FEATURES), Ok(vec![Feature::PidFd]));
        assert_eq!(parse("accept4, pidfd,", &FEATURES), Ok(vec![Feature::Accept4, Feature::PidFd]));
        assert_eq!(parse("partial-writes", &BEHAVIOURS), Ok(vec![Behaviour::PartialWrites]));
    }

    #[test]
    fn unknown_name_is_told() {
        assert_eq!(parse("pidfd,pidfs", &FEATURES), Err("pidfs"));
    }
}
