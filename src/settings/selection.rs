//! Which block runs for a build.
//!
//! Owns the rules: `circle.yml`'s blocks replace the project's, the first block in the order of the
//! text that matches runs and only that one, a tag build is matched by `tag` alone and a branch
//! build by `branch` alone, an owner guards. Says of every block why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::blocks::Block;
use super::merging::{Layer, Target, merge};
use super::name_pattern::TooHard;
use super::{Document, RepositoryConfig};
use crate::deployment::{ApplicationName, DeploymentGroupName, Region};
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::yaml::Place;

/// What the settings say about a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// A block matches.
    Deploy {
        /// Its name.
        block: String,
        /// What it deploys; never empty.
        targets: Vec<Target>,
        /// What stands in it and is not carried out.
        warnings: Vec<Finding>,
        /// Every block and why.
        considered: Vec<Considered>,
    },
    /// A block matches, but it has no `codedeploy:`.
    NothingToDeploy {
        /// Its name.
        block: String,
        /// What stands in it and is not carried out.
        warnings: Vec<Finding>,
        /// Every block and why.
        considered: Vec<Considered>,
    },
    /// No block matches.
    NoMatch {
        /// Every block and why.
        considered: Vec<Considered>,
    },
    /// A block matches and cannot be carried out, or it cannot be told which one matches.
    Refused(Vec<Finding>),
}

/// One block and what was found about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Its name.
    pub block: String,
    /// Its file.
    pub file: String,
    /// Where its name stands.
    pub place: Place,
    /// Whether it matches.
    pub verdict: Verdict,
}

/// Why a block matches or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It runs.
    Matched,
    /// An earlier block runs.
    NotReached,
    /// The build names neither a branch nor a tag.
    BuildUnnamed,
    /// A tag build, and the block has no `tag`.
    NotForTags,
    /// A branch build, and the block has no `branch`.
    NotForBranches,
    /// The branch is another one.
    OtherBranch {
        /// What the block names.
        expected: String,
        /// The build's branch.
        found: String,
    },
    /// The tag is another one.
    OtherTag {
        /// What the block names.
        expected: String,
        /// The build's tag.
        found: String,
    },
    /// The repository's owner is another one.
    OtherOwner {
        /// What the block names.
        expected: String,
        /// The repository's owner.
        found: String,
    },
    /// The block has an `owner`, and the build's repository is not known.
    OwnerUnknown {
        /// What the block names.
        expected: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("matches"),
            Self::NotReached => f.write_str("is not reached: an earlier block matches"),
            Self::BuildUnnamed => {
                f.write_str("does not match: the build names neither a branch nor a tag")
            }
            Self::NotForTags => {
                f.write_str("does not match: it has no `tag`, and this is a tag build")
            }
            Self::NotForBranches => {
                f.write_str("does not match: it has no `branch`, and this is a branch build")
            }
            Self::OtherBranch { expected, found } => {
                write!(
                    f,
                    "does not match: `branch` is {expected}, the build's branch is {found}"
                )
            }
            Self::OtherTag { expected, found } => {
                write!(
                    f,
                    "does not match: `tag` is {expected}, the build's tag is {found}"
                )
            }
            Self::OtherOwner { expected, found } => {
                write!(
                    f,
                    "does not match: `owner` is {expected}, the repository's owner is {found}"
                )
            }
            Self::OwnerUnknown { expected } => write!(
                f,
                "does not match: `owner` is {expected}, and the repository's owner is unknown (user \
                 metadata x-amz-meta-repository)"
            ),
        }
    }
}

/// Chooses the block for a build and merges its targets.
///
/// `circle` is the `circle.yml` of the artifact, where it has one and the function may read it;
/// `default_region` stands in where no file names a region.
pub fn select(
    project: &Document,
    circle: Option<&Document>,
    build: &Build,
    default_region: Option<&Region>,
) -> Selection {
    let from_repository = circle.filter(|circle| {
        project.repository_config == RepositoryConfig::Allowed && circle.blocks.is_some()
    });
    let document = from_repository.unwrap_or(project);
    let mut considered = Vec::new();
    let mut matched: Option<&Block> = None;
    for block in document.blocks.iter().flatten() {
        let verdict = match matched {
            Some(_) => Verdict::NotReached,
            None => match judge(block, build) {
                Ok(verdict) => verdict,
                Err(error) => return Selection::Refused(vec![too_hard(document, block, &error)]),
            },
        };
        if verdict == Verdict::Matched {
            matched = Some(block);
        }
        considered.push(Considered {
            block: block.name.clone(),
            file: document.file.clone(),
            place: block.place,
            verdict,
        });
    }
    let Some(block) = matched else {
        return Selection::NoMatch { considered };
    };
    let (name, warnings) = (block.name.clone(), block.warnings.clone());
    if block.applications.is_empty() {
        return Selection::NothingToDeploy {
            block: name,
            warnings,
            considered,
        };
    }
    match targets(
        project,
        document,
        from_repository.is_some(),
        block,
        default_region,
    ) {
        Ok(targets) => Selection::Deploy {
            block: name,
            targets,
            warnings,
            considered,
        },
        Err(findings) => Selection::Refused(findings),
    }
}

