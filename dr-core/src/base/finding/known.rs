//! The registry of findings: every number that an engine or a runbook may refuse with, and what it means.
//!
//! ```text
//!  100 to 199   rules over plans (`verify`)           400 to 499   transitions of a run
//!  200 to 299   findings of the core                  500 to 599   transitions of a step
//!  300 to 399   refused answers and requests          900 and up   programs that are built on this library
//!  600 to 699   findings of the engine
//! ```
//!
//! A [`Finding`](crate::base::Finding) is made of a row of this registry, so a number that is not listed cannot be said.

/// One thing that can be found: its number, its name, what it means, why it matters, and what helps in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The number, as in `DR213`. Stable, with gaps.
    pub number: u16,
    /// A short name.
    pub name: &'static str,
    /// What is so when it is found.
    pub means: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// What helps when a finding does not say it more exactly.
    pub helps: &'static str,
}

macro_rules! known {
    ($($id:ident = $number:literal, $name:literal: $means:literal, why $why:literal, helps $helps:literal;)*) => {
        $(
            #[doc = concat!("DR", stringify!($number), ": ", $means, ".")]
            pub const $id: Known = Known { number: $number, name: $name, means: $means, why: $why, helps: $helps };
        )*
        /// Every finding of the library, in the order of the numbers.
        pub const ALL: &[Known] = &[$($id),*];
    };
}

