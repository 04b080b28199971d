//! The environment of both functions, checked whole before the first event is taken.
//!
//! Owns the names of the variables, their meaning and the rule that a function must never trigger
//! itself. Does not read the environment: the caller hands in the look-up, so that `bin/` stays
//! the only place that knows a process.

use std::fmt;
use std::str::FromStr;

use crate::key_pattern::StagingPattern;
use crate::metrics::Namespace;
use crate::object::S3Prefix;
use crate::settings::RepositoryConfig;

/// How a staged key is read: `staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}`.
pub const STAGING_KEY_PATTERN: &str = "STAGEDROP_STAGING_KEY_PATTERN";
/// Where the projects' settings are: `s3://bucket/settings/`.
pub const SETTINGS: &str = "STAGEDROP_SETTINGS";
/// Where records are written: `s3://bucket/records/`.
pub const RECORDS: &str = "STAGEDROP_RECORDS";
/// Whether a `circle.yml` inside an artifact is read: `allowed` (default) or `ignored`.
pub const REPOSITORY_CONFIG: &str = "STAGEDROP_REPOSITORY_CONFIG";
/// CloudWatch namespace of the metrics; without it none are written.
pub const METRICS_NAMESPACE: &str = "STAGEDROP_METRICS_NAMESPACE";

/// Every variable that the functions read.
pub const VARIABLES: [&str; 5] = [
    STAGING_KEY_PATTERN,
    SETTINGS,
    RECORDS,
    REPOSITORY_CONFIG,
    METRICS_NAMESPACE,
];

/// The folders under the records prefix that the functions write.
pub const RECORD_FOLDERS: [&str; 4] = ["drops/", "deployments/", "groups/", "open/"];

/// Most characters of a value that a fault repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// What the functions are told.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// How a staged key is read.
    pub staging_key_pattern: StagingPattern,
    /// Where the projects' settings are.
    pub settings: S3Prefix,
    /// Where records are written.
    pub records: S3Prefix,
    /// Whether a `circle.yml` inside an artifact is read.
    pub repository_config: RepositoryConfig,
    /// Where metrics go, where they go anywhere.
    pub metrics: Option<Namespace>,
}

/// What is wrong with one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableFault {
    /// Its name.
    pub variable: &'static str,
    /// Its value, cut to a readable length; `None` where it is not set or empty.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl fmt::Display for VariableFault {
    /// ``NAME `value`: what is wrong; what to do``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.variable)?;
        if let Some(value) = &self.value {
            write!(f, " `{value}`")?;
        }
        write!(f, ": {}; {}", self.message, self.cure)
    }
}

/// Every fault of the environment, in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationError {
    /// At least one.
    pub faults: Vec<VariableFault>,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.faults.len() == 1 {
            "fault"
        } else {
            "faults"
        };
        write!(f, "environment has {} {plural}", self.faults.len())?;
        self.faults
            .iter()
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigurationError {}

impl Configuration {
    /// Reads and checks all [`VARIABLES`]. An empty value counts as none, because a template can
    /// hardly leave a variable away.
    ///
    /// # Errors
    /// All faults together, so that one look at the log is enough to cure them.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader {
            lookup,
            faults: Vec::new(),
        };
        let pattern = reader.pattern();
        let settings = reader.required::<S3Prefix>(
            SETTINGS,
            "set it to where the projects' settings are, such as s3://my-artifacts/settings/",
        );
        let records = reader.required::<S3Prefix>(
            RECORDS,
            "set it to where records are written, such as s3://my-artifacts/records/",
        );
        let repository_config = reader.optional::<RepositoryConfig>(
            REPOSITORY_CONFIG,
            "set it to allowed or ignored, or leave it away for allowed",
        );
        let metrics = match reader.value(METRICS_NAMESPACE) {
            Some(_) => reader.required::<Namespace>(
                METRICS_NAMESPACE,
                "set it to a name such as stagedrop, or leave it away to write no metrics",
            ),
            None => None,
        };
        if let Some(pattern) = &pattern {
            if let Some(prefix) = &settings {
                reader.check_staging_leaves_settings(pattern, prefix);
            }
            if let Some(prefix) = &records {
                reader.check_staging_leaves_records(pattern, prefix);
            }
        }
        if let (Some(settings), Some(records)) = (&settings, &records)
            && let Some(how) = overlap(settings, records)
        {
            reader.fault(
                RECORDS,
                format!("records and settings lie {how}, {SETTINGS} is `{settings}`"),
                "give them different prefixes, such as settings/ and records/",
            );
        }
        let faults = reader.faults;
        match (pattern, settings, records, repository_config) {
            (Some(staging_key_pattern), Some(settings), Some(records), Some(repository_config))
                if faults.is_empty() =>
            {
                Ok(Self {
                    staging_key_pattern,
                    settings,
                    records,
                    repository_config,
                    metrics,
                })
            }
            _ => Err(ConfigurationError { faults }),
        }
    }
}

