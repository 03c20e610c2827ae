//! A task group driven through random histories, held to what a group promises.

use antiphon_core::Ended;
use antiphon_core::group::{Edition, Group, Left, Refusal, Verdict};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    AddChild,
    /// A child ends by itself; true for the second: by a base error, if it raises.
    ChildEnds(Ended, bool),
    /// Somebody else cancels the parent.
    CancelParent,
    /// `TaskGroup.cancel()`.
    CancelGroup,
    /// The block comes to its end, if it has not been left.
    Leave(Left),
}

fn ended() -> impl Strategy<Value = Ended> {
    prop_oneof![3 => Just(Ended::Returned), 2 => Just(Ended::Raised), 1 => Just(Ended::Cancelled)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::AddChild),
        6 => (ended(), proptest::bool::weighted(0.1)).prop_map(|(ended, base)| Event::ChildEnds(ended, base)),
        2 => Just(Event::CancelParent),
        2 => Just(Event::CancelGroup),
        2 => prop_oneof![Just(Left::Normally), Just(Left::Raised), Just(Left::BaseError)].prop_map(Event::Leave),
    ]
}

/// A parent task and its children, as far as a group sees them.
struct World {
    group: Group,
    /// The parent's cancellation requests, and how many of them are not the group's.
    requests: u32,
    from_others: u32,
    /// Whether a request waits to be raised in the parent.
    undelivered: bool,
    in_block: bool,
    waiting: bool,
    left: Left,
    children: usize,
    children_cancelled: bool,
    errors: usize,
    base_errors: usize,
    own_requests: u32,
}

impl World {
    fn cancel_parent(&mut self) {
        self.requests += 1;
        self.undelivered = true;
    }

    fn cancel_children(&mut self) {
        assert!(!self.children_cancelled, "children are cancelled once");
        self.children_cancelled = true;
    }

    /// A cancellation arrives where the parent is: in the block, which it leaves, or in the wait for the children.
    fn deliver(&mut self) {
        if !std::mem::take(&mut self.undelivered) {
            return;
        }
        if self.in_block {
            self.leave(Left::Cancelled);
        } else if self.waiting {
            self.waiting = false;
            if self.group.waited(true) {
                self.cancel_children();
            }
            self.wait_for_children();
        }
    }

    fn leave(&mut self, left: Left) {
        self.in_block = false;
        self.left = left;
        if self.group.leave(left) {
            self.cancel_children();
        }
        if self.group.uncancels_on_leaving() {
            self.requests -= 1;
            self.group.uncancelled(self.requests);
        }
        self.wait_for_children();
    }

    fn wait_for_children(&mut self) {
        if self.children > 0 {
            self.group.wait();
            self.waiting = true;
        }
    }

    fn child_ends(&mut self, ended: Ended, base: bool) {
        if self.children == 0 {
            return;
        }
        // A child that was cancelled may still return or raise.
        self.children -= 1;
        let base = base && ended == Ended::Raised;
        let was_aborting = self.group.is_aborting() || self.group.is_parent_cancel_requested();
        let end = self.group.child_done(ended, true, base, false);
        assert_eq!(end.keep_error, ended == Ended::Raised, "no error is lost, nothing else is one");
        assert_eq!(end.wake_parent, self.waiting && self.children == 0);
        assert_eq!(end.abort_and_cancel_parent, ended == Ended::Raised && !was_aborting);
        assert!(!end.report);
        self.errors += usize::from(end.keep_error);
        self.base_errors += usize::from(base);
        if end.abort_and_cancel_parent {
            self.cancel_children();
            self.own_requests += 1;
            self.cancel_parent();
        }
        if end.wake_parent {
            self.waiting = false;
            assert!(!self.group.waited(false));
            self.wait_for_children();
        }
    }

