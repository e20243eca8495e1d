//! The instructions that change a configuration, as text.

use anyhow::{Context, Result, bail, ensure};

use super::duration;
use super::expose;
use super::lines::{logical, options, split_blank};
use super::words::{exec_form, pairs};

/// The instructions that [`Instruction::parse`] takes.
const TAKEN: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// One instruction, parsed; variables in it are replaced when it is applied, since the one before may set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// What runs by default.
    Cmd(Command),
    /// What runs always, with Cmd as its arguments.
    Entrypoint(Command),
    /// Variables by name, unexpanded.
    Env(Vec<(String, String)>),
    /// Ports, unexpanded.
    Expose(Vec<String>),
    /// How the container is checked.
    Healthcheck(Healthcheck),
    /// Labels by name, unexpanded.
    Label(Vec<(String, String)>),
    /// An instruction for builds on top of this image, verbatim.
    Onbuild(String),
    /// The signal that stops the container, unexpanded.
    Stopsignal(String),
    /// Who runs it, unexpanded.
    User(String),
    /// Directories kept outside of the container, unexpanded.
    Volume(Vec<String>),
    /// The directory that it starts in, unexpanded.
    Workdir(String),
}

/// The two ways to write a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A JSON array: the arguments as they are.
    Exec(Vec<String>),
    /// Text for the configuration's shell; empty for none.
    Shell(String),
}

/// A health check; what is `None` stays as the image has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `NONE`; `CMD` and arguments; or `CMD-SHELL` and text.
    pub test: Vec<String>,
    /// Nanoseconds by the configuration's member: `Interval`, `Timeout`, `StartPeriod`, `StartInterval`.
    pub durations: Vec<(&'static str, u64)>,
    /// Failures in a row that count as unhealthy.
    pub retries: Option<u32>,
}

impl Instruction {
    /// Parses a Dockerfile fragment of any number of lines: what `docker commit -c` takes, and STOPSIGNAL.
    ///
    /// Several fragments are one: joined by newlines, as Docker does.
    ///
    /// # Errors
    /// No instruction at all, one that does not change a configuration, and arguments that its form does not allow.
    pub fn parse(text: &str) -> Result<Vec<Instruction>> {
        let lines = logical(text)?;
        ensure!(!lines.is_empty(), "holds no instruction ({TAKEN} are taken)");
        lines.iter().map(|line| Self::parse_line(line)).collect()
    }

    fn parse_line(line: &str) -> Result<Instruction> {
        let (name, rest) = split_blank(line);
        let name = name.to_ascii_uppercase();
        let parse: fn(&str) -> Result<Self> = match name.as_str() {
            "CMD" => |rest| command(rest).map(Self::Cmd),
            "ENTRYPOINT" => |rest| command(rest).map(Self::Entrypoint),
            "ENV" => |rest| pairs(rest.trim()).map(Self::Env),
            "EXPOSE" => |rest| ports(rest).map(Self::Expose),
            "LABEL" => |rest| pairs(rest.trim()).map(Self::Label),
            "ONBUILD" => |rest| onbuild(rest).map(Self::Onbuild),
            "STOPSIGNAL" => |rest| one("a signal", rest).map(Self::Stopsignal),
            "USER" => |rest| one("a user", rest).map(Self::User),
            "VOLUME" => |rest| volumes(rest).map(Self::Volume),
            "WORKDIR" => |rest| one("a directory", rest).map(Self::Workdir),
            "HEALTHCHECK" => return healthcheck(rest).map(Self::Healthcheck).context(name),
            _ => bail!("`{name}` is not taken ({TAKEN} are)"),
        };
        let (options, rest) = options(rest);
        if let Some(option) = options.first() {
            bail!("{name}: takes no option `--{option}`");
        }
        parse(rest).context(name)
    }
}

