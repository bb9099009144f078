//! Finding what people name: groups by name or file, members, runs. A near miss is answered with what was meant.

use std::path::{Path, PathBuf};

use dr_core::{GroupName, MemberId, RunId, base::text::suggest, contract::KeyPath};
use dr_engine::GroupFile;

use crate::exit::Stop;

/// All group files of a directory with the names that people use for them, sorted.
pub(crate) fn group_files(dir: &Path) -> Result<Vec<(String, PathBuf)>, Stop> {
    let listed = std::fs::read_dir(dir).map_err(|error| {
        let help = ["say where the group files are:  --groups DIR, or DR_GROUPS".to_owned()];
        Stop::input(format!("there are no group files in `{}`: {error}", dir.display()), &help)
    })?;
    let mut files: Vec<(String, PathBuf)> = listed
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    files.sort();
    Ok(files)
}

/// The file of a group: a path as it is, a name as `<dir>/<name>.toml`.
pub(crate) fn group_path(dir: &Path, name: &str) -> Result<PathBuf, Stop> {
    if name.contains('/') || Path::new(name).extension().is_some_and(|end| end == "toml") {
        return Ok(PathBuf::from(name));
    }
    let files = group_files(dir)?;
    if let Some((_, path)) = files.iter().find(|(stem, _)| stem == name) {
        return Ok(path.clone());
    }
    let named = |path: &PathBuf| GroupFile::read(path).is_ok_and(|file| file.spec().name.as_str() == name);
    if let Some((_, path)) = files.iter().find(|(_, path)| named(path)) {
        return Ok(path.clone());
    }
    let known: Vec<&str> = files.iter().map(|(stem, _)| stem.as_str()).collect();
    let mut help = vec![match known.is_empty() {
        true => format!("`{}` has no group files", dir.display()),
        false => format!("groups: {}   in {}", known.join(", "), dir.display()),
    }];
    help.extend(meant(name, &known));
    Err(Stop::input(format!("there is no group `{name}`"), &help))
}

/// Reads the file of a group.
pub(crate) fn group(dir: &Path, name: &str) -> Result<GroupFile, Stop> {
    let path = group_path(dir, name)?;
    GroupFile::read(&path).map_err(|error| Stop::input(crate::exit::chain(&error), &[]))
}

/// The member of this name.
pub(crate) fn member(file: &GroupFile, name: &str) -> Result<MemberId, Stop> {
    let spec = file.spec();
    let wanted = MemberId::new(name);
    if spec.member(&wanted).is_some() {
        return Ok(wanted);
    }
    let known: Vec<&str> = spec.members.iter().map(|member| member.name.as_str()).collect();
    let place = file.place(&KeyPath::root().then("member").then(0));
    let mut help = vec![format!("members: {}   {place}", known.join(", "))];
    help.extend(meant(name, &known));
    Err(Stop::input(format!("group `{}` has no member `{name}`", spec.name), &help))
}

/// The run that people mean: its name, or a group that has exactly one run that is not over.
pub(crate) fn run(all: &[RunId], open: &[RunId], name: &str) -> Result<RunId, Stop> {
    let spoken = name.trim().to_lowercase().replace(' ', "-");
    if let Some(run) = all.iter().find(|run| run.to_string().to_lowercase() == spoken) {
        return Ok(run.clone());
    }
    let of_group: Vec<&RunId> = open.iter().filter(|run| run.group().as_str() == name).collect();
    match of_group.as_slice() {
        [only] => return Ok((*only).clone()),
        [] => {}
        [_, _, ..] => {
            let known: Vec<String> = of_group.iter().map(ToString::to_string).collect();
            let what = format!("`{name}` has several runs that are not over");
            return Err(Stop::input(what, &[format!("say which:  {}", known.join(", "))]));
        }
    }
    let names: Vec<String> = all.iter().map(ToString::to_string).collect();
    let group = GroupName::new(name);
    if let Some(last) = all.iter().filter(|run| *run.group() == group).max_by_key(|run| run.number()) {
        let help = [format!("the last one was {last}")];
        return Err(Stop::input(format!("group `{name}` has no run that is not over"), &help));
    }
    let mut help = vec![match names.is_empty() {
        true => "this journal has no runs; another one is named with --dir or DR_DIR".to_owned(),
        false => {
            let last: Vec<&str> = names.iter().rev().take(5).map(String::as_str).collect();
            format!("runs: {}", last.join(", "))
        }
    }];
    help.extend(meant(&spoken, &names.iter().map(String::as_str).collect::<Vec<_>>()));
    Err(Stop::input(format!("there is no run `{name}`"), &help))
}

fn meant(word: &str, known: &[&str]) -> Option<String> {
    suggest(word, known.iter().copied()).map(|near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(names: &[&str]) -> Vec<RunId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_run_is_found_by_name_by_voice_and_by_its_group() {
        let all = runs(&["orders-16", "orders-17", "billing-2"]);
        let open = runs(&["orders-17"]);
        for name in ["orders-17", "Orders-17", "orders 17", "orders"] {
            assert_eq!(run(&all, &open, name).unwrap().to_string(), "orders-17", "{name}");
        }
        let near = run(&all, &open, "ordesr-17").unwrap_err().page;
        assert_eq!(
            near,
            "error: there is no run `ordesr-17`\n  runs: billing-2, orders-17, orders-16\n  did you mean `orders-17`?\nnothing was sent\n"
        );
        let over = run(&all, &open, "billing").unwrap_err().page;
        assert!(over.contains("group `billing` has no run that is not over\n  the last one was billing-2\n"));
        assert!(run(&[], &[], "orders-1").unwrap_err().page.contains("this journal has no runs"));
    }

    #[test]
    fn an_unknown_group_is_answered_with_those_that_exist() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("orders.toml"), "").unwrap();
        let page = group_path(dir.path(), "order").unwrap_err().page;
        assert!(page.starts_with("error: there is no group `order`\n  groups: orders   in "), "{page}");
        assert!(page.contains("  did you mean `orders`?\n"));
        assert_eq!(group_path(dir.path(), "orders").unwrap(), dir.path().join("orders.toml"));
        assert_eq!(group_path(dir.path(), "./x.toml").unwrap(), PathBuf::from("./x.toml"));
        assert!(group_path(Path::new("/nowhere"), "orders").unwrap_err().page.contains("--groups DIR"));
    }
}
