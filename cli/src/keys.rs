//! `rowhouse keys`: the keys of this device, whom they belong to, and signing with them. No private key is ever shown.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use base64ct::{Base64, Encoding};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use rowhouse::stores::DeviceKeys;
use rowhouse::stores::device_keys::{
    Binding, DeviceKey, KeyBinding, KeyId, KeyPolicy, LARGEST_PAGE, ProtectedBy, ProtectionClass,
    SignPayload, SigningRules,
};
use rowhouse::{Domain, Error, ErrorKind, Home};
use serde::Serialize;

use crate::agreement::{ADVICE, Agreement};
use crate::open::{self, Opened};
use crate::output::{self, Output};
use crate::table::{Table, age, rfc3339, time};
use crate::waiting::telling_who;

/// More than any payload that may be signed.
const LONGEST_PAYLOAD: u64 = 1 << 20;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse keys create --account user-1 --client laptop\n  rowhouse keys list --json | jq -r '.keys[].key_id'\n  rowhouse keys public KEY_ID > key.pem\n  rowhouse keys remove KEY_ID --yes\n\nThe private keys are in keys/ of the home, where no backup of the databases takes them along."
)]
pub(crate) struct KeysArguments {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Whom keys belong to, and how they are protected
    #[command(
        after_help = "Examples:\n  rowhouse keys list\n  rowhouse keys list --json | jq -r '.keys[].key_id'"
    )]
    List,
    /// Make a key for an account and a client
    #[command(
        after_help = "Examples:\n  rowhouse keys create --account user-1 --client laptop\n  rowhouse keys create --account user-1 --client laptop --policy allow-os-protected --json | jq -r .key_id"
    )]
    Create {
        /// The user of the account
        #[arg(long, value_name = "ACCOUNT")]
        account: String,
        /// The client of that user
        #[arg(long, value_name = "CLIENT")]
        client: String,
        /// Which protection is good enough
        #[arg(long, value_enum, default_value_t = Policy::BestAvailable)]
        policy: Policy,
    },
    /// The public part of a key
    #[command(
        after_help = "Examples:\n  rowhouse keys public KEY_ID | openssl pkey -pubin -noout -text\n  rowhouse keys public KEY_ID --format der > key.der"
    )]
    Public {
        /// The id of the key
        key_id: String,
        /// How to write it
        #[arg(long, value_enum, default_value_t = Format::Pem)]
        format: Format,
    },
    /// Destroy a key, and forget whom it belonged to
    #[command(
        after_help = "Examples:\n  rowhouse keys remove KEY_ID --dry-run\n  rowhouse keys remove KEY_ID --yes"
    )]
    Remove {
        /// The id of the key
        key_id: String,
        #[command(flatten)]
        agreement: Agreement,
    },
    /// Destroy keys that belong to nobody: what crashes, or a lost database, left
    #[command(after_help = "Examples:\n  rowhouse keys clean --dry-run\n  rowhouse keys clean --yes")]
    Clean {
        #[command(flatten)]
        agreement: Agreement,
    },
    /// Sign a payload
    Sign(SignArguments),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse keys sign KEY_ID --domain example.org/connect/v1 --audience connect --origin https://example.org \\\n      --path /v1/connect payload.json --json\n\nThe payload is a JSON object: nonce (base64url of 32 bytes or more), audience, target_origin, target_path,\naccount_user_id, client_id, expires_at (Unix milliseconds, at most 15 minutes from now), and claims, an object, if there\nare any. It must be for what the options name, and for the account and client of the key.\nsigned is what was signed, signature the base64 of its signature in DER."
)]
struct SignArguments {
    /// The id of the key
    key_id: String,
    /// The application and protocol that the signature is for
    #[arg(long, value_name = "TEXT")]
    domain: String,
    /// For whom it may be signed
    #[arg(long, value_name = "TEXT")]
    audience: String,
    /// Where the signature may be sent
    #[arg(long, value_name = "URL")]
    origin: String,
    /// The path there
    #[arg(long, value_name = "PATH")]
    path: String,
    /// The file of the payload; default: standard input
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    /// The strongest there is
    BestAvailable,
    /// A chip, or no key
    HardwareOnly,
    /// A chip or the keyring of the system, or no key
    AllowOsProtected,
}

impl From<Policy> for KeyPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::BestAvailable => Self::BestAvailable,
            Policy::HardwareOnly => Self::HardwareOnly,
            Policy::AllowOsProtected => Self::AllowOsProtected,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As `openssl` reads it
    Pem,
    /// The SPKI, as bytes
    Der,
    /// Everything that is known of the key
    Json,
}

