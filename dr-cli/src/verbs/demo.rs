//! `dr demo`: a sandbox for one person.

use std::path::Path;

use serde_json::json;

use crate::{
    App, Exit, Screen,
    args::Places,
    exit::{Stop, chain},
    files,
    link::Link,
    sandbox,
    sim::Simulated,
};

pub(super) async fn demo(app: &App, into: &Path, screen: &mut Screen) -> Result<Exit, Stop> {
    sandbox::make(into)?;
    // The journal is there from the beginning: what is seen of the databases is kept in it.
    let places = Places { dir: None, groups: None, sandbox: Some(into.to_owned()), acting: None, json: false };
    drop(Link::open(app, &places).await?);
    let dir = into.display();
    let page = format!(
        "{dir} holds two simulated databases, neu (the writer) and weu, and clients that write. You play three people.\n\
         \n\
         A switchover, in one terminal:\n\
         \x20 dr --sandbox {dir} plan switchover orders --to weu --save {dir}/orders.plan\n\
         \x20 dr --sandbox {dir} start {dir}/orders.plan --because 'a first try'\n\
         It asks. In another terminal, with the code that it shows:\n\
         \x20 dr --sandbox {dir} --as ana approve orders\n\
         \x20 dr --sandbox {dir} --as ben approve orders\n\
         Then:\n\
         \x20 dr --sandbox {dir} report orders-1\n\
         \n\
         To see what it does when its engine dies, kill the terminal of `start` in the middle, and:\n\
         \x20 dr --sandbox {dir} status\n\
         \x20 dr --sandbox {dir} resume orders\n\
         \n\
         To see a failover, look once (what is seen now bounds the loss later), kill the writer, and plan:\n\
         \x20 dr --sandbox {dir} status orders\n\
         \x20 dr --sandbox {dir} break orders neu\n\
         \x20 dr --sandbox {dir} plan failover orders --to weu --save {dir}/failover.plan\n\
         \n\
         Remove {dir} when you have seen enough.\n"
    );
    screen.reply(&page, &json!({"sandbox": into, "people": ["mira", "ana", "ben"], "exit": 0}));
    Ok(Exit::Done)
}

/// Kills a member of a sandbox.
pub(super) fn kill(places: &Places, group: &str, member: &str, screen: &mut Screen) -> Result<Exit, Stop> {
    let Some(dir) = &places.sandbox else {
        let help = ["make one with:  dr demo".to_owned(), "then:  dr --sandbox dr-demo break orders neu".to_owned()];
        return Err(Stop::refused("only a simulated database of a sandbox can be killed", &help));
    };
    let file = files::group(&places.groups(), group)?;
    let member = files::member(&file, member)?;
    let killed = Simulated::in_dir(dir.join("sim")).kill(file.spec(), &member);
    killed.map_err(|error| Stop::input(chain(&error), &[]))?;
    let page = format!("{member} is dead. See it:  dr --sandbox {} status\n", dir.display());
    screen.reply(&page, &json!({"member": member, "dead": true, "exit": 0}));
    Ok(Exit::Done)
}
