//! Task groups against a naive model: children that end, fail and are cancelled in any order, while others want the group's own task
//! cancelled, too.

use antiphon::{
    Cancelled, Event, GroupError, Queue, TaskGroup, TaskRef, current_task, run, spawn, task_group, yield_now,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

/// After each one everybody runs until nobody is ready.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Operation {
    Finish(usize),
    Fail(usize),
    CancelChild(usize),
    CancelParent,
    /// Lets the block come to its end.
    Release,
}

/// What a child does about a cancellation.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Policy {
    PassOn,
    Ignore,
    Fail,
}

/// What the group came to.
#[derive(Clone, PartialEq, Debug)]
enum Outcome {
    Finished,
    Cancelled,
    /// The children whose errors it has.
    Errors(Vec<usize>),
}

#[derive(Clone, PartialEq, Debug)]
struct Report {
    /// Which children have ended, after each operation.
    ended: Vec<Vec<bool>>,
    /// What it came to, the requests that are left of the parent then, and whether its next await fails.
    outcome: Option<(Outcome, u32, bool)>,
}

#[derive(Debug)]
enum Command {
    Finish,
    Fail,
}

async fn child(orders: Rc<Queue<Command>>, policy: Policy) -> Result<(), Box<dyn Error>> {
    loop {
        match (orders.get().await, policy) {
            (Ok(Command::Finish), _) => return Ok(()),
            (Err(_), Policy::Ignore) => {}
            (Err(_), Policy::PassOn) => return Err(Cancelled.into()),
            (Ok(Command::Fail), _) | (Err(_), Policy::Fail) => return Err("on purpose".into()),
        }
    }
}

async fn settle() {
    for _ in 0..12 {
        yield_now().await.unwrap();
    }
}

/// What really happens.
fn observe(policies: &[Policy], operations: &[Operation]) -> Report {
    let orders: Vec<Rc<Queue<Command>>> = policies.iter().map(|_| Rc::default()).collect();
    let children = Rc::new(RefCell::new(Vec::<TaskRef>::new()));
    let release = Rc::new(Event::new());
    let outcome = Rc::new(RefCell::new(None));
    let members: Vec<_> = orders.iter().cloned().zip(policies.iter().copied()).collect();
    run(async {
        let (made, released, seen) = (Rc::clone(&children), Rc::clone(&release), Rc::clone(&outcome));
        let parent = spawn(async move {
            let ended = task_group(async |group: &TaskGroup| {
                for (number, (orders, policy)) in members.into_iter().enumerate() {
                    let task = group.spawn(child(orders, policy));
                    task.set_name(&number.to_string());
                    made.borrow_mut().push(task.as_ref());
                }
                released.wait().await
            });
            let ended = match ended.await {
                Ok(()) => Outcome::Finished,
                Err(GroupError::Cancelled) => Outcome::Cancelled,
                Err(GroupError::Errors(errors)) => {
                    let number = |name: Option<Rc<str>>| name.unwrap().parse().unwrap();
                    Outcome::Errors(errors.into_iter().map(|error| number(error.name)).collect())
                }
            };
            let requests = current_task().unwrap().cancelling();
            let is_due = yield_now().await.is_err();
            seen.replace(Some((ended, requests, is_due)));
            Ok::<_, Cancelled>(())
        });
        settle().await;
        let mut ended = Vec::new();
        for operation in operations {
            match *operation {
                Operation::Finish(number) => orders[number].try_put(Command::Finish).unwrap(),
                Operation::Fail(number) => orders[number].try_put(Command::Fail).unwrap(),
                Operation::CancelChild(number) => drop(children.borrow()[number].cancel()),
                Operation::CancelParent => drop(parent.cancel()),
                Operation::Release => release.set(),
            }
            settle().await;
            ended.push(children.borrow().iter().map(TaskRef::is_done).collect());
        }
        let outcome = outcome.borrow().clone();
        orders.iter().for_each(|orders| orders.try_put(Command::Finish).unwrap()); // so that nobody is left
        Report { ended, outcome }
    })
    .unwrap()
}

/// asyncio's rules in as few words as possible.
struct Model<'a> {
    policies: &'a [Policy],
    ended: Vec<bool>,
    aborting: bool,
    block_left: bool,
    /// Requests of others that reached the parent.
    requests: u32,
    errors: Vec<usize>,
    finished: bool,
}

impl Model<'_> {
    fn end(&mut self, number: usize, failed: bool) {
        if std::mem::replace(&mut self.ended[number], true) || !failed {
            return;
        }
        self.errors.push(number);
        self.abort();
    }

    /// Cancels the children, once, and the block.
    fn abort(&mut self) {
        self.block_left = true;
        if !std::mem::replace(&mut self.aborting, true) {
            (0..self.policies.len()).for_each(|number| self.cancel(number));
        }
    }

    fn cancel(&mut self, number: usize) {
        if !self.ended[number] && self.policies[number] != Policy::Ignore {
            self.end(number, self.policies[number] == Policy::Fail);
        }
    }

    fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Finish(number) => self.end(number, false),
            Operation::Fail(number) if !self.ended[number] => self.end(number, true),
            Operation::Fail(_) => {}
            Operation::CancelChild(number) => self.cancel(number),
            Operation::CancelParent if !self.finished => {
                self.requests += 1;
                self.abort();
            }
            Operation::CancelParent => {}
            Operation::Release => self.block_left = true,
        }
        self.finished |= self.block_left && self.ended.iter().all(|ended| *ended);
    }

    fn outcome(&self) -> Option<(Outcome, u32, bool)> {
        let outcome = match (self.errors.is_empty(), self.requests) {
            (false, _) => Outcome::Errors(self.errors.clone()),
            (true, 0) => Outcome::Finished,
            (true, _) => Outcome::Cancelled,
        };
        // Who wants the parent cancelled is not to be forgotten over the children's errors.
        let is_due = self.requests > 0 && !self.errors.is_empty();
        self.finished.then_some((outcome, self.requests, is_due))
    }
}

/// What the rules say.
fn predict(policies: &[Policy], operations: &[Operation]) -> Report {
    let mut model = Model {
        policies,
        ended: vec![false; policies.len()],
        aborting: false,
        block_left: false,
        requests: 0,
        errors: Vec::new(),
        finished: false,
    };
    let mut ended = Vec::new();
    for operation in operations {
        model.perform(*operation);
        ended.push(model.ended.clone());
    }
    Report { ended, outcome: model.outcome() }
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let one = prop_oneof![2 => Just(Policy::PassOn), 1 => Just(Policy::Ignore), 1 => Just(Policy::Fail)];
    proptest::collection::vec(one, 1..5)
}

fn operations(children: usize) -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        4 => (0..children).prop_map(Operation::Finish),
        1 => (0..children).prop_map(Operation::Fail),
        1 => (0..children).prop_map(Operation::CancelChild),
        1 => Just(Operation::CancelParent),
        1 => Just(Operation::Release)
    ];
    proptest::collection::vec(one, 0..16)
}

fn stories() -> impl Strategy<Value = (Vec<Policy>, Vec<Operation>)> {
    policies().prop_flat_map(|policies| {
        let operations = operations(policies.len());
        (Just(policies), operations)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn group_follows_the_model((policies, operations) in stories()) {
        prop_assert_eq!(observe(&policies, &operations), predict(&policies, &operations));
    }
}