    fn cancel_group(&mut self) {
        let (children, parent) = self.group.cancel();
        if children {
            self.cancel_children();
        }
        if parent {
            self.own_requests += 1;
            self.cancel_parent();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn group_keeps_its_promises(
        minor in 11u32..16,
        requests_before in 0u32..2,
        events in proptest::collection::vec(event(), 0..40),
    ) {
        let mut group = Group::new(Edition::of_minor(minor));
        prop_assert_eq!(group.check_open(), Err(Refusal::NotEntered));
        prop_assert!(!group.enter());
        let mut world = World {
            group, requests: requests_before, from_others: requests_before, undelivered: false, in_block: true,
            waiting: false, left: Left::Normally, children: 0, children_cancelled: false, errors: 0, base_errors: 0,
            own_requests: 0,
        };
        let mut outside_since_entry = 0;
        for event in events {
            match event {
                Event::AddChild => match world.group.check_open() {
                    Ok(()) => {
                        world.group.add_child();
                        world.children += 1;
                    }
                    Err(refusal) => {
                        let finished = !world.in_block && world.children == 0;
                        prop_assert_eq!(refusal == Refusal::Finished, finished);
                        prop_assert!(finished || world.children_cancelled);
                    }
                },
                Event::ChildEnds(ended, base) => world.child_ends(ended, base),
                Event::CancelParent if world.in_block || world.waiting => {
                    outside_since_entry += 1;
                    world.from_others += 1;
                    world.cancel_parent();
                }
                Event::CancelParent => {}
                Event::CancelGroup if minor >= 15 => world.cancel_group(),
                Event::CancelGroup => {}
                Event::Leave(left) if world.in_block => world.leave(left),
                Event::Leave(_) => {}
            }
            world.deliver();
            prop_assert_eq!(world.group.children(), world.children);
            prop_assert!(world.own_requests <= 1, "the group cancels its parent once at most");
            prop_assert_eq!(world.own_requests == 1, world.group.is_parent_cancel_requested());
        }
        if world.in_block {
            world.leave(Left::Normally);
        }
        while world.children > 0 {
            world.child_ends(Ended::Cancelled, false);
            world.deliver();
        }
        if world.group.uncancels_at_end() {
            world.requests -= 1;
            world.group.uncancelled(world.requests);
        }
        let base = world.base_errors > 0 || world.left == Left::BaseError;
        if minor >= 13 && !base {
            prop_assert_eq!(world.requests, world.from_others, "the group takes back what it asked for, no more");
        }
        let raised = world.errors > 0 || world.left == Left::Raised;
        match world.group.verdict() {
            Verdict::BaseError => prop_assert!(base),
            Verdict::Errors { with_blocks_own, recancel_parent } => {
                prop_assert!(raised && !base);
                prop_assert_eq!(with_blocks_own, world.left == Left::Raised);
                prop_assert_eq!(recancel_parent, minor >= 13);
            }
            // Nobody but others makes a group raise CancelledError.
            Verdict::Cancellation => prop_assert!(world.errors == 0 && !base && world.from_others > 0),
            Verdict::Nothing => {
                prop_assert!(!raised && !base);
                // A cancellation from elsewhere is not swallowed. (Up to 3.14 one that comes while the group is
                // aborting by itself can be, where nothing else is raised: only 3.15's `cancel` can do that.)
                prop_assert_eq!(outside_since_entry, 0);
            }
        }
    }
}

/// CPython issue 155433: the group cancels itself while it waits, then somebody else cancels the parent.
#[test]
fn cancellation_from_elsewhere_during_the_groups_own_passes_on() {
    for (minor, verdict) in [(14, Verdict::Nothing), (15, Verdict::Cancellation)] {
        let mut group = Group::new(Edition::of_minor(minor));
        group.enter();
        group.add_child();
        assert!(!group.leave(Left::Normally));
        group.wait();
        assert_eq!(group.cancel(), (true, true)); // one request
        assert!(!group.waited(true));
        group.wait();
        assert!(!group.waited(true)); // the second request, not the group's
        assert!(!group.child_done(Ended::Cancelled, true, false, false).keep_error);
        assert!(group.uncancels_at_end());
        group.uncancelled(1);
        assert_eq!(group.verdict(), verdict);
    }
}

#[test]
fn cancel_before_the_block_takes_effect_at_its_beginning() {
    let mut group = Group::new(Edition::of_minor(15));
    assert_eq!(group.cancel(), (false, false));
    assert!(group.enter());
    assert_eq!(group.cancel(), (true, true));
    assert_eq!(group.cancel(), (false, false));
    assert_eq!(group.check_open(), Err(Refusal::ShuttingDown));
}
