//! What a CI's own environment says of the build that runs in it.
//!
//! Owns the variable names of nine CIs and one rule above all of them: a pull request's build is a build of
//! branch `pull/<number>` (`pull/<branch>` where no number is told), never of the branch that it comes from (a fork may call it `master`) and never of
//! the one that it goes to (Travis names that one). Refuses to know the process: the look-up is handed in.

/// The CIs that are told by their environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ci {
    /// GitHub Actions.
    GitHubActions,
    /// GitLab CI/CD.
    GitLab,
    /// CircleCI.
    CircleCi,
    /// Bitbucket Pipelines.
    Bitbucket,
    /// Travis CI.
    Travis,
    /// Buildkite.
    Buildkite,
    /// Azure Pipelines.
    Azure,
    /// AWS CodeBuild.
    CodeBuild,
    /// Jenkins; the last, because its names are the most general.
    Jenkins,
}

impl Ci {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHubActions => "GitHub Actions",
            Self::GitLab => "GitLab",
            Self::CircleCi => "CircleCI",
            Self::Bitbucket => "Bitbucket",
            Self::Travis => "Travis",
            Self::Buildkite => "Buildkite",
            Self::Azure => "Azure Pipelines",
            Self::CodeBuild => "CodeBuild",
            Self::Jenkins => "Jenkins",
        }
    }
}

/// What is known of a build before it is staged. What nobody says stays unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildFacts {
    /// The branch; `pull/<number>` of a pull request.
    pub branch: Option<String>,
    /// The tag, of a tag build.
    pub tag: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// The CI's number of the build.
    pub build_num: Option<String>,
    /// The repository's path at its host, mostly `owner/name`.
    pub repository: Option<String>,
    /// Where the build can be looked at.
    pub build_url: Option<String>,
    /// Who made the change or started the build.
    pub author: Option<String>,
}

impl BuildFacts {
    /// These facts, and what they leave open from `others`. A branch and a tag are one fact: who names
    /// either is asked for no other.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let (branch, tag) = if self.branch.is_some() || self.tag.is_some() {
            (self.branch, self.tag)
        } else {
            (others.branch, others.tag)
        };
        Self {
            branch,
            tag,
            commit: self.commit.or(others.commit),
            build_num: self.build_num.or(others.build_num),
            repository: self.repository.or(others.repository),
            build_url: self.build_url.or(others.build_url),
            author: self.author.or(others.author),
        }
    }
}

/// The CI that this environment is of, and what it says of the build.
///
/// `variable` gives the value of an environment variable; empty values count as unset.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> Option<(Ci, BuildFacts)> {
    let get = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_true = |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let ci = if is_true("GITHUB_ACTIONS") {
        Ci::GitHubActions
    } else if is_true("GITLAB_CI") {
        Ci::GitLab
    } else if is_true("CIRCLECI") {
        Ci::CircleCi
    } else if get("BITBUCKET_BUILD_NUMBER").is_some() {
        Ci::Bitbucket
    } else if is_true("TRAVIS") {
        Ci::Travis
    } else if is_true("BUILDKITE") {
        Ci::Buildkite
    } else if is_true("TF_BUILD") {
        Ci::Azure
    } else if get("CODEBUILD_BUILD_ID").is_some() {
        Ci::CodeBuild
    } else if get("JENKINS_URL").is_some() {
        Ci::Jenkins
    } else {
        return None;
    };
    let facts = match ci {
        Ci::GitHubActions => github_actions(&get),
        Ci::GitLab => gitlab(&get),
        Ci::CircleCi => circleci(&get),
        Ci::Bitbucket => bitbucket(&get),
        Ci::Travis => travis(&get),
        Ci::Buildkite => buildkite(&get),
        Ci::Azure => azure(&get),
        Ci::CodeBuild => codebuild(&get),
        Ci::Jenkins => jenkins(&get),
    };
    Some((ci, facts))
}

type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Branch and tag of a build: of a pull request where there is one, else of a tag, else of a branch.
fn reference(
    pull_request: Option<String>,
    tag: Option<String>,
    branch: Option<String>,
) -> (Option<String>, Option<String>) {
    match (pull_request, tag) {
        (Some(number), _) => (Some(format!("pull/{number}")), None),
        (None, Some(tag)) => (None, Some(tag)),
        (None, None) => (branch, None),
    }
}

