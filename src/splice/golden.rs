//! What each planner number stands for: the bytes that its planners make.
//!
//! A revision's fingerprint says which source and which planner made it; its bytes are never compared. So a
//! planner that makes other bytes under the same number would take an old revision for its own.

use sha2::{Digest, Sha256};

use super::reference::carry_out;
use super::{PLANNERS, SplicePlan, plan_splice, tar};
use crate::archive::tar::samples::{Sample, scan, write_tar};
use crate::archive::zip::testing::{Making, ZipMaking, index_of};
use crate::contents::{KeptEntry, KeptName};
use crate::object::ETag;

fn kept(index: u32, skip: u32) -> KeptEntry {
    KeptEntry {
        index,
        name: KeptName::Suffix { skip },
    }
}

fn renamed(index: u32, name: &str) -> KeptEntry {
    KeptEntry {
        index,
        name: KeptName::Renamed(name.as_bytes().into()),
    }
}

/// Fingerprint, and SHA-256 of the bytes.
fn prints(plan: &SplicePlan<'_>, source: &[u8]) -> [String; 2] {
    let bytes = carry_out(plan, source);
    let sha256: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    [plan.fingerprint(&ETag::from("abc")).to_string(), sha256]
}

/// One entry of each kind that a header is rewritten for, and some that stay as they are.
fn zip() -> Vec<u8> {
    let making = |name: &str| Making::new(name, b"content");
    ZipMaking {
        prefix: b"#!/bin/sh\n".to_vec(),
        comment: b"a comment".to_vec(),
        ..ZipMaking::of([
            Making::new("app/", b""),
            making("app/plain"),
            making("left out"),
            Making {
                flags: 8,
                ..making("app/with a descriptor")
            },
            Making {
                zip64: true,
                ..making("app/zip64")
            },
            Making {
                local_extra: vec![1, 2, 3],
                central_extra: vec![1, 2, 3],
                ..making("app/malformed extra field")
            },
            Making {
                flags: 0x800,
                ..making("app/größe")
            },
            making("app/renamed"),
        ])
    }
    .make()
}

fn zip_entries(skip: u32) -> Vec<KeptEntry> {
    let mut entries: Vec<_> = [1, 3, 4, 5, 6].map(|index| kept(index, skip)).into();
    entries.push(renamed(7, "größer"));
    entries
}

#[test]
fn regression_other_bytes_of_the_same_contents_need_another_planner_number() {
    let source = zip();
    let index = index_of(&source);
    let mut found = Vec::new();
    for skip in [4, 0] {
        let plan = plan_splice(&index, &zip_entries(skip)).map(|plan| prints(&plan, &source));
        found.push(plan.unwrap());
    }
    let source = write_tar(&[
        Sample::directory("app/"),
        Sample::file("app/bin/run", "run").mode(0o4755),
        Sample::file("left out", vec![7; 600]),
        Sample::hard_link("app/again", "app/bin/run"),
        Sample::file(&format!("app/{}", "long/".repeat(40)), "far down"),
    ]);
    let index = scan(&source).unwrap().index;
    let entries = [1, 3, 4].map(|index| kept(index, 4));
    let plan = tar::plan_splice(&index, &entries, source.len() as u64).unwrap();
    found.push(prints(&plan, &source));
    let whole = SplicePlan::identity(source.len() as u64);
    found.push(prints(&whole, &source));

    assert_eq!(PLANNERS, b"stagedrop splice 2");
    let expected = [
        [
            "ba3e5dbdffa19ad721c3236dd42fc4e6802c89c7e2957276bc05b0d57a76d01f",
            "7169bc976044c41bcb9b4281db301453b1970d1d75b6da658d561d044a2a1837",
        ],
        [
            "3a827ef66acb2c45c31d9df4cf63ec2aeeb7817157391f64441547f680ab2b9f",
            "6e8fa013084cce8384b7043976e5bb5ea5055b59ae4466150340fda53078a5ba",
        ],
        [
            "2f51a914bf601c43de95ee2bf5f88dd3ff1339cfb061b2de384f26a30056ce1d",
            "70bc98d30329728f4491bc3044fc112ff32bc08b72fa722d36c2c2a7d27ddf49",
        ],
        [
            "c290e6affdb21014a2bfc0e14c7adf93692972581e8bf7f7325a781729923d2b",
            "9c354eef705b2bcfc6f9b5cf91c7a9d2729a5764b5fedaf678d66a58886d7491",
        ],
    ];
    assert_eq!(
        found, expected,
        "if these bytes are meant, the planners take the next number: else a revision that is written \
         already is taken for one of these"
    );
}
