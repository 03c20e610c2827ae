//! The native programs of the Python benches: the load client, which reads its server's CPU clock, and the bare epoll server.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// So long a server runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(150);

/// So many connections, each with one message of `size` bytes under way.
#[derive(Copy, Clone)]
pub struct Cell {
    pub size: usize,
    pub connections: usize,
}

/// A server in a process of its own, killed when dropped.
pub struct Server {
    pub name: &'static str,
    child: Child,
    port: String,
}

impl Server {
    /// `None`: it cannot run on this machine.
    pub fn of_this_program(name: &'static str) -> Option<Self> {
        let program = std::env::current_exe().expect("this program");
        Self::start(name, Command::new(program).args(["serve", name]))
    }

    fn start(name: &'static str, command: &mut Command) -> Option<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its first line");
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("READY"), Some(port)) => Some(Self { name, child, port: port.to_owned() }),
            _ => {
                let _ = child.wait();
                None
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The compiled programs.
pub struct Native {
    client: PathBuf,
    server: PathBuf,
}

impl Native {
    pub fn build() -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../echo/native");
        let build = std::env::current_exe().expect("this program").with_file_name("");
        let compile = |name: &str, files: &[&str]| {
            let program = build.join(name);
            let mut compiler = Command::new("cc");
            compiler.args(["-std=c17", "-O2", "-o"]).arg(&program);
            compiler.args(files.iter().map(|file| sources.join(file)));
            assert!(compiler.status().expect("a C compiler").success(), "{name} cannot be compiled");
            program
        };
        Self {
            client: compile("echoload", &["echoload.c", "connection.c", "histogram.c", "secure_none.c"]),
            server: compile("epollserver", &["epollserver.c"]),
        }
    }

    pub fn floor(&self) -> Server {
        Server::start("bare epoll", &mut Command::new(&self.server)).expect("the bare server")
    }

    pub fn cpu_ns_per_message(&self, server: &Server, cell: Cell, measured: Duration) -> f64 {
        let output = Command::new(&self.client)
            .args(["-a", &server.port, "-P", &server.child.id().to_string()])
            .args(["-s", &cell.size.to_string(), "-c", &cell.connections.to_string()])
            .args(["-w", &WARM_UP.as_secs_f64().to_string(), "-d", &measured.as_secs_f64().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .expect("the load client");
        let text = String::from_utf8_lossy(&output.stdout);
        let figure =
            text.split_once("\"cpu_ns\": ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        figure.unwrap_or_else(|| panic!("the load client failed on {}: {text}", server.name))
    }
}
