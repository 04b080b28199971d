//! The sample application of the demo: a small but real repository, zipped as a CI job would zip it.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;

/// `circle.yml` at the repository's root: CircleCI 1.0's words, unchanged.
pub const CIRCLE_YML: &str = "\
machine:
  node:
    version: 6.9.1
test:
  override:
    - npm test
deployment:
  production:
    branch: master
    codedeploy:
      shop:
        application_root: /app
        deployment_group: production-instances
        deployment_config: CodeDeployDefault.OneAtATime
";

/// The project's settings, owned by whoever owns the bucket.
pub const SETTINGS: &str = "\
codedeploy:
  shop:
    revision_location:
      revision_type: S3
      s3_location:
        bucket: stagedrop-revisions
        key_pattern: apps/shop-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}
";

const APPSPEC: &str = "\
version: 0.0
os: linux
files:
  - source: /
    destination: /srv/shop
hooks:
  AfterInstall:
    - location: scripts/after_install.sh
      timeout: 60
";

const GOOD_SCRIPT: &str = "#!/bin/sh\necho \"build $DEPLOYMENT_ID installed\"\n";
const BAD_SCRIPT: &str = "#!/bin/sh\necho 'migrating the database'\necho 'error: column \"price\" does not exist' >&2\nexit 3\n";

/// The repository's zip; its hook fails where `breaks` says so.
pub fn repository(build_num: u32, breaks: bool) -> Result<Vec<u8>, ZipError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let plain = SimpleFileOptions::default().unix_permissions(0o644);
    let script = SimpleFileOptions::default().unix_permissions(0o755);
    let page = format!("<!doctype html>\n<title>shop</title>\n<p>build {build_num}</p>\n");
    let style = "body { font-family: sans-serif }\n".repeat(400);
    let hook = if breaks { BAD_SCRIPT } else { GOOD_SCRIPT };
    zip.add_directory(".git/", script)?;
    let files = [
        (".git/HEAD", "ref: refs/heads/master\n", plain),
        (".git/config", "[core]\n\tbare = false\n", plain),
        (".git/objects/pack/pack-1.pack", "PACK", plain),
        ("README.md", "# shop\n", plain),
        ("circle.yml", CIRCLE_YML, plain),
        ("app/appspec.yml", APPSPEC, plain),
        ("app/public/index.html", page.as_str(), plain),
        ("app/public/style.css", style.as_str(), plain),
        ("app/public/caf\u{e9}.html", "<p>caf\u{e9}</p>\n", plain),
        ("app/bin/serve", "#!/bin/sh\nexec true\n", script),
        ("app/scripts/after_install.sh", hook, script),
        ("docs/deploying.md", "Push to master.\n", plain),
    ];
    for (name, content, options) in files {
        zip.start_file(name, options)?;
        zip.write_all(content.as_bytes()).map_err(ZipError::Io)?;
    }
    zip.add_directory("app/log/", script)?;
    zip.add_symlink("app/public/start.html", "index.html", plain)?;
    Ok(zip.finish()?.into_inner())
}