/// How two places overlap: whoever may write one could write the other then. A whole bucket may hold the other's
/// folder, since neither settings nor records have names that lead into it.
fn overlap(settings: &S3Prefix, records: &S3Prefix) -> Option<&'static str> {
    let (inner, outer) = (settings.prefix.as_str(), records.prefix.as_str());
    let lies_in = |inner: &str, outer: &str| !outer.is_empty() && inner.starts_with(outer);
    if settings.bucket != records.bucket {
        None
    } else if inner == outer {
        Some("in the same place")
    } else if lies_in(inner, outer) || lies_in(outer, inner) {
        Some("one inside the other")
    } else {
        None
    }
}

struct Reader<F> {
    lookup: F,
    faults: Vec<VariableFault>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn value(&self, variable: &'static str) -> Option<String> {
        (self.lookup)(variable).filter(|value| !value.is_empty())
    }

    fn fault(&mut self, variable: &'static str, message: impl fmt::Display, cure: &str) {
        // Values are foreign text, and error messages repeat them.
        let shown = |text: &str| -> String {
            let printable = |c: char| {
                if c.is_control() {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                }
            };
            text.chars().map(printable).take(SHOWN_CHARS_MAX).collect()
        };
        let value = self.value(variable).as_deref().map(shown);
        self.faults.push(VariableFault {
            variable,
            value,
            message: message.to_string().replace(char::is_control, "\u{fffd}"),
            cure: cure.to_owned(),
        });
    }

    /// The parsed value, or `None` and a fault.
    fn required<T>(&mut self, variable: &'static str, cure: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match self.value(variable) {
            Some(value) => value
                .parse()
                .map_err(|error| self.fault(variable, error, cure))
                .ok(),
            None => {
                self.fault(variable, "variable is not set", cure);
                None
            }
        }
    }

    /// The staging pattern, or `None` and a fault; its errors bring a cure of their own.
    fn pattern(&mut self) -> Option<StagingPattern> {
        let cure = "set it to how staged keys are built, such as \
                    staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}";
        let Some(value) = self.value(STAGING_KEY_PATTERN) else {
            return self.required(STAGING_KEY_PATTERN, cure);
        };
        match value.parse::<StagingPattern>() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.fault(STAGING_KEY_PATTERN, &error, &error.cure());
                None
            }
        }
    }

    /// The parsed value or the default, or `None` and a fault.
    fn optional<T>(&mut self, variable: &'static str, cure: &str) -> Option<T>
    where
        T: FromStr + Default,
        T::Err: fmt::Display,
    {
        match self.value(variable) {
            Some(_) => self.required(variable, cure),
            None => Some(T::default()),
        }
    }

    /// A record that reads as a staged key would start the function that wrote it. The staging
    /// bucket is not in the environment, so every bucket may be it.
    fn check_staging_leaves_records(&mut self, pattern: &StagingPattern, records: &S3Prefix) {
        let written: Vec<&str> = if records.prefix.is_empty() {
            RECORD_FOLDERS.to_vec()
        } else {
            vec![records.prefix.as_str()]
        };
        for folder in written {
            if pattern.could_begin_with(folder) {
                self.fault(
                    STAGING_KEY_PATTERN,
                    format!(
                        "a staged key could begin with `{folder}`, where records are written \
                         ({RECORDS} is `{records}`), and the function would start itself"
                    ),
                    "begin the pattern with a folder of its own, such as staging/",
                );
            }
        }
    }

    /// Whoever may stage artifacts must not be able to write settings.
    fn check_staging_leaves_settings(&mut self, pattern: &StagingPattern, settings: &S3Prefix) {
        let what = if settings.prefix.is_empty() {
            could_be_settings_at_the_root(pattern).then(|| "be a top-level `.yml`".to_owned())
        } else {
            pattern
                .could_begin_with(&settings.prefix)
                .then(|| format!("begin with `{}`", settings.prefix))
        };
        if let Some(what) = what {
            self.fault(
                STAGING_KEY_PATTERN,
                format!(
                    "a staged key could {what}, where settings are ({SETTINGS} is `{settings}`)"
                ),
                "begin the pattern with a folder of its own, such as staging/",
            );
        }
    }
}

