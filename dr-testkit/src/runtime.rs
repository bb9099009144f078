//! Virtual time and a small single-thread executor: a run of hours takes milliseconds, and always the same way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use dr_core::{
    Millis, Timestamp,
    base::Mono,
    contract::{Runtime, Task},
};

use crate::crash::CrashSwitch;

/// Why a run on virtual time ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// A crash was injected: the future of the process and all its tasks were dropped.
    #[error("the process crashed at {0}")]
    Crashed(String),
    /// Nothing is ready and no timer runs: the future waits for something that never comes.
    #[error("nothing is ready and no timer is set: the run waits for ever")]
    Stuck,
    /// The run went on beyond the limit of virtual time.
    #[error("the run did not end within {} s of virtual time", .0.as_secs())]
    OutOfTime(Duration),
    /// The run was polled more often than the limit: it loops.
    #[error("the run did not end within {0} polls")]
    OutOfSteps(u64),
}

/// Time that passes only when nothing else can happen, and an executor that always takes the same order.
///
/// Handles are cheap to clone. [`VirtualRuntime::process`] makes a handle whose tasks die together.
#[derive(Clone)]
pub struct VirtualRuntime {
    shared: Arc<Shared>,
    process: u32,
    switch: CrashSwitch,
}

struct Shared {
    state: Mutex<State>,
    ready: Arc<Ready>,
    origin: Timestamp,
}

struct State {
    now: Duration,
    next_task: u64,
    next_timer: u64,
    next_process: u32,
    max_time: Duration,
    max_steps: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
    tasks: BTreeMap<u64, Slot>,
    frozen: BTreeSet<u32>,
}

struct Slot {
    process: u32,
    future: Option<Task>,
}

/// The tasks to be polled, in the order in which they were woken. Task 0 is the main future.
#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

impl Ready {
    fn push(&self, task: u64) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.contains(&task) {
            queue.push_back(task);
        }
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

impl Default for VirtualRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VirtualRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("VirtualRuntime")
            .field("now", &state.now)
            .field("process", &self.process)
            .field("tasks", &state.tasks.len())
            .finish_non_exhaustive()
    }
}

impl VirtualRuntime {
    /// The wall clock at the start of virtual time: 2026-11-02T03:12:00Z.
    pub const ORIGIN: Timestamp = Timestamp::from_millis(1_793_589_120_000);

