//! Applications that write all the time and remember exactly what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dr_sql::{PgError, Session, Target};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_postgres::types::Type;

/// A number of clients that insert rows one after the other.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    stop: AtomicBool,
    /// Microseconds after `begun` of the newest acknowledgement.
    last: AtomicU64,
    /// The longest time without any acknowledgement since the last mark, in microseconds.
    gap: AtomicU64,
    clients: Vec<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    acknowledged: Vec<i64>,
    unknown: Vec<i64>,
    errors: Vec<String>,
}

/// What the clients saw since they started.
#[derive(Clone, Debug, Default)]
pub struct WriterReport {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Errors per client; a write in flight then has an unknown outcome.
    pub errors: Vec<u64>,
    /// The first error, in words.
    pub first_error: Option<String>,
}

impl WriterReport {
    /// All errors of all clients.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.iter().sum()
    }
}

/// What reading everything back showed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LossCheck {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// Not acknowledged (the client saw an error) and there nevertheless.
    pub unknown_present: u64,
}

impl Writers {
    /// Starts `count` clients of `targets`; each tries them in order until one takes its writes. Returns when every client has written.
    ///
    /// # Errors
    /// A client cannot write within 30 s.
    pub async fn start(targets: Vec<Target>, count: u16) -> Result<Self, PgError> {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            last: AtomicU64::new(0),
            gap: AtomicU64::new(0),
            clients: (0..count).map(|_| Mutex::new(Log::default())).collect(),
        });
        let spawn = |number| tokio::spawn(client(Arc::clone(&shared), targets.clone(), number));
        let tasks = (0..count).map(spawn).collect();
        let writers = Self { shared, tasks };
        let begun = Instant::now();
        while writers.shared.clients.iter().any(|log| lock(log).acknowledged.is_empty()) {
            if begun.elapsed() > Duration::from_secs(30) {
                let why = format!("the writers cannot write: {}", writers.report().first_error.unwrap_or_default());
                return Err(PgError::Refused { server: "application".into(), why });
            }
            sleep(Duration::from_millis(5)).await;
        }
        writers.mark();
        Ok(writers)
    }

    /// Begins a new measurement of the gap.
    pub fn mark(&self) {
        self.shared.gap.store(0, Ordering::SeqCst);
    }

    /// The longest time without any acknowledged write since the last mark.
    #[must_use]
    pub fn gap(&self) -> Duration {
        let open = self.shared.now().saturating_sub(self.shared.last.load(Ordering::SeqCst));
        Duration::from_micros(self.shared.gap.load(Ordering::SeqCst).max(open))
    }

    /// How long ago the newest acknowledgement came.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        Duration::from_micros(self.shared.now().saturating_sub(self.shared.last.load(Ordering::SeqCst)))
    }

    /// Waits until writes are acknowledged again.
    ///
    /// # Errors
    /// They are not within the time.
    pub async fn await_flow(&self, within: Duration) -> Result<(), PgError> {
        let (begun, from) = (Instant::now(), self.shared.now());
        while self.shared.last.load(Ordering::SeqCst) <= from {
            if begun.elapsed() > within {
                let (server, what) = ("application".into(), "write again".into());
                return Err(PgError::Late { server, what, after: within });
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// What the clients saw so far.
    #[must_use]
    pub fn report(&self) -> WriterReport {
        let mut report = WriterReport::default();
        for log in &self.shared.clients {
            let log = lock(log);
            report.acknowledged += log.acknowledged.len() as u64;
            report.errors.push(log.errors.len() as u64);
            report.first_error = report.first_error.or_else(|| log.errors.first().cloned());
        }
        report
    }

    /// Lets every client finish its write and end.
    pub async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            // A task that ended has nothing to say: its log is shared.
            let _ended = tokio::time::timeout(Duration::from_secs(20), task).await;
        }
    }

    /// Reads every row back and compares with what was acknowledged. Call it after [`Writers::stop`].
    ///
    /// # Errors
    /// The server cannot be read.
    pub async fn check(&self, target: &Target) -> Result<LossCheck, PgError> {
        const WHAT: &str = "read the rows back";
        let session = Session::open(&Target { answer_within: Duration::from_secs(120), ..target.clone() }).await?;
        let mut check = LossCheck::default();
        for (number, log) in (0_i32..).zip(&self.shared.clients) {
            let sql = "SELECT seq FROM dr_writes WHERE client = $1 ORDER BY seq";
            let rows = session.rows(WHAT, sql, &[(&number, Type::INT4)]).await?;
            let mut there = BTreeMap::new();
            for row in &rows {
                there.insert(session.get::<i64>(WHAT, row, 0)?, ());
            }
            let log = lock(log);
            check.acknowledged += log.acknowledged.len() as u64;
            check.lost += log.acknowledged.iter().filter(|seq| !there.contains_key(seq)).count() as u64;
            check.unknown_present += log.unknown.iter().filter(|seq| there.contains_key(seq)).count() as u64;
        }
        Ok(check)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn acknowledged(&self) {
        let now = self.now();
        let before = self.last.fetch_max(now, Ordering::SeqCst);
        self.gap.fetch_max(now.saturating_sub(before), Ordering::SeqCst);
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client: connects, writes until an error, tells the error, connects again at once.
async fn client(shared: Arc<Shared>, targets: Vec<Target>, number: u16) {
    let Some(log) = shared.clients.get(usize::from(number)) else { return };
    let mut seq = 0_i64;
    let mut turn = 0_usize;
    while !shared.stop.load(Ordering::SeqCst) {
        let Some(target) = targets.get(turn % targets.len().max(1)) else { return };
        turn += 1;
        // A failed connection is no failed write: nothing was sent. It is tried again after a moment.
        if let Ok(session) = Session::open_plain(target).await {
            write(&shared, log, &session, number, &mut seq).await;
        } else {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn write(shared: &Shared, log: &Mutex<Log>, session: &Session, number: u16, seq: &mut i64) {
    let mut wrote = false;
    while !shared.stop.load(Ordering::SeqCst) {
        *seq += 1;
        let sql = format!("INSERT INTO dr_writes VALUES ({number}, {seq})");
        match session.run("insert a row", &sql).await {
            Ok(()) => {
                shared.acknowledged();
                lock(log).acknowledged.push(*seq);
                wrote = true;
            }
            Err(e) => {
                let standby = e.sql_state() == Some(&tokio_postgres::error::SqlState::READ_ONLY_SQL_TRANSACTION);
                let mut log = lock(log);
                log.unknown.push(*seq);
                // A client that tries a standby first and moves on has found its server, not failed a write.
                if wrote || !standby {
                    log.errors.push(e.chain());
                }
                return;
            }
        }
    }
}
