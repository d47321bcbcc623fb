//! Transcripts in documentation, run by a real shell.
//!
//! Every ```` ```console ```` block of a page is part of one session: `$ ` begins a command, `> ` continues it, `? 1` says how
//! it ended when that was not 0, and what follows is its output, both streams together. The page is then compared with
//! itself, the outputs put in place of those that are written there: `[..]` stands for the rest of a line, `...` for any
//! lines. `SNAPSHOTS=overwrite` writes the outputs into the page.
//!
//! A block in an HTML comment is run and not shown: it makes what the page begins with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use snapbox::IntoData;

/// Where the user of all pages is at home. Never the real one.
const USER: &str = "/home/ann";
/// Before each command's output, and before its exit code: a letter that no command writes.
const MARK: char = '\u{1}';

/// A command of a page.
struct Step {
    /// As it is written, without `$ ` and `> `.
    typed: String,
    /// The lines that it takes in the page, from the first to behind its output.
    lines: std::ops::Range<usize>,
    /// Of them, those with the command.
    head: usize,
}

/// The beginning of a block: what stands behind the three backticks.
pub(crate) fn fence(line: &str) -> Option<&str> {
    line.strip_prefix("```")
}

/// The lines of each block, with what stands behind its backticks and the number of its first line.
pub(crate) fn blocks(page: &str) -> Vec<(String, usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, Vec<String>)> = None;
    for (number, line) in page.lines().enumerate() {
        match (fence(line), open.as_mut()) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(info), None) => open = Some((info.to_owned(), number + 1, Vec::new())),
            (None, Some((_, _, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    found
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (info, first, lines) in blocks(page) {
        if info != "console" {
            continue;
        }
        for (number, line) in lines.iter().enumerate().map(|(number, line)| (first + number, line)) {
            if let Some(typed) = line.strip_prefix("$ ") {
                steps.push(Step { typed: typed.to_owned(), lines: number..number + 1, head: 1 });
                continue;
            }
            let step = steps.last_mut().filter(|step| step.lines.start >= first);
            let step = step.unwrap_or_else(|| panic!("line {number}: output of no command: {line}"));
            if let Some(more) = line.strip_prefix("> ").filter(|_| step.lines.len() == step.head) {
                step.typed += "\n";
                step.typed += more;
                step.head += 1;
            }
            step.lines.end = number + 1;
        }
    }
    steps
}

/// What each command said, and how it ended.
fn session(steps: &[Step], user: &Path, bin: &Path) -> Vec<(String, i32)> {
    let mut script = String::from("exec </dev/null\n");
    for step in steps {
        // In braces, not in a shell of its own: a variable, a folder and a process stay for the next one.
        let typed = &step.typed;
        script.extend(["printf '\\001'\n{ ", typed, "\n} 2>&1\nprintf '\\001%s\\n' $?\n"]);
    }
    let place = |name: &str| user.join(name);
    fs::write(place(".script"), script).expect("written");
    // A file and no pipe: a process that is left behind would keep that open.
    let said = fs::File::create(place(".said")).expect("a file");
    let path = std::env::var("PATH").expect("a path");
    let status = Command::new("bash")
        .arg(place(".script"))
        .current_dir(user)
        .env_clear()
        .env("HOME", user)
        .env("PATH", format!("{}:{path}", bin.display()))
        .envs([("TERM", "xterm"), ("LANG", "C.UTF-8"), ("TZ", "UTC")])
        .stdout(said.try_clone().expect("the same file"))
        .stderr(Stdio::from(said))
        .status();
    let text = fs::read_to_string(place(".said")).expect("UTF-8");
    assert!(status.expect("a shell").success(), "{text}");
    let parts: Vec<_> = text.split(MARK).skip(1).collect();
    assert_eq!(parts.len(), 2 * steps.len(), "{text}");
    parts.chunks(2).map(|part| (part[0].to_owned(), part[1].trim().parse().expect("a code"))).collect()
}

/// Digits where `pattern` has `0`, and everything else as it stands there: all such parts become `pattern` with `fixed`.
fn fix(text: &str, pattern: &str, fixed: &str) -> String {
    let fits = |at: &str| {
        at.len() >= pattern.len()
            && at.bytes().zip(pattern.bytes()).all(|(is, wanted)| match wanted {
                b'0' => is.is_ascii_digit(),
                wanted => is == wanted,
            })
    };
    let mut left = text;
    let mut all = String::new();
    while let Some(letter) = left.chars().next() {
        if fits(left) {
            all += fixed;
            left = &left[pattern.len()..];
        } else {
            all.push(letter);
            left = &left[letter.len_utf8()..];
        }
    }
    all
}

/// Runs a page in a fresh home of a user, and compares it with what was said.
pub(crate) fn run(page: &str, programs: &[(&str, PathBuf)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join(page);
    let text = fs::read_to_string(&file).expect(page);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("without links");
    let (user, bin) = (folder.join("ann"), folder.join("bin"));
    fs::create_dir_all(&user).and_then(|()| fs::create_dir(&bin)).expect("folders");
    for (name, program) in programs {
        std::os::unix::fs::symlink(program, bin.join(name)).expect("a link");
    }
    let samples = Command::new("cp").arg("-r").arg(root.join("examples")).arg(user.join("examples")).status();
    assert!(samples.expect("cp").success());
    let steps = steps(&text);
    let said = session(&steps, &user, &bin);
    let pid = fs::read_to_string(user.join("agent.pid")).ok();
    if let Some(pid) = &pid {
        // One that the page itself ended is not there any more.
        let _ = Command::new("kill").args(["-KILL", pid.trim()]).stderr(Stdio::null()).status();
    }
    let clean = |said: &str| {
        let mut said = said.replace(&user.display().to_string(), USER);
        if let Some(pid) = &pid {
            said = said.replace(pid.trim(), "41207");
        }
        let said = fix(&said, "0000-00-00T00:00:00", "2026-11-21T16:30:08");
        let said = fix(&said, "00000000T000000Z", "20261121T163008Z");
        fix(&said, "0000-00-00T00-00-00", "2026-11-21T16-30-08")
    };
    let assert = snapbox::Assert::new().action_env("SNAPSHOTS").normalize_paths(false);
    let lines: Vec<_> = text.lines().collect();
    let (mut now, mut at) = (Vec::new(), 0);
    for (step, (said, code)) in steps.iter().zip(&said) {
        let head = step.lines.start + step.head;
        now.extend(lines[at..head].iter().map(|line| (*line).to_owned()));
        let mut said = clean(said).trim_end().to_owned();
        if *code != 0 {
            said = if said.is_empty() { format!("? {code}") } else { format!("? {code}\n{said}") };
        }
        // An empty line behind an output is the page's own.
        let own = lines[step.lines.clone()].iter().rev().take_while(|line| line.is_empty()).count();
        at = (step.lines.end - own).max(head);
        // Each by itself: what `...` stands for ends with it.
        let written = lines[head..at].join("\n");
        let said = said.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        let (said, _) = assert.normalize(said.into_data(), written.into_data());
        let said = said.render().expect("a text");
        now.extend(said.lines().map(str::to_owned));
    }
    now.extend(lines[at..].iter().map(|line| (*line).to_owned()));
    assert.eq(now.join("\n") + "\n", snapbox::Data::read_from(&file, None).raw());
}
