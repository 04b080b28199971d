//! What the bundle check reads of an artifact, counted where the bytes come in.

use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use stagedrop::archive::{ArchiveFormat, Index, Limits};
use stagedrop::artifact::{CIRCLE_YML, KEPT_BYTES_MAX, OpenedArtifact};
use stagedrop::bundle_check::Options;
use stagedrop::contents::{Choice, choose_contents, find_document};
use stagedrop::object::{ByteRange, ETag, SourceObject};
use stagedrop::revision::ObjectReader;
use stagedrop::service_error::ServiceError;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

struct Counted {
    bytes: Bytes,
    got: AtomicU64,
}

impl Counted {
    fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            got: AtomicU64::new(0),
        }
    }

    fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }
}

impl ObjectReader for Counted {
    async fn read(&self, _: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        self.got.fetch_add(range.length(), Ordering::Relaxed);
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }
}

async fn open<'a>(store: &'a Counted, key: &str) -> OpenedArtifact<'a, Counted> {
    let object = SourceObject {
        bucket: "artifacts".parse().unwrap(),
        key: key.parse().unwrap(),
        version_id: None,
        etag: ETag::from("0"),
        size: store.bytes.len() as u64,
    };
    let opened = OpenedArtifact::open(store, object, &Limits::default()).await;
    opened.unwrap()
}

#[tokio::test]
async fn a_directory_longer_than_what_is_read_of_the_end_at_first_is_read_once() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("front.bin", stored).unwrap();
    zip.write_all(&vec![b'x'; KEPT_BYTES_MAX as usize]).unwrap();
    for n in 0..20_000 {
        zip.start_file(format!("{}/{n}", "folder".repeat(10)), stored)
            .unwrap();
    }
    let store = Counted::new(zip.finish().unwrap().into_inner().into());
    let artifact = open(&store, "app.zip").await;
    let Index::Zip(index) = &*artifact.index else {
        panic!("not a zip")
    };
    let from_the_directory_on = artifact.source.object.size - index.directory_range().start;
    assert!(from_the_directory_on > 2 << 20);
    assert_eq!(
        store.got(),
        ArchiveFormat::FIRST_BYTES + from_the_directory_on
    );
}

/// Opens an artifact, checks it and reads its `circle.yml`; the bytes that were read beside those of its index.
async fn check<'a>(
    store: &'a Counted,
    key: &str,
    format: ArchiveFormat,
) -> (OpenedArtifact<'a, Counted>, u64) {
    let artifact = open(store, key).await;
    let for_the_index = store.got();
    let exclude = globset::GlobSet::empty();
    let choice = Choice {
        application_root: "",
        exclude: &exclude,
        format,
    };
    let contents = choose_contents(&*artifact.index, &choice).unwrap();
    let (_, report) = artifact
        .check(&contents, &Options::default())
        .await
        .unwrap();
    assert_eq!(report.findings, []);
    let circle = find_document(&*artifact.index, CIRCLE_YML, format).unwrap();
    let found = artifact.contents(&[circle], 1_000).await.unwrap();
    assert_eq!(found[&circle], b"deployment: {}\n");
    let added = store.got() - for_the_index;
    (artifact, added)
}

const APPSPEC: &str = "version: 0.0\nos: linux\nfiles: [{source: /, destination: /srv}]\n\
     hooks: {AfterInstall: [{location: bin/a.sh}, {location: bin/b.sh}]}\n";

#[tokio::test]
async fn the_check_reads_the_appspec_circle_yml_and_the_hook_scripts_and_no_other_byte() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let large = vec![b'x'; KEPT_BYTES_MAX as usize];
    let read = ["appspec.yml", "bin/a.sh", "bin/b.sh", CIRCLE_YML];
    for (name, content) in [
        ("front.bin", large.as_slice()),
        ("appspec.yml", APPSPEC.as_bytes()),
        ("lib/one.js", &large[..5_000]),
        ("bin/a.sh", b"#!/bin/sh\n"),
        ("lib/two.js", &large[..5_000]),
        ("bin/b.sh", b"#!/bin/sh\necho b\n"),
        (CIRCLE_YML, b"deployment: {}\n"),
        ("bin/c.sh", b"#!/bin/sh\n"),
        // More than what is read of any artifact's end.
        ("back.bin", large.as_slice()),
    ] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    let bytes = Bytes::from(zip.finish().unwrap().into_inner());
    let store = Counted::new(bytes);
    let (artifact, added) = check(&store, "app.zip", ArchiveFormat::Zip).await;
    let Index::Zip(index) = &*artifact.index else {
        panic!("not a zip")
    };
    // Each with its local header.
    let least: u64 = (0..index.len())
        .filter(|at| read.contains(&std::str::from_utf8(index.name(*at).unwrap()).unwrap()))
        .map(|at| index.span(at).unwrap().length())
        .sum();
    assert_eq!(added, least);
}

/// A tar.gz of these files, stored rather than deflated.
fn tar_gz(files: &[(&str, &[u8])]) -> Bytes {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut tar = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    Bytes::from(tar.into_inner().unwrap().finish().unwrap())
}

#[tokio::test]
async fn of_a_tar_gz_the_check_reads_nothing_anew_but_hook_scripts_and_what_lies_around_them() {
    let large = vec![b'x'; KEPT_BYTES_MAX as usize + 1];
    let without_hooks = "version: 0.0\nos: linux\nfiles: [{source: /, destination: /srv}]\n";
    // Inflating begins anew at most 1 MiB before a script, at the start or at a place inside a large file.
    for (appspec, scripts) in [(without_hooks, 0), (APPSPEC, 2)] {
        let bytes = tar_gz(&[
            ("appspec.yml", appspec.as_bytes()),
            ("bin/a.sh", b"#!/bin/sh\n"),
            ("front.bin", &large),
            ("bin/b.sh", b"#!/bin/sh\necho b\n"),
            (CIRCLE_YML, b"deployment: {}\n"),
        ]);
        let store = Counted::new(bytes);
        let (artifact, added) = check(&store, "app.tar.gz", ArchiveFormat::TarGz).await;
        let size = artifact.source.object.size;
        assert!(
            added <= scripts << 20 && (added > 0) == (scripts > 0),
            "{added} of {size} bytes"
        );
    }
}
