use serde_json::json;

use super::*;

fn policy(statements: Value) -> Policy {
    Policy::read(&json!({ "Version": "2012-10-17", "Statement": statements })).unwrap()
}

fn read_only() -> Policy {
    policy(json!([{
        "Sid": "Read", "Effect": "Allow", "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": "arn:aws:s3:::bucket/staging/*",
    }]))
}

#[test]
fn ok_wildcards_stand_for_any_text_and_any_character() {
    for (pattern, text, fits) in [
        ("", "", true),
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abbcd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*b*", "abc", true),
        ("a", "ab", false),
        ("arn:*:x/*/y", "arn:aws:x/a/b/y", true),
        ("s3.*.amazonaws.com", "s3.us-east-1.amazonaws.com", true),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
    // Many wildcards must not take exponential time.
    assert!(!matches(&"*a".repeat(200), &"b".repeat(2_000)));
}

#[test]
fn ok_what_no_statement_allows_is_missing() {
    let policy = read_only();
    assert!(policy.allows(&Need::new(
        "s3:GetObject",
        "arn:aws:s3:::bucket/staging/a/b"
    )));
    assert!(policy.allows(&Need::new("S3:getobject", "arn:aws:s3:::bucket/staging/a")));
    for (action, resource) in [
        ("s3:GetObject", "arn:aws:s3:::bucket/records/a"),
        ("s3:GetObject", "arn:aws:s3:::Bucket/staging/a"),
        ("s3:PutObject", "arn:aws:s3:::bucket/staging/a"),
        ("s3:ListBucket", "arn:aws:s3:::bucket"),
    ] {
        assert!(
            !policy.allows(&Need::new(action, resource)),
            "{action} {resource}"
        );
    }
}

#[test]
fn ok_a_denial_wins() {
    let policy = policy(json!([
        { "Sid": "All", "Effect": "Allow", "Action": "s3:*", "Resource": "*" },
        { "Sid": "Not", "Effect": "Deny", "Action": "s3:Put*", "Resource": "*secret*" },
    ]));
    assert!(policy.allows(&Need::new("s3:PutObject", "arn:aws:s3:::bucket/a")));
    assert!(!policy.allows(&Need::new("s3:PutObject", "arn:aws:s3:::bucket/secret")));
    assert!(policy.allows(&Need::new("s3:GetObject", "arn:aws:s3:::bucket/secret")));
}

#[test]
fn ok_conditions_look_at_the_context() {
    let policy = policy(json!([{
        "Sid": "Key", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "key",
        "Condition": { "StringLike": { "kms:ViaService": "s3.*.amazonaws.com" } },
    }]));
    let via = |service: &str| Need {
        context: Context::from([("kms:ViaService", service.to_owned())]),
        ..Need::new("kms:Decrypt", "key")
    };
    assert!(policy.allows(&via("s3.eu-west-1.amazonaws.com")));
    assert!(!policy.allows(&via("sqs.eu-west-1.amazonaws.com")));
    assert!(!policy.allows(&Need::new("kms:Decrypt", "key")));
}

#[test]
fn ok_rights_without_need_are_told_by_statement() {
    let policy = read_only();
    let needs = [Need::new("s3:GetObject", "arn:aws:s3:::bucket/staging/a")];
    assert_eq!(
        policy.idle(&needs).into_iter().collect::<Vec<_>>(),
        ["Read: s3:GetObjectVersion"]
    );
    // A need elsewhere does not excuse the right here.
    let needs = [Need::new("s3:GetObjectVersion", "arn:aws:s3:::other/a")];
    assert_eq!(policy.idle(&needs).len(), 2);
}

#[test]
fn ok_of_rights_of_which_one_suffices_the_other_is_without_need() {
    let either = Need {
        actions: vec![
            "codedeploy:RegisterApplicationRevision",
            "codedeploy:GetApplicationRevision",
        ],
        ..Need::new("", "app")
    };
    let with = |actions: &[&str]| {
        policy(json!([{ "Sid": "S", "Effect": "Allow", "Action": actions, "Resource": "app" }]))
    };
    let get = with(&["codedeploy:GetApplicationRevision"]);
    assert!(get.allows(&either) && get.idle([&either]).is_empty());
    let both = with(&[
        "codedeploy:GetApplicationRevision",
        "codedeploy:RegisterApplicationRevision",
    ]);
    assert_eq!(
        both.idle([&either]).into_iter().collect::<Vec<_>>(),
        ["S: codedeploy:GetApplicationRevision"]
    );
}

#[test]
fn err_what_is_not_judged_here_is_refused() {
    for (statement, message) in [
        (json!({ "Effect": "Allow" }), "statement 0 has no Sid"),
        (
            json!({ "Sid": "S", "Effect": "Allow", "NotAction": "s3:*", "Resource": "*" }),
            "statement `S` uses `NotAction`, which is not judged here",
        ),
        (
            json!({ "Sid": "S", "Effect": "Allow", "Action": "s3:*", "Resource": "*",
                    "Condition": { "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } } }),
            "statement `S` uses `IpAddress`, which is not judged here",
        ),
        (
            json!({ "Sid": "S", "Effect": "Allow", "Action": "s3:*" }),
            "policy has no readable `Resource`",
        ),
    ] {
        let error = Policy::read(&json!({ "Statement": [statement] })).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