/// What `refs/heads/…`, `refs/tags/…` or `refs/pull/<number>/…` names.
fn git_reference(reference: &str) -> (Option<String>, Option<String>) {
    let number = |rest: &str| rest.split('/').next().map(str::to_owned);
    if let Some(tag) = reference.strip_prefix("refs/tags/") {
        (None, Some(tag.to_owned()))
    } else if let Some(rest) = reference
        .strip_prefix("refs/pull/")
        .or_else(|| reference.strip_prefix("refs/merge-requests/"))
    {
        (number(rest).map(|number| format!("pull/{number}")), None)
    } else {
        let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
        (Some(branch.to_owned()), None)
    }
}

/// <https://docs.github.com/actions/reference/workflows-and-actions/variables>
fn github_actions(get: Get<'_>) -> BuildFacts {
    let (branch, tag) = match (get("GITHUB_HEAD_REF"), get("GITHUB_REF")) {
        // `pull_request_target` runs on the branch that the request goes to and names no number; the code that
        // it has checked out may be a fork's.
        (Some(head), Some(text)) if !text.starts_with("refs/pull/") => {
            (Some(format!("pull/{head}")), None)
        }
        (_, text) => text.map_or((None, None), |text| git_reference(&text)),
    };
    let build_url = (|| {
        Some(format!(
            "{}/{}/actions/runs/{}",
            get("GITHUB_SERVER_URL")?,
            get("GITHUB_REPOSITORY")?,
            get("GITHUB_RUN_ID")?
        ))
    })();
    BuildFacts {
        branch,
        tag,
        commit: get("GITHUB_SHA"),
        build_num: get("GITHUB_RUN_NUMBER"),
        repository: get("GITHUB_REPOSITORY"),
        build_url,
        author: get("GITHUB_ACTOR"),
    }
}

/// <https://docs.gitlab.com/ci/variables/predefined_variables/>
fn gitlab(get: Get<'_>) -> BuildFacts {
    let (branch, tag) = reference(
        get("CI_MERGE_REQUEST_IID"),
        get("CI_COMMIT_TAG"),
        get("CI_COMMIT_BRANCH"),
    );
    BuildFacts {
        branch,
        tag,
        commit: get("CI_COMMIT_SHA"),
        build_num: get("CI_PIPELINE_IID"),
        repository: get("CI_PROJECT_PATH"),
        build_url: get("CI_PIPELINE_URL"),
        author: get("GITLAB_USER_LOGIN"),
    }
}

/// <https://circleci.com/docs/reference/variables/>
fn circleci(get: Get<'_>) -> BuildFacts {
    // Builds of forks name the number alone; branches of the repository itself are what they are,
    // with and without an open pull request.
    let (branch, tag) = reference(
        get("CIRCLE_PR_NUMBER"),
        get("CIRCLE_TAG"),
        get("CIRCLE_BRANCH"),
    );
    let repository = (|| {
        Some(format!(
            "{}/{}",
            get("CIRCLE_PROJECT_USERNAME")?,
            get("CIRCLE_PROJECT_REPONAME")?
        ))
    })();
    BuildFacts {
        branch,
        tag,
        commit: get("CIRCLE_SHA1"),
        build_num: get("CIRCLE_BUILD_NUM"),
        repository,
        build_url: get("CIRCLE_BUILD_URL"),
        author: get("CIRCLE_USERNAME"),
    }
}

/// <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>
fn bitbucket(get: Get<'_>) -> BuildFacts {
    let (branch, tag) = reference(
        get("BITBUCKET_PR_ID"),
        get("BITBUCKET_TAG"),
        get("BITBUCKET_BRANCH"),
    );
    let build_url = (|| {
        Some(format!(
            "{}/pipelines/results/{}",
            get("BITBUCKET_GIT_HTTP_ORIGIN")?,
            get("BITBUCKET_BUILD_NUMBER")?
        ))
    })();
    BuildFacts {
        branch,
        tag,
        commit: get("BITBUCKET_COMMIT"),
        build_num: get("BITBUCKET_BUILD_NUMBER"),
        repository: get("BITBUCKET_REPO_FULL_NAME"),
        build_url,
        author: None,
    }
}

/// <https://docs.travis-ci.com/user/environment-variables/>
fn travis(get: Get<'_>) -> BuildFacts {
    let (branch, tag) = reference(
        get("TRAVIS_PULL_REQUEST").filter(|value| value != "false"),
        get("TRAVIS_TAG"),
        get("TRAVIS_BRANCH"),
    );
    BuildFacts {
        branch,
        tag,
        commit: get("TRAVIS_COMMIT"),
        build_num: get("TRAVIS_BUILD_NUMBER"),
        repository: get("TRAVIS_REPO_SLUG"),
        build_url: get("TRAVIS_BUILD_WEB_URL"),
        author: None,
    }
}

