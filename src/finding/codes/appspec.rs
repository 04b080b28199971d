//! Codes about the AppSpec, and about what it says of the bundle.

use super::{Code, refuse, warn};

/// The rows, by the part of the AppSpec that is wrong.
pub(super) const ROWS: &[Code] = &[
    // The AppSpec as a file.
    refuse(
        "appspec-missing",
        "the application root holds no `appspec.yml`",
        "add it there, or set `application_root` to the folder that holds it",
    ),
    refuse(
        "appspec-ambiguous",
        "several files could be the AppSpec, none has the right name",
        "keep one of them, under the name `appspec.yml`",
    ),
    refuse(
        "appspec-is-directory",
        "`appspec.yml` is a directory or no regular file",
        "put the AppSpec into a file with that name",
    ),
    warn(
        "appspec-renamed",
        "the AppSpec has another spelling of its name, which the agent's hooks do not find; the revision \
         has it as `appspec.yml`",
        "rename it to `appspec.yml`",
    ),
    refuse(
        "appspec-empty",
        "the AppSpec holds nothing",
        "write at least `version` and `os` into it",
    ),
    refuse(
        "appspec-too-large",
        "the AppSpec is larger than is read",
        "keep data out of the AppSpec",
    ),
    refuse(
        "appspec-too-complex",
        "the AppSpec is nested too deep or has too many values",
        "write it flatter and shorter",
    ),
    refuse(
        "appspec-encoding",
        "the AppSpec is not plain UTF-8: a byte order mark, UTF-16, control or broken characters",
        "save it as UTF-8 text without byte order mark (BOM), and take control characters out",
    ),
    refuse(
        "appspec-syntax",
        "the AppSpec is not valid YAML",
        "correct the YAML there; indent with spaces, never with tabs",
    ),
    refuse(
        "appspec-alias",
        "the AppSpec uses a YAML alias, which the agent's reader refuses",
        "write the value out in each place",
    ),
    refuse(
        "appspec-date",
        "the AppSpec has a date or time without quotes, which the agent's reader refuses",
        "put it in quotes",
    ),
    refuse(
        "appspec-tag",
        "the AppSpec has a YAML tag that asks for a Ruby object, which the agent's reader refuses",
        "take the tag out",
    ),
    refuse(
        "appspec-not-a-mapping",
        "the AppSpec is a list or a single value",
        "start it with `version: 0.0` and `os: linux`",
    ),
    warn(
        "appspec-duplicate-key",
        "a key stands twice in one mapping; only the last one counts",
        "take one of them out",
    ),
    warn(
        "appspec-unknown-key",
        "a key is none that CodeDeploy knows; it is ignored",
        "correct it, or take it out",
    ),
    warn(
        "appspec-byte-order-mark",
        "a byte order mark stands before a first line without a key; with one there the agent would refuse it",
        "save it as UTF-8 text without byte order mark (BOM)",
    ),
    warn(
        "appspec-second-document",
        "something follows the first YAML document, which is all that the agent reads",
        "take out what follows, or correct the brackets, `---` or indentation before it",
    ),
    // The AppSpec's top.
    refuse(
        "appspec-version",
        "`version` is missing or not the number 0.0 (the text \"0.0\" is refused)",
        "write `version: 0.0`, without quotes",
    ),
    warn(
        "appspec-version-quoted",
        "`version` of a Lambda or ECS AppSpec is text; the documentation asks for the number",
        "write `version: 0.0`, without quotes",
    ),
    refuse(
        "appspec-os",
        "`os` is missing or neither `linux` nor `windows`, in lower case",
        "write `os: linux` or `os: windows`",
    ),
    refuse(
        "appspec-file-exists-behavior",
        "`file_exists_behavior` is none of DISALLOW, OVERWRITE, RETAIN",
        "write one of the three in capitals",
    ),
    // Files.
    refuse(
        "files-not-a-list",
        "`files` is no list of mappings",
        "start each item with `- source:`",
    ),
    refuse(
        "files-source-invalid",
        "an item of `files` has no `source`, or one that is not text",
        "write a path of the bundle, in quotes where it looks like a number",
    ),
    refuse(
        "files-destination-invalid",
        "an item of `files` has no `destination`, or one that is not text, is too long or begins with `~`",
        "write an absolute path on the instance",
    ),
    refuse(
        "files-destination-empty",
        "the `destination` of a folder is empty text",
        "write an absolute path on the instance",
    ),
    warn(
        "files-destination-relative",
        "a `destination` is not absolute: it depends on the folder that the agent runs in",
        "write an absolute path on the instance",
    ),
    refuse(
        "files-source-missing",
        "a `source` is not in the bundle",
        "correct the path, or put the file into the artifact",
    ),
    refuse(
        "files-source-outside",
        "a `source` leads out of the bundle",
        "name a file or folder of the bundle",
    ),
    refuse(
        "files-same-destination",
        "two sources meet at one destination",
        "let each destination file come from one source",
    ),
    refuse(
        "files-too-many",
        "`files` and `permissions` overlap too often to be compared",
        "let the items' destinations lie beside each other, not inside each other",
    ),
    // Permissions.
    refuse(
        "permissions-not-a-list",
        "`permissions` is no list of mappings",
        "start each item with `- object:`",
    ),
    refuse(
        "permissions-on-windows",
        "`permissions` stands in an AppSpec for windows",
        "take them out; set them in an AfterInstall script",
    ),
    refuse(
        "permission-path-unsafe",
        "an ACL or context is set on a path with white space or a shell's character, which the agent writes into \
         a command line without quotes",
        "rename it, or leave it out by `pattern`, `except` or `type`",
    ),
    refuse(
        "permission-object-missing",
        "an item of `permissions` has no `object`",
        "write the absolute path of a file or folder that is deployed",
    ),
    refuse(
        "permission-mode-invalid",
        "a mode is not one to four octal digits; unquoted `0755` is the number 493",
        "write it in quotes, such as `mode: \"0755\"`",
    ),
    warn(
        "permission-mode-unquoted",
        "a mode with a leading 0 and no quotes is an octal number: `0644` installs 0420",
        "put it in quotes",
    ),
    refuse(
        "permission-type-invalid",
        "`type` is no list of `file` and `directory`",
        "write `type: [file]`, `[directory]` or both",
    ),
    refuse(
        "permission-pattern-invalid",
        "`pattern` is not text or `except` no list of text",
        "write names with `*` in them, in quotes",
    ),
    refuse(
        "permission-pattern-on-file",
        "`pattern` or `except` stands with an object that is a file",
        "take them away, or name the folder",
    ),
    refuse(
        "permission-owner-invalid",
        "`owner` or `group` is not text; numbers are not looked up",
        "write a name that every instance has",
    ),
    refuse(
        "permission-acl-invalid",
        "an ACL entry is not `[default:]user|group|mask|other:name:rwx`, or is a base entry",
        "write such as `u:www-data:rw`; set the base entries by `mode`",
    ),
    refuse(
        "permission-acl-default-on-file",
        "a default ACL entry meets files; only directories take one",
        "write `type: [directory]` beside it",
    ),
    refuse(
        "permission-context-invalid",
        "an SELinux context has no `type`, no `range`, or a malformed range",
        "write `type` and `range`, such as `range: s0`",
    ),
    refuse(
        "permission-twice",
        "two items of `permissions` set the same file",
        "narrow one of them by `pattern`, `except` or `type`",
    ),
    warn(
        "permission-without-effect",
        "an `object` is nothing that `files` copies: nothing is set",
        "name a destination of `files`, or something below one",
    ),
    // Hooks.
    refuse(
        "hooks-not-a-mapping",
        "`hooks` of a Server AppSpec is no mapping",
        "write lifecycle events as keys; the list form is for Lambda and ECS",
    ),
    refuse(
        "hook-not-a-list",
        "a hook's value is no list of mappings",
        "write `- location: scripts/example.sh` below the event",
    ),
    refuse(
        "hook-unknown",
        "a hook's name is no lifecycle event that runs scripts on the platform",
        "correct the name; case counts",
    ),
    warn(
        "hook-reserved",
        "scripts stand under an event that the agent does itself; they are never run",
        "use BeforeInstall or AfterInstall",
    ),
    warn(
        "hook-needs-load-balancer",
        "the event comes only in deployment groups with a load balancer",
        "move its scripts to another event if the group has none",
    ),
    refuse(
        "hook-location-missing",
        "a script has no `location`",
        "write the script's path in the bundle",
    ),
    refuse(
        "hook-timeout-invalid",
        "a timeout is no whole number of seconds above 0",
        "write such as `timeout: 300`",
    ),
    warn(
        "hook-timeout-over-hour",
        "the timeouts of one event sum to more than the hour that CodeDeploy gives it",
        "keep the sum within 3600",
    ),
    refuse(
        "hook-script-missing",
        "a hook's script is not in the bundle",
        "correct the path, or put the script into the artifact",
    ),
    refuse(
        "hook-script-outside",
        "a script's location leads out of the bundle",
        "put the script into the artifact",
    ),
    refuse(
        "hook-script-is-directory",
        "a script's location is a directory",
        "name the script inside it",
    ),
    refuse(
        "hook-script-name-unsafe",
        "a script's path has white space or a character that means something to a shell",
        "rename the script to letters, digits, `.`, `_` and `-`",
    ),
    refuse(
        "hook-script-crlf",
        "a script's `#!` line ends in CR LF: its interpreter is not found",
        "convert the script to LF line ends",
    ),
    warn(
        "hook-script-crlf-lines",
        "a script has lines that end in CR LF, which shells take for text",
        "convert the script to LF line ends",
    ),
    warn(
        "hook-script-bom",
        "a script starts with a byte order mark: its `#!` line is not seen",
        "save it without byte order mark (BOM)",
    ),
    warn(
        "hook-script-breaks-next-deployment",
        "a script of ApplicationStop, BeforeBlockTraffic or AfterBlockTraffic is missing or cannot start; \
         it runs when the next revision is deployed, and breaks that deployment",
        "put the script right now, or the next deployment needs `ignore_application_stop_failures`",
    ),
    warn(
        "hook-runas-on-windows",
        "`runas` has no effect on Windows",
        "take it out",
    ),
    // Windows.
    refuse(
        "bundle-type-on-windows",
        "the revision is a tar, which the agent does not support on Windows",
        "set `bundle_type: zip`",
    ),
    warn(
        "windows-name-illegal",
        "a name has a character that Windows does not take",
        "rename the file",
    ),
    warn(
        "windows-path-too-long",
        "a path comes with the agent's folder to more than 260 characters",
        "shorten the path",
    ),
    warn(
        "windows-names-collide",
        "two names differ in case only, which is one file on Windows",
        "rename one of them",
    ),
    // Lambda and ECS.
    refuse(
        "resources-not-one",
        "`Resources` of a Lambda or ECS AppSpec does not hold exactly one resource",
        "write one item with `Type` and `Properties`",
    ),
    refuse(
        "resource-type-unknown",
        "the resource's `Type` is neither AWS::Lambda::Function nor AWS::ECS::Service",
        "write one of the two",
    ),
    refuse(
        "resource-property-missing",
        "a required property of the resource is missing or not text",
        "write it below `Properties:`",
    ),
    refuse(
        "resource-property-invalid",
        "a property's value is none that CodeDeploy takes: `$LATEST`, a placeholder, no port",
        "write the published version, the ARN or the port",
    ),
    warn(
        "resource-current-version-missing",
        "`CurrentVersion` of a Lambda function is missing; the documentation contradicts itself about it",
        "write the version that the alias points to now",
    ),
    warn(
        "resource-task-definition-no-arn",
        "`TaskDefinition` is no ARN, which the documentation asks for",
        "write the whole ARN with its revision",
    ),
    refuse(
        "hooks-not-a-list",
        "`Hooks` of a Lambda or ECS AppSpec is no list of mappings",
        "write `- BeforeAllowTraffic: \"my-function\"`",
    ),
    refuse(
        "hook-function-missing",
        "a hook of a Lambda or ECS AppSpec names no function",
        "write the name or ARN of a Lambda function",
    ),
    refuse(
        "option-illegal-on-platform",
        "an option of the settings is for instances only",
        "take it out of the settings of this application",
    ),
];
