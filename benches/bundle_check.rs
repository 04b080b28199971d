//! What the bundle check adds to a deployment, by the shape of the bundle: `cargo bench --bench bundle_check`.
//!
//! Each line is a zip of 60,000 entries, and the least time of several runs in milliseconds: choosing the
//! contents (`choose`), which repackaging needs without any check; the tree of paths (`tree`) and the rules of
//! AppSpec and agent (`rules`), which the check adds. What it adds is held against a limit.
//! `cargo bench --bench bundle_check -- deep` measures the shapes with `deep` in their name.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use stagedrop::appspec::AppSpec;
use stagedrop::archive::zip::{Step, ZipIndex, ZipReader};
use stagedrop::archive::{ArchiveFormat, Index, Limits};
use stagedrop::bundle_check::{Bundle, Known, Options, check, wanted};
use stagedrop::contents::{Choice, choose_contents};
use stagedrop::object::ByteRange;

const ENTRIES: usize = 60_000;
/// Runs in a row, and rounds through all shapes: a noisy moment of the machine meets all of them.
const RUNS: usize = 5;
const ROUNDS: usize = 20;

/// What the check may add, in milliseconds.
const ADDED_MS_MAX: f64 = 10.0;

/// A zip of empty files with these names.
fn zip(names: &[String]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for name in names {
        let header_at = bytes.len() as u32;
        let mode = if name.ends_with('/') {
            0o040_755_u32
        } else {
            0o100_644
        };
        let length = (name.len() as u16).to_le_bytes();
        bytes.extend_from_slice(b"PK\x03\x04\x14\0\0\0\0\0\0\0\x21\x58");
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(name.as_bytes());
        directory.extend_from_slice(b"PK\x01\x02\x14\x03\x14\0\0\0\0\0\0\0\x21\x58");
        directory.extend_from_slice(&[0; 12]);
        directory.extend_from_slice(&length);
        directory.extend_from_slice(&[0; 8]);
        directory.extend_from_slice(&(mode << 16).to_le_bytes());
        directory.extend_from_slice(&header_at.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    // From 65,536 entries on it would need zip64.
    let count = u16::try_from(names.len())?.to_le_bytes();
    let directory_at = bytes.len() as u32;
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    bytes.extend_from_slice(&count);
    bytes.extend_from_slice(&count);
    bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&directory_at.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    Ok(bytes)
}

fn read(bytes: &[u8]) -> Result<ZipIndex, Box<dyn Error>> {
    let mut reader = ZipReader::new(bytes.len() as u64, &Limits::default());
    loop {
        match reader.step()? {
            Step::Need(range) => {
                let ByteRange { start, end } = range;
                let wanted = bytes.get(start as usize..end as usize);
                reader.feed(range, wanted.ok_or("reader asks for what is not there")?)?;
            }
            Step::Done(index) => return Ok(index),
        }
    }
}

/// A kind of bundle.
struct Shape {
    what: &'static str,
    names: Box<dyn Fn(usize) -> String>,
    /// What follows `version` and `os`.
    appspec: String,
    exclude: Vec<String>,
}

const WHOLE: &str = "files: [{source: /, destination: /srv/app}]\n";

fn shape(what: &'static str, names: impl Fn(usize) -> String + 'static) -> Shape {
    Shape {
        what,
        names: Box::new(names),
        appspec: format!(
            "{WHOLE}permissions: [{{object: /srv/app, mode: 755}}]\n\
             hooks: {{AfterInstall: [{{location: lib/nowhere.sh}}]}}\n"
        ),
        exclude: Vec::new(),
    }
}

fn repository(number: usize) -> String {
    format!(
        "node_modules/package-{}/lib/module-{}/file-{number}.js",
        number / 400,
        number / 40
    )
}

fn shapes() -> Vec<Shape> {
    let list =
        |count: usize, line: &dyn Fn(usize) -> String| -> String { (0..count).map(line).collect() };
    vec![
        shape("all in one folder", |n| format!("lib/file-{n:05}.js")),
        shape("a repository's folders", repository),
        shape("each in a folder of its own", |n| {
            format!("lib/{n}/index.js")
        }),
        shape("deep: twelve folders above each", |n| {
            format!("a/b/c/d/e/f/g/h/i/j/{}/{}/x.class", n / 1_000, n / 20)
        }),
        Shape {
            appspec: format!(
                "files:\n{}",
                list(400, &|n| format!(
                    "- {{source: d{n}, destination: /srv/app/d{n}}}\n"
                ))
            ),
            ..shape("400 destinations side by side", |n| {
                format!("d{}/f{n}", n % 400)
            })
        },
        Shape {
            appspec: format!(
                "files:\n{}",
                list(12, &|n| format!(
                    "- {{source: d{n}, destination: /srv/app}}\n"
                ))
            ),
            ..shape("12 folders into one", |n| format!("d{}/f{n}", n % 12))
        },
        Shape {
            appspec: format!(
                "{WHOLE}permissions:\n{}",
                list(20, &|n| format!(
                    "- {{object: /srv/app/d{n}, mode: 755}}\n- {{object: /srv/app, pattern: \"*.{n}\", type: [file]}}\n"
                ))
            ),
            ..shape("40 permissions that overlap", |n| {
                format!("d{}/f{n}.js", n % 20)
            })
        },
        Shape {
            appspec: format!(
                "{WHOLE}permissions:\n{}",
                list(20, &|n| format!(
                    "- {{object: /srv/app/lib, pattern: \"*.{n}\", type: [file]}}\n"
                ))
            ),
            ..shape("20 patterns for one folder", |n| {
                format!("lib/f{n}.{}", n % 25)
            })
        },
        Shape {
            exclude: [
                "*.log",
                "*.tmp",
                "docs",
                "node_modules/.cache",
                "**/test/**",
                "src/**/*.ts",
                "*.map",
                "coverage",
                ".env*",
                "build/[0-9]*",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..shape("ten globs under `exclude`", repository)
        },
    ]
}

fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anywhere = if pattern.contains('/') { "" } else { "**/" };
        let glob = GlobBuilder::new(&format!("{anywhere}{pattern}"))
            .literal_separator(true)
            .build();
        set.add(glob?);
    }
    set.build()
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<34}{:>8}{:>8}{:>8}   ms for {ENTRIES} entries",
        "", "choose", "tree", "rules"
    );
    // Cargo itself adds an option.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_asked = |shape: &Shape| {
        asked.is_empty() || asked.iter().any(|word| shape.what.contains(word.as_str()))
    };
    let mut cases = Vec::new();
    for shape in shapes().into_iter().filter(is_asked) {
        cases.push((Case::make(&shape)?, shape.what, Times::MOST));
    }
    for _ in 0..ROUNDS {
        for (case, _, times) in &mut cases {
            for _ in 0..RUNS {
                times.lower(&case.run()?);
            }
        }
    }
    let mut over = Vec::new();
    for (_, what, times) in cases {
        let Times {
            choose,
            tree,
            rules,
            added,
        } = times;
        println!(
            "{what:<34}{choose:>8.2}{tree:>8.2}{rules:>8.2}   check adds {added:>5.2} ms of {ADDED_MS_MAX:.0}",
        );
        if added > ADDED_MS_MAX {
            over.push(what);
        }
    }
    if over.is_empty() {
        Ok(())
    } else {
        Err(format!("over the limit: {}", over.join(", ")).into())
    }
}

