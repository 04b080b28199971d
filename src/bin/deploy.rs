//! The `deploy` function: a staged artifact becomes a revision and a deployment.

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    stagedrop::entry::deploy().await
}
