//! The settings language as a whole: the examples that CircleCI 1.0 documented, its pattern table,
//! every class of mistake with its place, and the rules of selection.

use proptest::prelude::*;

use super::*;
use crate::deployment::Region;
use crate::finding::Severity;
use crate::key_pattern::Build;
use crate::yaml::Place;

const STAGING: &str = "    deployment:
      staging:
        branch: development
        codedeploy:
          my-app:
            deployment_group: staging-instance-group
";

const STAGING_AND_PRODUCTION: &str = "    deployment:
      staging:
        branch: development
        codedeploy:
          my-app:
            deployment_group: staging-instance-group
      production:
        branch: master
        codedeploy:
          my-app:
            deployment_group: production-instance-group
";

const OVERRIDDEN_LOCATION: &str = "    deployment:
      production:
        branch: master
        codedeploy:
          my-app:
            deployment_group: production-instances
            revision_location:
              revision_type: S3
              s3_location:
                bucket: production-bucket
                key_pattern: apps/my-app-master-{SHORT_COMMIT}-{BUILD_NUM}
";

const COMPLETE: &str = "    deployment:
      staging:
        branch: development
        codedeploy:
          my-app:
            application_root: /
            revision_location:
              revision_type: S3
              s3_location:
                bucket: staging-bucket
                key_pattern: apps/my-app-{SHORT_COMMIT}-{BUILD_NUM}
            region: us-east-1
            deployment_group: staging-instances
            deployment_config: CodeDeployDefault.AllAtOnce
";

const PROJECT_WIDE: &str = "\
repository_config: allowed
codedeploy:
  my-app:
    application_root: /app
    region: eu-central-1
    revision_location:
      revision_type: S3
      s3_location:
        bucket: project-bucket
        key_pattern: apps/{BRANCH}/{COMMIT}
    queue: all
";

/// What else a real file of 1.0 holds, with aliases, duplicates and odd types of its own.
const REST_OF_CIRCLE_YML: &str = "\
machine: &machine
  timezone: America/Los_Angeles
  ruby: {version: 1.8.7-p358-falcon-perf}
  environment:
    CIRCLE_ENV: test
    RAILS_ENV: yes
  services: [elasticsearch, redis]
  hosts: {dev.circleci.com: 127.0.0.1}
checkout:
  post:
    - git submodule sync
    - git submodule update --init
dependencies:
  cache_directories:
    - \"assets/cache\"
  override:
    - bundle install: # note ':' here
        timeout: 180
        environment: {FOO: bar}
        pwd:
          test_dir
test:
  pre: [\"mkdir -p $CIRCLE_TEST_REPORTS\"]
  override:
    - case $CIRCLE_NODE_INDEX in 0) rspec ;; 1) npm test ;; esac:
        parallel: true
  post:
    - |
      for i in 1 2; do
        echo \"$i: done\"
      done
notify:
  webhooks:
    - url: https://someurl.com/hooks/circle
general:
  branches: {ignore: [/dev-.*/]}
  machine: *machine
experimental: {}
experimental: {}
";

fn project(text: &str) -> Document {
    read(
        "s3://bucket/settings/shop.yml",
        text.as_bytes(),
        SettingsKind::Project,
    )
    .unwrap()
}

fn circle(text: &str) -> Document {
    read("circle.yml", text.as_bytes(), SettingsKind::CircleYml).unwrap()
}

fn branch(name: &str) -> Build {
    Build {
        branch: Some(name.to_owned()),
        ..Build::default()
    }
}

fn tag(name: &str) -> Build {
    Build {
        tag: Some(name.to_owned()),
        ..Build::default()
    }
}

fn mistakes(kind: SettingsKind, text: &str) -> Vec<String> {
    let findings = read("f.yml", text.as_bytes(), kind).unwrap_err();
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Refuse)
    );
    findings.iter().map(ToString::to_string).collect()
}

fn mistake(text: &str) -> String {
    let told = mistakes(SettingsKind::Project, text);
    assert_eq!(told.len(), 1, "{told:#?}");
    told.into_iter().next().unwrap()
}

fn region() -> Region {
    "us-west-2".parse().unwrap()
}

fn targets(selection: Selection) -> Vec<Target> {
    match selection {
        Selection::Deploy { targets, .. } => targets,
        other => panic!("{other:#?}"),
    }
}

fn only(selection: Selection) -> Target {
    let mut targets = targets(selection);
    assert_eq!(targets.len(), 1);
    targets.remove(0)
}

fn block_of(selection: &Selection) -> Option<&str> {
    match selection {
        Selection::Deploy { block, .. } | Selection::NothingToDeploy { block, .. } => Some(block),
        Selection::NoMatch { .. } => None,
        Selection::Refused(findings) => panic!("{findings:#?}"),
    }
}

/// The example as the documentation indents it, without that indentation, and inside a whole file
/// between the other sections.
fn embeddings(example: &str) -> [String; 3] {
    let flush: String = example
        .lines()
        .map(|line| format!("{}\n", &line[4..]))
        .collect();
    let (head, tail) = REST_OF_CIRCLE_YML.split_at(REST_OF_CIRCLE_YML.find("test:").unwrap());
    [
        example.to_owned(),
        flush.clone(),
        format!("{head}{flush}{tail}"),
    ]
}

#[test]
fn ok_the_documented_minimum_takes_the_rest_from_the_project() {
    for text in embeddings(STAGING) {
        let (project, circle) = (project(PROJECT_WIDE), circle(&text));
        let target = only(select(
            &project,
            Some(&circle),
            &branch("development"),
            None,
        ));
        assert_eq!(target.application.as_str(), "my-app");
        assert_eq!(target.deployment_group.as_str(), "staging-instance-group");
        assert_eq!(target.application_root.as_prefix(), "app/");
        assert_eq!(target.region.as_str(), "eu-central-1");
        assert_eq!(
            target.location.to_string(),
            "s3://project-bucket/apps/{BRANCH}/{COMMIT}"
        );
        assert_eq!(
            (target.queue, target.deployment_config.clone()),
            (Queue::All, None)
        );
        let other = select(&project, Some(&circle), &branch("master"), None);
        assert_eq!(block_of(&other), None);
    }
}

