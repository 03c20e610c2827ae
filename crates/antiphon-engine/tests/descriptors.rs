//! No descriptor stays behind. The only test of its program, since it counts those of the whole process.

use antiphon_engine::{Core, Epoll, SignalPipe};
use std::sync::Arc;

fn descriptor_count() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn loops_and_signal_pipes_give_their_descriptors_back() {
    let before = descriptor_count();
    for _ in 0..100 {
        let core = Core::<(), Epoll>::new(Epoll::new().unwrap()).unwrap();
        core.inbox.wake();
        let mut pipe = SignalPipe::new().unwrap();
        pipe.watch(libc::SIGWINCH).unwrap();
    }
    assert_eq!(descriptor_count(), before);

    // A closed loop holds none either, while its parts live on.
    let mut core = Core::<(), Epoll>::new(Epoll::new().unwrap()).unwrap();
    let inbox = Arc::clone(&core.inbox);
    assert!(descriptor_count() > before);
    inbox.close();
    core.driver.close().unwrap();
    assert_eq!(descriptor_count(), before);
}
