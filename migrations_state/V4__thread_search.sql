-- Full-text search over name, title and preview. src/stores/threads/search.rs says what is searched, and how.
--
-- What is indexed of a thread. Letters of scripts that are written without spaces (Thai to Myanmar, Khmer, Chinese,
-- Japanese, Korean) stand apart, so that any run of them is found as a phrase. Of each text the first 500 letters count.
-- Plain SQL, so that any program that writes a thread keeps the index in step.
CREATE VIEW thread_text AS
    WITH spaceless (letters) AS (SELECT char(
        0x5B, 0x0E00, 0x2D, 0x109F, 0x1780, 0x2D, 0x17FF, 0x2E80, 0x2D, 0x9FFF, 0xAC00, 0x2D, 0xD7AF,
        0xF900, 0x2D, 0xFAFF, 0xFF66, 0x2D, 0xFFDC, 0x20000, 0x2D, 0x3FFFF, 0x5D))
    SELECT thread.rowid AS number,
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

-- The index alone: the texts are read from the view, also to make it anew ('rebuild').
CREATE VIRTUAL TABLE thread_search USING fts5 (
    name, title, preview,
    content = 'thread_text', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);

-- What is deleted is overwritten in the index too, not only marked.
INSERT INTO thread_search (thread_search, rank) VALUES ('secure-delete', 1);

-- Threads that were there before this index come into it piece by piece; thread_search_docsize says which are. Only what
-- is in it may be taken out.
CREATE TRIGGER thread_search_insert AFTER INSERT ON thread BEGIN
    INSERT INTO thread_search (rowid, name, title, preview)
        SELECT number, name, title, preview FROM thread_text WHERE number = new.rowid;
END;

CREATE TRIGGER thread_search_before_update BEFORE UPDATE OF name, title, preview ON thread
    WHEN (old.name, old.title, old.preview) IS NOT (new.name, new.title, new.preview) BEGIN
    INSERT INTO thread_search (thread_search, rowid, name, title, preview)
        SELECT 'delete', number, name, title, preview FROM thread_text
        WHERE number = old.rowid AND EXISTS (SELECT 1 FROM thread_search_docsize WHERE id = old.rowid);
END;

CREATE TRIGGER thread_search_after_update AFTER UPDATE OF name, title, preview ON thread
    WHEN (old.name, old.title, old.preview) IS NOT (new.name, new.title, new.preview) BEGIN
    INSERT INTO thread_search (rowid, name, title, preview)
        SELECT number, name, title, preview FROM thread_text WHERE number = new.rowid;
END;

CREATE TRIGGER thread_search_delete BEFORE DELETE ON thread BEGIN
    INSERT INTO thread_search (thread_search, rowid, name, title, preview)
        SELECT 'delete', number, name, title, preview FROM thread_text
        WHERE number = old.rowid AND EXISTS (SELECT 1 FROM thread_search_docsize WHERE id = old.rowid);
END;
