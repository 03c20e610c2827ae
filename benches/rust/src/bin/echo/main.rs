//! What a TCP echo server costs per message, in its own CPU time: antiphon beside tokio, monoio and a bare epoll loop in C.
//!
//!     cargo run --release --bin echo -- [--rounds N] [--seconds S] [SIZE:CONNECTIONS …]
//!
//! Every contender is a process of its own with one thread, a new one in each round. They take turns at each cell, and the least of all rounds counts.

mod load;
mod servers;

use load::{Cell, Native, Server};
use std::time::Duration;

const SIZES: [usize; 4] = [64, 1024, 16 * 1024, 100 * 1024];
const CONNECTIONS: [usize; 4] = [1, 10, 100, 1000];

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return servers::serve(arguments.get(1).map_or("", String::as_str));
    }
    let mut option = |name: &str, default: f64| {
        let Some(place) = arguments.iter().position(|argument| argument == name) else { return default };
        let value = arguments.get(place + 1).and_then(|value| value.parse().ok());
        arguments.drain(place..(place + 2).min(arguments.len()));
        value.unwrap_or_else(|| panic!("{name} takes a number"))
    };
    let rounds = option("--rounds", 5.0) as usize;
    let measured = Duration::from_secs_f64(option("--seconds", 0.5));
    let wanted: Vec<Cell> = arguments.iter().map(|argument| parse(argument)).collect();
    let all = SIZES.iter().flat_map(|size| CONNECTIONS.map(|connections| Cell { size: *size, connections }));
    let cells = if wanted.is_empty() { all.collect() } else { wanted };

    let native = Native::build();
    let names = servers::NAMES;
    println!("{:>18}  bare epoll{}", "ns per message", names.map(|name| format!("{name:>20}")).concat());
    for cell in cells {
        run(&native, cell, rounds, measured);
    }
}

fn parse(text: &str) -> Cell {
    let parts = text.split_once(':').and_then(|(size, connections)| {
        Some(Cell { size: size.parse().ok()?, connections: connections.parse().ok()? })
    });
    parts.unwrap_or_else(|| panic!("{text:?} is not SIZE:CONNECTIONS"))
}

fn run(native: &Native, cell: Cell, rounds: usize, measured: Duration) {
    let mut best = [None; 1 + servers::NAMES.len()];
    for _ in 0..rounds {
        // A process that had bad luck with its memory has it to its end: each round has new ones.
        let floor = std::iter::once(Some(native.floor()));
        let servers = floor.chain(servers::NAMES.map(Server::of_this_program));
        for (server, best) in servers.zip(&mut best) {
            let Some(server) = server else { continue };
            let ns = native.cpu_ns_per_message(&server, cell, measured);
            *best = Some(best.map_or(ns, |best: f64| best.min(ns)));
        }
    }
    let size =
        if cell.size < 1024 { format!("{} B", cell.size) } else { format!("{} KiB", cell.size / 1024) };
    let floor = best[0].unwrap_or(f64::NAN);
    print!("{:>18}  {floor:10.0}", format!("{size}, {}", cell.connections));
    for best in &best[1..] {
        match best {
            Some(ns) => print!("{:>20}", format!("{ns:.0} ({:.2}x)", ns / floor)),
            None => print!("{:>20}", "not here"),
        }
    }
    println!();
}