#[test]
fn ok_the_documented_two_groups_are_told_by_their_branches() {
    for text in embeddings(STAGING_AND_PRODUCTION) {
        let (project, circle) = (project(PROJECT_WIDE), circle(&text));
        for (name, group) in [
            ("development", "staging-instance-group"),
            ("master", "production-instance-group"),
        ] {
            let target = only(select(&project, Some(&circle), &branch(name), None));
            assert_eq!(target.deployment_group.as_str(), group);
        }
    }
}

#[test]
fn ok_the_documented_location_replaces_the_project_s_as_a_whole() {
    for text in embeddings(OVERRIDDEN_LOCATION) {
        let (project, circle) = (project(PROJECT_WIDE), circle(&text));
        let target = only(select(&project, Some(&circle), &branch("master"), None));
        let RevisionTarget::S3 {
            bucket,
            key_pattern,
        } = &target.location
        else {
            panic!()
        };
        assert_eq!(bucket.as_str(), "production-bucket");
        assert_eq!(
            key_pattern.as_str(),
            "apps/my-app-master-{SHORT_COMMIT}-{BUILD_NUM}"
        );
        assert_eq!(target.deployment_group.as_str(), "production-instances");
        assert_eq!(target.application_root.to_string(), "/app");
        assert!(!target.needs_versioned_bucket());
    }
}

#[test]
fn ok_the_documented_complete_block_needs_no_project_wide_settings() {
    for text in embeddings(COMPLETE) {
        for (project, circle) in [
            (Document::empty("p.yml"), Some(circle(&text))),
            (circle(&text), None),
        ] {
            let selection = select(&project, circle.as_ref(), &branch("development"), None);
            let target = only(selection);
            assert_eq!(target.application_root, ApplicationRoot::archive_root());
            assert_eq!(
                target.location.to_string(),
                "s3://staging-bucket/apps/my-app-{SHORT_COMMIT}-{BUILD_NUM}"
            );
            assert_eq!(target.region.as_str(), "us-east-1");
            assert_eq!(target.deployment_group.as_str(), "staging-instances");
            assert_eq!(
                target.deployment_config.unwrap().as_str(),
                "CodeDeployDefault.AllAtOnce"
            );
        }
    }
}

#[test]
fn ok_every_row_of_the_pattern_table() {
    let rows: [(&str, &[&str], &[&str]); 8] = [
        (
            "branch: production",
            &["production"],
            &["production-2", "Production"],
        ),
        (
            "branch: [dev_alice, dev_bob, dev_carol]",
            &["dev_alice", "dev_bob", "dev_carol"],
            &["dev_dave"],
        ),
        (
            "branch: /feature_.*/",
            &["feature_x", "feature_"],
            &["my_feature_x"],
        ),
        ("branch: /feature-.*/", &["feature-1"], &["xfeature-1"]),
        ("branch: /.*?/", &["master", "a/b", "ä"], &[]),
        (
            "branch: /^(?!master$).*$/",
            &["develop", "master2"],
            &["master"],
        ),
        ("tag: /release-.*/", &["release-v1.05"], &["qa-9502"]),
        (
            r"tag: /v[0-9]+(\.[0-9]+)*/",
            &["v1", "v1.2", "v1.2.3"],
            &["v1.", "version1"],
        ),
    ];
    for (pattern, selects, does_not) in rows {
        let text = format!("deployment:\n  b:\n    {pattern}\n    commands: [x]\n");
        let document = circle(&text);
        let build = |name: &str| {
            if pattern.starts_with("tag") {
                tag(name)
            } else {
                branch(name)
            }
        };
        for name in selects {
            assert_eq!(
                block_of(&select(&document, None, &build(name), None)),
                Some("b"),
                "{pattern} {name}"
            );
        }
        for name in does_not {
            assert_eq!(
                block_of(&select(&document, None, &build(name), None)),
                None,
                "{pattern} {name}"
            );
        }
        // A tag build is matched by `tag` alone, a branch build by `branch` alone.
        for name in selects {
            let other = if pattern.starts_with("tag") {
                branch(name)
            } else {
                tag(name)
            };
            assert_eq!(
                block_of(&select(&document, None, &other, None)),
                None,
                "{pattern} {name}"
            );
        }
    }
}

#[test]
fn ok_alternatives_of_an_expression_match_whole_names() {
    let document = circle("deployment: {b: {branch: /a|ab|^hotfix$/, commands: x}}");
    for (name, expected) in [
        ("a", Some("b")),
        ("ab", Some("b")),
        ("hotfix", Some("b")),
        ("abc", None),
        ("ba", None),
        ("hotfix2", None),
        ("a\n", None),
    ] {
        let selected = select(&document, None, &branch(name), None);
        assert_eq!(block_of(&selected), expected, "{name:?}");
    }
}

#[test]
fn ok_owners_guard_blocks() {
    let document =
        circle("deployment:\n  b:\n    branch: master\n    owner: circleci\n    commands: [x]\n");
    let owned = |repository: Option<&str>| {
        let repository = repository.map(str::to_owned);
        select(
            &document,
            None,
            &Build {
                repository,
                ..branch("master")
            },
            None,
        )
    };
    assert_eq!(block_of(&owned(Some("circleci/repo"))), Some("b"));
    for repository in [Some("someone/repo"), Some("CircleCI/repo"), None] {
        let Selection::NoMatch { considered } = owned(repository) else {
            panic!("{repository:?}")
        };
        match repository {
            Some(_) => assert!(matches!(considered[0].verdict, Verdict::OtherOwner { .. })),
            None => assert_eq!(
                considered[0].verdict.to_string(),
                "does not match: `owner` is circleci, and the repository's owner is unknown (user metadata \
                 x-amz-meta-repository)"
            ),
        }
    }
}

