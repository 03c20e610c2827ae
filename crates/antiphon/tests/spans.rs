//! Spans of `tracing`. One test, in a process of its own: tracing remembers for each place in the code whether anybody listens,
//! and threads that do not would be heard.

#![cfg(feature = "tracing")]

use antiphon::{run, spawn, yield_now};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down which spans are made, entered and left.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    ids: Arc<AtomicU64>,
}

impl Log {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() != "spawned_at" {
            *self.0 += &format!(" {}={value:?}", field.name());
        } else if format!("{value:?}").contains("spans.rs") {
            *self.0 += " here";
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "antiphon::task"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.ids.fetch_add(1, Ordering::SeqCst) + 1;
        let mut text = format!("new {id}");
        attributes.record(&mut Text(&mut text));
        self.note(text);
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut text = format!("record {}", id.into_u64());
        values.record(&mut Text(&mut text));
        self.note(text);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        self.note(format!("enter {}", id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        self.note(format!("exit {}", id.into_u64()));
    }

    fn try_close(&self, id: Id) -> bool {
        self.note(format!("close {}", id.into_u64()));
        true
    }
}

#[test]
fn each_task_has_a_span_that_is_entered_in_its_steps() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        run(async {
            spawn(async { yield_now().await }).named("worker").await.unwrap();
        })
        .unwrap();
    });
    let steps = [
        "new 1 number=0 here",
        "enter 1", // main
        "new 2 number=1 here",
        "record 2 name=\"worker\"",
        "exit 1",
        "enter 2", // to its yield
        "exit 2",
        "enter 2",
        "exit 2",
        "enter 1", // joins
        "close 2",
        "exit 1",
        "close 1",
    ];
    assert_eq!(*log.lines.lock().unwrap(), steps);
}