/// One key, as far as it is known.
#[derive(Serialize)]
struct Shown {
    key_id: KeyId,
    class: ProtectionClass,
    /// `None` when the key cannot be looked at.
    protected_by: Option<ProtectedBy>,
    account_user_id: String,
    client_id: String,
    #[serde(serialize_with = "rfc3339")]
    created_at: i64,
    #[serde(serialize_with = "rfc3339")]
    updated_at: i64,
    /// The base64 of the SPKI DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// Why it cannot be looked at: `not_found` when only its binding is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Shown>,
}

#[derive(Serialize)]
struct Removed {
    /// False for what would be removed.
    done: bool,
    removed: Vec<KeyId>,
}

pub(crate) fn run(home: &Home, arguments: &KeysArguments, output: &Output) -> Result<()> {
    match &arguments.command {
        KeysCommand::List => list(&existing(home)?.device_keys(), output),
        KeysCommand::Create { account, client, policy } => {
            let runtime = open::or_new(home, Domain::device_keys())?;
            let binding = Binding::new(account.as_str(), client.as_str());
            let keys = runtime.device_keys();
            let made = telling_who(home, "device_keys", || keys.create(&binding, (*policy).into()));
            created(made?, output)
        }
        KeysCommand::Public { key_id, format } => {
            public(&existing(home)?.device_keys().public(key_id)?, *format, output)
        }
        KeysCommand::Remove { key_id, agreement } => {
            remove(home, &existing(home)?.device_keys(), key_id, agreement, output)
        }
        KeysCommand::Clean { agreement } => clean(&existing(home)?.device_keys(), agreement, output),
        KeysCommand::Sign(sign_arguments) => sign(home, sign_arguments, output),
    }
}

fn existing(home: &Home) -> rowhouse::Result<Opened> {
    const ADVICE: &str = "`rowhouse keys create` makes one; --home or ROWHOUSE_HOME names another home";
    open::existing(home, Domain::device_keys(), "this home holds no device keys yet", ADVICE)
}

impl Shown {
    /// Without asking anybody for the key itself.
    fn bound(bound: KeyBinding, refused: Option<&Error>) -> Self {
        Self {
            class: bound.key_id.class(),
            protected_by: None,
            account_user_id: bound.binding.account_user_id,
            client_id: bound.binding.client_id,
            created_at: bound.created_at,
            updated_at: bound.updated_at,
            public_key: None,
            problem: refused.map(|error| error.kind().as_str()),
            why: refused.map(Error::to_string),
            key_id: bound.key_id,
        }
    }
}

impl Shown {
    /// It is there, and cannot be looked at.
    fn is_refused(&self) -> bool {
        self.problem.is_some_and(|kind| kind != ErrorKind::NotFound.as_str())
    }
}

impl From<DeviceKey> for Shown {
    fn from(key: DeviceKey) -> Self {
        let public_key = Some(Base64::encode_string(key.public_key.spki_der()));
        Self { protected_by: Some(key.protected_by), public_key, ..Self::bound(key.bound, None) }
    }
}

fn list(keys: &DeviceKeys, output: &Output) -> Result<()> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = keys.list(cursor.as_deref(), LARGEST_PAGE)?;
        for bound in page.keys {
            found.push(match keys.public(bound.key_id.as_str()) {
                Ok(key) => Shown { public_key: None, ..key.into() },
                // One that cannot be looked at hides none of the others.
                Err(error) => Shown::bound(bound, Some(&error)),
            });
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    found.sort_by_key(|key| std::cmp::Reverse(key.created_at));
    if output.is_json() {
        return output.document(&Keys { keys: found });
    }
    if found.is_empty() {
        return output.text("no keys\n");
    }
    // Keys that cannot be looked at for one reason are told of once.
    let reasons: BTreeSet<_> =
        found.iter().filter(|key| key.is_refused()).filter_map(|key| key.why.as_ref()).collect();
    for why in reasons {
        output::warn(why);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["account", "client", "protected by", "made", "key"]).fit_wrapped(
        output::width(),
        &[0, 1],
        &[3, 2],
    );
    for key in found {
        table.row(&[
            key.account_user_id,
            key.client_id,
            match (key.protected_by, key.problem) {
                (Some(protected_by), _) => words(protected_by).to_owned(),
                (None, Some("not_found")) => "nothing: the key is gone".to_owned(),
                (None, Some("read_only")) => "not told: no permission".to_owned(),
                (None, problem) => problem.unwrap_or_default().to_owned(),
            },
            age(time(key.created_at), now),
            key.key_id.to_string(),
        ]);
    }
    output.text(&table.render())
}

fn words(protected_by: ProtectedBy) -> &'static str {
    match protected_by {
        ProtectedBy::FilePermissions => "its file's mode only",
        other => other.as_str(),
    }
}

