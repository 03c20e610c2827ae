//! Every example is run, and what it prints is checked.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// An example that cargo has built for this test.
fn program(name: &str) -> PathBuf {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop(); // deps
    path.pop();
    path.extend(["examples", name]);
    path
}

fn run(name: &str, arguments: &[&str]) -> Output {
    let path = program(name);
    Command::new(&path).args(arguments).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a successful run printed.
fn printed(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{name}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn all_examples_are_run_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let here = include_str!("examples.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(here.contains(&format!("(\"{name}\"")), "{name} is not run by any test");
            let index = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
            assert!(index.contains(&format!("`{name}`")), "{name} is not in the folder's README.md");
        }
    }
}

#[test]
fn countdown_prints_five_times_and_their_sum() {
    let printed = printed("countdown", &["1000"]);
    let words: Vec<_> = printed.lines().map(|line| line.rsplit_once(' ').unwrap()).collect();
    let (texts, times): (Vec<_>, Vec<_>) = words.into_iter().unzip();
    assert_eq!(texts[..5], ["subFunction during time:"; 5]);
    assert_eq!(texts[5..], ["during time:"]);
    assert!(times.iter().all(|time| time.parse::<f64>().is_ok_and(|time| time >= 0.0)), "{times:?}");
}

#[test]
fn backpressure_keeps_the_producer_within_the_bound() {
    assert_eq!(printed("backpressure", &[]), "at most 4 items ahead\n");
}

#[test]
fn pipeline_prints_what_its_generators_have_found() {
    let expected = "1 empty line\n3.33 letters on average\n15 words, the longest is 'ready'\n";
    assert_eq!(printed("pipeline", &[]), expected);
}

#[test]
fn tls_example_has_its_answer_over_tls() {
    assert_eq!(printed("tls", &[]), "HELLO OVER TLS, TLSv1_3\n");
}

#[test]
#[cfg(feature = "hyper")]
fn http_example_has_every_answer() {
    let expected = "/square/12 200 OK: 144\n/square/4294967295 200 OK: 18446744065119617025\n\
                    /cube/3 404 Not Found: no such page\n";
    assert_eq!(printed("http", &[]), expected);
}

/// An example that serves, and where; killed if the test fails.
struct Serving {
    child: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Serving {
    fn start((name, arguments): (&str, &[&str])) -> Self {
        let mut child = Command::new(program(name)).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at ").expect("it listens").to_owned();
        Self { child, output, address }
    }

    fn client(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(&self.address).unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `line` and gives the answer.
fn ask(client: &mut BufReader<TcpStream>, line: &str) -> String {
    client.get_mut().write_all(line.as_bytes()).unwrap();
    answer(client)
}

fn answer(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn echo_sends_lines_back_to_several_clients() {
    let server = Serving::start(("echo", &["localhost:0"]));
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(ask(client, "one\n"), "one\n");
        assert_eq!(ask(client, "two\n"), "two\n");
    }
}

#[test]
fn crawler_finds_every_page_once() {
    let expected = "/ has 2 links\n/about has 0 links\n/news has 3 links\n/news/today has 1 links\n\
                    /news/yesterday has 2 links\n";
    assert_eq!(printed("crawler", &[]), expected);
}

#[test]
fn shutdown_lets_clients_finish_and_cancels_those_that_do_not() {
    let mut server = Serving::start(("shutdown", &[]));
    let (mut first, mut second) = (server.client(), server.client());
    assert_eq!(ask(&mut first, "Ada\n"), "hello Ada\n");
    assert_eq!(ask(&mut second, "Grace\n"), "hello Grace\n");
    let pid = Pid::from_child(&server.child);
    kill_process(pid, Signal::INT).unwrap();
    let mut printed = String::new();
    server.output.read_line(&mut printed).unwrap();
    assert_eq!(ask(&mut first, "Barbara\n"), "hello Barbara\n", "it is served to the end");
    drop(first);
    assert_eq!(answer(&mut second), "the server is shutting down\n");
    assert_eq!(answer(&mut second), "");
    server.output.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "shutting down, 2 clients left\npatience is over\ngoodbye\n");
    assert!(server.child.wait().unwrap().success());
}
