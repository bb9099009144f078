//! Servers that listen on this host and behave as a test says.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// How a server behaves.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// It answers this status with these words.
    Answers(u16, &'static str),
    /// It answers this status with everything that it was sent.
    Repeats(u16),
    /// It answers a success after a while.
    Slow(Duration),
    /// It takes the connection and says nothing.
    Hangs,
    /// It takes the connection and closes it.
    HangsUp,
    /// It sends the answer byte by byte, and never ends.
    Drips,
}

/// Everything that a server was sent, one text for each request or mail.
pub(crate) type Got = Arc<Mutex<Vec<String>>>;

/// A certificate for `localhost`: the file to trust, and what a server presents.
pub(crate) struct Identity {
    pub(crate) ca: PathBuf,
    pub(crate) acceptor: TlsAcceptor,
}

pub(crate) fn identity(dir: &Path) -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    Identity { ca, acceptor: TlsAcceptor::from(Arc::new(config)) }
}

/// A port of this host where nobody listens.
pub(crate) async fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

pub(crate) async fn http(manner: Manner, tls: Option<TlsAcceptor>) -> (u16, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, got) = (listener.local_addr().unwrap().port(), Got::default());
    let all = Arc::clone(&got);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (manner, all, tls) = (manner.clone(), Arc::clone(&all), tls.clone());
            tokio::spawn(async move {
                match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, manner, all).await;
                        }
                    }
                    None => serve(stream, manner, all).await,
                }
            });
        }
    });
    (port, got)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner, all: Got) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let request = format!("{head}{}", String::from_utf8(body).unwrap());
    all.lock().unwrap().push(request.clone());
    let answer = |status: u16, words: &str| {
        format!("HTTP/1.1 {status} Said\r\nretry-after: 7\r\ncontent-length: {}\r\n\r\n{words}", words.len())
    };
    let answer = match manner {
        Manner::Answers(status, words) => answer(status, words),
        Manner::Repeats(status) => answer(status, &request),
        Manner::Slow(pause) => {
            tokio::time::sleep(pause).await;
            answer(200, "ok")
        }
        Manner::Hangs => return std::future::pending().await,
        Manner::HangsUp => return,
        Manner::Drips => loop {
            if stream.write_all(b"HTTP/1.1 200 OK\r\nx: y\r\n").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
    };
    // Whoever does not read the answer is not this server's concern.
    let _unread = stream.write_all(answer.as_bytes()).await;
    let _open = stream.flush().await;
}

/// How a mail server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    Takes,
    /// It refuses the login, and repeats what it was sent.
    RefusesLogin,
    /// It has no room just now.
    Busy,
    /// It knows no such recipient.
    NoSuchPerson,
    Hangs,
    /// It greets, and hangs after the first command.
    HangsLater,
}

/// A mail server. With `tls` it offers STARTTLS, and takes no mail before it.
pub(crate) async fn smtp(manner: Post, tls: Option<TlsAcceptor>) -> (u16, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, got) = (listener.local_addr().unwrap().port(), Got::default());
    let all = Arc::clone(&got);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(session(stream, manner, tls.clone(), Arc::clone(&all)));
        }
    });
    (port, got)
}

async fn session(stream: TcpStream, manner: Post, tls: Option<TlsAcceptor>, all: Got) {
    let mut stream = stream;
    if manner == Post::Hangs {
        return std::future::pending().await;
    }
    stream.write_all(b"220 double\r\n").await.unwrap();
    if let Some(tls) = tls {
        if !talk(&mut stream, manner, true, &all).await {
            return;
        }
        let Ok(mut stream) = tls.accept(stream).await else { return };
        talk(&mut stream, manner, false, &all).await;
    } else {
        talk(&mut stream, manner, false, &all).await;
    }
}

/// One conversation; `true` when it goes on encrypted.
async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), manner: Post, offers: bool, all: &Got) -> bool {
    let mut said = String::new();
    loop {
        let Some(line) = line(stream).await else { return false };
        said.push_str(&format!("{line}\n"));
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match word.as_str() {
            _ if manner == Post::HangsLater => return std::future::pending().await,
            "EHLO" if offers => "250-double\r\n250 STARTTLS\r\n".to_owned(),
            "EHLO" => "250-double\r\n250 AUTH PLAIN\r\n".to_owned(),
            "STARTTLS" if offers => {
                stream.write_all(b"220 go on\r\n").await.unwrap();
                return true;
            }
            "AUTH" if manner == Post::RefusesLogin => format!("535 no: {line} canary-4f1d7b\r\n"),
            "AUTH" => "235 welcome\r\n".to_owned(),
            "RCPT" if manner == Post::NoSuchPerson => "550 no such person\r\n".to_owned(),
            "MAIL" if manner == Post::Busy => "451 later\r\n".to_owned(),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.unwrap();
                let mut mail = String::new();
                while let Some(part) = self::line(stream).await.filter(|part| part != ".") {
                    mail.push_str(&format!("{part}\n"));
                }
                all.lock().unwrap().push(format!("{said}{mail}"));
                "250 taken\r\n".to_owned()
            }
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 ok\r\n".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return false;
        }
    }
}

async fn line(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()),
            Ok(byte) => line.push(byte),
            Err(_) => return None,
        }
    }
}
