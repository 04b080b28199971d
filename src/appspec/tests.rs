use proptest::prelude::*;

use super::psych::Ruby;
use super::*;
use crate::deployment::{ComputePlatform, FileExistsBehavior};

const HEAD: &str = "version: 0.0\nos: linux\n";

fn read(text: &str) -> Result<AppSpec, Vec<Finding>> {
    AppSpec::read(text.as_bytes(), "appspec.yml")
}

/// What a Server AppSpec with these lines after `version` and `os` is refused for.
fn refused(rest: &str) -> Vec<String> {
    match read(&format!("{HEAD}{rest}")) {
        Ok(appspec) => panic!("accepted: {rest}\n{appspec:?}"),
        Err(findings) => findings
            .into_iter()
            .filter(Finding::refuses)
            .map(|finding| {
                assert_eq!(finding.path.as_deref(), Some("appspec.yml"));
                finding.code
            })
            .collect(),
    }
}

fn accepted(rest: &str) -> (Server, Vec<String>) {
    let appspec = match read(&format!("{HEAD}{rest}")) {
        Ok(appspec) => appspec,
        Err(findings) => panic!("refused: {rest}\n{findings:?}"),
    };
    let warnings = appspec.warnings.iter().map(|w| w.code.clone()).collect();
    let Content::Server(server) = appspec.content else {
        panic!("not a server's: {rest}")
    };
    (server, warnings)
}

fn ruby(text: &str) -> Result<Ruby, psych::Refused> {
    let node = yaml::parse(text.as_bytes(), &LIMITS).unwrap().remove(0);
    psych::to_ruby(&node, &mut Vec::new()).map(|value| value.ruby)
}

fn int(number: i128, written: &str) -> Ruby {
    Ruby::Int(number, written.to_owned())
}

#[test]
fn ok_scalars_have_the_types_that_ruby_gives_them() {
    let text = |text: &str| Ruby::Text(text.to_owned());
    let float = |number: f64, written: &str| Ruby::Float(number, written.to_owned());
    for (yaml, expected) in [
        ("~", Ruby::Nil),
        ("NULL", Ruby::Nil),
        ("yes", Ruby::Bool(true)),
        ("Off", Ruby::Bool(false)),
        ("y", text("y")),
        ("0.0", float(0.0, "0.0")),
        ("-0.0", float(-0.0, "-0.0")),
        (".5", float(0.5, ".5")),
        ("1.", float(1.0, "1.")),
        ("1.5e+3", float(1_500.0, "1.5e+3")),
        ("1e3", text("1e3")),
        (".", text(".")),
        ("0.0.0", text("0.0.0")),
        ("0644", int(420, "0644")),
        ("644", int(644, "644")),
        ("0899", text("0899")),
        ("0x1F", int(31, "0x1F")),
        ("0b101", int(5, "0b101")),
        ("-12", int(-12, "-12")),
        ("1_000", int(1_000, "1_000")),
        ("1,000", int(1_000, "1,000")),
        ("1:30", int(5_400, "1:30")),
        ("1:02:03", int(3_723, "1:02:03")),
        ("1:99", text("1:99")),
        (":name", Ruby::Symbol("name".to_owned())),
        ("\"0.0\"", text("0.0")),
        ("'yes'", text("yes")),
        ("|-\n  12", text("12")),
        ("!!str 12", text("12")),
        ("! 12", int(12, "12")),
        ("!!float 0", float(0.0, "0")),
        ("!local 12", int(12, "12")),
        ("-x", text("-x")),
        ("2026-13-01", text("2026-13-01")),
        ("/srv/app", text("/srv/app")),
        ("\\index", text("\\index")),
    ] {
        assert_eq!(ruby(yaml), Ok(expected), "{yaml}");
    }
}

#[test]
fn err_what_safe_load_refuses() {
    for yaml in [
        "2026-11-22",
        "2026-1-2",
        "2026-11-22 10:00:00",
        "2026-11-22T10:00:00.5Z",
        "2026-11-22 1:00:00 +01:30",
    ] {
        assert!(
            matches!(ruby(yaml), Err(psych::Refused::Date(..))),
            "{yaml}"
        );
    }
    for yaml in [
        "!ruby/object:OpenStruct {}",
        "!ruby/regexp /x/",
        "!!set {a}",
        "!!binary eA==",
    ] {
        assert!(matches!(ruby(yaml), Err(psych::Refused::Tag(..))), "{yaml}");
    }
    assert!(matches!(ruby("[&a x, *a]"), Err(psych::Refused::Alias(..))));
}

