//! Generators do what Python's did: every program and script of `python_traces/traces.txt` (recorded by CPython 3.13, see
//! `record.py` beside it) gives the recorded trace, on the stack and on the heap, with every way to delegate.

use antiphon_core::{
    BoxedGenerator, Exception, Generator, ProtocolError, Resume, SharedGenerator, Step, Yielder, generator,
};
use std::cell::RefCell;
use std::fmt::Write;
use std::pin::Pin;
use std::rc::Rc;

const TRACES: &str = include_str!("python_traces/traces.txt");

/// How a program's `yield from` is made.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Way {
    /// A boxed generator by value: the driver runs it.
    ByValue,
    /// A boxed generator by `&mut`: the delegating body runs it.
    ByReference,
    /// Both in turns, so that each is inside the other.
    Alternating,
    /// A shared generator.
    Shared,
}

#[derive(Debug)]
enum Op {
    Yield(u8),
    Return(u8),
    Raise(Raised),
    From(Program),
    TryErrors(Program, Program),
    TryExit(Program, Program),
    TryBroken(Program, Program),
}

type Program = Rc<Vec<Op>>;
type Raised = Exception<char>;
type Trace = Rc<RefCell<String>>;
type Y<'a> = Yielder<'a, u8, Option<u8>, char>;

fn exception(letter: char) -> Raised {
    match letter {
        'X' => Exception::GeneratorExit,
        'S' => Exception::Protocol(ProtocolError::Finished),
        letter => Exception::Error(letter),
    }
}

fn letter(exception: Raised) -> char {
    match exception {
        Exception::GeneratorExit => 'X',
        Exception::Error(letter) => letter,
        Exception::Protocol(ProtocolError::JustStarted) => 'J',
        Exception::Protocol(ProtocolError::IgnoredExit) => 'I',
        Exception::Protocol(ProtocolError::RaisedFinished) => 'P',
        Exception::Protocol(ProtocolError::Finished) => 'F',
        other => panic!("not in any trace: {other:?}"),
    }
}

fn note(trace: &Trace, text: std::fmt::Arguments<'_>) {
    write!(trace.borrow_mut(), "{text} ").unwrap();
}

// ---- programs: reading and running

fn parse(text: &mut std::str::Chars<'_>) -> Program {
    let mut ops = Vec::new();
    let part = |text: &mut std::str::Chars<'_>| {
        assert_eq!(text.next(), Some('('));
        parse(text)
    };
    loop {
        let digit = |text: &mut std::str::Chars<'_>| text.next().unwrap().to_digit(10).unwrap() as u8;
        ops.push(match text.next() {
            None | Some(')') => return Rc::new(ops),
            Some(' ') => continue,
            Some('y') => Op::Yield(digit(text)),
            Some('r') => Op::Return(digit(text)),
            Some('x') => Op::Raise(exception(text.next().unwrap())),
            Some('f') => Op::From(part(text)),
            Some('t') => Op::TryErrors(part(text), part(text)),
            Some('e') => Op::TryExit(part(text), part(text)),
            Some('i') => Op::TryBroken(part(text), part(text)),
            Some(other) => panic!("not in any program: {other}"),
        });
    }
}

/// Runs a block; comes back with a value if it returned.
fn block<'a>(
    y: Y<'a>,
    program: Program,
    trace: &'a Trace,
    way: Way,
    depth: usize,
) -> Pin<Box<dyn Future<Output = Result<Option<u8>, Raised>> + 'a>> {
    Box::pin(async move {
        for op in program.iter() {
            let (tried, handler, catches): (_, _, fn(&Raised) -> bool) = match op {
                Op::Yield(value) => {
                    match y.yield_(*value).await? {
                        Some(sent) => note(trace, format_args!("g{sent}")),
                        None => note(trace, format_args!("g")),
                    }
                    continue;
                }
                Op::Return(value) => return Ok(Some(*value)),
                Op::Raise(raised) => return Err(*raised),
                Op::From(program) => {
                    let mut inner = boxed(program, trace, way, depth + 1);
                    let by_value = way == Way::ByValue || way == Way::Alternating && depth.is_multiple_of(2);
                    let returned = if way == Way::Shared {
                        y.yield_from(SharedGenerator::new(inner)).await?
                    } else if by_value {
                        y.yield_from(inner).await?
                    } else {
                        y.yield_from(&mut inner).await?
                    };
                    note(trace, format_args!("d{returned}"));
                    continue;
                }
                Op::TryErrors(tried, handler) => {
                    (tried, handler, |raised| matches!(raised, Exception::Error(_)))
                }
                Op::TryExit(tried, handler) => {
                    (tried, handler, |raised| matches!(raised, Exception::GeneratorExit))
                }
                // What is a RuntimeError in Python.
                Op::TryBroken(tried, handler) => (tried, handler, |raised| {
                    use ProtocolError::{IgnoredExit, RaisedFinished};
                    matches!(raised, Exception::Protocol(IgnoredExit | RaisedFinished))
                }),
            };
            let value = match block(y, Rc::clone(tried), trace, way, depth).await {
                Err(raised) if catches(&raised) => {
                    note(trace, format_args!("h{}", letter(raised)));
                    block(y, Rc::clone(handler), trace, way, depth).await?
                }
                outcome => outcome?,
            };
            if value.is_some() {
                return Ok(value);
            }
        }
        Ok(None)
    })
}