#[test]
fn ok_the_first_block_that_matches_runs_and_each_says_why() {
    let document = circle(
        "deployment:
  tags: {tag: /.*/, heroku: {appname: x}}
  other: {branch: [release, /hotfix-.*/], heroku: {appname: x}}
  first: {branch: /ma.*/, heroku: {appname: x}}
  second: {branch: master, heroku: {appname: x}}
",
    );
    let selection = select(&document, None, &branch("master"), None);
    let Selection::NothingToDeploy {
        block,
        warnings,
        considered,
    } = selection
    else {
        panic!()
    };
    assert_eq!(block, "first");
    assert_eq!(
        warnings[0].to_string(),
        "circle.yml:4:27: key `deployment.first.heroku` is not carried out [settings-not-carried-out]; move what it does into the AppSpec's hooks or into the CI job"
    );
    let told: Vec<_> = considered
        .iter()
        .map(|c| format!("{} {} {}", c.block, c.place, c.verdict))
        .collect();
    assert_eq!(
        told,
        [
            "tags 2:3 does not match: it has no `branch`, and this is a branch build",
            "other 3:3 does not match: `branch` is release, /hotfix-.*/, the build's branch is master",
            "first 4:3 matches",
            "second 5:3 is not reached: an earlier block matches",
        ]
    );
    let nameless = select(&document, None, &Build::default(), None);
    let Selection::NoMatch { considered } = nameless else {
        panic!()
    };
    assert!(
        considered
            .iter()
            .all(|c| c.verdict == Verdict::BuildUnnamed)
    );
    let tagged = Build {
        tag: Some("v1".to_owned()),
        ..branch("master")
    };
    assert_eq!(
        block_of(&select(&document, None, &tagged, None)),
        Some("tags")
    );
}

#[test]
fn ok_a_block_may_be_for_a_branch_and_for_a_tag() {
    let document = circle("deployment: {b: {branch: main, tag: v1, commands: x}}");
    assert_eq!(
        block_of(&select(&document, None, &branch("main"), None)),
        Some("b")
    );
    assert_eq!(
        block_of(&select(&document, None, &tag("v1"), None)),
        Some("b")
    );
    assert_eq!(block_of(&select(&document, None, &tag("main"), None)), None);
    assert_eq!(
        block_of(&select(&document, None, &branch("v1"), None)),
        None
    );
}

#[test]
fn ok_circle_yml_replaces_the_project_s_blocks_unless_it_is_ignored() {
    let own = "deployment: {own: {branch: main, commands: x}}";
    let theirs = circle("deployment: {theirs: {branch: main, commands: x}}");
    let choose = |text: &str, circle: &Document| {
        block_of(&select(&project(text), Some(circle), &branch("main"), None)).map(str::to_owned)
    };
    assert_eq!(choose(own, &theirs).as_deref(), Some("theirs"));
    assert_eq!(
        choose(&format!("repository_config: allowed\n{own}"), &theirs).as_deref(),
        Some("theirs")
    );
    assert_eq!(
        choose(&format!("repository_config: ignored\n{own}"), &theirs).as_deref(),
        Some("own")
    );
    assert_eq!(choose("repository_config: ignored", &theirs), None);
    assert_eq!(
        choose(own, &circle(REST_OF_CIRCLE_YML)).as_deref(),
        Some("own")
    );
    assert_eq!(
        choose(own, &circle("deployment:\n")).as_deref(),
        Some("own")
    );
    assert_eq!(choose(own, &circle("")).as_deref(), Some("own"));
    // `deployment: {}` says that nothing is deployed.
    assert_eq!(choose(own, &circle("deployment: {}")), None);
}

#[test]
fn err_circle_yml_reaches_only_listed_applications() {
    let theirs = "deployment:
  b:
    branch: main
    codedeploy:
      my-app: {deployment_group: g}
      secret-app: {deployment_group: g}
";
    let selection = select(
        &project(PROJECT_WIDE),
        Some(&circle(theirs)),
        &branch("main"),
        None,
    );
    let Selection::Refused(findings) = selection else {
        panic!("{selection:?}")
    };
    assert_eq!(findings.len(), 1);
    assert_eq!(
        findings[0].to_string(),
        "circle.yml:6:7: application `secret-app` is not listed under `codedeploy` in \
         s3://bucket/settings/shop.yml [settings-application-not-listed]; list it there, or do not deploy it \
         from circle.yml"
    );
    // Whoever owns the settings file may name applications in its blocks without listing them.
    let own = project(&format!("{PROJECT_WIDE}{theirs}"));
    let selection = select(&own, None, &branch("main"), Some(&region()));
    let Selection::Refused(findings) = selection else {
        panic!("{selection:?}")
    };
    assert_eq!(findings[0].code, "settings-location-missing");
}

