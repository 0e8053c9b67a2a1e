-- Version 3: what executions may use, and what they have used.

-- Sealed, as the bodies beside them; nothing where there are neither limits nor figures.
ALTER TABLE submission ADD COLUMN resources BLOB;
ALTER TABLE record ADD COLUMN resources BLOB;
