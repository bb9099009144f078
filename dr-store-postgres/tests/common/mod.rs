//! A real server, a wire to it that can be cut or frozen, and stores on it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dr_core::{
    RunId,
    base::canonical,
    run::{Head, Line},
};
use dr_postgres::testing::{ClusterOptions, LocalCluster};
use dr_sql::{Session, Target};
use dr_store_postgres::PostgresStore;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) const TERM: Duration = Duration::from_millis(600);

/// A server of its own; the tests are red where there is none.
pub(crate) async fn server() -> LocalCluster {
    let settings = vec!["max_connections = 300".to_owned()];
    LocalCluster::start(ClusterOptions { pooler: false, settings, ..ClusterOptions::default() }).await.unwrap()
}

pub(crate) fn target(cluster: &LocalCluster) -> Target {
    Target { answer_within: Duration::from_secs(2), ..cluster.pg1().admin.clone() }
}

/// A schema that nobody used.
pub(crate) fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("store_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn open(target: &Target, schema: &str) -> PostgresStore {
    PostgresStore::at(target.clone()).schema(schema).lasting(TERM).open().await.unwrap()
}

/// As an engine needs it: one sends nothing with less than ten seconds left.
pub(crate) async fn open_for_an_engine(target: &Target, schema: &str) -> PostgresStore {
    let target = Target { answer_within: Duration::from_secs(8), ..target.clone() };
    PostgresStore::at(target).schema(schema).lasting(LEASE).open().await.unwrap()
}

pub(crate) const LEASE: Duration = Duration::from_secs(18);

/// Runs statements as a superuser.
pub(crate) async fn on(cluster: &LocalCluster, sql: &str) {
    Session::open(&cluster.pg1().admin).await.unwrap().run("prepare the test", sql).await.unwrap();
}

pub(crate) fn run() -> RunId {
    "orders-1".parse().unwrap()
}

/// Lines after `head`, with `words` inside.
pub(crate) fn lines(mut head: Head, words: &[&str]) -> Vec<Line> {
    let mut all = Vec::new();
    for word in words {
        let seq = head.seq + 1;
        let text = format!(r#"{{"prev":"{}","seq":"{seq}","word":"{word}"}}"#, head.hash.hex());
        let hash = canonical::leaf_hash(text.as_bytes());
        head = Head { seq, hash };
        all.push(Line { seq, text, hash });
    }
    all
}

/// What a wire does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Both ways.
    Passes,
    /// Nothing moves, and nothing ends.
    Frozen,
    /// What is said reaches the server; its next answer ends the connection instead of coming back. Then it passes again.
    LosesTheAnswer,
    /// Connections end before what is said reaches the server. Then it passes again.
    LosesTheQuestion,
}

/// A wire to a server.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    mode: watch::Sender<Mode>,
    lost: Arc<AtomicUsize>,
    port: u16,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            mode: watch::Sender::new(Mode::Passes),
            lost: Arc::default(),
            port: listener.local_addr().unwrap().port(),
        };
        let all = wire.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let one = all.clone();
                tokio::spawn(async move { one.carry(near, port).await });
            }
        });
        wire
    }

    pub(crate) fn target(&self, cluster: &LocalCluster) -> Target {
        Target { host: "127.0.0.1".into(), port: self.port, ..target(cluster) }
    }

    pub(crate) fn becomes(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many answers and questions were lost.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }

    async fn thawed(&self) -> Mode {
        let mut mode = self.mode.subscribe();
        *mode.wait_for(|mode| *mode != Mode::Frozen).await.unwrap()
    }

    async fn carry(self, near: TcpStream, port: u16) {
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        let (mut from_near, mut to_near) = near.into_split();
        let (mut from_far, mut to_far) = far.into_split();
        let out = async {
            let mut buffer = vec![0; 65_536];
            while let Ok(size @ 1..) = from_near.read(&mut buffer).await {
                if self.thawed().await == Mode::LosesTheQuestion {
                    self.is_lost();
                    return;
                }
                if to_far.write_all(&buffer[..size]).await.is_err() {
                    return;
                }
            }
        };
        let back = async {
            let mut buffer = vec![0; 65_536];
            while let Ok(size @ 1..) = from_far.read(&mut buffer).await {
                // A notification (`A`) is no answer.
                if self.thawed().await == Mode::LosesTheAnswer && buffer[0] != b'A' {
                    self.is_lost();
                    return;
                }
                if to_near.write_all(&buffer[..size]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! { () = out => {}, () = back => {} }
    }

    fn is_lost(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
        self.becomes(Mode::Passes);
    }
}
