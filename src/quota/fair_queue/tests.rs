use proptest::prelude::*;

use super::{FairQueue, MAX_QUEUED};
use crate::quota::Class;

/// Takes all items of a class.
fn drain(queue: &mut FairQueue<u32, u32>, class: Class) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop(class)).collect()
}

#[test]
fn the_callers_of_a_class_take_turns() {
    let mut queue = FairQueue::new();
    for (caller, item) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)] {
        queue.push(Class::Read, caller, item).expect("pushed");
    }
    assert_eq!(drain(&mut queue, Class::Read), [10, 20, 30, 11, 31, 12]);
}

#[test]
fn a_caller_that_comes_back_takes_its_turn_after_the_others() {
    let mut queue = FairQueue::new();
    for (caller, item) in [(1, 10), (2, 20), (2, 21), (3, 30)] {
        queue.push(Class::Poll, caller, item).expect("pushed");
    }
    assert_eq!(queue.pop(Class::Poll), Some(10));
    queue.push(Class::Poll, 1, 11).expect("pushed");
    assert_eq!(drain(&mut queue, Class::Poll), [20, 30, 11, 21]);
}

#[test]
fn the_classes_are_separate() {
    let mut queue = FairQueue::new();
    queue.push(Class::Poll, 1, 10).expect("pushed");
    queue.push(Class::Read, 1, 11).expect("pushed");
    assert_eq!(Class::ALL.map(|class| queue.has_before(class)), [false, true, true]);
    assert_eq!(queue.lengths(), [0, 1, 1]);
    assert_eq!(Class::ALL.map(|class| queue.pop(class)), [None, Some(11), Some(10)]);
    assert_eq!(queue.lengths(), [0, 0, 0]);
}

#[test]
fn a_removed_item_does_not_leave_and_is_removed_once() {
    let mut queue = FairQueue::new();
    let positions = [(1, 10), (1, 11), (2, 20)]
        .map(|(caller, item)| queue.push(Class::Cancel, caller, item).expect("pushed"));
    assert_eq!(queue.remove(&positions[0]), Some(10));
    assert_eq!(queue.remove(&positions[0]), None);
    assert_eq!(queue.pop(Class::Cancel), Some(11));
    assert_eq!(queue.remove(&positions[1]), None, "it has left");
    assert_eq!(queue.remove(&positions[2]), Some(20));
    assert_eq!((queue.lengths(), queue.pop(Class::Cancel)), ([0; 3], None));
}

#[test]
fn a_caller_has_a_maximum_of_items_in_each_class() {
    let mut queue = FairQueue::new();
    for item in 0..MAX_QUEUED {
        queue.push(Class::Read, 1, item).expect("pushed");
    }
    assert_eq!(queue.push(Class::Read, 1, 9999), Err(9999));
    queue.push(Class::Read, 2, 0).expect("another caller");
    queue.push(Class::Poll, 1, 0).expect("another class");
    queue.pop(Class::Read).expect("an item");
    queue.push(Class::Read, 1, 9999).expect("one has left");
}

#[test]
fn items_of_more_important_classes_and_other_callers_are_ahead() {
    let mut queue = FairQueue::new();
    for (class, caller, items) in [
        (Class::Cancel, 7, 2),
        (Class::Read, 1, 5),
        (Class::Read, 2, 1),
        (Class::Read, 3, 3),
        (Class::Poll, 1, 9),
    ] {
        for item in 0..items {
            queue.push(class, caller, item).expect("pushed");
        }
    }
    // Two cancels, and one of each other caller with a read.
    assert_eq!(queue.ahead(Class::Read, &9), 2 + 3);
    // Its own read, two of each caller with so many, and one of the caller with one.
    assert_eq!(queue.ahead(Class::Read, &2), 2 + 1 + 2 + 2);
    assert_eq!(queue.ahead(Class::Read, &1), 2 + 5 + 1 + 3);
    assert_eq!(queue.ahead(Class::Cancel, &1), 1);
    assert_eq!(queue.ahead(Class::Poll, &2), 2 + 9 + 1);
}

#[derive(Debug, Clone)]
enum Step {
    Push { class: usize, caller: u32 },
    Pop { class: usize },
    Remove { index: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..3, 0_u32..4).prop_map(|(class, caller)| Step::Push { class, caller }),
        1 => (0_usize..3).prop_map(|class| Step::Pop { class }),
        1 => any::<usize>().prop_map(|index| Step::Remove { index }),
    ]
}

proptest! {
    /// No more items leave before a new one than `ahead`, and at most one less for each other caller.
    #[test]
    fn a_new_item_leaves_after_those_ahead(
        steps in prop::collection::vec(step(), 0..200),
        class in 0_usize..3,
        caller in 0_u32..5,
    ) {
        let (mut queue, mut positions, mut length) = (FairQueue::new(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Push { class, caller } => {
                    positions.push(queue.push(Class::ALL[class], caller, false).expect("pushed"));
                    length += 1;
                }
                Step::Pop { class } => length -= usize::from(queue.pop(Class::ALL[class]).is_some()),
                Step::Remove { index } => {
                    if let Some(position) = positions.get(index % positions.len().max(1)) {
                        length -= usize::from(queue.remove(position).is_some());
                    }
                }
            }
            prop_assert_eq!(queue.lengths().iter().sum::<u32>() as usize, length);
        }
        let (class, lengths) = (Class::ALL[class], queue.lengths());
        let ahead = queue.ahead(class, &caller);
        let position = queue.push(class, caller, true).expect("pushed");
        prop_assert_eq!(queue.before(&position), ahead, "the new item is the last of its caller");
        let more_important: u32 = lengths[..class.index()].iter().sum();
        let mut left = 0;
        while queue.pop(class) == Some(false) {
            left += 1;
        }
        prop_assert!(more_important + left <= ahead, "{left} left, {ahead} were ahead");
        prop_assert!(more_important + left + 3 >= ahead, "{left} left, {ahead} were ahead");
        prop_assert_eq!(queue.lengths()[class.index()] + left, lengths[class.index()]);
    }
}