/// Whether some staged key has no folder and ends in `.yml`.
fn could_be_settings_at_the_root(pattern: &StagingPattern) -> bool {
    const EXTENSION: &str = ".yml";
    let text = pattern.as_str();
    if text.contains('/') || text.contains("{REPOSITORY}") {
        return false;
    }
    let tail = text.rsplit('}').next().unwrap_or(text);
    let before = text.strip_suffix(tail).unwrap_or_default();
    // A commit is hexadecimal, so that it brings no part of the extension.
    let is_completed =
        EXTENSION.ends_with(tail) && !before.is_empty() && !before.ends_with("COMMIT}");
    tail.ends_with(EXTENSION) || is_completed
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: &str = "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}";

    fn read(values: [Option<&str>; 4]) -> Result<Configuration, ConfigurationError> {
        Configuration::read(|name| {
            let position = VARIABLES.iter().position(|variable| *variable == name)?;
            values.get(position)?.map(str::to_owned)
        })
    }

    #[track_caller]
    fn faults(values: [Option<&str>; 4]) -> Vec<VariableFault> {
        read(values).unwrap_err().faults
    }

    #[test]
    fn ok_three_variables_suffice() {
        let places = [
            Some("s3://my-artifacts/settings/"),
            Some("s3://my-artifacts/records/"),
        ];
        for config in [None, Some(""), Some("allowed")] {
            let configuration = read([Some(PATTERN), places[0], places[1], config]).unwrap();
            assert_eq!(configuration.repository_config, RepositoryConfig::Allowed);
            assert_eq!(
                configuration.settings.to_string(),
                "s3://my-artifacts/settings/"
            );
            assert_eq!(
                configuration.records.to_string(),
                "s3://my-artifacts/records/"
            );
        }
        let configuration = read([Some(PATTERN), places[0], places[1], Some("ignored")]).unwrap();
        assert_eq!(configuration.repository_config, RepositoryConfig::Ignored);
    }

    #[test]
    fn err_all_faults_come_in_one_message() {
        let error = read([None, Some(""), Some("my-artifacts/records"), Some("no")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment has 4 faults\n  \
             STAGEDROP_STAGING_KEY_PATTERN: variable is not set; set it to how staged keys are \
             built, such as staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}\n  \
             STAGEDROP_SETTINGS: variable is not set; set it to where the projects' settings are, \
             such as s3://my-artifacts/settings/\n  \
             STAGEDROP_RECORDS `my-artifacts/records`: S3 location `my-artifacts/records` is not \
             valid: expected s3://bucket/prefix/; set it to where records are written, such as \
             s3://my-artifacts/records/\n  \
             STAGEDROP_REPOSITORY_CONFIG `no`: value is unknown, expected `allowed` or `ignored`; \
             set it to allowed or ignored, or leave it away for allowed"
        );
    }

    #[test]
    fn ok_metrics_go_where_the_environment_says_or_nowhere() {
        let read = |namespace: Option<&str>| {
            Configuration::read(|name| match name {
                STAGING_KEY_PATTERN => Some(PATTERN.to_owned()),
                SETTINGS => Some("s3://abc/settings/".to_owned()),
                RECORDS => Some("s3://abc/records/".to_owned()),
                METRICS_NAMESPACE => namespace.map(str::to_owned),
                _ => None,
            })
        };
        for nowhere in [None, Some("")] {
            assert_eq!(read(nowhere).unwrap().metrics, None);
        }
        let metrics = read(Some("my-stack")).unwrap().metrics.unwrap();
        assert_eq!(metrics.as_str(), "my-stack");
        let error = read(Some("AWS/Lambda")).unwrap_err();
        assert_eq!(error.faults.len(), 1);
        assert_eq!(error.faults[0].variable, METRICS_NAMESPACE);
    }

    #[test]
    fn err_a_pattern_with_an_unknown_variable_is_a_fault_of_its_variable() {
        let pattern = "staging/{PROJEKT}/{COMMIT}";
        let found = faults([
            Some(pattern),
            Some("s3://abc/s/"),
            Some("s3://abc/r/"),
            None,
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].variable, STAGING_KEY_PATTERN);
        assert_eq!(found[0].value.as_deref(), Some(pattern));
        assert!(
            found[0].message.contains("{PROJEKT}"),
            "{}",
            found[0].message
        );
        assert_eq!(found[0].cure, "write `{PROJECT}`");
    }

    #[test]
    fn err_a_function_may_not_trigger_itself() {
        for (settings, records, expected) in [
            // Other folders, whichever the bucket.
            ("s3://abc/settings/", "s3://abc/records/", 0),
            ("s3://abc/stag/", "s3://abc/staging-records/", 0),
            // The same folder, one inside, one around.
            ("s3://abc/settings/", "s3://abc/staging/", 1),
            ("s3://abc/settings/", "s3://other/staging/records/", 1),
            ("s3://abc/staging/settings/", "s3://abc/staging/records/", 2),
            // The root: `staging/` is none of the folders that are written there.
            ("s3://abc/settings/", "s3://abc", 0),
            ("s3://abc", "s3://abc/records/", 0),
        ] {
            let result = read([Some(PATTERN), Some(settings), Some(records), None]);
            let found = result.map_or_else(|error| error.faults, |_| Vec::new());
            assert_eq!(found.len(), expected, "{settings} {records}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|fault| fault.variable == STAGING_KEY_PATTERN)
            );
        }
    }

    #[test]
    fn err_a_pattern_that_begins_with_a_variable_reaches_every_folder() {
        let values = [
            Some("{PROJECT}/{COMMIT}"),
            Some("s3://abc/set/"),
            Some("s3://abc"),
            None,
        ];
        let found = faults(values);
        assert_eq!(found.len(), 1 + RECORD_FOLDERS.len(), "{found:?}");
        assert!(
            found[0]
                .message
                .starts_with("a staged key could begin with `set/`")
        );
        assert!(found[1].message.starts_with(
            "a staged key could begin with `drops/`, where records are written \
             (STAGEDROP_RECORDS is `s3://abc/`)"
        ));
    }

    #[test]
    fn err_settings_at_the_root_may_not_be_staged() {
        for (pattern, is_fault) in [
            ("{PROJECT}", true),
            ("{COMMIT}-{BRANCH}", true),
            ("{COMMIT}.yml", true),
            ("{COMMIT}-{PROJECT}yml", true),
            ("{PROJECT}-{COMMIT}", false),
            ("{PROJECT}ml-{COMMIT}l", false),
            ("{BUILD_NUM}.zip", false),
            ("{REPOSITORY}", false),
            ("a/{PROJECT}", false),
        ] {
            let result = read([
                Some(pattern),
                Some("s3://abc"),
                Some("s3://abc/r-/x/"),
                None,
            ]);
            let found = result.map_or_else(|error| error.faults, |_| Vec::new());
            let is_found = found
                .iter()
                .any(|fault| fault.message.contains("top-level `.yml`"));
            assert_eq!(is_found, is_fault, "{pattern}: {found:?}");
        }
    }

    #[test]
    fn err_records_and_settings_need_places_of_their_own() {
        let found = faults([Some(PATTERN), Some("s3://abc/x/"), Some("s3://abc/x"), None]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "STAGEDROP_RECORDS `s3://abc/x`: records and settings lie in the same place, \
             STAGEDROP_SETTINGS is `s3://abc/x/`; give them different prefixes, such as settings/ \
             and records/"
        );
        assert!(
            read([
                Some(PATTERN),
                Some("s3://abc/x/"),
                Some("s3://abcd/x/"),
                None
            ])
            .is_ok()
        );
    }

    #[test]
    fn err_records_and_settings_may_not_lie_inside_each_other() {
        for (settings, records, is_fault) in [
            ("s3://abc/data/settings/", "s3://abc/data/", true),
            ("s3://abc/data/", "s3://abc/data/records/", true),
            ("s3://abc/data/settings/", "s3://abc/data/records/", false),
            ("s3://abc/data/", "s3://abc/database/", false),
            ("s3://abc/data/", "s3://other/data/records/", false),
            ("s3://abc", "s3://abc/records/", false),
            ("s3://abc/settings/", "s3://abc", false),
        ] {
            let result = read([Some(PATTERN), Some(settings), Some(records), None]);
            let found = result.map_or_else(|error| error.faults, |_| Vec::new());
            assert_eq!(found.len(), usize::from(is_fault), "{settings} {records}");
            assert!(found.iter().all(|fault| {
                fault.variable == RECORDS && fault.message.contains("one inside the other")
            }));
        }
    }

    #[test]
    fn err_values_are_shown_on_one_line_and_cut() {
        let value = format!("x\n{}", "y".repeat(9_000));
        let found = faults([Some(PATTERN), Some(&value), Some("s3://abc/r/"), None]);
        let shown = found[0].value.as_deref().unwrap();
        assert_eq!(shown.chars().count(), SHOWN_CHARS_MAX);
        assert!(!found[0].to_string().contains(char::is_control));
    }
}