/// <https://buildkite.com/docs/pipelines/configure/environment-variables>
fn buildkite(get: Get<'_>) -> BuildFacts {
    let (branch, tag) = reference(
        get("BUILDKITE_PULL_REQUEST").filter(|value| value != "false"),
        get("BUILDKITE_TAG"),
        get("BUILDKITE_BRANCH"),
    );
    BuildFacts {
        branch,
        tag,
        // `HEAD` until the agent has checked out.
        commit: get("BUILDKITE_COMMIT").filter(|commit| commit != "HEAD"),
        build_num: get("BUILDKITE_BUILD_NUMBER"),
        repository: get("BUILDKITE_REPO").as_deref().and_then(repository_of_url),
        build_url: get("BUILDKITE_BUILD_URL"),
        author: get("BUILDKITE_BUILD_CREATOR"),
    }
}

/// <https://learn.microsoft.com/azure/devops/pipelines/build/variables>
fn azure(get: Get<'_>) -> BuildFacts {
    let (branch, tag) = get("BUILD_SOURCEBRANCH").map_or((None, None), |text| git_reference(&text));
    let build_url = (|| {
        Some(format!(
            "{}{}/_build/results?buildId={}",
            get("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI")?,
            get("SYSTEM_TEAMPROJECT")?,
            get("BUILD_BUILDID")?
        ))
    })();
    BuildFacts {
        branch,
        tag,
        commit: get("BUILD_SOURCEVERSION"),
        // The number that people see may be any text; the id counts.
        build_num: get("BUILD_BUILDID"),
        repository: get("BUILD_REPOSITORY_NAME"),
        build_url,
        author: get("BUILD_REQUESTEDFOR"),
    }
}

/// <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>
fn codebuild(get: Get<'_>) -> BuildFacts {
    let trigger = get("CODEBUILD_WEBHOOK_TRIGGER").unwrap_or_default();
    let of = |kind: &str| trigger.strip_prefix(kind).map(str::to_owned);
    let pull_request = of("pr/");
    let (branch, tag) = match get("CODEBUILD_WEBHOOK_HEAD_REF") {
        Some(head) if pull_request.is_none() && head.starts_with("refs/") => git_reference(&head),
        _ => reference(pull_request, of("tag/"), of("branch/")),
    };
    BuildFacts {
        branch,
        tag,
        commit: get("CODEBUILD_RESOLVED_SOURCE_VERSION"),
        build_num: get("CODEBUILD_BUILD_NUMBER"),
        repository: get("CODEBUILD_SOURCE_REPO_URL")
            .as_deref()
            .and_then(repository_of_url),
        build_url: get("CODEBUILD_BUILD_URL"),
        author: None,
    }
}

/// Variables of the Git and multibranch plugins, and `…/env-vars.html` of any Jenkins.
fn jenkins(get: Get<'_>) -> BuildFacts {
    let without_remote = |branch: String| match branch.strip_prefix("origin/") {
        Some(name) => name.to_owned(),
        None => branch,
    };
    let (branch, tag) = reference(
        get("CHANGE_ID"),
        get("TAG_NAME"),
        get("BRANCH_NAME").or_else(|| get("GIT_BRANCH").map(without_remote)),
    );
    BuildFacts {
        branch,
        tag,
        commit: get("GIT_COMMIT"),
        build_num: get("BUILD_NUMBER"),
        repository: get("GIT_URL").as_deref().and_then(repository_of_url),
        build_url: get("BUILD_URL"),
        author: get("CHANGE_AUTHOR"),
    }
}

