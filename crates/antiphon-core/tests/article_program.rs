//! The article's second program prints what the article says, and ends with an error.

use std::process::Command;

#[test]
fn second_program_prints_one_and_two_and_raises() {
    // cargo builds examples beside tests: target/<profile>/examples and target/<profile>/deps.
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.push("examples/generator");
    let output = Command::new(program).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n2\n");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "Error: Protocol(Finished)\n");
}