#[test]
fn ok_ruby_reads_the_number_in_front_of_a_text() {
    for (text, number) in [
        ("30", 30),
        (" 30s", 30),
        ("abc", 0),
        ("-5", -5),
        ("1_0", 10),
        ("1__0", 1),
    ] {
        assert_eq!(psych::to_i(text), number, "{text}");
    }
}

#[test]
fn ok_a_whole_server_appspec() {
    let (server, warnings) = accepted(
        "file_exists_behavior: OVERWRITE\n\
         files:\n  - source: /\n    destination: /srv/app\n\
         permissions:\n  - object: /srv/app\n    pattern: '*.sh'\n    except: [a.sh]\n    mode: 755\n    \
         owner: root\n    group: www-data\n    type: [file]\n    acls: ['u:www-data:rw', 'd:g:dev:7']\n    \
         context: {type: httpd_t, range: 's0-s3:c0.c2,c5'}\n\
         hooks:\n  AfterInstall:\n    - location: ' scripts/a.sh '\n      timeout: '30'\n      runas: deploy\n    \
         - location: 1\n",
    );
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(server.os, OperatingSystem::Linux);
    assert_eq!(
        server.file_exists_behavior,
        Some(FileExistsBehavior::Overwrite)
    );
    assert_eq!(
        (
            server.files[0].source.as_str(),
            server.files[0].destination.as_str()
        ),
        ("/", "/srv/app")
    );
    let permission = &server.permissions[0];
    assert_eq!(permission.mode.as_deref(), Some("755"));
    assert!(permission.files && !permission.directories && permission.has_context);
    assert_eq!(
        permission
            .acls
            .iter()
            .map(|ace| ace.is_default)
            .collect::<Vec<_>>(),
        [false, true]
    );
    let scripts = server.scripts("AfterInstall");
    assert_eq!(
        (scripts[0].location.as_str(), scripts[0].timeout_seconds),
        ("scripts/a.sh", 30)
    );
    assert_eq!(scripts[0].runas.as_deref(), Some("deploy"));
    assert_eq!(
        (scripts[1].location.as_str(), scripts[1].timeout_given),
        ("1", false)
    );
    assert!(server.scripts("BeforeInstall").is_empty());
}

#[test]
fn ok_versions_that_equal_zero_and_errs_that_do_not() {
    for version in ["0.0", "-0.0", "0", "0x0", ".0", "0.00"] {
        assert!(
            read(&format!("version: {version}\nos: linux")).is_ok(),
            "{version}"
        );
    }
    for version in ["\"0.0\"", "1.0", "0.0.0", "", "[0.0]", "v0"] {
        let findings = read(&format!("version: {version}\nos: linux")).unwrap_err();
        assert_eq!(findings[0].code, "appspec-version", "{version}");
    }
    assert_eq!(read("os: linux").unwrap_err()[0].code, "appspec-version");
}

