//! Revisions before other people's programs: Python, `unzip`, `zipinfo`, `7z` and GNU `tar`.

use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

fn has(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok()
}

/// Limits under which small archives, whose headers are shorter than this, are put together on two levels.
pub(in crate::splice) fn two_levels(part_bytes_min: u64) -> PartLimits {
    PartLimits {
        read_already_bytes_max: 0,
        put_object_bytes_max: 0,
        part_bytes_min,
        upload_part_bytes: part_bytes_min,
        copy_part_bytes: 10 * part_bytes_min,
        gap_bytes_max: 10,
        get_bytes_max: 500,
        joins: Joins::Wherever,
        ..PartLimits::default()
    }
}

/// Compares source and revision, as `zipfile` reads them, and as `unzip` and GNU `tar` unpack them: of each kept
/// entry `[place, old name, new name]` the content, the mode, the link, the time.
const PYTHON: &str = r#"
import json, os, stat, subprocess, sys, tempfile, zipfile

def unpack(archive, folder):
    if archive.endswith(".zip"):
        # Keeps modes as they are. A source may have bytes before its first entry, which is a warning.
        done = subprocess.run(["unzip", "-qq", "-K", "-o", archive, "-d", folder], capture_output=True)
        assert done.returncode <= archive.endswith("source.zip"), (archive, done)
    else:
        subprocess.run(["tar", "-xpf", archive, "-C", folder], check=True)

def seen(path):
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(path)
    if stat.S_ISDIR(found.st_mode):
        return found.st_mode, int(found.st_mtime)
    content = open(path, "rb").read() if os.access(path, os.R_OK) else found.st_size
    return found.st_mode, int(found.st_mtime), content

def tree(folder):
    paths = (os.path.join(at, name) for at, folders, files in os.walk(folder) for name in folders + files)
    return {os.path.relpath(path, folder) for path in paths}

for case in json.load(open(sys.argv[1])):
    kept = case["kept"]
    if case["revision"].endswith(".zip"):
        old, new = zipfile.ZipFile(case["source"]), zipfile.ZipFile(case["revision"])
        assert new.testzip() is None
        infos = old.infolist()
        got = new.infolist()
        assert [n for _, _, n in kept] == [i.filename for i in got], case
        assert not new.comment or case["identity"], case
        for (at, _, _), b in zip(kept, got):
            a = infos[at]
            assert old.read(a) == new.read(b), (case, a)
            for field in ("external_attr", "date_time", "compress_type", "CRC", "create_system", "comment", "file_size"):
                assert getattr(a, field) == getattr(b, field), (case, field)
        if not case["unzip"] or not kept:
            continue
    with tempfile.TemporaryDirectory() as old, tempfile.TemporaryDirectory() as new:
        unpack(case["source"], old)
        unpack(case["revision"], new)
        for _, before, after in kept:
            a, b = (seen(os.path.join(*at)) for at in ((old, before), (new, after)))
            assert a == b, (case, before, a, b)
        names = [after.rstrip("/") for _, _, after in kept]
        folders = {"/".join(n.split("/")[:i]) for n in names for i in range(1, n.count("/") + 1)}
        assert tree(new) == set(names) | folders, case
"#;

/// Lets Python judge.
pub(in crate::splice) fn judge(cases: &[serde_json::Value], folder: &std::path::Path) {
    let list = folder.join("cases.json");
    std::fs::write(&list, serde_json::to_vec(cases).unwrap()).unwrap();
    let judged = Command::new("python3")
        .env("LC_ALL", "C.UTF-8")
        .arg("-c")
        .arg(PYTHON)
        .arg(&list)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&judged.stderr);
    assert!(judged.status.success(), "{said}");
}

#[test]
fn ok_python_unzip_zipinfo_and_7z_agree() {
    if !has("python3", "--version") {
        eprintln!("no python3 here: not compared");
        return;
    }
    let judges = [("unzip", "-tq"), ("zipinfo", "-l"), ("7z", "t")];
    let judges = judges.map(|(program, argument)| (program, argument, has(program, "-h")));
    let folder = tempfile::tempdir().unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut cases = Vec::new();
    let mut joins = 0;
    for n in 0..200 {
        let mut case = case().new_tree(&mut runner).unwrap().current();
        if n % 2 == 0 {
            // Contents that are copied, and headers that are not.
            case.root = "app/";
            for item in case.items.values_mut() {
                if !item.content.is_empty() && item.kind == Kind::File {
                    item.content = item.content.repeat(1 + 1_500 / item.content.len());
                    item.deflated = false;
                }
            }
        }
        let source = case.make();
        let zip = index_of(&source);
        let kept = case.kept(&zip);
        let plan = plan_splice(&zip, &kept).unwrap();
        let parts = plan_parts(&plan, &two_levels(200)).unwrap();
        joins += parts.traffic.joins;
        let (revision, _) = carry_out_parts(&plan, &parts, &source, None, 100);
        assert!(revision == carry_out(&plan, &source), "{case:?}");
        let path = |kind: &str| folder.path().join(format!("{n}-{kind}.zip"));
        std::fs::write(path("source"), case.make_sound()).unwrap();
        std::fs::write(path("revision"), revision).unwrap();
        for (program, argument, is_here) in judges {
            // What is not changed at all may say something, and so does an empty archive.
            if !is_here || kept.is_empty() || plan.is_identity() {
                continue;
            }
            let judged = Command::new(program)
                .arg(argument)
                .arg(path("revision"))
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&judged.stdout);
            let is_content = judged.status.success() && !said.to_lowercase().contains("warning");
            assert!(is_content, "{program}: {case:?}: {said} {judged:?}");
            assert_eq!(judged.stderr, b"", "{program}: {case:?}");
        }
        let kept: Vec<_> = kept
            .iter()
            .map(|entry| {
                let old = zip.entry(entry.index as usize).unwrap().name.to_vec();
                let [old, new] =
                    [old, new_name(&zip, entry)].map(|n| String::from_utf8(n).unwrap());
                serde_json::json!([entry.index, old, new])
            })
            .collect();
        cases.push(serde_json::json!({
            "source": path("source"), "revision": path("revision"),
            "kept": kept, "identity": plan.is_identity(), "unzip": judges[0].2,
        }));
    }
    assert!(joins > 10, "{joins}");
    judge(&cases, folder.path());
}
