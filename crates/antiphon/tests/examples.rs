//! Every example is run, and what it prints is checked.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs an example that cargo has built for this test.
fn run(name: &str, arguments: &[&str]) -> Output {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop(); // deps
    path.pop();
    path.extend(["examples", name]);
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
