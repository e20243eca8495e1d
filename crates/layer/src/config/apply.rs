//! What the instructions do to the `config` object of an image.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::value::RawValue;

use super::expand::expand;
use super::expose;
use super::instruction::{Command, Healthcheck, Instruction};
use super::members::Members;

type Objects = BTreeMap<String, Box<RawValue>>;

/// Returns `image`'s config with `instructions` applied in their order, by the rules of `docker commit -c`.
///
/// These are not quite those of a build: in the end, what the instructions left empty is as the image had it. So
/// `ENTRYPOINT []` and `USER ""` change nothing, and a health check keeps the times that it does not name.
///
/// # Errors
/// A member of the config has the wrong type, and what only shows once variables are replaced.
pub(super) fn apply(image: &Members, instructions: &[Instruction]) -> Result<Members> {
    let mut config = image.clone();
    let mut command = CommandLine::of(image)?;
    for instruction in instructions {
        let env: Vec<String> = config.read("Env")?.unwrap_or_default();
        match instruction {
            Instruction::Cmd(cmd) => command.cmd(cmd),
            Instruction::Entrypoint(entrypoint) => command.entrypoint(entrypoint),
            Instruction::Env(pairs) => set_env(&mut config, pairs, &env).context("ENV")?,
            Instruction::Expose(ports) => add_ports(&mut config, ports, &env).context("EXPOSE")?,
            Instruction::Healthcheck(check) => set_healthcheck(image, &mut config, check)?,
            Instruction::Label(pairs) => set_labels(&mut config, pairs, &env).context("LABEL")?,
            Instruction::Onbuild(line) => {
                let mut lines: Vec<String> = config.read("OnBuild")?.unwrap_or_default();
                lines.push(line.clone());
                config.write("OnBuild", &lines)?;
            }
            Instruction::Stopsignal(name) => set_signal(&mut config, name, &env).context("STOPSIGNAL")?,
            Instruction::User(user) => config.write("User", &expand(user, &env).context("USER")?)?,
            Instruction::Volume(paths) => add_volumes(&mut config, paths, &env).context("VOLUME")?,
            Instruction::Workdir(path) => set_workdir(&mut config, path, &env).context("WORKDIR")?,
        }
    }
    command.write(&mut config)?;
    if config.read::<String>("User")?.is_some_and(|user| user.is_empty()) {
        config.copy("User", image);
    }
    Ok(config)
}

/// Cmd and Entrypoint, which depend on one another.
struct CommandLine {
    image: [Option<Vec<String>>; 2],
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    shell: Vec<String>,
    /// A CMD that names a command was there: ENTRYPOINT then leaves it alone.
    cmd_given: bool,
}

impl CommandLine {
    fn of(image: &Members) -> Result<Self> {
        let shell = image.read::<Vec<String>>("Shell")?.filter(|shell| !shell.is_empty());
        let (cmd, entrypoint) = (image.read("Cmd")?, image.read("Entrypoint")?);
        Ok(Self {
            image: [cmd.clone(), entrypoint.clone()],
            cmd,
            entrypoint,
            shell: shell.unwrap_or_else(|| ["/bin/sh", "-c"].map(str::to_owned).to_vec()),
            cmd_given: false,
        })
    }

    fn cmd(&mut self, command: &Command) {
        self.cmd_given |= match command {
            Command::Exec(arguments) => !arguments.is_empty(),
            Command::Shell(text) => !text.is_empty(),
        };
        self.cmd = Some(self.arguments(command));
    }

    fn entrypoint(&mut self, command: &Command) {
        let none = Command::Shell(String::new());
        self.entrypoint = (*command != none).then(|| self.arguments(command)).filter(|arguments| !arguments.is_empty());
        if !self.cmd_given {
            self.cmd = None;
        }
    }

    fn arguments(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(arguments) => arguments.clone(),
            Command::Shell(text) => {
                let text = Some(text).filter(|text| !text.is_empty());
                self.shell.iter().chain(text).cloned().collect()
            }
        }
    }

    /// Fills up what is empty and writes what has changed.
    fn write(mut self, config: &mut Members) -> Result<()> {
        let [image_cmd, image_entrypoint] = self.image;
        if self.entrypoint.as_ref().is_none_or(Vec::is_empty) {
            if self.cmd.as_ref().is_none_or(Vec::is_empty) {
                self.cmd = image_cmd.clone().or(self.cmd);
            }
            self.entrypoint = self.entrypoint.or_else(|| image_entrypoint.clone());
        }
        for (name, new, old) in [("Cmd", self.cmd, image_cmd), ("Entrypoint", self.entrypoint, image_entrypoint)] {
            if new != old {
                config.write(name, &new)?;
            }
        }
        Ok(())
    }
}

