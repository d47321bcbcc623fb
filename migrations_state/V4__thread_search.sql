-- Full-text search over name, title and preview. src/stores/threads/search.rs says what is searched, and how.
--
-- What is indexed of a thread. Letters of scripts that are written without spaces (Thai to Myanmar, Khmer, Chinese,
-- Japanese, Korean) stand apart, so that any run of them is found as a phrase. Of each text the first 500 letters count.
-- Plain SQL, so that any program that writes a thread keeps the index in step.
CREATE VIEW thread_words AS
    WITH spaceless (letters) AS (SELECT char(
        0x5B, 0x0E00, 0x2D, 0x109F, 0x1780, 0x2D, 0x17FF, 0x2E80, 0x2D, 0x9FFF, 0xAC00, 0x2D, 0xD7AF,
        0xF900, 0x2D, 0xFAFF, 0xFF66, 0x2D, 0xFFDC, 0x20000, 0x2D, 0x3FFFF, 0x5D))
    SELECT thread.id AS thread_id,
        CASE WHEN substr(name, 1, 500) NOT GLOB '*' || letters || '*' THEN substr(name, 1, 500) ELSE (
            WITH RECURSIVE letter (one, rest) AS (
                SELECT '', substr(name, 1, 500)
                UNION ALL SELECT substr(rest, 1, 1), substr(rest, 2) FROM letter WHERE rest <> '')
            SELECT group_concat(CASE WHEN one GLOB letters THEN ' ' || one || ' ' ELSE one END, '') FROM letter
        ) END AS name,
        CASE WHEN substr(title, 1, 500) NOT GLOB '*' || letters || '*' THEN substr(title, 1, 500) ELSE (
            WITH RECURSIVE letter (one, rest) AS (
                SELECT '', substr(title, 1, 500)
                UNION ALL SELECT substr(rest, 1, 1), substr(rest, 2) FROM letter WHERE rest <> '')
            SELECT group_concat(CASE WHEN one GLOB letters THEN ' ' || one || ' ' ELSE one END, '') FROM letter
        ) END AS title,
        CASE WHEN substr(preview, 1, 500) NOT GLOB '*' || letters || '*' THEN substr(preview, 1, 500) ELSE (
            WITH RECURSIVE letter (one, rest) AS (
                SELECT '', substr(preview, 1, 500)
                UNION ALL SELECT substr(rest, 1, 1), substr(rest, 2) FROM letter WHERE rest <> '')
            SELECT group_concat(CASE WHEN one GLOB letters THEN ' ' || one || ' ' ELSE one END, '') FROM letter
        ) END AS preview
    FROM spaceless CROSS JOIN thread;

-- What is in the index, as it is in there: it is taken out by the same texts, whatever became of the thread. The number
-- is created_at when the thread came in, and a count of 20 bits: the index is walked by it, the newest first.
CREATE TABLE thread_text (
    number    INTEGER PRIMARY KEY,
    thread_id TEXT    NOT NULL UNIQUE,
    name      TEXT,
    title     TEXT,
    preview   TEXT
) STRICT;

-- The index alone: the texts are read from the table, also to make it anew ('rebuild').
CREATE VIRTUAL TABLE thread_search USING fts5 (
    name, title, preview,
    content = 'thread_text', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);

-- What is deleted is overwritten in the index too, not only marked.
INSERT INTO thread_search (thread_search, rank) VALUES ('secure-delete', 1);

CREATE TRIGGER thread_text_insert AFTER INSERT ON thread_text BEGIN
    INSERT INTO thread_search (rowid, name, title, preview) VALUES (new.number, new.name, new.title, new.preview);
END;

CREATE TRIGGER thread_text_update AFTER UPDATE ON thread_text BEGIN
    INSERT INTO thread_search (thread_search, rowid, name, title, preview)
        VALUES ('delete', old.number, old.name, old.title, old.preview);
    INSERT INTO thread_search (rowid, name, title, preview) VALUES (new.number, new.name, new.title, new.preview);
END;

CREATE TRIGGER thread_text_delete AFTER DELETE ON thread_text BEGIN
    INSERT INTO thread_search (thread_search, rowid, name, title, preview)
        VALUES ('delete', old.number, old.name, old.title, old.preview);
END;

-- A thread may be in already: INSERT OR REPLACE deletes a row without a word to the triggers. A count of 20 bits that is
-- used up leaves the number to SQLite.
CREATE TRIGGER thread_search_insert AFTER INSERT ON thread BEGIN
    UPDATE thread_text SET (thread_id, name, title, preview) =
            (SELECT thread_id, name, title, preview FROM thread_words WHERE thread_id = new.id)
        WHERE thread_id = new.id;
    INSERT INTO thread_text (number, thread_id, name, title, preview)
        SELECT nullif(coalesce(
                (SELECT max(number) + 1 FROM thread_text WHERE number BETWEEN first AND first + 0xFFFFF), first),
            first + 0x100000), thread_id, name, title, preview
        FROM (SELECT min(max(new.created_at, 0), 0x7FFFFFFFFFF) << 20 AS first) CROSS JOIN thread_words
        WHERE thread_id = new.id AND NOT EXISTS (SELECT 1 FROM thread_text WHERE thread_id = new.id);
END;

-- Threads that were there before this index come into it piece by piece, or with their next change.
CREATE TRIGGER thread_search_update AFTER UPDATE OF id, name, title, preview ON thread
    WHEN (old.id, old.name, old.title, old.preview) IS NOT (new.id, new.name, new.title, new.preview)
        OR NOT EXISTS (SELECT 1 FROM thread_text WHERE thread_id = new.id) BEGIN
    UPDATE thread_text SET (thread_id, name, title, preview) =
            (SELECT thread_id, name, title, preview FROM thread_words WHERE thread_id = new.id)
        WHERE thread_id = old.id;
    INSERT INTO thread_text (number, thread_id, name, title, preview)
        SELECT nullif(coalesce(
                (SELECT max(number) + 1 FROM thread_text WHERE number BETWEEN first AND first + 0xFFFFF), first),
            first + 0x100000), thread_id, name, title, preview
        FROM (SELECT min(max(new.created_at, 0), 0x7FFFFFFFFFF) << 20 AS first) CROSS JOIN thread_words
        WHERE thread_id = new.id AND NOT EXISTS (SELECT 1 FROM thread_text WHERE thread_id = new.id);
END;

CREATE TRIGGER thread_search_delete AFTER DELETE ON thread BEGIN
    DELETE FROM thread_text WHERE thread_id = old.id;
END;
