-- What a person should know: findings that stand, what was raised and cleared, what instances did last.

CREATE TABLE findings (
    -- The rule's name and the subject's text.
    rule         TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    -- As muster.v1.Finding.
    bytes        BLOB    NOT NULL,
    PRIMARY KEY (rule, subject)
);

CREATE TABLE history (
    -- Grows with each entry.
    number       INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    -- Empty: none, or more than one.
    component    TEXT    NOT NULL,
    -- 1: a finding was raised or cleared.
    finding      INTEGER NOT NULL,
    -- As muster.v1.HistoryEntry.
    bytes        BLOB    NOT NULL
);
CREATE INDEX history_at ON history (at, number);

-- What each instance did when it was seen last.
CREATE TABLE sightings (
    component      TEXT    NOT NULL,
    instance       TEXT    NOT NULL,
    role           INTEGER NOT NULL,
    version        TEXT    NOT NULL,
    -- The version before, and since when the present one is there. Empty: no other was seen.
    version_before TEXT    NOT NULL,
    version_since  INTEGER NOT NULL,
    PRIMARY KEY (component, instance)
);

CREATE INDEX operations_created ON operations (created, number);
