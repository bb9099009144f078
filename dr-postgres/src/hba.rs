//! The fence in `pg_hba.conf`: two standing rules that reject whoever our own file lists.
//!
//! PostgreSQL has no `include` in `pg_hba.conf` before 16, but every version reads lists of users from a file named with `@`. So one
//! enrolment puts two rules at the top, and from then on only *our* file changes:
//!
//! ```text
//!   pg_hba.conf            local all @dr_fence.users     reject        written once, the original kept beside it
//!                          host  all @dr_fence.users all reject
//!                          ...the operator's rules, byte for byte...
//!   dr_fence.users         "dr fence: nobody"                          open
//!                          "app" "reporting" ...                       closed: every role that can log in but ours
//! ```
//!
//! `all` in the database column does not cover replication, so the rest of the log still reaches the standby. Files are put in place
//! whole (written beside, made durable, renamed), and before the server is told to load them it is asked whether it can read them:
//! with a malformed file it would keep the old rules and say so only in its log.

use std::{path::PathBuf, time::Duration};

use dr_sql::{PgError, Session, Target};
use tokio::time::{Instant, sleep};

use crate::server::{POLL, ServerControl};

/// The file whose list the standing rules reject; it lies beside `pg_hba.conf`.
const LIST: &str = "dr_fence.users";
/// What the list holds while nobody is rejected: an empty list would shift the columns of the rule. No role can have this name
/// by accident, and rejecting it harms nobody.
const NOBODY: &str = "dr fence: nobody";
const HEAD: &str = "\
# Two standing rules of the disaster-recovery toolkit. They reject the roles listed in dr_fence.users: normally nobody.
local all @dr_fence.users reject
host all @dr_fence.users all reject
# End of the standing rules; what follows is unchanged.
";

/// The hba fence of one server.
#[derive(Debug)]
pub struct HbaFence<'s> {
    control: &'s dyn ServerControl,
    session: &'s Session,
    hba: PathBuf,
}

/// What the server's own view of the rules says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HbaReading {
    /// The roles that the first rules reject.
    pub rejected: Vec<String>,
    /// Whether the standing rules come first, for sockets and for the network.
    pub enrolled: bool,
    /// The errors that make the server keep its old rules.
    pub errors: Vec<String>,
}

impl HbaReading {
    /// Whether the rules on disk would reject `role` on every path.
    #[must_use]
    pub fn rejects(&self, role: &str) -> bool {
        self.enrolled && self.errors.is_empty() && self.rejected.iter().any(|name| name == role)
    }
}

impl<'s> HbaFence<'s> {
    /// The fence of the server that `session` talks to.
    ///
    /// # Errors
    /// The server does not tell where its rules are.
    pub async fn of(session: &'s Session, control: &'s dyn ServerControl) -> Result<Self, PgError> {
        let hba = session.setting("hba_file").await?.ok_or_else(|| PgError::Unreadable {
            server: session.label().into(),
            what: "hba_file",
            saw: "nothing".into(),
        })?;
        Ok(Self { control, session, hba: hba.into() })
    }

    /// The list file.
    #[must_use]
    pub fn list(&self) -> PathBuf {
        self.hba.with_file_name(LIST)
    }

    /// Where the operator's rules are kept byte for byte.
    #[must_use]
    pub fn original(&self) -> PathBuf {
        let name = self.hba.file_name().map_or_else(Default::default, |n| n.to_string_lossy().into_owned());
        self.hba.with_file_name(format!("{name}.dr-original"))
    }

    /// Puts the standing rules at the top, once. The rules of the operator follow unchanged, and a copy of them is kept.
    ///
    /// # Errors
    /// The files cannot be written, or the server could not read the result; then the original is back in place.
    pub async fn enrol(&self) -> Result<(), PgError> {
        let now = self.control.read(&self.hba).await?.unwrap_or_default();
        if now.starts_with(HEAD.as_bytes()) {
            return Ok(());
        }
        if self.control.read(&self.list()).await?.is_none() {
            self.control.write(&self.list(), &list_of([NOBODY])).await?;
        }
        self.control.write(&self.original(), &now).await?;
        let mut rules = HEAD.as_bytes().to_vec();
        rules.extend_from_slice(&now);
        self.control.write(&self.hba, &rules).await?;
        let reading = self.reading().await?;
        if reading.enrolled && reading.errors.is_empty() {
            return self.session.load_configuration().await;
        }
        self.control.write(&self.hba, &now).await?;
        Err(self.unreadable(&reading))
    }

    /// Takes the standing rules away again: what is left is what the operator's file was, byte for byte.
    ///
    /// # Errors
    /// The files cannot be written.
    pub async fn withdraw(&self) -> Result<(), PgError> {
        let now = self.control.read(&self.hba).await?.unwrap_or_default();
        if let Some(rules) = now.strip_prefix(HEAD.as_bytes()) {
            self.control.write(&self.hba, rules).await?;
            self.session.load_configuration().await?;
        }
        self.control.remove(&self.list()).await?;
        self.control.remove(&self.original()).await
    }

