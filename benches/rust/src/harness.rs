//! Rows of contenders, measured in turns by the process's CPU clock.

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
        for _ in 0..=rounds {
            for ((_, contender), best) in self.contenders.iter().zip(&mut best) {
                let start = cpu_ns();
                contender(self.operations);
                *best = best.min((cpu_ns() - start) as f64 / self.operations as f64);
            }
        }
        println!("{}", self.name);
        let mut table: Vec<_> = self.contenders.iter().map(|(name, _)| *name).zip(best).collect();
        table.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (name, ns) in table {
            println!("    {name:<28} {ns:9.2} ns");
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
