//! `dr demo`: a sandbox for one person.

use std::path::Path;

use serde_json::json;

use crate::{Exit, Screen, exit::Stop, sandbox};

pub(super) fn demo(into: &Path, screen: &mut Screen) -> Result<Exit, Stop> {
    sandbox::make(into)?;
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
         Remove {dir} when you have seen enough.\n"
    );
    screen.reply(&page, &json!({"sandbox": into, "people": ["mira", "ana", "ben"], "exit": 0}));
    Ok(Exit::Done)
}
