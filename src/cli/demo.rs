//! `stagedrop demo`: the whole system on a sample application, told step by step.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use stagedrop::local::Options;
use stagedrop::local::codedeploy::Progress;

use super::world::{BUCKET, World};
use super::{OUTCOME_BAD, sample};

/// How long a deployment stays in each of its states.
const STEP: Duration = Duration::from_millis(15);
/// How long the demo waits for one drop to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Runs the whole system here, on a sample application: two builds, of which the second one fails in a hook.
#[derive(clap::Args)]
#[command(before_help = "Example: stagedrop demo --logs")]
pub struct Arguments {
    /// Show what the functions log.
    #[arg(long)]
    logs: bool,
}

/// One upload of the demo.
struct Upload {
    build_num: u32,
    commit: &'static str,
    author: &'static str,
    breaks: bool,
}

const UPLOADS: [Upload; 2] = [
    Upload {
        build_num: 1,
        commit: "3f2c1a9d5b7e8f60412233445566778899aabbcc",
        author: "alice",
        breaks: false,
    },
    Upload {
        build_num: 2,
        commit: "9b8a7c6d5e4f30211223344556677889900aabbd",
        author: "bob",
        breaks: true,
    },
];

/// Runs the demo; done where both builds ended as they should.
pub async fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let started = Instant::now();
    let options = Options {
        run_hooks: true,
        progress: Progress::Automatic { step: STEP },
        ..Options::default()
    };
    let world = World::start(options, arguments.logs).await?;
    world.create_application("shop", &["production-instances"])?;
    world.put(
        "settings/shop.yml",
        sample::SETTINGS.as_bytes().to_vec(),
        &[],
    )?;
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&states);
    world.aws.router().observe(Arc::new(move |event| {
        if let (Some(id), Some(state)) = (event.detail("deploymentId"), event.detail("state")) {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((id.to_owned(), state.to_owned()));
        }
    }));
    anstream::println!(
        "{TITLE}An AWS of your own{TITLE:#}: S3 and CodeDeploy at {}",
        world.aws.endpoint()
    );
    anstream::println!(
        "  settings    s3://{BUCKET}/settings/shop.yml: where revisions of `shop` go"
    );
    anstream::println!(
        "  functions   deploy and record, each a process behind a Lambda Runtime API"
    );
    let mut as_told = true;
    for upload in &UPLOADS {
        as_told &= show(&world, upload, &states).await?;
    }
    let group = world
        .record("groups/shop/production-instances.json")
        .unwrap_or_default();
    anstream::println!(
        "\n{TITLE}The group{TITLE:#} (records/groups/shop/production-instances.json)"
    );
    anstream::println!(
        "  live        build {}, by deployment {}",
        text(&group, "/live/build/build_num"),
        text(&group, "/live/deployment_id")
    );
    for outcome in group
        .pointer("/outcomes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        anstream::println!(
            "  outcome     build {} {} ({})",
            text(outcome, "/build/build_num"),
            text(outcome, "/status"),
            text(outcome, "/deployment_id")
        );
    }
    let log = world.log();
    world.aws.shutdown().await;
    anstream::println!(
        "\nDone in {:.1} s. `stagedrop local` stays up for uploads of your own.",
        started.elapsed().as_secs_f32()
    );
    if as_told {
        Ok(ExitCode::SUCCESS)
    } else {
        anstream::eprintln!("the demo did not end as it should; the functions said:\n{log}");
        Ok(ExitCode::from(OUTCOME_BAD))
    }
}

/// Uploads one build and tells what became of it; whether that is what should have.
async fn show(
    world: &World,
    upload: &Upload,
    states: &Mutex<Vec<(String, String)>>,
) -> Result<bool, String> {
    let Upload {
        build_num,
        commit,
        author,
        breaks,
    } = upload;
    let zip = sample::repository(*build_num, *breaks)
        .map_err(|error| format!("the sample cannot be zipped: {error}"))?;
    let size = zip.len();
    let key = format!("staging/shop/master/{build_num}-{commit}.zip");
    anstream::println!(
        "\n{TITLE}Build {build_num}{TITLE:#}: CI uploads its repository, and that is all that CI does"
    );
    anstream::println!("  upload      s3://{BUCKET}/{key} ({size} bytes)");
    world.put(
        &key,
        zip,
        &[("author", author), ("repository", "acme/shop")],
    )?;
    let drop = ended(world, &key).await?;
    let target = drop.pointer("/deployments/0").cloned().unwrap_or_default();
    let id = text(&target, "/deployment_id");
    anstream::println!(
        "  block       `{}` of circle.yml matches branch {}",
        text(&drop, "/deployment_block"),
        text(&drop, "/build/branch")
    );
    anstream::println!(
        "  revision    s3://{}/{}",
        text(&target, "/revision/bucket"),
        text(&target, "/revision/key")
    );
    anstream::println!(
        "  repackaged  {} entries kept, {} left out; {} bytes copied by S3, {} sent",
        text(&target, "/counts/entries"),
        text(&target, "/counts/left_out"),
        text(&target, "/counts/bytes_copied"),
        text(&target, "/counts/bytes_put")
    );
    for finding in drop
        .pointer("/findings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        anstream::println!("  finding     {}", text(finding, "/message"));
    }
    anstream::println!("  deployment  {id} to shop/production-instances");
    let told: Vec<String> = {
        let states = states.lock().unwrap_or_else(PoisonError::into_inner);
        states
            .iter()
            .filter(|(of, _)| *of == id)
            .map(|(_, state)| state.clone())
            .collect()
    };
    anstream::println!("  states      {}", told.join(" -> "));
    let status = text(&drop, "/status");
    let color = if status == "succeeded" { GOOD } else { BAD };
    anstream::println!("  record      records/drops/{key}.json: {color}{status}{color:#}");
    if status == "succeeded" {
        let root = world.aws.instance_root("shop", "production-instances");
        let page =
            std::fs::read_to_string(root.join("srv/shop/public/start.html")).unwrap_or_default();
        let line = page.lines().last().unwrap_or_default();
        anstream::println!("  installed   /srv/shop/public/start.html says {line}");
        return Ok(!breaks && line.contains(&format!("build {build_num}")));
    }
    let failure = target.pointer("/failures/0").cloned().unwrap_or_default();
    anstream::println!(
        "  error       {}: {}",
        text(&target, "/error/code"),
        text(&target, "/error/message")
    );
    anstream::println!(
        "  where       {} on {}: {} ({})",
        text(&failure, "/lifecycle_event"),
        text(&failure, "/target_id"),
        text(&failure, "/script"),
        text(&failure, "/error_code")
    );
    for line in text(&failure, "/log_tail").lines() {
        anstream::println!("  log         {line}");
    }
    Ok(*breaks && status == "failed" && text(&failure, "/log_tail").contains("price"))
}

/// Waits for a drop's end, as a CI job would: by reading its record.
async fn ended(world: &World, key: &str) -> Result<Value, String> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(drop) = world.record(&format!("drops/{key}.json")) {
            let status = text(&drop, "/status");
            if !matches!(status.as_str(), "waiting" | "deploying") {
                return Ok(drop);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(format!(
        "the drop of {key} did not end within {} seconds; the functions said:\n{}",
        PATIENCE.as_secs(),
        world.log()
    ))
}

/// A member as text; `-` where there is none.
fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}