/// What would be refused of any block once it matches: applications that are not listed, and settings that
/// no file says (but the region, which the function's own may stand in for). `circle`'s blocks replace the
/// project's, as for a build.
pub fn check_blocks(project: &Document, circle: Option<&Document>) -> Vec<Finding> {
    let from_repository = circle.filter(|circle| {
        project.repository_config == RepositoryConfig::Allowed && circle.blocks.is_some()
    });
    let document = from_repository.unwrap_or(project);
    let stand_in = "us-east-1".parse().ok();
    document
        .blocks
        .iter()
        .flatten()
        .filter_map(|block| {
            targets(
                project,
                document,
                from_repository.is_some(),
                block,
                stand_in.as_ref(),
            )
            .err()
        })
        .flatten()
        .collect()
}

/// The first block of the project's own file that matches a build and deploys this application to this group,
/// with what it says; also where another block would run for the build.
///
/// # Errors
/// Findings that refuse: the block cannot be carried out, or it cannot be told whether it matches.
pub fn target_of(
    project: &Document,
    build: &Build,
    application: &ApplicationName,
    deployment_group: &DeploymentGroupName,
    default_region: Option<&Region>,
) -> Result<Option<(String, Target)>, Vec<Finding>> {
    for block in project.blocks.iter().flatten() {
        let names_it = block
            .applications
            .iter()
            .any(|settings| settings.name == *application);
        if !names_it {
            continue;
        }
        let verdict =
            judge(block, build).map_err(|error| vec![too_hard(project, block, &error)])?;
        if verdict != Verdict::Matched {
            continue;
        }
        let target = targets(project, project, false, block, default_region)?
            .into_iter()
            .find(|target| {
                target.application == *application && target.deployment_group == *deployment_group
            });
        if let Some(target) = target {
            return Ok(Some((block.name.clone(), target)));
        }
    }
    Ok(None)
}

fn judge(block: &Block, build: &Build) -> Result<Verdict, TooHard> {
    match (&build.tag, &build.branch) {
        (Some(tag), _) => {
            let Some(pattern) = &block.tag else {
                return Ok(Verdict::NotForTags);
            };
            if !pattern.value.matches(tag)? {
                let expected = pattern.value.to_string();
                return Ok(Verdict::OtherTag {
                    expected,
                    found: tag.clone(),
                });
            }
        }
        (None, Some(branch)) => {
            let Some(pattern) = &block.branch else {
                return Ok(Verdict::NotForBranches);
            };
            if !pattern.value.matches(branch)? {
                let expected = pattern.value.to_string();
                return Ok(Verdict::OtherBranch {
                    expected,
                    found: branch.clone(),
                });
            }
        }
        (None, None) => return Ok(Verdict::BuildUnnamed),
    }
    let Some(owner) = &block.owner else {
        return Ok(Verdict::Matched);
    };
    let expected = owner.value.clone();
    Ok(match build.owner() {
        Some(found) if found == expected => Verdict::Matched,
        Some(found) => Verdict::OtherOwner {
            expected,
            found: found.to_owned(),
        },
        None => Verdict::OwnerUnknown { expected },
    })
}

fn targets(
    project: &Document,
    document: &Document,
    is_from_repository: bool,
    block: &Block,
    default_region: Option<&Region>,
) -> Result<Vec<Target>, Vec<Finding>> {
    let (mut targets, mut findings) = (Vec::new(), Vec::new());
    for settings in &block.applications {
        let listed = project
            .applications
            .iter()
            .find(|listed| listed.name == settings.name);
        // Who may commit must not reach an application that the bucket's owner did not name.
        if is_from_repository && listed.is_none() && !project.applications.is_empty() {
            findings.push(
                Finding::refuse(
                    "settings-application-not-listed",
                    format!(
                        "application `{}` is not listed under `codedeploy` in {}",
                        settings.name, project.file
                    ),
                    format!("list it there, or do not deploy it from {}", document.file),
                )
                .in_file(&document.file)
                .at(settings.place.line, settings.place.column),
            );
            continue;
        }
        let project_wide = listed.map(|settings| Layer {
            file: &project.file,
            settings,
        });
        let layer = Layer {
            file: &document.file,
            settings,
        };
        match merge(layer, project_wide, &project.file, default_region) {
            Ok(target) => targets.push(target),
            Err(missing) => findings.extend(missing),
        }
    }
    if findings.is_empty() {
        Ok(targets)
    } else {
        Err(findings)
    }
}

fn too_hard(document: &Document, block: &Block, error: &TooHard) -> Finding {
    Finding::refuse(
        "settings-regex-too-hard",
        format!("block `deployment.{}`: {error}", block.name),
        "simplify the expression: no repetition inside a repetition",
    )
    .in_file(&document.file)
    .at(block.place.line, block.place.column)
}
