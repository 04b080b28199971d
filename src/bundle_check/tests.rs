use proptest::prelude::*;

use super::*;
use crate::archive::{ArchiveFormat, Compression, Entry, EntryKind, testing};
use crate::contents::{Choice, choose_contents};
use crate::finding::{Severity, codes};

/// An archive in the making.
#[derive(Default)]
struct Archive<'a> {
    entries: Vec<Entry<'a>>,
    known: Known,
}

impl Entries for Archive<'_> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&self, position: u32) -> Option<Entry<'_>> {
        self.entries.get(position as usize).cloned()
    }
}

impl<'a> Archive<'a> {
    /// With `appspec.yml` and these files; a name closed by `/` is a directory.
    fn of(names: &[&'a str]) -> Self {
        let mut archive = Self::default();
        archive.add("appspec.yml");
        for name in names {
            archive.add(name);
        }
        archive
    }

    fn add(&mut self, name: &'a str) -> &mut Entry<'a> {
        self.entries.push(Entry {
            compression: Compression::Deflated,
            crc32: Some(0),
            ..testing::named(name)
        });
        self.entries.last_mut().unwrap()
    }

    /// With this entry changed.
    fn with(mut self, name: &'a str, change: impl FnOnce(&mut Entry<'a>)) -> Self {
        change(self.add(name));
        self
    }

    fn link(self, name: &'a str, target: &'a str) -> Self {
        self.with(name, |entry| {
            entry.kind = EntryKind::Symlink;
            entry.link_target = Some(target.as_bytes());
        })
    }

    fn hard_link(self, name: &'a str, target: &'a str) -> Self {
        self.with(name, |entry| {
            entry.kind = EntryKind::HardLink;
            entry.link_target = Some(target.as_bytes());
        })
    }

    /// With a script of this content.
    fn script(mut self, name: &'a str, content: &[u8]) -> Self {
        self.add(name);
        self.known
            .insert(self.entries.len() as u32 - 1, content.to_vec());
        self
    }

    fn contents(&self) -> Contents {
        let exclude = globset::GlobSet::empty();
        let choice = Choice {
            application_root: "",
            exclude: &exclude,
            format: ArchiveFormat::Tar,
        };
        choose_contents(self, &choice).unwrap()
    }

    fn check_with(&self, appspec: &str, options: &Options) -> Report {
        let contents = self.contents();
        let appspec = AppSpec::read(appspec.as_bytes(), "appspec.yml").unwrap();
        check_all(self, &contents, Ok(&appspec), &self.known, options)
    }

    /// The codes for an AppSpec of these lines after `version` and `os`.
    fn check(&self, rest: &str) -> Vec<String> {
        let appspec = format!("version: 0.0\nos: linux\n{rest}");
        codes(&self.check_with(&appspec, &Options::default()))
    }

    fn find(&self, path: &str) -> Found {
        let contents = self.contents();
        Bundle::new(self, &contents).find(path.as_bytes(), &self.known)
    }
}

fn codes(report: &Report) -> Vec<String> {
    report
        .findings
        .iter()
        .map(|finding| finding.code.clone())
        .collect()
}

const ALL: &str = "files: [{source: /, destination: /srv/app}]\n";

fn hook(event: &str, location: &str) -> String {
    format!("hooks: {{{event}: [{{location: '{location}'}}]}}\n")
}

#[test]
fn ok_paths_are_found_with_and_without_directory_entries() {
    let archive = Archive::of(&["a/b/c", "d/"]);
    for path in ["", "a", "a/b", "d", "a/../d", "./a//b"] {
        assert_eq!(archive.find(path), Found::Directory, "{path}");
    }
    assert_eq!(archive.find("a/b/c"), Found::File(1));
    for path in ["a/b/c/d", "x", "appspec.yml/x"] {
        assert_eq!(archive.find(path), Found::Missing, "{path}");
    }
    assert_eq!(archive.find("../a"), Found::Outside);
}

#[test]
fn ok_links_are_followed_as_far_as_they_are_known() {
    let archive = Archive::of(&["a/b/c"])
        .link("to-file", "a/b/c")
        .link("to-folder", "a/b")
        .link("a/up", "../to-folder")
        .link("away", "/etc/passwd")
        .link("higher", "../x")
        .link("circle", "circle")
        .link("nowhere", "none")
        .with("unread", |entry| {
            entry.kind = EntryKind::Symlink;
            entry.size = 3;
        })
        .with("hard", |entry| {
            entry.kind = EntryKind::HardLink;
            entry.link_target = Some(b"./a/b/c");
        })
        .with("fifo", |entry| entry.kind = EntryKind::Special);
    assert_eq!(archive.find("to-file"), Found::File(1));
    assert_eq!(archive.find("to-folder/c"), Found::File(1));
    assert_eq!(archive.find("a/up/c"), Found::File(1));
    assert_eq!(archive.find("away"), Found::Outside);
    assert_eq!(archive.find("higher"), Found::Outside);
    assert_eq!(archive.find("circle"), Found::Missing);
    assert_eq!(archive.find("nowhere"), Found::Missing);
    assert_eq!(archive.find("unread/x"), Found::Unread(9));
    assert_eq!(archive.find("hard"), Found::File(1));
    assert_eq!(archive.find("fifo"), Found::Special);
}

#[test]
fn ok_only_scripts_and_links_to_them_are_wanted() {
    let mut archive = Archive::of(&["a.sh", "b.sh", "data"]).with("link", |entry| {
        entry.kind = EntryKind::Symlink;
        entry.size = 4;
    });
    let text = "version: 0.0\nos: linux\nhooks: {AfterInstall: [{location: a.sh}, {location: link}, {location: a.sh}]}";
    let appspec = AppSpec::read(text.as_bytes(), "a").unwrap();
    let contents = archive.contents();
    let ask = |known: &Known| wanted(&Bundle::new(&archive, &contents), &appspec, known);
    assert_eq!(ask(&Known::new()), [1, 4]);
    archive.known.insert(4, b"b.sh".to_vec());
    let ask = |known: &Known| wanted(&Bundle::new(&archive, &contents), &appspec, known);
    assert_eq!(ask(&archive.known), [1, 2]);
    assert_eq!(
        appspec_entry(&Bundle::new(&archive, &contents), &Known::new()),
        Found::File(0)
    );
}

#[test]
fn ok_a_good_bundle_has_no_findings() {
    let rest = format!(
        "{ALL}permissions: [{{object: /srv/app, mode: '0644', type: [file]}}]\n{}",
        hook("AfterInstall", "/run.sh")
    );
    let archive = Archive::of(&["bin/x"]).script("run.sh", b"#!/bin/sh\necho\n");
    assert!(archive.check(&rest).is_empty());
}

#[test]
fn err_entries_that_unpack_badly_have_their_codes() {
    let kind = |kind| move |entry: &mut Entry<'_>| entry.kind = kind;
    for (archive, code) in [
        (
            Archive::of(&[]).with("x", |entry| entry.encrypted = true),
            "entry-encrypted",
        ),
        (
            Archive::of(&[]).with("x", |e| e.compression = Compression::Other(93)),
            "entry-compression-unsupported",
        ),
        (
            Archive::of(&[]).with("x", kind(EntryKind::Special)),
            "entry-special",
        ),
        (
            Archive::of(&[]).with("x/", |entry| entry.size = 3),
            "entry-directory-with-content",
        ),
        (
            Archive::of(&[]).with("x", kind(EntryKind::HardLink)),
            "entry-hard-link-outside",
        ),
        (
            Archive::of(&[]).with("x", kind(EntryKind::Symlink)),
            "entry-link-invalid",
        ),
        (Archive::of(&[]).link("x", ""), "entry-link-invalid"),
        (
            Archive::of(&[]).with("x", |e| {
                e.kind = EntryKind::Symlink;
                e.size = 4_096;
            }),
            "entry-link-invalid",
        ),
        (
            Archive::of(&[]).link("d", "srv").with("d/x", |_| ()),
            "entry-through-link",
        ),
        (Archive::of(&["d/x"]).link("d", "srv"), "entry-through-link"),
        (Archive::of(&["d", "d/x"]), "entry-below-file"),
        (Archive::of(&["d/x", "d"]), "entry-below-file"),
        (Archive::of(&["d/", "d"]), "entry-two-kinds"),
        (Archive::of(&["d"]).link("d", "x"), "entry-two-kinds"),
        (
            Archive::of(&["a/b"]).link("a/x", ".").link("a/y", "../a"),
            "entry-link-circles",
        ),
        (
            Archive::of(&["a/b"])
                .link("a/x", ".")
                .hard_link("a/y", "a/x"),
            "entry-link-circles",
        ),
    ] {
        assert_eq!(archive.check(ALL), [code]);
        assert!(codes::find(code).unwrap().severity == Severity::Refuse);
    }
    for (archive, code) in [
        (Archive::of(&["x", "x"]), "entry-repeated"),
        (
            Archive::of(&[]).with("x", |entry| entry.mode = Some(0o4755)),
            "entry-set-id",
        ),
        (Archive::of(&["a\nb"]), "entry-name-control"),
        (Archive::of(&[]).link("x", "/etc/passwd"), "link-outside"),
        (Archive::of(&["a/b"]).link("x", "a"), "link-to-directory"),
        (Archive::of(&["a/b"]).link("a/x", ".."), "link-circle"),
        // From the folder of the hard link, the same target is something else.
        (
            Archive::of(&["c", "a/c"])
                .link("a/x", "../c")
                .hard_link("x", "a/x"),
            "link-outside",
        ),
        (
            Archive::of(&["a/c", "b/c/d"])
                .link("a/x", "c")
                .hard_link("b/x", "a/x"),
            "link-to-directory",
        ),
    ] {
        assert_eq!(archive.check(ALL), [code]);
        assert!(codes::find(code).unwrap().severity == Severity::Warn);
    }
}

#[test]
fn ok_links_that_are_not_installed_or_not_known_are_not_judged() {
    assert!(Archive::of(&["a/b"]).link("x", "/etc").check("").is_empty());
    let unread = Archive::of(&[]).with("x", |entry| {
        entry.kind = EntryKind::Symlink;
        entry.size = 5;
    });
    assert!(unread.check(ALL).is_empty());
    assert!(Archive::of(&["x"]).link("y", "x").check(ALL).is_empty());
}

#[test]
fn ok_faults_of_one_kind_are_told_once() {
    let mut archive = Archive::of(&[]);
    for name in ["a", "b", "c"] {
        archive.add(name).encrypted = true;
    }
    let report = archive.check_with("version: 0.0\nos: linux\n", &Options::default());
    assert_eq!(codes(&report), ["entry-encrypted"]);
    assert!(report.findings[0].message.contains("`a` (and 2 more)"));
    assert!(report.refuses());
}

#[test]
fn err_scripts_have_their_codes() {
    let archive = Archive::of(&["scripts/a.sh", "a b.sh", "a;b.sh", "Up.sh", "win\\x.sh"])
        .script("crlf.sh", b"#!/bin/sh\r\necho\r\n")
        .script("body.sh", b"echo\r\n")
        .script("bom.sh", b"\xef\xbb\xbf#!/bin/sh\n")
        .with("fifo", |entry| entry.kind = EntryKind::File);
    for (location, code) in [
        ("nope.sh", "hook-script-missing"),
        ("scripts/a.sh --flag", "hook-script-missing"),
        ("scripts/a.sh/", "hook-script-missing"),
        ("up.sh", "hook-script-missing"),
        ("win/x.sh", "hook-script-missing"),
        ("../bin/true", "hook-script-outside"),
        ("scripts", "hook-script-is-directory"),
        ("a b.sh", "hook-script-name-unsafe"),
        ("a;b.sh", "hook-script-name-unsafe"),
        ("crlf.sh", "hook-script-crlf"),
        ("body.sh", "hook-script-crlf-lines"),
        ("bom.sh", "hook-script-bom"),
    ] {
        assert_eq!(
            archive.check(&hook("AfterInstall", location)),
            [code],
            "{location}"
        );
    }
    let cure = |location: &str| {
        let text = format!(
            "version: 0.0\nos: linux\n{}",
            hook("AfterInstall", location)
        );
        archive.check_with(&text, &Options::default()).findings[0]
            .cure
            .clone()
    };
    assert!(cure("scripts/a.sh --flag").contains("`scripts/a.sh` alone"));
    assert!(cure("up.sh").contains("write `Up.sh`"));
    assert!(cure("win/x.sh").contains("forward slashes"));
    assert_eq!(
        archive.check(&hook("ApplicationStop", "nope.sh")),
        ["hook-script-breaks-next-deployment"]
    );
    assert_eq!(
        archive.check(&hook("Install", "nope.sh")),
        ["hook-reserved"]
    );
}

#[test]
fn ok_windows_has_its_own_rules() {
    let archive = Archive::of(&["scripts/a.ps1", "a:b", "X", "x"]);
    let text = "version: 0.0\nos: windows\nfiles: [{source: '\\', destination: 'C:\\app'}]\n\
                hooks: {AfterInstall: [{location: 'scripts\\a.ps1', runas: me}]}\n";
    let options = Options {
        bundle_type: Some(BundleType::Tgz),
        ..Options::default()
    };
    assert_eq!(
        codes(&archive.check_with(text, &options)),
        [
            "bundle-type-on-windows",
            "hook-runas-on-windows",
            "windows-name-illegal",
            "windows-names-collide"
        ]
    );
    let long = "x/".repeat(80) + "y";
    let archive = Archive::of(&[&long]);
    let report = archive.check_with("version: 0.0\nos: windows\n", &Options::default());
    assert_eq!(codes(&report), ["windows-path-too-long"]);
}

#[test]
fn err_sources_and_destinations_have_their_codes() {
    let archive = Archive::of(&["a/x", "a/y/z", "b/x", "c/y", "File"]).link("l", "a");
    let files = |items: &[(&str, &str)]| {
        let items: Vec<String> = items
            .iter()
            .map(|(source, destination)| {
                format!("{{source: '{source}', destination: '{destination}'}}")
            })
            .collect();
        archive.check(&format!("files: [{}]\n", items.join(", ")))
    };
    for source in ["nope", "*.html", "\\File", "file", "File/", "a/x/y"] {
        assert_eq!(
            files(&[(source, "/d")]),
            ["files-source-missing"],
            "{source}"
        );
    }
    assert_eq!(files(&[("../../etc", "/d")]), ["files-source-outside"]);
    assert_eq!(files(&[("a", "")]), ["files-destination-empty"]);
    assert_eq!(
        files(&[("File", "srv/app")]),
        ["files-destination-relative"]
    );
    for clash in [
        [("a/x", "/d"), ("b/x", "/d/./")],
        [("a", "/d"), ("b", "/d")],
        [("a", "/d"), ("b/x", "/d")],
        [("b/x", "/d"), ("a", "/d")],
        [("a", "/d"), ("c", "/d")],
        [("b", "/d/x"), ("a", "/d")],
        [("a", "/d"), ("File", "/d/x")],
        [("a", "/d/e"), ("/", "/d/e/../.")],
        [("a/x", "/d"), ("b", "/d/x")],
        [("a/y", "/d/y"), ("a", "/d")],
        [("a", "/"), ("b/x", "/")],
        [("a", "/d"), ("a", "/d")],
    ] {
        let found = files(&clash);
        let is_same = clash == [("a", "/d/e"), ("/", "/d/e/../.")];
        if is_same {
            // `/d/a/x` and `/d/e/x`: beside each other.
            assert!(!found.contains(&"files-same-destination".to_owned()));
        } else {
            assert_eq!(found, ["files-same-destination"], "{clash:?}");
        }
    }
    for good in [
        vec![("a/x", "/d"), ("b/x", "/e")],
        vec![("a/y", "/d"), ("b", "/d")],
        vec![("a", "/d/e"), ("b", "/d")],
        vec![("a", "/d"), ("b", "/dd")],
        vec![("a/y", "/d/y/q"), ("a", "/d")],
    ] {
        assert!(files(&good).is_empty(), "{good:?}");
    }
}

#[test]
fn ok_paths_of_the_appspec_are_followed_as_the_system_does() {
    let archive = Archive::of(&["a/x", "real/y/z", "run.sh"])
        .link("nothing", "gone")
        .link("self", "self")
        .link("to-y", "real/y")
        .link("to-run", "run.sh");
    let files = |source: &str| {
        archive.check(&format!(
            "files: [{{source: '{source}', destination: /d}}]\n"
        ))
    };
    // A link to nothing is copied as a link; one that is followed is not there.
    for source in ["nothing", "self", "a/../run.sh", "real/y/../y", "to-run"] {
        assert!(files(source).is_empty(), "{source}: {:?}", files(source));
    }
    for source in [
        "nothing/",
        "gone/../run.sh",
        "run.sh/.",
        "run.sh/../a",
        "to-y/../run.sh",
    ] {
        assert_eq!(files(source), ["files-source-missing"], "{source}");
    }
    for (location, is_there) in [
        ("a/../run.sh", true),
        ("gone/../run.sh", false),
        ("run.sh/", false),
        ("nothing", false),
    ] {
        let found = archive.check(&hook("AfterInstall", location));
        assert_eq!(found.is_empty(), is_there, "{location}: {found:?}");
    }
    // What a linked folder holds meets what others bring.
    let twice = archive
        .check("files: [{source: to-y, destination: /d}, {source: real/y/z, destination: /d}]\n");
    assert_eq!(twice, ["files-same-destination"]);
    // Windows resolves `..` before it looks.
    let report = archive.check_with(
        "version: 0.0\nos: windows\nfiles: [{source: 'gone\\..\\run.sh', destination: 'c:\\d'}]\n",
        &Options::default(),
    );
    assert_eq!(codes(&report), [""; 0]);
}

#[test]
fn err_destinations_that_no_agent_makes() {
    let long = format!("/{}", "x/".repeat(2_048));
    for destination in ["~", "~/app", "~deploy/app", &long] {
        let files = format!("files: [{{source: /, destination: '{destination}'}}]\n");
        assert_eq!(
            Archive::of(&[]).check(&files),
            ["files-destination-invalid"]
        );
    }
}

#[test]
fn err_paths_that_break_the_agents_command_lines() {
    let archive = Archive::of(&["bin/a.sh", "my file", "lib/$x/y", "plain/z"]);
    for (item, is_refused) in [
        ("{object: /srv/app, acls: ['u:www:r']}", true),
        ("{object: /srv/app, context: {type: t, range: s0}}", true),
        ("{object: /srv/app/lib, acls: ['u:www:r']}", true),
        ("{object: '/srv/app/my file', acls: ['u:www:r']}", true),
        ("{object: /srv/app/bin, acls: ['u:www:r']}", false),
        (
            "{object: /srv/app, acls: ['u:www:r'], pattern: 'b*'}",
            false,
        ),
        ("{object: /srv/app, mode: 755, owner: www}", false),
    ] {
        let found = archive.check(&format!("{ALL}permissions: [{item}]\n"));
        let expected: &[&str] = if is_refused {
            &["permission-path-unsafe"]
        } else {
            &[]
        };
        assert_eq!(found, expected, "{item}");
    }
    // White space that no shell knows of is a character like any other.
    let archive = Archive::of(&["a\u{a0}b.sh"]);
    assert!(
        archive
            .check(&hook("AfterInstall", "a\u{a0}b.sh"))
            .is_empty()
    );
}

#[test]
fn ok_items_are_held_against_each_other_by_what_they_make() {
    // As many as a person would not write, none inside another: nothing has to be compared.
    let names: Vec<String> = (0..500).map(|number| format!("d{number}/f")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let items: String = (0..500)
        .map(|number| format!("- {{source: d{number}, destination: /srv/d{number}}}\n"))
        .collect();
    let permissions: String = (0..500)
        .map(|number| format!("- {{object: /srv/d{number}, mode: 755}}\n"))
        .collect();
    let archive = Archive::of(&names);
    let appspec = format!("files:\n{items}permissions:\n{permissions}");
    assert_eq!(archive.check(&appspec), [""; 0]);
    let one_more = format!("{appspec}- {{object: /srv/d7, type: [file]}}\n");
    assert_eq!(archive.check(&one_more), ["permission-twice"]);
}

#[test]
fn err_what_overlaps_too_often_is_refused() {
    let names: Vec<String> = (0..3_000).map(|number| format!("d/f{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let archive = Archive::of(&names);
    let items: String = (0..700)
        .map(|number| {
            format!(
                "- {{source: d, destination: /srv/{}}}\n",
                "x/".repeat(number)
            )
        })
        .collect();
    let found = archive.check(&format!("files:\n{items}"));
    assert_eq!(found, ["files-too-many"]);
}

#[test]
fn err_permissions_that_meet_have_their_codes() {
    let archive = Archive::of(&["index.html", "bin/a.sh", "bin/sub/b.sh"]);
    let permissions =
        |items: &[&str]| archive.check(&format!("{ALL}permissions: [{}]\n", items.join(", ")));
    for twice in [
        [
            "{object: /srv/app/index.html}",
            "{object: /srv/app/./index.html}",
        ],
        ["{object: /srv/app}", "{object: /srv/app/index.html}"],
        ["{object: /srv/app/index.html}", "{object: /srv/app}"],
        ["{object: /srv/app}", "{object: /srv/app/bin}"],
        [
            "{object: /srv, type: [directory]}",
            "{object: /srv/app, type: [directory]}",
        ],
        [
            "{object: /srv/app/bin, pattern: '*.sh'}",
            "{object: /srv/app/bin, pattern: 'a*'}",
        ],
    ] {
        assert_eq!(permissions(&twice), ["permission-twice"], "{twice:?}");
    }
    for good in [
        [
            "{object: /srv/app, type: [file]}",
            "{object: /srv/app, type: [directory]}",
        ],
        [
            "{object: /srv/app/bin, pattern: '*.sh'}",
            "{object: /srv/app/bin/sub, type: [file]}",
        ],
        [
            "{object: /srv/app/bin, pattern: '*.sh'}",
            "{object: /srv/app/bin, except: [a.sh, sub], pattern: 'b*'}",
        ],
    ] {
        assert!(permissions(&good).is_empty(), "{good:?}");
    }
    assert_eq!(
        permissions(&["{object: /srv/app/index.html, pattern: '*.html'}"]),
        ["permission-pattern-on-file"]
    );
    assert_eq!(
        permissions(&["{object: /srv/app/index.html, except: [a]}"]),
        ["permission-pattern-on-file"]
    );
    assert!(
        permissions(&["{object: /srv/app/index.html, except: [a], type: [directory]}"]).is_empty()
    );
    for item in [
        "{object: /srv/app, acls: ['d:u:a:r']}",
        "{object: /srv/app/index.html, acls: ['d:u:a:r']}",
    ] {
        assert_eq!(
            permissions(&[item]),
            ["permission-acl-default-on-file"],
            "{item}"
        );
    }
    assert!(permissions(&["{object: /srv/app, acls: ['d:u:a:r'], type: [directory]}"]).is_empty());
    assert_eq!(
        permissions(&["{object: /nothing}"]),
        ["permission-without-effect"]
    );
}

#[test]
fn ok_options_are_judged_by_platform() {
    let all = Options {
        ignore_application_stop_failures: true,
        update_outdated_instances_only: true,
        file_exists_behavior: Some(FileExistsBehavior::Overwrite),
        bundle_type: Some(BundleType::Zip),
    };
    let lambda = "version: 0.0\nResources: [{f: {Type: 'AWS::Lambda::Function', Properties: {Name: f, Alias: a, \
                  CurrentVersion: 1, TargetVersion: 2}}}]\n";
    let archive = Archive::of(&[]).with("x", |entry| entry.encrypted = true);
    let report = archive.check_with(lambda, &all);
    // What is beside the AppSpec is not shipped, so it is not judged.
    assert_eq!(codes(&report), ["option-illegal-on-platform"; 3]);
    assert_eq!(report.platform, Some(ComputePlatform::Lambda));
    assert!(
        Archive::of(&[])
            .check_with("version: 0.0\nos: linux", &all)
            .findings
            .is_empty()
    );
}

#[test]
fn ok_an_appspec_under_another_name_is_no_fault_on_lambda() {
    let mut archive = Archive::default();
    archive.add("appspec.yaml");
    let lambda = "version: 0.0\nResources: [{f: {Type: 'AWS::Lambda::Function', Properties: {Name: f, Alias: a, \
                  CurrentVersion: 1, TargetVersion: 2}}}]\n";
    assert!(
        archive
            .check_with(lambda, &Options::default())
            .findings
            .is_empty()
    );
    assert_eq!(archive.check(""), ["appspec-renamed"]);
}

#[test]
fn ok_without_an_appspec_the_archive_alone_is_judged_and_refusals_come_first() {
    let archive = Archive::of(&["x", "x"]).with("y", |entry| entry.encrypted = true);
    let contents = archive.contents();
    let faults = AppSpec::read(b"", "appspec.yml").unwrap_err();
    let report = check_all(
        &archive,
        &contents,
        Err(&faults),
        &Known::new(),
        &Options::default(),
    );
    assert_eq!(report.platform, None);
    assert_eq!(
        codes(&report),
        ["appspec-empty", "entry-encrypted", "entry-repeated"]
    );
}

#[test]
fn err_more_paths_than_a_tree_may_have() {
    let names: Vec<String> = (0..100).map(|number| format!("d{number}/e/f")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let archive = Archive::of(&names);
    let contents = archive.contents();
    let judged = |paths_max| {
        let bundle = Bundle::with_paths_max(&archive, &contents, paths_max);
        let none: &[Finding] = &[];
        codes(&check(
            &bundle,
            Err(none),
            &Known::new(),
            &Options::default(),
        ))
    };
    // Three for each name, and the AppSpec.
    assert_eq!(judged(301), [""; 0]);
    assert_eq!(judged(300), ["archive-too-many-entries"]);
}

/// An archive of so many entries that each pass over them shows, all names in one buffer.
struct Crowd {
    names: Vec<u8>,
    ends: Vec<usize>,
}

impl Crowd {
    fn of(count: usize, name: impl Fn(usize) -> String) -> Self {
        let mut crowd = Self {
            names: b"appspec.yml".to_vec(),
            ends: vec![b"appspec.yml".len()],
        };
        for number in 1..count {
            crowd.names.extend(name(number).bytes());
            crowd.ends.push(crowd.names.len());
        }
        crowd
    }

    /// Judged with an AppSpec that asks for every rule.
    fn check(&self) -> Report {
        let exclude = globset::GlobSet::empty();
        let choice = Choice {
            application_root: "",
            exclude: &exclude,
            format: ArchiveFormat::Zip,
        };
        let contents = choose_contents(self, &choice).unwrap();
        let appspec = format!(
            "version: 0.0\nos: linux\n{ALL}permissions: [{{object: /srv/app, mode: 755}}]\n{}",
            hook("AfterInstall", "bin/nowhere")
        );
        let appspec = AppSpec::read(appspec.as_bytes(), "appspec.yml").unwrap();
        check_all(
            self,
            &contents,
            Ok(&appspec),
            &Known::new(),
            &Options::default(),
        )
    }
}

impl Entries for Crowd {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn entry(&self, position: u32) -> Option<Entry<'_>> {
        let at = position as usize;
        let end = *self.ends.get(at)?;
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(Entry {
            mode: None,
            ..testing::entry(&self.names[begin..end], EntryKind::File)
        })
    }
}

#[test]
fn ok_crowds_of_entries_are_judged_whatever_their_names() {
    const COUNT: usize = 100_000;
    let deep = format!("{}x", "d/".repeat(100));
    type Name = Box<dyn Fn(usize) -> String>;
    let names: [(&str, usize, Name); 5] = [
        (
            "in one folder",
            COUNT,
            Box::new(|n| format!("lib/file-{n}.js")),
        ),
        (
            "each in its folder",
            COUNT,
            Box::new(|n| format!("lib/{n}/a/x")),
        ),
        (
            "in an order that helps nobody",
            COUNT,
            Box::new(|n| format!("lib/{}/{n}", n * 7_919 % 1_000)),
        ),
        (
            "deep below folders of their own",
            COUNT / 50,
            Box::new(move |n| format!("{n}/{deep}")),
        ),
        (
            "below one another",
            COUNT / 50,
            Box::new(|n| format!("l{}", "/l".repeat(n % 127))),
        ),
    ];
    for (what, count, name) in names {
        let report = Crowd::of(count, name).check();
        let codes = codes(&report);
        assert!(
            codes.contains(&"hook-script-missing".to_owned()),
            "{what}: {codes:?}"
        );
        assert_eq!(
            codes.contains(&"entry-below-file".to_owned()),
            what == "below one another",
            "{what}: {codes:?}"
        );
    }
}

proptest! {
    #[test]
    fn ok_any_tree_is_judged_without_panic_and_alike_each_time(
        names in proptest::collection::vec("(a|b|c)(/(a|b|c)){0,3}/?", 0..10),
        kinds in proptest::collection::vec(0_usize..5, 10),
        targets in proptest::collection::vec("(\\.\\./|/|a|b|\\.|/c){0,4}", 10),
        files in proptest::collection::vec(("(a|b|/|\\.\\./|c/a){1,2}", "/(a|b)(/(a|b)){0,2}"), 0..4),
        objects in proptest::collection::vec("/(a|b)(/(a|b|c)){0,3}", 0..3),
    ) {
        let mut archive = Archive::of(&[]);
        for ((name, kind), target) in names.iter().zip(&kinds).zip(&targets) {
            let entry = archive.add(name);
            if entry.kind == EntryKind::File {
                entry.kind = [EntryKind::File, EntryKind::Symlink, EntryKind::HardLink, EntryKind::Special,
                    EntryKind::File][*kind];
                entry.link_target = matches!(entry.kind, EntryKind::Symlink | EntryKind::HardLink)
                    .then_some(target.as_bytes());
            }
        }
        let mut text = "version: 0.0\nos: linux\nfiles:\n".to_owned();
        for (source, destination) in &files {
            text.push_str(&format!("- {{source: '{source}', destination: '{destination}'}}\n"));
        }
        text.push_str("permissions:\n");
        for object in &objects {
            text.push_str(&format!("- {{object: '{object}'}}\n"));
        }
        let once = archive.check_with(&text, &Options::default());
        prop_assert_eq!(&once, &archive.check_with(&text, &Options::default()));
        for finding in &once.findings {
            let row = codes::find(&finding.code).unwrap();
            prop_assert_eq!(row.severity, finding.severity);
        }
    }
}

/// `releases/1` behind `current`, and a file beside.
fn releases<'a>() -> Archive<'a> {
    Archive::of(&["releases/1/run.sh", "releases/1/bin/tool", "extra.txt"])
        .link("current", "releases/1")
}

/// As in a zip, where a link's target is its content, and is not read.
fn unread<'a>(name: &'a str, target: &str) -> impl FnOnce(Archive<'a>) -> Archive<'a> {
    let size = target.len() as u64;
    move |archive| {
        archive.with(name, |entry| {
            entry.kind = EntryKind::Symlink;
            entry.size = size;
        })
    }
}

#[test]
fn ok_a_link_to_a_folder_is_a_directory_to_the_agent() {
    let beside = "files: [{source: /, destination: /srv/app}, {source: extra.txt, destination: /srv/app/current}]\n";
    let with_pattern =
        format!("{ALL}permissions: [{{object: /srv/app/current, pattern: '*.sh', mode: 755}}]\n");
    for rest in [beside, &with_pattern] {
        assert_eq!(releases().check(rest), ["link-to-directory"], "{rest}");
        let read =
            unread("current", "releases/1")(Archive::of(&["releases/1/run.sh", "extra.txt"]));
        assert!(read.check(rest).is_empty(), "{rest}");
        let below = format!("{ALL}permissions: [{{object: /srv/app/current/x, mode: 755}}]\n");
        assert!(read.check(&below).is_empty());
        let outside = Archive::of(&["extra.txt"]).link("current", "/srv/other");
        assert_eq!(outside.check(rest), ["link-outside"], "{rest}");
    }
    // A link to a file, or to nothing, is a file.
    let to_file = Archive::of(&["run.sh", "extra.txt"]).link("current", "run.sh");
    assert_eq!(to_file.check(beside), ["files-same-destination"]);
    assert_eq!(to_file.check(&with_pattern), ["permission-pattern-on-file"]);
}

#[test]
fn err_what_lies_behind_a_link_to_a_folder_is_installed_there() {
    let both = |one: &str, other: &str| {
        format!(
            "{ALL}permissions: [{{object: {one}, mode: 755}}, {{object: {other}, mode: 755}}]\n"
        )
    };
    let refused = |archive: &Archive<'_>, rest: &str| {
        let codes = archive.check(rest);
        codes
            .into_iter()
            .find(|code| codes::find(code).unwrap().severity == Severity::Refuse)
    };
    let archive = releases();
    for (one, other) in [
        ("/srv/app/current/run.sh", "/srv/app/current"),
        ("/srv/app/current", "/srv/app/current/bin"),
        ("/srv/app", "/srv/app/current/bin/tool"),
    ] {
        assert_eq!(
            refused(&archive, &both(one, other)).as_deref(),
            Some("permission-twice"),
            "{one}"
        );
    }
    assert_eq!(
        refused(&archive, &both("/srv/app/current", "/srv/app/releases")),
        None
    );
    // Two files meet behind the link.
    let again = "files: [{source: /, destination: /srv/app}, {source: releases/1/run.sh, destination: /srv/app/current}]\n";
    assert_eq!(
        refused(&archive, again).as_deref(),
        Some("files-same-destination")
    );
    // A link behind a link.
    let nested = Archive::of(&["a/x.sh", "b/y", "x.sh"])
        .link("b/to-a", "../a")
        .link("to-b", "b");
    let deep =
        "files: [{source: /, destination: /srv}, {source: x.sh, destination: /srv/to-b/to-a}]\n";
    assert_eq!(
        refused(&nested, deep).as_deref(),
        Some("files-same-destination")
    );
}

#[test]
fn ok_links_in_circles_and_by_the_thousand_end() {
    let circles = Archive::of(&["a/x", "b/y"])
        .link("a/to-b", "../b")
        .link("b/to-a", "../a");
    let codes = circles.check(&format!(
        "{ALL}permissions: [{{object: /srv/app/a/to-b, mode: 755}}]\n"
    ));
    assert_eq!(codes, ["link-to-directory"]);
    let names: Vec<String> = (0..20_000).map(|number| format!("l{number}")).collect();
    let mut many = Archive::of(&["d/x"]);
    for name in &names {
        many = many.link(name, "d");
    }
    assert_eq!(many.check(ALL), ["link-to-directory"]);
}

#[test]
fn ok_a_hard_link_to_a_symbolic_link_is_one_more_of_it() {
    let archive = Archive::of(&["bin/run"])
        .link("bin/one", "run")
        .hard_link("bin/two", "bin/one")
        .hard_link("bin/three", "bin/two");
    assert!(archive.check(ALL).is_empty());
    assert_eq!(archive.find("bin/three"), archive.find("bin/run"));
    assert!(
        archive
            .check(&hook("AfterInstall", "bin/two"))
            .iter()
            .all(|code| code != "hook-script-missing")
    );
    // Only of one that comes before it.
    let early = Archive::of(&["bin/run"])
        .hard_link("bin/two", "bin/one")
        .link("bin/one", "run");
    assert_eq!(early.check(ALL), ["entry-hard-link-outside"]);
}

#[test]
fn ok_of_a_symbolic_link_twice_the_last_one_is_kept() {
    let archive = Archive::of(&["bin/a", "bin/b"])
        .link("bin/tool", "a")
        .link("bin/tool", "b");
    assert_eq!(archive.check(ALL), ["entry-repeated"]);
    let contents = archive.contents();
    assert_eq!((contents.entries.len(), contents.counts.replaced), (4, 1));
    assert_eq!(archive.find("bin/tool"), archive.find("bin/b"));
    let three = Archive::of(&[])
        .link("x", "a")
        .link("x", "a")
        .link("x", "a");
    assert_eq!(three.contents().entries.len(), 2);
    // As GNU tar writes it where it is told of one link twice.
    let itself = three.with("./x", |entry| {
        entry.kind = EntryKind::HardLink;
        entry.link_target = Some(b"x");
    });
    assert_eq!(itself.check(ALL), ["entry-repeated"]);
    assert_eq!(itself.contents().entries.len(), 2);
    let mixed = Archive::of(&[]).link("x", "a").with("x", |_| ());
    assert_eq!(mixed.check(ALL), ["entry-two-kinds"]);
}

#[test]
fn err_a_destination_component_that_no_file_system_takes() {
    let at = |name: &str, os: &str| {
        let appspec = format!(
            "version: 0.0\nos: {os}\nfiles: [{{source: /, destination: '/srv/{name}/app'}}]\n"
        );
        codes(&Archive::of(&["x"]).check_with(&appspec, &Options::default()))
    };
    assert_eq!(at(&"x".repeat(256), "linux"), ["files-destination-invalid"]);
    assert_eq!(at(&"ä".repeat(128), "linux"), ["files-destination-invalid"]);
    for fine in ["x".repeat(255), format!("{}/..", "x".repeat(256))] {
        assert!(at(&fine, "linux").is_empty());
    }
    assert!(at(&"x".repeat(256), "windows").is_empty());
}

#[test]
fn regression_an_objects_length_costs_no_more_than_reading_it() {
    let started = std::time::Instant::now();
    let check = |object: &str| {
        let archive = Archive::of(&["x"]).link("away", "/etc");
        archive.check(&format!(
            "{ALL}permissions: [{{object: {object}, mode: 755}}]\n"
        ))
    };
    let long = "/a".repeat(200_000);
    for object in [
        format!("/srv/app{long}"),
        format!("/srv/app/away{long}"),
        format!("{long}/srv/app"),
    ] {
        let found = check(&object);
        assert_eq!(found, ["link-outside", "permission-without-effect"]);
    }
    // What is there is not known, and may be that long.
    assert_eq!(
        check(&format!("/srv/app/away{}", "/a".repeat(2_000))),
        ["link-outside"]
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn regression_links_behind_links_end_where_paths_are_too_long() {
    let deep = ["x".repeat(250).as_str(); 12].join("/");
    let up = "../".repeat(13);
    let names: Vec<[String; 2]> = (0..4)
        .map(|number| {
            [
                format!("d{number}/{deep}/link"),
                format!("{up}d{}", number + 1),
            ]
        })
        .collect();
    let mut archive = Archive::of(&["d4/x"]);
    for [name, target] in &names {
        archive = archive.link(name, target);
    }
    let contents = archive.contents();
    let bundle = Bundle::new(&archive, &contents);
    let appspec = AppSpec::read(
        format!("version: 0.0\nos: linux\n{ALL}").as_bytes(),
        "appspec.yml",
    )
    .unwrap();
    let mut findings = Findings::new("appspec.yml");
    let mut items = install::items(
        &bundle,
        appspec.server().unwrap(),
        &archive.known,
        &mut Near::new(),
        &mut findings,
    );
    links::Links::follow(&bundle, &archive.known).append(&bundle, &mut items);
    assert_eq!(items.len(), 5);
    assert!(items.iter().all(|item| item.target.len() <= 4_095));
}
