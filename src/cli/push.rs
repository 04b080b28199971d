//! `stagedrop push`: a folder or an archive, staged with what is known of its build, and followed to its end.

mod check;
mod folder;
mod pack;
mod progress;
mod upload;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::SignedDuration;
use serde_json::json;
use stagedrop::archive::ArchiveFormat;
use stagedrop::aws::Aws;
use stagedrop::ci_environment::{self, BuildFacts};
use stagedrop::deployment::RepositoryName;
use stagedrop::destination::{Destination, Staged};
use stagedrop::finding::Finding;
use stagedrop::following::{self, Line, Tone};
use stagedrop::key_pattern::EXTENSIONS;
use stagedrop::object::S3Prefix;
use stagedrop::packing::EARLIEST_SECONDS;
use stagedrop::revision::NewObject;
use stagedrop::settings::ApplicationRoot;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::folder::Folder;
use self::pack::{Abandoned, PackTrouble};
use self::progress::{Counters, Progress};
use self::upload::{Outcome, Sending};
use super::follow::{DropRecord, conclude, record_uri, report};
use super::git;
use super::interrupt::Interrupt;
use super::voice::{GOOD, Trouble, count, megabytes, print_json, say, tell};
use super::{Output, outcome_code, records_of, region_of};

/// Least bytes of a part.
const PART_BYTES_MIN: u64 = 8 << 20;
/// Parts that an upload may need, with room below S3's 10,000.
const PARTS_MAX: u64 = 9_000;
/// The longest that a record is followed: a year, which every clock can add.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Parts that are packed ahead of those in flight.
const PARTS_AHEAD: usize = 2;

/// Stages a build: packs a folder (or takes an archive), uploads it, and follows its record to the end.
///
/// What of the build is not given by options is taken from the CI's environment, else from git. Exit status:
/// 0 deployed, superseded by a newer build, or nothing to deploy; 1 refused, failed, stopped, or its end not
/// seen (not in time, or its key was staged anew); 2 not carried out; 130 or 143 interrupted.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop push . --to s3://my-artifacts/staging --project my-app"
)]
pub struct Arguments {
    /// A folder, or a zip, tar.gz or tar file.
    path: PathBuf,
    /// Where builds are staged: a folder (`{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}` follows), a pattern, or a
    /// key with its extension.
    #[arg(long, value_name = "S3_URI")]
    to: String,
    /// The project whose settings are used; the repository's name where not given.
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// The branch that was built.
    #[arg(long, value_name = "NAME", conflicts_with = "tag")]
    branch: Option<String>,
    /// The tag that was built; makes it a tag build.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// The commit that was built.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// The CI's number of the build.
    #[arg(long, value_name = "NUMBER")]
    build_num: Option<String>,
    /// The repository.
    #[arg(long, value_name = "OWNER/NAME")]
    repository: Option<RepositoryName>,
    /// Where the build can be looked at.
    #[arg(long, value_name = "URL")]
    build_url: Option<String>,
    /// Who made the change.
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Leave out what matches, spelled as in an ignore file; may be given several times.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Take what `.gitignore` and `.stagedropignore` files in the folder leave out.
    #[arg(long)]
    no_ignore: bool,
    /// The folder inside that becomes the revision, for the check; found by its AppSpec where not given.
    #[arg(long, value_name = "PATH")]
    application_root: Option<ApplicationRoot>,
    /// Upload without the bundle check.
    #[arg(long)]
    no_check: bool,
    /// Deploy this build even over a newer one.
    #[arg(long)]
    redeploy: bool,
    /// Where the records are; `s3://<bucket of --to>/records/` where not given.
    #[arg(long, value_name = "S3_URI")]
    records: Option<S3Prefix>,
    /// Follow the record to the end (the default).
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Be done once the artifact is staged.
    #[arg(long)]
    no_wait: bool,
    /// How long the record is followed.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = read_timeout)]
    timeout: Duration,
    /// Say what would be staged, and where, and be done.
    #[arg(long)]
    dry_run: bool,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// `90s`, `30m`, `1h 30m`; a number alone is seconds. What is longer than [`TIMEOUT_MAX`] is that.
pub fn read_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let read = seconds.or_else(|| Duration::try_from(text.parse::<SignedDuration>().ok()?).ok());
    read.map(|read| read.min(TIMEOUT_MAX))
        .ok_or_else(|| "write it as 90s, 30m or 1h".to_owned())
}

