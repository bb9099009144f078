//! What a sink of evidence does.

use dr_core::base::canonical;

use super::{
    Case, Contract,
    Need::{Part as Has, Sight as Sees},
    Part, Sight, Stop, trials,
};

trials! { Contract::EvidenceSink;
    Changed seals "seal::is_there_when_it_is_answered"
        shows "Seals the journal of `run` up to `seq`, whose line has the hash `head`."
        needs [Has(Part::Evidence), Sees(Sight::Seals)];
    Changed again "seal::may_be_repeated"
        shows "Awaited before calls that must happen at most once." needs [Has(Part::Evidence), Sees(Sight::Seals)];
}

async fn seals(c: &Case) -> Result<(), Stop> {
    let (sink, before) = (c.evidence()?, c.see(Sight::Seals).await?);
    c.ok("the seal is made", sink.seal(&c.run, 3, canonical::sha256(b"three")).await)?;
    c.same("it is there", &c.see(Sight::Seals).await?, &before.saturating_add(1));
    c.ok("a later one is made", sink.seal(&c.run, 5, canonical::sha256(b"five")).await)?;
    c.same("it is there, too", &c.see(Sight::Seals).await?, &before.saturating_add(2));
    Ok(())
}

async fn again(c: &Case) -> Result<(), Stop> {
    let sink = c.evidence()?;
    c.ok("the seal is made", sink.seal(&c.run, 3, canonical::sha256(b"three")).await)?;
    let before = c.see(Sight::Seals).await?;
    c.ok("the same seal again is no error", sink.seal(&c.run, 3, canonical::sha256(b"three")).await)?;
    let after = c.see(Sight::Seals).await?;
    c.holds("nothing that was sealed is gone", after >= before, &(before, after));
    Ok(())
}