known! {
    STRANGER = 201, "stranger": "a member follows, or is followed by, a resource that the group file does not list",
        why "it would be left behind on a history that nobody continues, or be the real writer",
        helps "list it as a [[member]]: `role = \"follower\"` if it has to follow the new writer, `role = \"reader\"` if it is only to be known";
    CASCADE = 202, "cascade": "a standby follows another standby",
        why "a cascade cannot be promoted from the middle without rebuilding its end",
        helps "let every standby follow the writer directly";
    FOLLOWER_WRITES = 203, "follower-writes": "a member follows another one and accepts writes",
        why "its own writes are on no other member",
        helps "find out who writes there, and look again";
    SEVERAL_WRITERS = 204, "several-writers": "more than one member follows nobody and may take writes",
        why "two writers have two histories, and one of them will be lost",
        helps "fence all but one, and look again";
    NO_WRITER = 205, "no-writer": "no member calls itself writer, and it is not known which one was",
        why "a promotion needs to know whose history it continues",
        helps "see what the members say about themselves with `dr status`, and repair that first";
    NO_HISTORY = 206, "no-history": "nobody can say which history the writer carries",
        why "a fence and a promotion are bound to one history",
        helps "make the writer or a standby of it answer, and look again";
    WRITER_UNSURE = 207, "writer-unsure": "only the provider of the writer answers, and another member is silent",
        why "the silent member may be the writer",
        helps "make the silent member answer, or give the probe access to the other one";
    FORMER_WRITES = 208, "former-writes": "a former primary takes writes on the history that a run promoted another member away from",
        why "what is written there is on no other member, and will be lost",
        helps "fence or stop the former primary, and keep its data; then plan again";
    STALE = 209, "stale": "what is known of a member is older than `limits.fact_age`",
        why "roles may have changed since",
        helps "look again when the provider answers afresh, or raise `limits.fact_age`";
    NOT_RECEIVING = 210, "not-receiving": "the candidate receives nothing from the writer",
        why "it would not get what is written from now on",
        helps "attach it again, or rebuild it";
    LAG_UNKNOWN = 211, "lag-unknown": "the candidate's lag is not known",
        why "the lag is waited for while writes are held back; an unknown one is no small one",
        helps "wait until it is smaller, or make the metric readable";
    LAG_TOO_LARGE = 212, "lag-too-large": "the candidate's lag is above `limits.lag_before_drain`",
        why "the lag is waited for while writes are held back; an unknown one is no small one",
        helps "wait until it is smaller, or make the metric readable";
    OTHER_HISTORY = 213, "other-history": "the candidate's lineage is unknown, or not that of the writer",
        why "promoting another history, or an unknown one, loses what the writer has",
        helps "rebuild it from the writer, or make its lineage readable";
    LONG_TRANSACTION = 214, "long-transaction": "a transaction on the writer is older than `limits.long_transaction`",
        why "the drain would wait for it, or cut it off",
        helps "let it end";
    EXTENSION_MISSING = 215, "extension-missing": "an extension of the writer is missing on the candidate",
        why "statements that use it would fail after the promotion",
        helps "install it there";
    OTHER_VERSION = 216, "other-version": "writer and candidate run different major versions",
        why "applications would meet another engine",
        helps "upgrade one of them first";
    UNHEALTHY = 217, "unhealthy": "a member is not healthy",
        why "a role change on an unhealthy server is one more fault",
        helps "repair it first";
    PROVIDER_AT_WORK = 218, "provider-at-work": "the provider is at work on a member",
        why "it would refuse the role change, or do it later",
        helps "wait for its end";
    NOT_OFFERED = 219, "not-offered": "the provider offers no promotion of this kind",
        why "there is no call that would make it the writer",
        helps "look at edition and topology; the other kind of operation may be offered";
    NO_SUCH_MEMBER = 220, "no-such-member": "the group has no member of this name that could become the writer",
        why "there is nothing to promote",
        helps "name a member of the group";
    IS_THE_WRITER = 221, "is-the-writer": "the member is the writer already",
        why "there is nothing to change",
        helps "name another member, or nothing: it is where it should be";
    OFFERS_UNKNOWN = 222, "offers-unknown": "the candidate's provider does not say what it can do",
        why "a promotion that nobody offers cannot be planned",
        helps "make its provider answer";
    SILENT_MEMBER = 223, "silent-member": "a side of a planned change does not answer",
        why "a planned operation reads both sides, or stops",
        helps "make it answer; a writer that is down is failed over";
    NO_FENCE = 224, "no-fence": "nothing can keep the former primary from writing",
        why "a promotion beside a primary that may still write makes two writers",
        helps "list a `[[fence]]` in the group file";
    WEAK_FENCE = 225, "weak-fence": "the fences of the former primary are worth less than the change needs",
        why "some way to write would stay open",
        helps "add a fence that closes it: new sessions, open sessions, jobs, restart";
    GAP_BUDGET_TOO_LONG = 226, "gap-budget-too-long": "a drain may last longer than clients wait",
        why "every client would see an error before the drain is given back",
        helps "make `limits.gap_budget` smaller, or the clients' own limit larger";
    NO_TARGET_NAMED = 227, "no-target-named": "the group has not exactly one candidate beside the writer, and none was named",
        why "which one becomes the writer is not said",
        helps "name it";
    PRIMARY_IS_ALIVE = 229, "primary-is-alive": "a failover was asked for, and the primary is alive",
        why "a failover would lose its last writes and could make a second writer",
        helps "plan a switchover";
    OBSTACLE = 240, "obstacle": "the rehearsal found something that the change would fail on after the promotion",
        why "it would be found for the first time while nobody can write",
        helps "see the finding: each obstacle brings its own remedy";
    UNSEEN_DROPS = 241, "unseen-drops": "an automatic change would drop something beyond the log",
        why "nobody is asked in automatic mode, so nobody would agree to that by name",
        helps "take `switchover` out of `[automatic]` for this change, or remove what would be dropped";
    SILENT_WRITER = 242, "silent-writer": "a member shall follow a writer that does not answer",
        why "nobody can follow a server that is silent",
        helps "make it answer, or plan a failover";
    NOT_A_CANDIDATE = 243, "not-a-candidate": "the group file gives the member another role than `candidate`",
        why "it was set up to follow or to be read, and nobody agreed that it may write",
        helps "name a candidate, or give the member `role = \"candidate\"` in the group file";
    NOWHERE_TO_GO = 244, "nowhere-to-go": "no member but the writer may become the writer",
        why "a change of the writer needs another candidate",
        helps "list a second [[member]] with `role = \"candidate\"`, or make a former primary follow again";
    MOST_ADVANCED = 245, "most-advanced": "another candidate has received more of the silent writer's history than the one that shall be promoted",
        why "promoting the one that has less loses what only the other one has, and the other one cannot follow it then without being rebuilt",
        helps "fail over to the most advanced candidate, or take the loss by name: `--although-behind <reason>`";
    FENCE_WOULD_STAY = 246, "fence-would-stay": "a fence that replication carries along could not be cleared on the candidate",
        why "the new writer would refuse its own applications for as long as nobody lifts the fence by hand",
        helps "list the `[[fence]]` for every member, not for one";
    IS_NO_WRITER = 250, "is-no-writer": "applications shall be pointed at a member that is no writer",
        why "they could not write there",
        helps "redirect to the writer, or plan a switchover first";
    NOTHING_TO_POINT = 251, "nothing-to-point": "the group has no secret and no route that a redirect could point at its writer",
        why "the run would do nothing",
        helps "list `[[secret]]` and `[[traffic]]` in the group file, if the group has any";
    ABSENT_MEMBER = 252, "absent-member": "a member does not exist: its provider was asked and knows no such resource",
        why "nothing can be promoted or attached there",
        helps "correct its address in the group file, create it, or mark it `planned = true` until it is there";

    STALE_ANSWER = 301, "stale-answer": "what was shown to whoever answers is not what is asked now",
        why "an approval means what was seen, and nothing else",
        helps "look again with `dr status` or `dr watch`, and answer with the new code";
    NOTHING_ASKED = 302, "nothing-asked": "the run asks nothing now",
        why "an answer without a question would be counted for another one",
        helps "see what it does with `dr status`";
    WRONG_ROLE = 303, "wrong-role": "whoever answers or steers has none of the roles that may",
        why "the group file says whose word counts",
        helps "ask somebody with the role; roles stand in /etc/dr/people.toml";
    ANSWERED_ALREADY = 304, "answered-already": "this person, or one who may be the same, has answered",
        why "two approvals are two people",
        helps "ask another person";
    REQUESTER = 305, "requester": "whoever answers asked for the run, or may have",
        why "nobody approves what they asked for",
        helps "ask another person";
    QUESTION_EXPIRED = 306, "question-expired": "the time of the question is over",
        why "what was shown may not be so any more",
        helps "make a new plan, and start it";
    NO_SUCH_CHOICE = 307, "no-such-choice": "the question has no such choice",
        why "a word that means nothing must not be read as a yes",
        helps "the choices stand in the question: `dr status RUN`";
    DECIDED_ALREADY = 308, "decided-already": "the question was decided",
        why "a decision that came second must not undo the first one",
        helps "see what the run does now with `dr status`";
    NO_WAY_BACK = 311, "no-way-back": "the run cannot turn back any more: the promotion may have been sent",
        why "the former primary may be a standby already, and a second writer cannot be taken back",
        helps "let it go on, or decide where it parks; a failback is a switchover of its own";
    OVER = 312, "over": "the run is over",
        why "nothing of it goes on that could be steered",
        helps "`dr report RUN` says what it came to";
    NO_GUARD = 601, "no-guard": "the drain does not end by itself, and no guard process is available",
        why "if this process died during the drain, writes would stay stopped until a person comes",
        helps "say `guarded_by` with the `dr` binary, or choose `unguarded` by name";
    CLIENT_LIMIT_UNKNOWN = 602, "client-limit-unknown": "the application tier does not say how long clients wait",
        why "a drain must end before clients give up",
        helps "make the tier reachable, and check again";
    READ_FAILED = 603, "read-failed": "a read of a member gave no answer",
        why "a planned operation reads every member again and again",
        helps "make it reachable with the credentials of the group file";
    NOT_OPENED = 604, "not-opened": "a backend does not open what a kept group names",
        why "a run acts only on the resources that its plan names",
        helps "start the engine with the backends that the plan was made with";
    GROUP_WITHOUT_HASH = 605, "group-without-hash": "the group's configuration cannot be written canonically",
        why "a plan is bound to its group by a hash",
        helps "use the type that the message names";
    REPLACED = 606, "replaced": "a member of a plan is another resource than the one that the plan was approved for",
        why "the plan was approved for another resource: its data and its history are not those of this one",
        helps "make a new plan from what is there now";
    GROUP_CHANGED = 607, "group-changed": "the group file says something else than when the plan was made",
        why "a plan is approved under the roles, limits and budgets of its group file; an older plan would be a way round stricter ones",
        helps "make a new plan";
    STORE_IS_MOVED = 608, "store-is-moved": "the engine keeps its runs in a database system that the plan moves",
        why "behind the fence the run could not write down what it does, and no other engine could go on with it",
        helps "keep the runs on a database server that no run moves";
}

/// The registry as a Markdown table, for the docs.
#[must_use]
pub fn markdown() -> String {
    use std::fmt::Write as _;
    let mut text =
        String::from("| number | name | what is so | why it matters | what helps |\n|---|---|---|---|---|\n");
    for Known { number, name, means, why, helps } in ALL {
        let _infallible = writeln!(text, "| DR{number} | {name} | {means} | {why} | {helps} |");
    }
    text
}