    /// Rejects every role that can log in, except `spared` (the control role), and loads the rules. Open sessions are not touched.
    ///
    /// # Errors
    /// The files cannot be written or the server could not read them; then the list is as it was.
    pub async fn close(&self, spared: &[String]) -> Result<Vec<String>, PgError> {
        self.enrol().await?;
        let all = self
            .session
            .names("list its roles", "SELECT rolname::text FROM pg_roles WHERE rolcanlogin ORDER BY 1")
            .await?;
        let rejected: Vec<String> = all.into_iter().filter(|role| !spared.contains(role)).collect();
        let before = self.control.read(&self.list()).await?.unwrap_or_else(|| list_of([NOBODY]));
        let names = rejected.iter().map(String::as_str).chain([NOBODY]);
        self.control.write(&self.list(), &list_of(names)).await?;
        let reading = self.reading().await?;
        if !rejected.iter().all(|role| reading.rejects(role)) {
            self.control.write(&self.list(), &before).await?;
            return Err(self.unreadable(&reading));
        }
        self.session.load_configuration().await?;
        Ok(rejected)
    }

    /// Rejects nobody any more and loads the rules.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn open(&self) -> Result<(), PgError> {
        self.control.write(&self.list(), &list_of([NOBODY])).await?;
        self.session.load_configuration().await
    }

    /// What the server reads in its files now. It says nothing of what is loaded: [`is_refused`] does.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn reading(&self) -> Result<HbaReading, PgError> {
        const WHAT: &str = "read its hba file";
        const RULES: &str = "\
SELECT type, user_name FROM pg_hba_file_rules WHERE error IS NULL AND auth_method = 'reject' AND database = '{all}'
   AND line_number <= (SELECT min(line_number) FROM pg_hba_file_rules
                       WHERE error IS NULL AND NOT (auth_method = 'reject' AND database = '{all}'))
   AND user_name @> ARRAY['dr fence: nobody'] ORDER BY line_number";
        const ERRORS: &str =
            "SELECT 'line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL";
        let errors = self.session.names(WHAT, ERRORS).await?;
        let rows = self.session.rows(WHAT, RULES, &[]).await?;
        let mut reading = HbaReading { rejected: Vec::new(), enrolled: false, errors };
        let (mut sockets, mut network) = (false, None);
        for row in &rows {
            let kind: &str = self.session.get(WHAT, row, 0)?;
            let users: Vec<String> = self.session.get(WHAT, row, 1)?;
            match kind {
                "local" => sockets = true,
                "host" => network = Some(users),
                _ => {}
            }
        }
        reading.enrolled = sockets && network.is_some();
        reading.rejected = network.unwrap_or_default().into_iter().filter(|name| name != NOBODY).collect();
        Ok(reading)
    }

    fn unreadable(&self, reading: &HbaReading) -> PgError {
        let why = if reading.errors.is_empty() {
            "the standing rules do not come first in its hba file".to_owned()
        } else {
            reading.errors.join("; ")
        };
        PgError::Refused {
            server: self.session.label().into(),
            why: format!("{} would not be loaded: {why}; nothing was changed", self.hba.display()),
        }
    }
}

/// Whether the server turns a login away because of its rules: the proof that they are loaded. `door` names a rejected role; no
/// password is needed, the rules come first.
///
/// # Errors
/// The server did not answer a login at all.
pub async fn is_refused(door: &Target) -> Result<bool, PgError> {
    match Session::open_plain(door).await {
        Ok(_) => Ok(false),
        // 28000 is the answer of a rule that rejects; a wrong password is 28P01 and means that the rules let us through.
        Err(e) if e.sql_state().is_some() => {
            Ok(e.sql_state() == Some(&tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION))
        }
        Err(e) if e.is_missing_password() => Ok(false),
        Err(e) => Err(e),
    }
}

/// Waits until a login is turned away.
///
/// # Errors
/// It is still let through after `within`.
pub async fn await_refused(door: &Target, within: Duration) -> Result<(), PgError> {
    let begun = Instant::now();
    while !is_refused(door).await? {
        if begun.elapsed() > within {
            let what = format!("turn the role `{}` away", door.user);
            return Err(PgError::Late { server: door.label(), what, after: within });
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// One quoted name a line. Quoted, a role called `all` is a role and no keyword.
fn list_of<'n, I: IntoIterator<Item = &'n str>>(names: I) -> Vec<u8> {
    names.into_iter().map(|name| format!("\"{}\"\n", name.replace('"', "\"\""))).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_names_are_quoted() {
        assert_eq!(list_of(["app", "all"]), b"\"app\"\n\"all\"\n");
    }
}
