//! Whether two names mean the same server.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use tokio::time::timeout;

/// A name that does not resolve by then is compared as it is written.
const RESOLVE_WITHIN: Duration = Duration::from_secs(1);

/// The addresses of a host as this machine resolves it; none if it cannot.
pub(crate) async fn addresses(host: &str, port: u16) -> BTreeSet<IpAddr> {
    match timeout(RESOLVE_WITHIN, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    }
}

/// Whether both lead to the same place: the same port, and the same name or an address in common.
pub(crate) async fn is_same((one, port): (&str, u16), (other, other_port): (&str, u16)) -> bool {
    if port != other_port || one.is_empty() || other.is_empty() {
        return false;
    }
    one == other || !addresses(one, port).await.is_disjoint(&addresses(other, port).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_resolved_before_they_are_compared() {
        assert!(is_same(("127.0.0.1", 5432), ("localhost", 5432)).await);
        assert!(!is_same(("127.0.0.1", 5432), ("localhost", 5433)).await);
        assert!(!is_same(("", 5432), ("", 5432)).await, "a unix socket is no place that can be compared");
        assert!(!is_same(("no.such.host.invalid", 1), ("127.0.0.1", 1)).await);
    }
}
