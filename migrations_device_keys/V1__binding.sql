-- Whom a device key belongs to. The key material itself stays with its provider.
-- The first seven letters of key_id are the protection class (hardware, TPM, protected by the system), the other 43 are
-- base64url.
CREATE TABLE binding (
    key_id TEXT NOT NULL PRIMARY KEY
        CHECK (length(key_id) = 50 AND substr(key_id, 1, 7) IN ('dk_hse_', 'dk_tpm_', 'dk_osn_')),
    account_user_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,                                -- Unix milliseconds
    updated_at INTEGER NOT NULL                                 -- Unix milliseconds
) STRICT;
