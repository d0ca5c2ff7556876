-- The audit log: what was asked that changes something, by whom, and what came of it. Each row's hash covers the row before.
-- docs/formats/audit.md describes the bytes that are hashed.

CREATE TABLE audit (
    number       INTEGER PRIMARY KEY,
    -- Microseconds since 1970, by the controller's clock.
    at           INTEGER NOT NULL,
    -- `asked`, `answered`, `refused`, `machine`, `forgotten`.
    phase        TEXT    NOT NULL,
    -- `operator/ada`, `agent/istanbul/istanbul-db1`, `nobody`, `machine`, `controller`.
    caller       TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    peer         TEXT    NOT NULL,
    rpc          TEXT    NOT NULL,
    resource     TEXT    NOT NULL,
    request_id   TEXT    NOT NULL,
    -- SHA-256 of the request in its canonical form, in hexadecimal digits. Empty: it was refused unread.
    digest       TEXT    NOT NULL,
    -- The number of the row `asked` that this is the outcome of; 0: of none. Of `forgotten`: the last row that was forgotten.
    answers      INTEGER NOT NULL,
    -- `OK`, or the kind of the fault; empty while it is only asked.
    outcome      TEXT    NOT NULL,
    -- gRPC's code.
    code         INTEGER NOT NULL,
    message      TEXT    NOT NULL,
    operation    TEXT    NOT NULL,
    -- Refusals of this caller before this one that were not recorded, for there were too many.
    left_out     INTEGER NOT NULL,
    hash         TEXT    NOT NULL
);
CREATE INDEX audit_answers ON audit (answers);

-- One row: where the chain begins now, and how far it goes. What was forgotten before `first` ended with the hash `anchor`.
CREATE TABLE audit_chain (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    first        INTEGER NOT NULL,
    anchor       TEXT    NOT NULL,
    last         INTEGER NOT NULL,
    head         TEXT    NOT NULL
);
