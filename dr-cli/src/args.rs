//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "dr",
    version,
    about = "Moves the writer of a group of databases: planned, previewed, approved, and taken back when it does not work out",
    after_help = crate::exit::TABLE,
    after_long_help = LONG,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Places {
    /// The directory of the journal; it must not lie in a database that is moved, nor on a network file system
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) dir: Option<PathBuf>,
    /// The directory of the group files
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) groups: Option<PathBuf>,
    /// Work in a directory that `dr demo` made: simulated databases, a journal of its own, and three built-in people
    #[arg(long, global = true, value_name = "DIR", conflicts_with_all = ["dir", "groups"], help_heading = "Everywhere")]
    pub(crate) sandbox: Option<PathBuf>,
    /// Who you are in the sandbox: mira asks, ana (dba) and ben (service-owner) approve
    #[arg(long = "as", global = true, value_name = "NAME", requires = "sandbox", help_heading = "Everywhere")]
    pub(crate) acting: Option<String>,
    /// Print one JSON value instead of a page (start, watch and resume: one per line)
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

const LONG: &str = "\
A switchover, from the beginning to the end:
  dr check orders                                            is the group file right?
  dr plan switchover orders --to weu --save orders.plan      what would be done; nothing is changed
  dr start orders.plan --because CHG-4711                    run it; it asks before its first change
  dr approve orders-17                                       another person, in another terminal
  dr watch orders-17                                         what it does and holds right now
  dr report orders-17                                        what it came to

When something is in the way:
  dr status                     what is true, what runs, what waits for you
  dr decide orders-17 look      answers a parked run
  dr debts                      what runs left to people
  dr explain DR205              what a number means, and what helps
  dr notify test orders         can everybody be told who shall be?
  dr resume orders-17           goes on after a crash, a Ctrl-C or a pause
  dr cancel orders-17           turns back, as long as that is possible
  dr finish orders-17           ends it where applications write and it only waits

Who may approve stands in /etc/dr/people.toml, which belongs to root (name, uid, roles); whoever is not in it has no role.
To try everything alone:  dr demo

Environment:
  DR_DIR      as --dir; without both it is /var/lib/dr
  DR_GROUPS   as --groups; without both it is ./groups
  NO_COLOR    no colour on terminals

