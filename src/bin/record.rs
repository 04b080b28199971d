//! The `record` function: what became of a deployment is recorded, and the next build goes.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    stagedrop::entry::record().await
}
