//! `dr check`: are the group files right?

use std::path::Path;

use dr_engine::GroupFile;
use serde_json::{Value, json};

use crate::{
    App, Exit, Screen,
    args::Places,
    exit::{Stop, chain},
    files,
    link::{self, Link},
    people::{self, People},
};

pub(super) async fn check(
    app: &App,
    places: &Places,
    (group, look): (Option<&str>, bool),
    screen: &mut Screen,
) -> Result<Exit, Stop> {
    let dir = places.groups();
    let paths = match group {
        Some(name) => vec![files::group_path(&dir, name)?],
        None => files::group_files(&dir)?.into_iter().map(|(_, path)| path).collect(),
    };
    let backends = link::backends(app, places);
    let mut pages = Vec::new();
    let mut found: Vec<Value> = Vec::new();
    let mut right: Vec<GroupFile> = Vec::new();
    let mut faults = 0;
    for path in &paths {
        let checked = GroupFile::read(path).and_then(|file| {
            dr_engine::opens(&backends, &file)?;
            Ok(file)
        });
        match checked {
            Ok(file) => {
                pages.push(good(&file));
                found.push(json!({"file": path, "group": file.spec().name, "ok": true}));
                right.push(file);
            }
            Err(error) => {
                faults += 1;
                let error = chain(&error);
                pages.push(format!("error: {error}"));
                found.push(json!({"file": path, "ok": false, "error": error}));
            }
        }
    }
    if faults > 0 {
        let page = format!("{}\nnothing was sent\n", pages.join("\n"));
        let json = json!({"files": found, "exit": Exit::Input.code()});
        return Err(Stop { exit: Exit::Input, page, json });
    }
    if paths.is_empty() {
        return Err(Stop::input(format!("`{}` has no group files", dir.display()), &[]));
    }
    lacking(app, places, &right, &mut pages, &mut found)?;
    if look {
        return looked(&Link::open(app, places).await?, &right, screen).await;
    }
    screen.reply(&pages.join("\n"), &json!({"files": found, "exit": 0}));
    Ok(Exit::Done)
}

/// What the groups ask of people that nobody can give: read only where the program does not know by itself who acts.
fn lacking(
    app: &App,
    places: &Places,
    files: &[GroupFile],
    pages: &mut Vec<String>,
    found: &mut Vec<Value>,
) -> Result<(), Stop> {
    if app.acting.is_some() || places.sandbox.is_some() {
        return Ok(());
    }
    let people = People::read(app.people.as_deref().unwrap_or_else(|| Path::new(people::FILE)))?;
    for file in files {
        for what in people.lacking(file.spec()) {
            pages.push(format!("note: {}: {what}", file.path().display()));
            found.push(json!({"file": file.path(), "note": what}));
        }
    }
    Ok(())
}

/// What would keep a switchover from working, or make it unsafe.
async fn looked(link: &Link, files: &[GroupFile], screen: &mut Screen) -> Result<Exit, Stop> {
    let mut page = String::new();
    let mut found: Vec<Value> = Vec::new();
    let mut refused = false;
    for file in files {
        let findings = link.check(file).await?;
        let name = &file.spec().name;
        if findings.is_empty() {
            page.push_str(&format!("{name}: nothing stands in the way of a switchover\n"));
        } else {
            refused = true;
            let refusal = dr_core::base::Refusal { subject: name.to_string(), findings: findings.clone() };
            page.push_str(&Stop::from(&refusal).page);
        }
        found.push(json!({"group": name, "findings": findings}));
    }
    let exit = if refused { Exit::Refused } else { Exit::Done };
    screen.reply(&page, &json!({"groups": found, "exit": exit.code()}));
    Ok(exit)
}

fn good(file: &GroupFile) -> String {
    let spec = file.spec();
    let members: Vec<&str> = spec.members.iter().map(|member| member.name.as_str()).collect();
    let drain = if spec.apps.is_empty() { "no [[app]]" } else { "applications can be held back" };
    format!(
        "{}  group `{}` ({}, tier {}) is right: {}; routes: {}, fences: {}, {drain}",
        file.path().display(),
        spec.name,
        spec.environment,
        spec.tier,
        members.join(", "),
        spec.traffic.len(),
        spec.fences.len()
    )
}
