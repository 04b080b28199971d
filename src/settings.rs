//! Settings files to what has to be deployed where.
//!
//! Owns the settings language (one for the project's file and for `circle.yml`, in which CircleCI
//! 1.0's `deployment:` blocks work as they stood), the choice of the block and the merge of what
//! the files say. Pure: bytes and values in, values out. Refuses to know where the bytes came from
//! and what CodeDeploy will say.
//!
//! ```text
//! project's file --read--+
//!                        +--> Documents --select(build)--> the first block that matches
//! circle.yml     --read--+                                   --merge--> Targets with their origins
//! ```

mod blocks;
mod merging;
mod name_pattern;
mod reading;
mod selection;
mod values;

pub use blocks::{ApplicationSettings, Block, EXPRESSIONS_MAX};
pub use merging::{Origin, Source, Target};
pub use name_pattern::{
    Alternative, BACKTRACK_STEPS_MAX, EXPRESSION_BYTES_MAX, NamePattern, NamePatternError, TooHard,
};
pub use reading::Located;
pub use selection::{Considered, Selection, Verdict, check_blocks, select, target_of};
pub use values::{
    ApplicationRoot, BundleChoice, Exclude, GLOBS_MAX, Order, Queue, RevisionTarget, Verify,
};

use blocks::Scope;
use reading::Reader;

use crate::finding::Finding;
use crate::yaml::{self, Limits, Node, YamlError};

/// Which of the two files a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsKind {
    /// The project's settings: `deployment`, `codedeploy` and `repository_config`, nothing else.
    Project,
    /// `circle.yml` in the artifact: only `deployment` is looked at.
    CircleYml,
}

/// Whether `circle.yml` is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RepositoryConfig {
    /// Its `deployment:` replaces the project's.
    #[default]
    Allowed,
    /// It is not looked at.
    Ignored,
}

impl std::str::FromStr for RepositoryConfig {
    type Err = UnknownRepositoryConfig;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        REPOSITORY_CONFIGS
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, config)| *config)
            .ok_or(UnknownRepositoryConfig)
    }
}

/// The value is neither `allowed` nor `ignored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value is unknown, expected `allowed` or `ignored`")]
pub struct UnknownRepositoryConfig;

/// One settings file without mistakes.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file's name in findings and origins.
    pub file: String,
    /// Its blocks in the order of the text; `None` where it has no `deployment:`.
    pub blocks: Option<Vec<Block>>,
    /// The project-wide applications; empty where it lists none.
    pub applications: Vec<ApplicationSettings>,
    /// `repository_config`.
    pub repository_config: RepositoryConfig,
}

impl Document {
    /// A file that says nothing.
    pub fn empty(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            blocks: None,
            applications: Vec::new(),
            repository_config: RepositoryConfig::default(),
        }
    }

    /// What all its blocks hold that is not carried out.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.blocks
            .iter()
            .flatten()
            .flat_map(|block| &block.warnings)
    }
}

const PROJECT_KEYS: [&str; 3] = ["deployment", "codedeploy", "repository_config"];

const REPOSITORY_CONFIGS: [(&str, RepositoryConfig); 2] = [
    ("allowed", RepositoryConfig::Allowed),
    ("ignored", RepositoryConfig::Ignored),
];

/// Reads one settings file; `source_name` is its name in findings.
///
/// # Errors
/// Every mistake in the file, each with its line and column; never empty.
pub fn read(source_name: &str, bytes: &[u8], kind: SettingsKind) -> Result<Document, Vec<Finding>> {
    let root = match read_root(bytes, kind) {
        Ok(root) => root,
        Err(error) => return Err(vec![yaml_finding(source_name, &error)]),
    };
    let mut document = Document::empty(source_name);
    let mut reader = Reader::new(source_name);
    match root.as_slice() {
        [] => {}
        [root] if root.is_null() => {}
        [root] => match kind {
            SettingsKind::Project => read_project(&mut reader, root, &mut document),
            SettingsKind::CircleYml => read_circle_yml(&mut reader, root, &mut document),
        },
        [_, second, ..] => reader.refuse(
            "settings-unreadable",
            second.place,
            format!("file holds {} YAML documents, expected one", root.len()),
            "keep one document, without `---` between parts".to_owned(),
        ),
    }
    if reader.findings.is_empty() {
        return Ok(document);
    }
    reader
        .findings
        .sort_by_key(|finding| (finding.line, finding.column));
    Err(reader.findings)
}

