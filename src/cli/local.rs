//! `stagedrop local`: the embedded AWS, staying up for uploads of one's own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use stagedrop::local::Options;
use stagedrop::local::codedeploy::Progress;

use super::world::{BUCKET, REVISIONS, World};

/// How long a deployment stays in each of its states: long enough to see a build wait.
const STEP: Duration = Duration::from_millis(500);
/// How often the schedule ticks.
const SCHEDULE: Duration = Duration::from_secs(60);

/// Runs S3, CodeDeploy and both functions here until it is interrupted.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop local --data /tmp/instances --port 4570 --application my-app/production"
)]
pub struct Arguments {
    /// Folder that deployments install into; a temporary one where not given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of S3 and CodeDeploy.
    #[arg(long, value_name = "N", default_value_t = 4570)]
    port: u16,
    /// Run the hook scripts of deployed bundles, as you.
    #[arg(long)]
    run_hooks: bool,
    /// Application and deployment group to begin with; may be given several times.
    #[arg(
        long = "application",
        value_name = "APPLICATION/GROUP",
        default_value = "my-app/production-instances"
    )]
    applications: Vec<String>,
}

/// Stays up until Ctrl-C.
pub async fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let options = Options {
        data: arguments.data,
        port: arguments.port,
        run_hooks: arguments.run_hooks,
        progress: Progress::Automatic { step: STEP },
        schedule: Some(SCHEDULE),
        ..Options::default()
    };
    let world = World::start(options, true).await?;
    let mut made: Vec<&str> = Vec::new();
    for name in &arguments.applications {
        let (application, group) = name.split_once('/').ok_or_else(|| {
            format!("`{name}` is not APPLICATION/GROUP, such as my-app/production")
        })?;
        if made.contains(&application) {
            world
                .aws
                .create_deployment_group(application, group)
                .map_err(|error| error.to_string())?;
        } else {
            world.create_application(application, &[group])?;
            made.push(application);
            world.put(
                &format!("settings/{application}.yml"),
                settings(application, group).into_bytes(),
                &[],
            )?;
        }
    }
    let endpoint = world.aws.endpoint();
    let application = made.first().copied().unwrap_or("my-app");
    anstream::println!("S3 and CodeDeploy   {endpoint}  (any credentials, region us-east-1)");
    anstream::println!("settings            s3://{BUCKET}/settings/{application}.yml");
    anstream::println!("revisions           s3://{REVISIONS}/");
    anstream::println!("records             s3://{BUCKET}/records/");
    anstream::println!("instances           {}", world.aws.data().display());
    anstream::println!("\nupload a build of branch master:\n");
    anstream::println!(
        "  AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x aws --region us-east-1 --endpoint-url {endpoint} \\\n    s3 cp app.zip s3://{BUCKET}/staging/{application}/master/1-$(git rev-parse HEAD).zip\n"
    );
    anstream::println!("Ctrl-C ends it; nothing is kept but what was installed under --data.");
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| format!("Ctrl-C cannot be heard: {error}"))?;
    world.aws.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Settings to begin with: every branch to the first group.
fn settings(application: &str, group: &str) -> String {
    format!(
        "codedeploy:\n  {application}:\n    application_root: /\n    revision_location:\n      revision_type: S3\n      s3_location:\n        bucket: {REVISIONS}\n        key_pattern: {application}/{{BRANCH}}-{{SHORT_COMMIT}}-{{BUILD_NUM}}\ndeployment:\n  every-branch:\n    branch: /.*/\n    codedeploy:\n      {application}:\n        deployment_group: {group}\n"
    )
}
