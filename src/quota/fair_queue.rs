//! The queries that wait for their turn: strict priority between classes, and round robin over the callers of a class.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use super::Class;

/// The maximum number of queries that wait for one caller in one class.
pub(super) const MAX_QUEUED: usize = 1024;

/// Items of callers `K`. Pushes, pops and removals cost the logarithm of the number of items or callers.
pub(super) struct FairQueue<K, T> {
    classes: [ClassQueue<K, T>; 3],
    next_number: u64,
}

/// Identifies an item in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position<K> {
    class: Class,
    caller: K,
    number: u64,
}

/// The items of one class.
struct ClassQueue<K, T> {
    callers: HashMap<K, CallerQueue<T>>,
    /// The callers with items, by their turn.
    turns: BTreeMap<u64, K>,
    /// The number of callers with more items than the index.
    longer: Vec<u32>,
    length: u32,
}

/// The items of one caller in one class. It is never empty.
struct CallerQueue<T> {
    turn: u64,
    items: BTreeMap<u64, T>,
}

impl<K> Position<K> {
    /// The class of the item.
    pub(super) fn class(&self) -> Class {
        self.class
    }
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue.
    pub(super) fn new() -> Self {
        Self { classes: std::array::from_fn(|_| ClassQueue::new()), next_number: 0 }
    }

    /// The number of items of each class.
    pub(super) fn lengths(&self) -> [u32; 3] {
        self.classes.each_ref().map(|class| class.length)
    }

    /// Whether a class, or a more important one, has items.
    pub(super) fn has_before(&self, class: Class) -> bool {
        self.classes[..=class.index()].iter().any(|class| class.length > 0)
    }

    /// The number of items that leave before a new one of this caller, if no other comes: at most the items of the more
    /// important classes, the caller's own, and from each other caller one more than those.
    pub(super) fn ahead(&self, class: Class, caller: &K) -> u32 {
        let (more_important, class) = (&self.classes[..class.index()], &self.classes[class.index()]);
        let own = class.callers.get(caller).map_or(0, |queue| queue.items.len());
        let in_class: u32 = class.longer.iter().take(own + 1).sum();
        more_important.iter().map(|class| class.length).sum::<u32>() + in_class
    }

    /// As [`Self::ahead`], for an item in the queue.
    pub(super) fn before(&self, position: &Position<K>) -> u32 {
        let index = position.class.index();
        let (more_important, class) = (&self.classes[..index], &self.classes[index]);
        let items = class.callers.get(&position.caller).map(|queue| &queue.items);
        let own = items.map_or(0, |items| items.range(..position.number).count());
        // The item itself is one of those that are counted.
        let in_class = class.longer.iter().take(own + 1).sum::<u32>().saturating_sub(1);
        more_important.iter().map(|class| class.length).sum::<u32>() + in_class
    }

    /// Adds an item after the caller's others. Returns the item if the caller has [`MAX_QUEUED`] items in the class.
    pub(super) fn push(&mut self, class: Class, caller: K, item: T) -> Result<Position<K>, T> {
        let number = self.next_number;
        self.next_number += 1;
        self.classes[class.index()].push(caller.clone(), number, item)?;
        Ok(Position { class, caller, number })
    }

    /// Takes the item of a class whose turn is next.
    pub(super) fn pop(&mut self, class: Class) -> Option<T> {
        let number = self.next_number;
        self.next_number += 1;
        self.classes[class.index()].pop(number)
    }

    /// Takes an item out of the queue. Returns `None` if it has left.
    pub(super) fn remove(&mut self, position: &Position<K>) -> Option<T> {
        self.classes[position.class.index()].remove(&position.caller, position.number)
    }
}

impl<K: Clone + Eq + Hash, T> ClassQueue<K, T> {
    fn new() -> Self {
        Self { callers: HashMap::new(), turns: BTreeMap::new(), longer: Vec::new(), length: 0 }
    }

    fn push(&mut self, caller: K, number: u64, item: T) -> Result<(), T> {
        let queue = self.callers.entry(caller.clone()).or_insert_with(|| {
            self.turns.insert(number, caller);
            CallerQueue { turn: number, items: BTreeMap::new() }
        });
        let index = queue.items.len();
        if index == MAX_QUEUED {
            return Err(item);
        }
        queue.items.insert(number, item);
        if self.longer.len() == index {
            self.longer.push(0);
        }
        self.longer[index] += 1;
        self.length += 1;
        Ok(())
    }

    /// Takes the first item of the caller whose turn is next. Its next turn has the number `number`.
    fn pop(&mut self, number: u64) -> Option<T> {
        let (turn, caller) = self.turns.first_key_value()?;
        let (turn, caller) = (*turn, caller.clone());
        let first = *self.callers.get(&caller)?.items.first_key_value()?.0;
        let item = self.remove(&caller, first);
        if let Some(queue) = self.callers.get_mut(&caller) {
            queue.turn = number;
            self.turns.remove(&turn);
            self.turns.insert(number, caller);
        }
        item
    }

    fn remove(&mut self, caller: &K, number: u64) -> Option<T> {
        let queue = self.callers.get_mut(caller)?;
        let item = queue.items.remove(&number)?;
        let index = queue.items.len();
        if index == 0 {
            self.turns.remove(&queue.turn);
            self.callers.remove(caller);
        }
        self.longer[index] -= 1;
        self.length -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests;
