-- Certificates that were issued and may still be good, so that whoever is revoked is revoked with all of them.

CREATE TABLE certificates (
    serial          TEXT    PRIMARY KEY,
    -- `agent/<name>` or `operator/<name>`.
    subject         TEXT    NOT NULL,
    key_fingerprint TEXT    NOT NULL,
    until           INTEGER NOT NULL
);
CREATE INDEX certificates_subject ON certificates (subject);

-- Keys that are revoked with every certificate that was or will be issued for them.
CREATE TABLE revoked_keys (
    fingerprint     TEXT    PRIMARY KEY,
    reason          TEXT    NOT NULL,
    at              INTEGER NOT NULL
);

-- What calls that are no operations answered, by request id.
CREATE TABLE answers (
    caller          TEXT    NOT NULL,
    request_id      TEXT    NOT NULL,
    digest          TEXT    NOT NULL,
    bytes           BLOB    NOT NULL,
    at              INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
);
CREATE INDEX answers_at ON answers (at);