#[test]
fn err_documents_that_are_no_appspec() {
    for (text, code) in [
        ("", "appspec-empty"),
        ("# nothing\n", "appspec-empty"),
        ("false", "appspec-empty"),
        ("just text", "appspec-not-a-mapping"),
        ("- version: 0.0", "appspec-not-a-mapping"),
        ("\u{feff}version: 0.0\nos: linux", "appspec-encoding"),
        ("version: 0.0\nos: \0linux", "appspec-encoding"),
        (
            "version: 0.0\nos: linux\n# bell \u{7}\n",
            "appspec-encoding",
        ),
        ("\u{feff}---\nversion: 0.0\nos: linux", "appspec-encoding"),
        // The first document ends where the indentation does.
        (" version: 0.0\nos: linux", "appspec-second-document"),
        ("version: 0.0\nos: linux\nx: {a\n b: c}", "appspec-syntax"),
        ("version: !!float \"none\"\nos: linux", "appspec-tag"),
        (
            "version: 0.0\nos: linux\nhooks:\n\tAfterInstall:",
            "appspec-syntax",
        ),
        ("version: 0.0\nos: linux\nx: [", "appspec-syntax"),
        ("version: 0.0\nos: linux\nx: *nothing", "appspec-alias"),
        ("version: 0.0\nos: linux\nx: &a 1\ny: *a", "appspec-alias"),
        (
            "version: 0.0\nos: linux\nb: &a {c: 1}\nd: {<<: *a}",
            "appspec-alias",
        ),
        ("version: 0.0\nos: linux\nbuilt: 2026-11-22", "appspec-date"),
        (
            "version: 0.0\nos: linux\nx: !ruby/object:A {}",
            "appspec-tag",
        ),
        ("version: 0.0\nos: Linux", "appspec-os"),
        ("version: 0.0", "appspec-os"),
    ] {
        let findings = read(text).unwrap_err();
        assert_eq!(findings[0].code, code, "{text:?}: {}", findings[0]);
        assert!(findings.iter().any(Finding::refuses));
    }
    assert_eq!(
        AppSpec::read(b"\xff\xfev\0", "a").unwrap_err()[0].code,
        "appspec-encoding"
    );
    let large = vec![b'#'; LIMITS.bytes_max + 1];
    assert_eq!(
        AppSpec::read(&large, "a").unwrap_err()[0].code,
        "appspec-too-large"
    );
    let levels = LIMITS.depth_max + 1;
    let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(read(&deep).unwrap_err()[0].code, "appspec-too-complex");
    let many = "- a\n".repeat(LIMITS.events_max + 1);
    assert_eq!(read(&many).unwrap_err()[0].code, "appspec-too-complex");
}

#[test]
fn ok_what_only_bites_is_warned_of() {
    for (rest, code) in [
        ("hook: {}\n", "appspec-unknown-key"),
        ("Hooks: {}\n", "appspec-unknown-key"),
        ("files: []\nfiles: []\n", "appspec-duplicate-key"),
        ("---\nother: document\n", "appspec-second-document"),
        ("---\n: : [ no YAML\n", "appspec-second-document"),
        ("...\n@\n", "appspec-second-document"),
        ("hooks: {Install: [{location: a}]}\n", "hook-reserved"),
        (
            "hooks: {BeforeAllowTraffic: [{location: a}]}\n",
            "hook-needs-load-balancer",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: 3601}]}\n",
            "hook-timeout-over-hour",
        ),
        (
            "permissions: [{object: /a, mode: 0644}]\n",
            "permission-mode-unquoted",
        ),
    ] {
        assert_eq!(accepted(rest).1, [code], "{rest}");
    }
    let two_defaults = "hooks: {AfterInstall: [{location: a}, {location: b}]}\n";
    assert!(accepted(two_defaults).1.is_empty());
    let (server, _) = accepted("permissions: [{object: /a, mode: 0644}]\n");
    assert_eq!(server.permissions[0].mode.as_deref(), Some("420"));
}

#[test]
fn ok_json_may_be_followed_by_what_is_none() {
    for rest in ["}", ",", "]"] {
        let text = format!("{{\"version\": 0.0, \"os\": \"linux\"}}{rest}\n");
        let appspec = read(&text).unwrap();
        assert_eq!(
            appspec.warnings[0].code, "appspec-second-document",
            "{rest}"
        );
    }
}

#[test]
fn ok_a_byte_order_mark_before_a_line_without_a_key_is_only_warned_of() {
    for first_line in ["# AppSpec", ""] {
        let appspec = read(&format!("\u{feff}{first_line}\nversion: 0.0\nos: linux\n")).unwrap();
        assert_eq!(appspec.warnings[0].code, "appspec-byte-order-mark");
    }
}

#[test]
fn ok_the_non_specific_tag_leaves_a_scalar_plain() {
    assert_eq!(ruby("! '0.0'"), Ok(Ruby::Float(0.0, "0.0".to_owned())));
    assert_eq!(ruby("!!int '7'"), Ok(int(7, "7")));
}

#[test]
fn ok_of_a_key_twice_the_last_one_counts() {
    let appspec = read("version: 1.0\nversion: 0.0\nos: linux").unwrap();
    assert_eq!(appspec.warnings[0].line, Some(2));
    assert!(appspec.warnings[0].message.contains("first in line 1"));
}

