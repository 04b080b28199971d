//! How long programs take from their start to their first request for an event, what they hold then, and how
//! large they are.
//!
//! ```sh
//! cargo run --example startup -- minimal=target/release/examples/minimal_function deploy=target/lambda/deploy/bootstrap
//! ```
//!
//! Each program is a Lambda function. It is started afresh a number of times, the programs in turn, so that a
//! noisy moment hits all of them; ratios are to the first one.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Starts of each program that are measured, after one that is not.
const STARTS: usize = 41;
/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One start.
struct Start {
    time: Duration,
    /// Resident kilobytes while it waits for its first event, and the most until then.
    resident: u64,
    peak: u64,
}

fn start(program: &str) -> Result<Start, String> {
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let began = Instant::now();
    let mut process = Command::new(program)
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", address.to_string().as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "measured"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "measured"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "none"),
            ("AWS_SECRET_ACCESS_KEY", "none"),
            (
                "STAGEDROP_STAGING_KEY_PATTERN",
                "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}",
            ),
            ("STAGEDROP_SETTINGS", "s3://my-artifacts/settings/"),
            ("STAGEDROP_RECORDS", "s3://my-artifacts/records/"),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let polled = loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let asked = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
                    .and_then(|()| {
                        let mut head = [0_u8; 64];
                        let read = stream.read(&mut head)?;
                        Ok(head.get(..read).is_some_and(|head| {
                            head.starts_with(b"GET /2018-06-01/runtime/invocation/next")
                        }))
                    });
                let time = began.elapsed();
                break match asked {
                    Ok(true) => Ok((time, stream)),
                    Ok(false) => Err("asks for something else first".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
            }
            Err(_) if began.elapsed() > PATIENCE => break Err("does not ask".to_owned()),
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    };
    // The connection stays open while it is looked at: the program waits, as it would for an event.
    let result = polled.and_then(|(time, _open)| {
        std::thread::sleep(Duration::from_millis(20));
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))
            .map_err(|error| error.to_string())?;
        let kilobytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1))
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| format!("/proc tells no {name}"))
        };
        Ok(Start {
            time,
            resident: kilobytes("VmRSS:")?,
            peak: kilobytes("VmHWM:")?,
        })
    });
    let _ = process.kill();
    let _ = process.wait();
    result.map_err(|error| format!("{program}: {error}"))
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn measure(programs: &[(String, String)]) -> Result<(), String> {
    let mut starts: Vec<Vec<Start>> = programs.iter().map(|_| Vec::new()).collect();
    for round in 0..=STARTS {
        for ((_, program), starts) in programs.iter().zip(&mut starts) {
            let measured = start(program)?;
            if round > 0 {
                starts.push(measured);
            }
        }
    }
    println!(
        "program    start to first poll, ms: least  median   ratio   idle MB   peak MB   size MB"
    );
    let mut reference = None;
    for ((name, program), starts) in programs.iter().zip(&starts) {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
        let size = Path::new(program)
            .metadata()
            .map_err(|error| format!("{program}: {error}"))?
            .len();
        let (Some(least), Some(middle), Some(resident), Some(peak)) = (
            starts.iter().map(|start| start.time).min(),
            median(starts.iter().map(|start| start.time).collect()),
            median(starts.iter().map(|start| start.resident).collect()),
            starts.iter().map(|start| start.peak).max(),
        ) else {
            return Err("nothing was measured".to_owned());
        };
        let (least, middle) = (millis(least), millis(middle));
        let first = *reference.get_or_insert(middle);
        println!(
            "{name:<10} {least:>30.2} {middle:>7.2} {:>7.2} {:>9.1} {:>9.1} {:>9.2}",
            middle / first,
            megabytes(resident),
            megabytes(peak),
            size as f64 / 1e6,
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let programs: Option<Vec<(String, String)>> = std::env::args()
        .skip(1)
        .map(|argument| {
            let (name, program) = argument.split_once('=')?;
            Some((name.to_owned(), program.to_owned()))
        })
        .collect();
    let Some(programs) = programs.filter(|programs| !programs.is_empty()) else {
        eprintln!("usage: startup NAME=PROGRAM ...");
        return ExitCode::from(2);
    };
    match measure(&programs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("startup: {error}");
            ExitCode::FAILURE
        }
    }
}
