//! A function that does nothing, with the same runtime and the same SDK clients as ours: what the start-up of
//! `deploy` and `record` is measured against (`startup.rs`).

use aws_config::BehaviorVersion;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().json().init();
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client)
        .load()
        .await;
    let s3 = &aws_sdk_s3::Client::new(&config);
    let codedeploy = &aws_sdk_codedeploy::Client::new(&config);
    run(service_fn(|_: LambdaEvent<Value>| async move {
        // The clients are used, so that their operations are linked.
        s3.list_buckets().send().await?;
        codedeploy.list_applications().send().await?;
        Ok::<Value, Error>(json!({}))
    }))
    .await
}
