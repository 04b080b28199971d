//! What repackaging costs, beside what else a user would run: `cargo bench --bench repackage`.
//!
//! Without a command it makes the corpora and measures everything (`benches/repackage/run.py`, which
//! starts this program again for each thing that is ours). Its commands are what is measured, each a process
//! of its own, so that time and memory are the operating system's account of it.

mod aws;
mod files;

use std::error::Error;
use std::process::{Command, ExitCode};

/// Whatever goes wrong ends the measurement with its text.
type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "\
cargo bench --bench repackage                           everything; `-- --help` lists the options
cargo bench --bench repackage -- splice SOURCE TARGET ROOT      zip to zip, file to file
cargo bench --bench repackage -- transcode SOURCE TARGET ROOT   tar.gz to zip, file to file
cargo bench --bench repackage -- raw-copy SOURCE TARGET ROOT    zip to zip by the `zip` crate's raw copy
cargo bench --bench repackage -- aws                            the embedded AWS; commands on standard input";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        // What `cargo bench` adds for harnesses of its own.
        .filter(|argument| argument != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["splice", source, target, root] => files::splice(source, target, root).and_then(tell_peak),
        ["transcode", source, target, root] => {
            files::transcode(source, target, root).and_then(tell_peak)
        }
        ["raw-copy", source, target, root] => {
            files::raw_copy(source, target, root).and_then(tell_peak)
        }
        ["aws"] => aws::serve(env!("CARGO_BIN_EXE_deploy")),
        [] => measure(&[]),
        [first, ..] if first.starts_with('-') => measure(&words),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what this process held at most. Whoever started it cannot tell that of one smaller than itself.
fn tell_peak((): ()) -> Outcome<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|text| text.split_whitespace().next())
        .ok_or("/proc/self/status has no VmHWM")?;
    println!("peak_kib {peak}");
    Ok(())
}

/// Hands over to the script, which knows the peers.
fn measure(options: &[&str]) -> Outcome<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/repackage/run.py");
    let status = Command::new("python3")
        .args(["-B", script])
        .arg("--program")
        .arg(std::env::current_exe()?)
        .args(options)
        .status()
        .map_err(|error| {
            format!("python3, which runs the measurements, does not start: {error}")
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the measurements ended with {status}").into())
    }
}
