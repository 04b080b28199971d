//! Tars for tests, written and read by the `tar` crate.

use std::io::{Cursor, Read};

use proptest::prelude::*;

use super::{TarScan, TarScanner};
use crate::archive::{EntryKind, Limits};

/// An entry as a test wants it written, or as a foreign reader found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub name: String,
    pub kind: EntryKind,
    pub mode: u32,
    pub mtime: u64,
    pub content: Vec<u8>,
    pub link: String,
}

impl Sample {
    pub fn new(kind: EntryKind, name: &str) -> Self {
        let (name, link) = (name.to_owned(), String::new());
        Self {
            name,
            kind,
            mode: 0o644,
            mtime: 1_700_000_000,
            content: Vec::new(),
            link,
        }
    }

    pub fn file(name: &str, content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            ..Self::new(EntryKind::File, name)
        }
    }

    pub fn directory(name: &str) -> Self {
        Self {
            mode: 0o755,
            ..Self::new(EntryKind::Directory, name)
        }
    }

    pub fn symlink(name: &str, link: &str) -> Self {
        Self {
            mode: 0o777,
            link: link.to_owned(),
            ..Self::new(EntryKind::Symlink, name)
        }
    }

    pub fn hard_link(name: &str, link: &str) -> Self {
        Self {
            link: link.to_owned(),
            ..Self::new(EntryKind::HardLink, name)
        }
    }

    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// Writes GNU headers, with long names and links where they do not fit.
pub(crate) fn write_tar(samples: &[Sample]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for sample in samples {
        append(&mut builder, sample);
    }
    builder.into_inner().unwrap()
}

pub(crate) fn append(builder: &mut tar::Builder<Vec<u8>>, sample: &Sample) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(sample.mode);
    header.set_mtime(sample.mtime);
    header.set_uid(1000);
    header.set_gid(100);
    header.set_entry_type(match sample.kind {
        EntryKind::File => tar::EntryType::Regular,
        EntryKind::Directory => tar::EntryType::Directory,
        EntryKind::Symlink => tar::EntryType::Symlink,
        EntryKind::HardLink => tar::EntryType::Link,
        EntryKind::Special => tar::EntryType::Fifo,
    });
    header.set_size(sample.content.len() as u64);
    match sample.kind {
        EntryKind::Symlink | EntryKind::HardLink => {
            builder
                .append_link(&mut header, &sample.name, &sample.link)
                .unwrap();
        }
        _ => builder
            .append_data(&mut header, &sample.name, sample.content.as_slice())
            .unwrap(),
    }
}

/// Reads a tar with the `tar` crate.
pub(crate) fn read_tar(bytes: &[u8]) -> Vec<Sample> {
    let mut archive = tar::Archive::new(bytes);
    let mut samples = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Regular => EntryKind::File,
            tar::EntryType::Directory => EntryKind::Directory,
            tar::EntryType::Symlink => EntryKind::Symlink,
            tar::EntryType::Link => EntryKind::HardLink,
            tar::EntryType::XGlobalHeader => continue,
            _ => EntryKind::Special,
        };
        let mut sample = Sample {
            name: text(&entry.path_bytes()),
            kind,
            mode: header.mode().unwrap(),
            mtime: header.mtime().unwrap(),
            content: Vec::new(),
            link: entry
                .link_name_bytes()
                .map(|link| text(&link))
                .unwrap_or_default(),
        };
        entry.read_to_end(&mut sample.content).unwrap();
        samples.push(sample);
    }
    samples
}

/// Reads a zip with the `zip` crate, which tells no set-id bits; times are left at 0.
pub(crate) fn read_zip(bytes: &[u8]) -> Vec<Sample> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut samples = Vec::new();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).unwrap();
        let mode = file.unix_mode().unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        let kind = match mode & 0o170000 {
            0o040000 => EntryKind::Directory,
            0o120000 => EntryKind::Symlink,
            _ => EntryKind::File,
        };
        let mut sample = Sample::new(kind, &file.name().unwrap()).mode(mode & 0o777);
        sample.mtime = 0;
        match kind {
            EntryKind::Symlink => sample.link = String::from_utf8(content).unwrap(),
            _ => sample.content = content,
        }
        samples.push(sample);
    }
    samples
}

/// Scans a whole tar at once.
pub(crate) fn scan(bytes: &[u8]) -> Result<TarScan, super::TarError> {
    let mut scanner = TarScanner::new(&Limits::default());
    scanner.feed(bytes)?;
    scanner.finish()
}

/// Small trees: distinct names, some long or not ASCII; hard links to files before them.
pub(crate) fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let name = prop_oneof![
        8 => "[a-z]{1,8}(/[a-z]{1,8}){0,3}",
        1 => "[a-z]{60}/[a-z]{60}/[a-z]{1,90}",
        1 => "[a-z]{101,220}",
        1 => "[äöüß日本]{1,20}",
    ];
    let content = prop_oneof![
        2 => Just(Vec::new()),
        6 => prop::collection::vec(any::<u8>(), 0..2000),
        2 => (any::<u8>(), 0..5000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let sample = (
        name,
        0..8u8,
        0..0o10000u32,
        0..0o77777777777u64,
        content,
        any::<prop::sample::Index>(),
    );
    prop::collection::vec(sample, 0..12).prop_map(|raw| {
        let mut samples: Vec<Sample> = Vec::new();
        for (at, (name, kind, mode, mtime, content, target)) in raw.into_iter().enumerate() {
            // A number makes each name its own, and no name another's folder.
            let name = format!("{at}{name}");
            let files: Vec<&Sample> = samples
                .iter()
                .filter(|s| s.kind == EntryKind::File)
                .collect();
            let sample = match kind {
                0 => Sample::directory(&format!("{name}/")).mode(mode),
                1 => Sample::symlink(&name, &format!("../{}", "t".repeat(content.len() % 150))),
                2 if !files.is_empty() => Sample::hard_link(&name, &target.get(&files).name),
                _ => Sample::file(&name, content).mode(mode),
            };
            samples.push(Sample { mtime, ..sample });
        }
        samples
    })
}
