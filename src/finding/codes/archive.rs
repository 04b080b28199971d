//! Codes about the archive, its entries, their names and links.

use super::{Code, refuse, warn};

/// The rows, by the thing that is wrong.
pub(super) const ROWS: &[Code] = &[
    // The archive as a whole.
    refuse(
        "archive-not-recognised",
        "the object is neither zip nor tar nor tar.gz; its name does not matter, its bytes do",
        "upload one of the three; recompress xz, bzip2 or zstd archives with gzip",
    ),
    refuse(
        "archive-empty",
        "the archive has no entries",
        "upload an archive that holds the application and its appspec.yml",
    ),
    refuse(
        "archive-truncated",
        "the archive ends before its last entry or record does",
        "upload it again; look whether the CI job's archiver or upload was cut short",
    ),
    refuse(
        "archive-too-large",
        "the archive inflates to more bytes than are taken in",
        "ship less",
    ),
    refuse(
        "archive-too-many-entries",
        "the archive has more entries, or longer lists of them, than are taken in",
        "ship fewer files, or pack some of them into one",
    ),
    refuse(
        "zip-directory-invalid",
        "the zip's central directory does not lie where its end record says, or is damaged",
        "archive again; after putting bytes before a zip run `zip -A` on it",
    ),
    refuse(
        "zip-count-mismatch",
        "the zip's end record counts other entries than the directory has; unzip complains and the agent \
         falls back to a reader that checks nothing",
        "archive again with another tool",
    ),
    refuse(
        "zip-multi-disk",
        "the zip is one part of several",
        "join the parts (`zip -s 0 split.zip --out whole.zip`) before uploading",
    ),
    refuse(
        "zip64-invalid",
        "the zip64 records of the archive or of an entry are missing or contradict the others",
        "archive again with another tool",
    ),
    refuse(
        "gzip-damaged",
        "the gzip stream is damaged, or other bytes follow it",
        "archive and upload again",
    ),
    refuse(
        "gzip-checksum-mismatch",
        "the gzip stream does not hold what was compressed: checksum or length is wrong",
        "archive and upload again",
    ),
    refuse(
        "tar-header-invalid",
        "a tar header is damaged: its checksum, a number or an extended header cannot be read",
        "archive and upload again",
    ),
    refuse(
        "tar-sparse-file",
        "the tar holds a sparse file, which not every reader restores",
        "archive without `--sparse`",
    ),
    refuse(
        "tar-multi-volume",
        "the tar is one of several volumes",
        "archive into one file",
    ),
    refuse(
        "archive-changed",
        "the artifact was not the same at a second reading",
        "upload it again under a key of its own",
    ),
    refuse(
        "internal",
        "the reader was used wrongly; the archive is not to blame",
        "report it with the artifact's key",
    ),
    // Single entries.
    refuse(
        "entries-overlap",
        "two entries claim the same bytes of the archive, as zip bombs do",
        "archive again with another tool",
    ),
    refuse(
        "entry-outside-archive",
        "an entry's bytes reach beyond the place where entries can be",
        "archive and upload again",
    ),
    refuse(
        "entry-headers-disagree",
        "an entry's local header (or its data descriptor) and the central directory say different \
         things: tools would unpack different files",
        "archive again with another tool",
    ),
    refuse(
        "entry-crc-mismatch",
        "an entry's content is not what was archived; the agent would deploy it all the same",
        "archive and upload again",
    ),
    refuse(
        "entry-size-mismatch",
        "an entry holds more or fewer bytes than it declares",
        "archive and upload again",
    ),
    refuse(
        "entry-damaged",
        "an entry's compressed data is damaged",
        "archive and upload again",
    ),
    refuse(
        "entry-too-large",
        "an entry that has to be held in memory is too large for that",
        "keep AppSpec, circle.yml and hook scripts small",
    ),
    refuse(
        "entry-encrypted",
        "an entry is encrypted; the agent has no password and can install ciphertext",
        "archive without a password",
    ),
    refuse(
        "entry-compression-unsupported",
        "an entry's compression method is not one that every unpacker on instances reads",
        "archive with the deflate method, such as `zip -r`",
    ),
    refuse(
        "entry-special",
        "an entry is a FIFO, device or socket, on which the agent hangs or fails",
        "leave it out of the artifact, or name it under `exclude`",
    ),
    refuse(
        "entry-special-file",
        "an entry is a FIFO, device or socket, which a revision cannot carry",
        "leave it out of the artifact, or name it under `exclude`",
    ),
    refuse(
        "hard-link-dangling",
        "a hard link's target is not in the revision",
        "archive with `--hard-dereference`, or from a folder that holds both names",
    ),
    refuse(
        "hard-link-too-large",
        "a hard link's target has to be held in memory to be written twice, and is too large for that",
        "archive with `--hard-dereference`, or use `bundle_type: tar`",
    ),
    refuse(
        "hard-link-replaced",
        "a hard link's target is replaced by a later entry of the same name",
        "archive each file once",
    ),
    refuse(
        "entry-directory-with-content",
        "an entry has a directory's name and content; tools disagree what it is",
        "archive again with another tool",
    ),
    refuse(
        "entry-hard-link-outside",
        "a hard link's target is no file before it in the bundle",
        "archive with `--hard-dereference`, or from a folder that holds both names",
    ),
    refuse(
        "entry-link-invalid",
        "a symbolic link's target is empty or longer than a path can be",
        "make the link again, or leave it out",
    ),
    refuse(
        "entry-through-link",
        "an entry lies below a symbolic link of the archive: unpacking it as root could write anywhere",
        "archive the folder that the link points to, or the link alone",
    ),
    refuse(
        "entry-below-file",
        "an entry lies below a name that the archive gives to a file",
        "archive from a folder as it is on disk",
    ),
    refuse(
        "entry-two-kinds",
        "a name comes twice, as different kinds of file",
        "archive from a folder as it is on disk",
    ),
    refuse(
        "entry-link-circles",
        "several links point to folders that they lie in: the agent copies without end",
        "leave the links out, or make them in an AfterInstall script",
    ),
    warn(
        "entry-repeated",
        "a file comes more than once; the last one is what gets unpacked",
        "archive each file once",
    ),
    warn(
        "entry-set-id",
        "a file has the set-user-id or set-group-id bit; tar keeps it, unzip drops it",
        "set the bit in `permissions` or in an AfterInstall script",
    ),
    // Names.
    refuse(
        "entry-name-absolute",
        "an entry's name is absolute: unpacking it as root could write anywhere",
        "archive with relative names: `cd` into the folder and archive `.`",
    ),
    refuse(
        "entry-name-climbs",
        "an entry's name has `..`: unpacking it as root could write anywhere",
        "archive with names below the root only",
    ),
    refuse(
        "entry-name-nul",
        "an entry's name has a NUL character",
        "rename the file",
    ),
    refuse(
        "entry-name-not-utf8",
        "an entry's name is not UTF-8: the agent fails to write its install instructions",
        "rename the file, or archive it with a tool that writes UTF-8 names",
    ),
    refuse(
        "entry-name-too-long",
        "an entry's name, or one component of it, is longer than Linux takes",
        "shorten the name",
    ),
    refuse(
        "entry-name-like-folder",
        "a file's name ends in `/` like a folder's",
        "archive it again with another tool",
    ),
    warn(
        "entry-name-dots",
        "names have `./` or `//` in them; the revision has them without",
        "nothing has to be done",
    ),
    warn(
        "entry-name-backslashes",
        "names made on Windows have backslashes as separators; the revision has forward slashes",
        "archive with a tool that follows the zip format",
    ),
    warn(
        "entry-name-control",
        "a name has a control character, which unzip drops",
        "rename the file",
    ),
    warn(
        "finder-files-dropped",
        "`__MACOSX` or `.DS_Store` lay beside the one folder that holds the AppSpec; with them the agent \
         would not have found it",
        "archive with `zip -r` instead of the Finder's Compress",
    ),
    // The application root.
    refuse(
        "application-root-empty",
        "nothing in the archive lies under the application root",
        "correct `application_root`, or put the files there before archiving",
    ),
    // Links that are installed.
    warn(
        "link-outside",
        "a symbolic link points out of the bundle, to what the instance may or may not have",
        "make sure that every instance has it, or make the link in an AfterInstall script",
    ),
    warn(
        "link-to-directory",
        "a symbolic link points to a directory: the agent copies the files, not the link",
        "make the link in an AfterInstall script if it has to be one",
    ),
    warn(
        "link-circle",
        "a symbolic link points to a folder that it lies in: the agent copies that forty times",
        "leave the link out, or make it in an AfterInstall script",
    ),
];