#[test]
fn ok_what_ruby_takes_for_empty() {
    assert!(
        accepted("permissions: [{object: /a, acls: {}}]\n")
            .1
            .is_empty()
    );
    for rest in [
        "files:\nhooks:\npermissions:\n",
        "files: {}\npermissions: {}\nhooks: {}\n",
        "files: false\nhooks: false\n",
        "hooks: {AfterInstal: }\n",
        "hooks: {AfterInstall: {}}\n",
        "file_exists_behavior: ~\n",
    ] {
        let (server, warnings) = accepted(rest);
        assert!(
            server.files.is_empty() && server.permissions.is_empty(),
            "{rest}"
        );
        assert!(warnings.is_empty(), "{rest}: {warnings:?}");
    }
}

#[test]
fn err_each_rule_of_the_agent_has_its_code() {
    for (rest, code) in [
        (
            "file_exists_behavior: overwrite\n",
            "appspec-file-exists-behavior",
        ),
        (
            "file_exists_behavior: false\n",
            "appspec-file-exists-behavior",
        ),
        ("files: text\n", "files-not-a-list"),
        ("files: {source: a, destination: b}\n", "files-not-a-list"),
        ("files: [a]\n", "files-not-a-list"),
        ("files: [{destination: /a}]\n", "files-source-invalid"),
        (
            "files: [{source: 1, destination: /a}]\n",
            "files-source-invalid",
        ),
        (
            "files: [{source: \"\\0\", destination: /a}]\n",
            "files-source-invalid",
        ),
        ("files: [{source: a}]\n", "files-destination-invalid"),
        ("hooks: [AfterInstall]\n", "hooks-not-a-mapping"),
        ("hooks: ''\n", "hooks-not-a-mapping"),
        ("hooks: {AfterInstall: {location: a}}\n", "hook-not-a-list"),
        ("hooks: {AfterInstall: [a.sh]}\n", "hook-not-a-list"),
        ("hooks: {afterinstall: [{location: a}]}\n", "hook-unknown"),
        ("hooks: {AfterInstal: []}\n", "hook-unknown"),
        ("hooks: {BlockTraffic: [{location: a}]}\n", "hook-unknown"),
        ("hooks: {:AfterInstall: [{location: a}]}\n", "hook-unknown"),
        (
            "hooks: {AfterInstall: [{timeout: 3}]}\n",
            "hook-location-missing",
        ),
        (
            "hooks: {AfterInstall: [{location: ' '}]}\n",
            "hook-location-missing",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: 0}]}\n",
            "hook-timeout-invalid",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: -5}]}\n",
            "hook-timeout-invalid",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: 0.5}]}\n",
            "hook-timeout-invalid",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: soon}]}\n",
            "hook-timeout-invalid",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: .inf}]}\n",
            "hook-timeout-invalid",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: [1]}]}\n",
            "hook-timeout-invalid",
        ),
        (
            "hooks: {AfterInstall: [{location: a, timeout: true}]}\n",
            "hook-timeout-invalid",
        ),
        ("permissions: {object: /a}\n", "permissions-not-a-list"),
        ("permissions: [/a]\n", "permissions-not-a-list"),
        ("permissions: [{mode: 644}]\n", "permission-object-missing"),
        (
            "permissions: [{object: ' '}]\n",
            "permission-object-missing",
        ),
        (
            "permissions: [{object: /a, mode: 77777}]\n",
            "permission-mode-invalid",
        ),
        (
            "permissions: [{object: /a, mode: 0755}]\n",
            "permission-mode-invalid",
        ),
        (
            "permissions: [{object: /a, mode: u+x}]\n",
            "permission-mode-invalid",
        ),
        (
            "permissions: [{object: /a, mode: 648}]\n",
            "permission-mode-invalid",
        ),
        (
            "permissions: [{object: /a, mode: 64.0}]\n",
            "permission-mode-invalid",
        ),
        (
            "permissions: [{object: /a, type: file}]\n",
            "permission-type-invalid",
        ),
        (
            "permissions: [{object: /a, type: [link]}]\n",
            "permission-type-invalid",
        ),
        (
            "permissions: [{object: /a, pattern: 5}]\n",
            "permission-pattern-invalid",
        ),
        (
            "permissions: [{object: /a, except: x}]\n",
            "permission-pattern-invalid",
        ),
        (
            "permissions: [{object: /a, owner: 1000}]\n",
            "permission-owner-invalid",
        ),
        (
            "permissions: [{object: /a, owner: ''}]\n",
            "permission-owner-invalid",
        ),
        (
            "permissions: [{object: /a, acls: false}]\n",
            "permission-acl-invalid",
        ),
        (
            "permissions: [{object: /a, group: [x]}]\n",
            "permission-owner-invalid",
        ),
        (
            "permissions: [{object: /a, acls: 'u:a:rw'}]\n",
            "permission-acl-invalid",
        ),
        (
            "permissions: [{object: /a, acls: [5]}]\n",
            "permission-acl-invalid",
        ),
        (
            "permissions: [{object: /a, context: x}]\n",
            "permission-context-invalid",
        ),
        (
            "permissions: [{object: /a, context: {range: s0}}]\n",
            "permission-context-invalid",
        ),
        (
            "permissions: [{object: /a, context: {type: t}}]\n",
            "permission-context-invalid",
        ),
        (
            "permissions: [{object: /a, context: {type: t, range: 0}}]\n",
            "permission-context-invalid",
        ),
    ] {
        assert_eq!(refused(rest), [code], "{rest}");
    }
    let windows = "version: 0.0\nos: windows\npermissions: [{object: /a}, {object: /b}]\n";
    assert_eq!(read(windows).unwrap_err()[0].code, "permissions-on-windows");
    assert_eq!(read(windows).unwrap_err().len(), 1);
}