Exit codes:
   0  done, or nothing to say
   2  wrong input; nothing was sent
   3  refused by a rule; nothing was changed
   4  waits for a person (asking, parked, paused, or left where it is)
   5  ended in a known state that is not success (turned back, cancelled, handed over)
   6  evidence does not verify
  70  a bug of ours; the run is untouched and can be resumed";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a sandbox: two simulated databases with clients that write, and people to play; says what to type next
    ///
    /// Nothing outside the directory is touched. Remove the directory when you have seen enough.
    Demo {
        /// The directory to make
        #[arg(default_value = "dr-demo")]
        into: PathBuf,
    },
    /// Kills a simulated database of a sandbox, to practise a failover; works in no other place
    Break {
        /// A group's name or file
        group: String,
        /// The member that dies
        member: String,
    },
    /// Reads group files and says what is wrong with them, with line and suggestion
    ///
    /// Changes nothing, and calls nobody unless --look is given. Without a name it reads all group files.
    Check {
        /// A group's name or file; all of them without it
        group: Option<String>,
        /// Look at the databases, too: what would keep a switchover from working, or make it unsafe
        #[arg(long)]
        look: bool,
    },
    /// Says what a number such as DR205 means, why it matters and what helps
    ///
    /// Without a number it lists all of them: rules over plans, findings, refused answers, transitions.
    Explain {
        /// The number, with or without DR, or its name such as no-writer
        what: Option<String>,
    },
    /// Verifies the evidence of a run, and names what was changed and where; needs no journal and no network
    ///
    /// Ends with 0 if it is valid, with 4 if the run was not over when it was sealed, and with 6 if anything was changed or nobody
    /// vouches for it. `dr-evidence` does the same without the rest of this program.
    Verify {
        /// The directory of the bundle
        bundle: PathBuf,
        /// A root key that you trust, as `dr-evidence export-key` prints it, or a file that holds it; may be repeated
        #[arg(long, value_name = "KEY")]
        root: Vec<String>,
        /// A checkpoint of the run that you kept elsewhere; may be repeated
        #[arg(long, value_name = "FILE")]
        known: Vec<PathBuf>,
    },
    /// Says which version this is, what it reads and writes, and which backends are compiled in
    Version,
    /// Prints the completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a directory
    Man {
        /// The directory; it is made where it is not there
        into: PathBuf,
    },
    /// Looks at a group and says what a run would do; changes nothing
    ///
    /// The plan is verified against all rules or refused with the reason, why it matters and what helps.
    #[command(subcommand)]
    Plan(PlanVerb),
    /// Starts the run of a saved plan and follows it to its end
    ///
    /// The run asks the people that the plan names before its first change. Ctrl-C leaves the run where it is.
    Start {
        /// The file that `dr plan … --save` wrote
        plan: PathBuf,
        /// Why: a change or incident number; it stands in the journal and the report
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Makes a member that follows nobody a standby of the writer, and follows the run to its end
    ///
    /// Finishes what a switchover or failover left as a debt. It asks like every run; no application notices it. The same as
    /// `dr plan rejoin … --save` and `dr start`.
    Rejoin {
        /// A group's name or file
        group: String,
        /// The member that shall follow
        member: String,
        /// Destroy what only this member has: a rewind, or a new copy of the writer
        #[arg(long)]
        discard: bool,
        /// Why: a change or incident number; it stands in the journal and the report
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Whom runs of a group tell
    #[command(subcommand)]
    Notify(NotifyVerb),
    #[command(flatten)]
    Look(LookVerb),
    #[command(flatten)]
    Act(ActVerb),
    /// Watches over the drain of one run; started by the engine
    #[command(name = "__guard", hide = true)]
    Guard {
        /// The engine's journal
        #[arg(long, value_name = "DIR")]
        journal: PathBuf,
        /// The engine's leases
        #[arg(long, value_name = "DIR")]
        leases: PathBuf,
        /// The run
        #[arg(long)]
        run: String,
    },
}

/// The verbs that only look.
#[derive(Debug, Subcommand)]
pub(crate) enum LookVerb {
    /// Follows a run; changes nothing
    Watch {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// Print the state once and leave
        #[arg(long)]
        once: bool,
    },
    /// Says what is true: of all groups, of one, or of a run
    Status {
        /// A group or a run; all groups without it
        of: Option<String>,
    },
    /// Lists all runs of the journal, the latest first
    List {
        /// Only those of this group
        group: Option<String>,
        /// Only those that are not over
        #[arg(long)]
        open: bool,
    },
    /// Lists what runs left to people, and closes what nobody has to do any more
    ///
    /// A later run that does the work closes a debt by itself: `dr rejoin` that of a member, `dr plan redirect` that of a secret.
    #[command(args_conflicts_with_subcommands = true)]
    Debts {
        /// Only those of this group
        group: Option<String>,
        #[command(subcommand)]
        verb: Option<DebtVerb>,
    },
    /// Says what a run came to: write gap, loss, time by phase, what is left to do
    Report {
        /// The run, such as orders-17
        run: String,
        /// Write the report as one HTML file
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

/// The verbs by which people act on a run.
#[derive(Debug, Subcommand)]
pub(crate) enum ActVerb {
    /// Approves what a run asks
    ///
    /// Shows the question and wants its code typed, so that nobody approves what he did not read. Without a terminal the
    /// code comes with --code. Whoever asked for the run cannot approve it.
    Approve {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// The code of the question that was read
        #[arg(long)]
        code: Option<String>,
        /// A note that stands in the journal
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Refuses what a run asks; one person suffices, and the run turns back
    Reject {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// Why; it stands in the journal
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Answers a parked run with one of the choices that it offers
    Decide {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// The choice, as `dr status RUN` lists them
        choice: String,
        /// The code of the question that was read
        #[arg(long)]
        code: Option<String>,
        /// A note that stands in the journal
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Begins nothing new in a run; what is under way is driven to a known end
    ///
    /// What the run holds stays held: in the write gap, applications cannot write until it goes on.
    Pause {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// Why; it stands in the journal
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Goes on with a run: after a crash, a Ctrl-C or a pause
    ///
    /// What was sent is never sent again blindly: first the provider is asked what is true.
    Resume {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// Take the run from an engine that still lives; that one can then send nothing more
        #[arg(long)]
        take_over: bool,
    },
    /// Ends a run whose applications write again: what it still waits for is owed, and another run can begin
    ///
    /// It takes effect when nothing is left but work for which nobody waits, such as the way back to a pair.
    Finish {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// Why; it stands in the journal
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Turns a run back and gives back what it took, as long as that is possible
    Cancel {
        /// The run, such as orders-17, or a group with one open run
        run: String,
        /// Why; it stands in the journal
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
}

/// What to do with those who are told.
#[derive(Debug, Subcommand)]
pub(crate) enum NotifyVerb {
    /// Sends one test notice to everybody whom the group file names, and shows each answer
    ///
    /// Ends with 0 only if all took it. No run is needed, and nothing is changed.
    Test {
        /// A group's name or file
        group: String,
        /// Only this one: its `with`, and a number for the second of its kind (`slack-2`)
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
}

/// What to do with a debt.
#[derive(Debug, Subcommand)]
pub(crate) enum DebtVerb {
    /// Closes a debt: nothing is left to do
    Close {
        /// The debt, such as orders-17/rejoin
        id: String,
        /// Why nothing is left to do; it is kept with your name
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// What to plan.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanVerb {
    /// A planned change of the writer: nothing acknowledged is lost, or it stops
    Switchover {
        /// A group's name or file
        group: String,
        /// The member that shall write
        #[arg(long, value_name = "MEMBER")]
        to: String,
        #[command(flatten)]
        how: PlanOptions,
    },
    /// A planned change of the writer that leaves secrets and routes as they are; a redirect moves them later
    Promotion {
        /// A group's name or file
        group: String,
        /// The member that shall write
        #[arg(long, value_name = "MEMBER")]
        to: String,
        /// Why the secrets and routes stay; people read it before they agree
        #[arg(long, value_name = "TEXT")]
        because: String,
        #[command(flatten)]
        how: PlanOptions,
    },
    /// Secrets and routes are pointed at the writer that is there; nobody is promoted
    Redirect {
        /// A group's name or file
        group: String,
        /// The writer
        #[arg(long, value_name = "MEMBER")]
        to: String,
        #[command(flatten)]
        how: PlanOptions,
    },
    /// The writer is silent: fence it, bound the loss, promote another member
    Failover {
        /// A group's name or file
        group: String,
        /// The member that shall write
        #[arg(long, value_name = "MEMBER")]
        to: String,
        #[command(flatten)]
        accepts: Risks,
        #[command(flatten)]
        how: PlanOptions,
    },
    /// A member that follows nobody becomes a standby of the writer; no application notices
    Rejoin {
        /// A group's name or file
        group: String,
        /// The member that shall follow
        #[arg(long, value_name = "MEMBER")]
        member: String,
        /// Destroy what only this member has: a rewind, or a new copy of the writer
        #[arg(long)]
        discard: bool,
        #[command(flatten)]
        how: PlanOptions,
    },
    /// A runbook that was compiled into this program
    With {
        /// The runbook's name
        runbook: String,
        /// A group's name or file
        group: String,
        #[command(flatten)]
        how: PlanOptions,
    },
    /// Shows a saved plan again
    Show {
        /// The file that `dr plan … --save` wrote
        plan: PathBuf,
        /// As Markdown: every step with its limits and the provider's own commands, to finish a run by hand
        #[arg(long)]
        markdown: bool,
    },
}

/// What whoever plans a failover takes upon themselves; people are shown the reasons before they agree.
#[derive(Args, Clone, Debug)]
pub(crate) struct Risks {
    /// Nobody can fence the silent writer: two writers are possible, and two people are asked
    #[arg(long, value_name = "REASON")]
    pub(crate) without_fence: Option<String>,
    /// Another candidate has received more than this one; what only that one has is lost
    #[arg(long, value_name = "REASON")]
    pub(crate) although_behind: Option<String>,
}

/// How a plan is shown and kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlanOptions {
    /// Write the plan to this file; `dr start` runs exactly what is in it
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Begin at any time, although the group has windows for it; people read the reason before they agree
    #[arg(long, value_name = "REASON")]
    pub(crate) outside_window: Option<String>,
    /// Show every fact that the plan rests on
    #[arg(long)]
    pub(crate) all: bool,
    /// As Markdown: every step with its limits and the provider's own commands, to finish a run by hand
    #[arg(long)]
    pub(crate) markdown: bool,
}

impl Places {
    /// The journal's directory.
    pub(crate) fn journal(&self) -> PathBuf {
        let made = self.sandbox.as_ref().map(|dir| dir.join("journal"));
        let named = made.or_else(|| self.dir.clone()).or_else(|| std::env::var_os("DR_DIR").map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from("/var/lib/dr"))
    }

    /// The directory of the group files.
    pub(crate) fn groups(&self) -> PathBuf {
        let made = self.sandbox.as_ref().map(|dir| dir.join("groups"));
        let named = made.or_else(|| self.groups.clone()).or_else(|| std::env::var_os("DR_GROUPS").map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from("groups"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_part_of_it_is_explained() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        command.clone().debug_assert();
        let mut open = vec![command];
        while let Some(next) = open.pop() {
            for verb in next.get_subcommands() {
                assert!(verb.get_about().is_some(), "{} has no help", verb.get_name());
                for argument in verb.get_arguments() {
                    assert!(argument.get_help().is_some(), "{} {} has no help", verb.get_name(), argument.get_id());
                }
                open.push(verb.clone());
            }
        }
    }
}
