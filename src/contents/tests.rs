use globset::{Glob, GlobSetBuilder};
use proptest::prelude::*;

use super::*;
use crate::archive::testing::named as entry;
use crate::finding::Severity;

fn globs(patterns: &[&str]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(Glob::new(pattern).unwrap());
    }
    builder.build().unwrap()
}

fn choose_from(
    entries: &[Entry<'_>],
    root: &str,
    exclude: &[&str],
) -> Result<(Vec<String>, Contents), Vec<Finding>> {
    let exclude = globs(exclude);
    let choice = Choice {
        application_root: root,
        exclude: &exclude,
        format: ArchiveFormat::Zip,
    };
    let slice = Listed(entries);
    let contents = choose_contents(&slice, &choice)?;
    let names = contents
        .entries
        .iter()
        .map(|kept| {
            let entry = slice.entry(kept.index).unwrap();
            String::from_utf8(kept.name(&entry).to_vec()).unwrap()
        })
        .collect();
    Ok((names, contents))
}

/// A sized wrapper, because a slice is no `dyn Entries`.
struct Listed<'a>(&'a [Entry<'a>]);

impl Entries for Listed<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn entry(&self, position: u32) -> Option<Entry<'_>> {
        self.0.entry(position)
    }
}

fn choose(
    names: &[&str],
    root: &str,
    exclude: &[&str],
) -> Result<(Vec<String>, Contents), Vec<Finding>> {
    let entries: Vec<Entry<'_>> = names.iter().map(|name| entry(name)).collect();
    choose_from(&entries, root, exclude)
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect()
}

fn refused(names: &[&str], root: &str) -> Vec<Finding> {
    let findings = choose(names, root, &[]).unwrap_err();
    assert!(findings.iter().all(Finding::refuses));
    findings
}

#[test]
fn ok_an_archive_goes_in_as_it_is() {
    let names = ["appspec.yml", "bin/", "bin/run", "__MACOSX/._x"];
    let (kept, contents) = choose(&names, "", &[]).unwrap();
    assert_eq!(kept, names);
    assert_eq!((contents.counts.kept, contents.warnings.len()), (4, 0));
    assert!(
        contents
            .entries
            .iter()
            .all(|kept| matches!(kept.name, KeptName::Suffix { skip: 0 }))
    );
}

