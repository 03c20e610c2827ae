//! Cancellation against a naive model: random requests to a parent that joins or shields a child, which handles what reaches it in
//! random ways.

use antiphon::{Cancelled, JoinError, Queue, QueueError, current_task, run, shield, spawn, yield_now};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Copy, Clone, PartialEq, Debug)]
enum Operation {
    CancelParent,
    CancelChild,
    UncancelChild,
    /// Gives the child something to go on with.
    Put,
    /// Lets everybody run until nobody is ready.
    Settle,
}

/// What the child does about a cancellation.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Policy {
    PassOn,
    TakeBack,
    Ignore,
    Return,
}

#[derive(Copy, Clone, PartialEq, Debug)]
enum Noted {
    Got,
    ChildCancelled,
    ParentCancelled,
    /// The parent has the child's outcome: whether it returned.
    Joined(bool),
    /// Requests to the child that are left, when everything is settled.
    Left(u32),
}

type Log = Rc<RefCell<Vec<Noted>>>;

async fn child(log: Log, items: Rc<Queue<()>>, policies: Vec<Policy>) -> Result<(), Cancelled> {
    let mut policies = policies.into_iter().cycle();
    loop {
        match items.get().await {
            Ok(()) => log.borrow_mut().push(Noted::Got),
            Err(QueueError::ShutDown) => return Ok(()),
            Err(QueueError::Cancelled) => {
                log.borrow_mut().push(Noted::ChildCancelled);
                match policies.next() {
                    Some(Policy::PassOn) => return Err(Cancelled),
                    Some(Policy::TakeBack) => {
                        current_task().unwrap().uncancel();
                    }
                    Some(Policy::Ignore) => {}
                    Some(Policy::Return) | None => return Ok(()),
                }
            }
        }
    }
}

/// What really happens.
fn observe(operations: &[Operation], policies: &[Policy], shielded: bool) -> Vec<Noted> {
    let log = Log::default();
    let items = Rc::new(Queue::new());
    run(async {
        let mut inner = spawn(child(Rc::clone(&log), Rc::clone(&items), policies.to_vec()));
        let reference = inner.as_ref();
        let own = Rc::clone(&log);
        let parent = spawn(async move {
            let outcome = loop {
                if !shielded {
                    break (&mut inner).await;
                }
                let outcome = shield(&mut inner).await;
                if inner.is_done() {
                    break outcome;
                }
                own.borrow_mut().push(Noted::ParentCancelled); // and goes on waiting
            };
            own.borrow_mut().push(Noted::Joined(!matches!(outcome, Err(JoinError::Cancelled))));
            Ok::<_, Cancelled>(())
        });
        for operation in operations {
            match operation {
                Operation::CancelParent => drop(parent.cancel()),
                Operation::CancelChild => drop(reference.cancel()),
                Operation::UncancelChild => drop(reference.uncancel()),
                Operation::Put => items.try_put(()).unwrap(),
                Operation::Settle => {
                    for _ in 0..8 {
                        yield_now().await.unwrap();
                    }
                    log.borrow_mut().push(Noted::Left(reference.cancelling()));
                }
            }
        }
        items.shutdown_now();
        let seen = log.borrow().clone(); // what comes after is not compared
        drop(parent);
        seen
    })
    .unwrap()
}

#[derive(Copy, Clone, PartialEq, Debug)]
enum Who {
    Child,
    Parent,
}

#[derive(Default)]
struct Member {
    begun: bool,
    requests: u32,
    due: bool,
    /// Whether it returned.
    ended: Option<bool>,
}

impl Member {
    fn request(&mut self) -> bool {
        let alive = self.ended.is_none();
        if alive {
            self.requests += 1;
            self.due = true;
        }
        alive
    }

    fn take_back(&mut self) {
        self.requests = self.requests.saturating_sub(1);
        self.due &= self.requests > 0;
    }
}