#[test]
fn ok_acl_entries_as_the_agent_reads_them_and_errs() {
    let acl = |entry: &str| format!("permissions: [{{object: /a, acls: ['{entry}']}}]\n");
    for (entry, is_default) in [
        ("u:a:rwx", false),
        ("user:a:-", false),
        ("a:7", false),
        ("g:dev:r", false),
        ("m:rw", false),
        ("mask::rw", false),
        ("d:u:a:rw", true),
        ("default:a:rw", true),
        ("d:u::rw", true),
        ("d:o::r", true),
        ("d:m:r", true),
    ] {
        let (server, _) = accepted(&acl(entry));
        assert_eq!(
            server.permissions[0].acls[0].is_default, is_default,
            "{entry}"
        );
    }
    for entry in [
        "zzz",
        "u::rw",
        "o:rw",
        "g::r",
        "u:a:q",
        "u:a:8",
        "x:a:rw",
        "a:b:c:d:e",
        "x:u:a:rw",
        "d:d:a:rw",
        "m:name:rw",
        ":rw",
    ] {
        assert_eq!(refused(&acl(entry)), ["permission-acl-invalid"], "{entry}");
    }
}

#[test]
fn ok_selinux_ranges_as_the_agent_reads_them_and_errs() {
    let range = |range: &str| {
        format!("permissions: [{{object: /a, context: {{type: t, range: '{range}'}}}}]\n")
    };
    for good in [
        "s0",
        "s0-s15",
        "s0:c0",
        "s0:c0.c1023",
        "s1-s2:c1,c3.c5",
        "s0:,",
        "s0:c1,",
    ] {
        accepted(&range(good));
    }
    for bad in [
        "x0",
        "s",
        "s1-s0",
        "s0:",
        "s0-",
        "s0:x1",
        "s0:c1024",
        "s0:c5.c3",
        "s0:c1,c1",
        "s0:c1.c3,c2",
        "s0:c1,,c2",
        "s0:,c1",
    ] {
        assert_eq!(
            refused(&range(bad)),
            ["permission-context-invalid"],
            "{bad}"
        );
    }
}

#[test]
fn ok_patterns_look_at_names_directly_in_the_folder() {
    let permission = |pattern: &str, except: &[&str]| {
        let (server, _) = accepted(&format!(
            "permissions: [{{object: /srv, pattern: '{pattern}', except: [{}]}}]\n",
            except.join(", ")
        ));
        server.permissions[0].clone()
    };
    let all = permission("**", &["a.sh"]);
    assert!(all.meets("/srv", "/srv/x/y") && all.meets("/srv", "/srv/x/a.sh"));
    assert!(
        !all.meets("/srv", "/srv")
            && !all.meets("/srv", "/srvx/y")
            && !all.meets("/srv", "/srv/a.sh")
    );
    assert!(permission("**", &[]).meets("/", "/x"));
    for (pattern, name, meets) in [
        ("*.sh", "a.sh", true),
        ("*.sh", "x/a.sh", false),
        ("a*b*c", "a-bb-c", true),
        ("a*b*c", "a-c", false),
        ("a", "a", true),
        ("a", "ab", false),
        ("*", "anything", true),
        ("*a", "aa", true),
        ("ab*ba", "aba", false),
    ] {
        let path = format!("/srv/{name}");
        assert_eq!(
            permission(pattern, &[]).meets("/srv", &path),
            meets,
            "{pattern} {name}"
        );
    }
}