/// The repository's path in a remote's address: `https://host/owner/name.git`, `git@host:owner/name.git`.
pub fn repository_of_url(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        // scp's form; a path on this machine has no host.
        None => url.split_once(':').map(|(_, path)| path)?,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (path.contains('/') && !path.contains(['?', '#'])).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SHA: &str = "3f2c1a9d5b7e8f60412233445566778899aabbcc";

    fn facts(pairs: &[(&str, &str)]) -> Option<(Ci, BuildFacts)> {
        let map: BTreeMap<_, _> = pairs.iter().copied().collect();
        read(|name| map.get(name).map(|value| (*value).to_owned()))
    }

    /// What every row expects, in the order of the struct's fields; `-` is unset.
    fn expect(environment: &str, ci: Ci, expected: [&str; 7]) {
        let pairs: Vec<_> = environment
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let set = |text: &str| (text != "-").then(|| text.replace("SHA", SHA));
        let [
            branch,
            tag,
            commit,
            build_num,
            repository,
            build_url,
            author,
        ] = expected.map(set);
        let expected = BuildFacts {
            branch,
            tag,
            commit,
            build_num,
            repository,
            build_url,
            author,
        };
        let pairs: Vec<_> = pairs
            .into_iter()
            .map(|(name, value)| (name, if value == "SHA" { SHA } else { value }))
            .collect();
        assert_eq!(facts(&pairs), Some((ci, expected)), "{environment}");
    }

    #[test]
    fn ok_every_ci_says_what_it_builds() {
        for (environment, ci, expected) in [
            (
                "GITHUB_ACTIONS=true GITHUB_REF=refs/heads/feature/x GITHUB_SHA=SHA GITHUB_RUN_NUMBER=47 GITHUB_RUN_ID=9 GITHUB_REPOSITORY=o/shop GITHUB_SERVER_URL=https://github.com GITHUB_ACTOR=alice",
                Ci::GitHubActions,
                [
                    "feature/x",
                    "-",
                    "SHA",
                    "47",
                    "o/shop",
                    "https://github.com/o/shop/actions/runs/9",
                    "alice",
                ],
            ),
            (
                "GITHUB_ACTIONS=true GITHUB_REF=refs/tags/v1.2 GITHUB_SHA=SHA GITHUB_RUN_NUMBER=48",
                Ci::GitHubActions,
                ["-", "v1.2", "SHA", "48", "-", "-", "-"],
            ),
            (
                // `pull_request_target`: the reference is the branch that a fork wants to go to.
                "GITHUB_ACTIONS=true GITHUB_EVENT_NAME=pull_request_target GITHUB_REF=refs/heads/master GITHUB_HEAD_REF=master GITHUB_BASE_REF=master GITHUB_SHA=SHA GITHUB_RUN_NUMBER=49",
                Ci::GitHubActions,
                ["pull/master", "-", "SHA", "49", "-", "-", "-"],
            ),
            (
                "GITHUB_ACTIONS=true GITHUB_REF=refs/pull/12/merge GITHUB_HEAD_REF=master GITHUB_SHA=SHA GITHUB_RUN_NUMBER=50",
                Ci::GitHubActions,
                ["pull/12", "-", "SHA", "50", "-", "-", "-"],
            ),
            (
                "GITLAB_CI=true CI_COMMIT_BRANCH=master CI_COMMIT_SHA=SHA CI_PIPELINE_IID=7 CI_PROJECT_PATH=g/sub/shop CI_PIPELINE_URL=https://gitlab.com/p/7 GITLAB_USER_LOGIN=bob",
                Ci::GitLab,
                [
                    "master",
                    "-",
                    "SHA",
                    "7",
                    "g/sub/shop",
                    "https://gitlab.com/p/7",
                    "bob",
                ],
            ),
            (
                "GITLAB_CI=true CI_COMMIT_TAG=v2 CI_COMMIT_SHA=SHA CI_PIPELINE_IID=8",
                Ci::GitLab,
                ["-", "v2", "SHA", "8", "-", "-", "-"],
            ),
            (
                "CIRCLECI=true CIRCLE_BRANCH=master CIRCLE_SHA1=SHA CIRCLE_BUILD_NUM=5 CIRCLE_PROJECT_USERNAME=o CIRCLE_PROJECT_REPONAME=shop CIRCLE_BUILD_URL=https://circleci.com/gh/o/shop/5 CIRCLE_USERNAME=carol",
                Ci::CircleCi,
                [
                    "master",
                    "-",
                    "SHA",
                    "5",
                    "o/shop",
                    "https://circleci.com/gh/o/shop/5",
                    "carol",
                ],
            ),
            (
                "CIRCLECI=true CIRCLE_TAG=v3 CIRCLE_SHA1=SHA CIRCLE_BUILD_NUM=6",
                Ci::CircleCi,
                ["-", "v3", "SHA", "6", "-", "-", "-"],
            ),
            (
                "BITBUCKET_BUILD_NUMBER=12 BITBUCKET_BRANCH=master BITBUCKET_COMMIT=SHA BITBUCKET_REPO_FULL_NAME=o/shop BITBUCKET_GIT_HTTP_ORIGIN=https://bitbucket.org/o/shop",
                Ci::Bitbucket,
                [
                    "master",
                    "-",
                    "SHA",
                    "12",
                    "o/shop",
                    "https://bitbucket.org/o/shop/pipelines/results/12",
                    "-",
                ],
            ),
            (
                "BITBUCKET_BUILD_NUMBER=13 BITBUCKET_TAG=v4 BITBUCKET_COMMIT=SHA",
                Ci::Bitbucket,
                ["-", "v4", "SHA", "13", "-", "-", "-"],
            ),
            (
                "TRAVIS=true TRAVIS_BRANCH=master TRAVIS_PULL_REQUEST=false TRAVIS_COMMIT=SHA TRAVIS_BUILD_NUMBER=3 TRAVIS_REPO_SLUG=o/shop TRAVIS_BUILD_WEB_URL=https://travis-ci.com/o/shop/builds/3",
                Ci::Travis,
                [
                    "master",
                    "-",
                    "SHA",
                    "3",
                    "o/shop",
                    "https://travis-ci.com/o/shop/builds/3",
                    "-",
                ],
            ),
            (
                // Travis names a tag build's branch after the tag.
                "TRAVIS=true TRAVIS_BRANCH=v5 TRAVIS_TAG=v5 TRAVIS_PULL_REQUEST=false TRAVIS_COMMIT=SHA TRAVIS_BUILD_NUMBER=4",
                Ci::Travis,
                ["-", "v5", "SHA", "4", "-", "-", "-"],
            ),
            (
                "BUILDKITE=true BUILDKITE_BRANCH=master BUILDKITE_PULL_REQUEST=false BUILDKITE_COMMIT=SHA BUILDKITE_BUILD_NUMBER=21 BUILDKITE_REPO=git@github.com:o/shop.git BUILDKITE_BUILD_URL=https://buildkite.com/o/shop/builds/21 BUILDKITE_BUILD_CREATOR=dave",
                Ci::Buildkite,
                [
                    "master",
                    "-",
                    "SHA",
                    "21",
                    "o/shop",
                    "https://buildkite.com/o/shop/builds/21",
                    "dave",
                ],
            ),
            (
                "BUILDKITE=true BUILDKITE_TAG=v6 BUILDKITE_BRANCH=v6 BUILDKITE_COMMIT=HEAD BUILDKITE_BUILD_NUMBER=22",
                Ci::Buildkite,
                ["-", "v6", "-", "22", "-", "-", "-"],
            ),
            (
                "TF_BUILD=True BUILD_SOURCEBRANCH=refs/heads/release/1 BUILD_SOURCEVERSION=SHA BUILD_BUILDID=77 BUILD_REPOSITORY_NAME=o/shop SYSTEM_TEAMFOUNDATIONCOLLECTIONURI=https://dev.azure.com/o/ SYSTEM_TEAMPROJECT=shop BUILD_REQUESTEDFOR=erin",
                Ci::Azure,
                [
                    "release/1",
                    "-",
                    "SHA",
                    "77",
                    "o/shop",
                    "https://dev.azure.com/o/shop/_build/results?buildId=77",
                    "erin",
                ],
            ),
            (
                "TF_BUILD=True BUILD_SOURCEBRANCH=refs/tags/v7 BUILD_SOURCEVERSION=SHA BUILD_BUILDID=78",
                Ci::Azure,
                ["-", "v7", "SHA", "78", "-", "-", "-"],
            ),
            (
                "CODEBUILD_BUILD_ID=p:1 CODEBUILD_BUILD_NUMBER=31 CODEBUILD_WEBHOOK_TRIGGER=branch/master CODEBUILD_WEBHOOK_HEAD_REF=refs/heads/master CODEBUILD_RESOLVED_SOURCE_VERSION=SHA CODEBUILD_SOURCE_REPO_URL=https://github.com/o/shop.git CODEBUILD_BUILD_URL=https://console.aws.amazon.com/31",
                Ci::CodeBuild,
                [
                    "master",
                    "-",
                    "SHA",
                    "31",
                    "o/shop",
                    "https://console.aws.amazon.com/31",
                    "-",
                ],
            ),
            (
                "CODEBUILD_BUILD_ID=p:2 CODEBUILD_BUILD_NUMBER=32 CODEBUILD_WEBHOOK_TRIGGER=tag/v8 CODEBUILD_RESOLVED_SOURCE_VERSION=SHA",
                Ci::CodeBuild,
                ["-", "v8", "SHA", "32", "-", "-", "-"],
            ),
            (
                "JENKINS_URL=http://j/ BRANCH_NAME=master GIT_BRANCH=master GIT_COMMIT=SHA BUILD_NUMBER=15 GIT_URL=https://git.example.com/o/shop.git BUILD_URL=http://j/15/",
                Ci::Jenkins,
                ["master", "-", "SHA", "15", "o/shop", "http://j/15/", "-"],
            ),
            (
                "JENKINS_URL=http://j/ GIT_BRANCH=origin/feature/x GIT_COMMIT=SHA BUILD_NUMBER=16",
                Ci::Jenkins,
                ["feature/x", "-", "SHA", "16", "-", "-", "-"],
            ),
            (
                "JENKINS_URL=http://j/ BRANCH_NAME=v9 TAG_NAME=v9 GIT_COMMIT=SHA BUILD_NUMBER=17",
                Ci::Jenkins,
                ["-", "v9", "SHA", "17", "-", "-", "-"],
            ),
        ] {
            expect(environment, ci, expected);
        }
    }

    #[test]
    fn ok_a_pull_request_is_never_the_branch_it_comes_from_or_goes_to() {
        for environment in [
            "GITHUB_ACTIONS=true GITHUB_REF=refs/pull/12/merge GITHUB_HEAD_REF=master GITHUB_BASE_REF=master",
            "GITLAB_CI=true CI_MERGE_REQUEST_IID=12 CI_COMMIT_BRANCH=master CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=master",
            "CIRCLECI=true CIRCLE_PR_NUMBER=12 CIRCLE_BRANCH=master",
            "BITBUCKET_BUILD_NUMBER=1 BITBUCKET_PR_ID=12 BITBUCKET_BRANCH=master",
            "TRAVIS=true TRAVIS_PULL_REQUEST=12 TRAVIS_BRANCH=master",
            "BUILDKITE=true BUILDKITE_PULL_REQUEST=12 BUILDKITE_BRANCH=master",
            "TF_BUILD=True BUILD_SOURCEBRANCH=refs/pull/12/merge",
            "CODEBUILD_BUILD_ID=p:1 CODEBUILD_WEBHOOK_TRIGGER=pr/12 CODEBUILD_WEBHOOK_HEAD_REF=refs/heads/master",
            "JENKINS_URL=http://j/ CHANGE_ID=12 BRANCH_NAME=PR-12 CHANGE_TARGET=master",
        ] {
            let pairs: Vec<_> = environment
                .split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .collect();
            let (_, facts) = facts(&pairs).unwrap();
            assert_eq!(
                (facts.branch.as_deref(), facts.tag.as_deref()),
                (Some("pull/12"), None),
                "{environment}"
            );
        }
    }

    #[test]
    fn ok_no_ci_and_empty_values_say_nothing() {
        assert_eq!(facts(&[("HOME", "/root"), ("BUILD_NUMBER", "3")]), None);
        let (_, facts) = facts(&[("GITLAB_CI", "true"), ("CI_COMMIT_TAG", "")]).unwrap();
        assert_eq!(facts, BuildFacts::default());
    }

    #[test]
    fn ok_remotes_name_their_repository() {
        for (url, repository) in [
            ("https://github.com/o/shop.git", Some("o/shop")),
            ("https://user:secret@github.com/o/shop", Some("o/shop")),
            ("git@github.com:o/shop.git", Some("o/shop")),
            ("ssh://git@host:22/o/shop.git/", Some("o/shop")),
            ("/srv/git/shop.git", None),
            ("https://host/shop", None),
        ] {
            assert_eq!(repository_of_url(url).as_deref(), repository, "{url}");
        }
    }

    #[test]
    fn ok_a_named_tag_does_not_get_somebody_elses_branch() {
        let tag = BuildFacts {
            tag: Some("v1".to_owned()),
            ..BuildFacts::default()
        };
        let other = BuildFacts {
            branch: Some("master".to_owned()),
            commit: Some(SHA.to_owned()),
            ..BuildFacts::default()
        };
        let both = tag.or(other);
        assert_eq!((both.branch, both.tag.as_deref()), (None, Some("v1")));
        assert_eq!(both.commit.as_deref(), Some(SHA));
    }
}