fn created(key: DeviceKey, output: &Output) -> Result<()> {
    if key.protected_by == ProtectedBy::FilePermissions && !output.is_json() {
        output::warn("no hardware and no keyring protects it: who can read your files can use it");
    }
    if output.is_json() {
        return output.document(&Shown::from(key));
    }
    output.text(&format!("{}\n", key.bound.key_id))
}

fn public(key: &DeviceKey, format: Format, output: &Output) -> Result<()> {
    match format {
        // `--json` says so whatever the format.
        _ if output.is_json() => output.document(&Shown::from(key.clone())),
        Format::Json => output.text(&(serde_json::to_string_pretty(&Shown::from(key.clone()))? + "\n")),
        Format::Pem => output.text(&key.public_key.pem()),
        Format::Der if std::io::stdout().is_terminal() => {
            Err(Error::new(ErrorKind::Invalid, "DER is bytes, and this is a terminal")
                .advise("send it to a file: > key.der")
                .into())
        }
        Format::Der => output.bytes(key.public_key.spki_der()),
    }
}

fn remove(
    home: &Home,
    keys: &DeviceKeys,
    key_id: &str,
    agreement: &Agreement,
    output: &Output,
) -> Result<()> {
    let key: KeyId = key_id.parse()?;
    let bound = keys.binding(key_id)?;
    let whose =
        format!("{} of account {}, client {}", key, bound.binding.account_user_id, bound.binding.client_id);
    if agreement.dry_run {
        return told(
            &Removed { done: false, removed: vec![key] },
            &format!("would remove {whose}\n"),
            output,
        );
    }
    agreement.given(&format!("remove {whose}? It cannot come back."), output)?;
    telling_who(home, "device_keys", || keys.remove(key_id))?;
    told(&Removed { done: true, removed: vec![key] }, &format!("removed {whose}\n"), output)
}

fn clean(keys: &DeviceKeys, agreement: &Agreement, output: &Output) -> Result<()> {
    let orphans = keys.orphans()?;
    let listed = |what: &str, keys: &[KeyId]| {
        keys.iter().fold(String::new(), |mut text, key| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{what} {key}");
            text
        })
    };
    if agreement.dry_run || orphans.is_empty() {
        let text = if orphans.is_empty() {
            "every key belongs to somebody\n".to_owned()
        } else {
            listed("would remove", &orphans)
        };
        return told(&Removed { done: orphans.is_empty(), removed: orphans }, &text, output);
    }
    if !agreement.yes {
        output.can_ask(ADVICE)?;
        output.text(&listed("belongs to nobody:", &orphans))?;
        agreement.given("remove them? Not if you are going to restore a backup of the database.", output)?;
    }
    // Those that were listed above, and no others.
    let removed = keys.clean(&orphans)?;
    told(&Removed { done: true, removed: removed.clone() }, &listed("removed", &removed), output)
}

fn told(document: &Removed, text: &str, output: &Output) -> Result<()> {
    if output.is_json() { output.document(document) } else { output.text(text) }
}

fn sign(home: &Home, arguments: &SignArguments, output: &Output) -> Result<()> {
    // What the person says on the command line is what the application would allow.
    let rules = SigningRules::new(arguments.domain.as_str())?.allow(
        arguments.audience.as_str(),
        arguments.origin.as_str(),
        arguments.path.as_str(),
    )?;
    // Read before a database is open: closing a file that is one would drop its locks.
    let payload = SignPayload::from_json(&read(arguments.file.as_deref())?)?;
    let keys = existing(home)?.device_keys().rules(rules);
    let signed = keys.sign(&arguments.key_id, &payload)?;
    if output.is_json() {
        return output.document(&signed);
    }
    output.text(&format!(
        "signed     {}\nsignature  {}\n",
        signed.signed,
        Base64::encode_string(&signed.signature)
    ))
}

/// A file, or standard input for none and for `-`.
fn read(file: Option<&Path>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match file.filter(|file| *file != Path::new("-")) {
        None => std::io::stdin().lock().take(LONGEST_PAYLOAD + 1).read_to_end(&mut bytes)?,
        Some(file) => {
            #[expect(clippy::disallowed_methods, reason = "a person's file, before a database is open")]
            let opened = std::fs::File::open(file);
            opened
                .and_then(|opened| opened.take(LONGEST_PAYLOAD + 1).read_to_end(&mut bytes))
                .map_err(|error| Error::io("read the payload", file, error))?
        }
    };
    if bytes.len() as u64 > LONGEST_PAYLOAD {
        return Err(
            Error::new(ErrorKind::Invalid, "the payload is longer than any that may be signed").into()
        );
    }
    Ok(bytes)
}
