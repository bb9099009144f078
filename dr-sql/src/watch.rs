//! Client sessions while a fence stands: ended, and watched until none comes back.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use dr_core::{Cause, Grade, Outcome, contract::Lineage, millis};
use futures_util::future::join;
use tokio::time::{Instant, sleep};

use crate::{client::Session, error::PgError};

/// How often the sessions are looked at while they end.
const EACH: Duration = Duration::from_millis(2);

/// Ends all client sessions and waits until none is left; poolers that reconnect are ended again.
///
/// # Errors
/// Some are still there after `within`; the message names one.
pub async fn end_sessions(session: &Session, within: Duration) -> Result<(), PgError> {
    let begun = Instant::now();
    loop {
        let open = session.client_sessions().await?;
        let Some(first) = open.first() else { return Ok(()) };
        if begun.elapsed() > within {
            let (pid, user, name) = (first.pid, &first.user, &first.application);
            let what = format!("lose its client sessions: {} remain, such as pid {pid} ({user}, {name})", open.len());
            return Err(PgError::Late { server: session.label().into(), what, after: within });
        }
        session.terminate_clients().await?;
        sleep(EACH).await;
    }
}

/// Since when every look has found no client session. One look proves nothing: a session may be between two statements of its
/// pooler. Two that lie a second apart do.
#[derive(Debug, Default)]
pub struct SessionWatch(Mutex<Option<Instant>>);

impl SessionWatch {
    /// What the plane of open sessions is worth now.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn grade(&self, session: &Session) -> Result<Grade, PgError> {
        let open = !session.client_sessions().await?.is_empty();
        let mut clean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open {
            *clean = None;
            return Ok(Grade::Partial);
        }
        let since = *clean.get_or_insert_with(Instant::now);
        Ok(if since.elapsed() >= Duration::from_secs(1) { Grade::Confirmed } else { Grade::Enforced })
    }
}

/// What speaks against the server `name` being a streaming standby of `lineage`: a conflict, or something that may pass.
///
/// # Errors
/// The server cannot be asked.
pub async fn still_a_standby(session: &Session, name: &str, lineage: &Lineage) -> Result<Option<Outcome<()>>, PgError> {
    let (who, receiver) = join(session.identity(), session.receiver()).await;
    let (who, receiver) = (who?, receiver?);
    let conflict = |why: String| Ok(Some(Outcome::Conflict(Cause::new(why))));
    let is = who.lineage();
    if !who.in_recovery {
        return conflict(format!("{name} runs as a primary"));
    }
    if is.system != lineage.system || is.generation > lineage.generation {
        return conflict(format!("{name} carries lineage {is}, not {lineage}"));
    }
    // A receiver that connects anew begins with the history before, and streams in a moment.
    let streams = receiver.streaming && is == *lineage;
    let why = format!("{name} is a standby on lineage {is} and does not stream {lineage}");
    Ok((!streams).then(|| Outcome::not_done_yet(why, millis(20))))
}