const LAMBDA: &str = "version: 0.0\nResources:\n  - myFunction:\n      Type: AWS::Lambda::Function\n      \
                      Properties:\n        Name: f\n        Alias: live\n        CurrentVersion: \"1\"\n        \
                      TargetVersion: 2\nHooks:\n  - BeforeAllowTraffic: check\n";
const ECS: &str = "version: 0.0\nResources:\n  - TargetService:\n      Type: AWS::ECS::Service\n      \
                   Properties:\n        TaskDefinition: arn:aws:ecs:x\n        LoadBalancerInfo:\n          \
                   ContainerName: web\n          ContainerPort: 80\nHooks:\n  - AfterAllowTestTraffic: check\n";

#[test]
fn ok_lambda_and_ecs_in_both_spellings() {
    let lambda = read(LAMBDA).unwrap();
    assert_eq!(
        (lambda.platform(), lambda.is_json),
        (ComputePlatform::Lambda, false)
    );
    assert!(lambda.warnings.is_empty() && lambda.server().is_none());
    let Content::Lambda(content) = &lambda.content else {
        panic!()
    };
    assert_eq!(content.hooks[0].event, "BeforeAllowTraffic");
    let ecs = read(ECS).unwrap();
    assert_eq!(ecs.platform(), ComputePlatform::Ecs);
    assert!(ecs.warnings.is_empty());
    for text in [LAMBDA, ECS] {
        let lower = text
            .replace("Resources", "resources")
            .replace("Properties", "properties")
            .replace("Name:", "name:")
            .replace("Hooks", "hooks")
            .replace("Type", "type");
        assert_eq!(
            read(&lower).unwrap().platform(),
            read(text).unwrap().platform()
        );
    }
    let json = "{\"version\": 0.0, \"Resources\": [{\"a\": {\"Type\": \"AWS::Lambda::Function\", \"Properties\": \
                {\"Name\": \"f\", \"Alias\": \"a\", \"CurrentVersion\": \"1\", \"TargetVersion\": \"2\"}}}]}";
    assert!(read(json).unwrap().is_json);
    assert_eq!(ComputePlatform::Ecs.to_string(), "ECS");
}

#[test]
fn err_lambda_and_ecs_rules_have_their_codes() {
    for (text, from, to, code) in [
        (LAMBDA, "version: 0.0", "version: 1.0", "appspec-version"),
        (LAMBDA, "Alias: live", "Alias:", "resource-property-missing"),
        (
            LAMBDA,
            "Alias: live",
            "Alia: live",
            "resource-property-missing",
        ),
        (
            LAMBDA,
            "TargetVersion: 2",
            "TargetVersion: $LATEST",
            "resource-property-invalid",
        ),
        (
            LAMBDA,
            "AWS::Lambda::Function",
            "AWS::S3::Bucket",
            "resource-type-unknown",
        ),
        (
            LAMBDA,
            "  - myFunction:",
            "  - x: {}\n  - myFunction:",
            "resources-not-one",
        ),
        (
            LAMBDA,
            "BeforeAllowTraffic",
            "BeforeInstall",
            "hook-unknown",
        ),
        (
            LAMBDA,
            "BeforeAllowTraffic: check",
            "BeforeAllowTraffic:",
            "hook-function-missing",
        ),
        (
            LAMBDA,
            "- BeforeAllowTraffic: check",
            "- check",
            "hooks-not-a-list",
        ),
        (
            ECS,
            "ContainerPort: 80",
            "ContainerPort: 70000",
            "resource-property-invalid",
        ),
        (
            ECS,
            "arn:aws:ecs:x",
            "<TASK_DEFINITION>",
            "resource-property-invalid",
        ),
        (
            ECS,
            "LoadBalancerInfo",
            "LoadBalancer",
            "resource-property-missing",
        ),
    ] {
        let findings = read(&text.replace(from, to)).unwrap_err();
        assert!(
            findings
                .iter()
                .any(|finding| finding.refuses() && finding.code == code),
            "{to}: {findings:?}"
        );
    }
    for (text, from, to, code) in [
        (
            LAMBDA,
            "version: 0.0",
            "version: \"0.0\"",
            "appspec-version-quoted",
        ),
        (
            LAMBDA,
            "        CurrentVersion: \"1\"\n",
            "",
            "resource-current-version-missing",
        ),
        (
            ECS,
            "arn:aws:ecs:x",
            "web:3",
            "resource-task-definition-no-arn",
        ),
        (ECS, "Hooks:", "Hoks: 1\nHooks:", "appspec-unknown-key"),
    ] {
        let appspec = read(&text.replace(from, to)).unwrap();
        assert_eq!(appspec.warnings[0].code, code);
    }
}