/// Most aliases of a `circle.yml`: nearly all of them stand in sections that are not ours.
const CIRCLE_YML_ALIASES_MAX: usize = 256;

fn read_root(bytes: &[u8], kind: SettingsKind) -> Result<Vec<Node>, YamlError> {
    let mut limits = Limits::default();
    if kind == SettingsKind::CircleYml {
        limits.aliases_max = CIRCLE_YML_ALIASES_MAX;
    }
    yaml::parse(bytes, &limits)?
        .iter()
        .map(|document| yaml::resolve_aliases(document, &limits))
        .collect()
}

fn read_project(reader: &mut Reader<'_>, root: &Node, document: &mut Document) {
    for field in reader.fields(root, reading::ROOT).unwrap_or_default() {
        match field.name {
            "deployment" if field.value.is_null() => {}
            "deployment" => document.blocks = Some(blocks::read_deployment(reader, field.value)),
            "codedeploy" if field.value.is_null() => {}
            "codedeploy" => {
                document.applications = blocks::read_applications(
                    reader,
                    "codedeploy",
                    field.value,
                    Scope::ProjectWide,
                );
            }
            "repository_config" => {
                let choice = reader.choice("repository_config", field.value, &REPOSITORY_CONFIGS);
                document.repository_config =
                    choice.map_or(RepositoryConfig::default(), |located| located.value);
            }
            _ => reader.unknown_key(&field, reading::ROOT, &PROJECT_KEYS),
        }
    }
}

/// Looks at `deployment:` alone: the rest of the file is CircleCI's, mistakes included.
fn read_circle_yml(reader: &mut Reader<'_>, root: &Node, document: &mut Document) {
    let Some(pairs) = root.as_mapping() else {
        reader.wrong_type(root.place, "circle.yml", "a mapping", root);
        return;
    };
    let mut found = pairs
        .iter()
        .filter(|(key, _)| key.as_str() == Some("deployment"));
    let Some((first, node)) = found.next() else {
        return;
    };
    if let Some((second, _)) = found.next() {
        reader.refuse(
            "settings-duplicate-key",
            second.place,
            format!(
                "key `deployment` stands twice, first at line {}",
                first.place.line
            ),
            "remove one of the two".to_owned(),
        );
    }
    if !node.is_null() {
        document.blocks = Some(blocks::read_deployment(reader, node));
    }
}

fn yaml_finding(source_name: &str, error: &YamlError) -> Finding {
    let cure = match error {
        YamlError::TooLarge { .. }
        | YamlError::TooDeep { .. }
        | YamlError::TooManyEvents { .. }
        | YamlError::TooManyAliases { .. }
        | YamlError::TooManyNodes { .. } => "make the file smaller and simpler",
        YamlError::TagsTooLarge { .. } => "take the tags out, or have `%TAG` stand for less",
        YamlError::CopiesTooLarge { .. } => "use fewer aliases, or shorter texts behind them",
        YamlError::Utf16 | YamlError::InvalidUtf8 { .. } => "save the file as UTF-8",
        YamlError::Nul { .. } | YamlError::Control { .. } => "remove the control character",
        YamlError::UnknownAnchor { .. } | YamlError::RecursiveAlias { .. } => {
            "write the value itself instead of the alias"
        }
        YamlError::Syntax { .. } => "correct the YAML at that place or shortly before it",
    };
    let finding =
        Finding::refuse("settings-unreadable", error.to_string(), cure).in_file(source_name);
    match error.place() {
        Some(place) => finding.at(place.line, place.column),
        None => finding,
    }
}

#[cfg(test)]
mod tests;
