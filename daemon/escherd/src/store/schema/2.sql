-- Version 2: views for people.

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
