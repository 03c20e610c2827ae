//! Hidden switches: what the kernel offers is treated as missing, so that its fallback can be tried where nothing is missing.
//!
//! `ANTIPHON_DISABLE=pidfd,eventfd` in the environment names the features; it is read once, at the first question.
//! For tests: nothing gets better by it.

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

const FEATURES: [(&str, Feature); 4] = [
    ("pidfd", Feature::PidFd),
    ("eventfd", Feature::EventFd),
    ("epoll_pwait2", Feature::EpollPwait2),
    ("accept4", Feature::Accept4),
];

static DISABLED: OnceLock<Vec<Feature>> = OnceLock::new();

/// Whether `feature` is to be treated as missing.
///
/// # Panics
/// `ANTIPHON_DISABLE` has a name that is none: a test run with a misspelt switch would prove nothing.
#[must_use]
pub fn is_disabled(feature: Feature) -> bool {
    DISABLED.get_or_init(from_environment).contains(&feature)
}

fn from_environment() -> Vec<Feature> {
    let listed = std::env::var("ANTIPHON_DISABLE").unwrap_or_default();
    match parse(&listed) {
        Ok(features) => features,
        Err(name) => panic!("ANTIPHON_DISABLE: {name:?} is not one of {:?}", FEATURES.map(|(name, _)| name)),
    }
}

fn parse(listed: &str) -> Result<Vec<Feature>, &str> {
    let names = listed.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            FEATURES.iter().find(|(known, _)| *known == name).map(|(_, feature)| *feature).ok_or(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_separated_by_commas() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("pidfd"), Ok(vec![Feature::PidFd]));
        assert_eq!(parse("accept4, pidfd,"), Ok(vec![Feature::Accept4, Feature::PidFd]));
    }

    #[test]
    fn unknown_name_is_told() {
        assert_eq!(parse("pidfd,pidfs"), Err("pidfs"));
    }
}
