//! Slots are made and dropped by whoever may: the control role if it has the attribute REPLICATION, else the role that standbys log in
//! with, in an ordinary session.

use dr_sql::{ConnInfo, Password, PgError, Session, Target};

use crate::member::{Member, Peer};

/// The target `control`, logged in to as the role of a replication login; none if it names no role.
pub(crate) fn as_replication_role(control: &Target, login: &ConnInfo) -> Option<Target> {
    let mut target = control.clone();
    target.user = login.get("user")?.to_owned();
    target.password = login.get("password").map(Password::new);
    Some(target)
}

impl Member {
    /// Makes this member's slot at its primary `peer`, unless it is there.
    ///
    /// # Errors
    /// No free slot, or neither role may.
    pub(crate) async fn ensure_slot_at(
        &self,
        peer: &Peer,
        upstream: &Session,
        login: &ConnInfo,
    ) -> Result<(), PgError> {
        let denied = match upstream.ensure_slot(&self.slot()).await {
            Err(error) if error.is_denied() => error,
            other => return other,
        };
        let target = as_replication_role(&peer.target, login).ok_or(denied)?;
        Session::open(&target).await?.ensure_slot(&self.slot()).await
    }

    /// Drops a slot of this member's server that nobody uses.
    ///
    /// # Errors
    /// It is in use, or neither role may.
    pub(crate) async fn drop_own_slot(&self, own: &Session, name: &str) -> Result<(), PgError> {
        let denied = match own.drop_slot(name).await {
            Err(error) if error.is_denied() => error,
            other => return other,
        };
        let text = own.setting("primary_conninfo").await?.unwrap_or_default();
        let login = ConnInfo::parse(&text).unwrap_or_default();
        let target = as_replication_role(self.link.target(), &login).ok_or(denied)?;
        Session::open(&target).await?.drop_slot(name).await
    }
}
