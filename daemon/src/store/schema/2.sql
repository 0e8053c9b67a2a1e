-- Version 2: sums that need not be taken at every start, and views for people.

-- One row. clock_back is the furthest that a submitted_at lies before its clock_high; last_number is the
-- highest number that was ever given.
-- A row without a seal was made by this migration.
CREATE TABLE totals (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    finished      INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL,
    clock_back    INTEGER NOT NULL,
    last_number   INTEGER NOT NULL,
    seal          BLOB
);

INSERT INTO totals (one, finished, history_bytes, clock_back, last_number)
SELECT 1,
       count(*) FILTER (WHERE ended > 0),
       coalesce(sum(history_bytes) FILTER (WHERE ended > 0), 0),
       coalesce(max(clock_high - submitted_at), 0),
       coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'execution'), 0)
FROM execution;

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
       coalesce(submitter_name, submitter_uid) AS submitted_by,
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
       history_bytes
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
SELECT finished, history_bytes FROM totals;
