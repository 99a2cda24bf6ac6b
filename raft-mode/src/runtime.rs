//! The runtime that openraft runs on, for production and simulation alike: tokio's, with three things of our own.
//!
//! - **Tasks belong to a group.** Everything openraft spawns is noted in the group's [`Tasks`] and ends with it, so a
//!   group that is dropped leaves nothing running. To a simulator that is a crash.
//! - **Waking is in order.** tokio's watch channel wakes its receivers in an order drawn at random. Ours wakes them in
//!   the order in which they began to wait, so that on one thread and a paused clock one seed is one history.
//! - **Timers are coarse.** openraft looks at its clock five times in a heartbeat, and each look wakes a thread. Deadlines
//!   are moved back to the next line of a grid, so an idle group costs less; what is due in a moment is due now.
//!
//! Random numbers come from a seed given per group: [`DeterministicRng`] hands each task one that follows from it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt::{AsyncRuntime, Instant as _, OptionalSend, OptionalSync, watch};
use openraft_rt_tokio::{TokioInstant, TokioRuntime};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// The runtime of every group.
pub(crate) type Runtime = DeterministicRng<GroupRuntime>;

/// Takes a lock, whatever happened to its last owner: what they guard is replaced whole, never left half done.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

tokio::task_local! {
    /// The tasks of the group that the running task belongs to.
    static TASKS: Arc<Tasks>;
}

/// The tasks of one group.
#[derive(Debug)]
pub(crate) struct Tasks {
    handle: Handle,
    seed: u64,
    /// Where the grid begins that deadlines are moved to, and how far apart its lines are.
    started: TokioInstant,
    grid: Duration,
    alive: Mutex<Alive>,
}

#[derive(Debug, Default)]
struct Alive {
    tasks: Vec<AbortHandle>,
    /// The finished ones are forgotten when there are this many.
    sweep_at: usize,
    spawned: u64,
    is_over: bool,
}

/// What is due within this is due now.
const MOMENT: Duration = Duration::from_micros(2);

/// Below this many tasks nothing is swept.
const SWEEP_MIN: usize = 64;

impl Tasks {
    pub(crate) fn new(handle: Handle, seed: u64, grid: Duration) -> Arc<Self> {
        let started = {
            // The clock of a simulation is that of its runtime.
            let _entered = handle.enter();
            TokioInstant::now()
        };
        Arc::new(Self { handle, seed, started, grid, alive: Mutex::default() })
    }

    /// When a task wakes that has a deadline: at the line of the grid at or behind it. What is due in a moment is due
    /// already: tokio would make a millisecond of it.
    fn wakes_at(&self, deadline: TokioInstant) -> TokioInstant {
        if deadline <= TokioInstant::now() + MOMENT {
            return self.started;
        }
        let grid = self.grid.as_micros().max(1);
        let over = deadline.saturating_duration_since(self.started).as_micros() % grid;
        let missing = if over == 0 { 0 } else { grid - over };
        deadline + Duration::from_micros(u64::try_from(missing).unwrap_or(0))
    }

    /// Starts a task of the group, from any thread.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let number = {
            let mut alive = lock(&self.alive);
            alive.spawned += 1;
            alive.spawned
        };
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let task = TASKS.scope(Arc::clone(self), Runtime::scope(seed, task));
        self.note(self.handle.spawn(task).abort_handle());
    }

    /// Ends all tasks, and those that one of them spawns while it ends.
    pub(crate) fn end(&self) {
        let mut alive = lock(&self.alive);
        alive.is_over = true;
        mem::take(&mut alive.tasks).iter().for_each(AbortHandle::abort);
    }

    fn note(&self, task: AbortHandle) {
        let mut alive = lock(&self.alive);
        if alive.is_over {
            return task.abort();
        }
        if alive.tasks.len() >= alive.sweep_at.max(SWEEP_MIN) {
            alive.tasks.retain(|task| !task.is_finished());
            alive.sweep_at = alive.tasks.len() * 2;
        }
        alive.tasks.push(task);
    }
}

/// tokio, with the tasks noted and the watch channel replaced.
#[derive(Debug)]
pub(crate) struct GroupRuntime(TokioRuntime);

impl AsyncRuntime for GroupRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = OrderedWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        // Outside of a group there are only openraft's own tests of a runtime and a store.
        let Ok(tasks) = TASKS.try_with(Arc::clone) else { return TokioRuntime::spawn(future) };
        let handle = tokio::spawn(TASKS.scope(Arc::clone(&tasks), future));
        tasks.note(handle.abort_handle());
        handle
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(TASKS.try_with(|tasks| tasks.wakes_at(deadline)).unwrap_or(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// A watch channel that wakes its receivers in the order in which they began to wait.
#[derive(Debug)]
pub(crate) struct OrderedWatch;

struct Channel<T> {
    value: RwLock<T>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: u64,
    senders: usize,
    receivers: usize,
    next_receiver: u64,
    next_turn: u64,
    /// By the order in which they began to wait: the receiver, and how to wake it.
    waiting: BTreeMap<u64, (u64, Waker)>,
}

impl<T> Channel<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = lock(&self.state);
            change(&mut state);
            mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(|(_, waker)| waker.wake());
    }
}

