-- Full-text search over name, title and preview. src/stores/threads/search.rs says what is searched, and how.
--
-- What is indexed of a text: its first 500 letters, without marks; letters of scripts that are written without spaces
-- stand apart, so that any run of them is found as a phrase; whatever is no letter or digit parts words.
CREATE FUNCTION searched_text(text TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace(
        normalize(text, NFD) COLLATE "C",
        '[\u0300-\u036F]', '', 'g'),
        '[\u0E00-\u109F\u1780-\u17FF\u2E80-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\uFF66-\uFFDC\U00020000-\U0003FFFF]', ' \& ', 'g'),
        '[\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00BF\u2000-\u206F\u3000-\u3004\u3008-\u3020\u3030]+', ' ', 'g')
$$;

CREATE FUNCTION searched_words(text TEXT) RETURNS TSVECTOR LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_tsvector('simple', searched_text(left(coalesce(text, ''), 500)))
$$;

-- What is asked: JSON, a list of words. Each is a phrase, the last one open at its end; what is no word is left out.
CREATE FUNCTION searched_for(list TEXT) RETURNS TSQUERY LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg('(' || asked || CASE WHEN place = most THEN ':*' ELSE '' END || ')', ' & ')::tsquery
    FROM (SELECT asked, place, max(place) OVER () AS most
          FROM (SELECT phraseto_tsquery('simple', searched_text(word))::text AS asked, place
                FROM jsonb_array_elements_text(list::jsonb) WITH ORDINALITY AS words(word, place)) AS parsed
          WHERE asked <> '') AS phrases
$$;

-- The index of the threads. It is made again from them; so nobody copies it to another engine.
CREATE TABLE thread_text (
    thread_id  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    words      TSVECTOR NOT NULL
);

CREATE INDEX thread_text_words ON thread_text USING gin (words);
-- Words that most threads have are looked for from the newest one on.
CREATE INDEX thread_text_newest ON thread_text (created_at, thread_id);

CREATE FUNCTION index_thread() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO thread_text (thread_id, created_at, words)
        VALUES (new.id, new.created_at, setweight(searched_words(new.name), 'A')
            || setweight(searched_words(new.title), 'B') || setweight(searched_words(new.preview), 'D'))
        ON CONFLICT (thread_id) DO UPDATE SET created_at = excluded.created_at, words = excluded.words;
    RETURN NULL;
END $$;

CREATE FUNCTION forget_thread() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM thread_text WHERE thread_id = old.id;
    RETURN NULL;
END $$;

CREATE TRIGGER thread_search_insert AFTER INSERT ON thread FOR EACH ROW EXECUTE FUNCTION index_thread();

CREATE TRIGGER thread_search_update AFTER UPDATE ON thread FOR EACH ROW
    WHEN ((old.created_at, old.name, old.title, old.preview)
        IS DISTINCT FROM (new.created_at, new.name, new.title, new.preview)) EXECUTE FUNCTION index_thread();

CREATE TRIGGER thread_search_delete AFTER DELETE ON thread FOR EACH ROW EXECUTE FUNCTION forget_thread();
