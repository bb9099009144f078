//! `dr report`: what a run came to.

use std::path::Path;

use crate::{
    Exit, Screen,
    exit::Stop,
    link::{self, Link},
};

pub(super) async fn report(link: &Link, name: &str, html: Option<&Path>, screen: &mut Screen) -> Result<Exit, Stop> {
    let report = link::report(&link.find(name).await?).await?;
    if let Some(path) = html {
        std::fs::write(path, report.to_html()).map_err(|error| {
            Stop::input(format!("the report cannot be written to `{}`: {error}", path.display()), &[])
        })?;
    }
    screen.reply(&report.to_string(), &report.to_json());
    Ok(Exit::Done)
}
