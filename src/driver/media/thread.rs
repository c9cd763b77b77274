//! One media thread's loop: it looks at its sockets and deadlines once per millisecond.
//!
//! The looks lie on a fixed grid of 1 ms. Packet times are 20 ms apart, a multiple of the grid, so
//! a leg's packets are late by one and the same part of a millisecond: their spacing is exact. One
//! look serves all sockets that have become readable since the last, which costs less than a
//! wake-up per packet. Orders are carried out when they come, not at the next look. A thread
//! without calls sleeps until an order wakes it.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::Task;
use super::calls::Calls;
use crate::driver::clock::Clock;
use crate::now::Instant;

pub(super) struct Worker {
    clock: Clock,
    tasks: Receiver<Task>,
    calls: Calls,
}

impl Worker {
    pub(super) fn new(clock: Clock, tasks: Receiver<Task>, calls: Calls) -> Worker {
        Worker { clock, tasks, calls }
    }

    /// Ends with `Task::Stop`, with `Task::HandOver`, or when the driver is gone.
    pub(super) fn run(mut self) {
        let mut next_look = next_on_grid(self.clock.mono());
        loop {
            let task = if self.calls.need_no_look() {
                self.tasks.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.tasks.recv_timeout(self.clock.until(next_look))
            };
            let now = self.clock.mono();
            match task {
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Task::HandOver) => return self.calls.hand_over(now),
                Ok(Task::Resume(rebound)) => self.calls.resume(now, *rebound),
                Ok(Task::Order(order)) => self.calls.order(now, &order),
                Ok(Task::Open { order, sockets }) => self.calls.open(now, &order, sockets),
                #[cfg(test)]
                Ok(Task::Break(call)) => self.calls.breaks = Some(call),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if now >= next_look {
                self.calls.look(now);
                next_look = next_on_grid(self.clock.mono());
            }
        }
        self.calls.close_all(self.clock.mono());
    }
}

/// The first point of the grid after `now`.
fn next_on_grid(now: Instant) -> Instant {
    let grid = u64::try_from(GRID.as_nanos()).unwrap_or(1);
    Instant::from_nanos((now.as_nanos() / grid + 1).saturating_mul(grid))
}

const GRID: Duration = Duration::from_millis(1);
