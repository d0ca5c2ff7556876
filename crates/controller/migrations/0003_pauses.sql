-- Automation and schedules that are off for a while.

CREATE TABLE pauses (
    -- Empty: all components.
    component    TEXT    PRIMARY KEY,
    since        INTEGER NOT NULL,
    until        INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    -- Who paused: `operator/ada`.
    by           TEXT    NOT NULL
);
