-- The first schema. Ids are 32 hexadecimal digits, instants are microseconds since 1970 by the controller's clock.

-- One row: what this store is and how far its counters are.
CREATE TABLE meta (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    store_id     TEXT    NOT NULL,
    term         INTEGER NOT NULL,
    -- Where it last ran: another machine or path tells a copy from its original.
    machine      TEXT    NOT NULL,
    path         TEXT    NOT NULL,
    -- The highest command sequence that was given out.
    sequence     INTEGER NOT NULL,
    -- The number of the newest event.
    last_event   INTEGER NOT NULL,
    -- Why this store was found to be behind its agents, in words. Empty: it was not.
    behind       TEXT    NOT NULL
);

CREATE TABLE resources (
    kind         INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    id           TEXT    NOT NULL UNIQUE,
    etag         TEXT    NOT NULL,
    spec         BLOB    NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE agents (
    name             TEXT    PRIMARY KEY,
    site             TEXT    NOT NULL,
    key_fingerprint  TEXT    NOT NULL,
    encryption_key   TEXT    NOT NULL DEFAULT '',
    serial           TEXT    NOT NULL DEFAULT '',
    cert_until       INTEGER,
    build            TEXT    NOT NULL DEFAULT '',
    last_heard       INTEGER,
    highest_term     INTEGER NOT NULL DEFAULT 0,
    highest_sequence INTEGER NOT NULL DEFAULT 0,
    refused_calls    INTEGER NOT NULL DEFAULT 0,
    revoked          INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE tokens (
    hash         TEXT    PRIMARY KEY,
    site         TEXT    NOT NULL,
    agent        TEXT    NOT NULL,
    expires      INTEGER NOT NULL,
    used_at      INTEGER
);

CREATE TABLE operators (
    name         TEXT    PRIMARY KEY,
    role         TEXT    NOT NULL,
    revoked      INTEGER NOT NULL DEFAULT 0,
    serial       TEXT    NOT NULL DEFAULT '',
    cert_until   INTEGER
);

CREATE TABLE revoked_serials (
    serial       TEXT    PRIMARY KEY,
    reason       TEXT    NOT NULL,
    at           INTEGER NOT NULL
);

CREATE TABLE assignments (
    agent        TEXT    PRIMARY KEY,
    revision     INTEGER NOT NULL,
    digest       TEXT    NOT NULL,
    bytes        BLOB    NOT NULL
);

CREATE TABLE operations (
    id             TEXT    PRIMARY KEY,
    -- Grows with each acceptance: the order of lists and pages.
    number         INTEGER NOT NULL UNIQUE,
    kind           TEXT    NOT NULL,
    phase          TEXT    NOT NULL,
    ended          INTEGER NOT NULL,
    component      TEXT    NOT NULL,
    instance       TEXT    NOT NULL,
    repository     TEXT    NOT NULL,
    cause          TEXT    NOT NULL,
    parent         TEXT    NOT NULL,
    created        INTEGER NOT NULL,
    finished       INTEGER,
    -- The version of what `journal` holds, and it: JSON, see docs/formats/journal.md.
    state_version  INTEGER NOT NULL,
    journal        TEXT    NOT NULL,
    last_event     INTEGER NOT NULL
);
CREATE INDEX operations_running ON operations (ended, number);
CREATE INDEX operations_component ON operations (component, number);

CREATE TABLE events (
    number       INTEGER PRIMARY KEY,
    operation    TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    text         TEXT    NOT NULL,
    -- The operation after it, as muster.v1.Operation.
    snapshot     BLOB    NOT NULL
);
CREATE INDEX events_operation ON events (operation, number);

CREATE TABLE requests (
    caller       TEXT    NOT NULL,
    request_id   TEXT    NOT NULL,
    digest       TEXT    NOT NULL,
    operation    TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
);
CREATE INDEX requests_at ON requests (at);

CREATE TABLE commands (
    id           TEXT    PRIMARY KEY,
    operation    TEXT    NOT NULL,
    step         TEXT    NOT NULL,
    agent        TEXT    NOT NULL,
    sequence     INTEGER NOT NULL UNIQUE,
    -- The term it was first issued in; it is sent under the present one.
    term         INTEGER NOT NULL,
    issued_at    INTEGER NOT NULL,
    -- As muster.agent.v1.Command.
    bytes        BLOB    NOT NULL,
    -- As muster.agent.v1.TaskOutcome. Null: not heard yet.
    outcome      BLOB
);
CREATE INDEX commands_agent ON commands (agent, sequence);
CREATE INDEX commands_operation ON commands (operation);

-- Outcomes of commands that this store never issued: it was restored from an older copy.
CREATE TABLE strays (
    command      TEXT    PRIMARY KEY,
    agent        TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    outcome      BLOB    NOT NULL
);

-- What each agent remembered of its controllers when it last said hello.
CREATE TABLE memories (
    agent        TEXT    PRIMARY KEY,
    term         INTEGER NOT NULL,
    sequence     INTEGER NOT NULL,
    store_id     TEXT    NOT NULL
);

CREATE TABLE points (
    id           TEXT    PRIMARY KEY,
    component    TEXT    NOT NULL,
    instance     TEXT    NOT NULL,
    repository   TEXT    NOT NULL,
    finished     INTEGER NOT NULL,
    -- As muster.v1.RecoveryPoint.
    bytes        BLOB    NOT NULL
);
CREATE INDEX points_component ON points (component, finished);

CREATE TABLE shards (
    component    TEXT    NOT NULL,
    -- Empty: the one unnamed shard.
    shard        TEXT    NOT NULL,
    -- The record as JSON. Null: no writer is known yet, but an epoch that an agent remembers.
    record       TEXT,
    floor_epoch  INTEGER NOT NULL,
    floor_reign  TEXT    NOT NULL,
    PRIMARY KEY (component, shard)
);