/// What is pushed.
enum Content {
    Folder(Folder),
    Archive {
        path: PathBuf,
        bytes: u64,
        format: ArchiveFormat,
    },
}

/// Stages and follows.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let is_text = arguments.output == Output::Text;
    let destination: Destination = arguments.to.parse()?;
    let checkout = git::look(&arguments.path);
    let ci = ci_environment::read(|name| std::env::var(name).ok());
    let facts = facts_of(&arguments, ci.as_ref().map(|(_, facts)| facts), &checkout);
    let content = open(&arguments)?;
    let staged = destination.stage(
        &facts,
        arguments.project.as_deref(),
        &extension(&arguments.path, &content),
        arguments.redeploy,
    )?;
    if is_text {
        let from = ci.map_or(String::new(), |(ci, _)| format!(" ({})", ci.name()));
        tell("build", &format!("{}{from}", describe(&facts)));
        for what in &staged.left_out {
            say(&Line {
                tone: Tone::Warn,
                word: "left out".to_owned(),
                text: what.clone(),
            });
        }
    }
    if !arguments.no_check {
        let checked = match &content {
            Content::Folder(folder) => {
                check::folder(folder, arguments.application_root.as_ref()).await?
            }
            Content::Archive { path, .. } => {
                check::archive(path, arguments.application_root.as_ref()).await?
            }
        };
        if is_text {
            checked
                .findings
                .iter()
                .flat_map(following::finding_lines)
                .for_each(|line| say(&line));
        }
        if checked.findings.iter().any(Finding::refuses) {
            return refused(&arguments, &staged, &checked.findings);
        }
        if is_text {
            tell(
                "checked",
                &format!("{}: {GOOD}accepted{GOOD:#}", checked.what),
            );
        }
    }
    if is_text {
        summary(&content)
            .into_iter()
            .for_each(|(word, text)| tell(word, &text));
        tell("staging", &format!("s3://{}/{}", staged.bucket, staged.key));
    }
    if arguments.dry_run {
        if !is_text {
            print_json(&report(&staged, None, None))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let content_type = content_type(&content);
    // What is asked before the upload is asked while the first parts are packed.
    let packing = UnderWay::begin(content, modified_seconds(checkout.committed_at));
    let aws = Aws::from_environment().await;
    let region = region_of(&aws)?;
    let records = records_of(arguments.records.as_ref(), Some(&staged.bucket))?;
    let record = if arguments.no_wait && !arguments.wait {
        None
    } else {
        Some(DropRecord::before_staging(&aws, &records, &staged.key).await?)
    };
    let object = NewObject {
        region,
        bucket: staged.bucket.clone(),
        key: staged.key.clone(),
        metadata: staged.metadata.clone(),
        content_type,
        is_revision: false,
        replace: true,
    };
    let may_be_staged = format!(
        "it may be staged; its outcome would stand in {}",
        record_uri(&records, &staged.key)?
    );
    let mut interrupt = Interrupt::new()?;
    let sent = packing
        .send(&aws, &object, &may_be_staged, !is_text, &mut interrupt)
        .await?;
    let (written, bytes) = match sent {
        (Outcome::Written(written), bytes) => (written, bytes),
        (Outcome::Interrupted(interrupted, None), _) => {
            anstream::eprintln!("stagedrop: interrupted; nothing is staged and no part is left");
            return Ok(interrupted.exit_code());
        }
        (Outcome::Interrupted(interrupted, Some(left)), _) => {
            anstream::eprintln!("stagedrop: interrupted; nothing is staged");
            left.print();
            return Ok(interrupted.exit_code());
        }
        (Outcome::InterruptedUnsure(interrupted), _) => {
            anstream::eprintln!(
                "stagedrop: interrupted while s3://{}/{} was being written: {may_be_staged}",
                staged.bucket,
                staged.key
            );
            return Ok(interrupted.exit_code());
        }
    };
    if is_text {
        let seconds = started.elapsed().as_secs_f64();
        tell(
            "staged",
            &format!(
                "{} in {seconds:.1} s, {}/s",
                megabytes(bytes),
                megabytes((bytes as f64 / seconds.max(0.001)) as u64)
            ),
        );
    }
    conclude(
        record.as_ref(),
        &staged,
        &written,
        arguments.timeout,
        arguments.output,
        &mut interrupt,
    )
    .await
}

fn facts_of(
    arguments: &Arguments,
    ci: Option<&BuildFacts>,
    checkout: &git::Checkout,
) -> BuildFacts {
    let flags = BuildFacts {
        branch: arguments.branch.clone(),
        tag: arguments.tag.clone(),
        commit: arguments.commit.clone(),
        build_num: arguments.build_num.clone(),
        repository: arguments.repository.as_ref().map(ToString::to_string),
        build_url: arguments.build_url.clone(),
        author: arguments.author.clone(),
    };
    let known = match ci {
        Some(facts) => flags.or(facts.clone()),
        None => flags,
    };
    known.or(checkout.facts.clone())
}

fn open(arguments: &Arguments) -> Result<Content, Trouble> {
    let path = &arguments.path;
    let with_path = |error: std::io::Error| Trouble::with_file(path, &error);
    let status = path.metadata().map_err(with_path)?;
    if status.is_dir() {
        let folder = Folder::walk(path, &arguments.exclude, !arguments.no_ignore)?;
        return Ok(Content::Folder(folder));
    }
    if !arguments.exclude.is_empty() {
        return Err(Trouble::new(
            format!(
                "--exclude is for folders, and {} is an archive",
                path.display()
            ),
            "set `exclude` in the settings, or push the folder",
        ));
    }
    let mut file = File::open(path).map_err(with_path)?;
    let mut first = vec![0; ArchiveFormat::FIRST_BYTES as usize];
    let mut filled = 0;
    while let Some(room) = first.get_mut(filled..)
        && !room.is_empty()
    {
        match file.read(room).map_err(with_path)? {
            0 => break,
            read => filled += read,
        }
    }
    first.truncate(filled);
    let format = ArchiveFormat::detect(&first, &[]).ok_or_else(|| {
        Trouble::new(
            format!("{} is neither a folder nor an archive", path.display()),
            "give a folder, or a zip, tar.gz or tar file",
        )
    })?;
    Ok(Content::Archive {
        path: path.clone(),
        bytes: status.len(),
        format,
    })
}

fn extension(path: &Path, content: &Content) -> String {
    let Content::Archive { format, .. } = content else {
        return ".zip".to_owned();
    };
    let name = path.to_string_lossy().to_ascii_lowercase();
    let own = EXTENSIONS
        .iter()
        .find(|extension| name.ends_with(*extension));
    own.copied()
        .unwrap_or(match format {
            ArchiveFormat::Zip => ".zip",
            ArchiveFormat::Tar => ".tar",
            ArchiveFormat::TarGz => ".tar.gz",
        })
        .to_owned()
}

fn content_type(content: &Content) -> &'static str {
    match content {
        Content::Folder(_)
        | Content::Archive {
            format: ArchiveFormat::Zip,
            ..
        } => "application/zip",
        Content::Archive {
            format: ArchiveFormat::Tar,
            ..
        } => "application/x-tar",
        Content::Archive {
            format: ArchiveFormat::TarGz,
            ..
        } => "application/gzip",
    }
}

