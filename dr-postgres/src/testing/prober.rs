//! Tries real writes on both servers all the time, past every pooler: the witness of "never two writers".

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dr_sql::{Probed, Session, Target};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Probes each target at 200 Hz or more with sessions of its own.
#[derive(Debug)]
pub struct DirectProber {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Probes>>,
}

#[derive(Debug, Default)]
struct Probes {
    attempts: u64,
    longest_pause: Duration,
    /// Begin and end of every accepted write.
    accepted: Vec<(Instant, Instant)>,
}

/// What the probes saw.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    /// Attempts per server.
    pub attempts: Vec<u64>,
    /// Accepted writes per server.
    pub accepted: Vec<u64>,
    /// How often the server that accepts writes changed.
    pub changes: u64,
    /// Writes accepted by a server at a time at which, before or after, the other one accepted too.
    pub two_writers: u64,
    /// Attempts per second on the least probed server.
    pub rate: f64,
}

impl DirectProber {
    /// Starts probing.
    #[must_use]
    pub fn start(targets: Vec<Target>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = targets.into_iter().map(|target| tokio::spawn(probe(target, Arc::clone(&stop)))).collect();
        Self { stop, tasks }
    }

    /// Ends probing and says what was seen. `changes` of the writer are compared by the caller with the promotions it made: two
    /// servers that accept in turns would show as more changes than promotions.
    pub async fn stop(mut self) -> ProbeReport {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for task in self.tasks.drain(..) {
            all.push(task.await.unwrap_or_default());
        }
        report(&all)
    }
}

impl Drop for DirectProber {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn probe(mut target: Target, stop: Arc<AtomicBool>) -> Probes {
    target.application = "dr/probe/direct".into();
    target.connect_within = Duration::from_millis(200);
    target.answer_within = Duration::from_millis(500);
    let mut probes = Probes::default();
    let mut session = None;
    let mut previous = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        probes.attempts += 1;
        probes.longest_pause = probes.longest_pause.max(begun.duration_since(previous));
        previous = begun;
        let open = match session.take() {
            Some(open) => Some(open),
            None => Session::open_plain(&target).await.ok(),
        };
        if let Some(open) = open {
            match open.probe_write("direct").await {
                Ok(Probed::Written(_)) => {
                    probes.accepted.push((begun, Instant::now()));
                    session = Some(open);
                }
                Ok(Probed::Replays | Probed::ReadOnly) => session = Some(open),
                Err(_) => {}
            }
        }
        sleep(Duration::from_millis(4).saturating_sub(begun.elapsed())).await;
        tokio::task::yield_now().await;
    }
    probes
}

/// A write counts for two writers when it *began* after the other server had acknowledged a later one: in one order of events the
/// writer would have gone back and forth. Each change of the writer in the order of acknowledgement is counted.
fn report(all: &[Probes]) -> ProbeReport {
    let mut events: Vec<(Instant, Instant, usize)> = Vec::new();
    for (server, probes) in all.iter().enumerate() {
        events.extend(probes.accepted.iter().map(|(begun, ended)| (*begun, *ended, server)));
    }
    events.sort_by_key(|(_, ended, _)| *ended);
    let overlaps = events.windows(2).filter(|pair| match pair {
        [(_, first_end, a), (second_begun, _, b)] => a != b && second_begun < first_end,
        _ => false,
    });
    let changes = events.windows(2).filter(|pair| matches!(pair, [(.., a), (.., b)] if a != b)).count() as u64;
    let least = all.iter().map(|probes| probes.attempts).min().unwrap_or(0);
    let span = match (events.first(), events.last()) {
        (Some((begun, ..)), Some((_, ended, _))) => ended.duration_since(*begun).as_secs_f64(),
        _ => 0.0,
    };
    ProbeReport {
        attempts: all.iter().map(|probes| probes.attempts).collect(),
        accepted: all.iter().map(|probes| probes.accepted.len() as u64).collect(),
        changes,
        two_writers: overlaps.count() as u64,
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        rate: if span > 0.0 { least as f64 / span } else { 0.0 },
    }
}