#[test]
fn ok_the_application_root_is_cut_off_and_what_is_beside_it_left_out() {
    let names = [
        "README.md",
        "app/",
        "app/appspec.yml",
        "app/bin/run",
        "apple/x",
    ];
    let (kept, contents) = choose(&names, "app/", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", "bin/run"]);
    assert_eq!(contents.root, "app/");
    assert_eq!(contents.appspec.archive_name, "app/appspec.yml");
    assert_eq!(contents.appspec.index, 2);
    assert_eq!(contents.counts.outside_root, 3);
}

#[test]
fn ok_git_is_left_out_at_any_depth_and_its_likes_are_not() {
    let names = [
        "appspec.yml",
        ".git/config",
        "vendor/.git",
        ".gitignore",
        ".github/x",
    ];
    let (kept, contents) = choose(&names, "", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", ".gitignore", ".github/x"]);
    assert_eq!(contents.counts.git, 2);
}

#[test]
fn ok_excluded_folders_take_what_is_in_them_along() {
    let names = [
        "appspec.yml",
        "docs/a/b.txt",
        "docs/c.md",
        "src/docs/x",
        "src/a.log",
        "src/b.rs",
    ];
    let (kept, contents) = choose(&names, "", &["docs", "**/*.log"]).unwrap();
    assert_eq!(kept, ["appspec.yml", "src/docs/x", "src/b.rs"]);
    assert_eq!(contents.counts.excluded, 3);
}

#[test]
fn ok_a_single_top_folder_with_an_appspec_is_the_root() {
    let names = ["repo-1/", "repo-1/appspec.yml", "repo-1/bin/run"];
    let (kept, contents) = choose(&names, "", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", "bin/run"]);
    assert_eq!(contents.root, "repo-1/");
    assert_eq!(contents.counts.outside_root, 1);
    assert!(contents.warnings.is_empty());
}

#[test]
fn ok_a_folder_that_wraps_the_whole_archive_is_looked_through_for_the_root() {
    let names = [
        "repo-1/README.md",
        "repo-1/.git/config",
        "repo-1/app/appspec.yml",
        "repo-1/app/x",
    ];
    let (kept, contents) = choose(&names, "app/", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", "x"]);
    assert_eq!(contents.root, "repo-1/app/");
    assert_eq!(contents.counts.git, 1);
}

#[test]
fn ok_what_the_finder_adds_beside_the_folder_is_dropped_and_said() {
    let names = [
        "my app/appspec.yml",
        "__MACOSX/my app/._appspec.yml",
        ".DS_Store",
    ];
    let (kept, contents) = choose(&names, "", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml"]);
    assert_eq!(contents.counts.finder, 2);
    assert_eq!(codes(&contents.warnings), ["finder-files-dropped"]);
}

#[test]
fn ok_other_spellings_of_the_appspec_are_renamed_and_said() {
    for name in ["appspec.yaml", "AppSpec.yml", "appspec.json"] {
        let (kept, contents) = choose(&["x", name], "", &[]).unwrap();
        assert_eq!(kept, ["x", "appspec.yml"]);
        assert_eq!(codes(&contents.warnings), ["appspec-renamed"]);
        assert_eq!(contents.appspec.archive_name, name);
    }
}

#[test]
fn ok_beside_the_right_name_other_spellings_are_plain_files() {
    let names = ["appspec.yml", "appspec.yaml", "APPSPEC.YML"];
    let (kept, contents) = choose(&names, "", &[]).unwrap();
    assert_eq!(kept, names);
    assert!(contents.warnings.is_empty());
}

#[test]
fn ok_of_an_appspec_twice_the_last_one_counts() {
    let (kept, contents) = choose(&["appspec.yml", "x", "appspec.yml"], "", &[]).unwrap();
    assert_eq!(kept.len(), 3);
    assert_eq!(contents.appspec.index, 2);
}

#[test]
fn ok_odd_names_are_repaired_and_said() {
    let (kept, contents) = choose(&["./appspec.yml", "a//b"], "", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", "a/b"]);
    assert_eq!(codes(&contents.warnings), ["entry-name-dots"]);
    assert!(contents.warnings[0].message.contains("and 1 more"));
    let mut windows = [entry("appspec.yml"), entry("scripts\\after.sh")];
    windows[1].mode = None;
    let (kept, contents) = choose_from(&windows, "", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", "scripts/after.sh"]);
    assert_eq!(codes(&contents.warnings), ["entry-name-backslashes"]);
    assert_eq!(contents.warnings[0].severity, Severity::Warn);
}

#[test]
fn ok_control_characters_stay_and_are_said() {
    let (kept, contents) = choose(&["appspec.yml", "a\nb"], "", &[]).unwrap();
    assert_eq!(kept[1], "a\nb");
    assert_eq!(codes(&contents.warnings), ["entry-name-control"]);
}

#[test]
fn ok_a_directory_without_slash_gets_one() {
    let mut entries = [entry("appspec.yml"), entry("bin")];
    entries[1].kind = EntryKind::Directory;
    let (kept, _) = choose_from(&entries, "", &[]).unwrap();
    assert_eq!(kept, ["appspec.yml", "bin/"]);
}

#[test]
fn err_names_that_lead_out_are_refused_wherever_they_lie() {
    for (name, code) in [
        ("../x", "entry-name-climbs"),
        (".git/../../x", "entry-name-climbs"),
        ("/srv/x", "entry-name-absolute"),
    ] {
        assert_eq!(codes(&refused(&["app/appspec.yml", name], "app/")), [code]);
    }
}

#[test]
fn err_names_that_cannot_be_made_are_refused_where_they_would_be_kept() {
    let long = "x".repeat(COMPONENT_BYTES_MAX + 1);
    for (name, code) in [
        ("a\0b", "entry-name-nul"),
        (long.as_str(), "entry-name-too-long"),
    ] {
        assert_eq!(codes(&refused(&["appspec.yml", name], "")), [code]);
        let outside = ["app/appspec.yml", name];
        assert_eq!(choose(&outside, "app/", &[]).unwrap().0, ["appspec.yml"]);
    }
    let mut latin = [entry("appspec.yml"), entry("x")];
    latin[1].name = b"caf\xe9";
    let findings = choose_from(&latin, "", &[]).unwrap_err();
    assert_eq!(codes(&findings), ["entry-name-not-utf8"]);
    let mut folder = [entry("appspec.yml"), entry("weird/")];
    folder[1].kind = EntryKind::File;
    let findings = choose_from(&folder, "", &[]).unwrap_err();
    assert_eq!(codes(&findings), ["entry-name-like-folder"]);
}

#[test]
fn err_nothing_to_ship() {
    assert_eq!(codes(&refused(&[], "")), ["archive-empty"]);
    let findings = refused(&["README.md", "app/appspec.yml"], "dist/");
    assert_eq!(codes(&findings), ["application-root-empty"]);
    assert!(findings[0].message.contains("`/dist`") && findings[0].message.contains("`app/`"));
    assert_eq!(
        codes(&refused(&[".git/config"], "")),
        ["application-root-empty"]
    );
}

#[test]
fn err_a_missing_appspec_is_looked_for_elsewhere() {
    let findings = refused(&["bin/run"], "");
    assert_eq!(codes(&findings), ["appspec-missing"]);
    let findings = refused(&["deploy/conf/AppSpec.yml", "bin/run"], "");
    assert!(findings[0].cure.contains("/deploy/conf"), "{}", findings[0]);
    // The agent strips one folder, never two.
    assert_eq!(
        codes(&refused(&["a/b/appspec.yml"], "")),
        ["appspec-missing"]
    );
}

#[test]
fn err_an_appspec_that_is_none_or_several() {
    let findings = refused(&["appspec.yml/", "x"], "");
    assert_eq!(codes(&findings), ["appspec-is-directory"]);
    let findings = refused(&["appspec.yaml", "AppSpec.yml"], "");
    assert_eq!(codes(&findings), ["appspec-ambiguous"]);
}

#[test]
fn err_folders_that_are_nested_to_be_a_burden_on_globs() {
    let deep = format!(
        "{}/",
        format!("{}/", "x".repeat(30))
            .repeat(120)
            .trim_end_matches('/')
    );
    let names: Vec<String> = std::iter::once("appspec.yml".to_owned())
        .chain((0..1_200).map(|number| format!("{number:04}{deep}f")))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let findings = choose(&names, "", &["nothing"]).unwrap_err();
    assert_eq!(codes(&findings), ["archive-too-many-entries"]);
    assert!(choose(&names, "", &[]).is_ok());
}

#[test]
fn ok_documents_are_found_at_the_root_and_below_the_one_wrapper() {
    let find = |names: &[&str]| {
        let entries: Vec<Entry<'_>> = names.iter().map(|name| entry(name)).collect();
        find_document(&Listed(&entries), "circle.yml", ArchiveFormat::Zip)
    };
    assert_eq!(find(&["x", "circle.yml", "./circle.yml"]), Some(2));
    assert_eq!(find(&["repo-1/x", "repo-1/circle.yml"]), Some(1));
    assert_eq!(find(&["repo-1/x", "repo-1/circle.yml", "y"]), None);
    assert_eq!(find(&["a/b/circle.yml", "xcircle.yml"]), None);
}

proptest! {
    #[test]
    fn ok_every_entry_is_counted_once(
        names in proptest::collection::vec(
            prop_oneof![
                Just("appspec.yml".to_owned()), Just("app/appspec.yml".to_owned()),
                "(app/|\\./|b/)?(\\.git/)?[a-c]{1,2}(/[a-c])?(\\.log)?/?",
                Just("__MACOSX/x".to_owned()),
            ],
            1..12,
        ),
        root in prop_oneof![Just(""), Just("app/")],
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match choose(&names, root, &["*.log"]) {
            Ok((kept, contents)) => {
                let counts = contents.counts;
                prop_assert_eq!(
                    counts.kept + counts.outside_root + counts.git + counts.excluded + counts.finder,
                    names.len()
                );
                prop_assert_eq!(counts.kept, kept.len());
                for name in &kept {
                    let clean = !name.is_empty() && !name.starts_with('/') && !name.contains("//");
                    prop_assert!(clean, "{}", name);
                }
                prop_assert!(kept.iter().any(|name| name == APPSPEC_NAME));
            }
            Err(findings) => prop_assert!(findings.iter().all(Finding::refuses)),
        }
    }
}
