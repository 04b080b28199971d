//! `stagedrop completions` and `stagedrop man`: made from the command line's own description.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::voice::{Trouble, tell};

/// Prints a shell's completion script.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop completions bash > ~/.local/share/bash-completion/completions/stagedrop"
)]
pub struct CompletionArguments {
    /// The shell.
    shell: Shell,
}

/// Prints the man page, or writes one for each command into a folder.
#[derive(clap::Args)]
#[command(before_help = "Example: stagedrop man ~/.local/share/man/man1")]
pub struct ManArguments {
    /// The folder, which is made where it is not there.
    folder: Option<PathBuf>,
}

/// Prints the script.
pub fn completions(arguments: &CompletionArguments) -> Result<ExitCode, Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut super::Arguments::command(),
        "stagedrop",
        &mut script,
    );
    write_out(&script)
}

/// Prints or writes man pages.
pub fn man(arguments: &ManArguments) -> Result<ExitCode, Trouble> {
    let command = with_example_last(super::Arguments::command());
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| error.to_string())?;
        return write_out(&page);
    };
    let with_folder = |error: std::io::Error| Trouble::with_file(folder, &error);
    std::fs::create_dir_all(folder).map_err(with_folder)?;
    clap_mangen::generate_to(command, folder).map_err(with_folder)?;
    tell("written", &folder.display().to_string());
    Ok(ExitCode::SUCCESS)
}

/// The example, which help begins with, at the end: a man page has no place in front of its name.
fn with_example_last(command: Command) -> Command {
    let example = command.get_before_help().cloned();
    let command = match example {
        Some(example) => command.after_help(example),
        None => command,
    };
    command.mut_subcommands(with_example_last)
}

fn write_out(bytes: &[u8]) -> Result<ExitCode, Trouble> {
    match std::io::stdout().write_all(bytes) {
        // Whoever reads may stop early, such as `head`.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}").into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
