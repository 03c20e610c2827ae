//! Rows of contenders, measured in turns by the process's CPU clock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, which counts the bytes that are in use.
pub struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.store(BYTES.load(Ordering::Relaxed).wrapping_add(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.store(BYTES.load(Ordering::Relaxed).wrapping_sub(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes in use, as far as one thread allocates (smol has a second one): an atomic addition would be measured, too.
pub fn bytes_in_use() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// One thing that several contenders do.
pub struct Row {
    pub name: &'static str,
    /// How many operations one call does.
    pub operations: u64,
    pub contenders: Vec<(&'static str, fn(u64))>,
}

impl Row {
    pub fn run(&self, rounds: usize) {
        let mut best = vec![f64::MAX; self.contenders.len()];
        let mut bytes = vec![0.0; self.contenders.len()];
        for _ in 0..=rounds {
            for (((_, contender), best), bytes) in self.contenders.iter().zip(&mut best).zip(&mut bytes) {
                let start = cpu_ns();
                contender(self.operations);
                *best = best.min((cpu_ns() - start) as f64 / self.operations as f64);
                *bytes = crate::tasks::parked_bytes();
            }
        }
        println!("{}", self.name);
        let mut table: Vec<_> = self.contenders.iter().map(|(name, _)| *name).zip(best).zip(bytes).collect();
        table.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
        for ((name, ns), bytes) in table {
            let memory = if bytes > 0.0 { format!("{bytes:9.0} B") } else { String::new() };
            println!("    {name:<28} {ns:9.2} ns{memory}");
        }
    }
}

/// CPU time of this process: far steadier on a shared machine than the wall clock.
pub fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one timespec through the pointer, which is to a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
