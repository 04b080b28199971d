//! Runs hook scripts as the agent does (`hook_executor.rb`), without `runas`.
//!
//! Owns the agent's texts and error codes, the log tail's form, and the script's time limit.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::unpack::inside;
use crate::appspec::Script;
use crate::local::codedeploy::Diagnostics;
use crate::local::locked;

/// Bytes of the log tail that CodeDeploy tells.
pub(super) const LOG_TAIL_BYTES_MAX: usize = 4_096;
/// Bytes of one line of output; a longer one is told in pieces.
const LINE_BYTES_MAX: u64 = 4_096;
/// How long to wait for output after a script has ended: a process that it left behind may hold on to it.
const OUTPUT_DRAIN_MAX: Duration = Duration::from_millis(500);
/// `execve` on a script without `#!`.
const ENOEXEC: i32 = 8;

/// The end of what a script prints, under the agent's heading.
struct Log(String);

impl Log {
    fn push(&mut self, prefix: &str, line: &str) {
        self.0.push_str(prefix);
        self.0.push_str(line);
        self.0.push('\n');
        if self.0.len() > 4 * LOG_TAIL_BYTES_MAX {
            self.0 = tail(&self.0).to_owned();
        }
    }
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(LOG_TAIL_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

/// Runs one script to its end.
pub(super) async fn run(
    root: &Path,
    event: &str,
    script: &Script,
    environment: &[(String, String)],
) -> Result<(), Diagnostics> {
    let location = script.location.as_str();
    let log = Arc::new(Mutex::new(Log(format!(
        "LifecycleEvent - {event}\nScript - {location}\n"
    ))));
    let failed = |code: &str, message: String| Diagnostics {
        error_code: code.to_owned(),
        script_name: location.to_owned(),
        message,
        log_tail: tail(&locked(&log).0).to_owned(),
    };
    let relative = inside(Path::new(location.trim_start_matches('/')));
    let path = relative
        .map(|relative| root.join(relative))
        .filter(|path| path.is_file());
    let Some(path) = path else {
        let message = format!(
            "Script does not exist at specified location: {}",
            root.join(location).display()
        );
        return Err(failed("ScriptMissing", message));
    };
    if let Err(error) = make_executable(&path) {
        let message = format!(
            "Unable to set script at specified location: {location} as executable: {error}"
        );
        return Err(failed("ScriptNotExecutable", message));
    }
    let mut child = spawn(&path, root, environment).map_err(|error| {
        failed(
            "ScriptFailed",
            format!("Script at specified location: {location} failed with error {error}"),
        )
    })?;
    let mut output = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        output.spawn(collect(Arc::clone(&log), "[stdout]", stdout));
    }
    if let Some(stderr) = child.stderr.take() {
        output.spawn(collect(Arc::clone(&log), "[stderr]", stderr));
    }
    let ended =
        tokio::time::timeout(Duration::from_secs(script.timeout_seconds), child.wait()).await;
    if ended.is_err() {
        kill(&mut child).await;
    }
    let drained = async { while output.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(OUTPUT_DRAIN_MAX, drained).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            let code = status
                .code()
                .map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
            Err(failed(
                "ScriptFailed",
                format!("Script at specified location: {location} failed with {code}"),
            ))
        }
        Ok(Err(error)) => Err(failed(
            "ScriptFailed",
            format!("Script at specified location: {location} failed with error {error}"),
        )),
        Err(_) => {
            let seconds = script.timeout_seconds;
            let message = format!(
                "Script at specified location: {location} failed to complete in {seconds} seconds"
            );
            Err(failed("ScriptTimedOut", message))
        }
    }
}

/// The agent makes scripts executable itself; application files it leaves as they are.
fn make_executable(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o111 == 0o111 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode | 0o755))
}

fn spawn(path: &Path, root: &Path, environment: &[(String, String)]) -> io::Result<Child> {
    let start = |mut command: Command| {
        command
            .current_dir(root)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env(
                "PATH",
                std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    };
    match start(Command::new(path)) {
        // What Ruby's spawn does with a script that has no `#!`.
        Err(error) if error.raw_os_error() == Some(ENOEXEC) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg(path);
            start(shell)
        }
        started => started,
    }
}

/// Kills the script and what it started.
async fn kill(child: &mut Child) {
    if let Some(group) = child.id() {
        // Its process group has its own id; `kill` is the portable way without unsafe code.
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{group}")])
            .stderr(Stdio::null())
            .status()
            .await;
    }
    let _ = child.kill().await;
}

async fn collect(log: Arc<Mutex<Log>>, prefix: &'static str, output: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                locked(&log).push(prefix, text.trim_end_matches(['\n', '\r']));
            }
        }
    }
}
