//! Telling people through a program of one's own: a pager, a chat, a mail.
//!
//! ```toml
//! [[notify]]
//! with = "exec"
//! only = "urgent"                                    # or "all", the default
//! at   = { run = ["/usr/local/bin/page", "orders"], within = "10 s" }
//! ```
//!
//! The program is started directly, never by a shell, and is given one JSON object on its standard input: `key`, `run`, `urgent`,
//! `occasion` and `text`. It has told people when it ends with 0; anything else, and a program that takes too long, has told nobody.
//! A notice may be given twice: `key` says which one it is.

use std::{process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Backend, Cause, GroupSpec, Millis, Notifier, ProviderError,
    base::text::parse_duration,
    contract::{ConfigError, MemberSpec, Notice, NotifySpec, Provider},
    seconds,
};
use serde::Deserialize;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// The backend `exec`: it runs programs, and offers nothing but telling people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exec;

/// How long a program may take where the file says nothing.
const WITHIN: Millis = seconds(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    /// The program, with its whole path, and its arguments.
    run: Vec<String>,
    /// How long it may take.
    within: Option<String>,
}

#[derive(Debug)]
struct Program {
    path: String,
    arguments: Vec<String>,
    within: Millis,
}

impl Backend for Exec {
    fn prefix(&self) -> &'static str {
        "exec"
    }

    fn open(&self, _group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError> {
        let what = "is `exec`, which runs programs to tell people; it opens no database";
        Err(ConfigError::value(member.at.place().parent().then("backend"), what.to_owned()))
    }

    fn notifier(&self, _group: &GroupSpec, notify: &NotifySpec) -> Result<Arc<dyn Notifier>, ConfigError> {
        let At { run, within } = notify.at.read()?;
        let place = notify.at.place();
        let wrong = |key: &str, what: String| ConfigError::value(place.then(key), what);
        let [path, arguments @ ..] = run.as_slice() else {
            return Err(wrong("run", "is empty; it is the program and its arguments".to_owned()));
        };
        if !path.starts_with('/') {
            let what = format!("begins with `{path}`; say the whole path, so that nobody's PATH decides what is run");
            return Err(wrong("run", what));
        }
        let within = match within {
            Some(text) => parse_duration(&text).map_err(|error| wrong("within", error.to_string()))?,
            None => WITHIN,
        };
        Ok(Arc::new(Program { path: path.clone(), arguments: arguments.to_vec(), within }))
    }
}

#[async_trait]
impl Notifier for Program {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        let failed = |why: String| ProviderError::unreachable("notify", Cause::new(format!("{}: {why}", self.path)));
        let told = serde_json::json!({
            "key": notice.key, "run": notice.run, "urgent": notice.urgent, "occasion": notice.occasion,
            "text": notice.text,
        });
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever waits no longer leaves no program behind.
        command.kill_on_drop(true);
        let run = async {
            let mut child = command.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                // A program that does not read its input has told people all the same, if it ends with 0.
                let _unread = input.write_all(format!("{told}\n").as_bytes()).await;
            }
            child.wait().await
        };
        match tokio::time::timeout(Duration::from_millis(self.within.count()), run).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(format!("ended with {status}"))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("has not ended within {}", dr_core::base::text::human(self.within)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use dr_core::{RunId, contract::Occasion};
    use serde_json::json;

    use super::*;

    fn notifier(at: &serde_json::Value) -> Result<Arc<dyn Notifier>, String> {
        let text = include_str!("sandbox/orders.toml");
        let mut group = toml::from_str::<toml::Value>(text).unwrap();
        let notify = toml::Value::try_from(json!([{"with": "exec", "at": at}])).unwrap();
        group.as_table_mut().unwrap().insert("notify".into(), notify);
        let group = GroupSpec::read(&serde_json::to_value(group).unwrap()).unwrap();
        Exec.notifier(&group, &group.notify[0]).map_err(|error| error.to_string())
    }

    fn notice() -> Notice {
        let run: RunId = "orders-1".parse().unwrap();
        let text = "orders-1: \"; rm -rf / #".into();
        Notice { key: "orders-1/parked/7".into(), run, urgent: true, occasion: Occasion::Parked, text }
    }

    fn script(dir: &std::path::Path, text: &str) -> String {
        let path = dir.join("page");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    #[tokio::test]
    async fn a_program_is_given_the_notice_and_no_shell_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out").display().to_string();
        let page = script(dir.path(), "cat > \"$1\"");
        notifier(&json!({"run": [page, out]})).unwrap().notify(notice()).await.unwrap();
        let told: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
        assert_eq!(told["key"], "orders-1/parked/7");
        assert_eq!((told["text"].as_str(), told["urgent"].as_bool()), (Some("orders-1: \"; rm -rf / #"), Some(true)));
    }

    #[tokio::test]
    async fn a_program_that_fails_hangs_or_is_not_there_has_told_nobody() {
        let dir = tempfile::tempdir().unwrap();
        for (text, words) in [("exit 3", "ended with exit status: 3"), ("exec sleep 60", "has not ended within 0.1 s")]
        {
            let page = script(dir.path(), text);
            let told = notifier(&json!({"run": [page], "within": "100 ms"})).unwrap().notify(notice()).await;
            let error = Cause::chain(&told.unwrap_err()).to_string();
            assert!(error.contains(words), "{error}");
        }
        let told = notifier(&json!({"run": ["/nowhere/page"]})).unwrap().notify(notice()).await;
        assert!(Cause::chain(&told.unwrap_err()).to_string().contains("No such file"));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_group() {
        for (at, words) in [
            (json!({"run": []}), "is the program and its arguments"),
            (json!({"run": ["page"]}), "say the whole path"),
            (json!({"run": ["/bin/page"], "within": "soon"}), "soon"),
            (json!({"run": ["/bin/page"], "shell": true}), "shell"),
            (json!({}), "run"),
        ] {
            let error = notifier(&at).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