    /// A new time line that begins at [`VirtualRuntime::ORIGIN`].
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            now: Duration::ZERO,
            next_task: 1,
            next_timer: 0,
            next_process: 1,
            max_time: Duration::from_secs(14 * 24 * 3600),
            max_steps: 5_000_000,
            timers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            frozen: BTreeSet::new(),
        };
        let shared = Shared { state: Mutex::new(state), ready: Arc::default(), origin: Self::ORIGIN };
        Self { shared: Arc::new(shared), process: 0, switch: CrashSwitch::new() }
    }

    /// Another process on the same time line: its tasks and its crashes are its own.
    #[must_use]
    pub fn process(&self) -> Self {
        let mut state = self.lock();
        let process = state.next_process;
        state.next_process = process.saturating_add(1);
        drop(state);
        Self { shared: Arc::clone(&self.shared), process, switch: CrashSwitch::new() }
    }

    /// What makes this process crash.
    #[must_use]
    pub fn crash_switch(&self) -> CrashSwitch {
        self.switch.clone()
    }

    /// No run may last longer than this in virtual time, or be polled more often.
    pub fn limit(&self, time: Duration, steps: u64) {
        let mut state = self.lock();
        state.max_time = time;
        state.max_steps = steps;
    }

    /// Drops all tasks of this process.
    pub fn kill(&self) {
        let mut state = self.lock();
        let (dead, rest) =
            std::mem::take(&mut state.tasks).into_iter().partition(|(_, slot)| slot.process == self.process);
        state.tasks = rest;
        drop(state);
        let dead: BTreeMap<u64, Slot> = dead;
        drop(dead);
    }

    /// Stops the detached tasks of this process where they are, as a stopped process stops. Time goes on for everybody else.
    pub fn freeze(&self) {
        self.lock().frozen.insert(self.process);
    }

    /// Lets the tasks of this process go on.
    pub fn thaw(&self) {
        let mut state = self.lock();
        state.frozen.remove(&self.process);
        let mine = state.tasks.iter().filter(|(_, slot)| slot.process == self.process);
        let tasks: Vec<u64> = mine.map(|(id, _)| *id).collect();
        drop(state);
        tasks.into_iter().for_each(|task| self.shared.ready.push(task));
    }

    /// Polls `main` and every detached task until `main` is ready. When nothing is ready, time jumps to the earliest timer.
    ///
    /// # Errors
    /// A [`Halt`] when the process crashes, the run is stuck or runs away.
    pub fn run<F: Future>(&self, main: F) -> Result<F::Output, Halt> {
        let mut main = pin!(main);
        let main_waker = self.waker(0);
        let (deadline, max_steps) = {
            let state = self.lock();
            (state.now.saturating_add(state.max_time), state.max_steps)
        };
        self.shared.ready.push(0);
        for _ in 0..max_steps {
            if let Some(point) = self.switch.tripped() {
                self.kill();
                return Err(Halt::Crashed(point));
            }
            match self.shared.ready.pop() {
                Some(0) => {
                    if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                        return Ok(output);
                    }
                }
                Some(task) => self.poll_task(task),
                None => self.advance(deadline)?,
            }
        }
        Err(Halt::OutOfSteps(max_steps))
    }

    /// Lets virtual time pass with all its timers and tasks.
    ///
    /// # Errors
    /// As [`VirtualRuntime::run`].
    pub fn pass(&self, time: Millis) -> Result<(), Halt> {
        self.run(self.sleep_until(self.now_mono() + time))
    }

    fn poll_task(&self, task: u64) {
        let taken = {
            let mut state = self.lock();
            let State { tasks, frozen, .. } = &mut *state;
            let slot = tasks.get_mut(&task).filter(|slot| !frozen.contains(&slot.process));
            slot.and_then(|slot| slot.future.take())
        };
        let Some(mut future) = taken else { return };
        let waker = self.waker(task);
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => drop(self.lock().tasks.remove(&task)),
            Poll::Pending => {
                let mut state = self.lock();
                match state.tasks.get_mut(&task) {
                    Some(slot) => slot.future = Some(future),
                    None => {
                        drop(state);
                        drop(future);
                    }
                }
            }
        }
    }

    fn advance(&self, deadline: Duration) -> Result<(), Halt> {
        let mut state = self.lock();
        let Some(((at, _), waker)) = state.timers.pop_first() else { return Err(Halt::Stuck) };
        if at > deadline {
            return Err(Halt::OutOfTime(state.max_time));
        }
        state.now = state.now.max(at);
        drop(state);
        waker.wake();
        Ok(())
    }

    fn waker(&self, task: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(&self.shared.ready) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime for VirtualRuntime {
    fn now_mono(&self) -> Mono {
        Mono::new(self.lock().now)
    }

    fn now_wall(&self) -> Timestamp {
        self.shared.origin + Millis::of(self.lock().now)
    }

    fn sleep_until(&self, until: Mono) -> Task {
        Box::pin(Sleep { shared: Arc::clone(&self.shared), until: until.since_start(), timer: None })
    }

    fn spawn_detached(&self, task: Task) {
        let mut state = self.lock();
        let id = state.next_task;
        state.next_task = id.saturating_add(1);
        state.tasks.insert(id, Slot { process: self.process, future: Some(task) });
        drop(state);
        self.shared.ready.push(id);
    }
}

struct Sleep {
    shared: Arc<Shared>,
    until: Duration,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let timer = self.timer.unwrap_or_else(|| {
            let timer = state.next_timer;
            state.next_timer = timer.saturating_add(1);
            timer
        });
        state.timers.insert((self.until, timer), cx.waker().clone());
        drop(state);
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.timers.remove(&(self.until, timer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_earliest_timer_and_order_is_the_order_of_waking() {
        let rt = VirtualRuntime::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (name, ms) in [("late", 60_000), ("early", 10), ("also early", 10)] {
            let (rt2, seen) = (rt.clone(), Arc::clone(&seen));
            rt.spawn_detached(Box::pin(async move {
                rt2.sleep_until(rt2.now_mono() + Millis::new(ms)).await;
                seen.lock().unwrap().push((name, rt2.now_wall()));
            }));
        }
        rt.pass(Millis::minutes(2)).unwrap();
        let at = |ms| VirtualRuntime::ORIGIN + Millis::new(ms);
        assert_eq!(*seen.lock().unwrap(), [("early", at(10)), ("also early", at(10)), ("late", at(60_000))]);
        assert_eq!(rt.now_wall(), at(120_000));
    }

    #[test]
    fn a_crash_drops_the_process_and_leaves_the_others() {
        let rt = VirtualRuntime::new();
        let doomed = rt.process();
        let done = Arc::new(Mutex::new(Vec::new()));
        for (name, process) in [("doomed", &doomed), ("other", &rt)] {
            let (clock, done) = (process.clone(), Arc::clone(&done));
            process.spawn_detached(Box::pin(async move {
                clock.sleep_until(clock.now_mono() + Millis::seconds(5)).await;
                done.lock().unwrap().push(name);
            }));
        }
        let switch = doomed.crash_switch();
        let clock = doomed.clone();
        let halt = doomed.run(async move {
            clock.sleep_until(clock.now_mono() + Millis::seconds(1)).await;
            switch.trip("weu.promote#1");
            std::future::pending::<()>().await;
        });
        assert_eq!(halt, Err(Halt::Crashed("weu.promote#1".into())));
        rt.pass(Millis::seconds(10)).unwrap();
        assert_eq!(*done.lock().unwrap(), ["other"]);
    }

    #[test]
    fn a_frozen_process_does_nothing_until_it_is_thawed() {
        let rt = VirtualRuntime::new();
        let still = rt.process();
        let done = Arc::new(Mutex::new(Vec::new()));
        for (name, process) in [("still", &still), ("other", &rt)] {
            let (clock, done) = (process.clone(), Arc::clone(&done));
            process.spawn_detached(Box::pin(async move {
                clock.sleep_until(clock.now_mono() + Millis::seconds(5)).await;
                done.lock().unwrap().push(name);
            }));
        }
        rt.pass(Millis::seconds(1)).unwrap();
        still.freeze();
        rt.pass(Millis::seconds(10)).unwrap();
        assert_eq!(*done.lock().unwrap(), ["other"]);
        still.thaw();
        rt.pass(Millis::seconds(1)).unwrap();
        assert_eq!(*done.lock().unwrap(), ["other", "still"]);
    }

    #[test]
    fn a_future_that_waits_for_nothing_and_one_that_never_ends_are_told_apart() {
        let rt = VirtualRuntime::new();
        assert_eq!(rt.run(std::future::pending::<()>()), Err(Halt::Stuck));
        rt.limit(Duration::from_secs(60), 1000);
        let clock = rt.clone();
        let endless = async move {
            loop {
                clock.sleep_until(clock.now_mono() + Millis::seconds(1)).await;
            }
        };
        let halt: Result<(), Halt> = rt.run(endless);
        assert_eq!(halt, Err(Halt::OutOfTime(Duration::from_secs(60))));
    }
}