/// Milliseconds.
struct Times {
    choose: f64,
    tree: f64,
    rules: f64,
    /// By tree and rules of one run.
    added: f64,
}

impl Times {
    const MOST: Self = Self {
        choose: f64::MAX,
        tree: f64::MAX,
        rules: f64::MAX,
        added: f64::MAX,
    };

    fn lower(&mut self, run: &Self) {
        self.choose = self.choose.min(run.choose);
        self.tree = self.tree.min(run.tree);
        self.rules = self.rules.min(run.rules);
        self.added = self.added.min(run.added);
    }
}

/// What a shape is measured with.
struct Case {
    index: Index,
    exclude: GlobSet,
    appspec: String,
}

impl Case {
    fn make(shape: &Shape) -> Result<Self, Box<dyn Error>> {
        let mut names = vec!["appspec.yml".to_owned()];
        names.extend((1..ENTRIES).map(&shape.names));
        Ok(Self {
            index: Index::Zip(Arc::new(read(&zip(&names)?)?)),
            exclude: globs(&shape.exclude)?,
            appspec: format!("version: 0.0\nos: linux\n{}", shape.appspec),
        })
    }

    fn run(&self) -> Result<Times, Box<dyn Error>> {
        let choice = Choice {
            application_root: "",
            exclude: &self.exclude,
            format: ArchiveFormat::Zip,
        };
        let lap = |started: Instant| started.elapsed().as_secs_f64() * 1e3;
        let started = Instant::now();
        let contents =
            choose_contents(&self.index, &choice).map_err(|refused| format!("{refused:?}"))?;
        let contents = black_box(contents);
        let choose = lap(started);
        let started = Instant::now();
        let bundle = black_box(Bundle::new(&self.index, &contents));
        let tree = lap(started);
        let started = Instant::now();
        let appspec = AppSpec::read(self.appspec.as_bytes(), "appspec.yml")
            .map_err(|refused| format!("{refused:?}"))?;
        let known = Known::new();
        black_box(wanted(&bundle, &appspec, &known));
        black_box(check(&bundle, Ok(&appspec), &known, &Options::default()));
        let rules = lap(started);
        Ok(Times {
            choose,
            tree,
            rules,
            added: tree + rules,
        })
    }
}
