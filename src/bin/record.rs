//! The `record` function: what became of a deployment is recorded, and the next build goes.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    stagedrop::entry::run_to_exit(stagedrop::entry::record()).await
}
