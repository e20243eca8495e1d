//! What the build needs besides the tools: `xtask completions DIR` writes their completions for bash, zsh and fish.
//!
//! They come from each tool's `args.rs`, here and not in a build script, so that the tools do not carry what only their
//! packagers need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, Parser};
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};
use layer::cli::{self, Status};

macro_rules! tools {
    ($($name:literal $module:ident $path:literal,)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, unused_imports, reason = "the command line alone is of use here")]
            mod $module;
        )*

        /// Returns the command line of each tool, under the tool's name.
        fn tools() -> Vec<Command> {
            vec![$($module::Args::command().name($name)),*]
        }
    };
}

tools! {
    "chain-id" chain_id "../../chain-id/src/args.rs",
    "image-copy" image_copy "../../image-copy/src/args.rs",
    "image-files" image_files "../../image-files/src/args.rs",
    "image-inspect" image_inspect "../../image-inspect/src/args.rs",
    "layer-commit" layer_commit "../../layer-commit/src/args.rs",
    "layer-hash" layer_hash "../../layer-hash/src/args.rs",
    "layer-unpack" layer_unpack "../../layer-unpack/src/args.rs",
    "ovl-mount" ovl_mount "../../ovl-mount/src/args.rs",
}

/// Do what the build needs besides the tools
#[derive(Parser)]
enum Task {
    /// Write the completions of all tools below DIR, as they lie below /usr/share
    Completions {
        /// Directory to write to, created if missing
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let Task::Completions { dir } = Task::parse();
    for tool in &tools() {
        let name = tool.get_name();
        write(Bash, tool, &dir.join("bash-completion/completions").join(name))?;
        write(Zsh, tool, &dir.join("zsh/site-functions").join(format!("_{name}")))?;
        write(Fish, tool, &dir.join("fish/vendor_completions.d").join(format!("{name}.fish")))?;
    }
    Ok(Status::Success)
}

fn write(shell: impl Generator, tool: &Command, file: &Path) -> Result<()> {
    let mut script = Vec::new();
    generate(shell, &mut tool.clone(), tool.get_name(), &mut script);
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).and_then(|()| fs::write(file, script)).with_context(|| file.display().to_string())
}
