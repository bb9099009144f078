//! `dr approve`, `dr reject`, `dr decide`: what people say to a run.

use dr_core::{
    APPROVE, Answer, View,
    base::text::suggest,
    run::{Ask, AskKind, REJECT},
};
use serde_json::json;

use crate::{
    Exit, Screen,
    exit::Stop,
    link::{self, Link},
};

/// What shall be answered.
pub(super) struct Wanted<'a> {
    pub(super) choice: &'a str,
    pub(super) code: Option<&'a str>,
    pub(super) note: Option<&'a str>,
}

pub(super) async fn answer(link: &Link, name: &str, wanted: &Wanted<'_>, screen: &mut Screen) -> Result<Exit, Stop> {
    let run = link.find(name).await?;
    let view = link::view(&run).await?;
    let (Some(ask), Some(digest)) = (&view.ask, view.ask_digest) else {
        return Err(Stop::refused(format!("DR302  {} asks nothing now", view.run), &[status(&view)]));
    };
    fits(&view, ask, wanted)?;
    // First what keeps this person from answering: nobody should read and type for nothing.
    let role = link.may_answer(&view, ask, wanted.choice, digest)?;
    if wanted.choice != REJECT {
        confirmed(&view, wanted, screen)?;
    }
    let answer =
        Answer { note: wanted.note.map(str::to_owned), ..Answer::choose(wanted.choice, digest, link.actor()?.clone()) };
    run.answer(answer.clone()).await.map_err(|error| link::stop(&error))?;
    let has = view.given.iter().filter(|given| given.choice == wanted.choice).count() + 1;
    let chosen = ask.choices.iter().find(|choice| choice.name == wanted.choice);
    let needs = chosen.filter(|_| wanted.choice != REJECT).map_or(1, |choice| usize::from(ask.people_for(choice)));
    let role = role.map_or_else(|| answer.by.name.clone(), |role| role.to_string());
    let mut page = format!("{} as {role}.  {has} of {needs}.\n", said(wanted.choice));
    let driven = link::driven(&run).await?;
    if !driven {
        page.push_str(&super::status::nobody(&view));
    }
    let json = json!({
        "run": view.run, "choice": wanted.choice, "as": role, "has": has, "needs": needs, "driven": driven, "exit": 0,
    });
    screen.reply(&page, &json);
    Ok(Exit::Done)
}

fn said(choice: &str) -> String {
    match choice {
        APPROVE => "approved".into(),
        REJECT => "rejected".into(),
        other => format!("decided `{other}`"),
    }
}

fn status(view: &View) -> String {
    format!("it says: {}", view.sentence.text)
}

/// Approvals are for consents, decisions for parked runs: the words are not mixed up in a hurry.
fn fits(view: &View, ask: &Ask, wanted: &Wanted<'_>) -> Result<(), Stop> {
    let names: Vec<&str> = ask.choices.iter().map(|choice| choice.name.as_str()).collect();
    if names.contains(&wanted.choice) {
        return Ok(());
    }
    let verb = match ask.kind {
        AskKind::Consent | AskKind::Waiver => format!("dr approve {0}   or   dr reject {0}", view.run),
        AskKind::Park => format!("dr decide {} CHOICE", view.run),
    };
    let mut help = vec![format!("choices: {}", names.join(", ")), format!("answer with:  {verb}")];
    help.extend(suggest(wanted.choice, names).map(|near| format!("did you mean `{near}`?")));
    Err(Stop::input(format!("DR307  `{}` is no answer to what {} asks", wanted.choice, view.run), &help))
}

fn confirmed(view: &View, wanted: &Wanted<'_>, screen: &mut Screen) -> Result<(), Stop> {
    let code = view.code().unwrap_or_default();
    let question = view.question().unwrap_or_default();
    let typed = match wanted.code {
        Some(code) => code.to_owned(),
        None if screen.interactive() => {
            screen.page(&question);
            let verb = if wanted.choice == APPROVE { "approve" } else { "decide" };
            screen.ask(&format!("type the code to {verb}, anything else leaves it open: "))
        }
        None => {
            let help = [
                format!("read the question and its code with:  dr status {}", view.run),
                "then give it back with --code; no option skips a question".to_owned(),
            ];
            return Err(Stop::input("the code of the question is needed", &help));
        }
    };
    if typed.trim().eq_ignore_ascii_case(&code) {
        return Ok(());
    }
    if wanted.code.is_none() {
        return Err(Stop::waits("the code does not match; the question stays open", &[]));
    }
    let help = [
        "the question may have changed since it was read; this is what is asked now:".to_owned(),
        question.trim_end().replace('\n', "\n  "),
    ];
    Err(Stop::refused(format!("DR301  `{typed}` is not the code of what {} asks now", view.run), &help))
}
