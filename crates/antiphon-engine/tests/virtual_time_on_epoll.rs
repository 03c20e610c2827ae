//! A host may combine the real driver with a virtual clock: real descriptors, and time that jumps when they are quiet.

use antiphon_engine::{Clock, Core, Driver, Epoll, Event, Host, Instant, Interest, Token, Virtual, run_once};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

struct JumpingLoop {
    core: Core<&'static str, Epoll>,
    clock: Virtual,
    log: Vec<&'static str>,
}

impl Host for JumpingLoop {
    type Work = &'static str;
    type Driver = Epoll;

    fn core<R>(&mut self, f: impl FnOnce(&mut Core<&'static str, Epoll>) -> R) -> R {
        f(&mut self.core)
    }

    fn now(&mut self) -> Instant {
        self.clock.now()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.map(|timeout| self.clock.now().saturating_add(timeout));
        // Only a loop that has nothing else to do lets time pass.
        self.core.wait(Some(Duration::ZERO))?;
        let quiet = self.core.ready.is_empty() && self.core.events.is_empty();
        match deadline {
            Some(deadline) if quiet && self.clock.advance_to(deadline) => Ok(()),
            _ if quiet => self.core.wait(timeout),
            _ => Ok(()),
        }
    }

    fn dispatch(&mut self, event: Event) {
        assert_eq!(event.token, Token(1));
        self.core.ready.push("readable");
    }

    fn run(&mut self, work: &'static str) {
        self.log.push(work);
    }
}

#[test]
fn time_jumps_to_the_deadline_once_descriptors_are_quiet() {
    let mut host =
        JumpingLoop { core: Core::new(Epoll::new().unwrap()).unwrap(), clock: Virtual::new(), log: vec![] };
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let interest = Interest { readable: true, ..Interest::default() };
    host.core.driver.add(ours.as_raw_fd(), Token(1), interest).unwrap();
    let hour = Duration::from_secs(3600);
    host.core.timers.push(host.clock.now().saturating_add(hour), "an hour later");

    theirs.write_all(b"x").unwrap();
    run_once(&mut host).unwrap();
    assert_eq!(host.log, ["readable"]);
    assert_eq!(host.clock.now(), Instant::from_ns(0), "a descriptor was ready, so no time passed");

    host.core.driver.remove(ours.as_raw_fd()).unwrap();
    run_once(&mut host).unwrap();
    assert_eq!(host.log, ["readable", "an hour later"]);
}