#[test]
fn ok_os_makes_it_a_server_appspec_whatever_else_is_in_it() {
    let appspec = read("version: 0.0\nos: linux\nResources: []").unwrap();
    assert_eq!(appspec.platform(), ComputePlatform::Server);
}

#[test]
fn err_appspecs_made_to_hurt_are_refused_by_limits() {
    let laughs = (1..10).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let before = format!("*a{}", level - 1);
        format!(
            "{text}a{level}: &a{level} [{}]\n",
            vec![before; 9].join(", ")
        )
    });
    let small = "version: 0.0\nos: linux\n";
    for (code, text) in [
        ("appspec-alias", laughs),
        ("appspec-too-large", "# no end\n".repeat((10 << 20) / 9)),
        (
            "appspec-too-complex",
            format!("{small}files: {}", "[".repeat(200_000)),
        ),
        (
            "appspec-too-complex",
            format!("{small}hooks: {}", "{a: ".repeat(60_000)),
        ),
        ("appspec-too-complex", "- ".repeat(100_000)),
        (
            "appspec-too-complex",
            format!("{small}files:\n{}", "- a\n".repeat(150_000)),
        ),
    ] {
        let findings = AppSpec::read(text.as_bytes(), "appspec.yml").unwrap_err();
        let found: Vec<&str> = findings
            .iter()
            .map(|finding| finding.code.as_str())
            .collect();
        assert_eq!(found, [code]);
    }
}

#[test]
fn ok_the_largest_appspec_is_read_and_one_byte_more_is_not() {
    let text = "version: 0.0\nos: linux\n";
    let bytes_max = LIMITS.bytes_max;
    let filled = format!("{text}{}", "#".repeat(bytes_max - text.len()));
    assert!(AppSpec::read(filled.as_bytes(), "appspec.yml").is_ok());
    let findings = AppSpec::read(format!("{filled}#").as_bytes(), "appspec.yml").unwrap_err();
    assert_eq!(findings[0].code, "appspec-too-large");
}

#[test]
fn err_findings_are_limited_and_a_refusal_is_never_lost() {
    let many: String = (0..200).map(|number| format!("k{number}: 1\n")).collect();
    let findings = read(&format!("os: linux\n{many}version: 5\n")).unwrap_err();
    assert_eq!(findings.len(), FINDINGS_MAX);
    assert!(findings.iter().any(Finding::refuses));
    let long = read(&format!("version: 0.0\nos: {}", "x".repeat(100_000))).unwrap_err();
    assert!(long[0].message.len() < 1_000);
}

proptest! {
    #[test]
    fn ok_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(findings) = AppSpec::read(&bytes, "a") {
            prop_assert!(findings.iter().any(Finding::refuses));
        }
    }

    #[test]
    fn ok_any_values_in_the_known_keys_are_read_or_refused(
        key in prop_oneof![
            Just("files"), Just("hooks"), Just("permissions"), Just("version"), Just("Resources"),
        ],
        value in "(\\[|\\{|- |a: |[0-9:.,]|x|\\]|\\}|, |~|'|\\*a|&a|!!str ){0,12}",
    ) {
        if let Err(findings) = read(&format!("{HEAD}{key}: {value}")) {
            prop_assert!(findings.iter().any(Finding::refuses));
        }
    }
}
