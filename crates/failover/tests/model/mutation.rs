//! Rules of the protocol, each of which can be taken away. The model must find the harm that it prevents.

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// H1: what the inbox holds is not checked again when it is taken up.
    ResumeUnchecked,
    /// H1: a receipt that was given for one move is taken for another.
    ReceiptOfAnyMove,
    /// H2: a writer that was started again asks nobody.
    StartUnasked,
    /// H2: nobody compares how much log is held before a start.
    StartBehind,
    /// H5: a candidate confirms a start meanwhile.
    CandidateVouches,
    /// H9, S5: the candidate is not asked again how far it is.
    NoRecheck,
    /// S1: the proof is owed by the last candidate only.
    LastCandidateOnly,
    /// S2: pledges end with the boot.
    BootEndsPledges,
    /// S4: whoever is asked signs.
    AnyoneSigns,
    /// S7: nobody else in the list counts as all others.
    NobodyIsEverybody,
    /// S8: a stored grant is carried out in another boot.
    GrantOutlivesBoot,
    /// P1: a stop takes no lock.
    NoLock,
    /// P3: a stopped writer starts by itself when its limit passes.
    LimitStarts,
    /// P4: a word about the server is taken.
    WordAboutServer,
    /// P5: a server is promoted first, and its permit comes later: an ordinary restart between follows the old writer. Here: the record
    /// that says *promoting* comes after the permit.
    PermitBeforeRecord,
    /// P9: the permit is removed before that is written down.
    RemoveBeforeRecord,
    /// D1, found by this model: a doubled controller confirms a start without having heard the others or the repository.
    ConfirmUnheard,
    /// A controller that was restored moves before everyone reported.
    NoAdopting,
    /// A term that is lower is obeyed.
    LowerTermObeyed,
    /// The server is not stopped before the receipt is signed.
    SignRunning,
    /// A planned move does not wait for the candidate to hold everything.
    MoveBehind,
}
