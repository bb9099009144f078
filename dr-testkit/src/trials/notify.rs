//! What a notifier does.

use dr_core::contract::{Notice, Occasion};

use super::{
    Case, Contract,
    Need::{Part as Has, Sight as Sees},
    Part, Sight, Stop, trials,
};

trials! { Contract::Notifier;
    Changed tells "notify::people_are_told"
        shows "A way to tell people." needs [Has(Part::Notifier), Sees(Sight::Notices)];
    Changed once "notify::the_same_key_twice_is_one_notice"
        shows "The same key twice is the same notice (D32)." needs [Has(Part::Notifier), Sees(Sight::Notices)];
}

fn notice(c: &Case, key: &str) -> Notice {
    let text = "a person must decide".into();
    Notice { key: format!("trials-1/{key}"), run: c.run.clone(), urgent: true, occasion: Occasion::Parked, text }
}

async fn tells(c: &Case) -> Result<(), Stop> {
    let (notifier, before) = (c.notifier()?, c.see(Sight::Notices).await?);
    c.ok("the notice is sent", notifier.notify(notice(c, "one")).await)?;
    c.same("people got one", &c.see(Sight::Notices).await?, &before.saturating_add(1));
    c.ok("another one is sent", notifier.notify(notice(c, "two")).await)?;
    c.same("people got two", &c.see(Sight::Notices).await?, &before.saturating_add(2));
    Ok(())
}

async fn once(c: &Case) -> Result<(), Stop> {
    let (notifier, before) = (c.notifier()?, c.see(Sight::Notices).await?);
    c.ok("the notice is sent", notifier.notify(notice(c, "same")).await)?;
    c.ok("sending it again is no error", notifier.notify(notice(c, "same")).await)?;
    c.same("people got one", &c.see(Sight::Notices).await?, &before.saturating_add(1));
    Ok(())
}
