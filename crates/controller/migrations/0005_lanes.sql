-- How far each schedule is with each of its components.

CREATE TABLE lanes (
    -- The schedule's id: one that is deleted and declared anew begins anew.
    schedule       TEXT    NOT NULL,
    component      TEXT    NOT NULL,
    -- The times that `done` was computed by, in words. Others begin at the present.
    timing         TEXT    NOT NULL,
    -- Every planned moment up to this one is decided.
    done           INTEGER NOT NULL,
    -- Grows when the clock went back so far that planned moments come a second time.
    round          INTEGER NOT NULL,
    -- Runs that were accepted.
    runs           INTEGER NOT NULL,
    -- The planned moment of a run that waits, and why. Null: none waits.
    waiting        INTEGER,
    waiting_for    TEXT    NOT NULL,
    -- The last run that was accepted. Null: there was none.
    last_planned   INTEGER,
    last_operation TEXT    NOT NULL,
    -- Which runs were left out last, in words.
    left_out       TEXT    NOT NULL,
    PRIMARY KEY (schedule, component)
);