async fn body(y: Y<'_>, program: Program, trace: Trace, way: Way, depth: usize) -> Result<u8, Raised> {
    Ok(block(y, program, &trace, way, depth).await?.unwrap_or(0))
}

type Boxed = BoxedGenerator<u8, Option<u8>, u8, char>;

fn boxed(program: &Program, trace: &Trace, way: Way, depth: usize) -> Boxed {
    let (program, trace) = (Rc::clone(program), Rc::clone(trace));
    BoxedGenerator::new(async move |y: Y<'_>| body(y, program, trace, way, depth).await)
}

// ---- scripts

type AnyGenerator<'a> = dyn Generator<Yield = u8, Sent = Option<u8>, Return = u8, Error = char> + 'a;

/// Plays a script.
fn play(script: &str, generator: &mut AnyGenerator<'_>, trace: &Trace) {
    for step in script.split_whitespace() {
        let argument = step.chars().nth(1);
        let with = match step.as_bytes()[0] {
            b'n' => Resume::Send(None),
            b's' => Resume::Send(argument.and_then(|digit| digit.to_digit(10)).map(|digit| digit as u8)),
            b't' => Resume::Throw(exception(argument.unwrap())),
            _ => {
                match generator.resume(Resume::Close) {
                    Step::Returned(value) => note(trace, format_args!("c{value}")),
                    Step::Raised(Exception::GeneratorExit) => note(trace, format_args!("c")),
                    Step::Raised(raised) => note(trace, format_args!("e{}", letter(raised))),
                    Step::Yielded(_) => panic!("yielded to a close"),
                }
                continue;
            }
        };
        match generator.resume(with) {
            Step::Yielded(value) => note(trace, format_args!("y{value}")),
            Step::Returned(value) => note(trace, format_args!("r{value}")),
            Step::Raised(raised) => note(trace, format_args!("e{}", letter(raised))),
        }
    }
    note(trace, format_args!("."));
}

fn check_all(way: Way, on_stack: bool) {
    let mut count = 0;
    for line in TRACES.lines() {
        let [program, script, recorded] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not a trace: {line}");
        };
        let program = parse(&mut program.chars());
        let trace = Trace::default();
        if on_stack {
            generator!(let mut generator = |y| body(y, program, Rc::clone(&trace), way, 0));
            play(script, &mut generator, &trace);
        } else {
            play(script, &mut boxed(&program, &trace, way, 0), &trace);
        }
        // The generator was dropped, which closed it.
        let played = trace.borrow();
        assert_eq!(played.trim_end(), recorded, "{way:?}: {line}");
        count += 1;
    }
    assert_eq!(count, 3000);
}

#[test]
fn boxed_generators_do_what_python_recorded() {
    check_all(Way::ByValue, false);
}

#[test]
fn generators_on_the_stack_do_what_python_recorded() {
    check_all(Way::ByValue, true);
}

#[test]
fn delegates_by_reference_do_what_python_recorded() {
    check_all(Way::ByReference, false);
    check_all(Way::ByReference, true);
}

#[test]
fn delegates_inside_delegates_of_another_kind_do_what_python_recorded() {
    check_all(Way::Alternating, false);
    check_all(Way::Shared, true);
}