fn command(rest: &str) -> Result<Command> {
    let rest = rest.trim();
    Ok(exec_form(rest)?.map_or_else(|| Command::Shell(rest.to_owned()), Command::Exec))
}

fn one(what: &str, rest: &str) -> Result<String> {
    let rest = rest.trim();
    ensure!(!rest.is_empty(), "needs {what}");
    Ok(rest.to_owned())
}

fn ports(rest: &str) -> Result<Vec<String>> {
    let ports: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    ensure!(!ports.is_empty(), "needs a port");
    // What holds no variable can be refused here, before anything is read or written.
    ports.iter().filter(|port| !port.contains(['$', '"', '\'', '\\'])).try_for_each(|p| expose::ports(p).map(drop))?;
    Ok(ports)
}

fn volumes(rest: &str) -> Result<Vec<String>> {
    let rest = rest.trim();
    let volumes = exec_form(rest)?.unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
    ensure!(!volumes.is_empty(), "needs a directory");
    Ok(volumes)
}

/// The instruction is kept as it is written; only what a later build would refuse whatever it builds is refused now.
fn onbuild(rest: &str) -> Result<String> {
    ensure!(!rest.trim().is_empty(), "needs an instruction");
    let (name, arguments) = split_blank(rest);
    let name = name.to_ascii_uppercase();
    let (_, arguments) = options(arguments);
    match name.as_str() {
        "ONBUILD" | "FROM" | "MAINTAINER" => bail!("`{name}` is not allowed in it"),
        "ENV" | "LABEL" if !arguments.is_empty() => drop(pairs(arguments.trim()).context(name)?),
        "ADD" | "CMD" | "COPY" | "ENTRYPOINT" | "RUN" | "SHELL" | "VOLUME" => {
            drop(exec_form(arguments.trim()).context(name)?);
        }
        _ => {}
    }
    Ok(rest.to_owned())
}

fn healthcheck(rest: &str) -> Result<Healthcheck> {
    let (options, rest) = options(rest);
    let (kind, rest) = split_blank(rest.trim());
    let mut check = Healthcheck { test: health_test(kind, rest)?, ..Healthcheck::default() };
    if check.test[0] == "NONE" {
        return Ok(check);
    }
    for option in &options {
        let (name, value) = option.split_once('=').with_context(|| format!("`--{option}` has no value"))?;
        let member = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => {
                bail!("takes no option `--{name}` (--interval, --timeout, --start-period, --start-interval, --retries)")
            }
        };
        let known = check.durations.iter().any(|(name, _)| *name == member);
        ensure!(!known && (member != "Retries" || check.retries.is_none()), "`--{name}` stands twice");
        match (member, value) {
            (_, "") => {}
            ("Retries", _) => check.retries = Some(retries(value)?),
            (member, _) => check.durations.push((member, duration::parse(value).with_context(|| format!("--{name}"))?)),
        }
    }
    Ok(check)
}

fn health_test(kind: &str, rest: &str) -> Result<Vec<String>> {
    match kind.to_ascii_uppercase().as_str() {
        "NONE" => {
            ensure!(rest.is_empty(), "NONE takes no arguments, found `{rest}`");
            Ok(vec!["NONE".to_owned()])
        }
        "CMD" => {
            let (form, command) = match exec_form(rest)? {
                Some(arguments) => ("CMD", arguments),
                None if rest.is_empty() => ("CMD-SHELL", vec![]),
                None => ("CMD-SHELL", vec![rest.to_owned()]),
            };
            ensure!(!command.is_empty(), "CMD needs a command");
            Ok([vec![form.to_owned()], command].concat())
        }
        "" => bail!("needs CMD and a command, or NONE"),
        _ => bail!("needs CMD and a command, or NONE, found `{kind}`"),
    }
}

fn retries(value: &str) -> Result<u32> {
    let count = value.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok()).filter(|&count| count > 0);
    count.with_context(|| format!("--retries: `{value}` is not a count of 1 or more"))
}
