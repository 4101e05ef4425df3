//! What waits for its time, the earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use runtime::Mono;

#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Waiting<T>>>,
}

#[derive(Debug)]
struct Waiting<T> {
    due: Mono,
    item: T,
}

impl<T> Queue<T> {
    pub fn push(&mut self, due: Mono, item: T) {
        self.heap.push(Reverse(Waiting { due, item }));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse(waiting)| waiting.due)
    }

    /// What is due by now, and since when.
    pub fn pop(&mut self, now: Mono) -> Option<(Mono, T)> {
        self.next().filter(|&due| due <= now)?;
        self.heap.pop().map(|Reverse(Waiting { due, item })| (due, item))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Waiting<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_leaves_in_the_order_in_which_it_is_due_and_not_before() {
        let mut queue = Queue::default();
        for due in [30, 10, 20] {
            queue.push(Mono(due), due);
        }
        assert_eq!(queue.next(), Some(Mono(10)));
        let left = |queue: &mut Queue<u64>, now| {
            std::iter::from_fn(|| queue.pop(Mono(now))).map(|(due, item)| (due.0, item)).collect::<Vec<_>>()
        };
        assert!(left(&mut queue, 9).is_empty());
        assert_eq!(left(&mut queue, 20), [(10, 10), (20, 20)]);
        assert_eq!(left(&mut queue, 99), [(30, 30)]);
    }
}