fn set_env(config: &mut Members, pairs: &[(String, String)], env: &[String]) -> Result<()> {
    let mut items = env.to_vec();
    for (name, value) in pairs {
        // All of one instruction see the variables as they were before it.
        let (name, value) = (expand(name, env)?, expand(value, env)?);
        let item = format!("{name}={value}");
        match items.iter_mut().find(|item| item.split('=').next() == Some(&name)) {
            Some(old) => *old = item,
            None => items.push(item),
        }
    }
    config.write("Env", &items)
}

fn set_labels(config: &mut Members, pairs: &[(String, String)], env: &[String]) -> Result<()> {
    let mut labels: BTreeMap<String, String> = config.read("Labels")?.unwrap_or_default();
    for (name, value) in pairs {
        labels.insert(expand(name, env)?, expand(value, env)?);
    }
    config.write("Labels", &labels)
}

fn add_ports(config: &mut Members, words: &[String], env: &[String]) -> Result<()> {
    let mut exposed: Objects = config.read("ExposedPorts")?.unwrap_or_default();
    for word in words {
        let text = expand(word, env)?;
        // The value of an unquoted variable may be several ports.
        let quoted = word.contains(['"', '\'']);
        let specs: Vec<&str> = if quoted { vec![&text] } else { text.split_whitespace().collect() };
        for spec in specs {
            exposed.extend(expose::ports(spec)?.into_iter().map(|port| (port, empty_object())));
        }
    }
    if !exposed.is_empty() {
        config.write("ExposedPorts", &exposed)?;
    }
    Ok(())
}

fn add_volumes(config: &mut Members, words: &[String], env: &[String]) -> Result<()> {
    let mut volumes: Objects = config.read("Volumes")?.unwrap_or_default();
    for word in words {
        let path = expand(word.trim(), env)?;
        ensure!(!path.is_empty(), "`{word}` is empty");
        volumes.insert(path, empty_object());
    }
    config.write("Volumes", &volumes)
}

/// The value that Go's sets have.
fn empty_object() -> Box<RawValue> {
    // Cannot fail: the text is JSON.
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// What the check does not name is as the image has it, not as a check before it in the same text has it.
fn set_healthcheck(image: &Members, config: &mut Members, check: &Healthcheck) -> Result<()> {
    let mut new: Members = image.read("Healthcheck")?.unwrap_or_default();
    new.write("Test", &check.test)?;
    for (member, nanos) in &check.durations {
        new.write(member, nanos)?;
    }
    if let Some(retries) = check.retries {
        new.write("Retries", &retries)?;
    }
    config.write("Healthcheck", &new)
}

/// A relative directory continues the one before; an absolute one stays as it is written, unclean or not.
fn set_workdir(config: &mut Members, word: &str, env: &[String]) -> Result<()> {
    let path = expand(word, env)?;
    ensure!(!path.is_empty(), "is empty");
    if path.starts_with('/') {
        return config.write("WorkingDir", &path);
    }
    let before: String = config.read("WorkingDir")?.unwrap_or_default();
    let mut parts = Vec::new();
    for part in before.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    config.write("WorkingDir", &format!("/{}", parts.join("/")))
}

/// Linux's signals without the numbers, which differ between architectures.
const SIGNALS: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM \
                       TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";

fn set_signal(config: &mut Members, word: &str, env: &[String]) -> Result<()> {
    let signal = expand(word, env)?;
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix| name.strip_prefix(prefix).and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| n < 16);
    let number = signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let known = number || SIGNALS.split_whitespace().any(|known| known == name);
    if !known && !real_time("RTMIN+") && !real_time("RTMAX-") {
        bail!("`{signal}` is not a signal (`SIGTERM`, `9`, `RTMIN+3`)");
    }
    config.write("StopSignal", &signal)
}