/// The time of all members: that of the build where it is known, so that the same commit gives the same bytes.
fn modified_seconds(committed_at: Option<i64>) -> i64 {
    let told = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    told.or(committed_at).unwrap_or(EARLIEST_SECONDS)
}

fn describe(facts: &BuildFacts) -> String {
    let commit = facts.commit.as_deref();
    let commit = commit.map(|commit| commit.get(..7).unwrap_or(commit));
    let parts = [
        ("tag", facts.tag.as_deref()),
        ("branch", facts.branch.as_deref()),
        ("commit", commit),
        ("build", facts.build_num.as_deref()),
        ("by", facts.author.as_deref()),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", (*value)?)))
        .collect();
    if parts.is_empty() {
        "nothing is known of it".to_owned()
    } else {
        parts.join(", ")
    }
}

fn summary(content: &Content) -> Vec<(&'static str, String)> {
    match content {
        Content::Folder(folder) => {
            let mut lines = vec![(
                "packing",
                format!(
                    "{}, {}",
                    count(folder.files(), "file"),
                    megabytes(folder.bytes)
                ),
            )];
            if !folder.ignore_files.is_empty() {
                lines.push((
                    "heeding",
                    format!(
                        "{} (--no-ignore takes all)",
                        shortened(&folder.ignore_files)
                    ),
                ));
            }
            lines
        }
        Content::Archive { path, bytes, .. } => vec![(
            "taking",
            format!("{}, {}", path.display(), megabytes(*bytes)),
        )],
    }
}

fn shortened(names: &[String]) -> String {
    const SHOWN_MAX: usize = 3;
    let shown: Vec<&str> = names.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

fn refused(
    arguments: &Arguments,
    staged: &Staged,
    findings: &[Finding],
) -> Result<ExitCode, Trouble> {
    if arguments.output == Output::Json {
        let mut report = report(staged, None, None);
        if let Some(fields) = report.as_object_mut() {
            fields.insert("findings".to_owned(), json!(findings));
            fields.insert("status".to_owned(), json!("refused"));
        }
        print_json(&report)?;
    } else {
        say(&Line {
            tone: Tone::Bad,
            word: "refused".to_owned(),
            text: format!(
                "{} would not be deployed, so it is not staged",
                arguments.path.display()
            ),
        });
    }
    Ok(outcome_code(false))
}

/// Packing that is under way, in a thread of its own.
struct UnderWay {
    raw_bytes: u64,
    part_bytes: usize,
    counters: Arc<Counters>,
    parts: mpsc::Receiver<Bytes>,
    source: JoinHandle<Result<(), PackTrouble>>,
}

impl UnderWay {
    /// Packs, or reads, as far ahead as parts may wait.
    fn begin(content: Content, modified_seconds: i64) -> Self {
        let raw_bytes = match &content {
            Content::Folder(folder) => folder.bytes,
            Content::Archive { bytes, .. } => *bytes,
        };
        // Names and headers come on top; packed content is seldom longer than it was.
        let headers = match &content {
            Content::Folder(folder) => folder.members.len() as u64 * 512,
            Content::Archive { .. } => 0,
        };
        let part_bytes = PART_BYTES_MIN.max(raw_bytes.saturating_add(headers).div_ceil(PARTS_MAX));
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        let counters = Arc::new(Counters::default());
        let (give, parts) = mpsc::channel::<Bytes>(PARTS_AHEAD);
        let counted = Arc::clone(&counters);
        let source = tokio::task::spawn_blocking(move || {
            let take = |part: Bytes| give.blocking_send(part).map_err(|_| Abandoned);
            match &content {
                Content::Folder(folder) => {
                    pack::pack(folder, modified_seconds, part_bytes, &counted.packing, take)
                        .map(|_| ())
                }
                Content::Archive { path, .. } => {
                    pack::read_parts(path, part_bytes, &counted.packing, take)
                }
            }
        });
        Self {
            raw_bytes,
            part_bytes,
            counters,
            parts,
            source,
        }
    }

    /// Uploads what is packed; gives the size of what was written.
    async fn send(
        self,
        aws: &Aws,
        object: &NewObject,
        may_be_staged: &str,
        is_quiet: bool,
        interrupt: &mut Interrupt,
    ) -> Result<(Outcome, u64), Trouble> {
        let progress = Progress::start(Arc::clone(&self.counters), self.raw_bytes, is_quiet);
        let ended_early = |why: String| Trouble::from(format!("packing ended early{why}"));
        let source = async {
            match self.source.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(PackTrouble::Trouble(trouble))) => Err(trouble),
                Ok(Err(PackTrouble::Abandoned)) => Err(ended_early(String::new())),
                Err(error) => Err(ended_early(format!(": {error}"))),
            }
        };
        let sending = Sending {
            object,
            part_bytes: self.part_bytes,
            may_be_staged,
            sent_bytes: &self.counters.sent_bytes,
        };
        let sent = upload::upload(&aws, &sending, self.parts, source, interrupt).await;
        progress.end();
        Ok((sent?, self.counters.sent_bytes.load(Ordering::Relaxed)))
    }
}