/// asyncio's rules in as few words as possible.
struct Model<'a> {
    child: Member,
    parent: Member,
    items: usize,
    child_waits: bool,
    ready: VecDeque<Who>,
    log: Vec<Noted>,
    policies: std::iter::Cycle<std::slice::Iter<'a, Policy>>,
    shielded: bool,
}

impl Model<'_> {
    fn schedule(&mut self, who: Who) {
        if !self.ready.contains(&who) {
            self.ready.push_back(who);
        }
    }

    fn cancel(&mut self, who: Who) {
        let member = if who == Who::Child { &mut self.child } else { &mut self.parent };
        if member.request() {
            self.schedule(who);
        }
    }

    fn end(&mut self, who: Who, returned: bool) {
        let member = if who == Who::Child { &mut self.child } else { &mut self.parent };
        member.ended = Some(returned);
        if who == Who::Child && self.parent.begun {
            self.schedule(Who::Parent);
        }
    }

    fn settle(&mut self) {
        while let Some(who) = self.ready.pop_front() {
            let member = if who == Who::Child { &mut self.child } else { &mut self.parent };
            if member.ended.is_some() {
                continue;
            }
            if !std::mem::replace(&mut member.begun, true) && std::mem::take(&mut member.due) {
                self.end(who, false); // cancelled before it began
            } else if who == Who::Child {
                self.step_child();
            } else {
                self.step_parent();
            }
        }
        self.log.push(Noted::Left(self.child.requests));
    }

    fn step_child(&mut self) {
        loop {
            let may_take = self.items > 0 && !(self.child_waits && self.child.due);
            self.child_waits = false;
            if may_take {
                self.items -= 1;
                self.log.push(Noted::Got);
                continue;
            }
            if !std::mem::take(&mut self.child.due) {
                self.child_waits = true;
                return;
            }
            self.log.push(Noted::ChildCancelled);
            match self.policies.next() {
                Some(Policy::PassOn) => return self.end(Who::Child, false),
                Some(Policy::TakeBack) => self.child.take_back(),
                Some(Policy::Ignore) => {}
                Some(Policy::Return) | None => return self.end(Who::Child, true),
            }
        }
    }

    fn step_parent(&mut self) {
        loop {
            if let Some(returned) = self.child.ended {
                self.log.push(Noted::Joined(returned));
                return self.end(Who::Parent, true);
            }
            if !std::mem::take(&mut self.parent.due) {
                return;
            }
            if !self.shielded {
                return self.cancel(Who::Child);
            }
            self.log.push(Noted::ParentCancelled);
        }
    }
}

/// What the rules say.
fn predict(operations: &[Operation], policies: &[Policy], shielded: bool) -> Vec<Noted> {
    let mut model = Model {
        child: Member::default(),
        parent: Member::default(),
        items: 0,
        child_waits: false,
        ready: VecDeque::from([Who::Child, Who::Parent]),
        log: Vec::new(),
        policies: policies.iter().cycle(),
        shielded,
    };
    for operation in operations {
        match operation {
            Operation::CancelParent => model.cancel(Who::Parent),
            Operation::CancelChild => model.cancel(Who::Child),
            Operation::UncancelChild => model.child.take_back(),
            Operation::Put => {
                model.items += 1;
                if model.child_waits {
                    model.schedule(Who::Child);
                }
            }
            Operation::Settle => model.settle(),
        }
    }
    model.log
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation::{CancelChild, CancelParent, Put, Settle, UncancelChild};
    let one = prop_oneof![
        1 => Just(CancelParent),
        1 => Just(CancelChild),
        1 => Just(UncancelChild),
        1 => Just(Put),
        3 => Just(Settle)
    ];
    proptest::collection::vec(one, 0..24)
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    use Policy::{Ignore, PassOn, Return, TakeBack};
    let one = prop_oneof![1 => Just(PassOn), 3 => Just(TakeBack), 3 => Just(Ignore), 1 => Just(Return)];
    proptest::collection::vec(one, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cancellation_follows_the_model(operations in operations(), policies in policies(), shielded: bool) {
        prop_assert_eq!(observe(&operations, &policies, shielded), predict(&operations, &policies, shielded));
    }
}
