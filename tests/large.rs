//! Large artifacts: few bytes through the function, little memory in it, and nothing left behind.
//!
//! The artifacts are as large as they say and take no room: their contents are one piece of zeros, many
//! times over.

use std::io::Write;
use std::process::Command;

use serde_json::Value;
use stagedrop::local::Options;
use stagedrop::local::faults::{Fault, Match, Nth};
use stagedrop::local::network::Model;
use stagedrop::local::s3::Attributes;
use stagedrop::local::s3::blob::Blob;
use stagedrop::local::s3::object::{Condition, Content};

use crate::support::{APPSPEC, ARTIFACTS, REVISIONS, SETTINGS, World, by_hand, staged_key};

const MIB: u64 = 1 << 20;

/// Metadata and content of one entry: zeros, or these bytes.
struct File {
    name: String,
    content: Stuff,
}

#[derive(Clone, Copy)]
enum Stuff {
    Zeros(u64),
    Text(&'static str),
}

fn file(name: impl Into<String>, content: Stuff) -> File {
    let name = name.into();
    File { name, content }
}

/// What every application has, under `app/`.
fn application(files: impl IntoIterator<Item = File>) -> Vec<File> {
    let after = "#!/bin/sh\necho hello\n";
    [
        file("app/appspec.yml", Stuff::Text(APPSPEC)),
        file("app/scripts/after.sh", Stuff::Text(after)),
    ]
    .into_iter()
    .chain(files)
    .collect()
}

/// Bytes that are mostly zeros.
struct Sparse {
    pieces: Vec<Blob>,
    open: Vec<u8>,
    zeros: Blob,
    length: u64,
}

impl Sparse {
    fn new() -> Self {
        Self {
            pieces: Vec::new(),
            open: Vec::new(),
            zeros: Blob::from(bytes::Bytes::from(vec![0; 4 << 20])),
            length: 0,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.open.extend_from_slice(bytes);
    }

    fn zeros(&mut self, length: u64) {
        if length < 10_000 {
            self.bytes(&vec![0; length as usize]);
            return;
        }
        self.length += length;
        self.close();
        for at in (0..length).step_by(4 << 20) {
            self.pieces.push(self.zeros.slice(0, length - at));
        }
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.pieces.push(Blob::from(bytes::Bytes::from(open)));
    }

    fn finish(mut self) -> Blob {
        self.close();
        Blob::join(self.pieces.iter())
    }
}

/// CRC-32 and length of an entry's content.
fn measure(content: Stuff) -> (u32, u64) {
    match content {
        Stuff::Text(text) => (crc32fast::hash(text.as_bytes()), text.len() as u64),
        Stuff::Zeros(length) => {
            let piece = vec![0; MIB as usize];
            let mut crc32 = crc32fast::Hasher::new();
            for at in (0..length).step_by(MIB as usize) {
                crc32.update(&piece[..(length - at).min(MIB) as usize]);
            }
            (crc32.finalize(), length)
        }
    }
}

/// A zip of stored files, below 4 GiB.
fn zip(files: &[File]) -> Blob {
    let mut out = Sparse::new();
    let mut directory = Vec::new();
    for File { name, content } in files {
        let (crc32, size) = measure(*content);
        let at = u32::try_from(out.length).unwrap();
        let mode: u32 = if name.contains("scripts/") {
            0o755
        } else {
            0o644
        };
        let mut common = [0x14, 0, 0, 0, 0, 0, 0, 0x60, 0x21, 0x58].to_vec();
        common.extend(crc32.to_le_bytes());
        common.extend([u32::try_from(size).unwrap().to_le_bytes(); 2].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        out.bytes(b"PK\x03\x04");
        out.bytes(&common);
        out.bytes(name.as_bytes());
        match content {
            Stuff::Text(text) => out.bytes(text.as_bytes()),
            Stuff::Zeros(length) => out.zeros(*length),
        }
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(common);
        directory.extend([0; 6]);
        directory.extend(((0o100_000 | mode) << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let at = out.length;
    let count = files.len() as u64;
    out.bytes(&directory);
    out.bytes(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0\0\0\0\0\0\0\0\0");
    for value in [count, count, directory.len() as u64, at] {
        out.bytes(&value.to_le_bytes());
    }
    out.bytes(b"PK\x06\x07\0\0\0\0");
    out.bytes(&(at + directory.len() as u64).to_le_bytes());
    out.bytes(&1_u32.to_le_bytes());
    out.bytes(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    out.finish()
}

/// A tar of files.
fn tar(files: &[File]) -> Blob {
    let mut out = Sparse::new();
    for File { name, content } in files {
        let size = match content {
            Stuff::Zeros(length) => *length,
            Stuff::Text(text) => text.len() as u64,
        };
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(if name.contains("scripts/") {
            0o755
        } else {
            0o644
        });
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        out.bytes(header.as_bytes());
        match content {
            Stuff::Zeros(length) => out.zeros(*length),
            Stuff::Text(text) => out.bytes(text.as_bytes()),
        }
        out.bytes(&vec![0; (size.next_multiple_of(512) - size) as usize]);
    }
    out.bytes(&[0; 1024]);
    out.finish()
}

/// An S3 that does not hash what it copies, and is as fast as the machine.
pub const FAST: Model = Model {
    request_delay: std::time::Duration::ZERO,
    connection_rate: u64::MAX,
    rate: u64::MAX,
    copy_rate: u64::MAX,
};

/// Settings of an application under `app/`.
pub fn settings() -> String {
    SETTINGS.replace("application_root: /", "application_root: /app")
}

/// A world of such an S3, and the mark of its processes.
async fn world() -> (World, String) {
    let mark = format!("large-{:?}", std::thread::current().id());
    let options = Options {
        network: Some(FAST),
        ..by_hand()
    };
    let world = World::with_environment(options, &[("STAGEDROP_TEST_MARK", &mark)]).await;
    world.put("settings/shop.yml", settings());
    (world, mark)
}

/// Lets revisions have the format of the artifacts that come next.
fn keep_format(world: &World, build_num: u32) {
    let bundle_type = if build_num == 1 { "zip" } else { "tar" };
    let settings = settings().replace(
        "    application_root: /app\n",
        &format!("    application_root: /app\n    bundle_type: {bundle_type}\n"),
    );
    assert!(settings.contains("bundle_type"));
    world.put("settings/shop.yml", settings);
}

/// Drops an artifact and waits until nothing moves any more.
pub async fn drop_blob(world: &World, build_num: u32, blob: Blob) -> Value {
    let key = staged_key(build_num);
    let store = world.aws.store();
    let attributes = Attributes::default();
    let ticket = store
        .begin(ARTIFACTS, &key, &attributes, Condition::Always)
        .unwrap();
    let content = Content {
        blob,
        etag: format!("{build_num:032x}"),
        checksum: None,
        parts: Vec::new(),
        attributes,
    };
    store.commit(ticket, content, "PutObject").unwrap();
    world.aws.quiet().await;
    world.drop_record(&key)
}

/// The most memory that a `deploy` process with this mark ever had resident, in MiB.
fn peak_mib(mark: &str) -> u64 {
    let mut peak = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let folder = entry.path();
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
        if !read("comm").starts_with(b"deploy") {
            continue;
        }
        let environment = read("environ");
        let marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == format!("STAGEDROP_TEST_MARK={mark}").as_bytes());
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line
            .filter(|_| marked)
            .and_then(|line| line.split_whitespace().next())
        {
            peak = peak.max(kib.parse::<u64>().unwrap() / 1024);
        }
    }
    assert!(peak > 0, "no process of {mark} was found");
    peak
}

fn counts(drop: &Value) -> (u64, u64, u64) {
    let counts = &drop["deployments"][0]["counts"];
    ["bytes_got", "bytes_put", "size"]
        .map(|name| counts[name].as_u64().unwrap_or_else(|| panic!("{drop:#}")))
        .into()
}

/// Nothing of a transfer stays.
fn nothing_is_left(world: &World) {
    let store = world.aws.store();
    assert_eq!(store.uploads_in_progress(ARTIFACTS).unwrap(), 0);
    assert_eq!(store.uploads_in_progress(REVISIONS).unwrap(), 0);
    let left = store.keys(ARTIFACTS, "records/tmp/").unwrap();
    assert_eq!(left, Vec::<String>::new());
}

fn twenty_of(size: u64) -> Vec<File> {
    application((0..200_u32).map(|n| {
        let content = if n % 10 == 3 {
            Stuff::Zeros(size)
        } else {
            Stuff::Zeros(u64::from(n) * 40)
        };
        file(format!("app/data/{n:03}"), content)
    }))
}

/// A zip whose revision is put together on two levels: headers that change before large contents.
pub fn two_level_zip() -> Blob {
    zip(&application(
        (0..6_u32).map(|n| file(format!("app/{n}"), Stuff::Zeros(11 * MIB))),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_large_files_pass_by_two_percent_and_64_mib() {
    let (world, mark) = world().await;
    for (build_num, artifact) in [
        (1, zip(&twenty_of(50 * MIB))),
        (2, tar(&twenty_of(50 * MIB))),
    ] {
        let size = artifact.length();
        keep_format(&world, build_num);
        let drop = drop_blob(&world, build_num, artifact).await;
        let (got, put, revision) = counts(&drop);
        assert!(got * 50 < size && put * 50 < size, "{got} {put} of {size}");
        assert!(revision > 1_000 * MIB, "{drop:#}");
        nothing_is_left(&world);
    }
    let peak = peak_mib(&mark);
    println!("twenty of 50 MiB: {peak} MiB");
    assert!(peak <= 64, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_of_two_gibibytes_passes_by_half_a_percent_and_64_mib() {
    let (world, mark) = world().await;
    let files = application([
        file("app/readme", Stuff::Zeros(100)),
        file("app/large", Stuff::Zeros(2_000 * MIB)),
    ]);
    for (build_num, artifact) in [(1, zip(&files)), (2, tar(&files))] {
        let size = artifact.length();
        keep_format(&world, build_num);
        let drop = drop_blob(&world, build_num, artifact).await;
        let (got, put, _) = counts(&drop);
        assert!(
            got * 200 < size && put * 200 < size,
            "{got} {put} of {size}"
        );
    }
    let peak = peak_mib(&mark);
    println!("one of 2 GiB: {peak} MiB");
    assert!(peak <= 64, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_stays_as_it_is_passes_by_its_directory_alone() {
    let (world, mark) = world().await;
    let settings = SETTINGS.to_owned();
    world.put("settings/shop.yml", settings);
    let mut files = twenty_of(50 * MIB);
    for file in &mut files {
        file.name = file.name.replacen("app/", "", 1);
    }
    let artifact = zip(&files);
    let size = artifact.length();
    world.aws.faults().clear_log();
    let drop = drop_blob(&world, 1, artifact).await;
    assert_eq!(counts(&drop), (0, 0, size), "{drop:#}");
    let through: u64 = world
        .aws
        .faults()
        .log()
        .iter()
        .filter(|request| request.path.contains("staging/"))
        .map(|request| request.bytes_out)
        .sum();
    assert!(through < 400_000, "{through}");
    // Without `.git`, which no longer lies at the end.
    files.insert(100, file(".git/pack", Stuff::Zeros(30 * MIB)));
    let artifact = zip(&files);
    let size = artifact.length();
    let drop = drop_blob(&world, 2, artifact).await;
    let (got, put, _) = counts(&drop);
    assert!(
        got * 100 < size && put * 100 < size,
        "{got} {put} of {size}"
    );
    assert!(peak_mib(&mark) <= 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_five_thousand_files_take_96_mib() {
    let (world, mark) = world().await;
    let files = application((0..65_000_u32).map(|n| {
        let name = format!("app/folder-{:03}/file-{n:05}.txt", n / 100);
        file(name, Stuff::Zeros(u64::from(n % 4_000)))
    }));
    for (build_num, artifact) in [(1, zip(&files)), (2, tar(&files))] {
        keep_format(&world, build_num);
        let drop = drop_blob(&world, build_num, artifact).await;
        assert_eq!(
            drop["deployments"][0]["counts"]["entries"], 65_002,
            "{drop:#}"
        );
        println!(
            "65,000 files, artifact {build_num}: {} MiB",
            peak_mib(&mark)
        );
    }
    let peak = peak_mib(&mark);
    assert!(peak <= 96, "{peak} MiB");
}

/// Takes a minute in a build without optimisation.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; asked for by name"]
async fn a_million_files_take_256_mib() {
    let (world, mark) = world().await;
    let files = application((0..999_000_u32).map(|n| {
        let name = format!("app/folder-{:04}/file-{n:06}.txt", n / 100);
        file(name, Stuff::Zeros(u64::from(n % 100)))
    }));
    let drop = drop_blob(&world, 1, zip(&files)).await;
    assert_eq!(
        drop["deployments"][0]["counts"]["entries"], 999_002,
        "{drop:#}"
    );
    let peak = peak_mib(&mark);
    println!("a million files: {peak} MiB");
    assert!(peak <= 256, "{peak} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_of_two_levels_is_read_by_unzip_and_tar() {
    let (world, _) = world().await;
    let files = application((0..16_u32).flat_map(|n| {
        [
            file(
                format!("app/{n}/large"),
                Stuff::Zeros(11 * MIB + u64::from(n)),
            ),
            file(format!("app/{n}/small"), Stuff::Text("between")),
        ]
    }));
    for (build_num, artifact, program) in [(1, zip(&files), "unzip"), (2, tar(&files), "tar")] {
        world.aws.faults().clear_log();
        keep_format(&world, build_num);
        let drop = drop_blob(&world, build_num, artifact).await;
        let joins = world
            .aws
            .faults()
            .log()
            .iter()
            .filter(|request| {
                request.path.contains("records/tmp/")
                    && request.operation == "CreateMultipartUpload"
            })
            .count();
        assert!(joins >= 15, "{joins}");
        nothing_is_left(&world);
        let mut read = tempfile::NamedTempFile::new().unwrap();
        read.write_all(&world.revision(&drop)).unwrap();
        let arguments: &[&str] = if program == "unzip" {
            &["-tq"]
        } else {
            &["-tf"]
        };
        let judged = Command::new(program)
            .args(arguments)
            .arg(read.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&judged.stderr);
        assert!(judged.status.success() && said.is_empty(), "{said}");
        if program == "tar" {
            let names = String::from_utf8_lossy(&judged.stdout).into_owned();
            assert_eq!(names.lines().count(), files.len(), "{names}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_fails_leaves_nothing_behind() {
    for operation in ["UploadPart", "UploadPartCopy", "CompleteMultipartUpload"] {
        let (world, _) = world().await;
        let refused = Fault::FailBefore {
            status: 400,
            code: "InvalidRequest".to_owned(),
        };
        let wanted = Match::any()
            .operation(operation)
            .label("deploy")
            .nth(Nth::Number(9));
        world.aws.faults().on(wanted, refused);
        let drop = drop_blob(&world, 1, zip(&twenty_of(11 * MIB))).await;
        assert_eq!(world.aws.faults().fired(), 1, "{operation}");
        // Lambda's second attempt did it.
        assert!(counts(&drop).2 > 220 * MIB, "{drop:#}");
        nothing_is_left(&world);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_goes_while_s3_copies_it_is_what_is_told() {
    for (status, code) in [(412, "PreconditionFailed"), (404, "NoSuchKey")] {
        let (world, _) = world().await;
        let gone = Fault::FailBefore {
            status,
            code: code.to_owned(),
        };
        let wanted = Match::any()
            .operation("UploadPartCopy")
            .label("deploy")
            .nth(Nth::Every);
        world.aws.faults().on(wanted, gone);
        drop_blob(&world, 1, two_level_zip()).await;
        let letters = world.functions.deploy.take_dead_letters();
        assert_eq!(letters.len(), 1, "{code}");
        let error = &letters[0].error;
        assert_eq!(
            error.error_type, "ArtifactChanged",
            "{code}: {}",
            error.message
        );
        assert!(error.message.contains(&staged_key(1)), "{}", error.message);
        nothing_is_left(&world);
    }
}