/// The sending half of an [`OrderedWatch`].
pub(crate) struct Sender<T>(Arc<Channel<T>>);

/// The receiving half of an [`OrderedWatch`].
pub(crate) struct Receiver<T> {
    channel: Arc<Channel<T>>,
    id: u64,
    seen: u64,
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({})", self.id)
    }
}

impl<T> Receiver<T> {
    fn new(channel: Arc<Channel<T>>, seen: Option<u64>) -> Self {
        let (id, version) = {
            let mut state = lock(&channel.state);
            state.receivers += 1;
            state.next_receiver += 1;
            (state.next_receiver, state.version)
        };
        Self { channel, id, seen: seen.unwrap_or(version) }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0.state).senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let is_last = {
            let mut state = lock(&self.0.state);
            state.senders -= 1;
            state.senders == 0
        };
        if is_last {
            self.0.wake(|_| ());
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.channel), Some(self.seen))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.channel.state);
        state.receivers -= 1;
        state.waiting.retain(|_, (id, _)| *id != self.id);
    }
}

impl watch::Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let state = Mutex::new(State { senders: 1, ..State::default() });
        let channel = Arc::new(Channel { value: RwLock::new(init), state });
        (Sender(Arc::clone(&channel)), Receiver::new(channel, None))
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), watch::SendError<T>> {
        if lock(&self.0.state).receivers == 0 {
            return Err(watch::SendError(value));
        }
        *self.0.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        self.0.wake(|state| state.version += 1);
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let is_modified = modify(&mut self.0.value.write().unwrap_or_else(PoisonError::into_inner));
        if is_modified {
            self.0.wake(|state| state.version += 1);
        }
        is_modified
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver::new(Arc::clone(&self.0), None)
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), watch::RecvError> {
        poll_fn(|context| {
            let mut state = lock(&self.channel.state);
            if state.version != self.seen {
                self.seen = state.version;
                return Poll::Ready(Ok(()));
            }
            if state.senders == 0 {
                return Poll::Ready(Err(watch::RecvError(())));
            }
            if let Some((_, waker)) = state.waiting.values_mut().find(|(id, _)| *id == self.id) {
                waker.clone_from(context.waker());
            } else {
                let turn = state.next_turn;
                state.next_turn += 1;
                state.waiting.insert(turn, (self.id, context.waker().clone()));
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.channel.read()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        // The version may be older than the value, never newer: then the same value is seen once more.
        self.seen = lock(&self.channel.state).version;
        self.channel.read()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use openraft_rt::testing::Suite;
    use openraft_rt::watch::{Watch, WatchReceiver, WatchSender};

    use super::*;

    #[test]
    fn keeps_what_openraft_asks_of_a_runtime() {
        Suite::<GroupRuntime>::test_all();
    }

    #[test]
    fn watch_wakes_in_the_order_of_waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it works");
        let order = runtime.block_on(async {
            let (sender, first) = OrderedWatch::channel(0);
            let order = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..32)
                .map(|number| {
                    let (mut receiver, order) = (first.clone(), Arc::clone(&order));
                    tokio::spawn(async move {
                        receiver.changed().await.expect("it works");
                        lock(&order).push(number);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            sender.send(1).expect("it works");
            for task in tasks {
                task.await.expect("it works");
            }
            lock(&order).clone()
        });
        assert_eq!(order, (0..32).collect::<Vec<_>>());
    }

    #[test]
    fn deadlines_are_on_a_grid_and_what_is_due_in_a_moment_is_due_now() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let woken = Arc::new(Mutex::new(Vec::new()));
        runtime.expect("it works").block_on(async {
            let tasks = Tasks::new(Handle::current(), 1, Duration::from_millis(30));
            let begin = TokioInstant::now();
            let noted = Arc::clone(&woken);
            tokio::time::sleep(Duration::from_millis(7)).await;
            tasks.spawn(async move {
                for after in [Duration::from_micros(1), Duration::from_millis(5), Duration::from_millis(31)] {
                    Runtime::sleep_until(TokioInstant::now() + after).await;
                    lock(&noted).push((TokioInstant::now() - begin).as_millis());
                }
            });
            tokio::time::sleep(Duration::from_secs(1)).await;
            tasks.end();
        });
        assert_eq!(*lock(&woken), [7, 30, 90]);
    }

    #[test]
    fn tasks_end_with_their_group_and_so_does_what_they_spawned() {
        struct Noted(Arc<Mutex<u32>>);
        impl Drop for Noted {
            fn drop(&mut self) {
                *lock(&self.0) += 1;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it works");
        let ended = Arc::new(Mutex::new(0));
        runtime.block_on(async {
            let tasks = Tasks::new(Handle::current(), 1, Duration::from_millis(30));
            let (outer, inner) = (Noted(Arc::clone(&ended)), Noted(Arc::clone(&ended)));
            tasks.spawn(async move {
                let _outer = outer;
                drop(Runtime::spawn(async move {
                    let _inner = inner;
                    pending::<()>().await;
                }));
                pending::<()>().await;
            });
            tokio::task::yield_now().await;
            assert_eq!(*lock(&ended), 0);
            tasks.end();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(*lock(&ended), 2);
    }
}
