//! A pipeline of generators: lines become words, words are sent into a coroutine that keeps statistics, and its returned value
//! comes out of a `yield from`.

#![allow(clippy::print_stdout)] // it is what the program does

use antiphon::core::{BoxedGenerator, Exception, Generator, Step, Yielder, generator, values};

const TEXT: &str = "the loop runs what is ready\nand waits for what is not\n\nso it goes";

/// Yields the lines that have something in them; returns how many have not.
async fn lines(y: Yielder<'_, &'static str>) -> Result<usize, Exception> {
    let mut empty = 0;
    for line in TEXT.lines() {
        if line.is_empty() {
            empty += 1;
        } else {
            y.yield_(line).await?;
        }
    }
    Ok(empty)
}

/// Yields the words of all lines, each line's by delegation.
async fn words(y: Yielder<'_, &'static str>) -> Result<(), Exception> {
    generator!(let mut lines = lines);
    let mut each = values(&mut lines);
    for line in each.by_ref() {
        y.yield_all(line?.split(' ')).await?;
    }
    println!("{} empty line", each.returned().unwrap_or(0));
    Ok(())
}

/// What [`statistics`] returns.
struct Summary {
    words: usize,
    longest: &'static str,
}

/// Is sent words and yields the average length so far; `None` ends it.
async fn statistics(y: Yielder<'_, f64, Option<&'static str>>) -> Result<Summary, Exception> {
    let (mut letters, mut summary) = (0, Summary { words: 0, longest: "" });
    let mut average = 0.0;
    while let Some(word) = y.yield_(average).await? {
        letters += word.len();
        summary.words += 1;
        if word.len() > summary.longest.len() {
            summary.longest = word;
        }
        average = letters as f64 / summary.words as f64;
    }
    Ok(summary)
}

/// Lets `statistics` talk to whoever drives this one, and tells what it returned.
async fn report(y: Yielder<'_, f64, Option<&'static str>>) -> Result<(), Exception> {
    let summary = y.yield_from(BoxedGenerator::new(statistics)).await?;
    println!("{} words, the longest is '{}'", summary.words, summary.longest);
    Ok(())
}

fn main() -> Result<(), Exception> {
    generator!(let mut words = words);
    generator!(let mut report = report);
    let mut last = report.next(); // to its first yield
    for word in values(&mut words) {
        last = report.send(Some(word?));
    }
    if let Step::Yielded(average) = last {
        println!("{average:.2} letters on average");
    }
    match report.send(None) {
        Step::Returned(()) | Step::Yielded(_) => Ok(()),
        Step::Raised(exception) => Err(exception),
    }
}
