-- Version 10: everything that is known, the indexes by which it is found, and the views for people.

-- One row per execution: what it is found by, and what operators like to read. What escherd itself trusts
-- is in the blobs with checksums: submission, progress and record.
CREATE TABLE execution (
    number            INTEGER PRIMARY KEY,
    id                BLOB NOT NULL UNIQUE,
    -- The last 15 digits of the id in reverse order, as a number: ids with a common tail are a range.
    tail              INTEGER NOT NULL,
    -- Whose it is: the uid and the login name at the submission. '' is no name: NULL would not be unique
    -- in an index.
    submitter_uid     INTEGER NOT NULL,
    submitter_name    TEXT NOT NULL,
    user_uid          INTEGER NOT NULL,
    user_name         TEXT,
    key               TEXT,
    digest            BLOB,
    name              TEXT,
    command           TEXT NOT NULL,
    submitted_at      INTEGER NOT NULL,
    -- The latest submitted_at of this and all lower numbers. It never falls as numbers rise, even if
    -- the clock was set back, so that a time becomes a range of numbers.
    clock_high        INTEGER NOT NULL,
    admitted          INTEGER NOT NULL,
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
    -- Bytes of its log and index that the history keeps; 0 once they are removed.
    kept_log_bytes    INTEGER NOT NULL DEFAULT 0,
    -- Whether the limits of the history have removed its log and left its record.
    log_removed       INTEGER NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX execution_key ON execution (submitter_uid, submitter_name, key) WHERE key IS NOT NULL;
CREATE INDEX execution_tail ON execution (tail);
CREATE INDEX execution_ended ON execution (ended, number) WHERE ended > 0;
CREATE INDEX execution_submitter ON execution (submitter_uid, submitter_name, ended, number) WHERE ended > 0;
CREATE INDEX execution_name ON execution (name, ended, number) WHERE name IS NOT NULL;
CREATE INDEX execution_submitter_name ON execution (submitter_uid, submitter_name, name, ended, number) WHERE name IS NOT NULL;
CREATE INDEX execution_user_name ON execution (user_name, ended, number, submitter_uid) WHERE ended > 0;
CREATE INDEX execution_user_uid ON execution (user_uid, ended, number, submitter_uid) WHERE ended > 0;
CREATE INDEX execution_submitter_completed ON execution (submitter_uid, submitter_name, completed_at, number, ended) WHERE ended > 0;
CREATE INDEX execution_submitter_log ON execution (submitter_uid, submitter_name, completed_at, number, kept_log_bytes) WHERE kept_log_bytes > 0;

-- What an unfinished execution was submitted with. Deleted when it ends, with the environment in it.
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

-- The sequence number of the last event of each user that is not kept any longer.
CREATE TABLE missed_event (
    uid  INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- Executions that are removed, or whose log is, and that may still have files on disk, above all a log.
CREATE TABLE undeleted_log (
    id       BLOB PRIMARY KEY,
    checksum BLOB NOT NULL
) WITHOUT ROWID;

-- Sums over all executions, kept so that no start has to compute them. One row. clock_back is the most by
-- which a submitted_at lies before its clock_high; last_number is the highest number ever assigned, unless
-- the newest execution has a higher one. journal_sequence is the number of the last change that came from the
-- journal, which has the same store_id. The row has no checksum until it is first written.
CREATE TABLE totals (
    one              INTEGER PRIMARY KEY CHECK (one = 1),
    finished         INTEGER NOT NULL,
    kept_log_bytes   INTEGER NOT NULL,
    clock_back       INTEGER NOT NULL,
    last_number      INTEGER NOT NULL,
    journal_sequence INTEGER NOT NULL,
    store_id         BLOB NOT NULL,
    checksum         BLOB
);

INSERT INTO totals (one, finished, kept_log_bytes, clock_back, last_number, journal_sequence, store_id)
    VALUES (1, 0, 0, 0, 0, 0, randomblob(16));

-- The same sums for each submitter who has finished executions. The name is as submitter_name.
CREATE TABLE user_totals (
    uid            INTEGER NOT NULL,
    name           TEXT NOT NULL,
    finished       INTEGER NOT NULL,
    kept_log_bytes INTEGER NOT NULL,
    checksum       BLOB NOT NULL,
    PRIMARY KEY (uid, name)
) WITHOUT ROWID;

CREATE VIEW executions AS
SELECT number,
       lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
             || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
       CASE ended WHEN 1 THEN 'completed' WHEN 2 THEN 'failed' WHEN 3 THEN 'cancelled'
                  WHEN 4 THEN 'timeout' WHEN 5 THEN 'lost'
                  ELSE iif(started_at IS NULL, 'pending', 'running') END AS status,
       name,
       key,
       coalesce(user_name, user_uid) AS user,
       user_uid,
       coalesce(nullif(submitter_name, ''), submitter_uid) AS submitted_by,
       submitter_uid AS submitted_by_uid,
       command,
       strftime('%Y-%m-%dT%H:%M:%S', submitted_at / 1000000, 'unixepoch')
           || printf('.%06dZ', submitted_at % 1000000) AS submitted_at,
       strftime('%Y-%m-%dT%H:%M:%S', started_at / 1000000, 'unixepoch')
           || printf('.%06dZ', started_at % 1000000) AS started_at,
       strftime('%Y-%m-%dT%H:%M:%S', completed_at / 1000000, 'unixepoch')
           || printf('.%06dZ', completed_at % 1000000) AS completed_at,
       iif(ended = 0, pid, NULL) AS pid,
       cancelled_by,
       exit_code,
       signal,
       error,
       duration_us,
       user_us,
       system_us,
       peak_memory_bytes,
       stdout_bytes,
       stderr_bytes,
       log_bytes,
       dropped_bytes,
       kept_log_bytes,
       log_removed
FROM execution;

CREATE VIEW execution_labels AS
SELECT number, key, value FROM label;

CREATE VIEW events AS
SELECT sequence,
       strftime('%Y-%m-%dT%H:%M:%S', time / 1000000, 'unixepoch') || printf('.%06dZ', time % 1000000) AS time,
       number,
       kind
FROM event;

CREATE VIEW history AS
SELECT finished, kept_log_bytes FROM totals;

CREATE VIEW user_history AS
SELECT coalesce(nullif(name, ''), uid) AS user, uid, finished, kept_log_bytes FROM user_totals;
