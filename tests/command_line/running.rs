//! Runs the program, in a pipe or on a pseudo-terminal, and makes what it says comparable.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fancy_regex::Regex;

/// Columns and rows of the terminal.
pub const SIZE: (u16, u16) = (100, 40);

/// What a run left.
#[derive(Debug)]
pub struct Said {
    /// Exit status.
    pub code: i32,
    /// What it said: both streams of a pipe, standard output first; or all that the terminal got.
    pub text: String,
    /// Standard output alone; on a terminal the same as `text`.
    pub stdout: String,
}

/// A call of the program.
#[derive(Debug, Clone)]
pub struct Call {
    program: String,
    arguments: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Call {
    pub fn new(arguments: &[&str], folder: &Path) -> Self {
        // Nothing of this machine's own environment: it may be a CI itself.
        let environment = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", folder.display().to_string()),
            ("TERM", "xterm-256color".to_owned()),
            ("GIT_CEILING_DIRECTORIES", "/".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        Self {
            program: env!("CARGO_BIN_EXE_stagedrop").to_owned(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            folder: folder.to_owned(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        }
    }

    /// The same of another program.
    #[must_use]
    pub fn of_program(mut self, program: &str) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    #[must_use]
    pub fn with(mut self, environment: &BTreeMap<String, String>) -> Self {
        self.environment.extend(environment.clone());
        self
    }

    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null());
        command
    }

    /// Runs it in a pipe, beside whatever else the test does.
    pub async fn piped(&self) -> Said {
        let mut command = self.command();
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            text: format!("{stdout}{stderr}"),
            stdout,
        }
    }

    /// Runs it on a pseudo-terminal of its own.
    pub async fn on_terminal(&self) -> Said {
        let (arguments, folder) = (self.arguments.clone(), self.folder.clone());
        let (environment, program) = (self.environment.clone(), self.program.clone());
        tokio::task::spawn_blocking(move || {
            let (mut terminal, other_end) = pty_process::blocking::open().unwrap();
            terminal
                .resize(pty_process::Size::new(SIZE.1, SIZE.0))
                .unwrap();
            let mut child = pty_process::blocking::Command::new(&program)
                .args(&arguments)
                .current_dir(&folder)
                .env_clear()
                .envs(&environment)
                .spawn(other_end)
                .unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            // A terminal whose program has ended answers with an error instead of an end.
            while let Ok(read) = terminal.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                bytes.extend_from_slice(&buffer[..read]);
            }
            let status = child.wait().unwrap();
            let text = String::from_utf8(bytes).unwrap();
            Said {
                code: status.code().unwrap_or(-1),
                stdout: text.clone(),
                text,
            }
        })
        .await
        .unwrap()
    }
}

/// What stands on the screen in the end.
pub fn screen(said: &Said) -> String {
    let mut terminal = vt100::Parser::new(SIZE.1, SIZE.0, 0);
    terminal.process(said.text.as_bytes());
    let contents = terminal.screen().contents();
    let lines: Vec<&str> = contents.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

/// What the terminal got, colours made visible.
pub fn with_colours(said: &Said) -> String {
    said.text.replace("\r\n", "\n").replace('\u{1b}', "␛")
}

/// The same with what differs from run to run made equal: ids, times, rates, ports.
pub fn comparable(text: &str) -> String {
    let rules = [
        (r"d-[A-Z0-9]{9}\b", "d-XXXXXXXXX"),
        (r"i-[0-9a-f]{17}\b", "i-0123456789abcdef0"),
        (r"in \d+\.\d s, [\d.]+ [kMG]?[bB][a-z]*/s", "in N s, N/s"),
        (r"after \d+ s", "after N s"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"/tmp/\.tmp\w+", "/TMP"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
    ];
    rules
        .into_iter()
        .fold(text.to_owned(), |text, (expression, instead)| {
            let expression = Regex::new(expression).unwrap();
            expression.replace_all(&text, instead).into_owned()
        })
}

/// The same without what a look at a record may or may not catch on the way to its end.
pub fn without_passing_states(text: &str) -> String {
    let passing = |line: &str| {
        let line = line.trim_start_matches(['␛', '[', '0', 'm']);
        line.starts_with("taken ") || line.starts_with("deploying ")
    };
    text.lines()
        .filter(|line| !passing(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Compares with `tests/transcripts/<name>.txt` (written anew under `SNAPSHOTS=overwrite`).
pub fn assert_transcript(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/{name}.txt"));
    let text = format!("{}\n", text.trim_end());
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .eq(text, snapbox::Data::read_from(&path, None));
}
