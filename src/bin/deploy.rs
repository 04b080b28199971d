//! The `deploy` function: a staged artifact becomes a revision and a deployment.

#[tokio::main(flavor = "multi_thread")]
async fn main() -> std::process::ExitCode {
    stagedrop::entry::run_to_exit(stagedrop::entry::deploy()).await
}
