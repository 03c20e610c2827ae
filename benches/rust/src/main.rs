//! antiphon's Rust crates beside their peers, in one run: `cargo run --release -- [ROW]`.
//!
//! Contenders of a row take turns, so that a slow minute of the machine hits all of them; the least CPU time of all rounds
//! counts. `--rounds N` (5).

mod generators;
mod harness;
mod tasks;

use harness::{Counting, Row};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut rounds = 5;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--rounds" {
            rounds = arguments.next().and_then(|n| n.parse().ok()).expect("--rounds takes a number");
        } else {
            wanted.push(argument);
        }
    }
    let rows: Vec<Row> = generators::rows().into_iter().chain(tasks::rows()).collect();
    for row in
        rows.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| row.name.contains(name)))
    {
        row.run(rounds);
    }
}
