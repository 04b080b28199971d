//! Findings in the making, and the report that they end in.

use crate::deployment::ComputePlatform;
use crate::finding::Finding;
use crate::yaml::Place;

/// Findings that one check gives; a bundle with more faults has no use for the rest.
const FINDINGS_MAX: usize = 200;

/// What the check has to say about a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The platform, where the AppSpec could be read.
    pub platform: Option<ComputePlatform>,
    /// Refusals first, warnings after them, each in the order of the rules.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing may be registered.
    pub fn refuses(&self) -> bool {
        self.findings.iter().any(Finding::refuses)
    }
}

/// A list of findings with a limit, and the AppSpec that they point into.
pub(super) struct Findings<'a> {
    appspec: &'a str,
    refusals: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub fn new(appspec: &'a str) -> Self {
        Self {
            appspec,
            refusals: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes a finding as it is.
    pub fn add(&mut self, finding: Finding) {
        let list = if finding.refuses() {
            &mut self.refusals
        } else {
            &mut self.warnings
        };
        if list.len() < FINDINGS_MAX {
            list.push(finding);
        }
    }

    /// Takes a finding about a place in the AppSpec.
    pub fn at(&mut self, place: Place, finding: Finding) {
        self.add(finding.in_file(self.appspec).at(place.line, place.column));
    }

    pub fn into_report(self, platform: Option<ComputePlatform>) -> Report {
        let mut findings = self.refusals;
        findings.extend(self.warnings);
        findings.truncate(FINDINGS_MAX);
        Report { platform, findings }
    }
}