#[test]
fn ok_a_block_may_name_several_applications() {
    let document = project(
        "codedeploy:
  web: &web
    region: eu-west-1
    revision_location:
      revision_type: S3
      s3_location: {bucket: revisions, key_pattern: 'web/{COMMIT}'}
  worker:
    <<: *web
    region: eu-west-3
deployment:
  all:
    branch: main
    codedeploy:
      worker: {deployment_group: workers}
      web: {deployment_group: webs}
",
    );
    let targets = targets(select(&document, None, &branch("main"), None));
    let told: Vec<_> = targets
        .iter()
        .map(|t| {
            format!(
                "{} {} {} {}",
                t.application, t.deployment_group, t.region, t.location
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "worker workers eu-west-3 s3://revisions/web/{COMMIT}",
            "web webs eu-west-1 s3://revisions/web/{COMMIT}",
        ]
    );
}

#[test]
fn ok_every_option_is_read_and_overridden_key_by_key() {
    let document = project(
        "codedeploy:
  app:
    description: project-wide
    file_exists_behavior: DISALLOW
    ignore_application_stop_failures: true
    update_outdated_instances_only: true
    auto_rollback: [DEPLOYMENT_FAILURE, DEPLOYMENT_STOP_ON_ALARM]
    exclude: node_modules
    bundle_type: tgz
    order: arrival
    queue: all
    verify: full
    region: eu-west-1
    application_root: /a//./b/
    revision_location: {revision_type: GitHub, repository: my-org/shop}
deployment:
  b:
    branch: main
    codedeploy:
      app:
        deployment_group: g
        description: '{BRANCH} by {TAG}'
        file_exists_behavior: RETAIN
        ignore_application_stop_failures: false
        auto_rollback: []
        exclude: ['*.md', docs/**]
        bundle_type: as_is
        verify: none
",
    );
    let target = only(select(&document, None, &branch("main"), Some(&region())));
    assert_eq!(
        target.description.as_ref().unwrap().as_str(),
        "{BRANCH} by {TAG}"
    );
    assert_eq!(
        target.file_exists_behavior,
        Some(crate::deployment::FileExistsBehavior::Retain)
    );
    assert_eq!(target.ignore_application_stop_failures, Some(false));
    assert_eq!(target.update_outdated_instances_only, Some(true));
    assert_eq!(target.auto_rollback, Some(vec![]));
    assert_eq!(target.exclude.globs(), ["*.md", "docs/**"]);
    assert_eq!(
        (target.bundle_type, target.order),
        (BundleChoice::AsIs, Order::Arrival)
    );
    assert_eq!((target.queue, target.verify), (Queue::All, Verify::None));
    assert_eq!(target.application_root.to_string(), "/a/b");
    let RevisionTarget::GitHub {
        repository: Some(repository),
    } = &target.location
    else {
        panic!()
    };
    assert_eq!(repository.as_str(), "my-org/shop");
    assert!(!target.needs_versioned_bucket());

    let told: Vec<_> = target
        .origins
        .iter()
        .map(|origin| match &origin.source {
            Source::File { place, .. } => format!("{} {} {place}", origin.key, origin.value),
            other => format!("{} {} {other:?}", origin.key, origin.value),
        })
        .collect();
    assert_eq!(
        told,
        [
            "deployment_group g 21:27",
            "region eu-west-1 13:13",
            "application_root /a/b 14:23",
            "revision_location GitHub my-org/shop 15:24",
            "description {BRANCH} by {TAG} 22:22",
            "file_exists_behavior RETAIN 23:31",
            "ignore_application_stop_failures false 24:43",
            "update_outdated_instances_only true 6:37",
            "auto_rollback  25:24",
            "exclude *.md, docs/** 26:18",
            "bundle_type as_is 27:22",
            "order arrival 10:12",
            "queue all 11:12",
            "verify none 28:17",
        ]
    );
}

#[test]
fn ok_defaults_say_that_they_are_defaults() {
    let document = project(
        "deployment: {b: {branch: main, codedeploy: {app: {deployment_group: g, revision_location: \
         {revision_type: S3, s3_location: {bucket: bbb, key_pattern: fixed}}}}}}",
    );
    let target = only(select(&document, None, &branch("main"), Some(&region())));
    assert_eq!(target.region, region());
    assert_eq!(target.application_root.as_prefix(), "");
    assert!(target.needs_versioned_bucket());
    assert_eq!(
        (target.bundle_type, target.order),
        (BundleChoice::Zip, Order::BuildNum)
    );
    assert_eq!(
        (target.queue, target.verify),
        (Queue::Newest, Verify::Passing)
    );
    assert_eq!(
        (target.auto_rollback.clone(), target.description.clone()),
        (None, None)
    );
    let source = |key: &str| {
        target
            .origins
            .iter()
            .find(|o| o.key == key)
            .map(|o| o.source.clone())
    };
    assert_eq!(source("region"), Some(Source::FunctionRegion));
    assert_eq!(source("application_root"), Some(Source::Default));
    assert_eq!(source("queue"), Some(Source::Default));
    assert_eq!(source("description"), None);
}

#[test]
fn err_missing_settings_name_every_place_where_they_could_be() {
    let theirs = circle("deployment:\n  b:\n    branch: main\n    codedeploy:\n      app:\n");
    let selection = select(
        &project("codedeploy: {app: }"),
        Some(&theirs),
        &branch("main"),
        None,
    );
    let Selection::Refused(findings) = selection else {
        panic!("{selection:?}")
    };
    let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "circle.yml:5:7: application `app` has no `deployment_group` [settings-group-missing]; write \
             `deployment_group` under `app` in the deployment block of circle.yml; it cannot be set \
             project-wide in s3://bucket/settings/shop.yml",
            "circle.yml:5:7: application `app` has no `region` [settings-region-missing]; write `region` under \
             `app` in the deployment block of circle.yml, or project-wide under `codedeploy.app` in \
             s3://bucket/settings/shop.yml",
            "circle.yml:5:7: application `app` has no `revision_location` [settings-location-missing]; write \
             `revision_location` under `app` in the deployment block of circle.yml, or project-wide under \
             `codedeploy.app` in s3://bucket/settings/shop.yml",
        ]
    );
}

#[test]
fn ok_plain_scalars_are_their_text() {
    let document = circle(
        "deployment: {1: {branch: [1.10, 0644, yes, 1e3], commands: x}, b: {tag: 20181103, commands: x}}",
    );
    for name in ["1.10", "0644", "yes", "1e3"] {
        assert_eq!(
            block_of(&select(&document, None, &branch(name), None)),
            Some("1"),
            "{name}"
        );
    }
    for name in ["1.1", "420", "true", "1000"] {
        assert_eq!(
            block_of(&select(&document, None, &branch(name), None)),
            None,
            "{name}"
        );
    }
    assert_eq!(
        block_of(&select(&document, None, &tag("20181103"), None)),
        Some("b")
    );
}

#[test]
fn err_every_class_of_mistake_has_its_place() {
    for (text, told) in [
        (
            "deploymnet: {}",
            "f.yml:1:1: key `deploymnet` is unknown in `settings` [settings-unknown-key]; did you mean `deployment`?",
        ),
        (
            "machine: {}",
            "f.yml:1:1: key `machine` is unknown in `settings` [settings-unknown-key]; use one of `deployment`, `codedeploy`, `repository_config`",
        ),
        (
            "repository_config: ignore",
            "f.yml:1:20: key `repository_config` is `ignore`, expected one of `allowed`, `ignored` [settings-invalid-value]; did you mean `ignored`?",
        ),
        (
            "[]",
            "f.yml:1:1: the file holds a list, expected a mapping [settings-wrong-type]; write a mapping there",
        ),
        (
            "deployment: main",
            "f.yml:1:13: key `deployment` holds text, expected a mapping [settings-wrong-type]; write a mapping there",
        ),
        (
            "deployment: {b: }",
            "f.yml:1:15: key `deployment.b` holds nothing, expected a mapping [settings-wrong-type]; write a mapping there",
        ),
        (
            "deployment:\n  b:\n    brnach: main\n    tag: x\n",
            "f.yml:3:5: key `brnach` is unknown in `deployment.b` [settings-unknown-key]; did you mean `branch`?",
        ),
        (
            "deployment:\n  b:\n    codedeploy: {app: }\n",
            "f.yml:2:3: block `deployment.b` names neither `branch` nor `tag` [settings-missing-key]; say which branch or tag it deploys; `branch: /.*/` means every branch",
        ),
        (
            "deployment:\n  b: {branch: x}\n  b: {branch: y}\n",
            "f.yml:3:3: key `b` stands in `deployment` twice, first at line 2 [settings-duplicate-key]; remove one of the two",
        ),
        (
            "deployment: {b: {branch: {a: b}}}",
            "f.yml:1:26: key `deployment.b.branch` holds a mapping, expected text or a list [settings-wrong-type]; write text or a list there",
        ),
        (
            "deployment: {b: {branch: []}}",
            "f.yml:1:26: key `deployment.b.branch` is an empty list, expected names [settings-wrong-type]; write at least one name",
        ),
        (
            "deployment: {b: {branch: }}",
            "f.yml:1:24: key `deployment.b.branch` is empty, expected text [settings-wrong-type]; write a value, or remove the key",
        ),
        (
            "deployment: {b: {branch: [a, ~]}}",
            "f.yml:1:30: key `deployment.b.branch` is empty, expected text [settings-wrong-type]; write a value, or remove the key",
        ),
        (
            "deployment: {b: {branch: [a, [c]]}}",
            "f.yml:1:30: key `deployment.b.branch` holds a list, expected text [settings-wrong-type]; write text there",
        ),
        (
            "deployment: {b: {branch: /a(/}}",
            "f.yml:1:26: key `deployment.b.branch`: regular expression `/a(/` is not valid: Opening parenthesis without closing parenthesis at byte 2 [settings-invalid-regex]; correct the expression; in double quotes a backslash is written twice",
        ),
        (
            "deployment: {b: {branch: /feature-.*}}",
            "f.yml:1:26: key `deployment.b.branch`: regular expression `/feature-.*` has no closing slash [settings-invalid-regex]; write `/feature-.*/`",
        ),
        (
            "deployment: {b: {branch: /}}",
            "f.yml:1:26: key `deployment.b.branch`: name is empty [settings-invalid-regex]; write a name, or `/.*/` for all",
        ),
        (
            "deployment:\n  b:\n    branch: |\n      main\n",
            "f.yml:4:7: key `deployment.b.branch`: name holds a control character [settings-invalid-regex]; write the name on the key's own line, without `|` or `>`",
        ),
        (
            "deployment: {b: {branch: //}}",
            "f.yml:1:26: key `deployment.b.branch`: name is empty [settings-invalid-regex]; write a name, or `/.*/` for all",
        ),
        (
            "deployment: {b: {branch: /a)|(b/}}",
            "f.yml:1:26: key `deployment.b.branch`: regular expression `/a)|(b/` is not valid: General parsing error: end of string not reached at byte 1 [settings-invalid-regex]; correct the expression; in double quotes a backslash is written twice",
        ),
        (
            "deployment: {b: {branch: x, owner: [a]}}",
            "f.yml:1:36: key `deployment.b.owner` holds a list, expected text [settings-wrong-type]; write text there",
        ),
        (
            "deployment: {b: {branch: x, codedeploy: {}}}",
            "f.yml:1:41: key `deployment.b.codedeploy` names no application [settings-missing-key]; name the CodeDeploy application and its `deployment_group` there",
        ),
        (
            "deployment: {b: {branch: x, codedeploy: my-app}}",
            "f.yml:1:41: key `deployment.b.codedeploy` holds text, expected a mapping [settings-wrong-type]; write a mapping there",
        ),
        (
            "deployment: {b: {branch: x, codedeploy: {my app: {}}}}",
            "f.yml:1:42: key `deployment.b.codedeploy`: application name `my app` is not valid: 1 to 100 of A-Z, a-z, 0-9 and `._+=,@-` [settings-invalid-value]; write a valid application name there",
        ),
        (
            "deployment: {b: {branch: x, codedeploy: {app: {deployment-group: g}}}}",
            "f.yml:1:48: key `deployment-group` is unknown in `deployment.b.codedeploy.app` [settings-unknown-key]; did you mean `deployment_group`?",
        ),
        (
            "codedeploy: {app: {deployment_group: g}}",
            "f.yml:1:20: key `codedeploy.app.deployment_group` cannot be set project-wide [settings-unknown-key]; name the group in each deployment block, under the application",
        ),
        (
            "codedeploy: {app: {application_root: app}}",
            "f.yml:1:38: key `codedeploy.app.application_root`: application root `app` is not valid: it must start with `/`; `/` is the archive's root [settings-invalid-value]; write a valid application root there",
        ),
        (
            "codedeploy: {app: {application_root: /a/../b}}",
            "f.yml:1:38: key `codedeploy.app.application_root`: application root `/a/../b` is not valid: it must not hold `..` [settings-invalid-value]; write a valid application root there",
        ),
        (
            "codedeploy: {app: {region: Frankfurt}}",
            "f.yml:1:28: key `codedeploy.app.region`: region `Frankfurt` is not valid: lower-case words and a number joined by `-`, such as eu-central-1 [settings-invalid-value]; write a valid region there",
        ),
        (
            "codedeploy: {app: {ignore_application_stop_failures: yes}}",
            "f.yml:1:54: key `codedeploy.app.ignore_application_stop_failures` is `yes`, expected `true` or `false` [settings-wrong-type]; write `true`, without quotes",
        ),
        (
            "codedeploy: {app: {update_outdated_instances_only: 'false'}}",
            "f.yml:1:52: key `codedeploy.app.update_outdated_instances_only` is `false`, expected `true` or `false` [settings-wrong-type]; write `false`, without quotes",
        ),
        (
            "codedeploy: {app: {file_exists_behavior: overwrite}}",
            "f.yml:1:42: key `codedeploy.app.file_exists_behavior` is `overwrite`, expected one of `DISALLOW`, `OVERWRITE`, `RETAIN` [settings-invalid-value]; did you mean `OVERWRITE`?",
        ),
        (
            "codedeploy: {app: {auto_rollback: DEPLOYMENT_FAILURE}}",
            "f.yml:1:35: key `codedeploy.app.auto_rollback` holds text, expected a list of events [settings-wrong-type]; write a list of events there",
        ),
        (
            "codedeploy: {app: {auto_rollback: [DEPLOYMENT_FAILED]}}",
            "f.yml:1:36: key `codedeploy.app.auto_rollback` is `DEPLOYMENT_FAILED`, expected one of `DEPLOYMENT_FAILURE`, `DEPLOYMENT_STOP_ON_ALARM`, `DEPLOYMENT_STOP_ON_REQUEST` [settings-invalid-value]; did you mean `DEPLOYMENT_FAILURE`?",
        ),
        (
            "codedeploy: {app: {exclude: [ok, 'a[']}}",
            "f.yml:1:34: key `codedeploy.app.exclude`: glob `a[` is not valid: `[` is never closed [settings-invalid-value]; write a valid glob there",
        ),
        (
            "codedeploy: {app: {queue: newst}}",
            "f.yml:1:27: key `codedeploy.app.queue` is `newst`, expected one of `newest`, `all` [settings-invalid-value]; did you mean `newest`?",
        ),
        (
            "codedeploy: {app: {description: 'by {BRANHC}'}}",
            "f.yml:1:37: key `codedeploy.app.description`: variable `{BRANHC}` is unknown at column 4; did you mean `{BRANCH}` [settings-invalid-pattern]; write `{BRANCH}`",
        ),
        (
            "codedeploy: {app: {revision_location: {s3_location: {bucket: bbb, key_pattern: k}}}}",
            "f.yml:1:39: key `codedeploy.app.revision_location` has no `revision_type` [settings-missing-key]; write `revision_type: S3` or `revision_type: GitHub`",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: s3}}}",
            "f.yml:1:55: key `codedeploy.app.revision_location.revision_type` is `s3`, expected one of `S3`, `GitHub` [settings-invalid-value]; did you mean `S3`?",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: S3}}}",
            "f.yml:1:39: key `codedeploy.app.revision_location` has no `s3_location` [settings-location-incomplete]; a revision_location is overridden as a whole: write both `bucket` and `key_pattern`",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: S3, s3_location: {bucket: bbb}}}}",
            "f.yml:1:72: key `codedeploy.app.revision_location.s3_location` has no `key_pattern` [settings-location-incomplete]; a revision_location is overridden as a whole: write both `bucket` and `key_pattern`",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: S3, s3_location: {key_pattern: k}}}}",
            "f.yml:1:72: key `codedeploy.app.revision_location.s3_location` has no `bucket` [settings-location-incomplete]; a revision_location is overridden as a whole: write both `bucket` and `key_pattern`",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: S3, s3_location: {bucket: A_b, key_pattern: k}}}}",
            "f.yml:1:81: key `codedeploy.app.revision_location.s3_location.bucket`: bucket name `A_b` is not valid: 3 to 63 of a-z, 0-9, `.` and `-`, beginning and ending with a letter or digit [settings-invalid-value]; write a valid bucket name there",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: S3, s3_location: {bucket: bbb, key_pattern: 'apps/{SHA}'}}}}",
            "f.yml:1:105: key `codedeploy.app.revision_location.s3_location.key_pattern`: variable `{SHA}` is unknown at column 6 [settings-invalid-pattern]; use one of `{PROJECT}`, `{BRANCH}`, `{TAG}`, `{COMMIT}`, `{SHORT_COMMIT}`, `{BUILD_NUM}`, `{REPOSITORY}`",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: GitHub, s3_location: {}}}}",
            "f.yml:1:63: key `s3_location` is unknown in `codedeploy.app.revision_location` [settings-unknown-key]; use one of `revision_type`, `repository`, `github_location`",
        ),
        (
            "codedeploy: {app: {revision_location: {revision_type: GitHub, repository: shop}}}",
            "f.yml:1:75: key `codedeploy.app.revision_location.repository`: repository `shop` is not valid: owner/name, of A-Z, a-z, 0-9 and `._-` [settings-invalid-value]; write a valid repository there",
        ),
        (
            "codedeploy: {app: !ruby/object {}}",
            "f.yml:1:32: tag `!ruby/object` in `codedeploy.app` has no meaning here [settings-yaml-tag]; remove the tag",
        ),
        (
            "codedeploy: {app: {<<: x}}",
            "f.yml:1:24: key `<<` holds text, expected a mapping [settings-wrong-type]; write a mapping there",
        ),
        (
            "codedeploy: {app: {? [a] : b}}",
            "f.yml:1:22: key `codedeploy.app` holds a list, expected text as key [settings-wrong-type]; write text as key there",
        ),
        (
            "deployment: [",
            "f.yml:1:13: document is not valid YAML: unclosed bracket '[' [settings-unreadable]; correct the YAML at that place or shortly before it",
        ),
        (
            "deployment: *x",
            "f.yml:1:13: alias `*x` has no anchor before it [settings-unreadable]; write the value itself instead of the alias",
        ),
        (
            "--- {}\n--- {}\n",
            "f.yml:2:5: file holds 2 YAML documents, expected one [settings-unreadable]; keep one document, without `---` between parts",
        ),
    ] {
        assert_eq!(mistake(text), told, "{text}");
    }
}

#[test]
fn err_all_mistakes_are_told_together() {
    let told = mistakes(
        SettingsKind::CircleYml,
        "machine: {}
deployment:
  a:
    brunch: main
  b:
    branch: /(/
    codedeploy:
      app:
        regio: x
        queue: some
        application_root: x
  c: 1
",
    );
    let places: Vec<_> = told
        .iter()
        .map(|text| text.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        places,
        [
            "f.yml:4:5",
            "f.yml:6:13",
            "f.yml:9:9",
            "f.yml:10:16",
            "f.yml:11:27",
            "f.yml:12:6"
        ]
    );
}

#[test]
fn err_encodings_and_bombs_are_findings() {
    for (bytes, message) in [
        (
            &b"\xFF\xFEa\0"[..],
            "document is UTF-16 or UTF-32, expected UTF-8",
        ),
        (b"a: \xFF", "document is not valid UTF-8"),
        (b"a: b\0", "document holds a NUL character"),
    ] {
        let findings = read("f.yml", bytes, SettingsKind::CircleYml).unwrap_err();
        assert_eq!(findings[0].message, message);
        assert_eq!(findings[0].code, "settings-unreadable");
    }
    for (bomb, why) in [
        ("[".repeat(100_000), "nested deeper than"),
        ("deployment: &a [*a, *a]".to_owned(), "alias `*a`"),
        ("x: y\n".repeat(1_000_000), "5000000 bytes"),
    ] {
        let findings = read("f.yml", bomb.as_bytes(), SettingsKind::CircleYml).unwrap_err();
        assert!(findings[0].message.contains(why), "{findings:?}");
    }
}

#[test]
fn err_circle_yml_must_be_a_mapping_with_one_deployment() {
    assert_eq!(
        mistakes(
            SettingsKind::CircleYml,
            "deployment: {}\nx: 1\ndeployment: {}\n"
        ),
        [
            "f.yml:3:1: key `deployment` stands twice, first at line 1 [settings-duplicate-key]; remove one of the two"
        ]
    );
    assert_eq!(
        mistakes(SettingsKind::CircleYml, "- deployment"),
        [
            "f.yml:1:1: key `circle.yml` holds a list, expected a mapping [settings-wrong-type]; write a mapping there"
        ]
    );
}

#[test]
fn err_an_expression_that_backtracks_too_long_is_named() {
    let document = circle(
        r"deployment: {slow: {branch: '/(?=a)(a|a)*\1c/', commands: x}, b: {branch: /.*/, commands: x}}",
    );
    let selection = select(
        &document,
        None,
        &branch(&format!("{}cd", "a".repeat(400))),
        None,
    );
    let Selection::Refused(findings) = selection else {
        panic!("{selection:?}")
    };
    assert_eq!(
        (
            findings[0].code.as_str(),
            findings[0].line,
            findings[0].column
        ),
        ("settings-regex-too-hard", Some(1), Some(14))
    );
    assert!(
        findings[0].message.starts_with(
            r"block `deployment.slow`: regular expression `/(?=a)(a|a)*\1c/` was given up on `aaa"
        ),
        "{}",
        findings[0].message
    );
}

#[test]
fn err_expressions_are_bounded_in_size_and_number() {
    for expression in [
        r"/\w{1000}{1000}/",
        r"/(?:a{1000}){1000}/",
        r"/(?=(\p{L}{100}){100})x/",
    ] {
        let text = format!("deployment: {{b: {{branch: '{expression}'}}}}");
        let told = mistakes(SettingsKind::CircleYml, &text);
        assert!(told[0].contains("settings-invalid-regex"), "{told:?}");
    }
    let many = |count: usize| {
        let list = (0..count)
            .map(|n| format!("'/(?!x)feature-{n}[0-9]{{4}}/'"))
            .collect::<Vec<_>>()
            .join(", ");
        format!("deployment: {{b: {{branch: [{list}], commands: x}}}}")
    };
    circle(&many(EXPRESSIONS_MAX));
    let told = mistakes(SettingsKind::CircleYml, &many(EXPRESSIONS_MAX + 1));
    assert!(
        told[0].contains("more than 32 regular expressions"),
        "{told:?}"
    );
    let told = mistakes(
        SettingsKind::CircleYml,
        &format!("deployment: {{b: {{branch: /{}/}}}}", "a".repeat(513)),
    );
    assert!(
        told[0].contains("regular expression has 513 bytes, at most 512 are allowed"),
        "{told:?}"
    );
}

#[test]
fn ok_warnings_are_told_for_the_whole_file() {
    let document =
        circle("deployment: {a: {branch: x, commands: [x]}, b: {branch: y, heroku: {}}}");
    let told: Vec<_> = document
        .warnings()
        .map(|warning| (warning.line, warning.column, warning.refuses()))
        .collect();
    assert_eq!(
        told,
        [(Some(1), Some(29), false), (Some(1), Some(60), false)]
    );
    assert_eq!(
        document.blocks.unwrap()[0].place,
        Place {
            line: 1,
            column: 14
        }
    );
}

#[test]
fn ok_application_roots_are_normalised() {
    for (text, shown, prefix) in [
        ("/", "/", ""),
        ("/app", "/app", "app/"),
        ("//a/./b//", "/a/b", "a/b/"),
        ("/.", "/", ""),
        ("/a b/é", "/a b/é", "a b/é/"),
    ] {
        let root: ApplicationRoot = text.parse().unwrap();
        assert_eq!(
            (root.to_string().as_str(), root.as_prefix()),
            (shown, prefix)
        );
    }
    for text in [
        "",
        "app",
        "./app",
        "/..",
        "/a/../b",
        r"/a\b",
        "/a\u{0}",
        &format!("/{}", "a".repeat(512)),
    ] {
        assert!(text.parse::<ApplicationRoot>().is_err(), "{text:?}");
    }
}

#[test]
fn ok_excludes_match_as_gitignore_s_do() {
    let excluded = |globs: &[&str], path: &str| {
        Exclude::new(globs.iter().map(|glob| (*glob).to_owned()).collect())
            .unwrap()
            .set()
            .is_match(path)
    };
    for (glob, yes, no) in [
        ("*.md", "README.md", "md"),
        ("*.md", "docs/a.md", "docs/a.mdx"),
        ("node_modules", "a/b/node_modules", "a/node_modules2"),
        ("node_modules/", "node_modules", "x"),
        ("/docs", "docs", "a/docs"),
        ("docs/*.txt", "docs/a.txt", "docs/b/a.txt"),
        ("docs/**", "docs/b/a.txt", "docs2/a"),
        ("./tmp/x", "tmp/x", "a/tmp/x"),
        ("a/**/b", "a/b", "a/c"),
        ("*.{a,b}", "x.b", "x.c"),
    ] {
        assert!(excluded(&[glob], yes), "{glob} {yes}");
        assert!(!excluded(&[glob], no), "{glob} {no}");
    }
    for glob in ["", "/", "./", "!a", "../a", "a\u{1}", "{a", "a[b", "[z-a]"] {
        assert!(
            Exclude::new(vec!["ok".to_owned(), glob.to_owned()])
                .is_err_and(|(index, _)| index == 1),
            "{glob:?}"
        );
    }
    assert!(Exclude::new(vec!["a".to_owned(); GLOBS_MAX]).is_ok());
    assert!(Exclude::new(vec!["a".to_owned(); GLOBS_MAX + 1]).is_err());
    assert!(!Exclude::default().set().is_match("anything"));
}

/// Pieces of settings files in any order: far more of them get past YAML than random text does.
fn scrambled() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "deployment:",
        "codedeploy:",
        "repository_config: ignored",
        "b:",
        "app:",
        "branch: main",
        "tag: /v.*/",
        "branch: [a, /b/]",
        "owner: x",
        "deployment_group: g",
        "region: eu-west-1",
        "revision_location:",
        "revision_type: S3",
        "revision_type: GitHub",
        "s3_location:",
        "bucket: bbb",
        "key_pattern: '{COMMIT}'",
        "exclude: ['*']",
        "auto_rollback: [DEPLOYMENT_FAILURE]",
        "<<: *a",
        "x: &a",
        "- x",
        "? y",
        "'",
        "{",
        "]",
        "queue: all",
        "description: '{BRANCH}'",
        "application_root: /",
        "!t",
        "~",
    ]);
    proptest::collection::vec((0_usize..6, piece), 0..14).prop_map(|lines| {
        lines
            .iter()
            .map(|(depth, line)| format!("{}{line}\n", "  ".repeat(*depth)))
            .collect()
    })
}

proptest! {
    #[test]
    fn ok_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for kind in [SettingsKind::Project, SettingsKind::CircleYml] {
            if let Err(findings) = read("f.yml", &bytes, kind) {
                prop_assert!(!findings.is_empty());
            }
        }
    }

    #[test]
    fn ok_no_scrambled_settings_panic(text in scrambled(), name in "[a-z/]{0,6}") {
        for kind in [SettingsKind::Project, SettingsKind::CircleYml] {
            match read("f.yml", text.as_bytes(), kind) {
                Err(findings) => prop_assert!(findings.iter().all(|f| f.line.is_some() && f.column.is_some())),
                Ok(document) => {
                    if let Selection::Deploy { targets, .. } = select(&document, None, &branch(&name), None) {
                        prop_assert!(!targets.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn ok_a_plain_name_matches_itself_alone(name in "[A-Za-z0-9_.-][A-Za-z0-9_./-]{0,10}", other in "[A-Za-z0-9_./-]{1,10}") {
        let document = circle(&format!("deployment: {{b: {{branch: '{name}', commands: x}}}}"));
        let selected = select(&document, None, &branch(&name), None);
        prop_assert_eq!(block_of(&selected), Some("b"));
        let selected = select(&document, None, &branch(&other), None);
        prop_assert_eq!(block_of(&selected).is_some(), other == name);
    }

    #[test]
    fn ok_the_first_match_wins_whatever_follows(names in proptest::collection::vec("[ab]{1,2}", 1..6), built in "[ab]{1,2}") {
        let blocks: String = names.iter().enumerate().map(|(n, name)| format!("  b{n}: {{branch: {name}, commands: x}}\n")).collect();
        let document = circle(&format!("deployment:\n{blocks}"));
        let expected = names.iter().position(|name| *name == built).map(|n| format!("b{n}"));
        let selected = select(&document, None, &branch(&built), None);
        prop_assert_eq!(block_of(&selected), expected.as_deref());
    }
}

#[test]
fn ok_github_locations_are_read_in_both_spellings() {
    for (location, repository) in [
        ("repository: my-org/shop", Some("my-org/shop")),
        (
            "github_location: {repository: my-org/shop}",
            Some("my-org/shop"),
        ),
        ("github_location: {}", None),
    ] {
        let document = project(&format!(
            "deployment: {{b: {{branch: main, codedeploy: {{app: {{deployment_group: g, \
             revision_location: {{revision_type: GitHub, {location}}}}}}}}}}}"
        ));
        let target = only(select(&document, None, &branch("main"), Some(&region())));
        let RevisionTarget::GitHub { repository: found } = target.location else {
            panic!("{location}")
        };
        assert_eq!(found.as_ref().map(|name| name.as_str()), repository);
    }
}

#[test]
fn err_aliases_are_bounded() {
    let with = |count: usize| format!("a: &a [x]\nb: [{}]\n", vec!["*a"; count].join(", "));
    assert!(read("f.yml", with(256).as_bytes(), SettingsKind::CircleYml).is_ok());
    let told = mistakes(SettingsKind::CircleYml, &with(257));
    assert!(
        told[0].contains("document has more than 256 aliases"),
        "{told:?}"
    );
    let told = mistakes(SettingsKind::Project, &with(17));
    assert!(
        told[0].contains("document has more than 16 aliases"),
        "{told:?}"
    );
    let laughs = "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, \
                  *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: [*d, *d, *d, *d, *d, *d]\n";
    let told = mistakes(SettingsKind::CircleYml, laughs);
    assert!(
        told[0].contains("aliases would make the document larger than 20000 nodes"),
        "{told:?}"
    );
}
