//! `stagedrop push` beside `aws deploy push` of the same 60,000 files: `cargo bench --bench push`.
//!
//! Both send to one embedded AWS (`stagedrop local`), in turns, after a first push that brings the files into
//! memory. Each line is a run: wall time, processor time and the most memory of the client alone. The last line is
//! the quotient of the least wall times. `aws` is taken from `PATH`; `PUSH_TREE` names a folder to push in place
//! of the made one.

use std::error::Error;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FILES: usize = 60_000;
const RUNS: usize = 3;
const STAGEDROP: &str = env!("CARGO_BIN_EXE_stagedrop");

/// What a process used. Linux tells the last two; elsewhere they are 0.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    wall: Duration,
    processor_seconds: f64,
    peak_kib: u64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6.2} s  {:6.2} s of processors  {:4} MiB",
            self.wall.as_secs_f64(),
            self.processor_seconds,
            self.peak_kib / 1024
        )
    }
}

/// Ends the embedded AWS with the benchmark.
struct Server {
    child: Child,
    endpoint: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_server() -> Result<Server, Box<dyn Error>> {
    let mut child = Command::new(STAGEDROP)
        .args(["local", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(out).lines();
    let first = lines.next().ok_or("`stagedrop local` did not start")??;
    let endpoint = first
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .ok_or_else(|| format!("no endpoint in `{first}`"))?
        .to_owned();
    // Nobody may wait for room in the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Server { child, endpoint })
}

/// Files like those of a JavaScript application: mostly small, of words that come again.
fn make_tree(root: &Path) -> Result<u64, Box<dyn Error>> {
    const WORDS: usize = 4_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let words: Vec<String> = (0..WORDS)
        .map(|_| {
            let length = 2 + next(9);
            (0..length)
                .map(|_| char::from(b'a' + next(26) as u8))
                .collect()
        })
        .collect();
    let marks = [
        " ", " ", " ", ".", "(", ") ", ";\n  ", ", ", " = ", " {\n    ",
    ];
    let mut bytes = 0;
    for file in 0..FILES {
        let folder = root.join(format!("node_modules/m{}/p{}", file % 20, file % 600));
        if file < 600 {
            std::fs::create_dir_all(&folder)?;
        }
        let mut text = String::new();
        let length = if file % 4 == 0 {
            next(12_000)
        } else {
            next(3_500)
        };
        while text.len() < length {
            // Some words are much more frequent than others.
            let word = next(WORDS) * next(WORDS) / WORDS;
            text.push_str(words.get(word).map_or("", String::as_str));
            text.push_str(marks.get(next(marks.len())).copied().unwrap_or(" "));
        }
        bytes += text.len() as u64;
        std::fs::write(folder.join(format!("f{file}.js")), text)?;
    }
    let appspec = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv/app\n";
    std::fs::write(root.join("appspec.yml"), appspec)?;
    Ok(bytes)
}

/// What a running process has used so far; `/proc` of Linux.
fn usage_of(process: u32) -> Option<(f64, u64)> {
    /// Clock ticks in a second: `sysconf(_SC_CLK_TCK)` is 100 wherever Linux runs.
    const TICKS: f64 = 100.0;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak = peak.trim().trim_end_matches(" kB").parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(((ticks(11)? + ticks(12)?) / TICKS, peak))
}

fn run(command: &mut Command, endpoint: &str) -> Result<Usage, Box<dyn Error>> {
    let started = Instant::now();
    let mut child = command
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL", endpoint)
        .stdout(Stdio::null())
        .spawn()?;
    let mut usage = Usage::default();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some((processor_seconds, peak_kib)) = usage_of(child.id()) {
            (usage.processor_seconds, usage.peak_kib) = (processor_seconds, peak_kib);
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    usage.wall = started.elapsed();
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(usage)
}

fn main() -> Result<(), Box<dyn Error>> {
    let made = std::env::temp_dir().join(format!("stagedrop-push-{}", std::process::id()));
    let told = std::env::var_os("PUSH_TREE").map(PathBuf::from);
    let tree = match &told {
        Some(tree) => tree.clone(),
        None => {
            std::fs::create_dir_all(&made)?;
            let bytes = make_tree(&made)?;
            println!("{FILES} files, {} MB", bytes / 1_000_000);
            made.clone()
        }
    };
    let compared = compare(&tree);
    if told.is_none() {
        std::fs::remove_dir_all(&made)?;
    }
    compared
}

fn compare(tree: &Path) -> Result<(), Box<dyn Error>> {
    let server = start_server()?;
    let has_aws = Command::new("aws")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_aws {
        println!("there is no `aws` in PATH: nothing to compare with; install the AWS CLI");
    }
    let ours = |number: usize| {
        let to = format!("s3://stagedrop/staging/my-app/x/app-{number}.zip");
        let mut command = Command::new(STAGEDROP);
        command.arg("push").arg(tree);
        command.args(["--to", &to, "--no-wait", "--no-ignore"]);
        run(&mut command, &server.endpoint)
    };
    let theirs = |number: usize| {
        let to = format!("s3://stagedrop-revisions/aws-{number}.zip");
        let mut command = Command::new("aws");
        command.args(["deploy", "push", "--application-name", "my-app"]);
        command.args(["--s3-location", &to, "--source"]).arg(tree);
        run(&mut command, &server.endpoint)
    };
    ours(0)?;
    let mut least = [Duration::MAX; 2];
    for number in 1..=RUNS {
        if has_aws {
            let usage = theirs(number)?;
            least[0] = least[0].min(usage.wall);
            println!("aws deploy push  {usage}");
        }
        let usage = ours(number)?;
        least[1] = least[1].min(usage.wall);
        println!("stagedrop push   {usage}");
    }
    if has_aws {
        let quotient = least[0].as_secs_f64() / least[1].as_secs_f64();
        println!("{quotient:.1} times faster");
    }
    Ok(())
}
