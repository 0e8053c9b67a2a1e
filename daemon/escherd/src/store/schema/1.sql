-- Version 1: everything that is known, and the indexes by which it is found.

-- One row per execution: what it is found by, and what operators like to read. What escherd itself believes
-- is in the sealed blobs of submission, progress and record.
CREATE TABLE execution (
    number            INTEGER PRIMARY KEY,
    id                BLOB NOT NULL UNIQUE,
    -- The last 15 digits of the id, the last one first, as a number: a tail of the id is a range of these.
    tail              INTEGER NOT NULL,
    submitter_uid     INTEGER NOT NULL,
    submitter_name    TEXT,
    user_uid          INTEGER NOT NULL,
    user_name         TEXT,
    key               TEXT,
    digest            BLOB,
    name              TEXT,
    command           TEXT NOT NULL,
    submitted_at      INTEGER NOT NULL,
    -- The latest submitted_at of this and all earlier numbers. It never falls as numbers rise, whatever
    -- the clock did, so that a time becomes a range of numbers.
    clock_high        INTEGER NOT NULL,
    launching         INTEGER NOT NULL,
    started_at        INTEGER,
    pid               INTEGER,
    cancelled_by      TEXT,
    progress          BLOB,
    -- 0: not finished. 1: completed, 2: failed, 3: cancelled, 4: timeout, 5: lost.
    ended             INTEGER NOT NULL DEFAULT 0,
    completed_at      INTEGER,
    exit_code         INTEGER,
    signal            INTEGER,
    error             TEXT,
    duration_us       INTEGER,
    user_us           INTEGER,
    system_us         INTEGER,
    peak_memory_bytes INTEGER,
    stdout_bytes      INTEGER,
    stderr_bytes      INTEGER,
    log_bytes         INTEGER NOT NULL DEFAULT 0,
    dropped_bytes     INTEGER,
    history_bytes     INTEGER NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX execution_key ON execution (submitter_uid, key) WHERE key IS NOT NULL;
CREATE INDEX execution_tail ON execution (tail);
CREATE INDEX execution_ended ON execution (ended, number) WHERE ended > 0;
CREATE INDEX execution_submitter ON execution (submitter_uid, ended, number) WHERE ended > 0;
CREATE INDEX execution_name ON execution (name, ended, number) WHERE name IS NOT NULL;
CREATE INDEX execution_submitter_name ON execution (submitter_uid, name, ended, number) WHERE name IS NOT NULL;
CREATE INDEX execution_user_name ON execution (user_name, ended, number, submitter_uid) WHERE ended > 0;
CREATE INDEX execution_user_uid ON execution (user_uid, ended, number, submitter_uid) WHERE ended > 0;
CREATE INDEX execution_completed ON execution (completed_at, number, history_bytes, ended) WHERE ended > 0;

-- What an execution that is not finished was taken on with. Gone at its end, with the environment in it.
CREATE TABLE submission (
    number INTEGER PRIMARY KEY,
    body   BLOB NOT NULL
);

-- What is known of a finished execution.
CREATE TABLE record (
    number INTEGER PRIMARY KEY,
    body   BLOB NOT NULL
);

CREATE TABLE label (
    number INTEGER NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    -- As in execution.
    ended  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (number, key)
) WITHOUT ROWID;

CREATE INDEX label_ended ON label (key, value, ended, number) WHERE ended > 0;

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    body     BLOB NOT NULL
);

-- Removed executions of which something may still be on disk: a log above all.
CREATE TABLE undeleted_log (
    id   BLOB PRIMARY KEY,
    seal BLOB NOT NULL
) WITHOUT ROWID;

-- Sums that need not be taken at every start. One row. clock_back is the furthest that a submitted_at lies
-- before its clock_high; last_number is the highest number that was ever given, unless the newest execution
-- has a higher one. The row is without a seal until it is first written.
CREATE TABLE totals (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    finished      INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL,
    clock_back    INTEGER NOT NULL,
    last_number   INTEGER NOT NULL,
    seal          BLOB
);

INSERT INTO totals (one, finished, history_bytes, clock_back, last_number) VALUES (1, 0, 0, 0, 0);
