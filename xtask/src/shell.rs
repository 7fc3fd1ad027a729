//! Running other programs.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use anyhow::{Context as _, Result, bail};

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("..").canonicalize().unwrap_or_else(|_| "..".into())
}

/// The cargo that runs us, started in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Runs `command` to its end. An error names the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", Line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", Line(command));
    }
    Ok(())
}

/// Like [`run`], but shows what `command` prints only when it fails, in the error.
pub fn run_quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting `{}`", Line(command)))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("`{}` failed ({})\n{}", Line(command), output.status, String::from_utf8_lossy(&text).trim_end());
    }
    Ok(())
}

/// The standard output of `command`; `None` when it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where `program` is: in PATH or in a folder that Debian gives only root's PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Becomes `program` as root, by `sudo` where we are not: signals, terminal and exit code are then its own.
/// Returns only to say why it could not.
pub fn become_as_root(program: &Path, arguments: &[OsString], environment: &[(&str, &OsStr)]) -> Result<Infallible> {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        let Some(sudo) = find("sudo") else {
            bail!("this needs root, and there is no `sudo`\nhint: become root and repeat the command");
        };
        let mut command = Command::new(sudo);
        // `sudo` drops our environment.
        command.arg("env").args(environment.iter().map(|(name, value)| {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            assignment
        }));
        command.arg(program);
        command
    };
    let error = command.args(arguments).envs(environment.iter().copied()).exec();
    Err(error).with_context(|| format!("starting `{}`", Line(&command)))
}

/// A command as one would type it, near enough for a message.
struct Line<'a>(&'a Command);

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Path::new(self.0.get_program());
        write!(out, "{}", program.file_name().unwrap_or(program.as_os_str()).display())?;
        self.0.get_args().try_for_each(|argument| write!(out, " {}", argument.display()))
    }
}
